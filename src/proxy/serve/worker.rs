//! One worker: a thread with its own runtime, its own socket of every listener, and its own connections.

use std::cell::Cell;
use std::io;
use std::net;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use ipnet::IpNet;
use socket2::SockFilter;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
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
use crate::proxy::serve::ward::House;
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
    /// Connections of all workers.
    pub(crate) slots: Arc<Slots>,
}

/// What a worker is started with.
pub(crate) struct Start {
    /// Its place among the workers, from 0.
    pub(crate) number: usize,
    /// Its socket of every listener.
    pub(crate) sockets: Vec<(net::TcpListener, Door)>,
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
    // Not a `LocalSet`: that would ask everything below again whenever any connection is ready.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            started(Err(error));
            return 0;
        }
    };
    runtime.block_on(async {
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
                slots: start.slots,
            }),
            limits: start.limits,
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
            // The announcement comes first, so that what is accepted with it is told to leave.
            // Accepting ends when the drain has been announced and the queues are empty.
            let (timeout, _) = tokio::join!(biased; announced, accepting);
            worker.empty(Instant::now() + timeout).await
        };
        tokio::select! {
            cut = work => cut,
            () = worker.sweep() => 0,
        }
    })
}

/// The kernel drops who asks to connect from now on, and those who are half in come in: so nobody is put into the queue
/// between the last accept and the close, which would reset them. Who was dropped asks again by itself, and is refused.
fn let_nobody_in(listener: &net::TcpListener) -> io::Result<()> {
    // Classic BPF on the TCP header: byte 13 has the flags; SYN (2) without ACK (16) is the first segment of a connection.
    const FIRST_SEGMENTS_ONLY: [SockFilter; 5] = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&FIRST_SEGMENTS_ONLY)
}

