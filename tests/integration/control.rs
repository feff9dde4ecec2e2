//! A rollout that a controller drives, and the ledger that tells of it, in the real program.

use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use serde_json::Value;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;

/// One stage by name, a ramp, and everybody; nothing bakes.
pub(crate) fn staged(old: &Idp, new: &Idp, upstream: &Echo) -> String {
    let text = two_providers(old, new, upstream, 10);
    let (head, _) = text.split_once("rollout:").unwrap();
    let head = head.replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]");
    format!(
        "{head}
audit: {{ require_change: true }}
change: {{ actor: ci, reason: test }}
guardrails: {{ standard: {{ no_data: proceed }} }}
rollouts:
  move:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: test }}
    control: controller
    guardrails: standard
    stages:
      - {{ id: install, mode: legacy-only }}
      - id: ramp
        mode: canary
        assign: [{{ ramp: true, to: new }}]
        ramp: [{{ percent: 0.01 }}, {{ percent: 100, bake: 1d }}]
        promote: {{ when: manual }}
      - {{ id: primary, mode: modern-primary, promote: {{ min_bake: 1d }} }}
"
    )
}

pub(crate) fn authferry(dir: &Path, words: &[&str]) -> (bool, String) {
    let state = dir.join("state");
    let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .env("AUTHFERRY_STATE_DIR", state)
        .args(words)
        .output()
        .unwrap();
    (status.success(), String::from_utf8(stdout).unwrap())
}

#[track_caller]
pub(crate) fn good(dir: &Path, words: &[&str]) -> String {
    let (good, text) = authferry(dir, words);
    assert!(good, "{words:?}: {text}");
    text
}

pub(crate) fn records(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("state/decisions.jsonl")).unwrap();
    // The last one may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const NAVIGATION: [(&str, &str); 3] = [
    ("Accept", "text/html"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];

