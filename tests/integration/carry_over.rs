//! Somebody with a session of the old side is taken to the new one without a page, or nothing changes for them.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::control::good;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::lasting::Open;
use crate::lasting::application;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_without_a_sign_in_and_the_application_sees_the_same_bytes() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |percent| {
        two_providers(&old, &new, &upstream, percent).replace("[app.test]", "[127.0.0.1]")
            + "sessions: { carry_over: [silent], silent: { retry_after: 1h } }\n"
    };
    let proxy = Proxy::start(&yaml(0));
    let mut people = Vec::new();
    for known in [true, false] {
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        assert_eq!(browser.sign_in(&proxy, &start).await.status, 303);
        assert_eq!(browser.open(&proxy, "/before").await.status, 200);
        people.push((known, browser, upstream.last()));
    }
    proxy.edit(&yaml(100));
    until(async || {
        let series = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        proxy.metric(series).await == 1.0
    })
    .await;
    for (known, mut browser, before) in people {
        new.remembers(known);
        let asked = browser.open(&proxy, "/deep?a=b").await;
        assert_eq!(asked.status, 302, "{}", asked.text());
        let location = asked.header("location").unwrap();
        assert!(
            location.starts_with(&new.issuer()) && location.contains("prompt=none"),
            "{location}"
        );
        let back = browser.sign_in(&proxy, &asked).await;
        assert_eq!(
            (back.status, back.header("location")),
            (303, Some("/deep?a=b"))
        );
        let page = browser.open(&proxy, "/deep?a=b").await;
        assert_eq!(page.status, 200, "it is not asked again");
        let after = upstream.last();
        for name in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
            assert_eq!(after.all(name), before.all(name), "{name}");
        }
        let outcome = if known { "moved" } else { "login_required" };
        let series = format!(
            "authferry_session_carryovers_total{{app=\"crm\",method=\"silent\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(proxy.metric(&series).await, 1.0);
        if known {
            signs_out_at_both(&proxy, &mut browser, (&old, &new)).await;
        }
    }
    until(async || old.revoked().len() == 1).await;
    assert_eq!(new.hits("/token"), 1);
}

/// Whoever has moved is still signed in at the old provider, too: a sign-out goes there as well, and is at its end then.
pub(crate) async fn signs_out_at_both(
    proxy: &Proxy,
    browser: &mut Browser,
    (old, new): (&Idp, &Idp),
) {
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = cookies.join("; ");
    let host = proxy.address.to_string();
    let origin = format!("http://{host}");
    let fields = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Cookie", cookies.as_str()),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    assert_eq!(out.status, 303, "{}", out.text());
    for pair in out.cookies() {
        let (name, value) = pair.split_once('=').unwrap();
        browser.0.insert(name.to_owned(), value.to_owned());
    }
    let done = "/.authferry/logout/done";
    let mut location = out.header("location").unwrap().to_owned();
    for provider in [new, old] {
        let there = format!("{}/end_session?id_token_hint=", provider.issuer());
        assert!(location.starts_with(&there), "{location}");
        let back = browser.open(proxy, done).await;
        location = back.header("location").unwrap_or_default().to_owned();
    }
    assert_eq!(location, "", "{}", proxy.log());
}

/// The new provider shows an error page of its own to whoever is sent there, as with a redirect URI that was typed wrong.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_sent_round_than_may_be_lost() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream)
        + "sessions: { carry_over: [silent], silent: { retry_after: 1h } }\n";
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "a"]);
    let mut people = Vec::new();
    for n in 0..14 {
        old.signs_in(&format!("p{n}"));
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        assert_eq!(browser.sign_in(&proxy, &start).await.status, 303);
        people.push(browser);
    }
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "b"]);
    // One comes back, with whatever answer: their place is free again.
    let asked = people[0].open(&proxy, "/").await;
    assert_eq!(asked.status, 302, "{}", asked.text());
    assert_eq!(people[0].sign_in(&proxy, &asked).await.status, 303);
    new.registers(&[]);
    let mut sent = 0;
    for browser in &mut people[1..] {
        let answer = browser.open(&proxy, "/").await;
        match answer.status {
            302 => sent += 1,
            status => assert_eq!(status, 200, "the others stay where they are"),
        }
    }
    assert_eq!(sent, 10);
}

/// A download under way.
struct Download(TcpStream);

impl Download {
    async fn of(proxy: &Proxy, browser: &Browser) -> Self {
        let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let (host, cookies) = (proxy.address, cookies.join("; "));
        let head = format!("GET /file HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n");
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"begins") {
            seen.push(stream.read_u8().await.unwrap());
        }
        assert!(seen.starts_with(b"HTTP/1.1 200 "), "{}", proxy.log());
        Self(stream)
    }

    async fn goes_on(&mut self) -> bool {
        let more = timeout(Duration::from_millis(50), self.0.read_u8());
        more.await.is_err()
    }

    async fn is_cut(&mut self) {
        let end = timeout(Duration::from_secs(10), self.0.read_u8()).await;
        assert!(end.expect("it ends in time").is_err(), "nothing more comes");
    }
}

