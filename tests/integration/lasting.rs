//! What stays open for long: it goes on while its session is renewed, and ends with who may not have it any more.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::harness::Answer;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::mostly_within;
use crate::reload::until;
use crate::upstreams::accept;
use crate::upstreams::read_head;

/// A masked frame with one byte, as a client sends it, and the echo of it.
const FRAME: &[u8] = &[0x82, 0x81, 0, 0, 0, 0, b'x'];
const ECHO: [u8; 3] = [0x82, 0x01, b'x'];

/// An application with an event stream that says something when it is told to, and a WebSocket that echoes.
pub(crate) async fn application() -> SocketAddr {
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
        let (head, _) = read_head(&mut stream).await;
        let answer = match head.split(' ').nth(1) {
            Some("/ws") => accept(&head),
            Some("/events") => String::from(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            ),
            Some("/file") => String::from("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegins"),
            Some(_) => String::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            None => return,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if head.starts_with("GET /ws ") {
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

pub(crate) fn config(old: &Idp, new: &Idp, upstream: SocketAddr, sessions: &str) -> String {
    let provider = |name: &str, idp: &Idp| {
        format!(
            r#"  {name}: {{ oidc: {{ issuer: "{issuer}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }} }}"#,
            issuer = idp.issuer()
        )
    };
    format!(
        r#"
providers:
{old}
{new}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test, 127.0.0.1]
    upstream: {{ url: "http://{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
    routes:
      - {{ path: /ws, websocket: true }}
      - {{ path: "/*" }}
rollout:
  from: old
  to: new
  bucketing: {{ salt: test }}
  assign:
    - {{ percent: 100, to: new }}
{sessions}
"#,
        old = provider("old", old),
        new = provider("new", new),
    )
}

pub(crate) async fn signed_in(proxy: &Proxy) -> Browser {
    let mut browser = Browser::default();
    let start = browser.open(proxy, "/").await;
    let done = browser.sign_in(proxy, &start).await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    browser
}

/// Something open.
pub(crate) struct Open {
    stream: TcpStream,
    socket: bool,
}

impl Open {
    /// Opens it with these cookies.
    pub(crate) async fn with(proxy: &Proxy, cookies: &str, socket: bool) -> Self {
        let host = proxy.address;
        let (path, more) = if socket {
            let more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            ("/ws", more)
        } else {
            ("/events", "")
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nCookie: {cookies}\r\n{more}\r\n"
        );
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (head, mut rest) = read_head(&mut stream).await;
        let expected = if socket { " 101 " } else { " 200 " };
        assert!(head.contains(expected), "{head}\n{}", proxy.log());
        while !socket && !rest.ends_with(b"data: 1\n\n\r\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
        Self { stream, socket }
    }

    pub(crate) async fn of(proxy: &Proxy, browser: &Browser, socket: bool) -> Self {
        let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
        Self::with(proxy, &cookies.join("; "), socket).await
    }

    /// Whether it is still there.
    pub(crate) async fn is_open(&mut self) -> bool {
        if self.socket {
            let mut echo = [0; ECHO.len()];
            let sent = self.stream.write_all(FRAME).await;
            let came = self.stream.read_exact(&mut echo).await;
            return sent.is_ok() && came.is_ok() && echo == ECHO;
        }
        let more = timeout(Duration::from_millis(50), self.stream.read_u8());
        more.await.is_err()
    }

    /// Waits until it is ended, and how.
    pub(crate) async fn ends(&mut self, within: Duration) {
        self.ends_with(1_008, within).await;
    }

    /// The same, with the code that a WebSocket is closed with.
    pub(crate) async fn ends_with(&mut self, code: u16, within: Duration) {
        let mut seen = Vec::new();
        let mut chunk = [0; 1_024];
        let end = async {
            loop {
                let n = self.stream.read(&mut chunk).await.unwrap();
                seen.extend_from_slice(&chunk[..n]);
                // The application may be asked whether it is still there.
                while self.socket && seen.starts_with(&[0x89, 0x00]) {
                    seen.drain(..2);
                }
                let whole = if self.socket { 4 } else { 5 };
                if n == 0 || whole <= seen.len() {
                    return;
                }
            }
        };
        timeout(within, end).await.expect("it ends in time");
        if self.socket {
            let [high, low] = code.to_be_bytes();
            assert_eq!(seen[..4], [0x88, 0x02, high, low], "a goodbye with {code}");
        } else {
            assert_eq!(seen, b"0\r\n\r\n", "in order");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_goes_on_while_its_session_is_renewed_and_ends_with_who_is_not_renewed() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let upstream = application().await;
    let proxy = Proxy::start(&config(
        &old,
        &new,
        upstream,
        "sessions: { revalidate: 1s }",
    ));
    proxy.settled().await;
    let browser = signed_in(&proxy).await;
    let mut open = [
        Open::of(&proxy, &browser, true).await,
        Open::of(&proxy, &browser, false).await,
    ];
    // Nobody else comes: what is open has its session renewed itself, three times.
    let began = Instant::now();
    while new.hits("/token") < 4 {
        for one in &mut open {
            assert!(one.is_open().await, "{}", proxy.log());
        }
        assert!(began.elapsed() < PATIENCE, "{}", proxy.log());
    }
    assert_eq!(new.reused(), 0, "once for all");
    // A key is withdrawn: what rests on it is judged again, and is good.
    new.rotate();
    let renewed = new.hits("/token");
    until(async || renewed + 1 < new.hits("/token")).await;
    for one in &mut open {
        assert!(one.is_open().await, "{}", proxy.log());
    }
    let closed = "authferry_tunnels_closed_total{reason=\"revoked\"}";
    assert_eq!(proxy.metric(closed).await, 0.0);
    // Whom the provider does not know any more is out.
    new.refuses_refresh(true);
    for one in &mut open {
        one.ends(PATIENCE).await;
    }
    // Counted when both ends have heard of it.
    until(async || 2.0 <= proxy.metric(closed).await).await;
}

/// Five seconds after the end of its session at the latest.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_ends_with_its_session() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let upstream = application().await;
    let lasts = "sessions: { absolute: 1m }";
    let proxy = Proxy::start(&config(&old, &new, upstream, lasts));
    proxy.settled().await;
    let before = Instant::now();
    let browser = signed_in(&proxy).await;
    let after = Instant::now();
    let mut socket = Open::of(&proxy, &browser, true).await;
    let mut events = Open::of(&proxy, &browser, false).await;
    let life = Duration::from_mins(1);
    for one in [&mut socket, &mut events] {
        one.ends(life + Duration::from_secs(20)).await;
        let ended = Instant::now();
        // A session counts in whole seconds.
        let early = before + life - Duration::from_secs(1);
        assert!(early <= ended, "{:?}", ended - before);
        // And as much again for a machine that is busy.
        let late = after + life + Duration::from_secs(5 + 5);
        assert!(ended <= late, "{:?}\n{}", ended - after, proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_goes_on_while_its_provider_is_away_as_long_as_requests_would() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let upstream = application().await;
    let proxy = Proxy::start(&config(
        &old,
        &new,
        upstream,
        "sessions: { revalidate: 3s }",
    ));
    proxy.settled().await;
    let mut browser = signed_in(&proxy).await;
    let mut socket = Open::of(&proxy, &browser, true).await;
    new.fail_with(Some(503));
    let asked = new.hits("/token");
    until(async || asked < new.hits("/token")).await;
    assert!(socket.is_open().await, "{}", proxy.log());
    new.fail_with(None);
    let asked = new.hits("/token");
    until(async || asked < new.hits("/token")).await;
    assert!(socket.is_open().await, "{}", proxy.log());
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    // Now for longer than a session counts without its provider.
    new.fail_with(Some(503));
    socket.ends(PATIENCE).await;
    assert_eq!(browser.open(&proxy, "/").await.status, 503);
    let closed = "authferry_tunnels_closed_total{reason=\"expired\"}";
    // Counted when both ends have heard of it.
    until(async || 1.0 <= proxy.metric(closed).await).await;
    // What somebody has typed in is neither sent round nor lost, and the session neither ended nor forgotten.
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (host, cookies) = (proxy.address.to_string(), cookies.join("; "));
    let fields = [("Host", host.as_str()), ("Cookie", cookies.as_str())];
    let answer = request(proxy.address, "POST", "/save", &fields, b"a=b").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.header("location").is_none());
    assert!(answer.cookies().is_empty());
    new.fail_with(None);
    until(async || browser.open(&proxy, "/").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_provider_does_not_know_any_more_is_out_at_the_next_revalidation() {
    for percent in ["100", "0"] {
        mostly_within(Duration::from_secs(6), async |_| {
            let (old, new) = (Idp::start().await, Idp::start().await);
            let upstream = application().await;
            let text = config(&old, &new, upstream, "sessions: { revalidate: 5s }");
            let proxy = Proxy::start(&text.replace("percent: 100", &format!("percent: {percent}")));
            proxy.settled().await;
            let mut browser = signed_in(&proxy).await;
            let mut socket = Open::of(&proxy, &browser, true).await;
            let here = if percent == "0" { &old } else { &new };
            here.refuses_refresh(true);
            let took = until(async || browser.open(&proxy, "/").await.status == 302).await;
            socket.ends(Duration::from_secs(10)).await;
            took
        })
        .await;
    }
}

/// What a browser says with a form of the application's own page.
fn of_a_form<'a>(host: &'a str, origin: &'a str, cookies: &'a str) -> [(&'a str, &'a str); 7] {
    [
        ("Host", host),
        ("Origin", origin),
        ("Cookie", cookies),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_on_a_session_that_is_over_is_kept_where_that_is_wanted_and_no_longer_than_it_may_be()
 {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let text = config(&old, &new, application().await, "");
    let keeps = "path: \"/*\", preserve_post: 16B";
    let text = text.replace("path: \"/*\"", keeps);
    // What browsers keep of it they keep as long as the file says.
    let retention = "retention: { browsers: 30d, forms: 5m }\n";
    let proxy = Proxy::start(&format!("{text}{retention}"));
    proxy.settled().await;
    let ends_in = |answer: &Answer, cookie: &str, seconds: u64| {
        let all = answer.all("set-cookie");
        let own = all.iter().find(|set| set.starts_with(cookie));
        let own = own.unwrap_or_else(|| panic!("no {cookie}: {all:?}"));
        let wanted = format!("; Max-Age={seconds};");
        assert!(format!("{own};").contains(&wanted), "{own}");
    };
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    let done = browser.sign_in(&proxy, &start).await;
    assert_eq!(done.status, 303, "{}", proxy.log());
    ends_in(&done, "authferry_dev=", 30 * 86_400);
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (host, cookies) = (proxy.address.to_string(), cookies.join("; "));
    let origin = format!("http://{host}");
    let fields = of_a_form(&host, &origin, &cookies);
    let send =
        async |path: &str, body: &[u8]| request(proxy.address, "POST", path, &fields, body).await;
    assert_eq!(send("/save", b"note=0123456789a").await.status, 200);
    assert_eq!(send("/.authferry/logout", b"").await.status, 303);
    let answer = send("/save", b"note=0123456789a").await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("kept for 5 minutes"));
    ends_in(&answer, "authferry_form=", 300);
    let kept = answer.cookies().into_iter();
    let kept: Vec<_> = kept
        .filter(|pair| pair.starts_with("authferry_form="))
        .collect();
    assert_eq!(kept.len(), 1);
    // One byte more.
    let answer = send("/save", b"note=0123456789ab").await;
    assert_eq!(answer.status, 401, "{}", answer.text());

    let mut browser = Browser::default();
    let (name, value) = kept[0].split_once('=').unwrap();
    browser.0.insert(name.to_owned(), value.to_owned());
    let start = browser.open(&proxy, "/save").await;
    let done = browser.sign_in(&proxy, &start).await;
    let to = done.header("location").unwrap().to_owned();
    assert_eq!(to, "/.authferry/form?rd=%2Fsave");
    let page = browser.open(&proxy, &to).await.text();
    assert!(page.contains("value=\"0123456789a\""), "{page}");
    assert!(page.contains("action=\"/save\""), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_a_session_is_not_enough_for_is_not_kept_and_the_session_stays() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let text = config(&old, &new, application().await, "");
    let stronger = "      - { path: /strict, preserve_post: 64B, require: { acr: [mfa] } }\n";
    let rest = "      - { path: \"/*\" }\n";
    assert!(text.contains(rest));
    let proxy = Proxy::start(&text.replace(rest, &format!("{stronger}{rest}")));
    proxy.settled().await;
    let browser = signed_in(&proxy).await;
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (host, cookies) = (proxy.address.to_string(), cookies.join("; "));
    let origin = format!("http://{host}");
    let fields = of_a_form(&host, &origin, &cookies);
    let send = async |path: &str| request(proxy.address, "POST", path, &fields, b"a=b").await;
    let answer = send("/strict").await;
    assert_eq!(answer.status, 401, "{}\n{}", answer.text(), proxy.log());
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.contains("insufficient_user_authentication"),
        "{challenge}"
    );
    assert_eq!(answer.cookies(), Vec::<String>::new());
    assert_eq!(send("/save").await.status, 200);
}
