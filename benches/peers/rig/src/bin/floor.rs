//! What hyper costs when nobody thinks: a proxy with one thread and a pool that forwards the head as it came. With
//! `--verify` it checks the signature and the claims of every token anew, with nothing around it.
//!
//! ```text
//! floor UPSTREAM LISTEN [--tls LISTEN CHAIN KEY] [--verify JWKS ISSUER AUDIENCE]
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use aws_lc_rs::signature;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use http_body_util::combinators::BoxBody;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::Version;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::client::conn::http1::SendRequest;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use hyper::server::conn::http1 as server;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

type Failure = Box<dyn Error + Send + Sync>;
type Body = BoxBody<Bytes, hyper::Error>;

const USER: HeaderName = HeaderName::from_static("x-remote-user");

struct Proxy {
    upstream: SocketAddr,
    verify: Option<Verify>,
    idle: RefCell<VecDeque<SendRequest<Incoming>>>,
}

struct Verify {
    keys: HashMap<String, Key>,
    issuer: String,
    audience: String,
}

enum Key {
    Rs256(RsaPublicKeyComponents<Vec<u8>>),
    Es256(Vec<u8>),
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move { drop(future.await) });
    }
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [upstream, listen, rest @ ..] = args.as_slice() else {
        return Err("usage: floor UPSTREAM LISTEN [--tls LISTEN CHAIN KEY] [--verify JWKS ISSUER AUDIENCE]".into());
    };
    let (mut tls, mut verify) = (None, None);
    for option in rest.chunks(4) {
        match option {
            [name, listen, chain, key] if name == "--tls" => tls = Some((listen.clone(), acceptor(chain, key)?)),
            [name, keys, issuer, audience] if name == "--verify" => verify = Some(Verify::new(keys, issuer, audience)?),
            _ => return Err("unknown option".into()),
        }
    }
    let proxy = Rc::new(Proxy { upstream: upstream.parse()?, verify, idle: RefCell::default() });
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        if let Some((listen, acceptor)) = tls {
            let (listener, proxy) = (TcpListener::bind(listen).await?, proxy.clone());
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(stream.set_nodelay(true));
                    let (proxy, acceptor) = (proxy.clone(), acceptor.clone());
                    spawn_local(async move {
                        let Ok(stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        let service = service_fn(move |request| forward(proxy.clone(), request));
                        if h2 {
                            drop(http2::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await);
                        } else {
                            drop(server::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                        }
                    });
                }
            });
        }
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let proxy = proxy.clone();
            spawn_local(async move {
                let service = service_fn(move |request| forward(proxy.clone(), request));
                drop(server::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    })
}

fn acceptor(chain: &str, key: &str) -> Result<TlsAcceptor, Failure> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn forward(proxy: Rc<Proxy>, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    if let Some(verify) = &proxy.verify {
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let Some(user) = token.and_then(|token| verify.check(token)) else {
            let mut refused = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *refused.status_mut() = StatusCode::UNAUTHORIZED;
            return Ok(refused);
        };
        request.headers_mut().insert(USER, user);
    }
    if request.version() == Version::HTTP_2 {
        if let Some(authority) = request.uri().authority() {
            let host = HeaderValue::from_str(authority.as_str())?;
            request.headers_mut().insert(header::HOST, host);
        }
        *request.uri_mut() = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse()?;
        *request.version_mut() = Version::HTTP_11;
    }
    request.headers_mut().remove(header::CONNECTION);
    let ready = proxy.ready();
    let mut sender = match ready {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(proxy.upstream).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
            spawn_local(connection);
            sender
        }
    };
    let mut answer = sender.send_request(request).await?;
    proxy.idle.borrow_mut().push_back(sender);
    answer.headers_mut().remove(header::CONNECTION);
    Ok(answer.map(|body| body.boxed()))
}

impl Proxy {
    /// The connection that was given back first is the one whose answer has most likely ended.
    fn ready(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.idle.borrow_mut();
        for _ in 0..idle.len().min(4) {
            match idle.pop_front() {
                Some(sender) if sender.is_ready() => return Some(sender),
                Some(sender) if !sender.is_closed() => idle.push_back(sender),
                Some(_) | None => {}
            }
        }
        None
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    exp: u64,
    nbf: Option<u64>,
}

impl Verify {
    fn new(keys: &str, issuer: &str, audience: &str) -> Result<Self, Failure> {
        let set: JwkSet = serde_json::from_slice(&fs::read(keys)?)?;
        let read = |text: &str| URL_SAFE_NO_PAD.decode(text);
        let mut keys = HashMap::new();
        for jwk in set.keys {
            let key = if jwk.n.is_empty() {
                Key::Es256([vec![4], read(&jwk.x)?, read(&jwk.y)?].concat())
            } else {
                Key::Rs256(RsaPublicKeyComponents { n: read(&jwk.n)?, e: read(&jwk.e)? })
            };
            keys.insert(jwk.kid, key);
        }
        Ok(Self { keys, issuer: issuer.into(), audience: audience.into() })
    }

    fn check(&self, token: &[u8]) -> Option<HeaderValue> {
        let mut parts = token.rsplitn(2, |byte| *byte == b'.');
        let (mac, signed) = (parts.next()?, parts.next()?);
        let mut parts = signed.splitn(2, |byte| *byte == b'.');
        let head: Head = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        match (self.keys.get(&head.kid)?, head.alg.as_str()) {
            (Key::Rs256(key), "RS256") => key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, &mac).ok()?,
            (Key::Es256(key), "ES256") => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key).verify(signed, &mac).ok()?,
            _ => return None,
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let good = claims.iss == self.issuer && claims.aud == self.audience && now < claims.exp && claims.nbf.is_none_or(|from| from <= now);
        good.then(|| HeaderValue::from_str(&claims.sub).ok()).flatten()
    }
}
