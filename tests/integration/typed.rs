//! Passwords that are typed into the form of the old application move to the new side, and nobody sees anything of it.

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::OldSystem;
use crate::harness::Proxy;
use crate::harness::raw;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::wrapped::BRIDGE;
use crate::wrapped::config;
use crate::wrapped::with_session;

const FORM: &str = "application/x-www-form-urlencoded";

/// The old side is a system with a form, which is read; everybody but bob is assigned to the new one once they are known.
fn yaml(old: &OldSystem, new: &Idp, upstream: &Echo) -> String {
    let provider = old.provider();
    let reads = "{ start: /login, fields: { username: name, remembered: [none] } }";
    let provider = provider.replace("{ start: /login }", reads);
    let directory = format!(
        "verify: {{ audiences: [app] }}, directory: {{ scim: {{ url: \"{}/scim\", token: {{ env: HARNESS_SECRET }} }} }}",
        new.issuer()
    );
    config(old, new, upstream, 0)
        .replace(&old.provider(), &provider)
        .replace("verify: { audiences: [app] }", &directory)
        .replace("[/public/*]", "[/public/*, /login]")
        .replace("{ percent: 0, to: new }", "{ cohort: first, to: new }")
        + "cohorts: { first: { not: { subjects: [uid-bob] } } }\nsessions: { carry_over: [wrap, exchange, credential] }\n"
        + BRIDGE
}

/// Sends the form of the old application, as its own page does unless `fields` say otherwise.
async fn fills_in(
    proxy: &Proxy,
    browser: &mut Browser,
    body: &str,
    (kind, origin): (&str, Option<&str>),
) -> Answer {
    let host = proxy.address.to_string();
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = cookies.join("; ");
    let mut fields = vec![("Host", host.as_str()), ("Content-Type", kind)];
    fields.extend(origin.map(|origin| ("Origin", origin)));
    if !cookies.is_empty() {
        fields.push(("Cookie", &cookies));
    }
    let form = "/login?next=%2Fdeep%3Fa%3Db";
    let answer = request(proxy.address, "POST", form, &fields, body.as_bytes()).await;
    for pair in answer.cookies() {
        let (name, value) = pair.split_once('=').unwrap();
        browser.0.insert(name.to_owned(), value.to_owned());
    }
    answer
}

fn ours(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address)
}

async fn ended(proxy: &Proxy, outcome: &str, times: f64) {
    let labels = format!("app=\"crm\",method=\"credential\",outcome=\"{outcome}\"");
    let series = format!("authferry_session_carryovers_total{{{labels}}}");
    until(async || proxy.metric(&series).await == times).await;
}

