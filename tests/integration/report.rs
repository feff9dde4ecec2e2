//! `authferry report` of the running program, and the gate that rests on whom a switch back would lock out.

use serde_json::Value;
use serde_json::json;

use crate::control::authferry;
use crate::control::good;
use crate::control::staged;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::reloaded;
use crate::reload::until;

pub(crate) fn report(proxy: &Proxy, words: &[&str]) -> Value {
    let words = [&["report"], words, &["--format", "json"]].concat();
    serde_json::from_str(&good(proxy.dir(), &words)).unwrap()
}

/// The rows of a table, each as an object.
pub(crate) fn rows(report: &Value, title: &str) -> Vec<Value> {
    let mut tables = report["tables"].as_array().unwrap().iter();
    let table = tables
        .find(|table| table["title"] == title)
        .unwrap_or_else(|| panic!("{title}: {report}"));
    let names = table["columns"].as_array().unwrap();
    let row = |row: &Value| {
        let cells = row.as_array().unwrap().iter().cloned();
        let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
        Value::Object(names.zip(cells).collect())
    };
    table["rows"].as_array().unwrap().iter().map(row).collect()
}

pub(crate) async fn signed_in(proxy: &Proxy, idp: &Idp, person: &str) {
    idp.signs_in(person);
    let mut browser = Browser::default();
    let start = browser.open(proxy, "/").await;
    assert_eq!(browser.sign_in(proxy, &start).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_without_a_role_are_named_until_they_have_one() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |more: &str| {
        crate::two_providers(&old, &new, &upstream, 50)
            + &format!(
                "roles:\n  old: {{ groups: {{ users: [seller]{more} }} }}\n  new: {{ groups: {{ users: [seller] }}, unmatched: refuse }}\n"
            )
    };
    let proxy = Proxy::start(&yaml(""));
    proxy.settled().await;
    for (idp, status) in [(&old, 200), (&new, 403)] {
        let mut claims = idp.claims("alice");
        claims.insert("groups".to_owned(), json!(["users", "Board of Corp"]));
        let bearer = format!("Bearer {}", idp.sign(&claims));
        let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
        let answer = request(proxy.address, "GET", "/", &fields, b"").await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let named = || rows(&report(&proxy, &["groups"]), "Groups without a role");
    let found = named();
    assert_eq!(found.len(), 2, "{found:?}");
    for (row, provider) in found.iter().zip(["new", "old"]) {
        assert_eq!(row["provider"], provider);
        assert_eq!(
            (&row["group"], &row["times"]),
            (&json!("Board of Corp"), &json!(1))
        );
    }
    let table = good(proxy.dir(), &["report", "groups"]);
    assert!(table.contains("Board of Corp"), "{table}");
    proxy.edit(&yaml(", \"Board of Corp\": [boss]"));
    until(async || named().len() == 1).await;
    let running = good(proxy.dir(), &["catalog", "--running"]);
    assert!(running.contains("`Board of Corp → boss`"), "{running}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_say_who_is_where_and_what_a_switch_back_would_do() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let text = staged(&old, &new, &upstream);
    let proxy = Proxy::start(&text);
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    // Known at the old provider.
    for person in ["ann", "bob", "cid"] {
        let sent = format!("Bearer {}", old.token(person));
        let sent = [("Authorization", sent.as_str()), ("Host", "app.test")];
        let answer = request(proxy.address, "GET", "/", &sent, b"").await;
        assert_eq!(answer.status, 200);
    }
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    // One who was there before, and one whom nobody knows at the old side.
    signed_in(&proxy, &new, "ann").await;
    signed_in(&proxy, &new, "zoe").await;

    let found = report(&proxy, &["rollback"]);
    let people: Vec<_> = rows(&found, "A switch back now")
        .iter()
        .map(|row| (row["why"].clone(), row["people"].clone()))
        .collect();
    assert_eq!(
        people,
        [
            (json!("modern_born"), json!(1)),
            (json!("signs_in_again"), json!(1)),
            (json!("legacy_disabled"), json!(0)),
            (json!("password_changed_since"), json!(0)),
            (json!("factor_only_at_modern"), json!(0)),
            (json!("consent_only_at_modern"), json!(null)),
            (json!("locked_out"), json!(1))
        ]
    );
    let series = "authferry_rollback_exposure_subjects{rollout=\"move\",why=\"modern_born\"} ";
    assert!((proxy.metric(series).await - 1.0).abs() < f64::EPSILON);

    let inventory = dir.join("people.jsonl");
    std::fs::write(
        &inventory,
        "{\"subject\":\"uid-ann\"}\n{\"subject\":\"uid-nobody\"}\n",
    )
    .unwrap();
    let found = report(&proxy, &["who", "--inventory", inventory.to_str().unwrap()]);
    let all = rows(&found, "People by state").remove(0);
    let states = [
        "never_seen",
        "legacy",
        "linked",
        "modern",
        "modern_born",
        "recalled",
    ];
    let counts = states.map(|state| all[state].as_u64().unwrap());
    // `zoe` has signed in and not come since: she is among those who have moved alone.
    assert_eq!(counts[1..], [2, 0, 1, 0, 0], "{found}");
    assert_eq!(counts[0], 1, "{found}");
    let moved = rows(&found, "Who has moved").remove(0);
    assert_eq!(
        (&moved["modern"], &moved["recalled"]),
        (&json!(2), &json!(0))
    );

    let found = report(&proxy, &["legacy-usage", "--app", "crm"]);
    let uses = rows(&found, "Credentials of the old provider");
    assert_eq!(
        (
            &uses[0]["credential"],
            &uses[0]["network"],
            &uses[0]["people"]
        ),
        (&json!("bearer"), &json!("127.0.0.0/24"), &json!(3))
    );
    let last = rows(&found, "Who came last");
    assert!(
        last.len() == 3
            && last
                .iter()
                .all(|row| row["person"].as_str().unwrap().starts_with("p:"))
    );
    for name in ["uid-", "ann", "bob"] {
        assert!(!found.to_string().contains(name), "{name}: {found}");
    }

    let all = "People who still come with credentials of the old provider";
    let found = report(&proxy, &["legacy-usage", "--since", "7d"]);
    assert!(
        found.to_string().contains("less than was asked for"),
        "{found}"
    );
    until(async || {
        for person in ["ann", "bob", "cid"] {
            let sent = format!("Bearer {}", old.token(person));
            let sent = [("Authorization", sent.as_str()), ("Host", "app.test")];
            request(proxy.address, "GET", "/", &sent, b"").await;
        }
        rows(&report(&proxy, &["legacy-usage"]), all)[0]["people"] == 3
    })
    .await;
    let found = report(&proxy, &["readiness"]);
    let step = rows(&found, "Steps").remove(0);
    assert_eq!(
        (&step["step"], &step["next"], &step["ready"]),
        (&json!("ramp/100"), &json!("primary"), &json!(false))
    );
    let missing = rows(&found, "What is missing");
    assert!(
        missing
            .iter()
            .any(|row| row["missing"].as_str().unwrap().contains("of 24h")),
        "{found}"
    );

    good(&dir, &["ctl", "rollback", "--reason", "IAM-9"]);
    let found = report(&proxy, &["timeline", "--since", "1h"]);
    let told: Vec<String> = rows(&found, "Timeline")
        .iter()
        .map(|row| format!("{} {} {}", row["kind"], row["to"], row["why"]).replace('"', ""))
        .collect();
    assert!(told.contains(&"decision ramp/100 IAM-2".into()), "{told:?}");
    assert!(told.last().unwrap().ends_with("IAM-9"), "{told:?}");
    // Whatever else was done stands among it, in its order.
    let (exercised, said) = authferry(&dir, &["drill", "bad-token-format", "--reason", "IAM-10"]);
    assert!(exercised, "{said}");
    good(&dir, &["ctl", "kill", "legacy", "--reason", "INC-1"]);
    let changed = text.replace("reason: test", "reason: other");
    assert_eq!(reloaded(&proxy, &changed).await.0, "applied");
    let found = report(&proxy, &["timeline", "--since", "1h"]);
    let kinds: Vec<Value> = rows(&found, "Timeline")
        .into_iter()
        .map(|row| row["kind"].clone())
        .collect();
    assert!(
        kinds.ends_with(
            &[
                "decision",
                "drill",
                "drill",
                "kill_switch",
                "config_applied"
            ]
            .map(Value::from)
        ),
        "{kinds:?}"
    );
    good(&dir, &["ctl", "kill", "off", "--reason", "INC-2"]);
    let moved = rows(&report(&proxy, &["who"]), "Who has moved").remove(0);
    assert_eq!(
        (&moved["modern"], &moved["recalled"]),
        (&json!(0), &json!(2))
    );
    let (fine, text) = authferry(&dir, &["report", "who", "--rollout", "mvoe"]);
    assert!(!fine && text.contains("`mvoe`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_not_left_while_a_switch_back_would_lock_people_out() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let gate = "promote: { when: manual, require: { rollback_exposure_max: 0 } }";
    let text = staged(&old, &new, &upstream).replace("promote: { when: manual }", gate);
    let proxy = Proxy::start(&text.replace("bake: 1d", "bake: 0s"));
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    signed_in(&proxy, &new, "zoe").await;
    report(&proxy, &["rollback"]);
    // Counted once a minute; what a report has just counted is known at once.
    until(async || {
        let (_, text) = authferry(&dir, &["ctl", "promote", "--reason", "IAM-3"]);
        text.contains("would lock out 1 people, where 0 may be")
    })
    .await;
}

/// An account whose name is another one's is let in nowhere, and still stands among the people until an operator decides.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_conflict_is_counted_until_somebody_decides() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&crate::two_providers(&old, &new, &upstream, 50));
    proxy.settled().await;
    let comes = async |sub: &str, uid: &str| {
        let mut claims = new.claims(sub);
        claims.insert("uid".to_owned(), json!(uid));
        let sent = format!("Bearer {}", new.sign(&claims));
        let sent = [("Authorization", sent.as_str()), ("Host", "app.test")];
        request(proxy.address, "GET", "/", &sent, b"").await.status
    };
    assert_eq!(comes("a1", "uid-ann").await, 200);
    assert_eq!(comes("b1", "uid-bob").await, 200);
    let counted = || {
        let found = report(&proxy, &["who"]);
        let all = rows(&found, "People by state").remove(0);
        let moved = rows(&found, "Who has moved").remove(0);
        let accounts = moved["accounts in conflict"].clone();
        [
            all["conflict"].clone(),
            all["modern_born"].clone(),
            accounts,
        ]
    };
    assert_eq!(counted(), [0, 2, 0].map(Value::from));
    for _ in 0..2 {
        assert_eq!(comes("a2", "uid-ann").await, 403);
    }
    assert_eq!(counted(), [1, 1, 1].map(Value::from));
    report(&proxy, &["rollback"]);
    let text = crate::harness::get(proxy.admin, "/metrics").await.text();
    let series = |line: &str| {
        line.starts_with("authferry_subjects{") && line.ends_with("state=\"conflict\"} 1")
    };
    assert!(text.lines().any(series), "{text}");
    let words = ["link", "set", "--person", "uid-ann", "--provider", "new"];
    let more = ["--account", "a2", "--reason", "IAM-1"];
    good(proxy.dir(), &[&words[..], &more].concat());
    assert_eq!(counted(), [0, 2, 0].map(Value::from));
}

/// What the new provider says of a sign-in is what a switch back would cost: a password of later, and more than the old one
/// ever vouches for.
#[tokio::test(flavor = "multi_thread")]
async fn newer_passwords_and_more_factors_are_among_what_a_switch_back_costs() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let gate = "promote: { when: manual, require: { rollback_exposure_max: 0 } }";
    let text = staged(&old, &new, &upstream).replace("promote: { when: manual }", gate);
    // Any moment of later will do.
    let says = |line: &str| {
        if line.starts_with("  new: { oidc: {") {
            let line = line.replace("groups: groups", "groups: groups, password_changed: exp");
            line.replace("oidc: {", "oidc: { assurance: { acr: mfa },")
        } else {
            line.to_owned()
        }
    };
    let text: Vec<String> = text.lines().map(says).collect();
    let proxy = Proxy::start(&(text.join("\n") + "\n").replace("bake: 1d", "bake: 0s"));
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    let sent = format!("Bearer {}", old.token("ann"));
    let sent = [("Authorization", sent.as_str()), ("Host", "app.test")];
    let answer = request(proxy.address, "GET", "/", &sent, b"").await;
    assert_eq!(answer.status, 200);
    good(&dir, &["ctl", "start", "--reason", "IAM-1"]);
    good(&dir, &["ctl", "set-stage", "ramp/100", "--reason", "IAM-2"]);
    signed_in(&proxy, &new, "ann").await;
    let found = report(&proxy, &["rollback"]);
    let people: Vec<_> = rows(&found, "A switch back now")
        .iter()
        .map(|row| (row["why"].clone(), row["people"].clone()))
        .collect();
    let expected = [
        ("modern_born", Some(0)),
        ("signs_in_again", Some(1)),
        ("legacy_disabled", Some(0)),
        ("password_changed_since", Some(1)),
        ("factor_only_at_modern", Some(1)),
        ("consent_only_at_modern", None),
        ("locked_out", Some(1)),
    ];
    assert_eq!(people, expected.map(|(why, n)| (json!(why), json!(n))));
    let (promoted, text) = authferry(&dir, &["ctl", "promote", "--reason", "IAM-3"]);
    assert!(!promoted);
    assert!(
        text.contains("would lock out 1 people, where 0 may be"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_named_for_a_reason_that_is_recorded() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&staged(&old, &new, &upstream));
    proxy.settled().await;
    let dir = proxy.dir().to_owned();
    let sent = format!("Bearer {}", old.token("ann"));
    let sent = [("Authorization", sent.as_str()), ("Host", "app.test")];
    let answer = request(proxy.address, "GET", "/", &sent, b"").await;
    assert_eq!(answer.status, 200);
    let came = report(&proxy, &["legacy-usage"]);
    let person = rows(&came, "Who came last")[0]["person"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!came.to_string().contains("uid-ann"));
    let (done, _) = authferry(&dir, &["report", "legacy-usage", "--reveal", &person]);
    assert!(!done, "not without a reason");
    let words = [
        "legacy-usage",
        "--reveal",
        &person,
        "--reveal",
        "p:0000000000000000",
        "--reason",
        "IAM-9",
    ];
    let told = rows(&report(&proxy, &words), "Revealed");
    assert_eq!(
        told,
        [
            json!({ "person": person, "who": "uid-ann" }),
            json!({ "person": "p:0000000000000000", "who": null }),
        ]
    );
    let records = crate::control::records(&dir);
    let record = records
        .iter()
        .find(|record| record["kind"] == "reveal")
        .unwrap();
    assert_eq!(
        (&record["reason"], &record["people"][0]),
        (&"IAM-9".into(), &person.as_str().into())
    );
    assert!(
        !records
            .iter()
            .any(|record| record.to_string().contains("uid-ann"))
    );
}
