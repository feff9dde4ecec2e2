//! A provider's HTTP server for tests: it answers what it is told to, and remembers what it was asked.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Answers.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// Answers once it is told to.
    Held(Arc<Notify>, Box<Self>),
    /// Never answers.
    Hang,
    /// Closes the connection.
    Cut,
}

impl Reply {
    /// 200 with a document.
    pub(super) fn json(value: &Value) -> Self {
        Self::text(200, &value.to_string())
    }

    /// Any status with any text.
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// The same with a header more.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

#[derive(Debug, Default)]
struct Script {
    next: HashMap<String, VecDeque<Reply>>,
    always: HashMap<String, Reply>,
    seen: Vec<Seen>,
}

/// The server. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct Fake {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Listens on a port of its own. What it has not been told about is 404.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            // Dropped with the task, and with it every connection.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&script), request));
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Self {
            address,
            script,
            task,
        }
    }

    /// An address on this server.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What `path` answers from here on.
    pub(super) fn always(&self, path: &str, reply: Reply) {
        self.script
            .lock()
            .unwrap()
            .always
            .insert(path.to_owned(), reply);
    }

    /// What `path` answers next, before what it always answers.
    pub(super) fn next(&self, path: &str, reply: Reply) {
        let mut script = self.script.lock().unwrap();
        script
            .next
            .entry(path.to_owned())
            .or_default()
            .push_back(reply);
    }

    /// The requests for `path` so far.
    pub(super) fn seen(&self, path: &str) -> Vec<Seen> {
        let script = self.script.lock().unwrap();
        let of_path = script.seen.iter().filter(|seen| seen.path == path);
        of_path.cloned().collect()
    }

    /// Nobody listens any more.
    pub(super) async fn stop(&mut self) {
        self.task.abort();
        (&mut self.task).await.ok();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let path = head.uri.path().to_owned();
    let mut reply = {
        let mut script = script.lock().unwrap();
        script.seen.push(Seen {
            method: head.method,
            path: path.clone(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        let next = script.next.get_mut(&path).and_then(VecDeque::pop_front);
        next.or_else(|| script.always.get(&path).cloned())
            .unwrap_or_else(|| Reply::text(404, ""))
    };
    loop {
        match reply {
            Reply::Answer {
                status,
                headers,
                body,
            } => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                return Ok(response.body(Full::new(body)).unwrap());
            }
            Reply::Held(until, then) => {
                until.notified().await;
                reply = *then;
            }
            Reply::Hang => {
                let never: Result<Infallible, _> = std::future::pending().await;
                return never.map(|never| match never {});
            }
            Reply::Cut => return Err(std::io::Error::other("cut")),
        }
    }
}
