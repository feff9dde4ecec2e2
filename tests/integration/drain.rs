//! SIGTERM: what was accepted is answered, then the program ends by itself.

use std::io::ErrorKind;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::read;
use crate::two_providers;

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_request_fails_when_the_program_is_told_to_stop() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let server = "server:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0 }\n  state_dir: \"{dir}/state\"\n  drain: { announce: 0s, timeout: 10s }\n";
    let mut proxy = Proxy::start(&format!(
        "{}\n{server}",
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
    while upstream.hits() < 200 {
        tokio::task::yield_now().await;
    }
    proxy.signal("TERM");
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert!(200 <= answered);
    assert!(proxy.wait().success());
}
