//! What is revoked is out: at once, also where it was kept, also after a restart.

use std::process::Command;

use serde_json::json;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::now;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;

fn config(old: &Idp, new: &Idp, upstream: &Echo) -> String {
    // The socket that `authferry revoke` speaks to.
    two_providers(old, new, upstream, 100)
        + "\nsessions: { store: embedded }\nserver:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n"
}

/// `authferry revoke …` against a running proxy: whether it was done, and what it said.
pub(crate) fn revoke(proxy: &Proxy, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .arg("revoke")
        .args(arguments)
        .arg("--socket")
        .arg(proxy.dir().join("admin.sock"))
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

pub(crate) async fn call(proxy: &Proxy, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let fields = [("Host", "app.test"), ("Authorization", &bearer)];
    request(proxy.address, "GET", "/", &fields, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_person_is_out_at_once_and_after_a_restart_until_it_is_lifted() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let mut proxy = Proxy::start(&config(&old, &new, &upstream));
    proxy.settled().await;
    let (alice, bob) = (new.token("alice"), new.token("bob"));
    for token in [&alice, &bob] {
        assert_eq!(call(&proxy, token).await.status, 200);
    }
    let issuer = new.issuer();
    let account = ["--account", "alice", "--issuer", &issuer];
    let (done, said) = revoke(&proxy, &[&account[..], &["--plan"]].concat());
    assert!(
        done && said.starts_with("0 running sessions would end"),
        "{said}"
    );
    assert_eq!(call(&proxy, &alice).await.status, 200);
    let (done, said) = revoke(&proxy, &account);
    assert!(!done && said.contains("a reason is needed"), "{said}");

    let (done, said) = revoke(&proxy, &[&account[..], &["--reason", "left"]].concat());
    assert!(done, "{said}");
    let hits = upstream.hits();
    assert_eq!(call(&proxy, &alice).await.status, 401, "though it was kept");
    assert_eq!(upstream.hits(), hits);
    assert_eq!(call(&proxy, &bob).await.status, 200);
    let counted =
        "authferry_revocations_total{source=\"operator\",provider=\"none\",outcome=\"recorded\"}";
    assert_eq!(proxy.metric(counted).await, 1.0);
    let id = said
        .split_whitespace()
        .skip_while(|word| *word != "revocation")
        .nth(1)
        .unwrap();

    // Nothing waits for an orderly end.
    proxy.signal("KILL");
    proxy.wait();
    proxy.again();
    proxy.settled().await;
    assert_eq!(call(&proxy, &alice).await.status, 401);
    let (_, listed) = revoke(&proxy, &["list"]);
    assert!(listed.contains(id) && listed.contains("left"), "{listed}");
    let (done, said) = revoke(&proxy, &["lift", id, "--reason", "she stays"]);
    assert!(
        done && !said.contains("that ran when it was made"),
        "{said}"
    );
    until(async || call(&proxy, &alice).await.status == 200).await;
    let (_, listed) = revoke(&proxy, &["list"]);
    assert!(listed.contains("lifted"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_is_revoked_everywhere_is_out_at_both_sides() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&config(&old, &new, &upstream));
    proxy.settled().await;
    let hers = [old.token("alice"), new.token("alice")];
    let his = [old.token("bob"), new.token("bob")];
    for token in hers.iter().chain(&his) {
        assert_eq!(call(&proxy, token).await.status, 200);
    }
    let everywhere = ["--subject", "uid-alice", "--everywhere", "--reason", "left"];
    let (done, said) = revoke(&proxy, &everywhere);
    assert!(done, "{said}");
    for token in &hers {
        assert_eq!(call(&proxy, token).await.status, 401);
    }
    for token in &his {
        assert_eq!(call(&proxy, token).await.status, 200);
    }
}

/// What a provider issued before is over, whatever the clock shows that it was issued by; what it issues afterwards counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_lets_nobody_escape() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let ahead = 20;
    let at = jiff::Timestamp::from_second(i64::try_from(now() + ahead).unwrap()).unwrap();
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    // The clock of `old` says so with its answers, that of `new` with its tokens alone.
    old.dates(&printer.timestamp_to_rfc9110_string(&at).unwrap());
    let proxy = Proxy::start(&config(&old, &new, &upstream));
    proxy.settled().await;
    let issued = |idp: &Idp, name: &str| {
        let mut claims = idp.claims(name);
        claims.insert("iat".to_owned(), json!(now() + ahead));
        idp.sign(&claims)
    };
    let skew = "authferry_clock_skew_seconds{provider=\"old\"}";
    assert!(0.0 < proxy.metric(skew).await);
    let hers = [issued(&old, "alice"), issued(&new, "alice")];
    let his = [issued(&old, "bob"), issued(&new, "bob")];
    // Only here it is seen that the clock of `new` is ahead: the others' tokens are presented afterwards for the first time.
    assert_eq!(call(&proxy, &hers[1]).await.status, 200);
    assert_eq!(call(&proxy, &his[0]).await.status, 200);
    let everywhere = ["--subject", "uid-alice", "--everywhere", "--reason", "left"];
    let (done, said) = revoke(&proxy, &everywhere);
    assert!(done, "{said}");
    for token in &hers {
        assert_eq!(call(&proxy, token).await.status, 401);
    }
    for token in &his {
        assert_eq!(call(&proxy, token).await.status, 200);
    }
    // Whoever signs in again is in again, as soon as nobody can doubt that it was afterwards.
    for idp in [&old, &new] {
        until(async || call(&proxy, &issued(idp, "alice")).await.status == 200).await;
    }
    for token in &hers {
        assert_eq!(call(&proxy, token).await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_ten_need_a_confirmation() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml =
        config(&old, &new, &upstream).replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]");
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let mut browsers = Vec::new();
    for _ in 0..11 {
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        browser.sign_in(&proxy, &start).await;
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        browsers.push(browser);
    }
    let everything = ["--provider", "new", "--reason", "a breach"];
    let (done, said) = revoke(&proxy, &everything);
    assert!(!done && said.contains("11 sessions would end"), "{said}");
    assert_eq!(browsers[0].open(&proxy, "/").await.status, 200);
    let (done, said) = revoke(&proxy, &[&everything[..], &["--confirm", "11"]].concat());
    assert!(
        done && said.starts_with("11 running sessions ended"),
        "{said}"
    );
    for browser in &mut browsers {
        // Nobody has done anything: it is said why, once.
        let told = browser.open(&proxy, "/deep?a=b").await;
        assert_eq!(told.status, 403, "{}", told.text());
        let text = told.text();
        assert!(text.contains("You were signed out for security"), "{text}");
        assert!(
            text.contains("/.authferry/login?rd=%2Fdeep%3Fa%3Db"),
            "{text}"
        );
        assert_eq!(browser.open(&proxy, "/").await.status, 302);
    }
    // Who signs in again is in again.
    let browser = &mut browsers[0];
    let start = browser.open(&proxy, "/").await;
    browser.sign_in(&proxy, &start).await;
    assert_eq!(browser.open(&proxy, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_is_forgotten_is_out_and_comes_back_as_a_stranger() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100).replace("[app.test]", "[127.0.0.1]");
    let proxy = Proxy::start(&yaml);
    let mut alice = Browser::default();
    let start = alice.open(&proxy, "/").await;
    assert_eq!(alice.sign_in(&proxy, &start).await.status, 303);
    new.signs_in("bob");
    let mut bob = Browser::default();
    let start = bob.open(&proxy, "/").await;
    assert_eq!(bob.sign_in(&proxy, &start).await.status, 303);
    // What is counted names nobody, and stays.
    let journeys =
        "authferry_login_journeys_total{rollout=\"default\",arm=\"modern\",event=\"succeeded\"} ";
    until(async || proxy.metric(journeys).await == 2.0).await;
    let forget = || {
        let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
            .args([
                "forget",
                "--subject",
                "uid-alice",
                "--reason",
                "asked to",
                "--socket",
            ])
            .arg(proxy.dir().join("state/admin.sock"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        forget(),
        "forgotten: 1 sessions, 1 linked accounts, 1 pins\n"
    );
    assert_eq!(alice.open(&proxy, "/").await.status, 302, "she is out");
    assert_eq!(bob.open(&proxy, "/").await.status, 200, "nobody else is");
    until(async || new.revoked().len() == 1).await;
    assert_eq!(proxy.metric(journeys).await, 2.0);
    // Nothing is left to forget, and nothing stands in the way of who signs in again.
    assert_eq!(
        forget(),
        "forgotten: 0 sessions, 0 linked accounts, 0 pins\n"
    );
    new.signs_in("alice");
    let start = alice.open(&proxy, "/").await;
    assert_eq!(alice.sign_in(&proxy, &start).await.status, 303);
    assert_eq!(alice.open(&proxy, "/").await.status, 200);
    // What was revoked before is kept until it ends, and erased as well.
    let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .args([
            "revoke",
            "--subject",
            "uid-alice",
            "--reason",
            "lost",
            "--confirm",
            "9",
            "--socket",
        ])
        .arg(proxy.dir().join("state/admin.sock"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        forget(),
        "forgotten: 1 sessions, 1 linked accounts, 1 pins\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revocation_ended_is_over_at_its_provider_and_stays_over() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |percent| {
        two_providers(&old, &new, &upstream, percent).replace("[app.test]", "[app.test, 127.0.0.1]")
            + "\nserver:\n  listen: 127.0.0.1:0\n  admin: { listen: 127.0.0.1:0, socket: {dir}/admin.sock, token: { file: {dir}/admin.token } }\n  state_dir: {dir}/state\n"
    };
    let proxy = Proxy::start(&yaml(0));
    let mut at_old = Browser::default();
    let start = at_old.open(&proxy, "/").await;
    assert_eq!(at_old.sign_in(&proxy, &start).await.status, 303);
    proxy.edit(&yaml(100));
    let target = "authferry_rollout_target_ratio{rollout=\"default\"} ";
    until(async || proxy.metric(target).await == 1.0).await;
    let mut people = Vec::new();
    for name in ["alice", "bob"] {
        new.signs_in(name);
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        assert_eq!(browser.sign_in(&proxy, &start).await.status, 303);
        people.push(browser);
    }
    // A provider that is away is told again.
    new.revokes_later(1);
    let subject = ["--subject", "uid-alice", "--reason", "lost laptop"];
    let (done, said) = revoke(&proxy, &subject);
    assert!(done && said.starts_with("2 running sessions"), "{said}");
    let id = said
        .split_whitespace()
        .skip_while(|word| *word != "revocation");
    let id = id.clone().nth(1).unwrap();
    until(async || (old.revoked().len(), new.revoked().len()) == (1, 1)).await;
    for provider in ["old", "new"] {
        let told =
            format!("authferry_logout_fanout_total{{provider=\"{provider}\",outcome=\"success\"}}");
        until(async || proxy.metric(&told).await == 1.0).await;
    }
    let (done, said) = revoke(&proxy, &["lift", id, "--reason", "found it"]);
    for provider in ["old", "new"] {
        let gone = format!(
            "stays gone: 1 session at {provider} that ran when it was made; their refresh tokens were to be given back there"
        );
        assert!(done && said.contains(&gone), "{said}");
        let row = |line: &&str| line.contains("stays gone: session ") && line.contains(provider);
        assert_eq!(said.lines().filter(row).count(), 1, "{said}");
    }
    for browser in [&mut at_old, &mut people[0]] {
        assert_eq!(browser.open(&proxy, "/").await.status, 302);
    }
    assert_eq!(people[1].open(&proxy, "/").await.status, 200, "nobody else");

    // A sign-out at a provider ends what was issued for the session here, too.
    let token = new.logout_token("j1", &serde_json::json!({ "sub": "bob" }));
    let fields = [
        ("Host", "app.test"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("logout_token={token}");
    let path = "/.authferry/backchannel/new";
    let answer = request(proxy.address, "POST", path, &fields, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    until(async || new.revoked().len() == 2).await;
    assert_eq!(people[1].open(&proxy, "/").await.status, 302);
}

/// An earlier answer counts while its owner is away, except for what was revoked; that is given back when it shows, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_outlives_the_absence_of_its_owner_and_not_its_revocation() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = config(&old, &new, &upstream);
    let line = yaml.lines().find(|l| l.starts_with("  old:")).unwrap();
    let introspection = format!(
        "  old: {{ introspection: {{ url: \"{old}/introspect\", issuer: \"{old}\", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, \
         cache: 1s, stale_if_unavailable: 10m, revoke: {{ url: \"{old}/revoke\" }}, claims: {{ subject: uid, name: name, groups: groups }}, \
         authoritative: {{ claims: [uid] }} }} }}",
        old = old.issuer()
    );
    let client = "client: { id: authferry, secret: { env: HARNESS_SECRET } }, verify";
    let yaml = yaml.replace(line, &introspection).replace(client, "verify");
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    for (token, subject) in [("opaque-alice", "alice"), ("opaque-bob", "bob")] {
        old.opaque(token, subject);
        let answer = call(&proxy, token).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    }
    old.fail_with(Some(503));
    let counted = "authferry_stale_verdicts_total{provider=\"old\"}";
    until(async || {
        assert_eq!(call(&proxy, "opaque-alice").await.status, 200);
        assert_eq!(call(&proxy, "opaque-bob").await.status, 200);
        2.0 <= proxy.metric(counted).await
    })
    .await;
    assert_eq!(call(&proxy, "opaque-eve").await.status, 503, "never seen");

    let issuer = old.issuer();
    let account = [
        "--account",
        "uid-alice",
        "--issuer",
        &issuer,
        "--reason",
        "left",
    ];
    let (done, said) = revoke(&proxy, &account);
    assert!(done, "{said}");
    old.fail_with(None);
    until(async || {
        assert_eq!(call(&proxy, "opaque-alice").await.status, 401);
        !old.revoked().is_empty()
    })
    .await;
    assert_eq!(call(&proxy, "opaque-alice").await.status, 401);
    assert_eq!(call(&proxy, "opaque-bob").await.status, 200);
    assert_eq!(old.revoked(), ["opaque-alice"], "once");
    // It does not come back with the revocation, and nobody says more than is known.
    let id = said
        .split_whitespace()
        .skip_while(|word| *word != "revocation")
        .nth(1);
    let (done, said) = revoke(&proxy, &["lift", id.unwrap(), "--reason", "found"]);
    assert!(done, "{said}");
    let gone: Vec<&str> = said.lines().skip(1).map(str::trim).collect();
    let came = "stays gone: whichever opaque tokens and sessions of old came while it held: they were to be given back there";
    assert_eq!(gone, [came]);
}
