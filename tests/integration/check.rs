//! `authferry check --online`: an operator learns before anybody else that a provider would not work.

use std::path::Path;
use std::process::Command;
use std::process::Output;

use serde_json::Value;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::now;
use crate::two_providers;

async fn check(dir: &Path, yaml: &str, secret: &str, more: &[&str]) -> (Option<i32>, String) {
    let file = dir.join("authferry.yaml");
    let server = format!(
        "server: {{ listen: 127.0.0.1:8080, state_dir: {}/state }}\n",
        dir.display()
    );
    std::fs::write(&file, format!("version: 1\n{yaml}{server}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_authferry"));
    command
        .env("HARNESS_SECRET", secret)
        .args(["check", "--online"])
        .args(more)
        .arg(&file);
    // The double answers on this runtime.
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.unwrap();
    let (out, err) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    (status.code(), out + &err)
}

async fn world() -> (Idp, Idp, String) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 10);
    (old, new, yaml)
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_know_us_pass_and_nothing_is_left_behind() {
    let (old, new, yaml) = world().await;
    new.registers(&["http://app.test:8080/.authferry/cb/new"]);
    let dir = tempfile::tempdir().unwrap();
    let (code, out) = check(dir.path(), &yaml, "secret", &[]).await;
    assert_eq!(code, Some(0), "{out}");
    for provider in ["old", "new"] {
        for check in [
            "discovery: http://127.0.0.1:",
            "keys: 1 key",
            "client: it knows us",
            "clock: its clock and ours agree",
        ] {
            let line = format!("ok      providers.{provider}: {check}");
            assert!(out.contains(&line), "{line}\n{out}");
        }
        let line = format!(
            "ok      providers.{provider}: callback http://app.test:8080/.authferry/cb/{provider}: it comes back (login_required)"
        );
        assert!(out.contains(&line), "{line}\n{out}");
    }
    assert_eq!((old.hits("/authorize"), old.hits("/token")), (1, 1));
    assert!(!dir.path().join("state").exists(), "a check makes no keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_a_stray_callback_and_a_wrong_clock_are_each_named() {
    let (old, new, yaml) = world().await;
    new.registers(&["https://elsewhere.test/.authferry/cb/new"]);
    old.dates("Sun, 06 Nov 1994 08:49:37 GMT");
    let dir = tempfile::tempdir().unwrap();
    let (code, out) = check(dir.path(), &yaml, "wrong", &["--format", "json"]).await;
    assert_eq!(code, Some(1), "{out}");
    let whole: Value = serde_json::from_str(&out).unwrap();
    let outcomes: Vec<String> = whole["online"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            format!(
                "{} {} {}",
                found["provider"], found["check"], found["outcome"]
            )
            .replace('"', "")
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "old discovery ok",
            "old keys ok",
            "old clock failed",
            "old client failed",
            "old callback ok",
            "new discovery ok",
            "new keys ok",
            "new clock ok",
            "new client failed",
            "new callback failed",
        ]
    );
    let origin = ["--origin", "crm=https://elsewhere.test"];
    let now = jiff::Timestamp::from_second(now().cast_signed()).unwrap();
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    old.dates(&printer.timestamp_to_rfc9110_string(&now).unwrap());
    let (code, out) = check(dir.path(), &yaml, "secret", &origin).await;
    assert_eq!(code, Some(0), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_takes_pushed_requests_only_is_asked_by_one() {
    let (old, new, yaml) = world().await;
    new.requires_pushed();
    new.registers(&["http://app.test:8080/.authferry/cb/new"]);
    let dir = tempfile::tempdir().unwrap();
    let (code, out) = check(dir.path(), &yaml, "secret", &[]).await;
    assert_eq!(code, Some(0), "{out}");
    let line = "ok      providers.new: callback http://app.test:8080/.authferry/cb/new: it comes back (login_required)";
    assert!(out.contains(line), "{out}");
    assert_eq!((new.hits("/par"), new.hits("/authorize")), (1, 1));
    assert_eq!(old.hits("/par"), 0);

    new.registers(&["https://elsewhere.test/.authferry/cb/new"]);
    let (code, out) = check(dir.path(), &yaml, "secret", &[]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("failed  providers.new: callback "), "{out}");
    let (code, out) = check(dir.path(), &yaml, "wrong", &[]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("it answers 401 to the request that we push there"),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_fails_and_the_other_is_still_asked() {
    let (old, _new, yaml) = world().await;
    old.fail_with(Some(503));
    let dir = tempfile::tempdir().unwrap();
    let (code, out) = check(dir.path(), &yaml, "secret", &[]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("failed  providers.old: discovery: "), "{out}");
    assert!(out.contains("http_5xx"), "{out}");
    assert!(
        out.contains("ok      providers.new: client: it knows us"),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_kind_must_refuse_a_stranger() {
    let idp = Idp::start().await;
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys"), "").unwrap();
    let yaml = format!(
        r#"
providers:
  opaque: {{ introspection: {{ url: "{idp}/introspect", issuer: "{idp}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }} }} }}
  form: {{ session_probe: {{ owns: {{ cookies: [SID] }}, introspect: {{ url: "{app}/whoami" }} }} }}
apps:
  one: {{ hosts: [one.test], upstream: {{ url: "{app}" }}, provider: opaque }}
  two: {{ hosts: [two.test], upstream: {{ url: "{app}" }}, provider: form }}
"#,
        idp = idp.issuer(),
        app = upstream.url(),
    );
    let (code, out) = check(dir.path(), &yaml, "secret", &[]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("ok      providers.opaque: client: it knows us"),
        "{out}"
    );
    // The upstream answers 200 to everybody: that is no probe.
    assert!(out.contains("failed  providers.form: refusal: "), "{out}");
    let (_, out) = check(dir.path(), &yaml, "wrong", &[]).await;
    assert!(
        out.contains("failed  providers.opaque: client: it does not know us"),
        "{out}"
    );
}
