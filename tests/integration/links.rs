//! Links: what an inventory would get, and accounts that a list links.

use std::process::Command;

use serde_json::Value;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::request;
use crate::login::Browser;
use crate::reload::until;
use crate::two_providers;

/// The new provider says nothing of who somebody is elsewhere: a list does.
fn listed(old: &Idp, new: &Idp, upstream: &Echo, list: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, list.as_bytes());
    let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let yaml = two_providers(old, new, upstream, 100).replace("[app.test]", "[127.0.0.1]");
    let at = yaml.rfind(", authoritative: { claims: [uid] }").unwrap();
    let (head, tail) = yaml.split_at(at);
    let tail = tail.replacen(", authoritative: { claims: [uid] }", "", 1);
    format!("{head}{tail}").replace(
        "identity: { canonical: { template: \"{subject}\" } }",
        &format!(
            "identity: {{ canonical: {{ template: \"{{subject}}\" }}, on_missing: deny, links: [{{ file: {{ path: \"{{dir}}/links.csv\", columns: {{ new: account }}, sha256: {hash} }} }}] }}"
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_links_accounts_and_who_is_not_on_it_stays_out() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let list = "subject,account\nuid-alice,alice\n";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("links.csv"), list).unwrap();
    let proxy = Proxy::start_in(dir, &listed(&old, &new, &upstream, list));
    proxy.settled().await;
    let mut browser = Browser::default();
    let start = browser.open(&proxy, "/").await;
    assert_eq!(
        browser.sign_in(&proxy, &start).await.status,
        303,
        "{}",
        proxy.log()
    );
    let series = "authferry_subject_links_total{method=\"file\",outcome=\"linked\"}";
    assert_eq!(proxy.metric(series).await, 1.0);
    let status = async |person: &str| {
        let token = format!("Bearer {}", new.token(person));
        let fields = [("Authorization", token.as_str()), ("Host", "127.0.0.1")];
        request(proxy.address, "GET", "/", &fields, b"")
            .await
            .status
    };
    assert_eq!((status("alice").await, status("bob").await), (200, 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_is_checked_before_anybody_moves() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let yaml = two_providers(&old, &new, &upstream, 10);
    let server = format!(
        "server: {{ listen: 127.0.0.1:8080, state_dir: {}/state }}\n",
        dir.path().display()
    );
    std::fs::write(at("authferry.yaml"), format!("version: 1\n{yaml}{server}")).unwrap();
    let check = |inventory: &str, more: &[&str]| {
        std::fs::write(at("people.csv"), inventory).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
            .env("HARNESS_SECRET", "secret")
            .args(["link", "check"])
            .arg(at("authferry.yaml"))
            .arg("--inventory")
            .arg(at("people.csv"))
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let good = "provider,account,subject\nold,o1,1\nnew,n1,1\nold,o2,2\n";
    let (code, said) = check(good, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("2 people, 3 accounts") && said.contains("1  linked by claim"),
        "{said}"
    );
    assert!(said.contains("1  at old only, without partner"), "{said}");
    let (code, said) = check(&format!("{good}new,n2,1\n"), &["--format", "json"]);
    assert_eq!(code, Some(1), "{said}");
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["conflicts"][0]["account"], "n2", "{found}");
    let (code, said) = check("provider,account\nodl,x\n", &[]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("line 2: there is no provider `odl`"),
        "{said}"
    );
    assert!(!at("state").exists(), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_conflict_is_refused_until_an_operator_decides_and_the_old_name_stays() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let links =
        "links: [{ claim: { old: subject, new: subject, require: [unique] } }], on_conflict: deny";
    let yaml = two_providers(&old, &new, &upstream, 100)
        .replace(
            "identity_headers: {",
            "identity_headers: { X-Old: \"{link.old_subject|omit}\",",
        )
        .replace(
            "identity: { canonical: { template: \"{subject}\" } }",
            &format!("identity: {{ canonical: {{ template: \"{{subject}}\" }}, {links} }}"),
        );
    let mut proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let status = async |proxy: &Proxy, token: String| {
        let token = format!("Bearer {token}");
        let fields = [("Authorization", token.as_str()), ("Host", "app.test")];
        let answer = request(proxy.address, "GET", "/", &fields, b"").await;
        answer.status
    };
    // Two accounts of the new provider say that they are alice; the first one was linked with hers at the old one.
    let second = || {
        let mut claims = new.claims("alice");
        claims.insert("sub".to_owned(), "alice-2".into());
        new.sign(&claims)
    };
    assert_eq!(status(&proxy, old.token("alice")).await, 200);
    assert_eq!(status(&proxy, new.token("alice")).await, 200);
    assert_eq!(upstream.last().all("x-old"), ["alice"]);
    assert_eq!(status(&proxy, second()).await, 403);
    assert_eq!(
        status(&proxy, new.token("alice")).await,
        200,
        "the first link stands"
    );
    let series = "authferry_subject_links_total{method=\"claim\",outcome=\"conflict\"}";
    assert!(1.0 <= proxy.metric(series).await);
    let socket = proxy.dir().join("state/admin.sock");
    let set = |account: &str, reason: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_authferry"))
            .args(["link", "set", "--person", "uid-alice", "--provider", "new"])
            .args(["--account", account, "--reason", reason, "--socket"])
            .arg(&socket)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    assert!(!set("alice-2", " ").0);
    let (done, said) = set("alice-2", "HR-7");
    assert!(
        done && said.contains("another account there was theirs"),
        "{said}"
    );
    // At once, whatever was kept of the first one.
    assert_ne!(status(&proxy, new.token("alice")).await, 200);
    until(async || status(&proxy, second()).await == 200).await;
    assert_eq!(upstream.last().all("x-old"), ["alice"]);
    assert_eq!(status(&proxy, old.token("alice")).await, 200);
    until(async || status(&proxy, new.token("alice")).await == 403).await;
    // A restart forgets nothing of it.
    proxy.signal("TERM");
    proxy.wait();
    proxy.again();
    proxy.settled().await;
    assert_eq!(status(&proxy, second()).await, 200);
    assert_eq!(upstream.last().all("x-old"), ["alice"]);
    assert_eq!(status(&proxy, new.token("alice")).await, 403);
    let ledger = std::fs::read_to_string(proxy.dir().join("state/decisions.jsonl")).unwrap();
    let record = ledger
        .lines()
        .find(|line| line.contains("link_conflict_resolved"));
    let record: Value = serde_json::from_str(record.unwrap()).unwrap();
    assert_eq!(
        (&record["reason"], &record["provider"]),
        (&"HR-7".into(), &"new".into())
    );
    assert!(
        !ledger.contains("uid-alice") && !ledger.contains("alice-2"),
        "{record}"
    );
}
