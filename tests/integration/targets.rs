//! The request that rules judge is the request that is forwarded.

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::raw;
use crate::two_providers;

async fn send(proxy: &Proxy, bytes: &str) -> u16 {
    raw(proxy.address, bytes.as_bytes()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_two_programs_could_read_differently_are_refused() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public/%2E./x",
        "/public\\..\\admin",
        "/public/%5cadmin",
        "/public/a%2Fb",
        "/public/%00",
        "/public/%c0%ae",
        "/public/%ff",
        "/public/x#y",
    ] {
        let status = send(
            &proxy,
            &format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(status, 400, "{path}");
    }
    assert_eq!(upstream.hits(), 0);
    for (asked, forwarded) in [
        ("/public//a", "/public/a"),
        ("/public/%61", "/public/a"),
        ("/public/%c3%a9", "/public/%C3%A9"),
    ] {
        let status = send(
            &proxy,
            &format!(
                "GET {asked}?q=%2e%2e//x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"
            ),
        )
        .await;
        assert_eq!(status, 200, "{asked}");
        assert_eq!(
            upstream.last().line(),
            format!("GET {forwarded}?q=%2e%2e//x HTTP/1.1")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_exactly_one_and_known() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    for (fields, expected) in [
        ("Host: app.test", 200),
        ("Host: APP.TEST", 200),
        ("Host: app.test.", 200),
        ("Host: app.test:8443", 200),
        ("X: y", 400),
        ("Host: app.test\r\nHost: app.test", 400),
        ("Host: app.test, evil.test", 400),
        ("Host: user@app.test", 400),
        ("Host: evil.test", 404),
    ] {
        let status = send(
            &proxy,
            &format!("GET /public/x HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(status, expected, "{fields}");
    }
    assert_eq!(upstream.hits(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_refused_and_nothing_is_smuggled() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    let smuggled = "GET /public/smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for framing in [
        format!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{smuggled}"),
        format!("Transfer_Encoding: chunked\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{smuggled}"),
        format!("Content-Length: 0\r\nContent-Length: 5\r\n\r\n{smuggled}"),
        format!("Content-Length: +0\r\n\r\n{smuggled}"),
    ] {
        let status = send(
            &proxy,
            &format!("POST /public/first HTTP/1.1\r\nHost: app.test\r\n{framing}"),
        )
        .await;
        assert_eq!(status, 400, "{framing}");
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_counts_for_nothing_and_ends_the_connection() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    let smuggled = "GET /public/smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let lengths = ["6".to_owned(), (smuggled.len() + 5).to_string()];
    for framing in [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked",
            lengths[0]
        ),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {}",
            lengths[1]
        ),
    ] {
        let bytes = format!(
            "POST /public/first HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n\r\n0\r\n\r\n{smuggled}"
        );
        let answer = raw(proxy.address, bytes.as_bytes()).await;
        assert!([200, 400].contains(&answer.status), "{framing}");
        assert_eq!(answer.header("connection"), Some("close"), "{framing}");
    }
    for seen in upstream.seen() {
        assert!(!seen.head.contains("smuggled"), "{}", seen.head);
        assert!(seen.all("content-length").is_empty(), "{}", seen.head);
    }
}
