//! The edge of the program as clients meet it: who a listed proxy speaks for, which certificate answers, what goes on when an
//! upstream dies, and whose trace a request belongs to.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::read;
use crate::harness::request;
use crate::two_providers;
use crate::upstreams::HANDSHAKE;
use crate::upstreams::accept;
use crate::upstreams::application;
use crate::upstreams::refusing;

const SERVER: &str = "server:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n";

/// The program with more in its `server` section.
async fn edge(more: &str) -> (Proxy, Echo) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50);
    (Proxy::start(&format!("{yaml}\n{SERVER}{more}")), upstream)
}

/// Sends `bytes`; the status of the answer, if there is one.
async fn status(to: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // The other end may have closed before everything was written.
    drop(stream.write_all(bytes).await);
    let mut seen = Vec::new();
    drop(
        timeout(PATIENCE, stream.read_to_end(&mut seen))
            .await
            .unwrap(),
    );
    let text = String::from_utf8_lossy(&seen);
    text.split(' ').nth(1)?.parse().ok()
}

const GET: &[u8] = b"GET /public/x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";

/// A PROXY header of version 2 for a connection of 203.0.113.7.
fn version_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&[203, 0, 113, 7, 10, 0, 0, 1]);
    header.extend_from_slice(&[0x10, 0x00, 0x00, 0x50]);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_peer_says_who_the_client_is_before_the_first_byte_and_nobody_else_may() {
    let (proxy, upstream) = edge("  proxy_protocol: { from: [127.0.0.0/8] }\n").await;
    let version_1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 4096 80\r\n".to_vec();
    for header in [version_1, version_2()] {
        assert_eq!(
            status(proxy.address, &[&header, GET].concat()).await,
            Some(200)
        );
        assert_eq!(upstream.last().all("x-forwarded-for"), ["203.0.113.7"]);
    }
    let served = upstream.hits();
    // Without its header a listed peer is nobody.
    assert_eq!(status(proxy.address, GET).await, None);
    assert_eq!(upstream.hits(), served);
    let (proxy, upstream) = edge("  proxy_protocol: { from: [10.1.0.0/16] }\n").await;
    let header = version_2();
    let said = status(proxy.address, &[&header, GET].concat()).await;
    assert_ne!(said, Some(200));
    let said = status(
        proxy.address,
        b"PROXY TCP4 203.0.113.7 10.0.0.1 4096 80\r\n",
    )
    .await;
    assert_ne!(said, Some(200));
    assert_eq!(upstream.hits(), 0);
    assert_eq!(status(proxy.address, GET).await, Some(200));
}

fn pair(dir: &Path, name: &str, file: &str) -> CertificateDer<'static> {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    for (ending, text) in [
        ("pem", own.cert.pem()),
        ("key", own.signing_key.serialize_pem()),
    ] {
        // As those who renew certificates do: beside it, and renamed over it.
        let beside = dir.join("renewed");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, dir.join(file).with_extension(ending)).unwrap();
    }
    own.cert.der().clone()
}

