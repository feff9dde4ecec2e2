//! Bodies are passed on as they come, and never kept.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::two_providers;

const GIGABYTE: u64 = 1 << 30;

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An upstream that reads a body of a gigabyte and answers with another; how many bytes came.
fn takes_and_gives(listener: &TcpListener) -> u64 {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let came = std::io::copy(&mut reader.take(GIGABYTE), &mut std::io::sink()).unwrap();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {GIGABYTE}\r\n\r\n"
    )
    .unwrap();
    std::io::copy(&mut std::io::repeat(b'x').take(GIGABYTE), &mut stream).unwrap();
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_each_way_is_passed_on_and_never_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let upstream_side = thread::spawn(move || takes_and_gives(&listener));
    let (old, new, unused) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &unused, 50).replace(&unused.url(), &upstream);
    let proxy = Proxy::start(&yaml);
    let before = resident(proxy.pid());

    let address = proxy.address;
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /public/x HTTP/1.1\r\nHost: app.test\r\nContent-Length: {GIGABYTE}\r\n\r\n"
        )
        .unwrap();
        std::io::copy(&mut std::io::repeat(b'x').take(GIGABYTE), &mut stream).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        std::io::copy(&mut reader.take(GIGABYTE), &mut std::io::sink()).unwrap()
    });
    let mut most = before;
    while !client.is_finished() {
        most = most.max(resident(proxy.pid()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.join().unwrap(), GIGABYTE);
    assert_eq!(upstream_side.join().unwrap(), GIGABYTE);
    assert!(
        most < before + 32 * 1024,
        "{before} KiB before, {most} KiB at most"
    );
}
