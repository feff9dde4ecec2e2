//! `authferry explain`: which arm, which rule, which headers, by the code that answers requests.

use std::process::Command;

use serde_json::Value;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;

/// Runs `explain` against a proxy; the answer in JSON, or what was wrong.
fn explain(proxy: &Proxy, words: &[&str]) -> Result<Value, String> {
    let socket = proxy.dir().join("state/admin.sock");
    let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .args(["explain", "--format", "json", "--app", "crm", "--socket"])
        .arg(socket)
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(serde_json::from_str(&said).unwrap())
    } else {
        Err(said + &String::from_utf8_lossy(&output.stderr))
    }
}

fn header<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let mut headers = answer["headers"].as_array().unwrap().iter();
    &headers.find(|header| header["name"] == name).unwrap()["value"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_explained_as_their_request_is_answered() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100)
        .replace("template: \"{subject}\"", "template: \"uid:{subject}\"")
        .replace(
            "\"{groups|sort|join:,}\"",
            "\"{groups|sort|join:,|omit}\", X-Mail: \"{email|omit}\"",
        )
        .replace("\"{name}\"", "\"{name|omit}\"");
    let proxy = Proxy::start(&yaml);

    let answer = explain(&proxy, &["--subject", "uid:7"]).unwrap();
    assert_eq!(
        (&answer["arm"], &answer["rule"]),
        (&"modern".into(), &"percent".into())
    );
    assert_eq!(answer["provider"], "new");
    assert_eq!(header(&answer, "x-remote-user"), "7", "{answer}");

    // By what a provider calls somebody: the same person.
    let as_old = [
        "--provider",
        "old",
        "--subject",
        "a1",
        "--claim",
        "subject=\"7\"",
        "--group",
        "b",
        "--group",
        "a",
    ];
    let answer = explain(&proxy, &as_old).unwrap();
    assert_eq!(answer["subject"], "uid:7");
    assert_eq!(header(&answer, "x-remote-groups"), "a,b");

    // What does not fit is denied, as the request would be.
    let long = "g".repeat(20_000);
    let too_much = ["--subject", "uid:7", "--group", long.as_str()];
    let answer = explain(&proxy, &too_much).unwrap();
    let mut headers = answer["headers"].as_array().unwrap().iter();
    let denied = headers.any(|header| header["error"].is_string());
    assert!(denied, "{answer}");

    // Who is joined with nobody is explained too.
    let nobody = [
        "--provider",
        "old",
        "--subject",
        "a1",
        "--claim",
        "subject=\"0000\"",
    ];
    let answer = explain(&proxy, &nobody).unwrap();
    let alone = format!("{}:{}:a1", old.issuer().len(), old.issuer());
    assert_eq!(answer["subject"], alone, "{answer}");

    // An address that nobody proved reaches no application.
    let unproven = ["--subject", "uid:7", "--claim", "email=eve@corp.example"];
    let answer = explain(&proxy, &unproven).unwrap();
    assert!(header(&answer, "x-mail").is_null(), "{answer}");
    let proven = ["--subject", "uid:7", "--email", "eve@corp.example"];
    assert_eq!(
        header(&explain(&proxy, &proven).unwrap(), "x-mail"),
        "eve@corp.example"
    );

    let route =
        |path| explain(&proxy, &["--subject", "uid:7", "--path", path]).unwrap()["route"].clone();
    assert_eq!(route("/public/x"), "/public/* (public)");
    assert_eq!(route("/x;y/z"), "/* (required)");
    assert!(route("/public;x/y").as_str().unwrap().contains("400"));
    assert!(
        explain(&proxy, &["--subject", "uid:7", "--provider", "nwe"])
            .unwrap_err()
            .contains("nwe")
    );
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_nobody_named_are_not_known_and_only_what_a_provider_issues_is_told() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 0)
        .replace(
            "\nrollout:",
            "\ncohorts:\n  staff: { group: { provider: old, any_of: [staff] } }\nrollout:",
        )
        .replace("{ percent: 0, to: new }", "{ cohort: staff, to: new }");
    let proxy = Proxy::start(&yaml);
    let first = |answer: &Value| {
        let mut steps = answer["steps"].as_array().unwrap().iter();
        let step = steps.find_map(|step| step.as_str()?.strip_prefix("assign[0] staff to new: "));
        step.unwrap().to_owned()
    };
    let error = |answer: &Value| {
        let mut headers = answer["headers"].as_array().unwrap().iter();
        let groups = headers.find(|header| header["name"] == "x-remote-groups");
        groups.unwrap()["error"].clone()
    };
    let hint = "give --group, or --claim groups=[] for somebody who is in none";

    let answer = explain(&proxy, &["--subject", "uid-7"]).unwrap();
    assert_eq!(first(&answer), format!("not known: {hint}"));
    let denied = format!("a required value is missing: {hint}");
    assert_eq!(error(&answer), denied, "{answer}");
    let answer = explain(&proxy, &["--subject", "uid-7", "--group", "staff"]).unwrap();
    assert_eq!(
        (first(&answer).as_str(), &answer["provider"]),
        ("hit", &"new".into())
    );
    assert!(error(&answer).is_null(), "{answer}");
    let none = ["--subject", "uid-7", "--claim", "groups=[]"];
    let answer = explain(&proxy, &none).unwrap();
    assert_eq!(
        (first(&answer).as_str(), &answer["provider"]),
        ("miss", &"old".into())
    );
    assert_eq!(error(&answer), "a required value is missing");

    for accept in answer["accepts"].as_array().unwrap() {
        let class = accept["credential"].as_str().unwrap();
        assert!(
            ["session", "bearer", "refresh"].contains(&class),
            "{accept}"
        );
    }
    let bearer = |provider: &str| {
        let mut accepts = answer["accepts"].as_array().unwrap().iter();
        accepts.any(|one| one["credential"] == "bearer" && one["provider"] == provider)
    };
    assert!(bearer("old") && bearer("new"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_token_is_judged_by_its_owner_and_never_printed() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 0));
    proxy.settled().await;
    let file = proxy.dir().join("token");
    let pasted = |token: &str| {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let answer = explain(&proxy, &["--token-file", file.to_str().unwrap()]).unwrap();
        assert!(!answer.to_string().contains(token));
        assert!(!proxy.log().contains(token));
        answer
    };
    let token = new.token("alice");
    let answer = pasted(&token);
    assert_eq!(answer["judged"], "bearer of new: good");
    assert_eq!(
        (&answer["subject"], &answer["arm"]),
        (&"uid-alice".into(), &"legacy".into())
    );
    let sent = [("Authorization", format!("Bearer {token}"))];
    let sent = sent.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(
        request(proxy.address, "GET", "/", &sent, b"").await.status,
        200
    );
    let seen = upstream.last();
    for name in ["x-remote-user", "x-remote-name", "x-remote-groups"] {
        assert_eq!(
            [header(&answer, name).as_str().unwrap()],
            seen.all(name)[..],
            "{name}"
        );
    }

    let mut claims = new.claims("alice");
    claims.insert("exp".to_owned(), serde_json::json!(1));
    let answer = pasted(&new.sign(&claims));
    assert!(
        answer["judged"]
            .as_str()
            .unwrap()
            .contains("new: refused: expired"),
        "{answer}"
    );
    assert_eq!(answer["headers"], serde_json::json!([]));
    let answer = pasted("nobody-issued-this");
    assert!(
        answer["judged"].as_str().unwrap().contains("no provider"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_has_moved_is_explained_where_they_are() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = |percent| {
        two_providers(&old, &new, &upstream, percent).replace("[app.test]", "[127.0.0.1]")
    };
    let proxy = Proxy::start(&yaml(100));
    let steps = |answer: &Value| {
        let steps = answer["steps"].as_array().unwrap().iter();
        steps
            .map(|step| step.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = explain(&proxy, &["--subject", "uid-alice"]).unwrap();
    assert!(steps(&before).contains(&"pin: none".to_owned()), "{before}");
    let bucket = before["bucket"].as_u64().unwrap();
    assert!(
        steps(&before).contains(&format!(
            "assign[0] everybody to new: in the 100 % (bucket {bucket})"
        )),
        "{before}"
    );

    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    assert_eq!(browser.sign_in(&proxy, &start).await.status, 303);
    proxy.edit(&yaml(0));
    until(async || {
        proxy
            .metric("authferry_rollout_target_ratio{rollout=\"default\"} ")
            .await
            == 0.0
    })
    .await;

    let after = explain(&proxy, &["--subject", "uid-alice"]).unwrap();
    assert_eq!(
        (&after["arm"], &after["rule"]),
        (&"modern".into(), &"pin".into()),
        "{after}"
    );
    for step in [
        "pin: at new".to_owned(),
        format!("assign[0] everybody to new: not in the 0 % (bucket {bucket})"),
        "without the pin: arm legacy by default".to_owned(),
    ] {
        assert!(steps(&after).contains(&step), "{step}: {after}");
    }
    // Nobody else is pinned.
    let other = explain(&proxy, &["--subject", "uid-bob"]).unwrap();
    assert_eq!(
        (&other["arm"], &other["rule"]),
        (&"legacy".into(), &"default".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_on_a_page_leads_to_what_happened() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100)
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]");
    let proxy = Proxy::start(&yaml);
    let about = |reference: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
            .args(["explain", "--format", "json", "--reference", reference])
            .arg("--socket")
            .arg(proxy.dir().join("state/admin.sock"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output
            .status
            .success()
            .then(|| serde_json::from_str::<Vec<Value>>(&said).unwrap())
            .ok_or(said)
    };
    let on_page = |answer: &crate::harness::Answer| {
        let text = answer.text();
        let reference = text.split("<code>").nth(1).unwrap().split('<').next();
        assert_eq!(reference, answer.header("x-request-id"), "{text}");
        reference.unwrap().to_owned()
    };

    // Whoever has a page may hold it a moment before its end is written down.
    let told = async |page: &crate::harness::Answer, least: usize| {
        let (reference, mut lines) = (on_page(page), Vec::new());
        until(async || {
            lines = about(&reference).unwrap_or_default();
            least <= lines.len()
        })
        .await;
        lines
    };

    // A page of a login: somebody said no.
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/deep").await;
    let state = start.header("location").unwrap();
    let state = state.split("state=").nth(1).unwrap().split('&').next();
    let denied = format!(
        "/.authferry/cb/new?error=access_denied&state={}&iss={}",
        state.unwrap(),
        new.issuer()
    );
    let page = browser.open(&proxy, &denied).await;
    assert_eq!(page.status, 403);
    let lines = told(&page, 2).await;
    let one = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!(one("access")["error"], "login_denied", "{lines:?}");
    assert_eq!(one("decision.refused")["provider"], "new", "{lines:?}");

    // A page about a fault.
    proxy.edit(&yaml.replace(&upstream.url(), "http://127.0.0.1:1"));
    let html = [("Accept", "text/html"), ("Host", "app.test")];
    until(async || {
        502 == request(proxy.address, "GET", "/public/x", &html, b"")
            .await
            .status
    })
    .await;
    let page = request(proxy.address, "GET", "/public/x", &html, b"").await;
    let lines = told(&page, 1).await;
    assert_eq!(
        (lines.len(), &lines[0]["path"], &lines[0]["error"]),
        (1, &"/public/x".into(), &"bad_gateway".into())
    );

    let unknown = about("0000000000000000").unwrap_err();
    assert!(unknown.contains("too long ago"), "{unknown}");
}
