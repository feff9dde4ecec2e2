//! The upstream: it keeps the exact bytes, the connection they came on, and counts what it takes for requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::wire::h1::find;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which connection it came on.
    pub(crate) connection: u64,
    /// Request line and fields, byte for byte.
    pub(crate) head: Vec<u8>,
    /// The body, without framing.
    pub(crate) body: Vec<u8>,
    /// What came is no request: bytes of one that somebody cut in two, or bytes in a tunnel that is not open yet.
    pub(crate) garbage: bool,
}

/// How the upstream answers.
#[derive(Clone, Debug, Default)]
pub(crate) enum Manner {
    /// 200, with the head it saw.
    #[default]
    Echo,
    /// This status.
    Status(u16),
    /// These bytes; then the connection stays open.
    Bytes(Vec<u8>),
    /// Half of a body, then the end of the connection.
    HalfBody,
    /// Nothing, for as long as anybody waits.
    Silence,
    /// As `Echo`, but one of so many fails: with 500, or by the end of the connection.
    Sometimes(usize),
    /// As `Echo`, but the connection ends after so long without a request.
    ShortIdle(Duration),
    /// This head, and then the same line again and again.
    Endless(Vec<u8>, Vec<u8>),
}

/// A raw HTTP/1.1 server.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    manner: Mutex<Manner>,
}

impl Seen {
    /// Names (as they came) and values.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text: String = self.head.iter().map(|b| char::from(*b)).collect();
        let lines = text.split("\r\n").skip(1);
        lines
            .filter(|line| !line.is_empty())
            .map(|line| match line.split_once(':') {
                Some((name, value)) => {
                    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
                }
                None => (line.to_owned(), String::new()),
            })
            .collect()
    }

    /// The request line.
    pub(crate) fn line(&self) -> String {
        let end = find(&self.head, b"\r\n").unwrap_or(self.head.len());
        String::from_utf8_lossy(self.head.get(..end).unwrap_or_default()).into_owned()
    }
}

impl Upstream {
    /// Listens on a free loopback port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let upstream = Self {
            address: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
        };
        let state = Arc::clone(&upstream.state);
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                tokio::spawn(serve(stream, connection, Arc::clone(&state)));
            }
        });
        upstream
    }

    /// Answers otherwise from now on.
    pub(crate) fn behave(&self, manner: Manner) {
        *lock(&self.state.manner) = manner;
    }

    /// Answers as usual, and forgets.
    pub(crate) fn calm(&self) {
        self.behave(Manner::Echo);
        lock(&self.state.seen).clear();
    }

    /// How many requests it counted.
    pub(crate) fn count(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// What arrived after the first `before` ones.
    pub(crate) fn since(&self, before: usize) -> Vec<Seen> {
        lock(&self.state.seen)
            .get(before..)
            .unwrap_or_default()
            .to_vec()
    }
}

async fn serve(mut stream: TcpStream, connection: u64, state: Arc<State>) {
    let mut rest = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = find(&rest, b"\r\n\r\n") {
                break at + 4;
            }
            let idle = match &*lock(&state.manner) {
                Manner::ShortIdle(idle) => *idle,
                _ => Duration::from_secs(3600),
            };
            let more = timeout(idle, fill(&mut stream, &mut rest)).await;
            if !more.unwrap_or(false) {
                if !rest.is_empty() {
                    keep(
                        &state,
                        connection,
                        std::mem::take(&mut rest),
                        Vec::new(),
                        true,
                    );
                }
                return;
            }
        };
        let head: Vec<u8> = rest.drain(..end).collect();
        let good = is_request(&head);
        let one = Seen {
            connection,
            head: head.clone(),
            body: Vec::new(),
            garbage: !good,
        };
        let fields = one.fields();
        let has = |name: &str, value: &str| {
            fields
                .iter()
                .any(|(n, v)| n.eq_ignore_ascii_case(name) && v.eq_ignore_ascii_case(value))
        };
        if has("expect", "100-continue") {
            drop(stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await);
        }
        let at = keep(&state, connection, head.clone(), Vec::new(), !good);
        if has("upgrade", "websocket") {
            tunnel(stream, rest, connection, &state).await;
            return;
        }
        let length = fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case("content-length"));
        let length: usize = length.and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
        let chunked = fields
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case("transfer-encoding"));
        let body = if chunked {
            read_chunked(&mut stream, &mut rest).await
        } else {
            read_length(&mut stream, &mut rest, length).await
        };
        let Some(body) = body else { return };
        if let Some(one) = lock(&state.seen).get_mut(at) {
            one.body = body;
        }
        if !answer(&mut stream, &state, &head).await {
            return;
        }
    }
}