/// none → native → old → moved: a form password of somebody who is assigned, once the old side has found it good.
#[tokio::test(flavor = "multi_thread")]
async fn who_fills_in_the_form_of_the_old_application_is_moved_with_their_password_and_sees_no_other_form()
 {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let proxy = Proxy::start(&yaml(&old, &new, &upstream));
    let origin = ours(&proxy);
    let page = (FORM, Some(origin.as_str()));
    let mut browser = Browser::default();
    let away = browser.open(&proxy, "/deep?a=b").await;
    let form = "/login?next=%2Fdeep%3Fa%3Db";
    assert_eq!(
        (away.status, away.header("location")),
        (302, Some(form)),
        "{}",
        proxy.log()
    );
    // Whoever types something wrong sees the form once more, and moves nowhere.
    let wrong = "name=uid-alice&password=wrong";
    assert_eq!(
        fills_in(&proxy, &mut browser, wrong, page).await.status,
        200
    );
    let body = "csrf=a%2Bb&name=uid-alice&password=g%C3%B6%20od%26&x=y";
    let sent = fills_in(&proxy, &mut browser, body, page).await;
    assert_eq!(
        (sent.status, sent.header("location")),
        (303, Some("/deep?a=b"))
    );
    assert_eq!(upstream.last().body, body.as_bytes(), "as it was sent");
    ended(&proxy, "moved", 1.0).await;
    assert_eq!(new.people()["uid-alice"].as_deref(), Some("gö od&"));
    // The page that they wanted, and then as one of the new side.
    let landed = browser.open(&proxy, "/deep?a=b").await;
    assert_eq!(landed.status, 200, "{}", proxy.log());
    let before = upstream.last();
    assert_eq!(before.all("x-remote-user"), ["uid-alice"]);
    let next = browser.open(&proxy, "/next?c=d").await;
    assert_eq!(
        (next.status, next.header("location")),
        (302, Some("/next?c=d")),
        "{}",
        proxy.log()
    );
    assert_eq!(browser.open(&proxy, "/next?c=d").await.status, 200);
    let after = upstream.last();
    for field in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
        assert_eq!(after.all(field), before.all(field), "{field}");
    }
    until(async || old.has_ended("alice.1")).await;
    let shown = "authferry_sessions{app=\"crm\",backing=\"modern\",origin=\"exchange\"} ";
    until(async || proxy.metric(shown).await == 1.0).await;
    assert_eq!(new.hits("/authorize"), 0, "nobody has seen a page there");
    for word in ["gö", "g%C3%B6", "od&", "od%26", "uid-alice"] {
        assert!(!proxy.log().contains(word), "{word}: {}", proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_none_or_is_not_accepted_passes_and_moves_nobody() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let proxy = Proxy::start(&yaml(&old, &new, &upstream));
    let origin = ours(&proxy);
    let page = (FORM, Some(origin.as_str()));
    // The application sets a cookie that is worth nothing.
    old.end("mallory.1");
    let long = format!("pad={}&name=uid-carol&password=good", "x".repeat(16 * 1024));
    let parts = "--a\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nuid-carol\r\n--a--&name=uid-carol&password=good";
    for (body, how) in [
        ("name=uid-mallory&password=good", page),
        // Of somebody who is not assigned.
        ("name=uid-bob&password=good", page),
        // From elsewhere, or from nobody knows where.
        (
            "name=uid-carol&password=good",
            (FORM, Some("https://evil.test")),
        ),
        ("name=uid-carol&password=good", (FORM, None)),
        // No such form, or too long a one.
        (parts, ("multipart/form-data; boundary=a", page.1)),
        ("name=uid-carol&password=good", ("text/plain", page.1)),
        ("name=uid-carol&password=good&password=good", page),
        (&long, page),
    ] {
        let mut browser = Browser::default();
        let sent = fills_in(&proxy, &mut browser, body, how).await;
        assert_eq!(sent.status, 303, "{how:?}\n{}", proxy.log());
        assert_eq!(upstream.last().body, body.as_bytes(), "as it was sent");
    }
    // One that the browser has already is no answer to what was typed.
    let mut browser = Browser::default();
    browser.0.insert("SID".to_owned(), "carol.1".to_owned());
    let again = "name=uid-carol&password=good";
    fills_in(&proxy, &mut browser, again, page).await;
    // Two passwords, of which only one was judged: seen above.
    ended(&proxy, "refused", 1.0).await;
    // Whose password the new side does not take, or who has chosen one there, is in all the same, and stays.
    new.chooses("uid-dan", "another");
    for (name, password, refused) in [("erin", "weak", 2.0), ("dan", "good", 3.0)] {
        let mut browser = Browser::default();
        let body = format!("name=uid-{name}&password={password}");
        assert_eq!(
            fills_in(&proxy, &mut browser, &body, page).await.status,
            303
        );
        ended(&proxy, "refused", refused).await;
        assert_eq!(browser.open(&proxy, "/deep?a=b").await.status, 200);
        let user = format!("uid-{name}");
        assert_eq!(upstream.last().all("x-remote-user"), [user]);
    }
    // And whoever comes after all that moves.
    let mut browser = Browser::default();
    let body = "name=uid-frank&password=good";
    fills_in(&proxy, &mut browser, body, page).await;
    ended(&proxy, "moved", 1.0).await;
    let people = new.people();
    let people: Vec<_> = people
        .iter()
        .map(|(name, password)| (name.as_str(), password.as_deref()))
        .collect();
    let expected = [
        ("uid-dan", Some("another")),
        ("uid-erin", None),
        ("uid-frank", Some("good")),
    ];
    assert_eq!(people, expected, "{}", proxy.log());
    // Somebody who fills in the form once more, with something else, has moved already.
    let mut browser = Browser::default();
    let (scim, tokens) = (new.hits("/scim/Users"), new.hits("/token"));
    let body = "name=uid-frank&password=other";
    assert_eq!(fills_in(&proxy, &mut browser, body, page).await.status, 303);
    let mut browser = Browser::default();
    let body = "name=uid-gina&password=good";
    fills_in(&proxy, &mut browser, body, page).await;
    ended(&proxy, "moved", 2.0).await;
    assert!(scim < new.hits("/scim/Users") && new.hits("/token") == tokens + 1);
    assert_eq!(new.people()["uid-frank"].as_deref(), Some("good"));
    // One that does not say how long it is passes.
    let pieces = ["a=b&name=uid-hal&password=go", "od&c=d"];
    let pieces: String = pieces
        .iter()
        .map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()))
        .collect();
    let host = proxy.address;
    let head = format!(
        "POST /login?next=%2F HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let sent = raw(host, format!("{head}{pieces}0\r\n\r\n").as_bytes()).await;
    assert_eq!(sent.status, 303, "{}", sent.text());
    let mut browser = Browser::default();
    let body = "name=uid-ivy&password=good";
    fills_in(&proxy, &mut browser, body, page).await;
    ended(&proxy, "moved", 3.0).await;
    assert!(!new.people().contains_key("uid-hal"), "{}", proxy.log());
    for word in ["good", "weak", "another"] {
        assert!(!proxy.log().contains(&format!("{word}\"")), "{word}");
    }
}

