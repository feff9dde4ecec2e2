//! The old side is closed for good: what is left of it ends, across a `kill -9`, and there is no way back.

use std::process::Command;

use serde_json::json;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::refresh::endpoint;
use crate::refresh::good;
use crate::refresh::post;
use crate::refresh::refresh;
use crate::reload::until;

/// One rollout over its last two stages.
fn config(old: &Idp, new: &Idp, upstream: &Echo) -> String {
    let rollout = r#"rollouts:
  crm-2026:
    from: old
    to: new
    apps: [crm]
    bucketing: { salt: crm-2026 }
    control: controller
    stages:
      - { id: ramp, mode: canary, assign: [{ percent: 0, to: new }] }
      - { id: primary, mode: modern-primary }
      - { id: only, mode: modern-only }
sessions: { store: embedded }
server:
  listen: 127.0.0.1:0
  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }
  state_dir: {dir}/state
"#;
    let both = crate::two_providers(old, new, upstream, 0);
    let (both, _) = both.split_once("rollout:\n").unwrap();
    both.replace("[app.test]", "[app.test, 127.0.0.1]") + rollout
}

/// `authferry …` against a running proxy: whether it was done, and what it said.
fn command(proxy: &Proxy, line: &str) -> (bool, String) {
    let (first, rest) = line.split_once(' ').unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .args([first, "--socket"])
        .arg(proxy.dir().join("admin.sock"))
        .args(rest.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), said)
}

fn done(proxy: &Proxy, line: &str) -> String {
    let (done, said) = command(proxy, line);
    assert!(done, "{line}: {said}\n{}", proxy.log());
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_side_is_closed_across_a_crash_and_nobody_goes_back() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let mut proxy = Proxy::start(&config(&old, &new, &upstream));
    done(&proxy, "ctl start --reason begin");
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        old.signs_in(name);
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        let back = browser.sign_in(&proxy, &start).await;
        assert_eq!(back.status, 303, "{}", back.text());
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        people.push(browser);
    }
    let (accepted, said) = command(&proxy, "legacy close --plan");
    assert!(!accepted && said.contains("`modern-only`"), "{said}");
    for stage in ["primary", "only"] {
        done(&proxy, &format!("ctl set-stage {stage} --reason on"));
    }
    let said = done(&proxy, "legacy close --batch 30/min --plan");
    assert!(said.starts_with("old: 4 sessions would end"), "{said}");
    assert_eq!(old.revoked().len(), 0, "a plan ends nothing");
    let (accepted, said) = command(&proxy, "legacy close --batch 30/min");
    assert!(!accepted && said.contains("a reason is needed"), "{said}");

    // The provider is away for a moment: nothing is lost by that.
    old.revokes_later(1);
    let said = done(&proxy, "legacy close --batch 30/min --reason all-moved");
    assert!(said.starts_with("old: closing"), "{said}");
    until(async || !old.revoked().is_empty()).await;
    proxy.signal("KILL");
    proxy.wait();
    let before = old.revoked().len();
    assert!(before < 4, "it was cut off: {before}");
    proxy.again();
    let said = done(&proxy, "legacy status");
    assert!(said.starts_with("old: closing"), "{said}");
    // It is not begun again by anybody; another pace takes effect while it runs.
    let faster = "legacy close --batch 6000/min --reason faster";
    done(&proxy, faster);
    let closed = async || done(&proxy, "legacy status").starts_with("old: closed");
    until(async || closed().await).await;
    let mut revoked = old.revoked();
    revoked.sort();
    revoked.dedup();
    assert_eq!(revoked.len(), 4, "of each session");
    let said = done(&proxy, "legacy status");
    assert!(said.contains("0 left to end by themselves"), "{said}");

    // Nothing of it counts, and nobody is sent back.
    let quarantined = async || {
        let bearer = format!("Bearer {}", old.token("erin"));
        let fields = [("Host", "app.test"), ("Authorization", bearer.as_str())];
        let answer = request(proxy.address, "GET", "/", &fields, b"").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        let (accepted, said) = command(&proxy, "ctl kill legacy --reason back");
        !accepted && said.contains("no way back")
    };
    until(async || quarantined().await).await;
    for order in ["ctl set-stage ramp", "ctl rollback"] {
        let (accepted, said) = command(&proxy, &format!("{order} --reason back"));
        assert!(!accepted && said.contains("no way back"), "{said}");
    }
    let browser = &mut people[0];
    let start = browser.open(&proxy, "/").await;
    let to = start.header("location").unwrap().to_owned();
    assert!(to.starts_with(&new.issuer()), "{to}");

    // Also after a restart, and although the file has another word.
    proxy.signal("TERM");
    proxy.wait();
    std::fs::write(proxy.dir().join("state/kill"), "legacy\n").unwrap();
    proxy.again();
    let start = Browser::default().open(&proxy, "/").await;
    let to = start.header("location").unwrap().to_owned();
    assert!(to.starts_with(&new.issuer()), "{to}");
    let ledger = std::fs::read_to_string(proxy.dir().join("state/decisions.jsonl")).unwrap();
    let told: Vec<_> = ledger
        .lines()
        .filter(|line| line.contains("\"kind\":\"legacy_close\""))
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[2].contains("\"state\":\"closed\""), "{told:?}");
}

