//! A client that sends exactly the bytes it is given.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// One answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The fields in order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first field called `name` (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// All values of `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `Set-Cookie` pairs, `name=value` without attributes.
    pub(crate) fn cookies(&self) -> Vec<String> {
        self.all("set-cookie")
            .iter()
            .map(|c| c.split(';').next().unwrap().to_owned())
            .collect()
    }
}

/// `GET target`, with `Host: app.test`.
pub(crate) async fn get(to: SocketAddr, target: &str) -> Answer {
    let host = if target.starts_with("/-/") || target == "/metrics" {
        to.to_string()
    } else {
        "app.test".to_owned()
    };
    raw(
        to,
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .await
}

/// One request with fields of the caller's choice, to `Host: app.test` unless a field says otherwise.
pub(crate) async fn request(
    to: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !fields.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        head.push_str("Host: app.test\r\n");
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    raw(to, &bytes).await
}

/// Sends `bytes` on a fresh connection and reads the first answer.
///
/// # Panics
///
/// When no whole answer comes in time.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read(&mut stream).await
    })
    .await
    .expect("no answer in time")
}

/// Reads one answer from `stream`.
pub(crate) async fn read(stream: &mut TcpStream) -> Answer {
    let mut seen = Vec::new();
    let end = loop {
        if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        let mut chunk = vec![0; 4096];
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        assert!(
            n != 0,
            "closed before a whole head: {:?}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&chunk[..n]);
    };
    let head = String::from_utf8_lossy(&seen[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status: u16 = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    let mut rest = seen.split_off(end);
    let of = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    let body = if let Some(length) = of("content-length") {
        let length: usize = length.parse().unwrap();
        while rest.len() < length {
            more(stream, &mut rest).await;
        }
        rest.truncate(length);
        rest
    } else if of("transfer-encoding").is_some() {
        chunked(stream, rest).await
    } else if status == 101 || status == 204 || status == 304 {
        Vec::new()
    } else {
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    };
    Answer {
        status,
        headers,
        body,
    }
}

async fn more(stream: &mut TcpStream, into: &mut Vec<u8>) {
    let mut chunk = vec![0; 16 * 1024];
    let n = stream.read(&mut chunk).await.unwrap();
    assert!(n != 0, "closed inside a body");
    into.extend_from_slice(&chunk[..n]);
}

async fn chunked(stream: &mut TcpStream, mut rest: Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            more(stream, &mut rest).await;
        };
        let size =
            usize::from_str_radix(String::from_utf8_lossy(&rest[..line]).trim(), 16).unwrap();
        while rest.len() < line + 2 + size + 2 {
            more(stream, &mut rest).await;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest.drain(..line + 2 + size + 2);
        if size == 0 {
            return body;
        }
    }
}
