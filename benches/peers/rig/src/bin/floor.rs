//! What hyper costs when nobody thinks: a proxy with one thread and a pool that forwards the head as it came.
//!
//! ```text
//! floor 127.0.0.1:8003 127.0.0.1:9100
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::task::spawn_local;

type Failure = Box<dyn Error + Send + Sync>;

struct Proxy {
    upstream: SocketAddr,
    idle: RefCell<VecDeque<SendRequest<Incoming>>>,
}

fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    let (Some(listen), Some(upstream)) = (args.next(), args.next()) else {
        return Err("usage: floor LISTEN UPSTREAM".into());
    };
    let proxy = Rc::new(Proxy { upstream: upstream.parse()?, idle: RefCell::default() });
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
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

async fn forward(proxy: Rc<Proxy>, mut request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
    request.headers_mut().remove(hyper::header::CONNECTION);
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
    answer.headers_mut().remove(hyper::header::CONNECTION);
    Ok(answer)
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