/// What stands behind a refresh token of ours opens with that alone: it is given back when it shows.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_of_a_side_that_is_closed_is_given_back_when_it_shows_it() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&(config(&old, &new, &upstream) + &endpoint("10s")));
    proxy.settled().await;
    for idp in [&old, &new] {
        idp.exchanges(
            json!({ "exp": crate::harness::now() + 200 }),
            json!({ "expires_in": 200 }),
        );
    }
    done(&proxy, "ctl start --reason begin");
    let (_, token) = good(&refresh(&proxy, &old.refresh_token("alice")).await);
    let never_brought = old.refresh_token("bob");
    for stage in ["primary", "only"] {
        done(&proxy, &format!("ctl set-stage {stage} --reason on"));
    }
    let said = done(&proxy, "legacy close --batch 6000/min --plan");
    assert!(
        said.contains("note: 1 refresh tokens of clients would count no more"),
        "{said}"
    );
    done(&proxy, "legacy close --batch 6000/min --reason all-moved");
    let closed = async || done(&proxy, "legacy status").starts_with("old: closed");
    until(async || closed().await).await;
    let refused = async || {
        let (accepted, said) = command(&proxy, "ctl kill legacy --reason back");
        !accepted && said.contains("no way back")
    };
    until(async || refused().await).await;
    let asked = old.hits("/token");
    assert!(old.revoked().is_empty(), "nobody here can open it");
    // Whoever else has it ends nothing by it.
    let pairs = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token.as_str()),
    ];
    let others = post(
        &proxy,
        ("other", "other"),
        "/.authferry/oauth2/token",
        &pairs,
    )
    .await;
    assert_eq!(others.status, 400, "{}", others.text());
    assert!(old.revoked().is_empty());
    for _ in 0..2 {
        for token in [&token, &never_brought] {
            let answer = refresh(&proxy, token).await;
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert!(answer.text().contains("invalid_grant"), "{}", answer.text());
        }
    }
    until(async || 2 <= old.revoked().len()).await;
    let revoked = old.revoked();
    assert_eq!(revoked.len(), 2, "each once: {revoked:?}");
    assert!(revoked.contains(&never_brought), "{revoked:?}");
    assert_eq!(old.hits("/token"), asked, "it is not asked any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_needs_the_old_side_is_told_so_and_in_a_brownout_until_when() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let now = i64::try_from(crate::harness::now()).unwrap();
    let begun = jiff::Timestamp::from_second(now - 60).unwrap();
    let both = crate::two_providers(&old, &new, &upstream, 0);
    let (both, _) = both.split_once("rollout:\n").unwrap();
    let rollout = |brownouts: &str| {
        format!(
            r#"{both}rollouts:
  crm-2026:
    from: old
    to: new
    apps: [crm]
    bucketing: {{ salt: crm-2026 }}
    stages:
      - id: primary
        mode: modern-primary
        {brownouts}
        warn: {{ deprecated: "2026-01-01T00:00:00Z", sunset: "2038-01-01T00:00:00Z", notice: "https://intranet.corp.test/move?a=b" }}
"#
        )
    };
    let proxy = Proxy::start(&rollout(""));
    proxy.settled().await;
    let call = async |proxy: &Proxy, token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [("Host", "app.test"), ("Authorization", bearer.as_str())];
        request(proxy.address, "GET", "/", &fields, b"").await
    };
    let told = [
        ("deprecation", "@1767225600"),
        ("sunset", "Fri, 01 Jan 2038 00:00:00 GMT"),
        (
            "link",
            "<https://intranet.corp.test/move?a=b>; rel=\"deprecation\"",
        ),
    ];
    let (theirs, ours) = (old.token("alice"), new.token("alice"));
    let answer = call(&proxy, &theirs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (name, value) in told {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let answer = call(&proxy, &ours).await;
    assert_eq!((answer.status, answer.header("link")), (200, None));

    // One that had let her in would refuse to begin with it now: somebody would be newly refused.
    let proxy = Proxy::start(&rollout(&format!(
        "brownouts: [{{ at: \"{begun}\", for: 10m }}]"
    )));
    proxy.settled().await;
    let answer = call(&proxy, &theirs).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    for (name, value) in told {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.header("www-authenticate").is_some());
    let wait: i64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=540).contains(&wait), "{wait}");
    assert_eq!(call(&proxy, &ours).await.status, 200);
    // Whoever has nothing at all is told nothing of it.
    let answer = request(proxy.address, "GET", "/", &[("Host", "app.test")], b"").await;
    assert_eq!(
        (answer.header("retry-after"), answer.header("link")),
        (None, None)
    );
}
