//! Keycloak gives an application tokens of its own side: RFC 8693 for its tokens, an assertion (RFC 7523) for old credentials.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::request;
use crate::keycloak;
use crate::modern::token_of;
use crate::origin;
use crate::secret;
use crate::server_section;
use crate::var;

/// The old side is a file of API keys whose names are the old user numbers.
fn yaml(upstream: &str) -> String {
    format!(
        r#"
providers:
  legacy: {{ api_key: {{ file: "{{dir}}/keys", authoritative: {{ claims: [username] }} }} }}
  modern:
    oidc:
      issuer: "{new}"
      owns: {{ access_token_markers: [{{ claim: typ, equals: Bearer }}] }}
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid, name: preferred_username, groups: groups }}
      authoritative: {{ claims: [legacy_uid] }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
exchange:
  narrow:
    token_exchange:
      provider: modern
      client: {{ id: proxy-exchange, secret: {{ file: "{{dir}}/proxy-exchange.secret" }} }}
      audiences: [legacy-api]
      own_tokens: exchange
      scopes: {{ harmless: [openid, profile, email, groups] }}
  bridge:
    assertion:
      provider: modern
      client: {{ id: proxy-bridge, secret: {{ file: "{{dir}}/proxy-bridge.secret" }} }}
      issuer: "{origin}/bridge"
      subject: "{{subject}}"
      key: {{ file: "{{dir}}/bridge.key" }}
      audiences: [legacy-api]
apps:
  crm:
    hosts: [127.0.0.1]
    upstream: {{ url: "{upstream}" }}
    routes:
      - {{ path: /narrow/*, exchange: narrow }}
      - {{ path: /bridge/*, exchange: bridge }}
rollout: {{ from: legacy, to: modern, bucketing: {{ salt: real }}, percent: 50 }}
{server}"#,
        new = keycloak(),
        origin = origin(),
        server = server_section(),
    )
}

fn start(upstream: &str) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    for client in ["proxy-exchange", "proxy-bridge"] {
        let text = secret(&format!("{client}-secret"));
        std::fs::write(dir.path().join(format!("{client}.secret")), text).unwrap();
    }
    let line = |name: &str| {
        let hash = digest::digest(&digest::SHA256, format!("key-of-{name}").as_bytes());
        let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("{name}:sha256:{hex}\n")
    };
    let keys: String = ["1002", "1004", "1005"].map(line).concat();
    std::fs::write(dir.path().join("keys"), keys).unwrap();
    let key = format!("{}/pki/jwt.key", var("IDPS_RUN"));
    std::fs::copy(key, dir.path().join("bridge.key")).unwrap();
    Proxy::start_in(dir, &yaml(upstream))
}

fn claims(authorization: &str) -> Value {
    let payload = authorization.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn is_for(claims: &Value, audience: &str) -> bool {
    match &claims["aud"] {
        Value::Array(all) => all.contains(&json!(audience)),
        one => one == audience,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keycloak_exchanges_its_own_token_for_one_of_the_application() {
    let upstream = Echo::start().await;
    let proxy = start(&upstream.url());
    proxy.settled().await;
    for (name, status) in [("bob", 200), ("carol", 403)] {
        let token = token_of(name).await;
        let value = format!("Bearer {token}");
        let fields = [("Host", "127.0.0.1"), ("Authorization", value.as_str())];
        let answer = request(proxy.address, "GET", "/narrow/x", &fields, b"").await;
        assert_eq!(
            answer.status,
            status,
            "{name} {}\n{}",
            answer.text(),
            proxy.log()
        );
        if status == 200 {
            let seen = upstream.last();
            assert!(!seen.head.contains(&token));
            let got = claims(&seen.all("authorization").remove(0));
            assert!(
                is_for(&got, "legacy-api") && !is_for(&got, "proxy-exchange"),
                "{got}"
            );
            assert_eq!(got["iss"], json!(keycloak()));
        }
    }
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_credential_becomes_a_token_of_keycloak_without_a_second_login() {
    let upstream = Echo::start().await;
    let proxy = start(&upstream.url());
    proxy.settled().await;
    // Erin (1005) has no account there, Dave's (1004) is disabled.
    for (name, status) in [("1002", 200), ("1005", 403), ("1004", 403)] {
        let key = format!("key-of-{name}");
        let fields = [("Host", "127.0.0.1"), ("X-Api-Key", key.as_str())];
        let answer = request(proxy.address, "GET", "/bridge/x", &fields, b"").await;
        assert_eq!(
            answer.status,
            status,
            "{name} {}\n{}",
            answer.text(),
            proxy.log()
        );
    }
    assert_eq!(upstream.hits(), 1);
    let seen = upstream.last();
    assert!(seen.all("x-api-key").is_empty());
    let got = claims(&seen.all("authorization").remove(0));
    assert_eq!(got["legacy_uid"], json!("1002"));
    assert!(is_for(&got, "legacy-api"), "{got}");
}
