//! Small servers: what the providers stand on, the old application, and the attacker's sink.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A body of a double.
pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A free loopback port and its `HOST:PORT`.
pub(super) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address.to_string())
}

/// Serves until the end of the run.
pub(super) fn serve<H, F>(listener: TcpListener, tls: Option<Arc<ServerConfig>>, handle: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, handle) = (acceptor.clone(), handle.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handle(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            drop(http.serve_connection(TokioIo::new(stream), service).await);
                        }
                    }
                    None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                }
            });
        }
    });
}

/// A JSON answer.
pub(super) fn answer(status: u16, body: &Value) -> Response<Body> {
    text(status, "application/json", body.to_string())
}

/// Any answer.
pub(super) fn text(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::new(body.into()).boxed_unsync())
        .expect("the parts are good")
}

/// An old application: it knows who its cookie belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Legacy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<LegacyState>,
}

#[derive(Debug, Default)]
struct LegacyState {
    sessions: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<Vec<(String, String)>>>,
    redirects: Mutex<bool>,
}

impl Legacy {
    /// Starts on a free loopback port.
    pub(super) async fn start() -> Self {
        let (listener, _) = listen().await;
        let legacy = Self {
            address: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
        };
        let state = Arc::clone(&legacy.state);
        serve(listener, None, move |request| {
            let answer = judge(&state, &request);
            async move { answer }
        });
        legacy
    }

    /// A session for somebody: the value of the cookie.
    pub(crate) fn session(&self, user: &str) -> String {
        let value = crate::tokens::base64url(crate::tokens::unique());
        let mut sessions = self.state.sessions.lock().expect("no panic inside");
        sessions.insert(value.clone(), user.to_owned());
        value
    }

    /// Ends all sessions of somebody.
    pub(crate) fn log_out(&self, user: &str) {
        let mut sessions = self.state.sessions.lock().expect("no panic inside");
        sessions.retain(|_, owner| owner != user);
    }

    /// From now on every question is answered with a redirect to a login and cookies.
    pub(crate) fn redirect(&self) {
        *self.state.redirects.lock().expect("no panic inside") = true;
    }

    /// The fields of all questions so far.
    pub(crate) fn asked(&self) -> Vec<Vec<(String, String)>> {
        self.state.asked.lock().expect("no panic inside").clone()
    }

    /// As usual again.
    pub(crate) fn calm(&self) {
        *self.state.redirects.lock().expect("no panic inside") = false;
        self.state.asked.lock().expect("no panic inside").clear();
    }
}

fn judge(state: &LegacyState, request: &Request<Incoming>) -> Response<Body> {
    let fields: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let cookies: Vec<String> = fields
        .iter()
        .filter(|(name, _)| name == "cookie")
        .flat_map(|(_, value)| value.split("; ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    state.asked.lock().expect("no panic inside").push(fields);
    if *state.redirects.lock().expect("no panic inside") {
        let mut response = text(302, "text/html", "please sign in");
        let headers = response.headers_mut();
        headers.append("location", http::HeaderValue::from_static("/login"));
        headers.append(
            "set-cookie",
            http::HeaderValue::from_static("LEGACYSID=new"),
        );
        headers.append("set-cookie", http::HeaderValue::from_static("other=evil"));
        return response;
    }
    let sessions = state.sessions.lock().expect("no panic inside");
    let user = cookies
        .iter()
        .filter_map(|cookie| cookie.strip_prefix("LEGACYSID="))
        .find_map(|value| sessions.get(value));
    match user {
        Some(user) => answer(
            200,
            &json!({ "sub": format!("legacy-{user}"), "preferred_username": user, "groups": ["users"] }),
        ),
        None => answer(401, &json!({})),
    }
}

/// Counts who comes.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    hits: Arc<AtomicUsize>,
}

impl Sink {
    /// Starts on a free loopback port.
    pub(super) async fn start() -> Self {
        let (listener, _) = listen().await;
        let sink = Self {
            address: listener.local_addr().expect("it is bound"),
            hits: Arc::default(),
        };
        let hits = Arc::clone(&sink.hits);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                hits.fetch_add(1, Ordering::Relaxed);
                drop(stream);
            }
        });
        sink
    }

    /// How many came.
    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }
}
