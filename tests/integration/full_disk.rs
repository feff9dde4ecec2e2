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