/// The certificate that answers for a name; those in `known` are trusted.
async fn shown(
    to: SocketAddr,
    name: &str,
    known: &[&CertificateDer<'static>],
) -> Option<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for one in known {
        roots.add((*one).clone()).unwrap();
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(to).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_certificate_and_a_renewed_one_counts_without_a_restart() {
    let (idp, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let (app, other) = (
        pair(dir.path(), "app.test", "app"),
        pair(dir.path(), "other.test", "other"),
    );
    let yaml = format!(
        r#"
server:
  listen: 127.0.0.1:0
  tls:
    certificates:
      - {{ certificate: {{ file: {{dir}}/app.pem }}, key: {{ file: {{dir}}/app.key }} }}
      - {{ certificate: {{ file: {{dir}}/other.pem }}, key: {{ file: {{dir}}/other.key }} }}
  admin: {{ listen: 127.0.0.1:0, token: {{ file: {{dir}}/admin.token }} }}
  state_dir: {{dir}}/state
providers:
  new: {{ oidc: {{ issuer: "{}", verify: {{ audiences: [app] }} }} }}
apps:
  crm: {{ hosts: [app.test, other.test], provider: new, upstream: {{ url: "{}" }} }}
"#,
        idp.issuer(),
        upstream.url()
    );
    let proxy = Proxy::start_in(dir, &yaml);
    let known = [&app, &other];
    assert_eq!(
        shown(proxy.address, "app.test", &known).await.as_ref(),
        Some(&app)
    );
    assert_eq!(
        shown(proxy.address, "other.test", &known).await.as_ref(),
        Some(&other)
    );
    let renewed = pair(proxy.dir(), "other.test", "other");
    let began = Instant::now();
    while shown(proxy.address, "other.test", &[&renewed])
        .await
        .is_none()
    {
        assert!(began.elapsed() < PATIENCE, "{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        shown(proxy.address, "app.test", &known).await.as_ref(),
        Some(&app)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_upstreams_one_may_die_and_no_request_fails() {
    let (idp, alive) = (Idp::start().await, Echo::start().await);
    let (dies, mut told) = application(|_| {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi".to_owned()
    })
    .await;
    let (_taken, dead) = refusing();
    let yaml = |first: SocketAddr| {
        format!(
            "providers:\n  new: {{ oidc: {{ issuer: \"{}\", verify: {{ audiences: [app] }} }} }}\napps:\n  crm:\n    hosts: [app.test]\n    provider: new\n    \
             upstream: {{ urls: [\"http://{first}\", \"{}\"] }}\n    routes: [{{ path: /*, access: public }}]\n",
            idp.issuer(),
            alive.url()
        )
    };
    let proxy = Proxy::start(&yaml(dies));
    for _ in 0..20 {
        assert_eq!(
            request(proxy.address, "GET", "/x", &[], b"").await.status,
            200
        );
    }
    assert!(told.recv().await.is_some(), "the first is asked too");
    assert!(0 < alive.hits(), "and so is the second");
    let proxy = Proxy::start(&yaml(dead));
    let served = alive.hits();
    for _ in 0..50 {
        assert_eq!(
            request(proxy.address, "GET", "/x", &[], b"").await.status,
            200
        );
    }
    assert_eq!(alive.hits(), served + 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_that_ends_tls_a_page_opens_its_socket_and_another_site_does_not() {
    for (listed, said, origin, opens) in [
        ("127.0.0.0/8", "https", "https://app.test", true),
        ("127.0.0.0/8", "https", "http://app.test", false),
        ("127.0.0.0/8", "https", "https://evil.test", false),
        ("10.1.0.0/16", "https", "https://app.test", false),
        ("10.1.0.0/16", "https", "http://app.test", true),
    ] {
        let (idp, (socket, _told)) = (Idp::start().await, application(accept).await);
        let proxy = Proxy::start(&format!(
            "{SERVER}  trusted_proxies: [{listed}]\nproviders:\n  new: {{ oidc: {{ issuer: \"{}\", verify: {{ audiences: [app] }} }} }}\napps:\n  crm:\n    \
             hosts: [app.test]\n    provider: new\n    upstream: {{ url: \"http://{socket}\" }}\n    routes: [{{ path: /ws, access: public, websocket: true }}]\n",
            idp.issuer()
        ));
        let head = HANDSHAKE.replace(
            "\r\n\r\n",
            &format!("\r\nOrigin: {origin}\r\nX-Forwarded-Proto: {said}\r\n\r\n"),
        );
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE, read(&mut stream)).await.unwrap();
        let expected = if opens { 101 } else { 403 };
        assert_eq!(answer.status, expected, "{listed} {said} {origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_with_its_state_and_a_new_one_begins_without() {
    let (proxy, upstream) = edge("").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let state = ("tracestate", "vendor=opaque");
    let ask = |fields: Vec<(&'static str, String)>| {
        let (address, upstream) = (proxy.address, &upstream);
        async move {
            let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = request(address, "GET", "/public/x", &fields, b"").await;
            assert_eq!(answer.status, 200);
            let seen = upstream.last();
            (seen.all("traceparent"), seen.all("tracestate"))
        }
    };
    let state = (state.0, state.1.to_owned());
    let (on, kept) = ask(vec![("traceparent", parent.clone()), state.clone()]).await;
    assert_eq!(on.len(), 1);
    assert!(on[0].starts_with(&format!("00-{trace}-")), "{on:?}");
    assert_ne!(on[0], parent, "the span is ours");
    assert_eq!(kept, ["vendor=opaque"]);
    for fields in [
        vec![state.clone()],
        vec![
            ("traceparent", "00-zz-00f067aa0ba902b7-01".to_owned()),
            state.clone(),
        ],
        vec![
            ("traceparent", parent.clone()),
            ("traceparent", parent.clone()),
            state.clone(),
        ],
    ] {
        let (new, kept) = ask(fields).await;
        assert_eq!(new.len(), 1);
        assert!(!new[0].contains(trace), "{new:?}");
        assert_eq!(kept, Vec::<String>::new());
    }
}
