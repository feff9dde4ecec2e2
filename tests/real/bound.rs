//! Tokens of oidc-provider at the edge: opaque ones that are asked about, and those that it bound to a key or a certificate.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::browser::Browser;
use crate::browser::encode;
use crate::devices::device_token_of_old;
use crate::endpoint::hash;
use crate::harness::Echo;
use crate::harness::request;
use crate::keycloak;
use crate::modern::token_of;
use crate::old_provider;
use crate::operators::until;
use crate::origin;
use crate::protocols::node;
use crate::proxy;
use crate::registrations::counts_beside_its_certificate_only;
use crate::registrations::counts_with_new_proofs_only;
use crate::registrations::curl;
use crate::secret;
use crate::two_sides;
use crate::var;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_ask_is_told_of_opaque_tokens_and_of_signed_ones_alike() {
    let upstream = Echo::start().await;
    let yaml = format!(
        r#"
providers:
  legacy:
    introspection:
      issuer: "{old}"
      url: "{old}/token/introspection"
      client: {{ id: legacy-api, secret: {{ file: "{{dir}}/legacy-api.secret" }} }}
      cache: 1s
      authoritative: {{ claims: [sub] }}
  modern:
    oidc:
      issuer: "{new}"
      owns: {{ access_token_markers: [{{ claim: typ, equals: Bearer }}] }}
      verify: {{ audiences: [proxy-exchange] }}
      claims: {{ subject: legacy_uid }}
      authoritative: {{ claims: [legacy_uid] }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
apps:
  crm: {{ hosts: [127.0.0.1], upstream: {{ url: "{upstream}" }} }}
rollout: {{ from: legacy, to: modern, bucketing: {{ salt: real }}, assign: [{{ percent: 50, to: modern }}] }}
token_endpoint:
  app: crm
  origin: https://127.0.0.1
  clients: {{ api: {{ secret_hashes: ["{hash}"], introspect: true }} }}
"#,
        old = old_provider(),
        new = keycloak(),
        upstream = upstream.url(),
        hash = hash("s3cret"),
    );
    let proxy = proxy(&yaml);
    proxy.settled().await;
    let basic = format!("Basic {}", STANDARD.encode("api:s3cret"));
    let ask = async |token: &str| -> Value {
        let fields = [
            ("Host", "127.0.0.1"),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", basic.as_str()),
        ];
        let body = format!("token={}", encode(token));
        let path = "/.authferry/oauth2/introspect";
        let answer = request(proxy.address, "POST", path, &fields, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
        serde_json::from_slice(&answer.body).unwrap()
    };
    let opaque = device_token_of_old(&[]).await;
    assert!(!opaque.contains('.'), "it can be read");
    let said = ask(&opaque).await;
    assert_eq!(
        (
            &said["active"],
            &said["iss"],
            &said["sub"],
            &said["client_id"]
        ),
        (
            &json!(true),
            &json!(old_provider()),
            &json!("1002"),
            &json!("tv")
        )
    );
    assert!(
        said["exp"].is_u64() && said["token_type"] == "Bearer",
        "{said}"
    );
    let said = ask(&token_of("bob").await).await;
    assert_eq!(
        (&said["active"], &said["iss"], &said["client_id"]),
        (&json!(true), &json!(keycloak()), &json!("proxy-ropc"))
    );
    for bad in ["nobodys", "a.b.c", &opaque[1..]] {
        assert_eq!(ask(bad).await, json!({ "active": false }));
    }
    // What its provider has taken back is over here when the answer of before is.
    let host = old_provider().strip_prefix("http://").unwrap().to_owned();
    let fields = [
        ("Host", host.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let body = format!("client_id=tv&token={opaque}");
    let path = "/token/revocation";
    let answer = request(
        host.parse().unwrap(),
        "POST",
        path,
        &fields,
        body.as_bytes(),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    until(async || ask(&opaque).await == json!({ "active": false })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_oidc_provider_bound_to_a_key_counts_with_a_new_proof_of_it_only() {
    let upstream = Echo::start().await;
    // Its access tokens say who it is, and nothing about them.
    let yaml = two_sides(&upstream.url(), "0")
        .replacen(
            "subject: legacy_uid, name: preferred_username, groups: groups",
            "subject: sub",
            1,
        )
        .replacen(
            "authoritative: { claims: [legacy_uid] }",
            "authoritative: { claims: [sub] }",
            1,
        )
        .replace("{groups|sort|join:,}", "{groups|sort|join:,|omit}")
        .replace("{name}", "{name|omit}");
    let proxy = proxy(&yaml);
    proxy.settled().await;
    let mut client = node("dpop.mjs")
        .arg(old_provider())
        .arg(secret("proxy-dpop-secret"))
        .args(["urn:legacy-api", "-"])
        .arg(format!("{}/x", origin()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    let mut page = String::new();
    said.read_line(&mut page).unwrap();
    let mut browser = Browser::default();
    let landed = browser
        .open(page.trim(), Some(("bob", &secret("bob-pw"))))
        .await;
    assert!(landed.url.contains("code="), "{landed:?}");
    let mut told = client.stdin.take().unwrap();
    writeln!(told, "{}", landed.url).unwrap();
    let mut words = String::new();
    said.read_to_string(&mut words).unwrap();
    assert!(client.wait().unwrap().success(), "{words}\n{}", proxy.log());
    counts_with_new_proofs_only(&words, &upstream, &proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_oidc_provider_bound_to_a_certificate_counts_beside_it_only() {
    let form = "grant_type=client_credentials&client_id=proxy-mtls&resource=urn%3Alegacy-api";
    let endpoint = format!("https://127.0.0.1:{}/token", var("OP_TLS_PORT"));
    let (body, _) = curl(Some("client-mtls"), &["--data", form, &endpoint]);
    let answer: Value = serde_json::from_str(&body).unwrap();
    let token = answer["access_token"].as_str();
    let token = token.unwrap_or_else(|| panic!("{body}"));
    let provider = format!(
        "{{ oidc: {{ issuer: \"{}\", verify: {{ audiences: [\"urn:legacy-api\"] }} }} }}",
        old_provider()
    );
    counts_beside_its_certificate_only(&provider, token).await;
}