pub(crate) async fn goes_to(proxy: &Proxy, idp: &Idp) -> bool {
    let answer = request(proxy.address, "GET", "/", &NAVIGATION, b"").await;
    answer
        .header("location")
        .is_some_and(|to| to.starts_with(&idp.issuer()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_drives_a_rollout_and_the_ledger_tells_of_it() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&staged(&old, &new, &upstream));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    assert!(
        goes_to(&proxy, &old).await,
        "before it begins, everything is as it was"
    );
    let (_, text) = authferry(&dir, &["ctl", "promote", "--reason", "x"]);
    assert!(text.contains("it is draft"), "{text}");
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    assert!(
        goes_to(&proxy, &new).await,
        "the step holds when the order returns"
    );
    let (refused, text) = authferry(&dir, &["ctl", "promote", "--reason", "IAM-3"]);
    assert!(!refused && text.contains("of 24h"), "{text}");
    let text = good(&dir, &["ctl", "rollback", "--reason", "IAM-4"]);
    assert!(text.contains("rolled_back at ramp/0.01"), "{text}");
    until(async || goes_to(&proxy, &old).await).await;
    good(&dir, &["ctl", "resume", "--reason", "IAM-5"]);
    let text = good(&dir, &["ctl", "status"]);
    assert!(text.contains("baking at ramp/0.01"), "{text}");
    let verified = good(&dir, &["log", "verify"]);
    assert!(verified.starts_with("ok "), "{verified}");
    let told: Vec<String> = records(&dir)
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("kind"), text("to"), text("why"))
        })
        .collect();
    assert!(told[0].starts_with("node_start"), "{told:?}");
    assert!(told.contains(&"decision install IAM-1".into()), "{told:?}");
    assert!(
        told.contains(&"decision ramp/0.01 IAM-4".into()),
        "{told:?}"
    );
    assert!(told.contains(&"resume ramp/0.01 IAM-5".into()), "{told:?}");
    let line = "authferry_rollout_transitions_total{rollout=\"move\",direction=\"back\",trigger=\"operator\"} ";
    assert!((proxy.metric(line).await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_moved_to_a_provider_that_takes_pushed_requests_only() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    new.requires_pushed();
    let proxy = Proxy::start(&staged(&old, &new, &upstream));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    // Before anybody is moved the provider is asked whether it would send them back.
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    let asked = new.hits("/par");
    assert!(0 < asked, "{}", proxy.log());
    assert!(goes_to(&proxy, &new).await);
    assert_eq!(new.hits("/par"), asked + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_moved_to_a_provider_that_does_not_answer() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&staged(&old, &new, &upstream));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    let moves = |name: &str| {
        let records = records(&dir).into_iter();
        let moved = records.filter(|r| r["kind"] == "decision" && r["to"] == name);
        moved.count()
    };
    new.fail_with(Some(500));
    let (done, said) = authferry(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    assert!(!done && said.contains("new is not ready"), "{said}");
    assert_eq!(
        moves("ramp/100"),
        0,
        "what is refused is not recorded as done"
    );
    let status = good(&dir, &["ctl", "status"]);
    assert!(status.contains("baking at install"), "{status}");
    assert!(goes_to(&proxy, &old).await);
    // It is there again, and nothing else was in the way.
    new.fail_with(None);
    let mut said = String::new();
    until(async || {
        let (done, text) = authferry(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-3"]);
        said = text;
        done
    })
    .await;
    assert_eq!(moves("ramp/100"), 1, "{said}");
    assert!(goes_to(&proxy, &new).await);
}

/// Its answer counts, whatever else would let the stage be left.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_left_when_the_hook_of_its_file_says_so() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let hook = Echo::start().await;
    let at = |path: &str| {
        let url = format!("{}{path}", hook.url());
        let token = "{ file: {dir}/hook.token }";
        let require = format!("require: {{ webhook: {{ url: \"{url}\", token: {token} }} }}");
        staged(&old, &new, &upstream).replace(
            "mode: legacy-only }",
            &format!("mode: legacy-only, promote: {{ when: auto, {require} }} }}"),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hook.token"), "of-the-hook").unwrap();
    let proxy = Proxy::start_in(dir, &at("/asks/again"));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    until(async || good(&dir, &["ctl", "status"]).contains("held at install")).await;
    let status = good(&dir, &["ctl", "status"]);
    assert!(
        status.contains("webhook") && status.contains("401"),
        "{status}"
    );
    assert!(goes_to(&proxy, &old).await);

    let loads = async || {
        let series = "authferry_config_reloads_total{outcome=\"success\"}";
        proxy.metric(series).await
    };
    let before = loads().await;
    proxy.edit(&at("/yes"));
    until(async || before < loads().await).await;
    let status = good(&dir, &["ctl", "status"]);
    assert!(
        status.contains("held at install"),
        "it is not asked again: {status}"
    );
    good(&dir, &["ctl", "resume", "--reason", "IAM-2"]);
    until(async || good(&dir, &["ctl", "status"]).contains("at ramp/0.01")).await;
    let asked = hook.last();
    assert_eq!(asked.line(), "POST /yes HTTP/1.1");
    assert_eq!(asked.all("authorization"), ["Bearer of-the-hook"]);
    let about: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(
        about,
        serde_json::json!({ "rollout": "move", "step": "install", "next": "ramp/0.01" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn people_whose_sessions_cannot_be_confirmed_are_counted_by_the_guards() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&(staged(&old, &new, &upstream) + "sessions: { revalidate: 1s }\n"));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "a"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "b"]);
    let mut people = Vec::new();
    for name in ["ann", "bob", "eve"] {
        new.signs_in(name);
        let mut browser = Browser::default();
        let start = browser.open(&proxy, "/").await;
        assert_eq!(browser.sign_in(&proxy, &start).await.status, 303);
        assert_eq!(browser.open(&proxy, "/").await.status, 200);
        people.push(browser);
    }
    let counted = async |what: &str, arm: &str| {
        let series =
            format!("authferry_guard_{what}{{rollout=\"move\",guard=\"session\",arm=\"{arm}\"}} ");
        proxy.metric(&series).await
    };
    until(async || counted("units", "modern").await == 3.0).await;
    assert!(counted("bad_units", "modern").await.abs() < f64::EPSILON);
    // It is away for longer than a session counts without it.
    new.fail_with(Some(503));
    for browser in &mut people {
        until(async || browser.open(&proxy, "/").await.status == 503).await;
    }
    until(async || counted("bad_units", "modern").await == 3.0).await;
    assert!(counted("bad_units", "legacy").await.abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_stands_where_it_stood_after_a_kill_and_the_chain_verifies() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let mut proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "a"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "b"]);
    // Orders are under way when it is killed.
    let orders = {
        let dir = dir.clone();
        std::thread::spawn(move || {
            for n in 0.. {
                let step = if n % 2 == 0 { "ramp/0.01" } else { "ramp/100" };
                if !authferry(&dir, &["ctl", "set-stage", step, "--reason", "c"]).0 {
                    return;
                }
            }
        })
    };
    until(async || 8 < records(&dir).len()).await;
    proxy.signal("KILL");
    proxy.wait();
    orders.join().unwrap();
    let verified = good(&dir, &["log", "verify"]);
    assert!(verified.starts_with("ok "), "{verified}");
    let told = records(&dir);
    let mut steps = told.iter().rev().filter(|record| record["to"].is_string());
    let (last, before) = (steps.next().unwrap(), steps.next().unwrap());
    let kept = tempfile::tempdir().unwrap();
    copy(&dir, kept.path());
    let proxy = Proxy::start_in(kept, &text);
    let status = good(proxy.dir(), &["ctl", "status"]);
    assert!(good(proxy.dir(), &["log", "verify"]).starts_with("ok "));
    let since = records(proxy.dir()).split_off(told.len());
    let void = since.iter().any(|record| record["void"] == "c");
    // What is recorded holds. Only a step forward may not, if it was not kept, and then the ledger says so.
    assert!(!void || last["direction"] == "forward", "{last} {since:?}");
    let stands = if void { before } else { last };
    let step = stands["to"].as_str().unwrap();
    assert!(
        status.contains(&format!("baking at {step} ")),
        "{status} {stands}"
    );
    assert!(goes_to(&proxy, if step == "ramp/100" { &new } else { &old }).await);
}

/// The state without the socket.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What stands elsewhere shows what is missing here: every record on standard output, and the head for whoever keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_mirrored_and_its_head_is_served() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let audit = "audit: { require_change: true, mirror: [stdout] }";
    let text = staged(&old, &new, &upstream).replace("audit: { require_change: true }", audit);
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    for step in ["ramp/0.01", "ramp/100"] {
        if step == "ramp/0.01" {
            good(&dir, &["ctl", "start", "--reason", "a"]);
        }
        good(&dir, &["ctl", "set-stage", step, "--reason", "b"]);
        let last = records(&dir).pop().unwrap();
        let mut socket = UnixStream::connect(dir.join("state/admin.sock")).unwrap();
        let asks =
            "GET /admin/v1/log/head HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        socket.write_all(asks.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let head: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&head["seq"], &head["hash"]), (&last["seq"], &last["hash"]));
    }
    // The record of the start stood there before it was ready.
    let written = std::fs::read_to_string(dir.join("state/decisions.jsonl")).unwrap();
    let orders: Vec<_> = written
        .lines()
        .filter(|line| line.contains("\"decision\""))
        .collect();
    assert_eq!(orders.len(), 3, "{written}");
    until(async || {
        let mirrored = std::fs::read_to_string(dir.join("stdout.log")).unwrap();
        orders
            .iter()
            .all(|order| mirrored.lines().any(|line| line == *order))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_record_is_named_and_a_refused_file_is_recorded() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let proxy = Proxy::start(&text);
    let dir = proxy.dir().to_owned();
    proxy.edit("this is not a configuration: [");
    until(async || records(&dir).iter().any(|r| r["kind"] == "config_refused")).await;
    proxy.edit(&text.replace("reason: test", "reason: another"));
    until(async || records(&dir).iter().any(|r| r["kind"] == "config_applied")).await;
    let applied = records(&dir)
        .into_iter()
        .find(|r| r["kind"] == "config_applied")
        .unwrap();
    assert_eq!(applied["actor"], "ci");
    assert_eq!(applied["reason"], "another");
    let sha256 = applied["config_sha256"].as_str().unwrap();
    let kept = dir.join(format!("state/configurations/{sha256}.yaml"));
    assert!(
        std::fs::read_to_string(kept)
            .unwrap()
            .contains("reason: another")
    );
    let path = dir.join("state/decisions.jsonl");
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, written.replacen("another", "a nicer", 1)).unwrap();
    let (good, text) = authferry(&dir, &["log", "verify"]);
    let record = applied["seq"].as_u64().unwrap();
    assert!(
        !good && text.contains(&format!("BROKEN at record {record}")),
        "{text}"
    );
}

/// A restart with an edited file is a change like any other: nobody finds themselves in another bucket by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_puts_nobody_into_buckets_anew_unless_that_is_meant() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let mut proxy = Proxy::start(&text);
    let dir = proxy.dir().to_owned();
    let other = text.replace("salt: test", "salt: other");
    let end = |proxy: &mut Proxy| {
        proxy.signal("TERM");
        assert!(proxy.wait().success());
    };
    // Before anybody is in a bucket everything may be another.
    for text in [&other, &text] {
        end(&mut proxy);
        proxy.edit(text);
        proxy.again();
    }
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    end(&mut proxy);
    std::fs::write(dir.join("key"), "k".repeat(32)).unwrap();
    let keyed = format!("{text}secrets: {{ bucket_key: {{ file: {{dir}}/key }} }}\n");
    let by_client = text.replace("salt: test", "salt: test, unit: client_id");
    for (changed, what) in [
        (&other, "bucketing.salt"),
        (&by_client, "bucketing.unit"),
        (&keyed, "secrets.bucket_key"),
    ] {
        proxy.edit(changed);
        let said = proxy.refused();
        let hint = "acknowledge: reshuffle";
        assert!(said.contains(what) && said.contains(hint), "{said}");
        assert!(said.contains("once at every instance"), "{said}");
    }
    // As it was, or as it is meant to be.
    let meant = other.replace("reason: test", "reason: test, acknowledge: reshuffle");
    for (index, text) in [&text, &meant, &other].into_iter().enumerate() {
        proxy.edit(text);
        proxy.again();
        let status = good(&dir, &["ctl", "status"]);
        assert!(status.contains("at ramp/100"), "{index} {status}");
        end(&mut proxy);
    }
    proxy.edit(&text);
    assert!(proxy.refused().contains("bucketing.salt"));
}
