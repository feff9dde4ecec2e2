//! A browser signs in: at the provider that the rollout assigns, once, and lands where it wanted to go.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;
use crate::two_providers;

/// A browser with cookies for the proxy alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser(pub(crate) BTreeMap<String, String>);

impl Browser {
    pub(crate) async fn open(&mut self, proxy: &Proxy, target: &str) -> Answer {
        let cookie = self
            .0
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
            .join("; ");
        let host = proxy.address.to_string();
        let mut fields = vec![
            ("Host", host.as_str()),
            ("Accept", "text/html"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        if !cookie.is_empty() {
            fields.push(("Cookie", &cookie));
        }
        let answer = request(proxy.address, "GET", target, &fields, b"").await;
        for pair in answer.cookies() {
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Follows the login that `start` began, through the provider, and gives the answer of our callback.
    pub(crate) async fn sign_in(&mut self, proxy: &Proxy, start: &Answer) -> Answer {
        let callback = at_provider(start).await;
        self.open(proxy, &callback).await
    }
}

/// Goes to the provider and returns the target of our callback.
async fn at_provider(start: &Answer) -> String {
    let to: http::Uri = start.header("location").unwrap().parse().unwrap();
    let answer = request(
        to.authority().unwrap().as_str().parse().unwrap(),
        "GET",
        to.path_and_query().unwrap().as_str(),
        &[],
        b"",
    )
    .await;
    assert_eq!(answer.status, 302);
    let back: http::Uri = answer.header("location").unwrap().parse().unwrap();
    back.path_and_query().unwrap().as_str().to_owned()
}

fn config(old: &Idp, new: &Idp, upstream: &Echo, percent: u32) -> String {
    two_providers(old, new, upstream, percent)
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_at_the_assigned_provider_and_lands_on_the_deep_link() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    for (percent, here, there) in [(0, &old, &new), (100, &new, &old)] {
        let proxy = Proxy::start(&config(&old, &new, &upstream, percent));
        let (before, elsewhere) = (here.hits("/token"), there.hits("/authorize"));
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/report?year=2026").await;
        assert_eq!(start.status, 302, "{}\n{}", start.text(), proxy.log());
        let done = browser.sign_in(&proxy, &start).await;
        assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
        assert_eq!(done.header("location"), Some("/report?year=2026"));
        let page = browser.open(&proxy, "/report?year=2026").await;
        assert_eq!(page.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.all("x-remote-user"), ["uid-alice"]);
        assert!(
            !seen.head.contains("authferry"),
            "our cookie stays here: {}",
            seen.head
        );
        assert_eq!(
            (here.hits("/token"), there.hits("/authorize")),
            (before + 1, elsewhere)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_works_once_in_the_browser_that_began() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream, 100));
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    let callback = at_provider(&start).await;

    let mut stranger = Browser::default();
    let stolen = stranger.open(&proxy, &callback).await;
    assert_eq!(stolen.status, 400, "{}", stolen.text());
    assert!(
        stranger.0.keys().all(|name| name != "authferry"),
        "no session for a stranger"
    );

    for broken in [
        callback.replace("state=", "state=x"),
        callback.replace("iss=", "iss=https://evil.example&x="),
        callback.replace("/cb/new", "/cb/old"),
    ] {
        let answer = browser.open(&proxy, &broken).await;
        assert!(
            [400, 401].contains(&answer.status),
            "{broken}: {}",
            answer.status
        );
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_for_a_copied_cookie_too() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream, 100));
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    browser.sign_in(&proxy, &start).await;
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
    let mut copy = Browser(browser.0.clone());
    let host = proxy.address.to_string();
    let origin = format!("http://{host}");
    let cookie = browser
        .0
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect::<Vec<_>>()
        .join("; ");

    let foreign = [
        ("Host", host.as_str()),
        ("Cookie", cookie.as_str()),
        ("Origin", "http://evil.test"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    assert_eq!(
        request(proxy.address, "POST", "/.authferry/logout", &foreign, b"")
            .await
            .status,
        403
    );
    assert_eq!(
        copy.open(&proxy, "/").await.status,
        200,
        "another site cannot sign people out"
    );

    let own = [
        ("Host", host.as_str()),
        ("Cookie", cookie.as_str()),
        ("Origin", origin.as_str()),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &own, b"").await;
    assert!([200, 302, 303].contains(&out.status), "{}", out.status);
    assert_eq!(copy.open(&proxy, "/").await.status, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_devices_split_by_percent_and_stay_where_they_are() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    // Nobody comes back, and all are to be sent where the percent has them.
    let text = config(&old, &new, &upstream, 50);
    let text = text.replace("  assign:\n", "  guardrails: none\n  assign:\n");
    let proxy = Proxy::start(&text);
    let mut at_new = 0;
    for _ in 0..100 {
        let mut browser = Browser::default();
        let first = browser
            .open(&proxy, "/")
            .await
            .header("location")
            .unwrap()
            .to_owned();
        let second = browser
            .open(&proxy, "/")
            .await
            .header("location")
            .unwrap()
            .to_owned();
        assert_eq!(
            first.split('?').next(),
            second.split('?').next(),
            "one device, one provider"
        );
        at_new += usize::from(first.starts_with(&new.issuer()));
    }
    // Six standard deviations around one half.
    assert!((20..=80).contains(&at_new), "{at_new}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_are_two_people() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream, 100));
    let mut browsers = Vec::new();
    for name in ["alice", "bob"] {
        new.signs_in(name);
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        browser.sign_in(&proxy, &start).await;
        browsers.push((name, browser));
    }
    for (name, browser) in &mut browsers {
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        assert_eq!(
            upstream.last().all("x-remote-user"),
            [format!("uid-{name}")]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_an_earlier_client_had_registered_is_ours_where_its_provider_takes_part() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream, 100);
    let issuer = format!("new: {{ oidc: {{ issuer: \"{}\",", new.issuer());
    let yaml = yaml
        .replace(&issuer, &format!("{issuer} redirect_path: /oauth2/callback,"))
        .replace("rollout:\n", &format!("  other: {{ hosts: [other.test], provider: old, upstream: {{ url: \"{}\" }}, routes: [{{ path: /*, access: public }}] }}\nrollout:\n  apps: [crm]\n", upstream.url()));
    let proxy = Proxy::start(&yaml);
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/report").await;
    assert!(
        start
            .header("location")
            .unwrap()
            .contains("oauth2%2Fcallback")
    );
    let done = browser.sign_in(&proxy, &start).await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    assert_eq!(done.header("location"), Some("/report"));
    assert_eq!(browser.open(&proxy, "/report").await.status, 200);

    let before = upstream.hits();
    let stray = browser
        .open(&proxy, "/oauth2/callback?code=x&state=y")
        .await;
    assert_eq!(stray.status, 303, "nothing of it reaches the application");
    assert_eq!(upstream.hits(), before);
    let other = [("Host", "other.test")];
    let theirs = request(proxy.address, "GET", "/oauth2/callback?code=x", &other, b"").await;
    assert_eq!(theirs.status, 200, "{}", theirs.text());
    assert_eq!(
        upstream.last().line(),
        "GET /oauth2/callback?code=x HTTP/1.1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_confirmed_at_its_owner_and_ends_when_that_refuses() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream, 100) + "sessions: { revalidate: 1s }\n";
    let proxy = Proxy::start(&yaml);
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    browser.sign_in(&proxy, &start).await;
    let began = tokio::time::Instant::now();
    while new.hits("/token") < 3 {
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        assert!(began.elapsed() < crate::harness::PATIENCE, "never asked");
    }
    assert_eq!(new.reused(), 0, "each refresh token is sent once");
    new.refuses_refresh(true);
    while browser.open(&proxy, "/").await.status == 200 {
        assert!(began.elapsed() < crate::harness::PATIENCE, "still in");
    }
    let again = browser.open(&proxy, "/").await;
    assert_eq!(again.status, 302, "to the sign-in: {}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_about_a_login_names_the_request_that_it_was_made_in() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100).replace("[app.test]", "[127.0.0.1]");
    let proxy = Proxy::start(&format!(
        "{yaml}telemetry: {{ access_log: {{ file: \"{{dir}}/access.log\" }} }}\n"
    ));
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/report").await;
    assert!(start.header("location").is_some());
    let line = |wanted: &dyn Fn(&Value) -> bool| {
        let log = std::fs::read_to_string(proxy.dir().join("access.log")).unwrap_or_default();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| wanted(line))
    };
    let (mut assigned, mut access) = (None, None);
    until(async || {
        assigned = line(&|line| line["event"] == "decision.assigned");
        access = line(&|line| line["path"] == "/report");
        assigned.is_some() && access.is_some()
    })
    .await;
    let (assigned, access) = (assigned.unwrap(), access.unwrap());
    for name in ["request_id", "trace_id", "client"] {
        assert!(access[name].is_string(), "{name}: {access}");
        assert_eq!(assigned[name], access[name], "{name}: {assigned}");
    }
    assert!(assigned["duration_ms"].is_number(), "{assigned}");

    // The way to the provider, the way back and the first request with the session name the same side, the latter two the person.
    let done = browser.sign_in(&proxy, &start).await;
    assert_eq!(done.status, 303, "{}", done.text());
    assert_eq!(browser.open(&proxy, "/there").await.status, 200);
    let (mut back, mut there) = (None, None);
    until(async || {
        back = line(&|line| line["path"] == "/.authferry/cb/new");
        there = line(&|line| line["path"] == "/there");
        back.is_some() && there.is_some()
    })
    .await;
    let (back, there) = (back.unwrap(), there.unwrap());
    for (name, value) in [("provider", "new"), ("arm", "modern"), ("rule", "percent")] {
        for line in [&access, &back, &there] {
            assert_eq!(line[name], value, "{name}: {line}");
        }
    }
    assert_eq!(back["outcome"], "success");
    assert!(back["subject"].is_string(), "{back}");
    assert_eq!(back["subject"], there["subject"]);
    assert!(access["outcome"].is_null(), "nobody has judged: {access}");

    // A login that the provider refuses: both lines say why, and on which side.
    browser.0.clear();
    let start = browser.open(&proxy, "/denied").await;
    let to: http::Uri = start.header("location").unwrap().parse().unwrap();
    let mut pairs = to.query().unwrap().split('&');
    let state = pairs.find(|pair| pair.starts_with("state=")).unwrap();
    let denied = format!("/.authferry/cb/new?error=access_denied&{state}");
    assert_eq!(browser.open(&proxy, &denied).await.status, 403);
    let (mut denied, mut refused) = (None, None);
    until(async || {
        denied = line(&|line| line["path"] == "/.authferry/cb/new" && line["status"] == 403);
        refused = line(&|line| line["event"] == "decision.refused" && line["arm"] == "modern");
        denied.is_some() && refused.is_some()
    })
    .await;
    let (denied, refused) = (denied.unwrap(), refused.unwrap());
    for line in [&denied, &refused] {
        assert_eq!(line["reason"], "policy", "{line}");
        assert_eq!(line["provider"], "new", "{line}");
        assert!(line["duration_ms"].is_number(), "{line}");
    }
    assert_eq!(denied["request_id"], refused["request_id"]);
}
