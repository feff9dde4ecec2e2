//! The listeners of operators: TCP, a unix socket, and one for metrics alone. On the background runtime, so that they
//! answer while workers are busy.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;
use tracing::warn;

use crate::admin::backend::AdminBackend;
use crate::admin::guard::Guard;
use crate::admin::guard::Peer;
use crate::admin::routes;
use crate::admin::routes::Context;
use crate::admin::routes::Scope;
use crate::admin::settings::Settings;
use crate::admin::tls;
use crate::clock::SystemClock;
use crate::control::KillSwitch;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::TlsError;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Shed;

/// Connections at a time, for each listener.
const CONNECTIONS: usize = 64;

/// How long a request head may take, and how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// After this time a connection takes no further request; so whoever reads slowly cannot hold it for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// How long the last request of a connection may still take.
const LAST_REQUEST: Duration = Duration::from_secs(30);

/// How long to wait when a connection cannot be accepted, such as without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// A TCP address.
    #[error("the admin listener at {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The certificates of the TCP address.
    #[error("the admin listener at {address}: {}", tls::because(.source))]
    Tls {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: TlsError,
    },
    /// The unix socket.
    #[error("the admin socket at {path}: {error}")]
    Socket {
        /// The path.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// Listeners that serve until this is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    address: Option<SocketAddr>,
    #[cfg(test)]
    metrics_address: Option<SocketAddr>,
    _task: JoinSet<()>,
}

impl Admin {
    /// Opens what the settings name, and serves it on the present runtime, which must not be a worker's.
    ///
    /// # Errors
    ///
    /// When an address is taken, or another instance listens on the socket.
    pub(crate) async fn start(
        settings: &Settings,
        backend: Arc<dyn AdminBackend>,
        kill: Arc<KillSwitch>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let listeners = Listeners::bind(settings).await?;
        let address = listeners.address();
        #[cfg(test)]
        let metrics_address = listeners.metrics_address();
        let context = Context {
            backend,
            kill,
            metrics,
            clock: Arc::new(SystemClock),
        };
        let mut task = JoinSet::new();
        task.spawn(listeners.serve(context));
        Ok(Self {
            address,
            #[cfg(test)]
            metrics_address,
            _task: task,
        })
    }

    /// The address of the TCP listener.
    pub(crate) const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The address of the listener for metrics alone.
    #[cfg(test)]
    pub(crate) const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }
}

/// Open listeners that serve nobody yet.
#[derive(Debug)]
struct Listeners {
    tcp: Option<TcpListener>,
    socket: Option<(UnixListener, SocketFile)>,
    metrics: Option<TcpListener>,
    tls: Option<Arc<Certificates>>,
    guard: Arc<Guard>,
}

impl Listeners {
    /// Opens what the settings name.
    ///
    /// # Errors
    ///
    /// When an address is taken, or another instance listens on the socket.
    async fn bind(settings: &Settings) -> Result<Self, BindError> {
        let tcp = async |address: Option<SocketAddr>| match address {
            None => Ok(None),
            Some(address) => TcpListener::bind(address)
                .await
                .map(Some)
                .map_err(|error| BindError::Tcp { address, error }),
        };
        let socket = match &settings.socket {
            None => None,
            Some(path) => {
                let bound = bind_socket(path).await;
                Some(bound.map_err(|error| BindError::Socket {
                    path: path.clone(),
                    error,
                })?)
            }
        };
        let tls = match (&settings.tls, settings.listen) {
            (Some(tls), Some(address)) => {
                Some(Certificates::load(tls).map_err(|source| BindError::Tls { address, source })?)
            }
            (_, _) => None,
        };
        Ok(Self {
            tls,
            tcp: tcp(settings.listen).await?,
            socket,
            metrics: tcp(settings.metrics).await?,
            guard: Arc::new(Guard::new(settings.token.clone())),
        })
    }

    /// The address of the TCP listener.
    fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// The address of the listener for metrics alone.
    #[cfg(test)]
    fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves for ever. Whoever drops this cuts requests under way: an operator can ask again.
    async fn serve(self, context: Context) {
        let Self {
            tcp,
            socket,
            metrics,
            tls,
            guard,
        } = self;
        let desk = |scope| Desk {
            context: context.clone(),
            guard: Arc::clone(&guard),
            scope,
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        };
        let (socket, _file) = socket.map_or((None, None), |(s, file)| (Some(s), Some(file)));
        let mut listeners = JoinSet::new();
        if let Some(listener) = tcp {
            listeners.spawn(desk(Scope::Admin).accept_tcp(listener, tls));
        }
        if let Some(listener) = metrics {
            listeners.spawn(desk(Scope::Metrics).accept_tcp(listener, None));
        }
        if let Some(listener) = socket {
            listeners.spawn(desk(Scope::Admin).accept_unix(listener));
        }
        // The set ends its tasks when it is dropped, and each of them its connections.
        while listeners.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }
}

/// One listener's share of everything.
#[derive(Debug)]
struct Desk {
    context: Context,
    guard: Arc<Guard>,
    scope: Scope,
    room: Arc<Semaphore>,
}