fn keep(state: &State, connection: u64, head: Vec<u8>, body: Vec<u8>, garbage: bool) -> usize {
    let mut seen = lock(&state.seen);
    seen.push(Seen {
        connection,
        head,
        body,
        garbage,
    });
    seen.len() - 1
}

/// Nothing may come before the tunnel is open: it opens late on purpose.
async fn tunnel(mut stream: TcpStream, mut rest: Vec<u8>, connection: u64, state: &State) {
    sleep(Duration::from_millis(150)).await;
    let mut early = [0; 1024];
    if let Ok(n @ 1..) = stream.try_read(&mut early) {
        rest.extend_from_slice(&early[..n]);
    }
    if !rest.is_empty() {
        keep(state, connection, rest, Vec::new(), true);
    }
    // The value for the example key of RFC 6455 §1.3, which the cases use.
    let opened =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    if stream.write_all(opened).await.is_ok() {
        let mut ignored = [0; 4096];
        while let Ok(1..) = stream.read(&mut ignored).await {}
    }
}

async fn answer(stream: &mut TcpStream, state: &State, head: &[u8]) -> bool {
    let manner = lock(&state.manner).clone();
    let bytes = match manner {
        Manner::Echo | Manner::ShortIdle(_) => plain(200, head),
        Manner::Sometimes(every) => {
            let count = lock(&state.seen).len();
            if count.is_multiple_of(2 * every) {
                return false;
            }
            if count.is_multiple_of(every) {
                plain(500, b"as told")
            } else {
                plain(200, head)
            }
        }
        Manner::Status(status) => plain(status, b"as told"),
        Manner::Bytes(bytes) => bytes,
        Manner::HalfBody => {
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf";
            drop(stream.write_all(half).await);
            return false;
        }
        Manner::Silence => {
            sleep(Duration::from_secs(60)).await;
            return false;
        }
        Manner::Endless(head, again) => {
            let mut ok = stream.write_all(&head).await.is_ok();
            let mut sent = 0;
            while ok && sent < 64 * 1024 * 1024 {
                ok = stream.write_all(&again).await.is_ok();
                sent += again.len();
            }
            return false;
        }
    };
    stream.write_all(&bytes).await.is_ok()
}

fn plain(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} As-Told\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A method, a target and a version: anything else is the inside of something.
fn is_request(head: &[u8]) -> bool {
    let end = find(head, b"\r\n").unwrap_or(head.len());
    let line = String::from_utf8_lossy(head.get(..end).unwrap_or_default());
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return false;
    };
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    token(method) && (target.starts_with('/') || target == "*") && version.starts_with("HTTP/1.")
}

async fn read_length(stream: &mut TcpStream, rest: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    // Bodies are not kept beyond what a case compares.
    let mut left = length;
    let mut body = Vec::new();
    loop {
        let take = left.min(rest.len());
        let part: Vec<u8> = rest.drain(..take).collect();
        left -= take;
        if body.len() < 64 * 1024 {
            body.extend(part);
        }
        if left == 0 {
            return Some(body);
        }
        if !fill(stream, rest).await {
            return None;
        }
    }
}

async fn read_chunked(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = find(rest, b"\r\n") {
                break at;
            }
            if !fill(stream, rest).await {
                return None;
            }
        };
        let size = String::from_utf8_lossy(rest.get(..line)?).into_owned();
        let size = size.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest.drain(..line + 2);
        if size == 0 {
            loop {
                match find(rest, b"\r\n") {
                    Some(0) => {
                        rest.drain(..2);
                        return Some(body);
                    }
                    Some(at) => {
                        rest.drain(..at + 2);
                    }
                    None => {
                        if !fill(stream, rest).await {
                            return None;
                        }
                    }
                }
            }
        }
        let part = read_length(stream, rest, size).await?;
        body.extend(part);
        while rest.len() < 2 {
            if !fill(stream, rest).await {
                return None;
            }
        }
        rest.drain(..2);
    }
}

async fn fill(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk).await {
        Ok(0) | Err(_) => false,
        Ok(n) => {
            into.extend_from_slice(&chunk[..n]);
            true
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
