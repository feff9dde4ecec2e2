//! Somebody with a session of the old side is taken to the new one without a page, or nothing changes for them.

use crate::control::good;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
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
async fn signs_out_at_both(proxy: &Proxy, browser: &mut Browser, (old, new): (&Idp, &Idp)) {
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
