//! A WebSocket under way: bytes pass as they are, until one side ends or we have to say goodbye.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::proxy::upgrade::frames::Frames;
use crate::proxy::upgrade::frames::close;
use crate::telemetry::metrics::TunnelEnd;

/// Buffered in each direction.
const BUFFER: usize = 16 * 1024;

/// How often the admission is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// How long both sides may take to end after our goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// We are going away (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1_001;

/// The one who is there may not be there any more.
const POLICY: u16 = 1_008;

/// What may end a tunnel from our side.
#[derive(Debug, Default)]
struct Orders {
    code: Cell<Option<u16>>,
    changed: Notify,
}

impl Orders {
    fn give(&self, code: u16) {
        self.code.set(Some(code));
        // Both directions wait.
        self.changed.notify_waiters();
    }
}

/// Lets bytes pass between `client` and `upstream` until one of them ends, `leaving` resolves, or `still_good` says no.
pub(crate) async fn run<C, U>(
    client: C,
    upstream: U,
    leaving: impl Future<Output = ()>,
    still_good: impl Fn() -> bool,
) -> TunnelEnd
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let orders = Rc::new(Orders::default());
    let up = pump(from_client, to_upstream, &orders, true);
    let down = pump(from_upstream, to_client, &orders, false);
    let revoked = async {
        while still_good() {
            sleep(LOOK).await;
        }
    };
    let both = async { tokio::join!(up, down) };
    tokio::pin!(both);
    let (code, end) = tokio::select! {
        (up, down) = &mut both => {
            return if up.first(down) { TunnelEnd::Client } else { TunnelEnd::Upstream };
        }
        () = leaving => (GOING_AWAY, TunnelEnd::Drain),
        () = revoked => (POLICY, TunnelEnd::Revoked),
    };
    orders.give(code);
    // Whoever does not take the goodbye is cut.
    drop(timeout(GOODBYE, both).await);
    end
}

/// When a direction came to its end.
#[derive(Clone, Copy, Debug)]
struct Ended(tokio::time::Instant);

impl Ended {
    fn first(self, other: Self) -> bool {
        self.0 <= other.0
    }
}

/// Copies one direction. When it ends, the other side is told; an order is carried out between two frames.
async fn pump<R, W>(mut from: R, mut to: W, orders: &Orders, to_server: bool) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut frames = Frames::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let changed = orders.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(code) = orders.code.get()
            && frames.at_boundary()
        {
            // What cannot be said any more need not be said.
            drop(to.write_all(&close(code, to_server)).await);
            break;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = changed => continue,
        };
        let bytes = match read {
            Ok(n) if 0 < n => buffer.get(..n).unwrap_or_default(),
            Ok(_) | Err(_) => break,
        };
        let passed = if orders.code.get().is_some() {
            bytes.get(..frames.take(bytes)).unwrap_or_default()
        } else {
            frames.pass(bytes);
            bytes
        };
        if to.write_all(passed).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let ended = Ended(tokio::time::Instant::now());
    drop(to.shutdown().await);
    ended
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_and_an_end_ends_both() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let tunnel = run(a, b, std::future::pending(), || true);
        let talk = async {
            client.write_all(&[0x82, 0x03, 1, 2, 3]).await.unwrap();
            let mut seen = [0; 5];
            upstream.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, [0x82, 0x03, 1, 2, 3]);
            drop(client);
            let mut rest = Vec::new();
            upstream.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
            drop(upstream);
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_says_goodbye_between_two_frames() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let (leave, leaving) = oneshot::channel::<()>();
        let tunnel = run(a, b, async { drop(leaving.await) }, || true);
        let talk = async {
            // Half a frame: the goodbye has to wait for the other half.
            upstream.write_all(&[0x82, 0x04, 1, 2]).await.unwrap();
            let mut half = [0; 4];
            client.read_exact(&mut half).await.unwrap();
            leave.send(()).unwrap();
            // Until the order has arrived.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            upstream.write_all(&[3, 4, 0x82, 0x01, 9]).await.unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, [3, 4, 0x88, 0x02, 0x03, 0xE9]);
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Drain);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_may_no_longer_be_there_is_told_so() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let good = Cell::new(true);
        let tunnel = run(a, b, std::future::pending(), || good.get());
        let talk = async {
            good.set(false);
            let mut to_client = Vec::new();
            client.read_to_end(&mut to_client).await.unwrap();
            assert_eq!(to_client, close(POLICY, false));
            let mut to_upstream = Vec::new();
            upstream.read_to_end(&mut to_upstream).await.unwrap();
            assert_eq!(to_upstream, close(POLICY, true));
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Revoked);
    }
}
