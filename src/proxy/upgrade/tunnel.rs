//! A tunnel under way: bytes pass as they are, until one side ends or we have to say goodbye.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::proxy::upgrade::frames::Frames;
use crate::proxy::upgrade::frames::NotAFrame;
use crate::proxy::upgrade::frames::PING;
use crate::proxy::upgrade::frames::close;
use crate::telemetry::metrics::TunnelEnd;

/// Buffered in each direction.
const BUFFER: usize = 8 * 1024;

/// How often the admission and the client's silence are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A client that has said nothing for so long is pinged, and again after as long; one that says nothing to three pings
/// is gone. An upstream need not be asked: it closes its connections itself.
const PING_AFTER: Duration = Duration::from_secs(30);
const GONE_AFTER: Duration = Duration::from_secs(120);

/// A tunnel in which nobody can be asked whether they are there ends when nothing has been said in it for so long.
const QUIET: Duration = Duration::from_secs(60 * 60);

/// How long both sides may take to end after our goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// We are going away (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1_001;

/// What came is no frame.
const PROTOCOL_ERROR: u16 = 1_002;

/// The one who is there may not be there any more.
const POLICY: u16 = 1_008;

/// Whoever comes again at once is let in again, as somebody of whom the application is told something else (RFC 6455 §7.4.2; IANA:
/// "Service Restart").
const COME_AGAIN: u16 = 1_012;

/// What is spoken in a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Speech {
    /// WebSocket frames: something can be said between two of them, and what is no frame ends the tunnel.
    Frames,
    /// Whatever it is: nothing can be said in it, so a goodbye is its end.
    Bytes,
}

impl Speech {
    fn close(self, code: u16, to_server: bool) -> Vec<u8> {
        match self {
            Self::Frames => close(code, to_server),
            Self::Bytes => Vec::new(),
        }
    }
}

/// Follows what is said in one direction.
#[derive(Debug)]
enum Listener {
    Frames(Frames),
    Bytes,
}

impl Listener {
    const fn new(speech: Speech, to_server: bool) -> Self {
        match speech {
            Speech::Frames => Self::Frames(Frames::new(to_server)),
            Speech::Bytes => Self::Bytes,
        }
    }

    /// Whether we could say something.
    const fn at_boundary(&self) -> bool {
        match self {
            Self::Frames(frames) => frames.at_boundary(),
            Self::Bytes => true,
        }
    }

    /// How many bytes are passed on; the number of good ones, if what follows is none. At a goodbye no more than up to the
    /// next boundary.
    fn pass(&mut self, bytes: &[u8], at_goodbye: bool) -> Result<usize, usize> {
        match self {
            Self::Frames(frames) if at_goodbye => frames.take(bytes).map_err(|NotAFrame| 0),
            Self::Frames(frames) => frames.pass(bytes),
            Self::Bytes => Ok(bytes.len()),
        }
    }
}

/// What both directions know.
#[derive(Debug)]
struct Shared {
    speech: Speech,
    /// The status code of our goodbye, once there is one to say.
    code: Cell<Option<u16>>,
    /// Whether the client is to be asked if it is there.
    ping: Cell<bool>,
    changed: Notify,
    /// When the client said something last (without frames: anybody), and when it was asked last.
    heard: Cell<Instant>,
    pinged: Cell<Instant>,
}

impl Shared {
    fn new(speech: Speech) -> Self {
        let now = Instant::now();
        Self {
            speech,
            code: Cell::new(None),
            ping: Cell::new(false),
            changed: Notify::new(),
            heard: Cell::new(now),
            pinged: Cell::new(now),
        }
    }

    fn end(&self, code: u16) {
        if self.code.get().is_none() {
            self.code.set(Some(code));
        }
        self.changed.notify_waiters();
    }

    /// Asks a silent client whether it is there; `false` when it has been silent for too long.
    fn is_there(&self) -> bool {
        let now = Instant::now();
        let silent = now.duration_since(self.heard.get());
        match self.speech {
            Speech::Frames if GONE_AFTER <= silent => return false,
            Speech::Frames => {}
            Speech::Bytes => return silent < QUIET,
        }
        let last = self.heard.get().max(self.pinged.get());
        if PING_AFTER <= now.duration_since(last) {
            self.pinged.set(now);
            self.ping.set(true);
            self.changed.notify_waiters();
        }
        true
    }
}

