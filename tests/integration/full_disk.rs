//! What still goes where the disk takes nothing more, in the real program.

use serde_json::Value;

use crate::control::authferry;
use crate::control::goes_to;
use crate::control::good;
use crate::control::records;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::reload::reloaded;
use crate::reload::until;

/// Whatever is safe holds at once, and is told as soon as there is room; whatever is not waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nobody_goes_forward_and_everybody_can_go_back() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let proxy = Proxy::start(&text);
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    let forward = ["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"];
    proxy.disk_is_full(true);
    let (done, said) = authferry(&dir, &forward);
    assert!(!done, "{said}");
    assert!(goes_to(&proxy, &old).await, "{said}");
    proxy.disk_is_full(false);
    good(&dir, &forward);
    assert!(goes_to(&proxy, &new).await);
    let before = records(&dir).len();

    proxy.disk_is_full(true);
    let changed = text.replace("reason: test", "reason: other");
    let (outcome, problems) = reloaded(&proxy, &changed).await;
    assert_eq!(outcome, "refused", "{problems}");
    for words in [
        ["ctl", "promote", "--reason", "IAM-3"].as_slice(),
        &["ctl", "set-stage", "primary", "--reason", "IAM-3"],
    ] {
        let (done, said) = authferry(&dir, words);
        assert!(!done, "{said}");
    }
    assert!(goes_to(&proxy, &new).await, "nothing has changed so far");
    good(&dir, &["ctl", "kill", "legacy", "--reason", "INC-1"]);
    assert!(goes_to(&proxy, &old).await);
    let said = good(&dir, &["ctl", "rollback", "--reason", "INC-2"]);
    assert!(said.contains("rolled_back at ramp/0.01"), "{said}");
    assert_eq!(records(&dir).len(), before, "there is room for none of it");

    proxy.disk_is_full(false);
    good(&dir, &["ctl", "kill", "off", "--reason", "INC-3"]);
    assert!(goes_to(&proxy, &old).await, "the rollback holds");
    assert!(good(&dir, &["log", "verify"]).starts_with("ok "));
    let told: Vec<String> = records(&dir)[before..]
        .iter()
        .map(Value::to_string)
        .collect();
    let place = |order: &str| told.iter().position(|told| told.contains(order));
    let orders = ["INC-1", "INC-2", "INC-3"].map(place);
    assert!(orders.is_sorted() && orders[0].is_some(), "{told:?}");
    assert!(place("IAM-3").is_none(), "{told:?}");
    assert_eq!(reloaded(&proxy, &changed).await.0, "applied");
}

/// A full disk is when programs are restarted, and of a ledger that takes nothing nobody learns what happened.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_went_back_on_a_full_disk_is_back_after_a_restart() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let mut proxy = Proxy::start(&staged(&old, &new, &upstream));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    assert!(goes_to(&proxy, &new).await);
    let before = records(&dir).len();
    proxy.disk_is_full(true);
    let said = good(&dir, &["ctl", "rollback", "--reason", "INC-1"]);
    assert!(said.contains("rolled_back at ramp/0.01"), "{said}");
    assert!(!said.contains("a restart would forget it"), "{said}");
    assert_eq!(records(&dir).len(), before, "there is room for none of it");
    proxy.signal("KILL");
    proxy.wait();
    proxy.again();
    proxy.settled().await;
    let status = good(&dir, &["ctl", "status"]);
    assert!(status.contains("rolled_back at ramp/0.01"), "{status}");
    assert!(goes_to(&proxy, &old).await);
    assert!(good(&dir, &["log", "verify"]).starts_with("ok "));
    let told = records(&dir).split_off(before);
    let back = told.iter().find(|told| told["actor"] == "start").unwrap();
    assert_eq!(
        (&back["to"], &back["direction"], &back["epoch"]),
        (&"ramp/0.01".into(), &"back".into(), &1.into()),
        "{told:?}"
    );
    good(&dir, &["ctl", "resume", "--reason", "INC-2"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-3"]);
    assert!(goes_to(&proxy, &new).await);
}

/// Where not even the step can be kept, whoever orders it is told, and it is kept as soon as it can be.
#[tokio::test(flavor = "multi_thread")]
async fn who_orders_what_a_restart_would_forget_is_told() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&staged(&old, &new, &upstream));
    let dir = proxy.dir().to_owned();
    proxy.settled().await;
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    let (kept, away) = (dir.join("state/rollouts"), dir.join("away"));
    std::fs::rename(&kept, &away).unwrap();
    std::fs::write(&kept, "no directory").unwrap();
    for words in [
        ["ctl", "rollback", "--reason", "INC-1"].as_slice(),
        &["ctl", "status"],
    ] {
        let said = good(&dir, words);
        assert!(said.contains("a restart would forget it"), "{said}");
    }
    assert!(goes_to(&proxy, &old).await);
    std::fs::remove_file(&kept).unwrap();
    std::fs::rename(&away, &kept).unwrap();
    until(async || !good(&dir, &["ctl", "status"]).contains("would forget")).await;
    let file = std::fs::read_to_string(kept.join("move.json")).unwrap();
    assert!(file.contains("rolled_back"), "{file}");
}
