//! SIGTERM: what was accepted is answered, then the program ends by itself.

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::read;
use crate::reload::until;
use crate::two_providers;
use crate::upstreams::HANDSHAKE;
use crate::upstreams::accept;
use crate::upstreams::application;
use crate::upstreams::read_head;

const SERVER: &str = "server:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0 }\n  state_dir: \"{dir}/state\"\n  drain: { announce: 0s, timeout: 10s }\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_request_fails_when_the_program_is_told_to_stop() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let mut proxy = Proxy::start(&format!(
        "{}\n{SERVER}",
        two_providers(&old, &new, &upstream, 50)
    ));
    let address = proxy.address;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let mut answered = 0;
                loop {
                    let mut stream = match TcpStream::connect(address).await {
                        Ok(stream) => stream,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                            return answered;
                        }
                    };
                    let request =
                        b"GET /public/x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
                    stream.write_all(request).await.unwrap();
                    assert_eq!(read(&mut stream).await.status, 200);
                    answered += 1;
                }
            })
        })
        .collect();
    until(async || 200 <= upstream.hits()).await;
    proxy.signal("TERM");
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert!(200 <= answered);
    assert!(proxy.wait().success());
}

/// An application that tells what came, and answers `whole` once it is let. The head and half of the body come at once,
/// except at `/waiting`.
pub(crate) async fn holding() -> (
    SocketAddr,
    mpsc::UnboundedReceiver<String>,
    watch::Sender<bool>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ((tell, told), (go, let_go)) = (mpsc::unbounded_channel(), watch::channel(false));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (tell, mut let_go) = (tell.clone(), let_go.clone());
            tokio::spawn(async move {
                let (head, _) = read_head(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
                let waits = head.starts_with("GET /waiting ");
                let (first, rest) = answer.split_at(if waits { 0 } else { answer.len() - 3 });
                stream.write_all(first).await.unwrap();
                tell.send(head).unwrap();
                let_go.wait_for(|go| *go).await.unwrap();
                stream.write_all(rest).await.unwrap();
            });
        }
    });
    (address, told, go)
}

/// With `drain: { timeout: 10s }`, before `upstream`.
async fn draining(upstream: SocketAddr) -> Proxy {
    let (old, new, echo) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &echo, 50)
        .replace(&echo.url(), &format!("http://{upstream}"))
        .replace(
            "public_paths: [/public/*]",
            "routes:\n      - { path: /ws, access: public, websocket: true }\n      - { path: \"/*\", access: public }",
        );
    Proxy::start(&format!("{yaml}\n{SERVER}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_kept_lose_no_request_that_was_taken() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let mut proxy = Proxy::start(&format!(
        "{}\n{SERVER}",
        two_providers(&old, &new, &upstream, 50)
    ));
    let address = proxy.address;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let (mut answered, mut told) = (0, false);
                loop {
                    let mut stream = match TcpStream::connect(address).await {
                        Ok(stream) => stream,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                            return (answered, told);
                        }
                    };
                    loop {
                        let request = b"GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n";
                        let sent = stream.write_all(request).await;
                        // Closed before a byte of an answer: it was never taken (RFC 9112 §9.3.1), the count at the upstream says.
                        if sent.is_err() || !matches!(stream.peek(&mut [0]).await, Ok(1)) {
                            break;
                        }
                        let answer = read(&mut stream).await;
                        assert_eq!(answer.status, 200);
                        answered += 1;
                        if answer.header("connection") == Some("close") {
                            told = true;
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    until(async || 400 <= upstream.hits()).await;
    proxy.signal("TERM");
    let (mut answered, mut told) = (0, 0);
    for client in clients {
        let (own, close) = client.await.unwrap();
        answered += own;
        told += u32::from(close);
    }
    assert_eq!(answered, upstream.hits(), "what was taken was answered");
    assert_eq!(told, 16, "the last answer of a connection says that it is");
    assert!(proxy.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http_2_that_was_taken_ends_whole() {
    let (upstream, mut told, go) = holding().await;
    let mut proxy = draining(upstream).await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let held: Vec<_> = (0..3)
        .map(|n| {
            let request = Request::get(format!("http://app.test/{n}"));
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap())
        })
        .collect();
    for _ in &held {
        told.recv().await.unwrap();
    }
    proxy.signal("TERM");
    // The drain has begun, and these are still under way.
    until(async || TcpStream::connect(proxy.address).await.is_err()).await;
    go.send(true).unwrap();
    for held in held {
        let response = held.await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&*body, b"whole");
    }
    // The proxy ends the connection (RFC 9113 §6.8): the client, which still holds it, does not.
    let ended = timeout(PATIENCE, connection).await.unwrap();
    ended.unwrap().unwrap();
    drop(sender);
    assert!(proxy.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_told_goodbye_with_a_close_frame_on_both_sides() {
    let (upstream, mut told) = application(accept).await;
    let mut proxy = draining(upstream).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let (head, mut rest) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    told.recv().await.unwrap();
    proxy.signal("TERM");
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    // A close frame, not masked, with the status "going away" (RFC 6455 §5.5.1, §7.4.1).
    assert_eq!(
        (rest[0], &rest[2..4]),
        (0x88, &[0x03, 0xe9][..]),
        "{rest:?}"
    );
    assert_eq!(usize::from(rest[1]) + 2, rest.len(), "and nothing after it");
    // The same to the application, masked.
    let frames = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert!(
        frames.starts_with("\u{fffd}\u{fffd}") && frames.chars().count() == 8,
        "{frames:?}"
    );
    assert!(proxy.wait().success());
}