impl<H: Handler> Worker<H> {
    /// Accepts until the drain begins, and then whatever is in the queue: closing a listener of a `SO_REUSEPORT` group
    /// resets what is queued.
    async fn accept(self: Rc<Self>, listener: TcpListener, door: Rc<Door>) {
        let mut closing = pin!(self.local.closing.clone().wait());
        let mut rested = false;
        loop {
            let next = async {
                self.local.slots.wait_free().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                biased;
                () = &mut closing => break,
                accepted = next => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    rested = false;
                    self.welcome(stream, peer, &door);
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    self.local.counts.count_accept_error();
                    if !rested {
                        rested = true;
                        tracing::warn!(%error, "No connection can be accepted; trying again.");
                    }
                    sleep(ACCEPT_REST).await;
                }
            }
        }
        // The queue is asked directly: the runtime may not have heard of its newest yet. From the last empty answer to the
        // drop nothing is awaited.
        let Ok(listener) = listener.into_std() else {
            return;
        };
        if let Err(error) = let_nobody_in(&listener) {
            tracing::warn!(%error, "Who connects at this moment may be reset.");
        }
        loop {
            match listener
                .accept()
                .and_then(|(stream, peer)| Ok((nonblocking(stream)?, peer)))
            {
                Ok((stream, peer)) => self.welcome(stream, peer, &door),
                Err(error) if is_passing(&error) => {}
                Err(_) => break,
            }
        }
        drop(listener);
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr, door: &Rc<Door>) {
        if self.local.slots.sheds() {
            self.local.counts.count_out_of_memory();
            return;
        }
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
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
            socket: Socket::new(stream, vitals.clone(), self.local.slots.take(&self.load)),
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
            let house = if self.local.closing.begun() {
                House::Draining
            } else if self.local.slots.free() {
                House::Open
            } else {
                House::Full
            };
            self.local.ward.sweep(&limits, house, |reason| {
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

fn nonblocking(stream: net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::Ordering::SeqCst;

    use futures_util::future::join_all;
    use http::Request;
    use http::Response;
    use http_body_util::Full;
    use tokio::sync::oneshot;

    use super::*;
    use crate::proxy::client_body::ClientBody;
    use crate::proxy::conn::Conn;
    use crate::proxy::serve::Drained;
    use crate::proxy::serve::Workers;
    use crate::proxy::serve::listen::Bound;
    use crate::proxy::serve::testing::Raw;
    use crate::proxy::serve::testing::h2;
    use crate::proxy::serve::testing::server;
    use crate::proxy::serve::testing::start;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Clients that keep asking while the drain begins: each gets every answer it asked for, and a goodbye.
    #[tokio::test]
    async fn no_request_under_way_fails_in_a_drain() {
        let (workers, seen) = start(&server());
        let (begin, begun) = watch::channel(0);
        let mut clients = Vec::new();
        for _ in 0..40 {
            let mut raw = Raw::to(&workers).await;
            let begin = begin.clone();
            clients.push(async move {
                for n in 1..100_000 {
                    raw.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
                        .await;
                    let answer = raw.answer().await;
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    begin.send_modify(|done| *done += 1);
                    if answer.contains("connection: close") {
                        assert_eq!(raw.rest().await.unwrap(), "");
                        return n;
                    }
                }
                unreachable!("the drain never came");
            });
        }
        let drain = async {
            let mut begun = begun;
            begun.wait_for(|done| 400 < *done).await.unwrap();
            workers.drain(TIMEOUT).await
        };
        let (drained, answers) = tokio::join!(drain, join_all(clients));
        assert_eq!(drained, Drained { cut: 0 });
        assert_eq!(answers.iter().sum::<usize>(), seen.requests.load(SeqCst));
    }

    /// Blocks its worker until the test says so.
    struct Blocked(Arc<Barrier>);

    impl Handler for Blocked {
        type Body = Full<bytes::Bytes>;

        fn handle(
            self: Rc<Self>,
            _: Rc<Conn>,
            request: Request<ClientBody>,
        ) -> impl Future<Output = Response<Self::Body>> + 'static {
            if request.uri().path() == "/block" {
                self.0.wait();
                self.0.wait();
            }
            std::future::ready(Response::new(Full::from("here")))
        }
    }

    /// What the kernel has accepted for us before the drain is served, though we had not looked at it.
    #[tokio::test]
    async fn what_is_in_the_queue_when_a_drain_begins_is_served() {
        let mut settings = server();
        settings.workers = 1;
        let barrier = Arc::new(Barrier::new(2));
        let theirs = barrier.clone();
        let bound = Bound::open(&settings).unwrap();
        let workers = Workers::start(&settings.limits, bound, move |_| {
            Rc::new(Blocked(theirs.clone()))
        })
        .unwrap();
        let address = workers.local_addresses()[0];
        let mut blocking = Raw::to(&workers).await;
        blocking
            .send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        barrier.wait();
        let mut queued = Vec::new();
        let mut h2 = Raw::to(&workers).await;
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
        ];
        h2.send([h2::hello(), h2::request(1, &fields)].concat())
            .await;
        // More than a task of the runtime may do before it must yield.
        for _ in 0..200 {
            let mut raw = Raw::to(&workers).await;
            raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            queued.push(raw);
        }
        let drain = tokio::spawn(workers.drain(TIMEOUT));
        // The order is given when `drain` runs first; the worker sees it after everything above.
        tokio::task::yield_now().await;
        barrier.wait();
        assert!(blocking.answer().await.ends_with("here"));
        drop(blocking);
        for raw in &mut queued {
            let answer = raw.rest().await.unwrap();
            assert!(
                answer.ends_with("here") && answer.contains("connection: close"),
                "{answer}"
            );
        }
        let mut kinds = Vec::new();
        while let Some((kind, _)) = h2::next(&mut h2).await {
            kinds.push(kind);
        }
        assert!(
            kinds.contains(&h2::HEADERS) && kinds.contains(&h2::GOAWAY),
            "{kinds:?}"
        );
        assert_eq!(drain.await.unwrap(), Drained { cut: 0 });
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn those_who_wait_for_the_drain_are_told() {
        let (workers, seen) = start(&server());
        let mut raw = Raw::to(&workers).await;
        raw.send("GET /drain HTTP/1.1\r\nHost: a\r\n\r\n").await;
        while seen.requests.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let (drained, answer) = tokio::join!(workers.drain(TIMEOUT), raw.rest());
        assert_eq!(drained, Drained { cut: 0 });
        assert!(answer.unwrap().contains("GET a /drain"));
    }

    #[tokio::test]
    async fn what_outlasts_the_drain_is_cut() {
        let (workers, seen) = start(&server());
        let mut raw = Raw::to(&workers).await;
        raw.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        while seen.requests.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let counts = workers.counts().clone();
        assert_eq!(
            workers.drain(Duration::from_millis(50)).await,
            Drained { cut: 1 }
        );
        assert_eq!(counts.cut(Cut::Drain), 1);
        assert_eq!(raw.rest().await.unwrap_or_default(), "");
        assert_eq!(seen.ended.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn an_idle_connection_gets_one_more_answer_in_a_drain() {
        let (workers, _) = start(&server());
        let mut raw = Raw::to(&workers).await;
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(!raw.answer().await.contains("connection: close"));
        let late = async {
            // The worker has seen the order when it refuses connections.
            let address = raw.0.peer_addr().unwrap();
            while TcpStream::connect(address).await.is_ok() {}
            raw.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
            raw.rest().await.unwrap()
        };
        let (_, answer) = tokio::join!(workers.drain(TIMEOUT), late);
        assert!(
            answer.contains("GET a /late") && answer.contains("connection: close"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_full_house_serves_again_when_somebody_leaves() {
        let mut settings = server();
        settings.workers = 1;
        settings.limits.connections = 2;
        let (workers, seen) = start(&settings);
        let mut first = Raw::to(&workers).await;
        let mut second = Raw::to(&workers).await;
        second.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        while seen.requests.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let mut third = Raw::to(&workers).await;
        third.send("GET /third HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut answer = std::pin::pin!(third.answer());
        for _ in 0..20 {
            // Each round trip gives the worker a chance to accept the third.
            first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            first.answer().await;
            assert!(futures_util::poll!(&mut answer).is_pending());
        }
        assert_eq!(workers.open(), (2, 2));
        drop(second);
        assert!(answer.await.contains("GET a /third"));
    }

    /// Whoever holds all places without asking for anything, renewing what is given up, keeps nobody out.
    #[tokio::test]
    async fn who_rests_in_a_full_house_makes_room_and_who_is_served_stays() {
        let mut settings = server();
        settings.workers = 1;
        settings.limits.connections = 3;
        let (workers, seen) = start(&settings);
        let mut busy = Raw::to(&workers).await;
        busy.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let silent = Raw::to(&workers).await;
        let mut idle = Raw::to(&workers).await;
        idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        idle.answer().await;
        while seen.requests.load(SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.open(), (3, 3));
        let begun = Instant::now();
        let mut next = Raw::to(&workers).await;
        next.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(next.answer().await.contains("GET a /next"));
        assert!(begun.elapsed() < Duration::from_secs(8));
        assert_eq!(idle.rest().await.unwrap(), "");
        assert_eq!(
            seen.ended.load(SeqCst),
            2,
            "the one that hangs is not ended"
        );
        drop((busy, silent));
    }

    #[tokio::test]
    async fn a_listed_peer_says_whose_connection_it_brings() {
        let mut settings = server();
        settings.listeners[0].proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
        settings.limits.head = Duration::from_secs(1);
        let (workers, _) = start(&settings);
        let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = |before: Vec<u8>| {
            let workers = &workers;
            async move {
                crate::proxy::serve::testing::exchange(workers, [&before, get.as_bytes()].concat())
                    .await
            }
        };
        assert!(
            answer(b"PROXY TCP4 192.0.2.9 192.0.2.1 5000 443\r\n".to_vec())
                .await
                .contains("peer=192.0.2.9")
        );
        assert!(
            answer(b"PROXY TCP6 ::ffff:192.0.2.9 ::1 5000 443\r\n".to_vec())
                .await
                .contains("peer=192.0.2.9")
        );
        assert!(
            answer(b"PROXY UNKNOWN\r\n".to_vec())
                .await
                .contains("peer=127.0.0.1")
        );
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\xc0\0\x02\x01\x13\x88\x01\xbb";
        assert!(answer(v2.to_vec()).await.contains("peer=192.0.2.9"));
        assert_eq!(workers.counts().refused_proxy_headers(), 0);
        let mut raw = Raw::to(&workers).await;
        raw.send(get).await;
        assert_eq!(raw.rest().await.unwrap_or_default(), "");
        assert_eq!(workers.counts().refused_proxy_headers(), 1);
        let mut raw = Raw::to(&workers).await;
        raw.send("PROXY TCP4").await;
        assert_eq!(raw.rest().await.unwrap_or_default(), "");
        assert_eq!(workers.counts().cut(Cut::ProxyHeader), 1);
    }

    #[tokio::test]
    async fn a_worker_that_ends_unasked_is_noticed() {
        struct Fatal;
        impl Handler for Fatal {
            type Body = Full<bytes::Bytes>;
            fn handle(
                self: Rc<Self>,
                _: Rc<Conn>,
                _: Request<ClientBody>,
            ) -> impl Future<Output = Response<Self::Body>> + 'static {
                std::future::ready(Response::new(Full::from("")))
            }
        }
        let settings = server();
        let bound = Bound::open(&settings).unwrap();
        let (ended, end) = oneshot::channel::<usize>();
        drop(ended);
        let mut workers = Workers::start(&settings.limits, bound, |_| Rc::new(Fatal)).unwrap();
        {
            let failed = std::pin::pin!(workers.failed());
            assert!(futures_util::poll!(failed).is_pending());
        }
        workers.ends[0] = end;
        workers.failed().await;
    }
}
