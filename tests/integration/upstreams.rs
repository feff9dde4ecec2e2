//! Applications that speak WebSocket, break off, or go away, as a client behind us sees them.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::two_providers;

pub(crate) const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked frame with one byte, as a client sends it.
const FRAME: &[u8] = &[0x82, 0x81, 0, 0, 0, 0, b'x'];

/// An address at which nobody listens, and what keeps others from it.
pub(crate) fn refusing() -> (TcpSocket, SocketAddr) {
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    (taken, address)
}

/// What an application of raw bytes says in a tunnel to what it has heard; how much of that is new.
pub(crate) type Speech = fn(&mut Vec<u8>, usize) -> Vec<u8>;

/// An application of raw bytes: tells every head it read, answers what `answer` says, then answers frames, and tells the rest.
pub(crate) async fn application(
    answer: fn(&str) -> String,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    speaking(answer, |heard, _| {
        let mut said = Vec::new();
        while let Some(at) = heard.windows(FRAME.len()).position(|w| w == FRAME) {
            heard.drain(..at + FRAME.len());
            // A server's frames are not masked.
            said.extend_from_slice(&[0x82, 0x01, b'x']);
        }
        said
    })
    .await
}

/// The same with another speech in its tunnels; it tells what that leaves of what was heard.
pub(crate) async fn speaking(
    answer: fn(&str) -> String,
    speech: Speech,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let (head, mut heard) = read_head(&mut stream).await;
                let answer = answer(&head);
                drop(tell.send(head));
                drop(stream.write_all(answer.as_bytes()).await);
                if !answer.contains(" 101 ") {
                    return;
                }
                let (mut chunk, mut new) = ([0; 1024], heard.len());
                loop {
                    let said = speech(&mut heard, new);
                    drop(stream.write_all(&said).await);
                    let Ok(read @ 1..) = stream.read(&mut chunk).await else {
                        break;
                    };
                    heard.extend_from_slice(&chunk[..read]);
                    new = read;
                }
                drop(tell.send(String::from_utf8_lossy(&heard).into_owned()));
            });
        }
    });
    (address, told)
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut seen = Vec::new();
    loop {
        if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = seen.split_off(at + 4);
            return (String::from_utf8(seen).unwrap(), rest);
        }
        let mut chunk = [0; 1024];
        let n = stream.read(&mut chunk).await.unwrap();
        if n == 0 {
            return (String::from_utf8_lossy(&seen).into_owned(), Vec::new());
        }
        seen.extend_from_slice(&chunk[..n]);
    }
}

/// The answer of a WebSocket server (RFC 6455 §4.2.2).
pub(crate) fn accept(head: &str) -> String {
    let key = head
        .lines()
        .find_map(|l| l.strip_prefix("sec-websocket-key: "))
        .unwrap();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    );
    let accept = STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The program before `application`, with sockets for everybody at `/ws`.
async fn before(application: SocketAddr) -> Proxy {
    behind(
        application,
        "{ path: /ws, access: public, websocket: true }",
    )
    .await
}

/// The program before `application`, with this route before one that is public.
pub(crate) async fn behind(application: SocketAddr, route: &str) -> Proxy {
    let (old, new, echo) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let routes = format!("routes:\n      - {route}\n      - {{ path: \"/*\", access: public }}");
    let yaml = two_providers(&old, &new, &echo, 50)
        .replace(&echo.url(), &format!("http://{application}"))
        .replace("public_paths: [/public/*]", &routes);
    Proxy::start(&yaml)
}

pub(crate) async fn connect(proxy: &Proxy, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Everything until the end of the connection; whether it ended cleanly.
pub(crate) async fn to_end(stream: &mut TcpStream) -> (String, bool) {
    let mut all = Vec::new();
    let clean = timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .unwrap()
        .is_ok();
    (String::from_utf8_lossy(&all).into_owned(), clean)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_over_http_1() {
    let (address, mut told) = application(accept).await;
    let proxy = before(address).await;
    let mut stream = connect(&proxy, HANDSHAKE.as_bytes()).await;
    let (head, rest) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    assert!(rest.is_empty());
    stream.write_all(FRAME).await.unwrap();
    let mut echoed = [0; 3];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(echoed, [0x82, 0x01, b'x']);
    drop(stream);
    assert!(
        told.recv()
            .await
            .unwrap()
            .starts_with("GET /ws HTTP/1.1\r\nhost: app.test\r\n")
    );
    assert_eq!(told.recv().await.unwrap(), "");
}

/// A connection that asks for a tunnel (RFC 8441), and whatever comes of that.
pub(crate) async fn extended_connect(
    proxy: &Proxy,
    path: &str,
    protocol: &'static str,
) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://app.test{path}"))
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static(protocol))
        .body(Empty::<Bytes>::new())
        .unwrap();
    timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
}

