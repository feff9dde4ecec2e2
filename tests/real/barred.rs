//! Whose session is of one side, and who is switched off at the other one: out within seconds, with whatever is open, and told
//! so by a page that sends them nowhere.

use std::net::SocketAddr;
use std::process::Command;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::browser::Browser;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;
use crate::keycloak;
use crate::old_provider;
use crate::operators::until;
use crate::origin;
use crate::proxy;
use crate::sessions::Barred;
use crate::sessions::lets_in;
use crate::sessions::signed_in;
use crate::two_sides;
use crate::var;

/// What every WebSocket's key is hashed with (RFC 6455 §1.3).
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// A masked frame with one byte, as a client sends it, and the echo of it.
const FRAME: &[u8] = &[0x82, 0x81, 0, 0, 0, 0, b'x'];
const ECHO: [u8; 3] = [0x82, 0x01, b'x'];

async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    Some(value.trim())
}

/// An application with a WebSocket that echoes at `/live`; elsewhere it says whom it was told of.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    loop {
        let head = head_of(&mut stream).await;
        let live = head.starts_with("GET /live ");
        let answer = if let (true, Some(key)) = (live, field(&head, "sec-websocket-key")) {
            let key = format!("{key}{WEBSOCKET}");
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
            let accept = STANDARD.encode(hash);
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            )
        } else {
            let who = field(&head, "x-remote-user").unwrap_or_default();
            let length = who.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{who}")
        };
        if head.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if answer.contains(" 101 ") {
            break;
        }
    }
    let mut frame = [0; FRAME.len()];
    while stream.read_exact(&mut frame).await.is_ok() {
        // A goodbye is no frame to answer.
        if frame != FRAME || stream.write_all(&ECHO).await.is_err() {
            return;
        }
    }
}

/// A WebSocket of somebody's page.
struct Live(TcpStream);

