//! One worker: a thread with its own runtime, its own socket of every listener, and its own connections.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::sleep;

use crate::proxy::conn::Closing;
use crate::proxy::serve::Handler;
use crate::proxy::serve::connection::Accepted;
use crate::proxy::serve::connection::attend;
use crate::proxy::serve::connection::canonical;
use crate::proxy::serve::counts::Counts;
use crate::proxy::serve::slots::Slots;
use crate::proxy::serve::socket::Socket;
use crate::proxy::serve::vitals::Cut;
use crate::proxy::serve::vitals::Phase;
use crate::proxy::serve::vitals::Verdict;
use crate::proxy::serve::vitals::Vitals;
use crate::proxy::serve::ward::Ward;
use crate::proxy::serve::ward::tick;
use crate::proxy::settings::Limits;
use crate::proxy::tls::Certificates;

/// How long accepting rests after the system refused: descriptors are short then, and trying at once burns the processor.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often a drain looks whether everybody has left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// One listener, as one worker sees it.
#[derive(Debug)]
pub(crate) struct Door {
    /// Our end.
    pub(crate) address: SocketAddr,
    /// `None`: cleartext.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// Peers that must speak the PROXY protocol.
    pub(crate) proxy_protocol_from: Arc<[IpNet]>,
}

impl Door {
    /// Whether `peer` must say whose connection it brings.
    pub(crate) fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.proxy_protocol_from
            .iter()
            .any(|net| net.contains(&peer))
    }
}

/// What the connections of a worker share.
#[derive(Debug)]
pub(crate) struct Local {
    /// Everybody who is here.
    pub(crate) ward: Ward,
    /// The drain, seen from connections.
    pub(crate) closing: Closing,
    /// Counters of all workers.
    pub(crate) counts: Arc<Counts>,
}

/// What a worker is started with.
pub(crate) struct Start {
    /// Its place among the workers, from 0.
    pub(crate) number: usize,
    /// Its socket of every listener.
    pub(crate) sockets: Vec<(StdListener, Door)>,
    /// As they are now.
    pub(crate) limits: Arc<ArcSwap<Limits>>,
    /// Connections of all workers.
    pub(crate) slots: Arc<Slots>,
    /// Counters of all workers.
    pub(crate) counts: Arc<Counts>,
    /// `Some(timeout)`: drain.
    pub(crate) orders: watch::Receiver<Option<Duration>>,
}

struct Worker<H> {
    handler: Rc<H>,
    local: Rc<Local>,
    limits: Arc<ArcSwap<Limits>>,
    slots: Arc<Slots>,
    /// Connections of this worker, tunnels included.
    load: Arc<AtomicUsize>,
    next_id: Cell<u64>,
}

/// Runs a worker until it is drained. Returns how many connections the drain had to cut.
///
/// `started` is told whether it runs.
pub(crate) fn run<H: Handler>(
    start: Start,
    make_handler: impl FnOnce(usize) -> Rc<H>,
    started: impl FnOnce(io::Result<()>),
) -> usize {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            started(Err(error));
            return 0;
        }
    };
    LocalSet::new().block_on(&runtime, async {
        let listeners: io::Result<Vec<_>> = start
            .sockets
            .into_iter()
            .map(|(socket, door)| Ok((TcpListener::from_std(socket)?, Rc::new(door))))
            .collect();
        let listeners = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                started(Err(error));
                return 0;
            }
        };
        let flag = Rc::new(Cell::new(false));
        let (signal, signalled) = watch::channel(false);
        let worker = Rc::new(Worker {
            handler: make_handler(start.number),
            local: Rc::new(Local {
                ward: Ward::new(tick(&start.limits.load())),
                closing: Closing::new(flag.clone(), signalled),
                counts: start.counts,
            }),
            limits: start.limits,
            slots: start.slots,
            load: Arc::default(),
            next_id: Cell::new(u64::try_from(start.number).unwrap_or(0) << 48),
        });
        started(Ok(()));
        let mut orders = start.orders;
        let announced = async {
            // An error means that the owner of the workers is gone, and with it everybody who could want an answer.
            let timeout = orders
                .wait_for(Option::is_some)
                .await
                .map_or(Some(Duration::ZERO), |timeout| *timeout);
            flag.set(true);
            signal.send_replace(true);
            worker.local.ward.ask(Verdict::Finish, true);
            timeout.unwrap_or_default()
        };
        let accepting = join_all(
            listeners
                .into_iter()
                .map(|(listener, door)| worker.clone().accept(listener, door)),
        );
        let work = async {
            // Accepting ends when the drain has been announced and the queues are empty.
            let (timeout, _) = tokio::join!(announced, accepting);
            worker.empty(Instant::now() + timeout).await
        };
        tokio::select! {
            cut = work => cut,
            () = worker.sweep() => 0,
        }
    })
}

impl<H: Handler> Worker<H> {
    /// Accepts until the drain begins, and then whatever is in the queue: closing a listener of a `SO_REUSEPORT` group
    /// resets what is queued.
    async fn accept(self: Rc<Self>, listener: TcpListener, door: Rc<Door>) {
        let mut closing = pin!(self.local.closing.clone().wait());
        loop {
            let next = async {
                self.slots.wait_free().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                biased;
                () = &mut closing => break,
                accepted = next => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.welcome(stream, peer, &door),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    self.local.counts.count_accept_error();
                    tracing::warn!(%error, "No connection can be accepted; resting.");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
        // From the last empty answer to the drop nothing is awaited.
        poll_fn(|cx| {
            while let std::task::Poll::Ready(accepted) = listener.poll_accept(cx) {
                match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer, &door),
                    Err(error) if is_passing(&error) => {}
                    Err(_) => break,
                }
            }
            std::task::Poll::Ready(())
        })
        .await;
        drop(listener);
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, door: &Rc<Door>) {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        self.local.counts.count_accepted();
        // Without it small answers wait for acknowledgements (Nagle); a socket that refuses is about to fail anyway.
        drop(stream.set_nodelay(true));
        let peer = canonical(peer);
        let phase = if door.expects_proxy_header(peer.ip()) {
            Phase::ProxyHeader
        } else {
            Phase::FirstByte
        };
        let vitals = Vitals::new(phase);
        let accepted = Accepted {
            id,
            peer,
            socket: Socket::new(stream, vitals.clone(), self.slots.take(&self.load)),
            vitals,
            limits: self.limits.load_full(),
            door: door.clone(),
            local: self.local.clone(),
        };
        spawn_local(attend(accepted, self.handler.clone()));
    }

    async fn sweep(&self) {
        let mut ticks = interval(self.local.ward.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let limits = self.limits.load();
            let draining = self.local.closing.begun();
            self.local.ward.sweep(&limits, draining, |reason| {
                self.local.counts.count_cut(reason, 1)
            });
        }
    }

    /// Waits until everybody has left, tunnels too, or until `deadline`. Returns how many were left.
    async fn empty(&self, deadline: Instant) -> usize {
        while 0 < self.load.load(Relaxed) && Instant::now() < deadline {
            sleep(DRAIN_LOOK).await;
        }
        let left = self.load.load(Relaxed);
        self.local
            .counts
            .count_cut(Cut::Drain, u64::try_from(left).unwrap_or(u64::MAX));
        left
    }
}

/// Whether an error of `accept` is about one connection, which is gone, and not about us.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
