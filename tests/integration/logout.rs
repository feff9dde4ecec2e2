//! Whoever signs out at a provider is out here, with everything that is open.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;

/// An application whose `/events` and `/file` begin and do not end.
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
    let mut seen = Vec::new();
    loop {
        while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut chunk = [0; 4_096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => seen.extend_from_slice(&chunk[..n]),
            }
        }
        let head = String::from_utf8_lossy(&seen).into_owned();
        seen.clear();
        let kind = match head.split(' ').nth(1).unwrap() {
            "/events" => "text/event-stream",
            "/file" => "application/octet-stream",
            _ => {
                let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(whole).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let begun = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n"
        );
        if stream.write_all(begun.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn config(old: &Idp, new: &Idp, upstream: SocketAddr) -> String {
    format!(
        r#"
providers:
  old: {{ oidc: {{ issuer: "{old}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }} }}
  new: {{ oidc: {{ issuer: "{new}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }} }}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test, 127.0.0.1]
    upstream: {{ url: "http://{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
rollout:
  from: old
  to: new
  bucketing: {{ salt: test }}
  assign:
    - {{ percent: 0, to: new }}
"#,
        old = old.issuer(),
        new = new.issuer(),
    )
}

async fn tell(proxy: &Proxy, provider: &str, token: &str) -> Answer {
    let fields = [("Content-Type", "application/x-www-form-urlencoded")];
    let path = format!("/.authferry/backchannel/{provider}");
    let body = format!("logout_token={token}");
    request(proxy.address, "POST", &path, &fields, body.as_bytes()).await
}

async fn call(proxy: &Proxy, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let fields = [("Authorization", bearer.as_str())];
    request(proxy.address, "GET", "/", &fields, b"")
        .await
        .status
}

/// Begins an answer with a browser's session, and waits for its first bytes.
async fn begin(proxy: &Proxy, browser: &Browser, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        proxy.address,
        cookies.join("; ")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("data: 1") {
        let mut chunk = [0; 4_096];
        let n = stream.read(&mut chunk).await.unwrap();
        assert_ne!(n, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..n]);
    }
    stream
}

/// What still comes of an answer, which must end in two seconds; a busy machine is given a while more.
async fn rest(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    timeout(Duration::from_secs(10), async {
        let mut chunk = [0; 4_096];
        while let Ok(n @ 1..) = stream.read(&mut chunk).await {
            seen.extend_from_slice(&chunk[..n]);
            if seen.ends_with(b"0\r\n\r\n") {
                return;
            }
        }
    })
    .await
    .expect("it ends in time");
    String::from_utf8_lossy(&seen).into_owned()
}

async fn signed_in(proxy: &Proxy) -> Browser {
    let mut browser = Browser::default();
    let start = browser.open(proxy, "/").await;
    browser.sign_in(proxy, &start).await;
    assert_eq!(browser.open(proxy, "/").await.status, 200);
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_one_provider_ends_what_the_other_vouched_for_and_what_is_open() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let proxy = Proxy::start(&config(&old, &new, application().await));
    proxy.settled().await;
    let mut browser = signed_in(&proxy).await;
    old.signs_in("bob");
    let mut bob = signed_in(&proxy).await;
    old.signs_in("alice");
    // The new provider's account is the same person's.
    let token = new.token("alice");
    assert_eq!(call(&proxy, &token).await, 200);
    let mut events = begin(&proxy, &browser, "/events").await;
    let mut file = begin(&proxy, &browser, "/file").await;
    let mut bobs = begin(&proxy, &bob, "/events").await;

    let logout = new.logout_token("j1", &json!({ "sub": "alice" }));
    assert_eq!(
        tell(&proxy, "old", &logout).await.status,
        400,
        "of another issuer"
    );
    assert_eq!(call(&proxy, &token).await, 200);
    let told = tell(&proxy, "new", &logout).await;
    assert_eq!(
        (told.status, told.header("cache-control")),
        (200, Some("no-store"))
    );
    assert_eq!(browser.open(&proxy, "/").await.status, 302);
    assert_eq!(call(&proxy, &token).await, 401);
    assert_eq!(
        rest(&mut events).await,
        "0\r\n\r\n",
        "an event stream ends in order"
    );
    assert_eq!(rest(&mut file).await, "", "half a file does not look whole");
    assert_eq!(bob.open(&proxy, "/").await.status, 200);
    let more = timeout(Duration::from_millis(100), bobs.read_u8()).await;
    assert!(more.is_err(), "bob's stream goes on");
    // Counted a moment after clients have heard of it.
    let closed = "authferry_tunnels_closed_total{reason=\"revoked\"}";
    until(async || proxy.metric(closed).await == 2.0).await;
    let lag = "authferry_revocation_lag_seconds_count{provider=\"new\"}";
    until(async || proxy.metric(lag).await == 1.0).await;

    // Who signs in again is in again, and the same word does not count twice.
    let mut browser = signed_in(&proxy).await;
    assert_eq!(tell(&proxy, "new", &logout).await.status, 400);
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_the_provider_ends_by_its_sid_and_by_nobody_elses() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let proxy = Proxy::start(&config(&old, &new, application().await));
    proxy.settled().await;
    let mut browser = signed_in(&proxy).await;
    let sid = format!("code-{}", old.hits("/authorize"));
    let mixed = old.logout_token("j1", &json!({ "sub": "bob", "sid": sid }));
    assert_eq!(tell(&proxy, "old", &mixed).await.status, 400);
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    let front = async |sid: &str| {
        let path = format!(
            "/.authferry/frontchannel/old?iss={}&sid={sid}",
            old.issuer()
        );
        request(proxy.address, "GET", &path, &[], b"").await.status
    };
    assert_eq!(front("code-0").await, 200, "who guesses learns nothing");
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    assert_eq!(front(&sid).await, 200);
    assert_eq!(browser.open(&proxy, "/").await.status, 302);

    let mut browser = signed_in(&proxy).await;
    let sid = format!("code-{}", old.hits("/authorize"));
    let logout = old.logout_token("j2", &json!({ "sid": sid }));
    assert_eq!(tell(&proxy, "old", &logout).await.status, 200);
    assert_eq!(browser.open(&proxy, "/").await.status, 302);
}

/// Whoever has come over without a sign-in is still signed in where they were: the old provider knows that session alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_the_old_provider_takes_along_what_has_moved_from_it_and_what_is_open() {
    for by_token in [true, false] {
        let (old, new) = (Idp::start().await, Idp::start().await);
        let yaml = config(&old, &new, application().await)
            + "sessions: { carry_over: [silent], silent: { retry_after: 1h } }\n";
        let proxy = Proxy::start(&yaml);
        proxy.settled().await;
        let mut browser = signed_in(&proxy).await;
        let sid = format!("code-{}", old.hits("/authorize"));
        old.signs_in("bob");
        let mut bob = signed_in(&proxy).await;
        let others = format!("code-{}", old.hits("/authorize"));
        proxy.edit(&yaml.replace("percent: 0", "percent: 100"));
        let target = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        until(async || proxy.metric(target).await == 1.0).await;
        new.remembers(true);
        let asked = browser.open(&proxy, "/").await;
        let to = asked.header("location").unwrap_or_default();
        assert!(to.starts_with(&new.issuer()), "{to}");
        assert_eq!(browser.sign_in(&proxy, &asked).await.status, 303);
        let mut events = begin(&proxy, &browser, "/events").await;
        let tells = async |sid: &str| {
            if by_token {
                let logout = old.logout_token(sid, &json!({ "sid": sid }));
                tell(&proxy, "old", &logout).await.status
            } else {
                let issuer = old.issuer();
                let path = format!("/.authferry/frontchannel/old?iss={issuer}&sid={sid}");
                request(proxy.address, "GET", &path, &[], b"").await.status
            }
        };
        assert_eq!(tells(&others).await, 200);
        let more = timeout(Duration::from_millis(100), events.read_u8()).await;
        assert!(more.is_err(), "somebody else's");
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        assert_eq!(tells(&sid).await, 200);
        assert_eq!(rest(&mut events).await, "0\r\n\r\n", "by_token: {by_token}");
        assert_eq!(browser.open(&proxy, "/").await.status, 302);
        // Its row is gone, and what the new provider issued is given back there.
        until(async || new.revoked().len() == 1).await;
        assert_eq!(bob.open(&proxy, "/").await.status, 302);
    }
}

/// Behind one address there may be everybody: whoever floods it with bad logouts keeps no good one out.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_logouts_keeps_no_good_one_out() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let proxy = Proxy::start(&config(&old, &new, application().await));
    proxy.settled().await;
    let mut browser = signed_in(&proxy).await;
    let token = new.token("alice");
    assert_eq!(call(&proxy, &token).await, 200);
    let foreign = old.logout_token("j0", &json!({ "sub": "alice" }));
    for _ in 0..301 {
        assert_eq!(tell(&proxy, "new", &foreign).await.status, 400);
    }
    // By a key that nobody has: whether it is one of the provider would have to be asked.
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "RS256", "kid": "another", "typ": "logout+jwt" }));
    let claims = part(json!({ "iss": new.issuer(), "sub": "alice" }));
    let unseen = tell(&proxy, "new", &format!("{head}.{claims}.c2lnbmF0dXJl")).await;
    assert_eq!(unseen.status, 503);
    assert!(unseen.header("retry-after").is_some());
    let logout = new.logout_token("j1", &json!({ "sub": "alice" }));
    assert_eq!(tell(&proxy, "new", &logout).await.status, 200);
    assert_eq!(browser.open(&proxy, "/").await.status, 302);
    assert_eq!(call(&proxy, &token).await, 401);
}

/// The back channel is where the configuration says, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_says_where_it_was_told_that_somebody_has_signed_out() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let verify = "verify: { audiences: [app] }";
    let text = config(&old, &new, application().await).replacen(
        verify,
        &format!("{verify}, backchannel_logout: {{ enabled: false }}"),
        1,
    );
    let (before, last) = text.rsplit_once(verify).unwrap();
    let named = format!("{verify}, backchannel_logout: {{ path: /.authferry/bcl/new }}");
    let proxy = Proxy::start(&format!("{before}{named}{last}"));
    proxy.settled().await;
    let token = new.token("alice");
    assert_eq!(call(&proxy, &token).await, 200);
    let fields = [("Content-Type", "application/x-www-form-urlencoded")];
    let tell_at = async |path: &str, jti: &str, idp: &Idp| {
        let token = idp.logout_token(jti, &json!({ "sub": "alice" }));
        let body = format!("logout_token={token}");
        let told = request(proxy.address, "POST", path, &fields, body.as_bytes()).await;
        told.status
    };
    assert_eq!(
        tell_at("/.authferry/backchannel/new", "j1", &new).await,
        403
    );
    assert_eq!(
        tell_at("/.authferry/backchannel/old", "j2", &old).await,
        403
    );
    assert_eq!(call(&proxy, &token).await, 200);
    assert_eq!(tell_at("/.authferry/bcl/new", "j3", &new).await, 200);
    assert_eq!(call(&proxy, &token).await, 401);
}

/// A sign-out here is told to whoever else holds something, again while it is away, and nobody waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_revokes_the_token_ends_the_old_session_and_goes_on_at_the_provider() {
    let (new, app) = (Idp::start().await, Echo::start().await);
    let text = config(&new, &new, "127.0.0.1:1".parse().unwrap())
        .replace("http://127.0.0.1:1", &app.url())
        .replace("percent: 0", "percent: 100");
    let old = format!(
        "  old: {{ session_probe: {{ owns: {{ cookies: [OLDSID] }}, introspect: {{ url: \"{url}/whoami\" }}, login: {{ upstream_form: {{ start: /login }} }}, revoke: {{ url: \"{url}/signout\", send: cookie }}, claims: {{ subject: uid }}, authoritative: {{ claims: [uid] }} }} }}",
        url = app.url()
    );
    let lines = text.lines().map(|line| {
        if line.starts_with("  old:") {
            old.as_str()
        } else {
            line
        }
    });
    let proxy = Proxy::start(&lines.collect::<Vec<_>>().join("\n"));
    proxy.settled().await;
    let browser = signed_in(&proxy).await;
    new.revokes_later(1);
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = format!("{}; OLDSID=abc", cookies.join("; "));
    let (host, origin) = (
        proxy.address.to_string(),
        format!("http://{}", proxy.address),
    );
    let fields = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Cookie", cookies.as_str()),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    assert_eq!(out.status, 303, "{}\n{}", out.text(), proxy.log());
    let location = out.header("location").unwrap();
    assert!(
        location.starts_with(&format!("{}/end_session?id_token_hint=", new.issuer())),
        "{location}"
    );
    assert!(
        out.cookies().contains(&"OLDSID=".to_owned()),
        "{:?}",
        out.cookies()
    );
    let began = tokio::time::Instant::now();
    while new.revoked().is_empty()
        || app
            .seen()
            .iter()
            .all(|seen| !seen.line().starts_with("POST /signout "))
    {
        assert!(began.elapsed() < PATIENCE, "{}", proxy.log());
        tokio::task::yield_now().await;
    }
    assert_eq!(new.revoked(), ["refresh-1"]);
    assert_eq!(new.hits("/revoke"), 2, "once more after a 503");
    let seen = app.seen();
    let signout = seen
        .iter()
        .find(|seen| seen.line().starts_with("POST /signout "))
        .unwrap();
    assert_eq!(signout.all("cookie"), ["OLDSID=abc"], "the cookie alone");
    let told = r#"authferry_logout_fanout_total{provider="new",outcome="success"}"#;
    while proxy.metric(told).await < 1.0 {
        assert!(began.elapsed() < PATIENCE);
    }
    assert_ne!(browser_status(&proxy, &browser).await, 200);
}

async fn browser_status(proxy: &Proxy, browser: &Browser) -> u16 {
    let mut again = Browser(browser.0.clone());
    again.open(proxy, "/").await.status
}