pub(crate) async fn closed(proxy: &Proxy, reason: &str) -> f64 {
    let series = format!("authferry_tunnels_closed_total{{reason=\"{reason}\"}}");
    proxy.metric(&series).await
}

/// Somebody at the old side who opens a page once they belong to the new one, which knows them: the browser of before, and of now.
pub(crate) async fn moves(proxy: &Proxy, yaml: &str, browser: &mut Browser) -> Browser {
    let before = browser.clone();
    proxy.edit(yaml);
    until(async || {
        let series = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        proxy.metric(series).await == 1.0
    })
    .await;
    let asked = browser.open(proxy, "/page").await;
    assert_eq!(asked.status, 302, "{}", proxy.log());
    assert_eq!(browser.sign_in(proxy, &asked).await.status, 303);
    assert_ne!(browser.0["authferry"], before.0["authferry"]);
    before
}

/// What a script of another tab gets that has not heard of it.
pub(crate) async fn script(proxy: &Proxy, before: &Browser) -> u16 {
    let cookies: Vec<_> = before.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (host, cookies) = (proxy.address.to_string(), cookies.join("; "));
    let fields = [("Host", host.as_str()), ("Cookie", cookies.as_str())];
    let answer = request(proxy.address, "GET", "/api", &fields, b"").await;
    assert!(answer.cookies().is_empty(), "{answer:?}");
    answer.status
}

pub(crate) async fn at_the_old_side(proxy: &Proxy) -> Browser {
    proxy.settled().await;
    let mut browser = Browser::default();
    let start = browser.open(proxy, "/").await;
    assert_eq!(browser.sign_in(proxy, &start).await.status, 303);
    browser
}

fn lasting(old: &Idp, new: &Idp, upstream: std::net::SocketAddr, percent: u32) -> String {
    let sessions = "sessions: { carry_over: [silent], silent: { retry_after: 1h } }";
    crate::lasting::config(old, new, upstream, sessions)
        .replace("percent: 100", &format!("percent: {percent}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_does_not_notice_a_move_and_ends_with_the_session_that_took_the_place() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let upstream = application().await;
    let yaml = |percent| lasting(&old, &new, upstream, percent);
    let proxy = Proxy::start(&yaml(0));
    let mut browser = at_the_old_side(&proxy).await;
    let mut open = [
        Open::of(&proxy, &browser, true).await,
        Open::of(&proxy, &browser, false).await,
    ];
    let mut download = Download::of(&proxy, &browser).await;
    new.remembers(true);
    let before = moves(&proxy, &yaml(100), &mut browser).await;
    assert_eq!(script(&proxy, &before).await, 200, "{}", proxy.log());
    until(async || script(&proxy, &before).await == 401).await;
    // Its session is over; what is open is looked at twice a second.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        for one in &mut open {
            assert!(one.is_open().await, "{}", proxy.log());
        }
        assert!(download.goes_on().await, "{}", proxy.log());
    }
    for reason in ["revoked", "expired", "moved"] {
        assert_eq!(closed(&proxy, reason).await, 0.0, "{reason}");
    }
    assert_eq!(browser.open(&proxy, "/page").await.status, 200);
    signs_out_at_both(&proxy, &mut browser, (&old, &new)).await;
    for one in &mut open {
        one.ends(Duration::from_secs(10)).await;
    }
    download.is_cut().await;
    until(async || 3.0 <= closed(&proxy, "revoked").await).await;
}

/// The application is told which provider has vouched: somebody who has moved is to come again, and is not put out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_closed_where_the_application_is_told_something_else_after_a_move() {
    let (old, new) = (Idp::start().await, Idp::start().await);
    let upstream = application().await;
    let yaml = |percent| {
        lasting(&old, &new, upstream, percent)
            .replace("User: \"{subject}\"", "User: \"{subject}/{provider}\"")
    };
    assert!(yaml(0).contains("{subject}/{provider}"));
    let proxy = Proxy::start(&yaml(0));
    let mut browser = at_the_old_side(&proxy).await;
    let mut open = [
        Open::of(&proxy, &browser, true).await,
        Open::of(&proxy, &browser, false).await,
    ];
    let mut download = Download::of(&proxy, &browser).await;
    new.remembers(true);
    moves(&proxy, &yaml(100), &mut browser).await;
    for one in &mut open {
        one.ends_with(1_012, Duration::from_secs(20)).await;
    }
    download.is_cut().await;
    until(async || 3.0 <= closed(&proxy, "moved").await).await;
    assert_eq!(closed(&proxy, "revoked").await, 0.0);
    assert!(Open::of(&proxy, &browser, true).await.is_open().await);
}
