//! A second opinion about people who were let in, in the real program: what differs is told, and nobody notices.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::control::authferry;
use crate::control::good;
use crate::control::records;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::reload::until;
use crate::report::report;
use crate::report::rows;
use crate::revoke::call;

/// A line of a password file; the hash is as cheap as it may be.
fn line(name: &str, groups: &str) -> String {
    let hash = bcrypt::hash(format!("secret of {name}"), 4).unwrap();
    format!("{name}:{hash}:{groups}\n")
}

fn yaml(upstream: &Echo) -> String {
    format!(
        r#"
providers:
  old: {{ basic: {{ file: "{{dir}}/old", authoritative: {{ claims: [username] }} }} }}
  new: {{ oidc: {{ issuer: "https://new.corp.example", verify: {{ audiences: [app] }} }} }}
  directory: {{ basic: {{ file: "{{dir}}/directory", authoritative: {{ claims: [username] }} }} }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test]
    upstream: {{ url: "{url}" }}
    identity_headers: {{ X-Remote-User: "{{subject}}", X-Remote-Groups: "{{groups|sort|join:,}}" }}
    routes:
      - {{ path: "/open/*", access: optional }}
      - {{ path: "/*", access: required }}
rollouts:
  move:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: test }}
    stages: [{{ id: look, mode: shadow }}]
shadow:
  crm:
    oracles:
      - {{ method: dual_verify, credential: basic, provider: directory }}
      - {{ method: upstream_status }}
    ignore:
      - {{ class: headers, until: "2099-01-01T00:00:00Z" }}
"#,
        url = upstream.url()
    )
}

async fn comes(proxy: &Proxy, name: &str, password: &str, path: &str) -> Answer {
    let given = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
    let given = [("Authorization", given.as_str())];
    request(proxy.address, "GET", path, &given, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_second_provider_would_do_is_known_before_anybody_moves() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let old: String = ["ann", "bob", "dan"]
        .iter()
        .map(|name| line(name, "it"))
        .collect();
    std::fs::write(dir.path().join("old"), old).unwrap();
    // `bob` may do more there, and nobody has brought `dan` along.
    let other = line("ann", "it") + &line("bob", "it,boss") + &line("eve", "it");
    std::fs::write(dir.path().join("directory"), other).unwrap();
    let proxy = Proxy::start_in(dir, &yaml(&upstream));
    for name in ["ann", "bob", "dan"] {
        let answer = comes(&proxy, name, &format!("secret of {name}"), "/").await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(upstream.last().all("x-remote-user"), [name]);
        assert_eq!(upstream.last().all("x-remote-groups"), ["it"]);
    }
    // What is refused is never sent on, whoever would have taken it.
    assert_eq!(comes(&proxy, "eve", "secret of eve", "/").await.status, 401);
    let result = |result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"dual_verify\",result=\"{result}\"}} "
        )
    };
    until(async || proxy.metric(&result("different")).await == 2.0).await;
    until(async || proxy.metric(&result("same")).await == 1.0).await;
    let found = report(&proxy, &["divergences"]);
    let told: Vec<Value> = rows(&found, "Differences")
        .into_iter()
        .map(|row| {
            json!([
                row["severity"],
                row["class"],
                row["field"],
                row["people"],
                row["values"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["critical", "groups_extra", "groups", 1, "boss"]),
            json!(["warn", "accept_reject", "bad_credentials", 1, ""]),
        ]
    );
    assert_eq!(rows(&found, "Second opinions")[0]["people compared"], 3);
    for name in ["ann", "bob", "dan"] {
        assert!(!found.to_string().contains(name), "{found}");
        assert!(!proxy.log().contains(&format!("uid:{name}")));
    }
    assert!(proxy.log().contains("Two providers differ about somebody."));
}

/// Whoever pulls the switch may mean the second provider.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_kill_switch_is_pulled_nobody_is_looked_at_twice() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let people = ["ann", "bob"].map(|name| line(name, "it")).concat();
    for file in ["old", "directory"] {
        std::fs::write(dir.path().join(file), &people).unwrap();
    }
    let proxy = Proxy::start_in(dir, &yaml(&upstream));
    for (name, position) in [("ann", "freeze"), ("bob", "off")] {
        let words = ["ctl", "kill", position, "--reason", "INC-1"];
        good(proxy.dir(), &words);
        let secret = format!("secret of {name}");
        assert_eq!(comes(&proxy, name, &secret, "/").await.status, 200);
    }
    let series =
        "authferry_shadow_comparisons_total{app=\"crm\",oracle=\"dual_verify\",result=\"same\"} ";
    until(async || 1.0 <= proxy.metric(series).await).await;
    let found = report(&proxy, &["divergences"]);
    let compared = &rows(&found, "Second opinions")[0]["people compared"];
    assert_eq!(compared, 1, "{found}");
}

