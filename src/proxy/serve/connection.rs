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
use tokio_rustls::TlsAcceptor;

use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Arrival;
use crate::proxy::conn::Conn;
use crate::proxy::conn::InFlight;
use crate::proxy::conn::TlsInfo;
use crate::proxy::serve::Handler;
use crate::proxy::serve::proxy_header;
use crate::proxy::serve::sniff;
use crate::proxy::serve::sniff::Protocol;
use crate::proxy::serve::socket::Rewound;
use crate::proxy::serve::socket::Socket;
use crate::proxy::serve::vitals::Phase;
use crate::proxy::serve::vitals::Verdict;
use crate::proxy::serve::vitals::Vitals;
use crate::proxy::serve::worker::Door;
use crate::proxy::serve::worker::Local;
use crate::proxy::settings::Limits;

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
                tracing::debug!(%error, "Connection ended.");
            }
        })
    })
    .await;
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
        local: door.address,
        tls,
        limits: limits.clone(),
        vitals: vitals.clone(),
        closing: local.closing.clone(),
    };
    let Some(certificates) = &door.certificates else {
        vitals.enter(Phase::FirstByte);
        let protocol = sniff::sniff(&mut socket).await?;
        let conn = Conn::new(arrival(None));
        return match protocol {
            Protocol::Http1 => serve_h1(socket, conn, handler).await,
            Protocol::Http2 => serve_h2(socket, conn, handler).await,
        };
    };
    vitals.enter(Phase::Handshake);
    let acceptor = TlsAcceptor::from(certificates.server_config());
    let mut stream = match acceptor.accept(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            local.counts.count_handshake_failure();
            return Err(error);
        }
    };
    let (_, session) = stream.get_ref();
    let h2 = session.alpn_protocol() == Some(b"h2");
    let conn = Conn::new(arrival(Some(TlsInfo {
        sni: session
            .server_name()
            .map(|name| name.to_ascii_lowercase().into()),
        client_certificate: session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| Arc::from(leaf.as_ref())),
        version: session
            .protocol_version()
            .and_then(|version| version.as_str())
            .unwrap_or("unknown"),
    })));
    vitals.enter(Phase::FirstByte);
    if h2 {
        let preface = sniff::preface(&mut stream).await?;
        serve_h2(Rewound::new(stream, preface), conn, handler).await
    } else {
        serve_h1(stream, conn, handler).await
    }
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
    let service = service_fn(move |request| answer(handler.clone(), conn.clone(), request));
    let mut connection = pin!(
        builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let mut told = false;
    poll_fn(|cx| {
        if !told && vitals.verdict() != Verdict::Go {
            told = true;
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
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(H2_SEND_BUFFER)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_local_error_reset_streams(H2_LOCAL_RESETS)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING_ANSWER)
        .enable_connect_protocol();
    let service = service_fn(move |request| answer(handler.clone(), conn.clone(), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut told = false;
    poll_fn(|cx| {
        if !told && vitals.verdict() != Verdict::Go {
            told = true;
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
        _in_flight: in_flight,
    }))
}

/// The body of an answer; its request is under way until it is dropped.
struct Answer<B> {
    body: B,
    _in_flight: InFlight,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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
