//! Stands between a provider and its real server, and does what a real server cannot be made to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::copy_bidirectional;
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

/// A way to a server that can be closed.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    way: Arc<Mutex<Way>>,
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
        let (chosen, open) = (Arc::clone(&way), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let way = chosen.lock().unwrap().clone();
                open.lock().unwrap().spawn(serve(stream, way, port));
            }
        });
        Self {
            address,
            way,
            connections,
            task,
        }
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

async fn serve(mut client: TcpStream, way: Way, port: u16) {
    match way {
        Way::Through => {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            copy_bidirectional(&mut client, &mut server).await.ok();
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
