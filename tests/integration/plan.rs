//! `authferry plan`, and the reload that refuses to send people back unless that is meant.

use std::process::Command;

use serde_json::Value;

use crate::control::authferry;
use crate::control::records;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::two_providers;

/// `plan` of a text, in JSON, and its exit code.
fn plan(proxy: &Proxy, yaml: &str, words: &[&str]) -> (i32, Value) {
    let file = proxy.dir().join("new.yaml");
    let state = proxy.dir().join("state");
    let server = format!("server: {{ state_dir: {} }}\n", state.display());
    std::fs::write(&file, format!("version: 1\n{server}{yaml}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .env("HARNESS_SECRET", "secret")
        .args(["plan", "--format", "json", "--state-dir"])
        .arg(&state)
        .arg(&file)
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said = serde_json::from_str(&said).unwrap_or_else(|_| said.into());
    (output.status.code().unwrap(), said)
}

async fn come(proxy: &Proxy, idp: &Idp, people: std::ops::Range<u32>) {
    for n in people {
        let sent = format!("Bearer {}", idp.token(&format!("p{n}")));
        let sent = [("Authorization", sent.as_str()), ("Host", "app.test")];
        let answer = request(proxy.address, "GET", "/", &sent, b"").await;
        assert_eq!(answer.status, 200);
    }
}

fn row<'a>(view: &'a Value, rule: &str) -> &'a Value {
    let mut rows = view["rows"].as_array().unwrap().iter();
    rows.find(|row| row["rule"] == rule)
        .unwrap_or_else(|| panic!("{rule}: {view}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_file_would_move_is_said_before_and_recalls_must_be_meant() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |percent| two_providers(&old, &new, &upstream, percent);
    let proxy = Proxy::start(&yaml(0));
    proxy.settled().await;
    come(&proxy, &old, 0..20).await;
    // The same people once more, and somebody who is not: nobody is counted twice.
    come(&proxy, &old, 0..5).await;

    let (code, view) = plan(&proxy, &yaml(0), &[]);
    assert_eq!(
        (code, &view["seen"], &view["rows"]),
        (0, &20.into(), &Value::Array(Vec::new()))
    );
    let (code, view) = plan(&proxy, &yaml(100), &[]);
    assert_eq!((code, &row(&view, "percent")["forward"]), (0, &20.into()));
    let (_, half) = plan(&proxy, &yaml(50), &[]);
    let half = row(&half, "percent")["forward"].as_u64().unwrap();
    assert!((1..20).contains(&half), "{half}");

    proxy.edit(&yaml(100));
    let (good, text) = authferry(proxy.dir(), &["ctl", "reload"]);
    assert!(good, "{text}");
    let applied = records(proxy.dir())
        .into_iter()
        .rfind(|record| record["kind"] == "config_applied");
    assert_eq!(applied.unwrap()["people"]["forward"], 20);

    // Nobody has signed in at the new provider yet, so nobody is held there.
    let (code, view) = plan(&proxy, &yaml(0), &[]);
    let back = row(&view, "default");
    assert_eq!(
        (code, &back["back"], &view["recalled"]),
        (4, &20.into(), &20.into()),
        "{view}"
    );
    let who = back["who"].as_array().unwrap();
    assert!(
        who.len() == 5
            && who
                .iter()
                .all(|who| who.as_str().unwrap().starts_with("p:")),
        "{view}"
    );
    proxy.edit(&yaml(0));
    let (good, text) = authferry(proxy.dir(), &["ctl", "reload"]);
    assert!(!good && text.contains("`change: { recall: 20 }`"), "{text}");
    let ratio = "authferry_rollout_target_ratio{rollout=\"default\"} ";
    assert!(
        (proxy.metric(ratio).await - 1.0).abs() < f64::EPSILON,
        "the running file stays"
    );
    let meant = |number: u32, percent| format!("change: {{ recall: {number} }}\n{}", yaml(percent));
    proxy.edit(&meant(19, 0));
    assert!(
        !authferry(proxy.dir(), &["ctl", "reload"]).0,
        "one more than was meant"
    );
    proxy.edit(&meant(20, 0));
    let (good, text) = authferry(proxy.dir(), &["ctl", "reload"]);
    assert!(good, "{text}");
    assert!(proxy.metric(ratio).await.abs() < f64::EPSILON);
    // What was meant once is not meant for ever.
    proxy.edit(&meant(20, 100));
    assert!(authferry(proxy.dir(), &["ctl", "reload"]).0);
    proxy.edit(&meant(20, 0));
    let (good, text) = authferry(proxy.dir(), &["ctl", "reload"]);
    assert!(!good && text.contains("counts no more"), "{text}");
    proxy.edit(&meant(21, 0));
    let (good, text) = authferry(proxy.dir(), &["ctl", "reload"]);
    assert!(good, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_no_longer_be_accepted_is_named_with_its_stage() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100);
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    come(&proxy, &old, 0..3).await;
    come(&proxy, &new, 10..14).await;
    let (head, _) = yaml.split_once("rollout:").unwrap();
    let single = head.replace("    hosts:", "    provider: new\n    hosts:");
    let (code, view) = plan(&proxy, &single, &[]);
    let refused = row(&view, "single");
    assert_eq!(
        (code, &refused["refused"], &refused["back"]),
        (4, &3.into(), &0.into()),
        "{view}"
    );
    let allowed = format!("audit: {{ max_recall: 3 }}\n{single}");
    assert_eq!(plan(&proxy, &allowed, &[]).0, 0);
    let (code, text) = plan(
        &proxy,
        &single.replace("provider: new", "provider: nwe"),
        &[],
    );
    assert!(
        code == 1 && text.as_str().unwrap().contains("nwe"),
        "{text}"
    );
}

/// A stage without the cohorts of the one before lets people go back: that must be meant, as in a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_recalls_people_must_be_meant() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let staff = "      - { id: staff, mode: canary, assign: [{ cohort: staff, to: new }] }\n      - id: ramp\n";
    let text = staged(&old, &new, &upstream).replace("      - id: ramp\n", staff);
    let text = format!("cohorts: {{ staff: {{ subjects: [uid-p0, uid-p1] }} }}\n{text}");
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    let orders = |words: &[&str]| {
        let words = [&["ctl"], words, &["--reason", "IAM-1"]].concat();
        authferry(&dir, &words)
    };
    assert!(orders(&["start"]).0);
    come(&proxy, &old, 0..4).await;
    let (good, text) = orders(&["set-stage", "staff"]);
    assert!(good, "{text}");
    for words in [
        &["promote"][..],
        &["set-stage", "ramp"],
        &["set-stage", "ramp", "--recall", "1"],
    ] {
        let (good, text) = orders(words);
        assert!(!good && text.contains("promote --recall 2"), "{text}");
    }
    let leads = |record: &Value| record["to"] == "ramp/0.01";
    assert!(!records(&dir).iter().any(leads), "and nothing is recorded");
    let (good, text) = orders(&["promote", "--recall", "2"]);
    assert!(good, "{text}");
    let record = records(&dir).into_iter().find(leads).unwrap();
    assert_eq!(record["recall"], 2, "{record}");
    // On from there nobody goes back.
    let (good, text) = orders(&["set-stage", "ramp/100"]);
    assert!(good, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_planned_with_the_step_it_leads_to() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    come(&proxy, &old, 0..4).await;
    let inventory = proxy.dir().join("people.csv");
    // One of them was seen already.
    std::fs::write(&inventory, "subject,groups\nuid-p0,it\nuid-x,it\nuid-y,\n").unwrap();
    let file = inventory.to_str().unwrap();
    let at = ["--at", "move=ramp/100", "--inventory", file];
    let (code, view) = plan(&proxy, &text, &at);
    assert_eq!(code, 0, "{view}");
    assert_eq!((&view["seen"], &view["listed"]), (&4.into(), &3.into()));
    assert_eq!(row(&view, "percent")["forward"], 6);
    let (code, view) = plan(&proxy, &text, &["--at", "move=rmp"]);
    assert!(
        code == 1 && view.as_str().unwrap().contains("no step `rmp`"),
        "{view}"
    );

    // Before anything runs.
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("new.yaml");
    std::fs::write(&fresh, format!("version: 1\n{text}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .env("HARNESS_SECRET", "secret")
        .current_dir(dir.path())
        .args([
            "plan",
            "new.yaml",
            "--offline",
            "--inventory",
            file,
            "--at",
            "move=ramp/100",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the bucket key does not exist yet"), "{said}");
    let counted = said.lines().find(|line| line.starts_with("crm ")).unwrap();
    assert_eq!(
        counted.split_whitespace().collect::<Vec<_>>(),
        ["crm", "percent", "3", "0", "0"]
    );
    assert!(
        !dir.path().join("authferry-state").exists(),
        "nothing was written"
    );
}
