//! Sessions of an old system get one of ours beside them, and nobody sees anything of it.

use std::time::Duration;

use crate::carry_over::closed;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::request;
use crate::lasting::Open;
use crate::lasting::application;
use crate::login::Browser;
use crate::reload::until;
use crate::report::report;
use crate::report::rows;
use crate::two_providers;

const WRAPPED: &str =
    "authferry_session_carryovers_total{app=\"crm\",method=\"wrap\",outcome=\"moved\"} ";

/// Two providers of which the old one is a system with sessions of its own.
pub(crate) fn config(old: &OldSystem, new: &Idp, upstream: &Echo, percent: u32) -> String {
    let text = two_providers(new, new, upstream, percent).replace("[app.test]", "[127.0.0.1]");
    let line = format!("  old: {}", old.provider());
    let lines = text.lines().map(|own| {
        if own.starts_with("  old:") {
            line.as_str()
        } else {
            own
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// A browser with a session of the old system.
pub(crate) fn with_session(session: &str) -> Browser {
    let mut browser = Browser::default();
    browser.0.insert("SID".to_owned(), session.to_owned());
    browser
}

async fn sign_out(proxy: &Proxy, browser: &Browser) -> u16 {
    let (host, origin) = (
        proxy.address.to_string(),
        format!("http://{}", proxy.address),
    );
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = cookies.join("; ");
    let fields = [
        ("Host", host.as_str()),
        ("Origin", origin.as_str()),
        ("Cookie", cookies.as_str()),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    out.status
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_get_one_session_which_lasts_as_long_as_the_old_one() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml =
        config(&old, &new, &upstream, 0) + "sessions: { carry_over: [wrap], revalidate: 1m }\n";
    let proxy = Proxy::start(&yaml);
    let host = proxy.address.to_string();
    let fields = [("Host", host.as_str()), ("Cookie", "SID=alice.1")];
    let at_once = (0..20).map(|_| request(proxy.address, "GET", "/first", &fields, b""));
    let answers = futures_util::future::join_all(at_once).await;
    let mut cookies: Vec<_> = answers
        .iter()
        .inspect(|answer| assert_eq!(answer.status, 200, "{}", answer.text()))
        .inspect(|answer| assert_eq!(answer.header("cache-control"), Some("private")))
        .flat_map(|answer| answer.cookies())
        .collect();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(proxy.metric(WRAPPED).await, 1.0);
    let native = upstream.last();

    let mut browser = with_session("alice.1");
    assert_eq!(browser.open(&proxy, "/own").await.status, 200);
    assert_eq!(format!("authferry={}", browser.0["authferry"]), cookies[0]);
    let page = browser.open(&proxy, "/own").await;
    assert!(page.status == 200 && page.cookies().is_empty(), "{page:?}");
    let ours = upstream.last();
    for name in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
        assert!(!ours.all(name).is_empty());
        assert_eq!(ours.all(name), native.all(name), "{name}");
    }
    assert_eq!(ours.all("x-remote-user"), ["uid-alice"]);
    let shown = "authferry_sessions{app=\"crm\",backing=\"legacy\",origin=\"wrap\"} ";
    until(async || proxy.metric(shown).await == 1.0).await;
    // A yes of the old system is kept for a second, a session of ours for a minute.
    let asked = old.asked();
    let began = tokio::time::Instant::now();
    until(async || 1.1 < began.elapsed().as_secs_f64()).await;
    assert_eq!(browser.open(&proxy, "/own").await.status, 200);
    assert_eq!(old.asked(), asked);

    // Another person in the same browser is another person, at once.
    let mut other = browser.clone();
    other.0.insert("SID".to_owned(), "bob.1".to_owned());
    assert_eq!(other.open(&proxy, "/other").await.status, 200);
    assert_eq!(upstream.last().all("x-remote-user"), ["uid-bob"]);
    // And a browser that has lost its cookie has no session, whatever it kept of ours.
    let mut lost = browser.clone();
    lost.0.remove("SID");
    let hits = upstream.hits();
    let away = lost.open(&proxy, "/lost").await;
    assert_eq!(
        (away.status, away.header("location")),
        (302, Some("/login?next=%2Flost")),
        "{}",
        proxy.log()
    );
    assert_eq!(upstream.hits(), hits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_ends_both_and_one_at_the_old_system_ends_ours() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml =
        config(&old, &new, &upstream, 0) + "sessions: { carry_over: [wrap], revalidate: 1s }\n";
    let proxy = Proxy::start(&yaml);
    let mut browser = with_session("alice.1");
    browser.open(&proxy, "/").await;
    let copy = browser.clone();
    assert_eq!(sign_out(&proxy, &browser).await, 303);
    until(async || old.has_ended("alice.1")).await;
    until(async || copy.clone().open(&proxy, "/").await.status != 200).await;

    let mut browser = with_session("bob.1");
    browser.open(&proxy, "/").await;
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    old.end("bob.1");
    until(async || browser.clone().open(&proxy, "/").await.status != 200).await;
}

/// The way by which the new provider gives a token of the same person.
pub(crate) const BRIDGE: &str = r#"
exchange:
  bridge: { assertion: { provider: new, issuer: "https://ferry.test", subject: "{subject}", audiences: [api] } }
"#;

fn carried(method: &str, outcome: &str) -> String {
    format!(
        "authferry_session_carryovers_total{{app=\"crm\",method=\"{method}\",outcome=\"{outcome}\"}} "
    )
}

/// Whoever is in `names` has a session of the old system that ours stands for; then everybody belongs to the new side.
async fn wrapped_and_then_moved(
    (old, new, upstream): (&OldSystem, &Idp, &Echo),
    revalidate: &str,
    names: &[&str],
) -> (Proxy, Vec<Browser>) {
    let yaml = |percent| {
        let sessions = "sessions: { carry_over: [wrap, exchange], revalidate: ";
        // Any moment of later will do for a password that was changed since.
        let config = config(old, new, upstream, percent);
        let config = config.replace(
            "groups: groups }",
            "groups: groups, password_changed: exp }",
        );
        config + sessions + revalidate + " }\n" + BRIDGE
    };
    let proxy = Proxy::start(&yaml(0));
    proxy.settled().await;
    let mut browsers = Vec::new();
    for name in names {
        let mut browser = with_session(&format!("{name}.1"));
        assert_eq!(browser.open(&proxy, "/before").await.status, 200);
        browsers.push(browser);
    }
    proxy.edit(&yaml(100));
    until(async || {
        let series = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        proxy.metric(series).await == 1.0
    })
    .await;
    (proxy, browsers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_session_becomes_one_of_the_new_provider_without_a_sign_in() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let world = (&old, &new, &upstream);
    let (proxy, mut browsers) = wrapped_and_then_moved(world, "1m", &["alice"]).await;
    let before = upstream.last();
    let mut browser = browsers.remove(0);
    let wrapped = browser.0["authferry"].clone();
    let host = proxy.address.to_string();
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = cookies.join("; ");
    // A script is not sent round.
    let script = [("Host", host.as_str()), ("Cookie", cookies.as_str())];
    let answer = request(proxy.address, "GET", "/api", &script, b"").await;
    assert_eq!((answer.status, new.hits("/token")), (200, 0));
    // Ten tabs at once: one of them moves, the others go on meanwhile.
    let page = [
        ("Host", host.as_str()),
        ("Cookie", cookies.as_str()),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    let tabs = (0..10).map(|_| request(proxy.address, "GET", "/deep?a=b", &page, b""));
    let tabs = futures_util::future::join_all(tabs).await;
    let moved: Vec<_> = tabs.iter().filter(|tab| tab.status == 302).collect();
    assert_eq!(moved.len(), 1, "{tabs:?}\n{}", proxy.log());
    assert!(tabs.iter().all(|tab| [200, 302].contains(&tab.status)));
    assert_eq!(moved[0].header("location"), Some("/deep?a=b"));
    assert_eq!(new.hits("/token"), 1);
    for pair in moved[0].cookies() {
        let (name, value) = pair.split_once('=').unwrap();
        browser.0.insert(name.to_owned(), value.to_owned());
    }
    assert_ne!(browser.0["authferry"], wrapped, "a new backing, a new id");
    assert!(
        !old.has_ended("alice.1"),
        "not before the browser has the new one"
    );
    let page = browser.open(&proxy, "/deep?a=b").await;
    assert_eq!(page.status, 200, "{}", proxy.log());
    let after = upstream.last();
    for name in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
        assert_eq!(after.all(name), before.all(name), "{name}");
    }
    let shown = "authferry_sessions{app=\"crm\",backing=\"modern\",origin=\"exchange\"} ";
    until(async || proxy.metric(shown).await == 1.0).await;
    assert_eq!(proxy.metric(&carried("exchange", "moved")).await, 1.0);
    // Nobody has seen a page: what the new provider says of them counts from the move on.
    let found = report(&proxy, &["rollback"]);
    let whys = rows(&found, "A switch back now");
    let changed = whys
        .iter()
        .find(|row| row["why"] == "password_changed_since");
    assert_eq!(changed.unwrap()["people"], 1, "{found}");
    // What it followed is over: at the old system, and here.
    until(async || old.has_ended("alice.1")).await;
    let mut earlier = browser.clone();
    earlier.0.insert("authferry".to_owned(), wrapped);
    assert_ne!(earlier.open(&proxy, "/").await.status, 200);
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    assert_eq!((new.hits("/authorize"), new.hits("/token")), (0, 1));
}

/// Another application that lives by the cookie of the old system, or does not move, keeps the session of who has moved in this one;
/// one that moves as well does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_another_application_lives_by_is_not_ended_at_the_old_system() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml = |percent, other: Option<&str>| {
        let other = other.map_or_else(String::new, |more| {
            format!(
                "  other: {{ hosts: [other.test], upstream: {{ url: \"{}\" }}, identity_headers: {{ X-Remote-User: \"{{subject}}\" }}{more} }}\n",
                upstream.url(),
            )
        });
        let config = config(&old, &new, &upstream, percent);
        let config = config.replace("rollout:", &format!("{other}rollout:"));
        config + "sessions: { carry_over: [wrap, exchange] }\n" + BRIDGE
    };
    let cases = [
        (
            "forwarded",
            Some(", provider: new, forward_credentials: true"),
        ),
        ("stays", Some(", provider: old")),
        ("moves-too", Some("")),
        ("alone", None),
    ];
    let proxy = Proxy::start(&yaml(0, None));
    proxy.settled().await;
    let mut browsers = Vec::new();
    for (name, _) in cases {
        let mut browser = with_session(&format!("{name}.1"));
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        browsers.push(browser);
    }
    for (before, ((name, other), browser)) in cases.iter().zip(&mut browsers).enumerate() {
        proxy.edit(&yaml(100, *other));
        let reloaded = "The configuration was reloaded.";
        until(async || proxy.log().matches(reloaded).count() == before + 1).await;
        assert_eq!(browser.open(&proxy, "/").await.status, 302, "{name}");
        assert_eq!(browser.open(&proxy, "/").await.status, 200, "{name}");
    }
    // Of these the last, and by then those before are long past it.
    until(async || old.has_ended("alone.1")).await;
    let ended = cases.map(|(name, _)| old.has_ended(&format!("{name}.1")));
    assert_eq!(ended, [false, false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_does_not_notice_an_exchange_and_ends_with_the_session_that_it_gave() {
    let (old, new, echo) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let upstream = application().await;
    let yaml = |percent| {
        let sessions = "sessions: { carry_over: [wrap, exchange], revalidate: 1m }\n";
        let routes = "routes: [{ path: /ws, websocket: true }, { path: \"/*\" }]";
        let text = config(&old, &new, &echo, percent) + sessions + BRIDGE;
        text.replace(&echo.url(), &format!("http://{upstream}"))
            .replace("public_paths: [/public/*]", routes)
    };
    let proxy = Proxy::start(&yaml(0));
    proxy.settled().await;
    let mut browser = with_session("alice.1");
    assert_eq!(browser.open(&proxy, "/before").await.status, 200);
    let mut open = [
        Open::of(&proxy, &browser, true).await,
        Open::of(&proxy, &browser, false).await,
    ];
    proxy.edit(&yaml(100));
    until(async || {
        let series = "authferry_rollout_target_ratio{rollout=\"default\"} ";
        proxy.metric(series).await == 1.0
    })
    .await;
    assert_eq!(browser.open(&proxy, "/deep").await.status, 302);
    assert_eq!(browser.open(&proxy, "/deep").await.status, 200);
    until(async || old.has_ended("alice.1")).await;
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        for one in &mut open {
            assert!(one.is_open().await, "{}", proxy.log());
        }
    }
    assert_eq!(closed(&proxy, "revoked").await, 0.0);
    assert_eq!(sign_out(&proxy, &browser).await, 303, "{}", proxy.log());
    for one in &mut open {
        one.ends(Duration::from_secs(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_be_exchanged_stays_as_they_are() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let names = ["carol", "dan", "erin"];
    let world = (&old, &new, &upstream);
    let (proxy, mut browsers) = wrapped_and_then_moved(world, "1m", &names).await;
    let outcomes = ["subject_mismatch", "refused", "unavailable"];
    for ((name, browser), outcome) in names.iter().zip(&mut browsers).zip(outcomes) {
        match outcome {
            "subject_mismatch" => new.exchanges(
                serde_json::json!({ "uid": "uid-mallory" }),
                serde_json::json!({}),
            ),
            "refused" => new.refuses_exchanges("invalid_grant"),
            _ => new.fail_with(Some(503)),
        }
        let page = browser.open(&proxy, "/page").await;
        assert_eq!(page.status, 200, "{outcome}\n{}", proxy.log());
        assert_eq!(
            upstream.last().all("x-remote-user"),
            [format!("uid-{name}")]
        );
        assert_eq!(proxy.metric(&carried("exchange", outcome)).await, 1.0);
        let asked = new.hits("/token");
        assert_eq!(browser.open(&proxy, "/page").await.status, 200);
        assert_eq!(new.hits("/token"), asked, "it is left alone for a while");
        assert!(!old.has_ended(&format!("{name}.1")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchanged_session_is_confirmed_at_the_new_provider_and_ends_with_its_no() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let world = (&old, &new, &upstream);
    let (proxy, mut browsers) = wrapped_and_then_moved(world, "1s", &["alice"]).await;
    let browser = &mut browsers[0];
    assert_eq!(browser.open(&proxy, "/").await.status, 302);
    until(async || {
        let page = browser.open(&proxy, "/").await;
        assert_eq!(page.status, 200, "{}", proxy.log());
        2 < new.hits("/token")
    })
    .await;
    new.refuses_exchanges("invalid_grant");
    let mut last = None;
    until(async || {
        let page = browser.open(&proxy, "/").await;
        let over = page.status != 200;
        last = Some(page);
        over
    })
    .await;
    let location = last.unwrap();
    let location = location.header("location").unwrap();
    assert!(location.starts_with(&new.issuer()), "{location}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_out_before_the_exchanged_session_is_used_stays_signed_out() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let world = (&old, &new, &upstream);
    let (proxy, mut browsers) = wrapped_and_then_moved(world, "1m", &["alice", "bob"]).await;
    let mut other = browsers.remove(1);
    let mut browser = browsers.remove(0);
    let tab = browser.clone();
    // The answer with the new session is on its way to one tab while another one signs out.
    assert_eq!(browser.open(&proxy, "/deep").await.status, 302);
    assert_ne!(browser.0["authferry"], tab.0["authferry"]);
    assert_eq!(sign_out(&proxy, &tab).await, 303, "{}", proxy.log());
    browser.0.remove("SID");
    assert_ne!(browser.open(&proxy, "/").await.status, 200);
    // Nobody else is.
    assert_eq!(other.open(&proxy, "/deep").await.status, 302);
    assert_eq!(other.open(&proxy, "/deep").await.status, 200);
}

/// Types a name into the form that the application itself shows; gives where it leads.
async fn fill_in_the_form(proxy: &Proxy, browser: &mut Browser, form: &str, name: &str) -> String {
    let host = proxy.address.to_string();
    let fields = [
        ("Host", host.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("name={name}&password=secret");
    let sent = request(proxy.address, "POST", form, &fields, body.as_bytes()).await;
    assert_eq!(sent.status, 303, "{}", sent.text());
    for pair in sent.cookies() {
        let (name, value) = pair.split_once('=').unwrap();
        browser.0.insert(name.to_owned(), value.to_owned());
    }
    sent.header("location").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_by_the_form_of_the_old_application_and_is_assigned_goes_on_at_the_new_side() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    // Who somebody is shows after the form: who is assigned by name fills it in once more.
    let yaml = config(&old, &new, &upstream, 0)
        .replace("{ percent: 0, to: new }", "{ cohort: first, to: new }")
        .replace("[/public/*]", "[/public/*, /login]")
        + "cohorts: { first: { subjects: [uid-alice] } }\nsessions: { carry_over: [wrap, exchange] }\n"
        + BRIDGE;
    let proxy = Proxy::start(&yaml);
    for (name, moves) in [("alice", true), ("bob", false)] {
        let mut browser = Browser::default();
        let away = browser.open(&proxy, "/deep?a=b").await;
        let form = "/login?next=%2Fdeep%3Fa%3Db";
        assert_eq!(
            (away.status, away.header("location")),
            (302, Some(form)),
            "{}",
            proxy.log()
        );
        let link = fill_in_the_form(&proxy, &mut browser, form, name).await;
        assert_eq!(link, "/deep?a=b");
        let page = browser.open(&proxy, &link).await;
        assert_eq!(page.status, 200, "{}", proxy.log());
        let before = upstream.last();
        assert_eq!(before.all("x-remote-user"), [format!("uid-{name}")]);
        let next = browser.open(&proxy, "/next?c=d").await;
        if moves {
            // The session became one of the new side, and the same page follows.
            assert_eq!(
                (next.status, next.header("location")),
                (302, Some("/next?c=d")),
                "{}",
                proxy.log()
            );
            assert_eq!(browser.open(&proxy, "/next?c=d").await.status, 200);
            until(async || old.has_ended("alice.1")).await;
        } else {
            assert_eq!(next.status, 200);
            assert!(!old.has_ended("bob.1"));
        }
        let after = upstream.last();
        for field in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
            assert_eq!(after.all(field), before.all(field), "{name}: {field}");
        }
    }
    assert_eq!(proxy.metric(&carried("exchange", "moved")).await, 1.0);
    // Nobody has seen a page of the new provider.
    assert_eq!(new.hits("/authorize"), 0);
}
