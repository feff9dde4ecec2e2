//! A page of ours asks who somebody is, or where they want to sign in, and what they say leads there and no further.

use crate::control::good;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::two_providers;

fn config(old: &Idp, new: &Idp, upstream: &Echo, rules: &str) -> String {
    let text = two_providers(old, new, upstream, 0).replace("[app.test]", "[127.0.0.1]");
    let (head, _) = text.split_once("  bucketing:").unwrap();
    format!(
        "{head}  bucketing: {{ salt: test, before_known: identifier_first }}\n  assign: [{rules}]\n"
    )
}

/// Sends the form of a page of ours, as a browser does from there, or from another site.
async fn send(
    proxy: &Proxy,
    browser: &mut Browser,
    page: &Answer,
    body: &str,
    ours: bool,
) -> Answer {
    let text = page.text();
    let action = text.split("action=\"").nth(1).unwrap();
    let action = action.split('"').next().unwrap();
    let host = proxy.address.to_string();
    let (origin, site) = if ours {
        (format!("http://{host}"), "same-origin")
    } else {
        ("http://evil.test".to_owned(), "cross-site")
    };
    let cookies: Vec<_> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let cookies = cookies.join("; ");
    let fields = [
        ("Host", host.as_str()),
        ("Cookie", cookies.as_str()),
        ("Origin", origin.as_str()),
        ("Sec-Fetch-Site", site),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = request(proxy.address, "POST", action, &fields, body.as_bytes()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_who_they_are_signs_in_where_their_name_belongs() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream, "{ percent: 50 }"));
    let mut sides = std::collections::BTreeSet::new();
    for n in 0..12 {
        let body = format!("identifier=p{n}%40corp.example");
        let mut places = Vec::new();
        // They are whom the provider says, whatever they have called themselves.
        old.signs_in(&format!("q{n}"));
        new.signs_in(&format!("q{n}"));
        // On two devices.
        for _ in 0..2 {
            let mut browser = Browser::default();
            let page = browser.open(&proxy, "/deep?a=b%20c").await;
            assert_eq!(page.status, 200, "{}\n{}", page.text(), proxy.log());
            assert!(page.text().contains("<label for=\"identifier\">"));
            let policy = page.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert_eq!(page.header("cache-control"), Some("no-store"));
            // With `no-referrer`, browsers would send `Origin: null` from it.
            assert_eq!(page.header("referrer-policy"), Some("same-origin"));
            let again = send(&proxy, &mut browser, &page, &body, false).await;
            assert_eq!(again.status, 200, "another site says nothing");
            let start = send(&proxy, &mut browser, &page, &body, true).await;
            assert_eq!(start.status, 303, "{}", start.text());
            let location = start.header("location").unwrap().to_owned();
            assert!(
                location.ends_with(&format!("login_hint=p{n}%40corp.example")),
                "{location}"
            );
            places.push(location.starts_with(&new.issuer()));
            let done = browser.sign_in(&proxy, &start).await;
            assert_eq!(done.header("location"), Some("/deep?a=b%20c"));
            assert_eq!(browser.open(&proxy, "/deep?a=b%20c").await.status, 200);
            assert_eq!(upstream.last().all("x-remote-user"), [format!("uid-q{n}")]);
        }
        assert_eq!(places[0], places[1], "p{n}");
        sides.extend(places);
    }
    assert_eq!(sides.len(), 2, "some there, some here");
    assert!(!proxy.log().contains("corp.example"), "{}", proxy.log());

    // With the switch pulled, nobody is asked.
    let dir = proxy.dir().to_owned();
    let typed = move || good(&dir, &["ctl", "kill", "legacy", "--reason", "INC-1"]);
    tokio::task::spawn_blocking(typed).await.unwrap();
    let start = Browser::default().open(&proxy, "/").await;
    assert!(
        start
            .header("location")
            .is_some_and(|to| to.starts_with(&old.issuer())),
        "{}",
        start.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn people_choose_where_a_rule_asks_and_move_by_it() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream, "{ cohort: beta, choose: true }")
        .replace(", before_known: identifier_first", "")
        + "cohorts: { beta: { path: [/beta/*] } }\npages: { providers: { old: Usual page, new: \"New page <1>\" } }\n";
    let proxy = Proxy::start(&yaml);
    let start = Browser::default().open(&proxy, "/orders").await;
    assert!(start.header("location").unwrap().starts_with(&old.issuer()));
    new.signs_in("ann");
    old.signs_in("bob");
    for (choice, chosen, usual) in [("at=new", &new, false), ("at=old", &old, true)] {
        let mut browser = Browser::default();
        let page = browser.open(&proxy, "/beta/a?x=1").await;
        assert_eq!(page.status, 200, "{}\n{}", page.text(), proxy.log());
        assert!(page.text().contains(">Usual page</button>"));
        assert!(page.text().contains(">New page &lt;1&gt;</button>"));
        let start = send(&proxy, &mut browser, &page, choice, true).await;
        assert!(
            start
                .header("location")
                .unwrap()
                .starts_with(&chosen.issuer())
        );
        let done = browser.sign_in(&proxy, &start).await;
        assert_eq!(done.header("location"), Some("/beta/a?x=1"));
        browser.0.remove("authferry");
        // Whoever has moved goes there from now on, everywhere.
        let next = browser.open(&proxy, "/orders").await;
        let to = next.header("location").unwrap();
        assert_eq!(to.starts_with(&old.issuer()), usual, "{to}");
    }
}
