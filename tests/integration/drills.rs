//! Exercises in the real program: judged by what was seen, recorded, and asked for by a stage.

use crate::control::authferry;
use crate::control::good;
use crate::control::records;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;

#[tokio::test(flavor = "multi_thread")]
async fn exercises_are_judged_recorded_and_asked_for() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let asked = "mode: legacy-only, promote: { require: { drills_passed: [jwks-rotation, bad-token-format] } }";
    let text = text.replace("mode: legacy-only", asked);
    let text = format!("{text}cohorts: {{ staff: {{ subjects: [uid-ann] }} }}\n");
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    let drill = |name: &str, more: &[&str]| {
        let words = [&["drill", name, "--reason", "IAM-1"], more].concat();
        authferry(&dir, &words)
    };
    let (done, said) = drill("bad-token-format", &[]);
    assert!(!done, "it has not begun: {said}");
    good(&dir, &["ctl", "start", "--reason", "a"]);
    let (done, said) = authferry(&dir, &["ctl", "promote", "--reason", "b"]);
    assert!(
        !done && said.contains("drill jwks-rotation has not passed"),
        "{said}"
    );
    for name in ["bad-token-format", "jwks-rotation"] {
        let (passed, said) = drill(name, &[]);
        assert!(passed && said.contains("were refused"), "{said}");
    }
    good(&dir, &["ctl", "promote", "--reason", "c"]);
    // An outage is for the people of its cohort, and for a while.
    let (done, said) = drill("modern-outage", &["--cohort", "nobody", "--for", "2s"]);
    assert!(!done && said.contains("no cohort"), "{said}");
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "d"]);
    let comes = async |who: &str| {
        let bearer = format!("Bearer {}", new.token(who));
        let given = [("Authorization", bearer.as_str())];
        request(proxy.address, "GET", "/", &given, b"").await.status
    };
    until(async || comes("ann").await == 200).await;
    let outage = {
        let dir = dir.clone();
        let words = [
            "drill",
            "modern-outage",
            "--cohort",
            "staff",
            "--for",
            "3s",
            "--reason",
            "x",
        ];
        std::thread::spawn(move || authferry(&dir, &words))
    };
    until(async || comes("ann").await == 503).await;
    assert_eq!(comes("bob").await, 200);
    until(async || comes("ann").await == 200).await;
    let (passed, said) = outage.join().unwrap();
    assert!(passed, "{said}");
    let ends: Vec<String> = records(&dir)
        .iter()
        .filter(|record| record["kind"] == "drill" && record["state"] != "running")
        .map(|record| format!("{} {}", record["drill"], record["state"]))
        .collect();
    assert_eq!(
        ends,
        [
            r#""bad-token-format" "passed""#,
            r#""jwks-rotation" "passed""#,
            r#""modern-outage" "passed""#
        ]
    );
    assert!(good(&dir, &["log", "verify"]).starts_with("ok "));
}