/// The same, with a controller: a stage that only looks, and one that moves half of the people.
fn driven(upstream: &Echo, new: &Idp) -> String {
    let text = yaml(upstream).replace("https://new.corp.example", &new.issuer());
    text.replace(
        "    stages: [{ id: look, mode: shadow }]\n",
        r#"    control: controller
    guardrails: standard
    stages:
      - id: look
        mode: shadow
        promote: { require: { compared_subjects: 2, critical: 0, divergence_upper_bound: 0.9 } }
      - id: half
        mode: canary
        assign: [{ percent: 50 }]
        promote: { require: { legacy_credentials_seen: { within: 1h, max: 0 } } }
guardrails:
  standard:
    no_data: wait
    guards: [{ id: critical, divergences: [groups_extra, subject_mismatch], max: 0, on_trip: rollback_revoke }]
"#,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_outlives_a_kill_and_sends_everybody_back() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let all = ["ann", "bob", "cid"].map(|name| line(name, "it")).concat();
    std::fs::write(dir.path().join("old"), all).unwrap();
    let other = line("ann", "it") + &line("bob", "it,boss") + &line("cid", "it,boss");
    std::fs::write(dir.path().join("directory"), other).unwrap();
    let new = Idp::start().await;
    let mut proxy = Proxy::start_in(dir, &driven(&upstream, &new));
    let dir = proxy.dir().to_owned();
    good(&dir, &["ctl", "start", "--reason", "a"]);
    let missing = || authferry(&dir, &["ctl", "promote", "--reason", "b"]).1;
    until(async || missing().contains("0 of 2 people looked at twice")).await;
    for name in ["ann", "bob"] {
        let answer = comes(&proxy, name, &format!("secret of {name}"), "/").await;
        assert_eq!(answer.status, 200);
    }
    let found = || {
        let missing = missing();
        missing.contains("1 critical differences, where 0 may be")
            && missing.contains("guard critical has tripped")
            && missing.contains("1 of 2 did")
    };
    until(async || found()).await;
    assert!(
        authferry(&dir, &["ctl", "status"])
            .1
            .contains("baking at look")
    );
    // It is written down within seconds; then nobody comes any more.
    until(async || {
        let found = report(&proxy, &["divergences"]);
        proxy.signal("KILL");
        proxy.wait();
        proxy.again();
        let again = report(&proxy, &["divergences"]);
        !rows(&again, "Differences").is_empty()
            && rows(&again, "Differences") == rows(&found, "Differences")
    })
    .await;
    until(async || found()).await;
    // In a step that has moved people it takes them back.
    good(&dir, &["ctl", "set-stage", "half", "--reason", "c"]);
    until(async || missing().contains("were counted for 0 of 1 hours")).await;
    comes(&proxy, "cid", "secret of cid", "/").await;
    let status = || authferry(&dir, &["ctl", "status"]).1;
    until(async || status().contains("rolled_back at half/from")).await;
    let records = records(&dir);
    let back = records.iter().find(|record| record["direction"] == "back");
    let back = back.unwrap();
    assert_eq!(back["why"], "guard critical");
    assert_eq!(back["modern_sessions"], "revoke");
    assert_eq!(back["evidence"], json!({ "value": 1.0, "max": 0.0 }));
    let ended =
        "authferry_revocations_total{source=\"operator\",provider=\"new\",outcome=\"recorded\"} ";
    until(async || proxy.metric(ended).await == 1.0).await;
}

/// Nobody has written a guard about differences.
#[tokio::test(flavor = "multi_thread")]
async fn one_critical_difference_takes_everybody_back_unless_somebody_said_otherwise() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    let all = ["ann", "bob", "cid"].map(|name| line(name, "it")).concat();
    std::fs::write(dir.path().join("old"), all).unwrap();
    let other = line("ann", "it") + &line("bob", "it,boss") + &line("cid", "it,boss");
    std::fs::write(dir.path().join("directory"), other).unwrap();
    let new = Idp::start().await;
    let text = driven(&upstream, &new);
    let (head, guards) = text.split_once("    guards: [").unwrap();
    let (_, tail) = guards.split_once('\n').unwrap();
    let proxy = Proxy::start_in(dir, &format!("{head}{tail}"));
    let dir = proxy.dir().to_owned();
    let status = || authferry(&dir, &["ctl", "status"]).1;
    good(&dir, &["ctl", "start", "--reason", "a"]);
    // Before anybody moves it is found, and nothing more.
    comes(&proxy, "bob", "secret of bob", "/").await;
    let critical = "authferry_shadow_divergences_total{app=\"crm\",class=\"groups_extra\",severity=\"critical\"} ";
    until(async || proxy.metric(critical).await == 1.0).await;
    assert!(status().contains("baking at look"), "{}", status());
    good(&dir, &["ctl", "set-stage", "half", "--reason", "b"]);
    comes(&proxy, "ann", "secret of ann", "/").await;
    assert!(status().contains("baking at half"), "{}", status());
    let before = new.token("dan");
    assert_eq!(call(&proxy, &before).await.status, 200, "{}", proxy.log());
    comes(&proxy, "cid", "secret of cid", "/").await;
    until(async || status().contains("rolled_back at half/from")).await;
    let records = records(&dir);
    let back = records.iter().find(|record| record["direction"] == "back");
    let back = back.unwrap();
    assert_eq!(back["why"], "guard critical_differences");
    assert_eq!(back["modern_sessions"], "revoke");
    // What the new side had vouched for until then is over; what it says from now on counts as the stage has it.
    until(async || call(&proxy, &before).await.status == 401).await;
    until(async || call(&proxy, &new.token("dan")).await.status == 200).await;
    assert_eq!(call(&proxy, &before).await.status, 401, "{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_answers_itself_shows_what_the_rules_forgot() {
    let upstream = Echo::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("old"), line("ann", "it")).unwrap();
    std::fs::write(dir.path().join("directory"), "").unwrap();
    // Routes below a version, and for one method alone: the report names the one that was taken.
    let more = r#"      - { path: "/api/v2/open/*", access: optional }
      - { path: "/hooks/*", methods: [POST], access: optional }
      - { path: "/*", access: required }
"#;
    let text = yaml(&upstream).replace("      - { path: \"/*\", access: required }\n", more);
    let proxy = Proxy::start_in(dir, &text);
    request(proxy.address, "GET", "/api/v2/open/status", &[], b"").await;
    request(proxy.address, "POST", "/hooks/mail", &[], b"").await;
    request(proxy.address, "GET", "/hooks/mail", &[], b"").await;
    for _ in 0..3 {
        request(proxy.address, "GET", "/open/logo.svg", &[], b"").await;
        request(proxy.address, "GET", "/fonts/serif.woff", &[], b"").await;
    }
    assert_eq!(
        comes(&proxy, "ann", "secret of ann", "/asks/again")
            .await
            .status,
        401
    );
    assert_eq!(
        comes(&proxy, "ann", "secret of ann", "/orders/4711")
            .await
            .status,
        200
    );
    // Clients may hear of the end of an answer a moment before it is counted.
    let mut found = Value::Null;
    until(async || {
        found = report(&proxy, &["surface"]);
        let all = rows(&found, "What was answered");
        let requests = all.iter().map(|row| row["requests"].as_u64().unwrap());
        11 <= requests.sum::<u64>()
    })
    .await;
    let odd: Vec<Value> = rows(&found, "To look at")
        .into_iter()
        .map(|row| json!([row["path"], row["route"], row["requests"]]))
        .collect();
    assert_eq!(
        odd,
        [
            json!(["/api/v2/*", "/api/v2/open/*", 1]),
            json!(["/asks/again", "/*", 1]),
            json!(["/fonts/serif.woff", "/*", 3]),
            json!(["/hooks/mail", "/*", 1]),
            json!(["/hooks/mail", "POST /hooks/*", 1]),
            json!(["/open/logo.svg", "/open/*", 3]),
        ]
    );
    let all = rows(&found, "What was answered");
    let order = all.iter().find(|row| row["path"] == "/orders/*").unwrap();
    assert_eq!(
        (
            &order["credential"],
            &order["ours"],
            &order["application's"]
        ),
        (&json!("basic"), &json!("admitted"), &json!(200))
    );
    let oracle = "authferry_shadow_comparisons_total{app=\"crm\",oracle=\"upstream_status\",result=\"different\"} ";
    until(async || proxy.metric(oracle).await == 1.0).await;
}

