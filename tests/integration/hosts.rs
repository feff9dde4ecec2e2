//! An application with several hosts: a session is of one of them, also where a worker knows the cookie from another one.

use std::collections::BTreeSet;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;
use crate::wrapped;

/// So many connections that each worker has seen a cookie at one host before it sees it at the other.
const OFTEN: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_used_at_its_host_is_none_at_another_one() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100);
    let proxy = Proxy::start(&yaml.replace("[app.test]", "[app.test, 127.0.0.1]"));
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    let done = browser.sign_in(&proxy, &start).await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    let cookie = format!("authferry={}", browser.0["authferry"]);
    let page = [("Cookie", cookie.as_str()), ("Sec-Fetch-Mode", "navigate")];
    for _ in 0..OFTEN {
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        let hits = upstream.hits();
        let elsewhere = request(proxy.address, "GET", "/", &page, b"").await;
        assert_ne!(elsewhere.status, 200, "it is of 127.0.0.1");
        assert_eq!(upstream.hits(), hits);
    }
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_session_at_two_hosts_gets_a_session_of_ours_at_each() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml = wrapped::config(&old, &new, &upstream, 0)
        .replace("[127.0.0.1]", "[app.test, 127.0.0.1]")
        + "sessions: { carry_over: [wrap] }\n";
    let proxy = Proxy::start(&yaml);
    let hosts = ["app.test", "127.0.0.1"];
    let mut given = [BTreeSet::new(), BTreeSet::new()];
    let mut rounds = 0;
    // What the old system has just said gives no session, so it takes until it is asked anew.
    until(async || {
        rounds += 1;
        for (host, given) in hosts.iter().zip(&mut given) {
            let fields = [("Host", *host), ("Cookie", "SID=alice.1")];
            let page = request(proxy.address, "GET", "/", &fields, b"").await;
            assert_eq!(page.status, 200, "{}", page.text());
            assert_eq!(upstream.last().all("x-remote-user"), ["uid-alice"]);
            given.extend(page.cookies());
        }
        OFTEN < rounds && given.iter().all(|given| !given.is_empty())
    })
    .await;
    assert!(given[0].is_disjoint(&given[1]), "{given:?}");
}
