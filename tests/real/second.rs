//! Second opinions from real directories: OpenLDAP on the old side, Keycloak on the new one.

use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::behind::Behind;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::request;
use crate::keycloak;
use crate::legacy::basic;
use crate::operators::promtool_is_content;
use crate::proxy;
use crate::secret;
use crate::var;

/// The old side is a directory that people bind at; only the named people of it are gone through.
fn yaml(upstream: &str) -> String {
    format!(
        r#"
providers:
  legacy:
    ldap:
      url: "ldap://127.0.0.1:{port}"
      user_dn: "uid={{username}},ou=people,dc=legacy,dc=test"
      attributes: [uid, employeeNumber]
      groups: {{ base: "ou=groups,dc=legacy,dc=test", filter: "(member={{dn}})", attribute: cn }}
      claims: {{ subject: employeeNumber, name: uid, groups: groups }}
      authoritative: {{ claims: [employeeNumber] }}
      directory:
        base: "ou=people,dc=legacy,dc=test"
        filter: "(!(uid=p*))"
        key: employeeNumber
  modern:
    oidc:
      issuer: "{issuer}"
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid, name: preferred_username, groups: groups }}
      authoritative: {{ claims: [legacy_uid] }}
      directory:
        keycloak: {{ client: {{ id: directory, secret: {{ file: "{{dir}}/directory.secret" }} }}, key: legacy_uid }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
apps:
  crm:
    hosts: [app.test]
    upstream: {{ url: "{upstream}" }}
    identity_headers: {{ X-Remote-User: "{{name}}", X-Remote-Groups: "{{groups|sort|join:,|omit}}" }}
rollouts:
  move:
    apps: [crm]
    from: legacy
    to: modern
    bucketing: {{ salt: real }}
    stages: [{{ id: look, mode: shadow }}]
shadow:
  crm:
    oracles:
      - {{ method: directory, provider: modern }}
      - {{ method: sweep, provider: modern }}
    budget: {{ rps: 200 }}
"#,
        port = var("LDAP_PORT"),
        issuer = keycloak(),
    )
}

/// What operators read of it: severity, class, field, people, values.
fn told(proxy: &Proxy) -> Vec<String> {
    let asked = Command::new(env!("CARGO_BIN_EXE_authferry"))
        .env("AUTHFERRY_STATE_DIR", proxy.dir().join("state"))
        .args(["report", "divergences", "--format", "json"])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let report: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let table = &report["tables"][0];
    let columns: Vec<&str> = table["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut told: Vec<String> = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let cell = |name: &str| {
                let at = columns.iter().position(|column| *column == name).unwrap();
                match &row[at] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                }
            };
            ["severity", "class", "field", "people", "values"]
                .map(cell)
                .join(" ")
        })
        .collect();
    told.sort();
    told
}

async fn until(proxy: &Proxy, series: &str, value: f64) {
    let start = Instant::now();
    while proxy.metric(series).await < value {
        let waited = start.elapsed();
        assert!(waited.as_secs() < 60, "{series}: {}", proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Somebody whom the old directory has locked is let back in at Keycloak, or locked again.
async fn at_keycloak(name: &str, enabled: bool) {
    Behind::admin().await.lets_in(name, enabled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_real_directories_are_compared_before_anybody_moves() {
    at_keycloak("dave", true).await;
    let upstream = Echo::start().await;
    let proxy = proxy(&yaml(&upstream.url()));
    // Everybody whom the old directory names: five are not known at Keycloak or may not come in there.
    let swept = |result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"sweep\",result=\"{result}\"}} "
        )
    };
    until(&proxy, &swept("different"), 5.0).await;
    until(&proxy, &swept("same"), 3.0).await;
    assert_eq!(
        told(&proxy),
        [
            "critical reject_accept disabled 1 ",
            "warn no_link subject 4 "
        ]
    );
    // Those who come are looked up too; what they presented is sent nowhere.
    for name in ["bob", "erin", "p0001"] {
        let password = basic(name, &secret(&format!("{name}-pw")));
        let given = [("Authorization", password.as_str())];
        let answer = request(proxy.address, "GET", "/", &given, b"").await;
        assert_eq!(answer.status, 200, "{name}: {}", proxy.log());
    }
    let looked = |result: &str| {
        format!(
            "authferry_shadow_comparisons_total{{app=\"crm\",oracle=\"directory\",result=\"{result}\"}} "
        )
    };
    until(&proxy, &looked("different"), 2.0).await;
    until(&proxy, &looked("same"), 1.0).await;
    assert_eq!(
        told(&proxy),
        [
            "critical groups_extra groups 1 customers",
            "critical reject_accept disabled 1 ",
            "warn headers x-remote-groups 1 ",
            "warn no_link subject 4 ",
        ]
    );
    assert!(proxy.log().contains("Both directories were gone through"));
    for word in ["dave", "erin", "uid:1004", "uid:1005", "p0001"] {
        assert!(!proxy.log().contains(word), "{word}");
    }
    at_keycloak("dave", false).await;
    promtool_is_content(&proxy).await;
}

/// Both directories say whom they have barred: OpenLDAP by the lock of its password policy, Keycloak by `enabled`.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_a_real_directory_has_barred_comes_in_at_neither_side() {
    at_keycloak("dave", true).await;
    let upstream = Echo::start().await;
    let text = yaml(&upstream.url())
        .replace(
            "identity: { canonical: { template: \"uid:{subject}\" } }",
            "identity: { canonical: { template: \"uid:{subject}\" }, denials: union, denials_every: 5s }",
        )
        .replace(
            "stages: [{ id: look, mode: shadow }]",
            "stages: [{ id: half, mode: canary, assign: [{ percent: 50 }] }]",
        );
    assert!(text.contains("denials") && text.contains("canary"));
    let proxy = proxy(&text[..text.find("\nshadow:").unwrap()]);
    let denied = |provider: &str| format!("authferry_denied_accounts{{provider=\"{provider}\"}} ");
    // `dave` is locked at the old side.
    until(&proxy, &denied("legacy"), 1.0).await;
    let comes = async |name: &str| {
        let password = basic(name, &secret(&format!("{name}-pw")));
        let given = [("Authorization", password.as_str())];
        request(proxy.address, "GET", "/", &given, b"").await.status
    };
    assert_eq!(comes("alice").await, 200);
    let before = proxy.metric(&denied("modern")).await;
    at_keycloak("alice", false).await;
    until(&proxy, &denied("modern"), before + 1.0).await;
    assert_eq!(
        comes("alice").await,
        403,
        "her password is good at the old side"
    );
    assert_eq!(comes("bob").await, 200);
    at_keycloak("alice", true).await;
    let start = Instant::now();
    while comes("alice").await != 200 {
        assert!(start.elapsed().as_secs() < 60, "{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for word in ["alice", "uid:1001", "dave"] {
        assert!(!proxy.log().contains(word), "{word}");
    }
    at_keycloak("dave", false).await;
}