/// The old application answers whoever is signed in as if what they typed were good.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_stays_where_it_is_unless_nobody_was_signed_in_when_it_was_typed() {
    let (old, new, upstream) = (
        OldSystem::start().await,
        Idp::start().await,
        Echo::start().await,
    );
    let yaml = yaml(&old, &new, &upstream).replace(
        "    public_paths:",
        "    forward_credentials: true\n    public_paths:",
    );
    let proxy = Proxy::start(&yaml);
    let origin = ours(&proxy);
    let page = (FORM, Some(origin.as_str()));
    let signed_in = async |cookie: (&str, &str), body: &str| {
        let mut browser = Browser::default();
        browser.0.insert(cookie.0.to_owned(), cookie.1.to_owned());
        let sent = fills_in(&proxy, &mut browser, body, page).await;
        assert_eq!(sent.status, 303, "{cookie:?}\n{}", proxy.log());
        assert_eq!(upstream.last().body, body.as_bytes(), "as it was sent");
        browser.0["SID"].clone()
    };
    // Somebody is signed in already, and anything may be typed.
    let anything = "name=uid-alice&password=never";
    assert_eq!(signed_in(("SID", "alice.1"), anything).await, "alice.2");
    ended(&proxy, "refused", 1.0).await;
    // A name of the cookie that the application may know, and the one that is known here.
    let body = "name=uid-bert&password=good";
    assert_eq!(signed_in(("sid", "bert.1"), body).await, "bert.1");
    ended(&proxy, "refused", 2.0).await;
    // What was refused a moment ago, and is good now.
    old.end("carol.1");
    let mut browser = with_session("carol.1");
    assert_eq!(browser.open(&proxy, "/deep?a=b").await.status, 302);
    old.begins_again("carol.1");
    let anything = "name=uid-carol&password=never";
    assert_eq!(signed_in(("SID", "carol.1"), anything).await, "carol.2");
    ended(&proxy, "refused", 3.0).await;
    // Nobody can say.
    old.is_away(true);
    let body = "name=uid-dora&password=good";
    assert_eq!(signed_in(("SID", "visitor.1"), body).await, "dora.1");
    ended(&proxy, "unavailable", 1.0).await;
    old.is_away(false);
    // A visitor, who has a cookie and is nobody; and whoever comes without any.
    let asked = old.asked();
    let body = "name=uid-emil&password=good";
    assert_eq!(signed_in(("SID", "visitor.2"), body).await, "emil.1");
    ended(&proxy, "moved", 1.0).await;
    assert!(asked + 2 <= old.asked(), "before and afterwards");
    let body = "name=uid-finn&password=good";
    assert_eq!(signed_in(("theme", "dark"), body).await, "finn.1");
    ended(&proxy, "moved", 2.0).await;
    let people = new.people();
    let people: Vec<_> = people.keys().map(String::as_str).collect();
    assert_eq!(people, ["uid-emil", "uid-finn"], "{}", proxy.log());
    for word in ["never", "good", "uid-"] {
        assert!(!proxy.log().contains(word), "{word}: {}", proxy.log());
    }
}