/// To whoever asked for a tunnel over HTTP/2, 200 says that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_200_that_is_no_tunnel_does_not_look_like_one_over_http_2() {
    for (answer, status) in [
        (
            (|_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()) as fn(&str) -> String,
            502,
        ),
        (
            |_| "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".to_owned(),
            404,
        ),
    ] {
        let (address, _told) = application(answer).await;
        let proxy = before(address).await;
        let response = extended_connect(&proxy, "/ws", "websocket").await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_over_http_2() {
    let (address, mut told) = application(accept).await;
    let proxy = before(address).await;
    let mut response = extended_connect(&proxy, "/ws", "websocket").await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    tunnel.write_all(FRAME).await.unwrap();
    let mut echoed = [0; 3];
    timeout(PATIENCE, tunnel.read_exact(&mut echoed))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(echoed, [0x82, 0x01, b'x']);
    assert!(
        told.recv()
            .await
            .unwrap()
            .starts_with("GET /ws HTTP/1.1\r\nhost: app.test\r\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_before_the_101_reach_the_application_as_frames_or_not_at_all() {
    let (address, mut told) = application(accept).await;
    let proxy = before(address).await;
    let early = format!(
        "{HANDSHAKE}GET /admin/secrets HTTP/1.1\r\nHost: app.test\r\nX-Smuggled: 1\r\n\r\n"
    );
    let mut stream = connect(&proxy, early.as_bytes()).await;
    let (seen, _) = to_end(&mut stream).await;
    assert!(
        seen.starts_with("HTTP/1.1 101 ") && seen.matches("HTTP/1.1").count() == 1,
        "{seen}"
    );
    told.recv().await.unwrap();
    let tunnelled = told.recv().await.unwrap();
    assert!(!tunnelled.contains("GET"), "{tunnelled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_a_refused_handshake_are_no_request() {
    for answer in [
        |_: &str| "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        |_: &str| {
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n".to_owned()
        },
        |_: &str| "nonsense\r\n\r\n".to_owned(),
    ] {
        let (address, mut told) = application(answer).await;
        let proxy = before(address).await;
        let early = format!(
            "{HANDSHAKE}GET /admin/secrets HTTP/1.1\r\nHost: app.test\r\nX-Smuggled: 1\r\n\r\n"
        );
        let mut stream = connect(&proxy, early.as_bytes()).await;
        let (seen, _) = to_end(&mut stream).await;
        assert!(
            seen.starts_with("HTTP/1.1 404 ") || seen.starts_with("HTTP/1.1 502 "),
            "{seen}"
        );
        assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "{seen}");
        drop(proxy);
        while let Ok(head) = told.try_recv() {
            assert!(
                !head.contains("X-Smuggled") && !head.contains("x-smuggled"),
                "{head}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_whole() {
    for (answer, whole) in [
        (
            (|_| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned())
                as fn(&str) -> String,
            "half",
        ),
        (
            |_| "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_owned(),
            "0\r\n\r\n",
        ),
    ] {
        let (address, _told) = application(answer).await;
        let proxy = before(address).await;
        let mut stream = connect(
            &proxy,
            b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        )
        .await;
        let (seen, _) = to_end(&mut stream).await;
        assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
        if whole == "half" {
            assert!(
                seen.to_ascii_lowercase().contains("content-length: 10\r\n")
                    && seen.len() < seen.find("\r\n\r\n").unwrap() + 14,
                "{seen}"
            );
        } else {
            assert!(!seen.ends_with(whole), "{seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_away_is_502_and_the_proxy_lives_on() {
    let (_taken, address) = refusing();
    let proxy = before(address).await;
    for _ in 0..3 {
        let answer = crate::harness::get(proxy.address, "/").await;
        assert_eq!(answer.status, 502);
        assert!(
            !answer.text().contains("refused") && !answer.text().contains("127.0.0.1"),
            "{}",
            answer.text()
        );
    }
}
