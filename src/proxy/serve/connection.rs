//! The life of one connection: whose it is, TLS, which protocol, then requests until one side has enough.

use std::convert::Infallible;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http::header::HeaderValue;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

use crate::auth::ClientCertificate;
use crate::proxy::canonical::largest_list;
use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Arrival;
use crate::proxy::conn::Conn;
use crate::proxy::conn::InFlight;
use crate::proxy::conn::TlsInfo;
use crate::proxy::serve::Handler;
use crate::proxy::serve::fragment::Targets;
use crate::proxy::serve::frames::Frames;
use crate::proxy::serve::handshake::Secured;
use crate::proxy::serve::handshake::handshake;
use crate::proxy::serve::proxy_header;
use crate::proxy::serve::sniff;
use crate::proxy::serve::sniff::Protocol;
use crate::proxy::serve::socket::Rewound;
use crate::proxy::serve::socket::Socket;
use crate::proxy::serve::vitals::Phase;
use crate::proxy::serve::vitals::Verdict;
use crate::proxy::serve::vitals::Vitals;
use crate::proxy::serve::watched::Watched;
use crate::proxy::serve::worker::Door;
use crate::proxy::serve::worker::Local;
use crate::proxy::settings::Limits;
use crate::proxy::tls::Certificates;

/// How much hyper buffers of an HTTP/1.1 connection, each way. The head has its own, smaller limit.
const H1_BUFFER: usize = 64 * 1024;

/// `max_headers` of hyper for which its parser needs no allocation.
const H1_INLINE_FIELDS: usize = 100;

/// Windows of an HTTP/2 stream and of a connection (as in Envoy's guide for edges).
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What may wait to be sent on one HTTP/2 stream.
const H2_SEND_BUFFER: usize = 128 * 1024;

/// Streams the client reset before we looked at them, and streams we reset: more ends the connection (CVE-2023-44487).
const H2_PENDING_RESETS: usize = 20;
const H2_LOCAL_RESETS: usize = 1_024;

/// A PING after this silence, and the time for its answer.
const H2_PING: Duration = Duration::from_secs(30);
const H2_PING_ANSWER: Duration = Duration::from_secs(10);

/// A connection that has been accepted.
pub(crate) struct Accepted {
    /// Unique in this process.
    pub(crate) id: u64,
    /// The other end of the TCP connection.
    pub(crate) peer: SocketAddr,
    /// The stream.
    pub(crate) socket: Socket,
    /// What it is doing.
    pub(crate) vitals: Arc<Vitals>,
    /// As they are now.
    pub(crate) limits: Arc<Limits>,
    /// Where it came in.
    pub(crate) door: Rc<Door>,
    /// The worker it belongs to.
    pub(crate) local: Rc<Local>,
}

/// Serves a connection until it ends or the sweep ends it.
pub(crate) async fn attend<H: Handler>(accepted: Accepted, handler: Rc<H>) {
    let local = accepted.local.clone();
    let vitals = accepted.vitals.clone();
    let key = local.ward.admit(vitals.clone());
    let _discharge = Discharge {
        local: local.clone(),
        key,
    };
    let mut life = pin!(live(accepted, handler));
    let mut waker_kept = false;
    poll_fn(|cx| {
        if !waker_kept {
            local.ward.keep_waker(key, cx.waker());
            waker_kept = true;
        }
        if vitals.verdict() == Verdict::End {
            return Poll::Ready(());
        }
        life.as_mut().poll(cx).map(|ended| {
            if let Err(error) = ended {
                if is_no_head(&error) {
                    local.counts.count_bad_head();
                }
                tracing::debug!(%error, "Connection ended.");
            }
        })
    })
    .await;
}

/// Whether hyper has answered by itself: what came is no head of HTTP/1.1, or a longer one than may be. No request was seen.
fn is_no_head(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.is_some_and(hyper::Error::is_parse)
}

/// Forgets a connection however it ends, by a panic too.
struct Discharge {
    local: Rc<Local>,
    key: usize,
}

impl Drop for Discharge {
    fn drop(&mut self) {
        self.local.ward.discharge(self.key);
    }
}

