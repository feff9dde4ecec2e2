//! A real Redis on a free loopback port, and the wires to it, which can be slow or cut.

use std::io::BufRead as _;
use std::io::BufReader;
use std::net::SocketAddr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

/// A server; killed when dropped. Each write is on its disk before it is answered.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    directory: TempDir,
    /// Where it listens, on loopback.
    pub(crate) port: u16,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        // Whoever takes the port in between has it: then another one is tried.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
            let port = free.local_addr().map_err(|e| e.to_string())?.port();
            drop(free);
            if let Some(child) = launch(port, &directory)? {
                let redis = Self {
                    child,
                    directory,
                    port,
                };
                redis.answers().await?;
                return Ok(redis);
            }
        }
        Err("redis-server does not listen".to_owned())
    }

    async fn answers(&self) -> Result<(), String> {
        let start = Instant::now();
        while self.ask(&["PING"]).await.as_deref() != Ok("+PONG") {
            if Duration::from_secs(10) < start.elapsed() {
                return Err("redis-server does not answer".to_owned());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// One command; the first line of the answer.
    pub(crate) async fn ask(&self, words: &[&str]) -> Result<String, String> {
        let said = self.talk(words).await?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// One command behind a password; the first line of its answer.
    pub(crate) async fn ask_as(&self, password: &str, words: &[&str]) -> Result<String, String> {
        let said = self.say(&[&["AUTH", password], words]).await?;
        let said = said.lines().nth(1).unwrap_or_default().to_owned();
        if said.starts_with('-') {
            return Err(format!("Redis says {said}"));
        }
        Ok(said)
    }

    /// One command; what comes within a moment.
    async fn talk(&self, words: &[&str]) -> Result<String, String> {
        self.say(&[words]).await
    }

    async fn say(&self, commands: &[&[&str]]) -> Result<String, String> {
        let talk = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let mut answer = vec![0; 16 * 1024];
            let mut n = 0;
            for words in commands {
                let mut command = format!("*{}\r\n", words.len());
                for word in *words {
                    command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
                }
                stream.write_all(command.as_bytes()).await?;
                n += stream.read(answer.get_mut(n..).unwrap_or_default()).await?;
            }
            answer.truncate(n);
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        match timeout(Duration::from_secs(2), talk).await {
            Ok(said) => said.map_err(|e| e.to_string()),
            Err(_) => Err("no answer from Redis".to_owned()),
        }
    }

    /// Follows another one, and has all that it has.
    pub(crate) async fn follow(&self, port: u16) -> Result<(), String> {
        self.ask(&["REPLICAOF", "127.0.0.1", &port.to_string()])
            .await?;
        let start = Instant::now();
        while !self
            .talk(&["INFO", "replication"])
            .await?
            .contains("master_link_status:up")
        {
            if Duration::from_secs(15) < start.elapsed() {
                return Err("the replica does not follow".to_owned());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Sends it a signal by name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(pid)
            .status();
        drop(sent);
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again with what is on its disk.
    pub(crate) async fn again(&mut self) -> Result<(), String> {
        self.kill();
        let start = Instant::now();
        // Others know it by its port: whoever has that for a moment gives it back.
        loop {
            if let Some(child) = launch(self.port, &self.directory)? {
                self.child = child;
                return self.answers().await;
            }
            if Duration::from_secs(10) < start.elapsed() {
                return Err("the port of redis-server is somebody else's".to_owned());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that listens; `None`: it could not have the port.
fn launch(port: u16, directory: &TempDir) -> Result<Option<Child>, String> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
        .args(["--repl-diskless-sync-delay", "0"])
        .arg("--dir")
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("redis-server: {e}"))?;
    // What answers at the port may be somebody else's: it says itself that it has it.
    let said = child.stdout.take().ok_or("redis-server says nothing")?;
    let mut lines = BufReader::new(said).lines();
    if !lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept"))) {
        child.wait().map_err(|e| e.to_string())?;
        return Ok(None);
    }
    // What else it says is read and dropped, so that it never waits for its reader.
    std::thread::spawn(move || for _line in lines {});
    Ok(Some(child))
}

/// A wire to a Redis, for one instance.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where the instance connects to.
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct State {
    port: u16,
    cut: bool,
    delay: Duration,
}

impl Link {
    /// A wire to the Redis at `port`.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, seen) = watch::channel(State {
            port,
            cut: false,
            delay: Duration::ZERO,
        });
        tokio::spawn(async move {
            // Nobody is left to change it: the case is over.
            while let Ok((stream, _)) = listener.accept().await {
                if seen.has_changed().is_err() {
                    return;
                }
                tokio::spawn(carry(stream, seen.clone()));
            }
        });
        Self { address, state }
    }

    /// What is said takes so much longer to arrive.
    pub(crate) fn slow(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Every connection ends, and no new one is made; or they are again.
    pub(crate) fn cut(&self, cut: bool) {
        self.state.send_modify(|state| state.cut = cut);
    }

    /// Leads to another Redis from now on.
    pub(crate) fn lead(&self, port: u16) {
        self.state.send_modify(|state| state.port = port);
    }
}

/// One connection, for as long as the wire leads where it led.
async fn carry(client: TcpStream, mut state: watch::Receiver<State>) {
    let start = *state.borrow();
    if start.cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", start.port)).await else {
        return;
    };
    let seen = state.clone();
    let ended = async {
        loop {
            let now = *state.borrow_and_update();
            if now.cut || now.port != start.port || state.changed().await.is_err() {
                return;
            }
        }
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (send, mut late) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::select! {
        () = ended => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = async {
            let mut chunk = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = from_server.read(&mut chunk).await {
                let due = Instant::now() + seen.borrow().delay;
                let bytes = chunk.get(..n).unwrap_or_default().to_vec();
                if send.send((due, bytes)).await.is_err() {
                    return;
                }
            }
        } => {}
        () = async {
            while let Some((due, bytes)) = late.recv().await {
                tokio::time::sleep_until(due).await;
                if to_client.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        } => {}
    }
}
