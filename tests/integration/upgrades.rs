//! Protocols besides WebSocket that a route names: their tunnels, and what never becomes one.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::lasting::config;
use crate::lasting::signed_in;
use crate::reload::until;
use crate::upstreams;
use crate::upstreams::behind;
use crate::upstreams::connect;
use crate::upstreams::extended_connect;
use crate::upstreams::read_head;
use crate::upstreams::speaking;

/// An application of raw bytes that repeats what it hears in a tunnel, and tells all of that in the end.
async fn application(answer: fn(&str) -> String) -> (SocketAddr, UnboundedReceiver<String>) {
    speaking(answer, |heard, new| heard[heard.len() - new..].to_vec()).await
}

/// Switches to what it is asked for; whoever asks for nothing is told so.
fn switches(head: &str) -> String {
    match head.lines().find_map(|line| line.strip_prefix("upgrade: ")) {
        Some(token) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n\r\n"
        ),
        None => plain(head),
    }
}

fn plain(_: &str) -> String {
    String::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

/// The program before `application`; `/go` names two protocols.
async fn before(application: SocketAddr) -> Proxy {
    behind(
        application,
        "{ path: /go, access: public, upgrades: [parrot/1, Other] }",
    )
    .await
}

async fn send(proxy: &Proxy, bytes: &str) -> TcpStream {
    connect(proxy, bytes.as_bytes()).await
}

fn asking(line: &str, more: &str) -> String {
    format!("{line}\r\nHost: app.test\r\nConnection: keep-alive, upgrade\r\n{more}\r\n")
}

/// Everything until the end of the connection.
async fn to_end(stream: &mut TcpStream) -> String {
    upstreams::to_end(stream).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_names_becomes_a_tunnel() {
    let (address, mut told) = application(switches).await;
    let proxy = before(address).await;
    for (line, more, token) in [
        ("GET /go HTTP/1.1", "Upgrade: Parrot/1\r\n", "parrot/1"),
        ("POST /go HTTP/1.1", "Upgrade: other\r\n", "Other"),
        (
            "POST /go HTTP/1.1",
            "Upgrade: Other\r\nContent-Length: 0\r\n",
            "Other",
        ),
    ] {
        let mut stream = send(&proxy, &asking(line, more)).await;
        let (head, rest) = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(&format!("upgrade: {token}\r\n")), "{head}");
        assert!(rest.is_empty());
        // Not a frame of anything, and the beginning of a request in another place.
        let words = b"GET /secret HTTP/1.1\r\n\r\n\0\xff";
        stream.write_all(words).await.unwrap();
        let mut echo = [0; 26];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, *words);
        // The client has said all, and hears the last word.
        stream.shutdown().await.unwrap();
        assert_eq!(to_end(&mut stream).await, "");
        let head = told.recv().await.unwrap();
        assert!(head.contains(&format!("upgrade: {token}\r\n")), "{head}");
        assert!(head.contains("connection: Upgrade\r\n"), "{head}");
        assert_eq!(
            line.starts_with("POST"),
            head.contains("content-length: 0\r\n"),
            "{head}"
        );
        assert!(told.recv().await.unwrap().starts_with("GET /secret"));
    }
    let closed = "authferry_tunnels_closed_total{reason=\"client\"}";
    until(async || proxy.metric(closed).await == 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_named_is_plain_http() {
    let (address, mut told) = application(switches).await;
    let proxy = before(address).await;
    let go = "GET /go HTTP/1.1";
    for (line, more) in [
        (
            go,
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        (
            go,
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        ),
        (go, "Upgrade: parrot\r\n"),
        (go, "Upgrade: parrot/2\r\n"),
        (go, "Upgrade: parrot/1, Other\r\n"),
        (go, "Upgrade: parrot/1, h2c\r\n"),
        (go, "Upgrade: parrot/1\r\nUpgrade: parrot/1\r\n"),
        (go, "Upgrade: parrot/1\r\nUpgrade: h2c\r\n"),
        (
            "PUT /go HTTP/1.1",
            "Content-Length: 0\r\nUpgrade: parrot/1\r\n",
        ),
        ("GET /go HTTP/1.0", "Upgrade: parrot/1\r\n"),
        ("GET /elsewhere HTTP/1.1", "Upgrade: parrot/1\r\n"),
    ] {
        let mut stream = send(&proxy, &asking(line, more)).await;
        let (head, _) = read_head(&mut stream).await;
        assert!(head.contains(" 200 "), "{more}: {head}");
        let head = told.recv().await.unwrap().to_ascii_lowercase();
        assert!(!head.contains("upgrade"), "{more}: {head}");
        assert!(!head.contains("http2-settings"), "{more}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_two_requests_is_refused() {
    let (address, mut told) = application(switches).await;
    let proxy = before(address).await;
    let bare = "GET /go HTTP/1.1\r\nHost: app.test\r\n";
    let post = "POST /go HTTP/1.1";
    for bytes in [
        format!("{bare}Upgrade: parrot/1\r\n\r\n"),
        format!("{bare}Connection: close\r\nUpgrade: parrot/1\r\n\r\n"),
        asking(post, "Upgrade: parrot/1\r\nContent-Length: 1\r\n") + "x",
        asking(post, "Upgrade: parrot/1\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n",
    ] {
        let mut stream = send(&proxy, &bytes).await;
        let (head, _) = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{bytes}: {head}");
    }
    assert!(told.try_recv().is_err(), "nothing of it arrives");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_there_is_no_other_tunnel_than_a_websocket() {
    let (address, mut told) = application(switches).await;
    let proxy = before(address).await;
    let answer = extended_connect(&proxy, "/go", "parrot/1").await;
    assert!(answer.is_ok_and(|answer| !answer.status().is_success()));
    assert!(told.try_recv().is_err(), "nothing of it arrives");
}

/// What an application answers to each case.
fn something_else(head: &str) -> String {
    let says = match head.lines().find_map(|line| line.strip_prefix("x-case: ")) {
        Some("other") => "Connection: Upgrade\r\nUpgrade: Other",
        Some("websocket") => "Connection: Upgrade\r\nUpgrade: websocket",
        Some("both") => "Connection: Upgrade\r\nUpgrade: parrot/1, h2c",
        Some("twice") => "Connection: Upgrade\r\nUpgrade: parrot/1\r\nUpgrade: h2c",
        Some("aside") => "Upgrade: parrot/1",
        Some("nothing") => "Connection: Upgrade",
        other => panic!("{other:?}"),
    };
    format!("HTTP/1.1 101 Switching Protocols\r\n{says}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_to_something_else_ends_the_connection() {
    let (address, mut told) = application(something_else).await;
    let proxy = before(address).await;
    for case in ["other", "websocket", "both", "twice", "aside", "nothing"] {
        let more = format!("X-Case: {case}\r\nUpgrade: parrot/1\r\n");
        let smuggled = "GET /secret HTTP/1.1\r\nHost: app.test\r\n\r\n";
        let bytes = asking("GET /go HTTP/1.1", &more) + smuggled;
        let answer = to_end(&mut send(&proxy, &bytes).await).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{case}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{case}: {answer}");
        assert!(told.recv().await.unwrap().starts_with("GET /go "));
        assert_eq!(told.recv().await.unwrap(), "", "{case}: nothing follows");
    }
    // Without being asked, on a route that names it.
    let more = "X-Case: other\r\nUpgrade: h2c\r\n";
    let mut stream = send(&proxy, &asking("GET /go HTTP/1.1", more)).await;
    let (head, _) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let failed = "authferry_upstream_errors_total{app=\"crm\",reason=\"upgrade\"}";
    until(async || proxy.metric(failed).await == 6.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_request_that_was_not_switched_is_no_request() {
    let (address, mut told) = application(plain).await;
    let proxy = before(address).await;
    let smuggled = "GET /secret HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let bytes = asking("GET /go HTTP/1.1", "Upgrade: parrot/1\r\n") + smuggled;
    let answer = to_end(&mut send(&proxy, &bytes).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(told.recv().await.unwrap().starts_with("GET /go "));
    assert!(told.try_recv().is_err(), "the rest is thrown away");
}

/// What an application says to whoever asks for a protocol that it does not speak.
fn long(_: &str) -> String {
    let body = "0123456789abcdef".repeat(20_000);
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\nX-Remote-User: nobody\r\n\r\n{body}"
    )
}

/// RFC 9110 §7.8: an application may ignore what it is asked to switch to, and answer as long as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_the_protocol_comes_whole_however_long_it_is() {
    let (address, mut told) = application(long).await;
    let proxy = before(address).await;
    let bytes = asking("GET /go HTTP/1.1", "Upgrade: parrot/1\r\n");
    let answer = to_end(&mut send(&proxy, &bytes).await).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}\n{}", proxy.log());
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body.len(), 320_000, "{head}");
    assert!(body.ends_with("0123456789abcdef"));
    assert!(told.recv().await.unwrap().contains("upgrade: parrot/1"));
    // One that breaks off is no whole answer, and does not look like one.
    let (address, _told) = application(|head| long(head).split_at(100_000).0.to_owned()).await;
    let proxy = before(address).await;
    let answer = to_end(&mut send(&proxy, &bytes).await).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 320000"), "{head}");
    assert!(body.len() < 320_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_opened_by_whoever_may_and_ends_with_their_session() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let (address, mut told) = application(switches).await;
    let yaml = config(&old, &new, address, "");
    let proxy = Proxy::start(&yaml.replace("websocket: true", "upgrades: [parrot/1]"));
    proxy.settled().await;
    let browser = signed_in(&proxy).await;
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (host, cookies) = (proxy.address, cookies.join("; "));
    let ask = |more: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: parrot/1\r\n{more}\r\n"
        )
    };
    let with = format!("Cookie: {cookies}\r\n");
    for (more, status) in [
        (String::new(), " 401 "),
        // Another site cannot say `Upgrade`; whoever can says where they are from.
        (with.clone(), " 403 "),
        (format!("{with}Origin: http://evil.test\r\n"), " 403 "),
    ] {
        let (head, _) = read_head(&mut send(&proxy, &ask(&more)).await).await;
        assert!(head.contains(status), "{more}: {head}");
    }
    assert!(told.try_recv().is_err(), "nobody gets through");
    let own = format!("{with}Origin: http://{host}\r\n");
    let mut stream = send(&proxy, &ask(&own)).await;
    let (head, _) = read_head(&mut stream).await;
    assert!(head.contains(" 101 "), "{head}\n{}", proxy.log());
    stream.write_all(b"before").await.unwrap();
    let mut echo = [0; 6];
    stream.read_exact(&mut echo).await.unwrap();
    assert!(told.recv().await.unwrap().contains("x-remote-user: "));

    let (host, origin) = (host.to_string(), format!("http://{host}"));
    let fields = [
        ("Host", &*host),
        ("Origin", &*origin),
        ("Cookie", &*cookies),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    assert_eq!(out.status, 303, "{}", out.text());
    assert_eq!(to_end(&mut stream).await, "", "nothing is said in it");
    drop(stream.write_all(b"after").await);
    assert_eq!(told.recv().await.unwrap(), "before");
    drop(stream);
    let closed = "authferry_tunnels_closed_total{reason=\"revoked\"}";
    until(async || proxy.metric(closed).await == 1.0).await;
}