async fn live<H: Handler>(accepted: Accepted, handler: Rc<H>) -> io::Result<()> {
    let Accepted {
        id,
        mut peer,
        mut socket,
        vitals,
        limits,
        door,
        local,
    } = accepted;
    if door.expects_proxy_header(peer.ip()) {
        match proxy_header::read(&mut socket).await {
            Ok(Some(source)) => peer = canonical(source),
            Ok(None) => {}
            Err(error) => {
                local.counts.count_refused_proxy_header();
                return Err(error);
            }
        }
    }
    let arrival = |tls| Arrival {
        id,
        peer,
        tls,
        limits: limits.clone(),
        vitals: vitals.clone(),
        closing: local.closing.clone(),
        slots: local.slots.clone(),
        counts: local.counts.clone(),
    };
    // In a box each: a connection that rests keeps the room of what it speaks, not of whatever it might have spoken.
    match &door.certificates {
        None => {
            vitals.enter(Phase::FirstByte);
            let protocol = sniff::sniff(&mut socket).await?;
            let conn = Conn::new(arrival(None));
            match protocol {
                Protocol::Http1 => Box::pin(serve_h1(socket, conn, handler)).await,
                Protocol::Http2 => Box::pin(serve_h2(socket, conn, handler)).await,
            }
        }
        Some(certificates) => {
            vitals.enter(Phase::Handshake);
            // What the handshake needed goes before the first request comes.
            let shaken = Box::pin(secured(certificates, socket, &local, arrival)).await?;
            match shaken {
                (stream, None, conn) => Box::pin(serve_h1(stream, conn, handler)).await,
                (stream, Some(preface), conn) => {
                    let stream = Rewound::new(stream, preface);
                    Box::pin(serve_h2(stream, conn, handler)).await
                }
            }
        }
    }
}

/// Begins a connection within TLS: what it is, and the preface where it speaks HTTP/2.
async fn secured(
    certificates: &Certificates,
    socket: Socket,
    local: &Local,
    arrival: impl FnOnce(Option<TlsInfo>) -> Arrival,
) -> io::Result<(Secured, Option<Bytes>, Rc<Conn>)> {
    let (mut stream, policies) = match handshake(certificates, socket).await {
        Ok(accepted) => accepted,
        Err(error) => {
            local.counts.count_handshake_failure();
            return Err(error);
        }
    };
    let (_, session) = stream.get_ref();
    let h2 = session.alpn_protocol() == Some(b"h2");
    let conn = Conn::new(arrival(Some(TlsInfo {
        client_certificate: session.peer_certificates().and_then(|chain| {
            ClientCertificate::of(chain.iter().map(|one| one.to_vec()).collect())
        }),
        policies,
    })));
    conn.vitals().enter(Phase::FirstByte);
    let preface = if h2 {
        Some(sniff::preface(&mut stream).await?)
    } else {
        None
    };
    Ok((stream, preface, conn))
}