/// Tokens are looked at twice: by what the other side would issue for them, and by one that the client shows besides.
pub(crate) fn tokens(old: &Idp, new: &Idp, upstream: &Echo) -> String {
    let text = crate::two_providers(old, new, upstream, 0);
    let (head, _) = text.split_once("rollout:").unwrap();
    let new = new.issuer();
    let twin = format!(
        r#"  twin: {{ oidc: {{ issuer: "{new}", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, verify: {{ audiences: [app] }}, claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}
identity:"#
    );
    let head = head.replace("identity:", &twin);
    format!(
        r#"{head}
rollouts:
  move:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: test }}
    stages: [{{ id: look, mode: shadow }}]
shadow:
  crm:
    oracles:
      - {{ method: exchange, credential: bearer, provider: twin, issues_tokens: true }}
      - {{ method: dual_token }}
    compare: [decision, subject, groups]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_looked_at_by_what_another_side_would_issue_and_by_one_that_stands_beside() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&tokens(&old, &new, &upstream));
    proxy.settled().await;
    let comes = async |who: &str, beside: Option<&str>| {
        let bearer = format!("Bearer {}", old.token(who));
        let beside = beside.map(|who| format!("Bearer {}", new.token(who)));
        let mut given = vec![("Authorization", bearer.as_str())];
        given.extend(
            beside
                .iter()
                .map(|beside| ("X-Authferry-Candidate", beside.as_str())),
        );
        request(proxy.address, "GET", "/", &given, b"").await.status
    };
    let result = |oracle: &str, result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"{oracle}\",result=\"{result}\"}} "
        )
    };
    // What is issued is given back at once, and was used for nothing.
    assert_eq!(comes("ann", None).await, 200);
    until(async || proxy.metric(&result("exchange", "same")).await == 1.0).await;
    assert_eq!(new.revoked().len(), 1);
    new.exchanges(json!({ "groups": ["users", "boss"] }), json!({}));
    assert_eq!(comes("bob", Some("bob")).await, 200);
    until(async || proxy.metric(&result("exchange", "different")).await == 1.0).await;
    until(async || proxy.metric(&result("dual_token", "same")).await == 1.0).await;
    assert_eq!(new.revoked().len(), 2);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.all("x-authferry-candidate").is_empty())
    );
    // What stands beside is compared, and lets nobody in.
    new.refuses_exchanges("invalid_grant");
    assert_eq!(comes("cid", Some("eve")).await, 200);
    assert_eq!(upstream.last().all("x-remote-user"), ["uid-cid"]);
    until(async || proxy.metric(&result("dual_token", "different")).await == 1.0).await;
    until(async || proxy.metric(&result("exchange", "different")).await == 2.0).await;
    assert_eq!(new.revoked().len(), 2, "nothing was issued");
    let alone = format!("Bearer {}", new.token("ann"));
    let alone = [("X-Authferry-Candidate", alone.as_str())];
    assert_eq!(
        request(proxy.address, "GET", "/", &alone, b"").await.status,
        401
    );
    let found = report(&proxy, &["divergences"]);
    let mut classes: Vec<String> = rows(&found, "Differences")
        .into_iter()
        .map(|row| row["class"].as_str().unwrap().to_owned())
        .collect();
    classes.sort_unstable();
    assert_eq!(
        classes,
        ["accept_reject", "groups_extra", "subject_mismatch"]
    );
}