/// Lets bytes pass between `client` and `upstream` until one of them ends, `leaving` resolves, `over` says why, the
/// client is gone, or something comes that is no frame where there are frames.
pub(crate) async fn run<C, U>(
    (client, upstream): (C, U),
    speech: Speech,
    leaving: impl Future<Output = ()>,
    over: impl Fn() -> Option<TunnelEnd>,
) -> TunnelEnd
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let shared = Shared::new(speech);
    let up = pump(from_client, to_upstream, &shared, true);
    let down = pump(from_upstream, to_client, &shared, false);
    let looking = async {
        loop {
            if let Some(end) = over() {
                let code = if end == TunnelEnd::Moved {
                    COME_AGAIN
                } else {
                    POLICY
                };
                return (code, end);
            }
            if !shared.is_there() {
                return (GOING_AWAY, TunnelEnd::Idle);
            }
            if shared.code.get().is_some() {
                // One direction has ended the tunnel; the other gets the time of a goodbye.
                return (PROTOCOL_ERROR, TunnelEnd::Client);
            }
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
        (code, end) = looking => (code, end),
    };
    shared.end(code);
    // Whoever does not take the goodbye is cut.
    drop(timeout(GOODBYE, both).await);
    end
}

/// When a direction came to its end.
#[derive(Clone, Copy, Debug)]
struct Ended(Instant);

impl Ended {
    fn first(self, other: Self) -> bool {
        self.0 <= other.0
    }
}

/// Copies one direction. When it ends, the other side is told; what we say ourselves is said between two frames.
async fn pump<R, W>(mut from: R, mut to: W, shared: &Shared, to_server: bool) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut listener = Listener::new(shared.speech, to_server);
    let mut buffer = vec![0; BUFFER];
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(code) = shared.code.get()
            && listener.at_boundary()
        {
            let last = shared.speech.close(code, to_server);
            goodbye(&mut from, &mut to, &mut buffer, &last).await;
            return Ended(Instant::now());
        }
        // In the middle of a frame the upstream is talking; the next look asks again.
        if !to_server
            && shared.ping.take()
            && listener.at_boundary()
            && say(&mut to, &PING).await.is_err()
        {
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
        if to_server || shared.speech == Speech::Bytes {
            shared.heard.set(Instant::now());
        }
        let good = listener.pass(bytes, shared.code.get().is_some());
        let (Ok(length) | Err(length)) = good;
        if say(&mut to, bytes.get(..length).unwrap_or_default())
            .await
            .is_err()
        {
            break;
        }
        if good.is_err() {
            shared.end(PROTOCOL_ERROR);
            goodbye(
                &mut from,
                &mut to,
                &mut buffer,
                &close(PROTOCOL_ERROR, to_server),
            )
            .await;
            return Ended(Instant::now());
        }
    }
    let ended = Ended(Instant::now());
    drop(to.shutdown().await);
    ended
}