impl Live {
    async fn open(proxy: &Proxy, browser: &Browser) -> Self {
        let site = origin();
        let host = site.strip_prefix("http://").unwrap();
        let cookies = browser.cookie_line(host);
        let head = format!(
            "GET /live HTTP/1.1\r\nHost: {host}\r\nOrigin: {site}\r\nCookie: {cookies}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = head_of(&mut stream).await;
        assert!(head.contains(" 101 "), "{head}\n{}", proxy.log());
        Self(stream)
    }

    async fn is_open(&mut self) -> bool {
        let mut echo = [0; ECHO.len()];
        let sent = self.0.write_all(FRAME).await;
        let came = self.0.read_exact(&mut echo).await;
        sent.is_ok() && came.is_ok() && echo == ECHO
    }

    /// It ends with a goodbye that says why: policy violation (RFC 6455 §7.4.1).
    async fn ends(&mut self) {
        let mut goodbye = [0; 4];
        let came = timeout(PATIENCE, self.0.read_exact(&mut goodbye));
        came.await.expect("it ends").unwrap();
        assert_eq!(goodbye, [0x88, 0x02, 0x03, 0xf0], "a goodbye with 1008");
    }
}

/// Both sides speak for the other's accounts, and the application has a WebSocket.
fn united(sides: &str) -> String {
    let mut text = sides.to_owned();
    for (from, to) in [
        (
            "identity: { canonical: { template: \"uid:{subject}\" } }",
            "identity: { canonical: { template: \"uid:{subject}\" }, denials: union, denials_every: 5s }",
        ),
        (
            "    public_paths: [/public/*]\n",
            "    routes: [{ path: /live, websocket: true }, { path: /* }]\n",
        ),
        (
            "      verify: { audiences: [proxy-exchange] }\n",
            "      verify: { audiences: [proxy-exchange] }\n      directory:\n        \
             keycloak: { client: { id: directory, secret: { file: \"{dir}/directory.secret\" } }, key: legacy_uid }\n",
        ),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    text
}

/// The old side is a directory that people bind at.
fn with_directory(sides: &str) -> String {
    let (before, rest) = sides.split_once("  legacy:\n").unwrap();
    let after = &rest[rest.find("  modern:\n").unwrap()..];
    let port = var("LDAP_PORT");
    format!(
        r#"{before}  legacy:
    ldap:
      url: "ldap://127.0.0.1:{port}"
      user_dn: "uid={{username}},ou=people,dc=legacy,dc=test"
      attributes: [uid, employeeNumber]
      groups: {{ base: "ou=groups,dc=legacy,dc=test", filter: "(member={{dn}})", attribute: cn }}
      claims: {{ subject: employeeNumber, name: uid, groups: groups }}
      authoritative: {{ claims: [employeeNumber] }}
      directory: {{ base: "ou=people,dc=legacy,dc=test", filter: "(!(uid=p*))", key: employeeNumber }}
{after}"#
    )
}

/// One whose session is of the other side than `side`, where they are switched off.
async fn is_out_when_switched_off(side: &'static str, sides: &str) {
    let proxy = proxy(sides);
    proxy.settled().await;
    let (mut bob, mut carol) = (
        signed_in(&proxy, "bob").await,
        signed_in(&proxy, "carol").await,
    );
    let mut live = Live::open(&proxy, &bob).await;
    let hers = Live::open(&proxy, &carol).await;
    let page = format!("{}/deep?a=b", origin());
    let landed = bob.open(&page, None).await;
    assert_eq!(
        (landed.answer.status, landed.answer.text()),
        (200, "1002".into())
    );
    assert!(live.is_open().await);
    let [old, new] =
        [old_provider(), keycloak()].map(|at| at[7..].split('/').next().unwrap().to_owned());
    let visits = (bob.visits(&old), bob.visits(&new));

    let barred = Barred(side, "bob");
    lets_in(side, "bob", false).await;
    let mut last = None;
    until(async || {
        let landed = bob.open(&page, None).await;
        assert_eq!(landed.url, page, "sent round");
        let status = landed.answer.status;
        assert!([200, 403].contains(&status), "{status}\n{}", proxy.log());
        last = Some(landed.answer);
        status == 403
    })
    .await;
    live.ends().await;
    assert_eq!((bob.visits(&old), bob.visits(&new)), visits, "sent round");
    // The page has the name by which operators find what happened.
    let refused = last.unwrap();
    assert_eq!(refused.header("location"), None);
    let kind = refused.header("content-type").unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    let (text, reference) = (refused.text(), refused.header("x-request-id").unwrap());
    assert!(
        text.contains(&format!("<code>{reference}</code>")),
        "{text}"
    );
    assert!(!text.contains("1002"), "{text}");
    let told = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .args(["explain", "--format", "json", "--reference", reference])
        .arg("--state-dir")
        .arg(proxy.dir().join("state"))
        .output()
        .unwrap();
    let lines: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    // What was decided may stand before it.
    let access = lines.as_array().unwrap().iter();
    let access: Vec<_> = access.filter(|line| line["event"] == "access").collect();
    let [access] = &*access else {
        panic!("{lines}")
    };
    assert_eq!(access["path"], "/deep", "{lines}");
    assert_eq!(access["status"], 403, "{lines}");
    // A script is told the same, and nothing of his is opened any more.
    let site = origin();
    let host = site.strip_prefix("http://").unwrap();
    let cookies = bob.cookie_line(host);
    let fields = [("Host", host), ("Cookie", cookies.as_str())];
    for (method, path) in [("GET", "/api"), ("POST", "/save"), ("GET", "/live")] {
        let answer = request(proxy.address, method, path, &fields, b"").await;
        assert_eq!(answer.status, 403, "{method} {path}");
        assert_eq!(answer.header("location"), None);
    }
    // Nor does he come in by signing in once more at the side that has nothing against him.
    let mut again = Browser::default();
    let landed = again
        .open(&page, Some(("bob", &crate::secret("bob-pw"))))
        .await;
    assert_eq!(again.forms.len(), 1);
    assert_eq!(landed.answer.status, 403, "{}", landed.answer.text());

    // Nobody else has noticed, and he is back when that side says so.
    let mut hers = hers;
    assert!(hers.is_open().await, "{}", proxy.log());
    let landed = carol.open(&page, None).await;
    assert_eq!(
        (landed.answer.status, landed.answer.text()),
        (200, "1003".into())
    );
    drop(barred);
    until(async || signs_in(&page).await).await;
}

/// Whether bob comes in by a new sign-in.
async fn signs_in(page: &str) -> bool {
    let password = crate::secret("bob-pw");
    let landed = Browser::default()
        .open(page, Some(("bob", &password)))
        .await;
    landed.answer.status == 200 && landed.url == page
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_session_of_the_old_side_is_out_when_keycloak_has_switched_them_off() {
    let upstream = format!("http://{}", application().await);
    is_out_when_switched_off("modern", &united(&two_sides(&upstream, "0"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_session_of_keycloak_is_out_when_the_old_directory_has_locked_them() {
    let upstream = format!("http://{}", application().await);
    let sides = with_directory(&two_sides(&upstream, "100"));
    is_out_when_switched_off("directory", &united(&sides)).await;
}