/// The provider that passwords move to is asked about those of people who come, and about nobody else's account.
#[tokio::test(flavor = "multi_thread")]
async fn whether_passwords_would_do_on_the_new_side_is_known_before_they_move() {
    let (new, upstream) = (Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let names = ["uid-ann", "uid-bob", "uid-cem", "uid-dan"];
    let people: String = names.iter().map(|name| line(name, "users")).collect();
    std::fs::write(dir.path().join("old"), people).unwrap();
    // `bob` has chosen another one there, nobody has brought `cem` along, and `dan` may not come in.
    new.chooses("uid-ann", "secret of uid-ann");
    new.chooses("uid-bob", "another one");
    new.chooses("uid-dan", "secret of uid-dan");
    new.bars("uid-dan", true);
    let yaml = format!(
        r#"
providers:
  old: {{ basic: {{ file: "{{dir}}/old", claims: {{ subject: username, name: username }}, authoritative: {{ claims: [username] }} }} }}
  new:
    oidc:
      issuer: "{issuer}"
      client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}
      verify: {{ audiences: [app] }}
      claims: {{ subject: uid, name: uid }}
      authoritative: {{ claims: [uid] }}
      directory: {{ scim: {{ url: "{issuer}/scim", token: {{ env: HARNESS_SECRET }} }} }}
identity: {{ canonical: {{ template: "{{subject}}" }} }}
apps:
  crm: {{ hosts: [app.test], upstream: {{ url: "{url}" }}, identity_headers: {{ X-Remote-User: "{{subject}}" }} }}
rollouts:
  move:
    apps: [crm]
    from: old
    to: new
    bucketing: {{ salt: test }}
    stages:
      - {{ id: look, mode: shadow }}
      - {{ id: move, mode: canary, assign: [{{ percent: 50 }}], accept: {{ old: {{ basic: migrate }} }} }}
    control: pinned
    pinned_stage: look
shadow:
  crm: {{ oracles: [{{ method: dual_verify, credential: password, only_after: accept }}] }}
"#,
        issuer = new.issuer(),
        url = upstream.url()
    );
    let proxy = Proxy::start_in(dir, &yaml);
    // What was refused is sent nowhere.
    assert_eq!(comes(&proxy, "uid-ann", "wrong", "/").await.status, 401);
    for name in names {
        let answer = comes(&proxy, name, &format!("secret of {name}"), "/").await;
        assert_eq!(answer.status, 200, "{name}");
    }
    let result = |result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"dual_verify\",result=\"{result}\"}} "
        )
    };
    until(async || proxy.metric(&result("different")).await == 3.0).await;
    until(async || proxy.metric(&result("same")).await == 1.0).await;
    let found = report(&proxy, &["divergences"]);
    let told: Vec<Value> = rows(&found, "Differences")
        .into_iter()
        .map(|row| json!([row["class"], row["field"], row["people"]]))
        .collect();
    for expected in [
        json!(["accept_reject", "bad_credentials", 1]),
        json!(["accept_reject", "disabled", 1]),
        json!(["no_link", "subject", 1]),
    ] {
        assert!(told.contains(&expected), "{expected}: {told:?}");
    }
    // Whoever has no account there, or none that may be used, is asked about no password.
    assert_eq!(new.hits("/token"), 2);
}