async fn say<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Says the last frame, then reads what still comes until the other side has ended too: a connection that is closed with
/// unread bytes is reset, and a reset may overtake the goodbye. The caller bounds the wait.
async fn goodbye<R, W>(from: &mut R, to: &mut W, buffer: &mut [u8], last: &[u8])
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // What cannot be said any more need not be said.
    drop(say(to, last).await);
    drop(to.shutdown().await);
    while let Ok(n) = from.read(buffer).await {
        if n == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_and_an_end_ends_both() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let tunnel = run((a, b), Speech::Frames, std::future::pending(), || None);
        let talk = async {
            let sent = [0x82, 0x83, 0, 0, 0, 0, 1, 2, 3];
            client.write_all(&sent).await.unwrap();
            let mut seen = [0; 9];
            upstream.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, sent);
            upstream.write_all(&[0x82, 0x01, 7]).await.unwrap();
            let mut seen = [0; 3];
            client.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, [0x82, 0x01, 7]);
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
        let tunnel = run(
            (a, b),
            Speech::Frames,
            async { drop(leaving.await) },
            || None,
        );
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
        let tunnel = run((a, b), Speech::Frames, std::future::pending(), || {
            (!good.get()).then_some(TunnelEnd::Revoked)
        });
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

    #[tokio::test(start_paused = true)]
    async fn bytes_that_are_no_frames_end_the_tunnel_and_do_not_arrive() {
        let ((mut client, a), (mut upstream, b)) = (duplex(256), duplex(256));
        let tunnel = run((a, b), Speech::Frames, std::future::pending(), || None);
        let talk = async {
            let smuggled = b"GET /admin/secrets HTTP/1.1\r\nHost: app.test\r\n\r\n";
            client
                .write_all(&[&[0x81, 0x81, 0, 0, 0, 0, b'x'], &smuggled[..]].concat())
                .await
                .unwrap();
            let mut to_upstream = Vec::new();
            upstream.read_to_end(&mut to_upstream).await.unwrap();
            let good: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, b'x'];
            assert_eq!(to_upstream, [good, &close(PROTOCOL_ERROR, true)].concat());
            let mut to_client = Vec::new();
            client.read_to_end(&mut to_client).await.unwrap();
            assert_eq!(to_client, close(PROTOCOL_ERROR, false));
            drop((client, upstream));
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_pinged_and_one_that_answers_may_stay() {
        let ((mut client, a), (_upstream, b)) = (duplex(256), duplex(4_096));
        let began = Instant::now();
        let tunnel = run((a, b), Speech::Frames, std::future::pending(), || None);
        let talk = async {
            let mut ping = [0; 2];
            for _ in 0..10 {
                client.read_exact(&mut ping).await.unwrap();
                assert_eq!(ping, PING);
                client.write_all(&[0x8A, 0x80, 0, 0, 0, 0]).await.unwrap();
            }
            assert!(Duration::from_secs(300) <= began.elapsed());
            // Now it has gone.
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(
                rest,
                [&PING[..], &PING, &PING, &close(GOING_AWAY, false)].concat()
            );
            assert!(began.elapsed() < Duration::from_secs(300 + 125 + 10));
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_does_not_take_a_goodbye_is_cut() {
        let ((client, a), (upstream, b)) = (duplex(16), duplex(16));
        let began = Instant::now();
        let end = run((a, b), Speech::Frames, std::future::ready(()), || None).await;
        assert_eq!(end, TunnelEnd::Drain);
        assert!(began.elapsed() <= GOODBYE + Duration::from_millis(10));
        drop((client, upstream));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_any_kind_pass_where_nobody_knows_frames() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let tunnel = run((a, b), Speech::Bytes, std::future::pending(), || None);
        let talk = async {
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            let mut seen = [0; 16];
            upstream.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"GET / HTTP/1.1\r\n");
            // The client has said all; the upstream has not.
            client.shutdown().await.unwrap();
            assert_eq!(upstream.read(&mut seen).await.unwrap(), 0);
            upstream.write_all(b"bye").await.unwrap();
            drop(upstream);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"bye");
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Client);
    }

    #[tokio::test(start_paused = true)]
    async fn without_frames_a_goodbye_is_the_end_and_nothing_is_passed_on_after_it() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let good = Cell::new(true);
        let tunnel = run((a, b), Speech::Bytes, std::future::pending(), || {
            (!good.get()).then_some(TunnelEnd::Revoked)
        });
        let talk = async {
            client.write_all(b"before").await.unwrap();
            let mut seen = [0; 6];
            upstream.read_exact(&mut seen).await.unwrap();
            good.set(false);
            let mut to_client = Vec::new();
            client.read_to_end(&mut to_client).await.unwrap();
            client.write_all(b"after").await.unwrap();
            drop(client);
            let mut to_upstream = Vec::new();
            upstream.read_to_end(&mut to_upstream).await.unwrap();
            assert_eq!((to_client, to_upstream), (vec![], vec![]));
            drop(upstream);
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Revoked);
    }

    #[tokio::test(start_paused = true)]
    async fn without_frames_nobody_is_pinged_and_a_tunnel_ends_in_which_nobody_speaks() {
        let ((mut client, a), (mut upstream, b)) = (duplex(64), duplex(64));
        let began = Instant::now();
        let tunnel = run((a, b), Speech::Bytes, std::future::pending(), || None);
        let talk = async {
            sleep(QUIET / 2).await;
            // Whoever speaks: a client may be there to listen.
            upstream.write_all(b"tick").await.unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"tick");
            drop((client, upstream));
        };
        let (end, ()) = tokio::join!(tunnel, talk);
        assert_eq!(end, TunnelEnd::Idle);
        assert!(QUIET + QUIET / 2 <= began.elapsed());
    }
}
