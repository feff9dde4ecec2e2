//! More than there is room for: what is turned away, and what goes on.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::read;
use crate::two_providers;

async fn ask(stream: &mut TcpStream) -> Answer {
    let request = b"GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    read(stream).await
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await,
        Ok(Ok(0) | Err(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn short_memory_turns_away_connections_and_requests_but_never_everybody() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    // So little that it is short from the start.
    let server = "server:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0 }\n  state_dir: \"{dir}/state\"\n  limits: { memory: 16MiB }\n";
    let proxy = Proxy::start(&format!(
        "{}\n{server}",
        two_providers(&old, &new, &upstream, 50)
    ));
    let start = Instant::now();
    while !proxy.log().contains("Memory is short") {
        assert!(start.elapsed() < PATIENCE, "{}", proxy.log());
        tokio::task::yield_now().await;
    }
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(ask(&mut stream).await.status, 200);
        held.push(stream);
    }
    // One more comes in, and finds that there are too many; so does everybody who asks while it is there.
    let mut last = TcpStream::connect(proxy.address).await.unwrap();
    let answer = ask(&mut last).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(is_closed(&mut last).await);
    let before = upstream.hits();
    // The client may hear of the end a moment before it is counted.
    let mut served = false;
    for stream in &mut held {
        served = ask(stream).await.status == 200;
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(served);
    assert_eq!(upstream.hits(), before + 1);
    // Silent ones hold memory, too: who comes after them is not let in.
    let silent = TcpStream::connect(proxy.address).await.unwrap();
    let start = Instant::now();
    loop {
        let mut next = TcpStream::connect(proxy.address).await.unwrap();
        if is_closed(&mut next).await {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
    drop(silent);
    // Counted by the workers, collected once in a while.
    let start = Instant::now();
    while proxy
        .metric("authferry_shed_total{reason=\"memory\"}")
        .await
        < 2.0
    {
        assert!(start.elapsed() < PATIENCE);
    }
}
