//! People sign out of an application by its own path, and are out here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;
use crate::upstreams::read_head;
use crate::wrapped::config;
use crate::wrapped::with_session;

/// An application with a sign-out of its own, which asks first at `?ask`, and refuses at `?bad`; what it was asked.
async fn application() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::default());
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&all)));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    const FORGET: &str = "Set-Cookie: SID=; Max-Age=0; Path=/\r\n";
    loop {
        let (head, _) = read_head(&mut stream).await;
        let line = head.lines().next().unwrap_or_default().to_owned();
        let (status, fields) = match line.trim_end_matches(" HTTP/1.1") {
            "GET /logout" => ("302 Found\r\nLocation: /bye", FORGET),
            "POST /logout" => ("200 OK", FORGET),
            "POST /logout?bad" => ("403 Forbidden", ""),
            "" => return,
            _ => ("200 OK", ""),
        };
        seen.lock().unwrap().push(head);
        let answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sends a form from a page of that origin; `None`: of the application.
async fn post(proxy: &Proxy, browser: &mut Browser, target: &str, origin: Option<&str>) -> Answer {
    let host = proxy.address.to_string();
    let own = format!("http://{host}");
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = cookies.join("; ");
    let fields = [
        ("Host", host.as_str()),
        ("Origin", origin.unwrap_or(&own)),
        ("Cookie", cookies.as_str()),
    ];
    let answer = request(proxy.address, "POST", target, &fields, b"").await;
    for pair in answer.cookies() {
        let (name, value) = pair.split_once('=').unwrap();
        if value.is_empty() {
            browser.0.remove(name);
        } else {
            browser.0.insert(name.to_owned(), value.to_owned());
        }
    }
    answer
}

fn with_path(yaml: &str, echo: &Echo, application: SocketAddr) -> String {
    yaml.replace(&echo.url(), &format!("http://{application}"))
        .replace(
            "public_paths: [/public/*]",
            "forward_credentials: true\n    logout_paths: [/logout]",
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_by_the_path_of_the_application_is_out_here_and_nobody_is_by_another_site()
 {
    let (old, new, echo) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let (application, seen) = application().await;
    let yaml = two_providers(&old, &new, &echo, 0).replace("[app.test]", "[127.0.0.1]");
    let proxy = Proxy::start(&with_path(&yaml, &echo, application));
    proxy.settled().await;
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    assert_eq!(browser.sign_in(&proxy, &start).await.status, 303);
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    let there = || seen.lock().unwrap().len();
    let before = there();

    let asks = browser.open(&proxy, "/logout").await;
    let to = (asks.status, asks.header("location"));
    assert_eq!(to, (302, Some("/.authferry/logout")), "{}", proxy.log());
    assert_eq!(there(), before, "it has no session of its own");
    let page = browser.open(&proxy, "/.authferry/logout").await;
    assert!(page.status == 200 && browser.open(&proxy, "/").await.status == 200);

    // What others send, or a script asks, is for the application to judge.
    let before = there();
    let other = Some("https://evil.test");
    let answer = post(&proxy, &mut browser, "/logout", other).await;
    assert_eq!(answer.status, 200, "{}", proxy.log());
    let host = proxy.address.to_string();
    let cookie = format!("authferry={}", browser.0["authferry"]);
    let script = [
        ("Host", host.as_str()),
        ("Cookie", cookie.as_str()),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
    ];
    let answer = request(proxy.address, "GET", "/logout", &script, b"").await;
    assert_eq!(answer.header("location"), Some("/bye"));
    assert_eq!(there(), before + 2);
    assert_eq!(browser.open(&proxy, "/").await.status, 200);

    let (before, mut copy) = (there(), browser.clone());
    let out = post(&proxy, &mut browser, "/logout", None).await;
    assert_eq!(out.status, 303, "{}", out.text());
    assert!(!browser.0.contains_key("authferry"));
    assert_eq!(there(), before);
    assert_eq!(copy.open(&proxy, "/").await.status, 302);
    until(async || old.revoked().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_ends_its_own_session_first_and_nothing_of_ours_is_left_behind() {
    let (old, new, echo) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let (application, seen) = application().await;
    let yaml = config(&old, &new, &echo, 0) + "sessions: { carry_over: [wrap], revalidate: 1m }\n";
    let proxy = Proxy::start(&with_path(&yaml, &echo, application));
    proxy.settled().await;
    let mut browser = with_session("alice.1");
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    assert!(browser.0.contains_key("authferry"));

    // A page that asks, and a refusal, are the application's word.
    let asks = browser.open(&proxy, "/logout?ask").await;
    assert_eq!((asks.status, asks.text().as_str()), (200, "ok"));
    let no = post(&proxy, &mut browser, "/logout?bad", None).await;
    assert_eq!(no.status, 403, "{}", proxy.log());
    assert_eq!(browser.open(&proxy, "/").await.status, 200);

    let mut other = browser.clone();
    let led = other.open(&proxy, "/logout").await;
    let to = (led.status, led.header("location"));
    assert_eq!(to, (302, Some("/.authferry/logout")), "{}", proxy.log());
    assert!(!other.0.contains_key("SID"), "as the application says");

    let mut copy = browser.clone();
    let out = post(&proxy, &mut browser, "/logout", None).await;
    assert_eq!(out.status, 303, "{}", out.text());
    assert!(!browser.0.contains_key("SID") && !browser.0.contains_key("authferry"));
    let last = seen.lock().unwrap().last().cloned().unwrap();
    assert!(last.starts_with("POST /logout ") && last.contains("SID=alice.1"));
    assert_eq!(copy.open(&proxy, "/").await.status, 302);
    until(async || old.has_ended("alice.1")).await;
}
