//! Whoever one provider has barred is barred at the other one, for as long as it says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::control::good;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;

const NAMES: [&str; 2] = ["uid-alice", "uid-bob"];

fn yaml(new: &Idp, upstream: &Echo, denials: &str) -> String {
    format!(
        r#"
providers:
  old: {{ basic: {{ file: "{{dir}}/people", claims: {{ subject: username, name: username }}, authoritative: {{ claims: [username] }} }} }}
  new:
    oidc:
      issuer: "{new}"
      verify: {{ audiences: [app] }}
      claims: {{ subject: uid, name: uid }}
      authoritative: {{ claims: [uid] }}
      directory: {{ scim: {{ url: "{new}/scim", token: {{ env: HARNESS_SECRET }} }} }}
identity: {{ canonical: {{ template: "{{subject}}" }}{denials} }}
apps:
  crm:
    hosts: [app.test]
    upstream: {{ url: "{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}" }}
rollouts:
  move:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: a }}
    stages: [{{ id: move, mode: canary, assign: [{{ percent: 50 }}] }}]
"#,
        new = new.issuer(),
        upstream = upstream.url(),
    )
}

const UNION: &str = ", denials: union, denials_every: 5s";

async fn ask(proxy: &Proxy, credential: &str) -> u16 {
    let given = [("authorization", credential)];
    request(proxy.address, "GET", "/", &given, b"").await.status
}

fn at_old(name: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:good")))
}

fn at_new(new: &Idp, name: &str) -> String {
    format!("Bearer {}", new.token(name.strip_prefix("uid-").unwrap()))
}

fn denied(count: f64) -> impl Fn(f64) -> bool {
    move |now| (now - count).abs() < 0.5
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_one_side_has_barred_comes_in_at_neither_until_it_says_otherwise() {
    let (new, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let line = |name: &&str| format!("{name}:{}\n", bcrypt::hash("good", 4).unwrap());
    let people: String = NAMES.iter().map(line).collect();
    std::fs::write(dir.path().join("people"), people).unwrap();
    let mut proxy = Proxy::start_in(dir, &yaml(&new, &upstream, UNION));
    // Kept verdicts of both sides, and somebody who never comes by the new one.
    let (alice, bob) = (at_new(&new, "uid-alice"), at_old("uid-bob"));
    for credential in [&at_old("uid-alice"), &alice, &bob] {
        assert_eq!(ask(&proxy, credential).await, 200);
    }

    for name in NAMES {
        new.bars(name, true);
    }
    let gauge = "authferry_denied_accounts{provider=\"new\"} ";
    let two = denied(2.0);
    until(async || two(proxy.metric(gauge).await)).await;
    for credential in [&at_old("uid-alice"), &alice, &bob] {
        assert_eq!(ask(&proxy, credential).await, 403);
    }
    assert_eq!(
        ask(&proxy, &at_new(&new, "uid-alice")).await,
        403,
        "a new token"
    );
    let counted =
        "authferry_revocations_total{source=\"denial\",provider=\"new\",outcome=\"recorded\"} ";
    assert!(two(proxy.metric(counted).await), "{}", proxy.log());
    assert!(!proxy.log().contains("uid-alice"), "{}", proxy.log());

    let told = good(
        proxy.dir(),
        &["explain", "--subject", "uid-alice", "--app", "crm"],
    );
    assert!(told.contains("denied: new has barred"), "{told}");
    let told = good(proxy.dir(), &["revoke", "list"]);
    assert!(
        told.contains("denial") && told.contains("directory of new"),
        "{told}"
    );

    // A directory that says nothing lets nobody in, also over a restart.
    new.fail_with(Some(503));
    proxy.signal("KILL");
    proxy.wait();
    proxy.again();
    assert_eq!(ask(&proxy, &bob).await, 403);
    until(async || {
        proxy
            .log()
            .contains("does not say which accounts it has barred")
    })
    .await;
    assert_eq!(ask(&proxy, &bob).await, 403);
    // Nor does one that does not know the account any more.
    new.removes("uid-alice");
    new.bars("uid-bob", false);
    new.fail_with(None);
    until(async || ask(&proxy, &bob).await == 200).await;
    assert_eq!(ask(&proxy, &at_old("uid-alice")).await, 403);
    until(async || denied(0.0)(proxy.metric(gauge).await)).await;
    assert_eq!(ask(&proxy, &at_old("uid-alice")).await, 403);

    // Where each speaks for its own accounts, nothing is left of it.
    proxy.edit(&yaml(&new, &upstream, ""));
    until(async || ask(&proxy, &at_old("uid-alice")).await == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_somebody_whom_the_other_side_has_barred_gets_a_page_and_no_circle() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let directory = format!(
        "directory: {{ scim: {{ url: \"{}/scim\", token: {{ env: HARNESS_SECRET }} }} }}, verify:",
        new.issuer()
    );
    let plain = two_providers(&old, &new, &upstream, 0).replace("[app.test]", "[127.0.0.1]");
    let lines = plain.lines().map(|line| match line {
        line if line.starts_with("  new:") => line.replace("verify:", &directory),
        line if line.starts_with("identity:") => line.replace(" } }", &format!(" }}{UNION} }}")),
        line => line.to_owned(),
    });
    let proxy = Proxy::start(&(lines.collect::<Vec<_>>().join("\n") + "\n"));
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/a").await;
    let location = start.header("location").unwrap();
    assert!(location.starts_with(&old.issuer()), "{location}");
    browser.sign_in(&proxy, &start).await;
    assert_eq!(browser.open(&proxy, "/a").await.status, 200);
    assert_eq!(upstream.last().all("x-remote-user"), ["uid-alice"]);

    // Her session is of the old side; it is the new one that has shut her out.
    new.bars("uid-alice", true);
    let kept = browser.clone();
    until(async || kept.clone().open(&proxy, "/a").await.status == 403).await;
    for _ in 0..5 {
        let page = browser.open(&proxy, "/a").await;
        assert_eq!((page.status, page.header("location")), (403, None));
        let id = page.header("x-request-id").unwrap();
        assert!(
            page.text()
                .contains(&format!("Reference: <code>{id}</code>")),
            "{}",
            page.text()
        );
    }
    // Nor does she get a new one at the side that has not shut her out.
    let mut fresh = Browser::default();
    let start = fresh.open(&proxy, "/a").await;
    let end = fresh.sign_in(&proxy, &start).await;
    assert_eq!((end.status, end.header("location")), (403, None));
    assert!(end.text().contains("Reference: <code>"), "{}", end.text());
}