/// IPv4-mapped IPv6 addresses as IPv4, so that networks match whichever socket family was used.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve_h1<H: Handler, T>(stream: T, conn: Rc<Conn>, handler: Rc<H>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = conn.limits();
    let mut builder = http1::Builder::new();
    builder
        // The sweep has its own limits for the head and between requests.
        .header_read_timeout(None)
        .max_buf_size(H1_BUFFER.max(limits.head_bytes))
        .max_header_size(limits.head_bytes);
    if limits.head_fields != H1_INLINE_FIELDS {
        builder.max_headers(limits.head_fields);
    }
    let vitals = conn.vitals().clone();
    // hyper keeps room for a request's future as long as the connection lives: for a box, that is little.
    let service =
        service_fn(move |request| Box::pin(answer(handler.clone(), conn.clone(), request)));
    let mut connection = pin!(
        builder
            .serve_connection(
                TokioIo::new(Watched::new(stream, Targets::new(vitals.clone()))),
                service
            )
            .with_upgrades()
    );
    let mut told = false;
    poll_fn(|cx| {
        if !told && vitals.verdict() != Verdict::Go {
            told = true;
            vitals.say_goodbye();
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await
    .map_err(io::Error::other)
}

async fn serve_h2<H: Handler, T>(stream: T, conn: Rc<Conn>, handler: Rc<H>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let vitals = conn.vitals().clone();
    vitals.speak_h2();
    if conn.is_closing() {
        vitals.ask(Verdict::Finish);
    }
    let limits = conn.limits();
    let mut builder = http2::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(largest_list(limits)).unwrap_or(u32::MAX))
        .max_send_buf_size(H2_SEND_BUFFER)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_local_error_reset_streams(H2_LOCAL_RESETS)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING_ANSWER)
        .enable_connect_protocol();
    let service = service_fn(move |request| answer(handler.clone(), conn.clone(), request));
    let stream = TokioIo::new(Watched::new(stream, Frames::new(vitals.clone())));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut told = false;
    poll_fn(|cx| {
        if !told && vitals.verdict() != Verdict::Go {
            told = true;
            vitals.say_goodbye();
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await
    .map_err(io::Error::other)
}

async fn answer<H: Handler>(
    handler: Rc<H>,
    conn: Rc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<Answer<H::Body>>, Infallible> {
    let in_flight = InFlight::begin(conn.clone());
    let request = request.map(|body| ClientBody::new(body, &conn));
    let progress = request.body().progress();
    let mut response = handler.handle(conn.clone(), request).await;
    // An upstream that answers has read what it wanted; from here on the two may talk in turns.
    progress.unpace();
    if conn.must_close() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Answer {
        body,
        owed: false,
        in_flight,
    }))
}

/// The body of an answer; its request is under way until it is dropped.
struct Answer<B> {
    body: B,
    /// It gave bytes and was not asked for more since.
    owed: bool,
    in_flight: InFlight,
}

impl<B> Answer<B> {
    fn pay(&mut self) {
        if self.owed {
            self.owed = false;
            self.in_flight.vitals().pay();
        }
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.pay();
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.pay();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            self.owed = true;
            self.in_flight.vitals().owe();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Spawns what hyper wants to run beside a connection on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExec;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::proxy::serve::testing::Echo;
    use crate::proxy::serve::testing::Raw;
    use crate::proxy::serve::testing::exchange;
    use crate::proxy::serve::testing::h2;
    use crate::proxy::serve::testing::server;
    use crate::proxy::serve::testing::start;
    use crate::proxy::serve::vitals::Cut;

    /// Thousands rest at once. Their tasks have no room for a handshake, which is over, nor for what is spoken: that has a box of
    /// its own size; and what is handed from one to the other is small.
    #[test]
    fn a_connection_that_rests_keeps_room_for_what_it_speaks_alone() {
        fn size<A, B, F>(_: &impl Fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let task = size(&attend::<Echo>);
        assert!(task < 1_400, "{task}");
        assert_eq!(size_of::<Secured>(), size_of::<usize>());
    }

    #[tokio::test]
    async fn requests_follow_each_other_on_a_connection() {
        let (workers, seen) = start(&server());
        let mut raw = Raw::to(&workers).await;
        for n in 0..3 {
            raw.send(format!(
                "POST /a//{n} HTTP/1.1\r\nHost: App.test\r\nContent-Length: 3\r\n\r\nabc"
            ))
            .await;
            let answer = raw.answer().await;
            assert!(
                answer.ends_with(&format!(
                    "POST app.test /a/{n} body=3 trailers=0 peer=127.0.0.1\n"
                )),
                "{answer}"
            );
            assert!(!answer.contains("connection: close"));
        }
        // Pipelined.
        raw.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let answers = raw.rest().await.unwrap();
        assert!(answers.find("GET a /x").unwrap() < answers.find("GET a /y").unwrap());
        assert_eq!(seen.requests.load(SeqCst), 5);
    }

    #[tokio::test]
    async fn trailers_end_here() {
        let (workers, _) = start(&server());
        let answer = exchange(
            &workers,
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: x-auth-user\r\n\r\n\
             3\r\nabc\r\n0\r\nx-auth-user: admin\r\n\r\n",
        )
        .await;
        assert!(answer.contains("body=3 trailers=0"), "{answer}");
    }

    /// Heads that nobody should read two ways: refused, the connection ends, and what follows is never a request.
    #[tokio::test]
    async fn ambiguous_heads_end_the_connection() {
        let (workers, seen) = start(&server());
        let after = "5c\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        for fields in [
            "Content-Length: 4\r\nTransfer-Encoding: xchunked",
            "Content-Length: 4\r\nTransfer-Encoding: chunked, identity",
            "Content-Length: 4\r\nTransfer-Encoding : chunked",
            "Content-Length: 4\r\nTransfer-Encoding:\x0bchunked",
            "Content-Length: 4\r\nTransfer_Encoding: chunked",
            "Content-Length: 4\r\nTransfer-Encoding: \"chunked\"",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n ,identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: 0x1",
            "Content-Length: -1",
            "Content-Length: 99999999999999999999",
            "X: a\rX-Auth-User: admin",
            "X: a\r\n X-Auth-User: admin",
            "X-Auth-User : admin",
            ": admin",
            "X: a\0b",
            "Host: b",
        ] {
            let answer = exchange(
                &workers,
                format!("POST /app HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{after}"),
            )
            .await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
            assert_eq!(
                answer.matches("HTTP/1.1").count(),
                1,
                "{fields:?}: {answer}"
            );
        }
        for head in [
            "POST /app HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /app HTTP/1.1\r\n\r\n",
            "GET /app HTTP/1.1\r\n X-Auth-User: admin\r\nHost: a\r\n\r\n",
            "GET /..\\admin HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET \\admin HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET admin HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        ] {
            let answer = exchange(&workers, format!("{head}{after}")).await;
            assert!(
                answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
                "{head:?}: {answer}"
            );
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{head:?}: {answer}");
        }
        assert_eq!(seen.requests.load(SeqCst), 0);
    }

    /// What hyper settles before we can see it: the chunks alone frame the body, and the connection ends.
    #[tokio::test]
    async fn a_length_beside_chunks_never_frames_anything() {
        let (workers, seen) = start(&server());
        for fields in [
            "Content-Length: 6\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 6",
            "Content-Length: 0\r\nX: y\r\nTransfer-Encoding: chunked",
        ] {
            let before = seen.requests.load(SeqCst);
            let answer = exchange(
                &workers,
                format!("POST /app HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n5\r\nAAAAA\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
            )
            .await;
            assert!(answer.contains("body=5"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
            assert_eq!(seen.requests.load(SeqCst), before + 1);
        }
    }

    #[tokio::test]
    async fn a_fragment_is_refused_and_ends_the_connection() {
        let (workers, seen) = start(&server());
        let mut raw = Raw::to(&workers).await;
        raw.send("GET /x HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n").await;
        assert!(raw.answer().await.starts_with("HTTP/1.1 200 "));
        let before = seen.requests.load(SeqCst);
        raw.send("GET /a?b#/../c HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = raw.rest().await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(seen.requests.load(SeqCst), before);
    }

    #[tokio::test]
    async fn a_fragment_behind_another_head_is_neither_judged_nor_seen() {
        let (workers, _) = start(&server());
        let answer = exchange(
            &workers,
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /a?b#/../c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.contains("GET a /a?b body=0"), "{answer}");
    }

    #[tokio::test]
    async fn broken_chunks_end_the_connection() {
        let (workers, seen) = start(&server());
        for chunks in [
            "0x1\r\nA\r\n",
            "-1\r\nA\r\n",
            "FFFFFFFFFFFFFFFFF\r\nA\r\n",
            "1\nA\r\n",
            "1;a=\nb\r\nA\r\n",
            "1\r\nAXX",
            "\r\nA\r\n",
            "1\r\r\nA\r\n",
        ] {
            let before = seen.requests.load(SeqCst);
            let answer = exchange(
                &workers,
                format!("POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
            )
            .await;
            assert!(
                answer.matches("HTTP/1.1").count() <= 1,
                "{chunks:?}: {answer}"
            );
            assert!(!answer.contains("200 OK"), "{chunks:?}: {answer}");
            assert_eq!(seen.requests.load(SeqCst), before + 1, "{chunks:?}");
        }
    }

    #[tokio::test]
    async fn endless_extensions_and_trailers_end_the_connection() {
        let (workers, _) = start(&server());
        let mut raw = Raw::to(&workers).await;
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;")
            .await;
        raw.send("x".repeat(40_000)).await;
        assert!(!raw.rest().await.unwrap_or_default().contains("200 OK"));
        let many = "x: y\r\n".repeat(10_000);
        let mut raw = Raw::to(&workers).await;
        raw.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{many}\r\n"
        ))
        .await;
        assert!(!raw.rest().await.unwrap_or_default().contains("200 OK"));
    }

    /// A client that asks first whether it may send its body is told to, or denied; never both.
    #[tokio::test]
    async fn who_is_denied_is_not_told_to_continue() {
        let (workers, _) = start(&server());
        let ask = |path: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
        };
        let mut raw = Raw::to(&workers).await;
        raw.send(ask("/deny")).await;
        let denied = raw.rest().await.unwrap();
        assert!(
            denied.starts_with("HTTP/1.1 401 ") && denied.ends_with("denied"),
            "{denied}"
        );
        let mut raw = Raw::to(&workers).await;
        raw.send(ask("/x")).await;
        let mut told = [0; 25];
        tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut told)
            .await
            .unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        raw.send("abcde").await;
        assert!(raw.answer().await.contains("body=5"));
    }

    /// The body of a request that was denied is never the next request, whenever it comes.
    #[tokio::test]
    async fn an_unread_body_is_never_a_request() {
        let (workers, seen) = start(&server());
        let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = format!(
            "POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // At once: hyper throws a body away that is there already, and the connection goes on.
        let mut raw = Raw::to(&workers).await;
        raw.send(format!(
            "{head}{body}GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await;
        let answers = raw.rest().await.unwrap();
        assert!(
            answers.starts_with("HTTP/1.1 401 ") && !answers.contains("/smuggled"),
            "{answers}"
        );
        let settled = seen.requests.load(SeqCst);
        // Later: the answer has come, and the connection is at its end.
        let mut raw = Raw::to(&workers).await;
        raw.send(&head).await;
        assert!(raw.answer().await.ends_with("denied"));
        raw.send(body).await;
        assert_eq!(raw.rest().await.unwrap(), "");
        // Part of it, then the rest.
        let mut raw = Raw::to(&workers).await;
        raw.send(format!("{head}{}", body.split_at(10).0)).await;
        assert!(raw.answer().await.ends_with("denied"));
        raw.send(body.split_at(10).1).await;
        assert_eq!(raw.rest().await.unwrap(), "");
        assert_eq!(seen.requests.load(SeqCst), settled + 2);
    }

    /// A client that sends on while it is denied reads its answer instead of a reset.
    #[tokio::test]
    async fn an_early_answer_survives_the_upload_it_answers() {
        let (workers, _) = start(&server());
        for _ in 0..20 {
            let mut raw = Raw::to(&workers).await;
            raw.send("POST /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n")
                .await;
            for _ in 0..5 {
                raw.send("x".repeat(8_000)).await;
                tokio::task::yield_now().await;
            }
            assert!(raw.rest().await.unwrap().ends_with("denied"));
        }
    }

    #[tokio::test]
    async fn heads_are_bounded() {
        let (workers, seen) = start(&server());
        let get = |more: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        for (request, status) in [
            (get(&"x: y\r\n".repeat(101)), 431),
            (get(&format!("x: {}\r\n", "y".repeat(65_536))), 431),
            (get(&format!("x: {}\r\n", "y".repeat(33_000))), 431),
            (
                format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9_000)),
                414,
            ),
            (
                format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(65_600)),
                431,
            ),
        ] {
            let answer = exchange(&workers, request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{status}: {answer}"
            );
        }
        assert_eq!(seen.requests.load(SeqCst), 0);
        assert!(
            exchange(
                &workers,
                get(&format!(
                    "Connection: close\r\nx: {}\r\n",
                    "y".repeat(31_000)
                ))
            )
            .await
            .contains("200 OK")
        );
        let answer = exchange(
            &workers,
            get(&format!("{}Connection: close\r\n", "x: y\r\n".repeat(98))),
        )
        .await;
        assert!(answer.contains("200 OK"), "{answer}");
    }

    #[tokio::test]
    async fn a_panic_ends_one_request() {
        let (workers, _) = start(&server());
        assert_eq!(
            exchange(&workers, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await,
            ""
        );
        assert!(
            exchange(
                &workers,
                "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            .await
            .contains("GET a /x")
        );
    }

    /// They reach no handler, and so no line of a log: whoever looks for a way in shows in a number all the same.
    #[tokio::test]
    async fn heads_that_are_none_are_counted() {
        let (workers, seen) = start(&server());
        let long = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "a".repeat(40_000)
        );
        for (n, head) in (1..).zip([
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
            &long,
        ]) {
            let mut raw = Raw::to(&workers).await;
            raw.send(head).await;
            // What was not read of the long one resets the connection.
            let answer = raw.rest().await.unwrap_or_default();
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{answer}"
            );
            // The connection is over, and its error known, when both sides have closed it.
            drop(raw);
            while workers.counts().bad_heads() < n {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(seen.requests.load(SeqCst), 0);
        // Who leaves, and who is refused by us, is another matter.
        exchange(
            &workers,
            "GET /deny HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
        drop(Raw::to(&workers).await);
        exchange(
            &workers,
            "GET / HTTP/1.1\r\nHost: a,b\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert_eq!(workers.counts().bad_heads(), 3);
    }

    /// Short, and longer than a busy machine keeps a client that has something to say.
    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn nobody_waits_for_a_client_that_stands_still() {
        let mut settings = server();
        settings.limits.head = LIMIT;
        settings.limits.handshake = LIMIT;
        settings.limits.idle_h1 = LIMIT;
        settings.limits.body_grace = LIMIT;
        let (workers, seen) = start(&settings);
        let silent = exchange(&workers, "");
        let preface = exchange(&workers, "PRI * HT");
        let head = exchange(&workers, "GET / HTTP/1.1\r\nHost:");
        let idle = exchange(&workers, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let body = exchange(
            &workers,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
        );
        let (silent, preface, head, idle, body) = tokio::join!(silent, preface, head, idle, body);
        assert_eq!(
            (silent.as_str(), preface.as_str(), head.as_str()),
            ("", "", "")
        );
        assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");
        assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
        assert_eq!(seen.requests.load(SeqCst), 2);
        let counts = workers.counts();
        assert_eq!(counts.cut(Cut::FirstByte) + counts.cut(Cut::Head), 3);
        assert_eq!(counts.cut(Cut::Idle), 1);
    }

    /// A byte now and then does not keep a head alive: its limit is absolute.
    #[tokio::test]
    async fn a_dripping_head_is_cut() {
        let mut settings = server();
        settings.limits.head = LIMIT;
        let (workers, _) = start(&settings);
        let mut raw = Raw::to(&workers).await;
        let began = tokio::time::Instant::now();
        let mut drip = tokio::time::interval(Duration::from_millis(20));
        raw.send("GET / HTTP/1.1\r\nX: ").await;
        loop {
            drip.tick().await;
            let mut one = [0; 1];
            if tokio::io::AsyncWriteExt::write_all(&mut raw.0, b"x")
                .await
                .is_err()
                || raw.0.try_read(&mut one).is_ok_and(|n| n == 0)
            {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30));
        }
        assert_eq!(workers.counts().cut(Cut::Head), 1);
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/x"),
    ];

    /// What becomes of one HTTP/2 request.
    async fn one(workers: &crate::proxy::serve::Workers, fields: &[(&str, &str)]) -> (u8, Vec<u8>) {
        let mut raw = Raw::to(workers).await;
        raw.send([h2::hello(), h2::request(1, fields)].concat())
            .await;
        h2::next(&mut raw).await.unwrap()
    }

    #[tokio::test]
    async fn http2_is_told_apart_by_its_preface() {
        let (workers, _) = start(&server());
        let (kind, block) = one(&workers, &GET).await;
        // 0x88: `:status: 200` (RFC 7541 appendix A).
        assert_eq!((kind, block[0]), (h2::HEADERS, 0x88));
        // The preface may come in pieces.
        let mut raw = Raw::to(&workers).await;
        for byte in h2::hello() {
            raw.send([byte]).await;
            tokio::task::yield_now().await;
        }
        raw.send(h2::request(1, &GET)).await;
        assert_eq!(h2::next(&mut raw).await.unwrap().0, h2::HEADERS);
    }

    /// HTTP/2 gets no weaker verdict than HTTP/1.1: the stream is reset, or the answer is 4xx.
    #[tokio::test]
    async fn http2_cannot_say_what_http1_must_not() {
        let (workers, seen) = start(&server());
        for more in [
            ("transfer-encoding", "chunked"),
            ("connection", "x-auth-user"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("keep-alive", "1"),
            ("host", "b"),
            ("content_length", "5"),
            ("content-length", "5"),
            ("X-Upper", "y"),
            ("x y", "z"),
            (":path", "/y"),
            ("x", "a\rb"),
            ("x", "a\nb"),
            ("x", "a\0b"),
        ] {
            let fields: Vec<_> = GET.into_iter().chain([more]).collect();
            let (kind, block) = one(&workers, &fields).await;
            // 0x8c: `:status: 400`.
            let refused = kind == h2::RST_STREAM || kind == h2::GOAWAY || block[0] == 0x8c;
            assert!(refused, "{more:?}: {kind} {block:x?}");
        }
        for (n, value) in [
            (0, "TRACE"),
            (0, "CONNECT"),
            (1, "ftp"),
            (2, "u@a"),
            (2, "a,b"),
            (2, ""),
            (3, "/../x"),
            (3, "/%2f"),
            (3, "x"),
            (3, ""),
        ] {
            let mut fields = GET;
            fields[n].1 = value;
            let (kind, block) = one(&workers, &fields).await;
            let refused = kind == h2::RST_STREAM || kind == h2::GOAWAY || block[0] == 0x8c;
            assert!(refused, "{value:?}: {kind} {block:x?}");
        }
        assert_eq!(seen.requests.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn http2_heads_are_bounded_like_others() {
        let (workers, seen) = start(&server());
        let many: Vec<_> = GET.into_iter().chain([("x", "y"); 300]).collect();
        let mut raw = Raw::to(&workers).await;
        raw.send([h2::hello(), h2::request(1, &many)].concat())
            .await;
        // A literal `:status` with a value of three octets or its Huffman code: not 200.
        let (kind, block) = h2::next(&mut raw).await.unwrap();
        assert!(kind == h2::HEADERS && block[0] != 0x88, "{kind} {block:x?}");
        let long = format!("/{}", "a".repeat(9_000));
        let mut fields = GET;
        fields[3].1 = &long;
        let (kind, block) = one(&workers, &fields).await;
        assert!(kind == h2::HEADERS && block[0] != 0x88, "{kind} {block:x?}");
        assert_eq!(seen.requests.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn rapid_resets_end_an_http2_connection() {
        let (workers, _) = start(&server());
        let mut raw = Raw::to(&workers).await;
        let mut flood = h2::hello();
        for n in 0..200 {
            flood.extend(h2::request(2 * n + 1, &GET));
            flood.extend(h2::frame(h2::RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
        }
        raw.send(flood).await;
        while let Some((kind, payload)) = h2::next(&mut raw).await {
            if kind == h2::GOAWAY {
                // ENHANCE_YOUR_CALM
                assert_eq!(payload[4..8], [0, 0, 0, 11]);
                return;
            }
        }
        unreachable!("no goodbye");
    }

    /// Whoever is gone without a word is noticed, also with a stream that waits for an answer.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_is_gone_after_forty_seconds() {
        for answers in [true, false] {
            let (theirs, ours) = tokio::io::duplex(64 * 1024);
            let handler = Rc::new(Echo::default());
            let served = serve_h2(ours, Conn::for_test(true), handler);
            let client = async {
                let (mut reader, mut writer) = tokio::io::split(theirs);
                let mut fields = GET;
                fields[3].1 = "/hang";
                let begin = [h2::hello(), h2::request(1, &fields)].concat();
                writer.write_all(&begin).await.unwrap();
                let begun = tokio::time::Instant::now();
                let mut pings = Vec::new();
                loop {
                    let mut head = [0; 9];
                    if reader.read_exact(&mut head).await.is_err() {
                        break;
                    }
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let mut payload = vec![0; usize::try_from(length).unwrap()];
                    reader.read_exact(&mut payload).await.unwrap();
                    if (head[3], head[4]) == (6, 0) {
                        pings.push(begun.elapsed().as_secs());
                        if answers && pings.len() < 4 {
                            writer
                                .write_all(&h2::frame(6, 1, 0, &payload))
                                .await
                                .unwrap();
                        }
                    }
                }
                (pings, begun.elapsed().as_secs())
            };
            let local = tokio::task::LocalSet::new();
            let (_, said) = local
                .run_until(async { tokio::join!(served, client) })
                .await;
            let expected = if answers {
                (vec![30, 60, 90, 120], 130)
            } else {
                (vec![30], 40)
            };
            assert_eq!(said, expected);
        }
    }

    #[tokio::test]
    async fn an_http2_connection_without_streams_is_ended_politely() {
        let mut settings = server();
        settings.limits.idle_h2 = LIMIT;
        let (workers, _) = start(&settings);
        let mut raw = Raw::to(&workers).await;
        raw.send(h2::hello()).await;
        assert_eq!(h2::next(&mut raw).await.unwrap().0, h2::GOAWAY);
        while h2::next(&mut raw).await.is_some() {}
        assert_eq!(workers.counts().cut(Cut::Idle), 1);
    }

    /// The same limit as in `a_dripping_head_is_cut`.
    #[tokio::test]
    async fn an_http2_head_that_does_not_end_is_cut_however_it_is_stretched() {
        let mut settings = server();
        settings.limits.head = LIMIT;
        let (workers, seen) = start(&settings);
        let mut begun = h2::request(1, &GET);
        // Without END_HEADERS a CONTINUATION must follow.
        begun[4] = 0x01;
        let half = h2::request(1, &GET);
        let half = half[..half.len() - 2].to_vec();
        let silent = sniff::PREFACE.to_vec();
        let stretched = [begun, h2::frame(9, 0, 1, b"")].concat();
        for (n, bytes) in [
            silent,
            [h2::hello(), half].concat(),
            [h2::hello(), stretched].concat(),
        ]
        .into_iter()
        .enumerate()
        {
            let mut raw = Raw::to(&workers).await;
            raw.send(bytes).await;
            while h2::next(&mut raw).await.is_some() {}
            assert_eq!(
                workers.counts().cut(Cut::Head),
                u64::try_from(n).unwrap() + 1
            );
        }
        assert_eq!(seen.requests.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn a_stream_that_is_under_way_survives_a_drain() {
        let (workers, seen) = start(&server());
        let mut raw = Raw::to(&workers).await;
        let mut fields = GET;
        fields[3].1 = "/drain";
        raw.send([h2::hello(), h2::request(1, &fields)].concat())
            .await;
        while seen.requests.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let kinds = async {
            let mut kinds = Vec::new();
            while let Some((kind, _)) = h2::next(&mut raw).await {
                kinds.push(kind);
            }
            kinds
        };
        let (drained, kinds) = tokio::join!(workers.drain(Duration::from_secs(20)), kinds);
        assert_eq!(drained.cut, 0);
        assert!(
            kinds.contains(&h2::GOAWAY) && kinds.contains(&h2::HEADERS),
            "{kinds:?}"
        );
    }

    #[tokio::test]
    async fn a_slow_http2_body_is_cut() {
        let mut settings = server();
        settings.limits.body_grace = LIMIT;
        let (workers, _) = start(&settings);
        let mut raw = Raw::to(&workers).await;
        let mut post = h2::request(1, &GET);
        // Without END_STREAM a body follows.
        post[4] = 0x04;
        raw.send([h2::hello(), post].concat()).await;
        let (kind, block) = h2::next(&mut raw).await.unwrap();
        assert!(kind == h2::HEADERS && block[0] != 0x88, "{kind} {block:x?}");
    }

    #[tokio::test]
    async fn a_tunnel_counts_as_a_connection_and_is_told_of_the_drain() {
        let (workers, _) = start(&server());
        let mut raw = Raw::to(&workers).await;
        raw.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly").await;
        let mut text = Vec::new();
        while !text.ends_with(b"early") {
            assert_ne!(
                tokio::io::AsyncReadExt::read_buf(&mut raw.0, &mut text)
                    .await
                    .unwrap(),
                0
            );
        }
        assert!(text.starts_with(b"HTTP/1.1 101 "));
        assert_eq!(workers.open().0, 1);
        let (drained, rest) = tokio::join!(workers.drain(Duration::from_secs(20)), raw.rest());
        assert_eq!(drained.cut, 0);
        assert_eq!(rest.unwrap(), "goodbye");
    }

    #[tokio::test]
    async fn a_tunnel_on_http2_outlives_the_idle_limit_and_is_told_of_the_drain() {
        let mut settings = server();
        settings.limits.idle_h2 = Duration::from_millis(100);
        let (workers, _) = start(&settings);
        let mut raw = Raw::to(&workers).await;
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/tunnel"),
        ];
        let mut connect = h2::request(1, &fields);
        connect[4] = 0x04;
        raw.send([h2::hello(), connect].concat()).await;
        let (kind, block) = h2::next(&mut raw).await.unwrap();
        assert_eq!((kind, block[0]), (h2::HEADERS, 0x88));
        // Another connection is cut while this one is not.
        let mut other = Raw::to(&workers).await;
        other.send(h2::hello()).await;
        assert_eq!(h2::next(&mut other).await.unwrap().0, h2::GOAWAY);
        raw.send(h2::frame(0, 0, 1, b"ping")).await;
        assert_eq!(h2::next(&mut raw).await.unwrap(), (0, b"ping".to_vec()));
        let rest = async {
            let mut frames = Vec::new();
            while let Some(frame) = h2::next(&mut raw).await {
                frames.push(frame);
            }
            frames
        };
        drop(other);
        let (drained, frames) = tokio::join!(workers.drain(Duration::from_secs(20)), rest);
        assert_eq!(drained.cut, 0);
        assert!(frames.contains(&(0, b"goodbye".to_vec())), "{frames:?}");
    }
}
