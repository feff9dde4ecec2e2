//! Upstreams made of raw bytes, and requests to them.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::LocalSet;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::proxy::body::BodyError;
use crate::proxy::body::Ended;
use crate::proxy::body::OnEnd;
use crate::proxy::body::ResponseBody;
use crate::proxy::forwarded::Hop;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::protected::Protected;
use crate::proxy::settings::Origin;
use crate::proxy::settings::Upstream;
use crate::proxy::upstream::Pool;
use crate::proxy::upstream::Resolver;
use crate::proxy::upstream::SendError;
use crate::proxy::upstream::Target;
use crate::proxy::upstream_head::ClientHead;
use crate::proxy::upstream_head::HeadPolicy;
use crate::proxy::upstream_head::UpstreamHead;
use crate::proxy::upstream_head::cookies::CookieNames;

/// The longest a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test where connections may be spawned.
pub(super) async fn local<F: Future>(test: F) -> F::Output {
    let local = LocalSet::new();
    local
        .run_until(timeout(PATIENCE, test))
        .await
        .expect("the test takes too long")
}

/// An address at which nobody listens, and what keeps others from it.
pub(super) fn refusing() -> (TcpSocket, SocketAddr) {
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    (taken, address)
}

/// One connection that an upstream accepted.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) seen: Rc<Seen>,
    buffer: Vec<u8>,
}

/// What an upstream has seen on all its connections.
#[derive(Default)]
pub(super) struct Seen {
    heads: RefCell<Vec<String>>,
    connections: RefCell<usize>,
}

impl Seen {
    pub(super) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.borrow().clone()
    }

    /// How many requests had this method.
    pub(super) fn count(&self, method: &str) -> usize {
        self.heads
            .borrow()
            .iter()
            .filter(|head| head.starts_with(method))
            .count()
    }
}

impl Peer {
    /// Reads one head; `None` when the connection has ended.
    pub(super) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                let head = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
                self.seen.heads.borrow_mut().push(head.clone());
                return Some(head);
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }

    /// Reads until the connection has sent `n` bytes of a body.
    pub(super) async fn body(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            assert_ne!(self.more().await, 0, "the body ended");
        }
        let rest = self.buffer.split_off(n);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Waits for the end of the connection.
    pub(super) async fn end(&mut self) {
        while self.more().await != 0 {}
    }

    pub(super) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have had enough.
        drop(self.stream.write_all(bytes.as_ref()).await);
    }

    async fn more(&mut self) -> usize {
        let mut chunk = [0; 4096];
        let n = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..n]);
        n
    }
}

/// Starts an upstream; `serve` gets each connection and its number, from 0.
pub(super) async fn raw<F, S>(serve: S) -> (SocketAddr, Rc<Seen>)
where
    S: Fn(usize, Peer) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Rc::new(Seen::default()));
    let watched = seen.clone();
    spawn_local(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            *watched.connections.borrow_mut() += 1;
            let peer = Peer {
                stream,
                seen: watched.clone(),
                buffer: Vec::new(),
            };
            spawn_local(serve(number, peer));
        }
    });
    (address, seen)
}

/// An upstream that answers every request on every connection with the same bytes.
pub(super) async fn answering(bytes: &'static str) -> (SocketAddr, Rc<Seen>) {
    raw(move |_, mut peer| async move {
        while peer.head().await.is_some() {
            peer.say(bytes).await;
        }
    })
    .await
}

/// An answer of two bytes.
pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn settings(addresses: &[SocketAddr]) -> Upstream {
    let origin = |address: &SocketAddr| Origin {
        tls: false,
        host: address.ip().to_string().into(),
        port: address.port(),
    };
    Upstream {
        origins: addresses.iter().map(origin).collect(),
        http2: false,
        connect_timeout: Duration::from_secs(3),
        response_timeout: Duration::from_secs(10),
        idle: Duration::from_secs(4),
        ca: None,
        client_certificate: None,
        health_path: None,
        health_interval: Duration::from_secs(5),
        preserve_host: true,
    }
}

pub(super) fn policy() -> HeadPolicy {
    HeadPolicy {
        protected: Arc::new(Protected::new([&HeaderName::from_static("x-crm-login")])),
        own_cookies: Arc::new(CookieNames::new(
            ["__Host-authferry"],
            ["__Host-authferry-"],
        )),
        credential_cookies: CookieNames::default(),
        steering: None,
        credential_headers: Vec::new(),
        forward_credentials: false,
        static_headers: Vec::new(),
    }
}

/// A pool, an upstream and what is let through.
pub(super) struct Client {
    pub(super) pool: Pool<Full<Bytes>>,
    pub(super) target: Arc<Target>,
    pub(super) policy: HeadPolicy,
}

/// How a body ended, and after how many bytes.
pub(super) type End = Rc<RefCell<Vec<(u64, Ended)>>>;

/// Remembers ends.
pub(super) struct Note(pub(super) End);

impl OnEnd for Note {
    fn end(self, bytes: u64, ended: Ended) {
        self.0.borrow_mut().push((bytes, ended));
    }
}

pub(super) type Received = Response<ResponseBody<Full<Bytes>, Note>>;

impl Client {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self::with(settings(&[address]))
    }

    pub(super) fn with(settings: Upstream) -> Self {
        Self {
            pool: Pool::new(Resolver::system(Handle::current())),
            target: Target::new(settings).unwrap(),
            policy: policy(),
        }
    }

    /// Sends a request and returns the head of the answer.
    pub(super) async fn send(
        &self,
        method: Method,
        fields: &[(&'static str, &'static str)],
        body: Option<&'static str>,
    ) -> Result<(Received, End), SendError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let hop = Hop::new("203.0.113.9".parse().unwrap(), false);
        let head = head(&method, &headers, &hop, &self.policy);
        let body = body.map(|text| Full::new(Bytes::from_static(text.as_bytes())));
        let answer = self
            .pool
            .send(&self.target, &self.policy, body, head)
            .await?;
        let end = End::default();
        Ok((answer.into_response(Note(end.clone())), end))
    }

    /// `GET /`, whole.
    pub(super) async fn get(&self) -> Result<String, SendError> {
        let (response, _) = self.send(Method::GET, &[], None).await?;
        Ok(text(response).await.unwrap())
    }
}

/// What the builder of heads makes of a request for `/a?b=c`.
pub(super) fn head<'a>(
    method: &'a Method,
    headers: &'a HeaderMap,
    hop: &'a Hop,
    policy: &'a HeadPolicy,
) -> impl Fn() -> Result<UpstreamHead, crate::proxy::upstream_head::HeadError> + 'a {
    let target = PathAndQuery::from_static("/a?b=c");
    let authority = HeaderValue::from_static("app.test");
    move || {
        let client = ClientHead {
            method,
            target: &target,
            authority: &authority,
            headers,
            peer: std::net::IpAddr::from([203, 0, 113, 9]),
            hop,
            trusted: false,
            given: &[],
            upgrade: None,
        };
        UpstreamHead::new(&client, &IdentityHeaders::none(), policy)
    }
}

/// The whole body of an answer.
pub(super) async fn text(response: Received) -> Result<String, BodyError> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}
