//! An upstream that keeps the exact bytes it got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The request line and all fields, byte for byte.
    pub(crate) head: String,
    /// The body, framing removed where it had a length.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// All values of a field, by its name in any case.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|l| l.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim().to_owned())
            .collect()
    }

    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.split("\r\n").next().unwrap()
    }
}

/// Answers with the head it saw: 200, or 401 at `/asks/again`. Its own sign-in form comes back to `/login`, with a `name`.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Echo {
    /// Listens on a free loopback port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&echo.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen)));
            }
        });
        echo
    }

    /// For `upstream: { url: … }`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("nothing reached the upstream")
    }

    /// How many requests have arrived.
    pub(crate) fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut rest = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !fill(&mut stream, &mut rest).await {
                return;
            }
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest.drain(..end);
        let mut one = Seen {
            head,
            body: Vec::new(),
        };
        let length: usize = one
            .all("content-length")
            .first()
            .map_or(0, |v| v.parse().unwrap());
        if one.all("transfer-encoding").is_empty() {
            while rest.len() < length {
                if !fill(&mut stream, &mut rest).await {
                    return;
                }
            }
            one.body = rest.drain(..length).collect();
        } else {
            while !rest.windows(5).any(|w| w == b"0\r\n\r\n") {
                if !fill(&mut stream, &mut rest).await {
                    return;
                }
            }
            one.body = std::mem::take(&mut rest);
        }
        let body = one.head.clone();
        let asks = one.line().split(' ').nth(1) == Some("/asks/again");
        let status = match signed_in(&one) {
            Some(fields) => format!("303 See Other\r\n{fields}"),
            None if asks => "401 Unauthorized".to_owned(),
            None => "200 OK".to_owned(),
        };
        seen.lock().unwrap().push(one);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// What a sign-in form gets: the session of an [`OldSystem`](super::OldSystem), and the page that its person wanted; `None`: the
/// password is `wrong`. Whoever comes with a session gets that page and the next session, whatever they typed.
fn signed_in(one: &Seen) -> Option<String> {
    let target = one.line().strip_prefix("POST /login?next=")?;
    let next = target.split(' ').next()?.replace("%2F", "/");
    let next = next.replace("%3F", "?").replace("%3D", "=");
    let cookies = one.all("cookie").join("; ");
    let mut cookies = cookies.split("; ");
    let session = cookies.find_map(|pair| pair.strip_prefix("SID="));
    if let Some((name, number)) = session.and_then(|session| session.split_once('.'))
        && name != "visitor"
    {
        let next_number = number.parse::<u32>().unwrap() + 1;
        return Some(format!(
            "Set-Cookie: SID={name}.{next_number}; Path=/; HttpOnly\r\nLocation: {next}"
        ));
    }
    let body = String::from_utf8_lossy(&one.body);
    let name = body
        .split('&')
        .find_map(|pair| pair.strip_prefix("name="))?;
    let wrong = body.split('&').any(|pair| pair == "password=wrong");
    let name = Some(name).filter(|_| !wrong)?;
    // It is called by its number too.
    let name = name.strip_prefix("uid-").unwrap_or(name);
    Some(format!(
        "Set-Cookie: SID={name}.1; Path=/; HttpOnly\r\nLocation: {next}"
    ))
}

async fn fill(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut chunk = vec![0; 16 * 1024];
    match stream.read(&mut chunk).await {
        Ok(0) | Err(_) => false,
        Ok(n) => {
            into.extend_from_slice(&chunk[..n]);
            true
        }
    }
}