impl Desk {
    async fn accept_tcp(self, listener: TcpListener, tls: Option<Arc<Certificates>>) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            let Ok(to) = stream.local_addr() else {
                continue;
            };
            match &tls {
                Some(tls) => self.open_tls(&mut connections, stream, tls, (from, to)),
                None => self.open(&mut connections, stream, Peer::Tcp { from, to }),
            }
        }
    }

    async fn accept_unix(self, listener: UnixListener) {
        let mut connections = JoinSet::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            let uid = stream.peer_cred().ok().map(|peer| peer.uid());
            self.open(&mut connections, stream, Peer::Unix { uid });
        }
    }

    /// Serves a connection beside the others, if there is room.
    fn open<S>(&self, connections: &mut JoinSet<()>, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(permit) = self.room(connections) else {
            return;
        };
        let (context, guard) = (self.context.clone(), Arc::clone(&self.guard));
        connections.spawn(converse(context, guard, self.scope, stream, peer, permit));
    }

    /// The same, once hands have been shaken.
    fn open_tls(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        tls: &Arc<Certificates>,
        ends: (SocketAddr, SocketAddr),
    ) {
        let Some(permit) = self.room(connections) else {
            return;
        };
        let (context, guard) = (self.context.clone(), Arc::clone(&self.guard));
        let (scope, tls) = (self.scope, Arc::clone(tls));
        connections.spawn(async move {
            match tls::accept(&tls, stream, ends, HEAD_PATIENCE).await {
                Ok((stream, peer)) => converse(context, guard, scope, stream, peer, permit).await,
                Err(error) => debug!(%error, "An admin connection was not taken."),
            }
        });
    }

    /// Room for one connection more; without it the connection is closed.
    fn room(&self, connections: &mut JoinSet<()>) -> Option<OwnedSemaphorePermit> {
        while connections.try_join_next().is_some() {}
        let permit = Arc::clone(&self.room).try_acquire_owned().ok();
        if permit.is_none() {
            self.context.metrics.shed(Shed::Admin, 1);
        }
        permit
    }
}

async fn converse<S>(
    context: Context,
    guard: Arc<Guard>,
    scope: Scope,
    stream: S,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| {
        let (context, guard, peer) = (&context, &guard, peer.clone());
        async move { Ok::<_, Infallible>(routes::answer(context, guard, scope, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(64)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match tokio::time::timeout(CONNECTION_LIFE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_REQUEST, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "An admin connection ended early.");
    }
}

async fn pause(error: &io::Error) {
    warn!(%error, "The admin listener cannot accept a connection.");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Removes the socket when the listener is gone.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            debug!(%error, "The admin socket was gone already.");
        }
    }
}

/// Opens the socket for its owner alone. It is made under another name and renamed, so that at no moment anybody else
/// could open it; what is left from a process that is gone is replaced.
async fn bind_socket(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another instance listens there",
        ));
    }
    let beside = path.with_extension("sock.new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&beside, path)?;
    Ok((listener, SocketFile(path.to_owned())))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::admin::fake::FakeAdmin;
    use crate::admin::fake::FakeBackend;

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str) -> String {
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn tcp(address: SocketAddr, head: &str) -> String {
        exchange(TcpStream::connect(address).await.unwrap(), head).await
    }

    #[track_caller]
    fn is(answer: &str, status: u16) {
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "not {status}: {answer}");
    }

    #[tokio::test]
    async fn each_door_asks_for_its_own_proof() {
        let bench = FakeAdmin::start(FakeBackend::default()).await;
        let head = "GET /-/config HTTP/1.1\r\nHost: 127.0.0.1";
        is(&tcp(bench.address(), head).await, 401);
        let with_token = format!("{head}\r\nAuthorization: Bearer token");
        is(&tcp(bench.address(), &with_token).await, 200);
        let from_a_page = format!("{with_token}\r\nOrigin: https://evil.test");
        is(&tcp(bench.address(), &from_a_page).await, 403);
        is(&tcp(bench.metrics_address(), &with_token).await, 404);
        is(
            &tcp(
                bench.metrics_address(),
                "GET /metrics HTTP/1.1\r\nHost: metrics",
            )
            .await,
            200,
        );

        let path = bench.socket();
        let stream = UnixStream::connect(&path).await.unwrap();
        let answer = exchange(stream, "GET /-/config HTTP/1.1\r\nHost: authferry").await;
        is(&answer, 200);
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_second_instance_does_not_take_the_socket_and_a_dead_ones_is_replaced() {
        let bench = FakeAdmin::start(FakeBackend::default()).await;
        let path = bench.socket();
        let error = bind_socket(&path).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let FakeAdmin {
            admin,
            directory: _kept,
        } = bench;
        drop(admin);
        // The task ends at its next turn.
        while path.exists() {
            tokio::task::yield_now().await;
        }
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind_socket(&path).await.unwrap();
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_turned_away_and_counted() {
        let bench = FakeAdmin::start(FakeBackend::default()).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(bench.address()).await.unwrap();
            // An answer proves that the connection has its place.
            stream
                .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            held.push(stream);
        }
        let mut one_more = TcpStream::connect(bench.address()).await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(one_more.read_to_end(&mut rest).await.unwrap_or_default(), 0);
        let text = tcp(bench.metrics_address(), "GET /metrics HTTP/1.1\r\nHost: x").await;
        assert!(
            text.contains(r#"authferry_shed_total{reason="admin"} 1"#),
            "{text}"
        );
    }
}
