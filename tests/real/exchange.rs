//! Keycloak gives an application tokens of its own side: RFC 8693 for its tokens, an assertion (RFC 7523) for old credentials.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::browser::Browser;
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

pub(crate) fn claims(authorization: &str) -> Value {
    let payload = authorization.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

pub(crate) fn is_for(claims: &Value, audience: &str) -> bool {
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

/// The old side is an application with sessions of its own, asked about them; everybody belongs to Keycloak.
fn with_sessions(upstream: &str, php: &str) -> String {
    let all = yaml(upstream);
    let (before, rest) = all.split_once("  legacy:").unwrap();
    let after = &rest[rest.find("  modern:\n").unwrap()..];
    let legacy = format!(
        "  legacy:\n    session_probe:\n      issuer: \"{php}\"\n      owns: {{ cookies: [PHPSESSID] }}\n      introspect: {{ url: \"{php}/whoami\" }}\n      \
         logout: {{ url: \"{php}/logout\", method: get }}\n      claims: {{ subject: uid, name: user, groups: groups }}\n      authoritative: {{ claims: [uid] }}\n"
    );
    // Old systems number their people.
    let after = after
        .replace("{subject}", "{subject|text}")
        .replace("percent: 50", "percent: 100")
        .replace(
            "    routes:\n      - { path: /narrow/*, exchange: narrow }\n      - { path: /bridge/*, exchange: bridge }\n",
            "    identity_headers: { X-Remote-User: \"{subject|text}\" }\n",
        );
    format!("{before}{legacy}{after}sessions: {{ carry_over: [wrap, exchange] }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_php_application_becomes_one_of_keycloak_without_a_second_login() {
    let upstream = Echo::start().await;
    let php = format!("http://127.0.0.1:{}", var("APP_PHP_PORT"));
    let dir = tempfile::tempdir().unwrap();
    for client in ["proxy-exchange", "proxy-bridge"] {
        let text = secret(&format!("{client}-secret"));
        std::fs::write(dir.path().join(format!("{client}.secret")), text).unwrap();
    }
    let key = format!("{}/pki/jwt.key", var("IDPS_RUN"));
    std::fs::copy(key, dir.path().join("bridge.key")).unwrap();
    let proxy = Proxy::start_in(dir, &with_sessions(&upstream.url(), &php));
    proxy.settled().await;
    // Erin (1005) has no account at Keycloak: she goes on as she is.
    for (name, uid, moves) in [("bob", "1002", true), ("erin", "1005", false)] {
        let mut browser = Browser::default();
        let password = secret(&format!("{name}-pw"));
        browser
            .open(&format!("{php}/login"), Some((name, &password)))
            .await;
        let theirs = browser.cookie_line(php.strip_prefix("http://").unwrap());
        let mut cookies: Vec<String> = vec![theirs.clone()];
        let mut locations = Vec::new();
        for _ in 0..3 {
            let line = cookies.join("; ");
            let fields = [
                ("Host", "127.0.0.1"),
                ("Cookie", line.as_str()),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "document"),
            ];
            let answer = request(proxy.address, "GET", "/deep?a=b", &fields, b"").await;
            for pair in answer.cookies() {
                let name = pair.split('=').next().unwrap().to_owned();
                cookies.retain(|kept| !kept.starts_with(&format!("{name}=")));
                cookies.push(pair);
            }
            match answer.header("location") {
                Some(location) => locations.push(location.to_owned()),
                None => {
                    assert_eq!(
                        answer.status,
                        200,
                        "{name} {}\n{}",
                        answer.text(),
                        proxy.log()
                    );
                    assert_eq!(upstream.last().all("x-remote-user"), [uid]);
                }
            }
        }
        let expected: &[&str] = if moves { &["/deep?a=b"] } else { &[] };
        assert_eq!(locations, expected, "{name}\n{}", proxy.log());
        // The session that was exchanged is over at the application.
        crate::operators::until(async || {
            let site = php.strip_prefix("http://").unwrap();
            let fields = [("Host", site), ("Cookie", theirs.as_str())];
            let whoami = request(site.parse().unwrap(), "GET", "/whoami", &fields, b"").await;
            (whoami.status == 200) != moves
        })
        .await;
    }
    let moved =
        "authferry_session_carryovers_total{app=\"crm\",method=\"exchange\",outcome=\"moved\"} ";
    assert_eq!(proxy.metric(moved).await, 1.0);
}
