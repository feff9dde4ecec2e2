//! An application that costs next to nothing, and the few things that measuring proxies needs beside it.
//!
//! ```text
//! upstream 127.0.0.1:9100
//! ```
//!
//! `/big` answers 1 MiB, `/stream/N` N bytes, `/echo` the head as it came, a WebSocket gets its messages back, and everything else 200 and 128
//! bytes.

use std::env;
use std::io;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::runtime::LocalOptions;
use tokio::task::spawn_local;

const BIG: usize = 1 << 20;

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:9100".into());
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(serve(stream));
        }
    })
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// The value of a field, whatever the case of its name.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let plain = answer(&"u".repeat(128));
    let mut big = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {BIG}\r\n\r\n").into_bytes();
    big.resize(big.len() + BIG, b'b');
    let mut read = Vec::with_capacity(8192);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        // The common case: a whole head without a body.
        if read.starts_with(b"GET / ") && read.ends_with(b"\r\n\r\n") {
            stream.write_all(&plain).await?;
            read.clear();
            continue;
        }
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).into_owned();
        let mut body = read.split_off(end + 4);
        read.clear();
        let length = field(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0_usize);
        let chunked = field(&head, "transfer-encoding").is_some();
        let mut got = body.len();
        let mut piece = vec![0; 64 * 1024];
        while if chunked { !body.ends_with(b"0\r\n\r\n") } else { got < length } {
            let n = stream.read(&mut piece).await?;
            if n == 0 {
                return Ok(());
            }
            got += n;
            if chunked {
                body.extend_from_slice(piece.get(..n).unwrap_or_default());
            }
        }
        if let Some(key) = field(&head, "sec-websocket-key") {
            return websocket(stream, key).await;
        }
        let path = head.split(' ').nth(1).unwrap_or("/");
        let path = path.split('?').next().unwrap_or(path);
        if path.ends_with("/big") {
            stream.write_all(&big).await?;
        } else if let Some(bytes) = path.strip_prefix("/stream/").and_then(|bytes| bytes.parse::<usize>().ok()) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut left = bytes;
            while left != 0 {
                let some = left.min(BIG);
                stream.write_all(big.get(big.len() - some..).unwrap_or_default()).await?;
                left -= some;
            }
        } else if path.ends_with("/echo") {
            stream.write_all(&answer(&head)).await?;
        } else {
            stream.write_all(&plain).await?;
        }
        if field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
}

/// Answers every message with the same one. Messages are short and not fragmented.
async fn websocket(mut stream: TcpStream, key: &str) -> io::Result<()> {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    let accept = STANDARD.encode(digest);
    let head = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut read = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        // Two bytes of head, four of mask, fewer than 126 of payload.
        while let [first, second, a, b, c, d, rest @ ..] = read.as_slice() {
            let length = usize::from(second & 0x7F);
            let Some(payload) = rest.get(..length) else {
                break;
            };
            let (first, mask) = (*first, [*a, *b, *c, *d]);
            out.extend_from_slice(&[first, second & 0x7F]);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            read.drain(..6 + length);
            if first & 0x0F == 8 {
                stream.write_all(&out).await?;
                return Ok(());
            }
        }
        stream.write_all(&out).await?;
    }
}
