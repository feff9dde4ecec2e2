//! Stands between a provider and its real server, and does what a real server cannot be made to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::copy;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

/// What becomes of a connection.
#[derive(Clone, Debug)]
enum Way {
    /// The server is on the other side.
    Through,
    /// These bytes answer whatever is asked.
    Answer(Vec<u8>),
    /// Nothing ever answers.
    Silent,
}

/// What went to the server.
#[derive(Debug, Default)]
struct Passed {
    connections: usize,
    bytes: Vec<u8>,
}

/// A way to a server that can be closed.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    way: Arc<Mutex<Way>>,
    passed: Arc<Mutex<Passed>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Leads to a server on this machine.
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::new(Mutex::new(Way::Through));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let passed = Arc::<Mutex<Passed>>::default();
        let (chosen, open) = (Arc::clone(&way), Arc::clone(&connections));
        let log = Arc::clone(&passed);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let way = chosen.lock().unwrap().clone();
                log.lock().unwrap().connections += 1;
                let serving = serve(stream, way, port, Arc::clone(&log));
                open.lock().unwrap().spawn(serving);
            }
        });
        Self {
            address,
            way,
            passed,
            connections,
            task,
        }
    }

    /// How many connections there have been.
    pub(super) fn connections(&self) -> usize {
        self.passed.lock().unwrap().connections
    }

    /// How often these bytes have gone to the server, as far as they are readable.
    pub(super) fn sent(&self, what: &str) -> usize {
        let passed = self.passed.lock().unwrap();
        let parts = passed.bytes.windows(what.len());
        parts.filter(|part| *part == what.as_bytes()).count()
    }

    /// From now on an answer that the server would not give.
    pub(super) fn answer(&self, bytes: impl Into<Vec<u8>>) {
        self.turn(Way::Answer(bytes.into()));
    }

    /// From now on nothing.
    pub(super) fn fall_silent(&self) {
        self.turn(Way::Silent);
    }

    /// Nobody listens any more.
    pub(super) async fn close(&mut self) {
        self.task.abort();
        drop((&mut self.task).await);
        self.connections.lock().unwrap().abort_all();
    }

    /// Connections of before do not outlive it: a pool would go on with them.
    fn turn(&self, way: Way) {
        *self.way.lock().unwrap() = way;
        self.connections.lock().unwrap().abort_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, way: Way, port: u16, passed: Arc<Mutex<Passed>>) {
    match way {
        Way::Through => {
            let server = TcpStream::connect(("127.0.0.1", port)).await;
            // A server that is away is one that nobody reaches here either.
            let Ok(mut server) = server else { return };
            let (mut from_server, mut to_server) = server.split();
            let (mut from_client, mut to_client) = client.split();
            let forth = async {
                let mut part = [0; 16 * 1024];
                while let Ok(length @ 1..) = from_client.read(&mut part).await {
                    passed.lock().unwrap().bytes.extend(&part[..length]);
                    if to_server.write_all(&part[..length]).await.is_err() {
                        return;
                    }
                }
                to_server.shutdown().await.ok();
            };
            let back = async {
                copy(&mut from_server, &mut to_client).await.ok();
                to_client.shutdown().await.ok();
            };
            tokio::join!(forth, back);
        }
        Way::Answer(bytes) => {
            // Something was asked; what it was does not matter.
            if client.read(&mut [0; 16 * 1024]).await.unwrap_or(0) == 0 {
                return;
            }
            client.write_all(&bytes).await.ok();
            client.shutdown().await.ok();
            client.read_to_end(&mut Vec::new()).await.ok();
        }
        Way::Silent => {
            client.read_to_end(&mut Vec::new()).await.ok();
            std::future::pending().await
        }
    }
}
