//! What tests of serving share: limits, a handler that says what it saw, workers on port 0, and raw connections.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::proxy::canonical::canonicalise;
use crate::proxy::client_body::ClientBody;
use crate::proxy::client_body::ClientBodyError;
use crate::proxy::conn::Conn;
use crate::proxy::conn::InFlight;
use crate::proxy::serve::Handler;
use crate::proxy::serve::Workers;
use crate::proxy::serve::listen::Bound;
use crate::proxy::settings::Drain;
use crate::proxy::settings::Limits;
use crate::proxy::settings::Listener;
use crate::proxy::settings::Server;
use crate::proxy::settings::Tls;

/// The defaults.
pub(crate) fn limits() -> Limits {
    Limits::usual()
}

/// Two workers, one listener on loopback, no TLS.
pub(crate) fn server() -> Server {
    Server {
        listeners: vec![Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            proxy_protocol_from: Vec::new(),
        }],
        workers: 2,
        trusted_proxies: Vec::new(),
        certificate_headers: None,
        countries: None,
        limits: limits(),
        drain: Drain {
            announce: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        },
    }
}

/// What the handlers of a test have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Requests that were canonical.
    pub(crate) requests: Arc<AtomicUsize>,
    /// Requests that ended, answered or not.
    pub(crate) ended: Arc<AtomicUsize>,
}

/// Says what it saw. `/deny` is answered at once, `/hang` never, `/panic` panics; everything else once the body is read.
#[derive(Debug, Default)]
pub(crate) struct Echo(Seen);

type EchoBody = UnsyncBoxBody<Bytes, Infallible>;

fn reply(status: StatusCode, text: String) -> Response<EchoBody> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response
}

struct Ends(Arc<AtomicUsize>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Handler for Echo {
    type Body = EchoBody;

    async fn handle(
        self: Rc<Self>,
        conn: Rc<Conn>,
        mut request: Request<ClientBody>,
    ) -> Response<EchoBody> {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (parts, body) = request.into_parts();
        let canonical = match canonicalise(&parts, &conn, conn.limits()) {
            Ok(canonical) => canonical,
            Err(bad) => {
                return reply(
                    crate::proxy::respond::Fault::from(bad).status(),
                    String::new(),
                );
            }
        };
        self.0.requests.fetch_add(1, SeqCst);
        let _ends = Ends(self.0.ended.clone());
        match canonical.path() {
            "/deny" => return reply(StatusCode::UNAUTHORIZED, "denied".to_owned()),
            "/hang" => pending::<()>().await,
            "/panic" => unreachable!("asked for"),
            "/drain" => conn.closing().await,
            "/tunnel" => return tunnel(&conn, upgrade.unwrap(), canonical.extended_connect()),
            _ => {}
        }
        let progress = body.progress();
        match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().map_or(0, http::HeaderMap::len);
                let length = body.to_bytes().len();
                assert_eq!(u64::try_from(length).unwrap(), progress.received());
                let (method, host, target) =
                    (canonical.method(), canonical.host(), canonical.target());
                let peer = conn.peer().ip();
                reply(
                    StatusCode::OK,
                    format!(
                        "{method} {host} {target} body={length} trailers={trailers} peer={peer}\n"
                    ),
                )
            }
            Err(ClientBodyError::TooSlow) => reply(StatusCode::REQUEST_TIMEOUT, String::new()),
            Err(ClientBodyError::Broken(_)) => reply(StatusCode::BAD_REQUEST, String::new()),
        }
    }
}

/// Sends back what comes, until the drain; then says so.
fn tunnel(conn: &Rc<Conn>, upgrade: OnUpgrade, extended_connect: bool) -> Response<EchoBody> {
    let (closing, hold) = (conn.closing(), InFlight::begin(conn.clone()));
    spawn_local(async move {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        tokio::select! {
            copied = tokio::io::copy(&mut from, &mut to) => drop(copied),
            () = closing => to.write_all(b"goodbye").await.unwrap(),
        }
        to.shutdown().await.unwrap();
        drop(hold);
    });
    if extended_connect {
        return reply(StatusCode::OK, String::new());
    }
    let mut response = reply(StatusCode::SWITCHING_PROTOCOLS, String::new());
    response
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    response
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    response
}

/// Workers with an [`Echo`] each.
pub(crate) fn start(settings: &Server) -> (Workers, Seen) {
    start_on(settings, Bound::open(settings).unwrap())
}

/// Likewise, on sockets that are bound already.
pub(crate) fn start_on(settings: &Server, bound: Bound) -> (Workers, Seen) {
    let seen = Seen::default();
    let handlers = seen.clone();
    let workers = Workers::start(&settings.limits, bound, move |_| {
        Rc::new(Echo(handlers.clone()))
    })
    .unwrap();
    (workers, seen)
}

/// Writes a self-signed pair for `names` under `stem`.
pub(crate) fn certificate(stem: &std::path::Path, names: &[&str]) -> Tls {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (stem.with_extension("crt"), stem.with_extension("key"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    Tls {
        certificates: vec![(chain, key)],
        clients: Vec::new(),
        newest_only: false,
    }
}

/// A raw connection.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Connects to the first listener.
    pub(crate) async fn to(workers: &Workers) -> Self {
        Self(
            TcpStream::connect(workers.local_addresses()[0])
                .await
                .unwrap(),
        )
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer with a `Content-Length`.
    pub(crate) async fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let complete = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))?;
            (length.parse::<usize>().unwrap() <= body.len()).then_some(())
        };
        while complete(&text).is_none() {
            assert_ne!(
                self.0.read_buf(&mut text).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads until the other side closes. `Err`: it was reset.
    pub(crate) async fn rest(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        self.0.read_to_end(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Sends `bytes` on a new connection and reads until it is closed.
pub(crate) async fn exchange(workers: &Workers, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::to(workers).await;
    raw.send(bytes).await;
    raw.rest().await.unwrap()
}

/// HTTP/2 by hand: what no client library would send.
pub(crate) mod h2 {
    use super::*;

    /// Frame types (RFC 9113 §6).
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const GOAWAY: u8 = 7;

    /// A frame.
    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The preface and empty settings.
    pub(crate) fn hello() -> Vec<u8> {
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
        ]
        .concat()
    }

    /// HEADERS that end the stream; fields are literals, exactly as given.
    pub(crate) fn request(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0x10);
            for text in [name, value] {
                integer(text.len(), &mut block);
                block.extend(text.bytes());
            }
        }
        frame(HEADERS, 0x05, stream, &block)
    }

    /// A seven-bit prefix integer (RFC 7541 §5.1).
    fn integer(mut n: usize, into: &mut Vec<u8>) {
        if n < 127 {
            into.push(u8::try_from(n).unwrap());
            return;
        }
        into.push(127);
        n -= 127;
        while 128 <= n {
            into.push(u8::try_from(n % 128 + 128).unwrap());
            n /= 128;
        }
        into.push(u8::try_from(n).unwrap());
    }

    /// Reads frames until one is not about settings, pings or windows: its type and payload. `None`: closed.
    pub(crate) async fn next(raw: &mut Raw) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            raw.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            raw.0.read_exact(&mut payload).await.ok()?;
            match (head[3], head[4]) {
                (6, 0) => raw.send(frame(6, 1, 0, &payload)).await,
                (4 | 6 | 8, _) => {}
                (kind, _) => return Some((kind, payload)),
            }
        }
    }
}
