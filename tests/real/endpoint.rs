//! Our token endpoint before real providers: a client keeps its name, its secret and its tokens while it is moved from
//! oidc-provider to Keycloak.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::behind::Behind;
use crate::browser::encode;
use crate::exchange::claims;
use crate::exchange::is_for;
use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Proxy;
use crate::harness::request;
use crate::keycloak;
use crate::modern::tokens_of;
use crate::old_provider;
use crate::operators::until;
use crate::origin;
use crate::secret;
use crate::server_section;
use crate::var;

const CLIENT_CREDENTIALS: &str = "client_credentials";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The registrations that providers have of our clients.
const SECRETS: [&str; 5] = [
    "proxy",
    "svc",
    "proxy-ropc",
    "proxy-exchange",
    "proxy-bridge",
];

pub(crate) fn hash(secret: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Both providers, and a way to Keycloak's tokens: by an exchange of its own, or with an assertion for whoever is not there yet.
pub(crate) fn yaml(upstream: &str, percent: u32, way: &str) -> String {
    let file = |client: &str| format!("secret: {{ file: \"{{dir}}/{client}.secret\" }}");
    format!(
        r#"
providers:
  legacy:
    oidc:
      issuer: "{old}"
      verify: {{ audiences: ["urn:legacy-api"] }}
      authoritative: {{ claims: [sub] }}
  modern:
    oidc:
      issuer: "{new}"
      owns: {{ access_token_markers: [{{ claim: typ, equals: Bearer }}] }}
      verify: {{ audiences: [proxy-exchange, legacy-api] }}
      claims: {{ subject: legacy_uid }}
      authoritative: {{ claims: [legacy_uid] }}
identity: {{ canonical: {{ template: "uid:{{subject}}" }} }}
apps:
  crm: {{ hosts: [127.0.0.1], upstream: {{ url: "{upstream}" }}, identity_headers: {{ X-Remote-User: "{{subject}}" }} }}
rollout: {{ from: legacy, to: modern, bucketing: {{ salt: real }}, assign: [{{ percent: {percent}, to: modern }}] }}
exchange:
  narrow: {{ token_exchange: {{ provider: modern, client: {{ id: proxy-exchange, {exchange} }}, audiences: [legacy-api], also: [account], own_tokens: exchange, scopes: {{ harmless: [openid, profile, email] }} }} }}
  bridge: {{ assertion: {{ provider: modern, client: {{ id: proxy-bridge, {bridge} }}, issuer: "{origin}/bridge", subject: "{{subject}}", key: {{ file: "{{dir}}/bridge.key" }}, audiences: [legacy-api], also: [account], scopes: {{ harmless: [openid, profile, email] }} }} }}
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [legacy-api] }} }}
token_endpoint:
  app: crm
  origin: https://127.0.0.1
  audiences:
    legacy-api: {{ exchanges: [{way}, ours], resources: {{ legacy: "urn:legacy-api" }} }}
    proxy-exchange: {{ resources: {{ legacy: "urn:legacy-api" }} }}
  clients:
    batch: {{ secret_hashes: ["{hash}"], grants: [client_credentials], audiences: [proxy-exchange], scopes: [profile, email, "legacy:read"], at: {{ legacy: {{ id: svc, {svc} }}, modern: {{ id: proxy, {proxy} }} }} }}
    mobile: {{ secret_hashes: ["{hash}"], grants: [refresh_token, token_exchange], audiences: [legacy-api], scopes: [openid, profile, email], refresh: {{ adopt: modern }}, introspect: true, at: {{ modern: {{ id: proxy-ropc, {ropc} }} }} }}
    television: {{ auth: none, grants: [device_code, refresh_token], audiences: [legacy-api], scopes: [openid, profile, email], at: {{ legacy: {{ id: tv, auth: none }}, modern: {{ id: tv, auth: none }} }} }}
{server}"#,
        old = old_provider(),
        new = keycloak(),
        origin = origin(),
        hash = hash("s3cret"),
        exchange = file("proxy-exchange"),
        bridge = file("proxy-bridge"),
        svc = file("svc"),
        proxy = file("proxy"),
        ropc = file("proxy-ropc"),
        server = server_section(),
    )
}

pub(crate) async fn start(yaml: &str) -> Proxy {
    let dir = tempfile::tempdir().unwrap();
    for client in SECRETS {
        let text = secret(&format!("{client}-secret"));
        std::fs::write(dir.path().join(format!("{client}.secret")), text).unwrap();
    }
    let key = format!("{}/pki/jwt.key", var("IDPS_RUN"));
    std::fs::copy(key, dir.path().join("bridge.key")).unwrap();
    let proxy = Proxy::start_in(dir, yaml);
    proxy.settled().await;
    proxy
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// What a client says to us. A public one has no secret, and names itself.
pub(crate) async fn ask(proxy: &Proxy, who: &str, path: &str, pairs: &[(&str, &str)]) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("{who}:s3cret")));
    let mut fields = vec![
        ("Host", "127.0.0.1"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let mut pairs = pairs.to_vec();
    if who == "television" {
        pairs.push(("client_id", who));
    } else {
        fields.push(("Authorization", &basic));
    }
    let path = format!("/.authferry/oauth2/{path}");
    request(
        proxy.address,
        "POST",
        &path,
        &fields,
        form(&pairs).as_bytes(),
    )
    .await
}

#[track_caller]
pub(crate) fn good(answer: &Answer, proxy: &Proxy) -> Value {
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    serde_json::from_slice(&answer.body).unwrap()
}

#[track_caller]
pub(crate) fn is_error(answer: &Answer, error: &str, proxy: &Proxy) {
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said["error"], json!(error), "{}", proxy.log());
}

pub(crate) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_else(|| panic!("{object}"))
}

/// What the application says to a token.
pub(crate) async fn at_app(proxy: &Proxy, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let fields = [("Host", "127.0.0.1"), ("Authorization", bearer.as_str())];
    request(proxy.address, "GET", "/x", &fields, b"")
        .await
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_tokens_for_itself_of_whichever_provider_it_belongs_to() {
    let upstream = Echo::start().await;
    let proxy = start(&yaml(&upstream.url(), 0, "narrow")).await;
    let own = [
        ("grant_type", CLIENT_CREDENTIALS),
        ("audience", "proxy-exchange"),
    ];
    let wanted = |scope| [&own[..], &[("scope", scope)]].concat();
    let got = good(
        &ask(&proxy, "batch", "token", &wanted("legacy:read")).await,
        &proxy,
    );
    let old = claims(text(&got, "access_token"));
    assert_eq!(
        (&old["iss"], &old["client_id"], &old["scope"]),
        (&json!(old_provider()), &json!("svc"), &json!("legacy:read"))
    );
    assert!(is_for(&old, "urn:legacy-api"), "{old}");

    proxy.edit(&yaml(&upstream.url(), 100, "narrow"));
    let wanted = wanted("profile email");
    let issuer = async || {
        let got = ask(&proxy, "batch", "token", &wanted).await;
        let got: Value = serde_json::from_slice(&got.body).unwrap();
        got["access_token"].as_str().map(claims)
    };
    until(async || {
        issuer()
            .await
            .is_some_and(|got| got["iss"] == json!(keycloak()))
    })
    .await;
    let new = issuer().await.unwrap();
    assert!(is_for(&new, "proxy-exchange"), "{new}");
    assert_eq!(new["azp"], json!("proxy"));
    // Keycloak knows no such scope: that is the client's mistake, and not an hour of ours.
    let answer = ask(&proxy, "batch", "token", &own).await;
    assert_eq!(answer.status, 400, "{}", proxy.log());
    is_error(&answer, "invalid_scope", &proxy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_of_keycloak_is_adopted_turned_and_given_back() {
    let upstream = Echo::start().await;
    let proxy = start(&yaml(&upstream.url(), 100, "narrow")).await;
    let behind = Behind::admin().await;
    let bob = behind.id_of("bob").await;
    let given_back = behind.happened("proxy-ropc", "REVOKE_GRANT", &bob).await;
    let refresh = async |token: &str| {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
        ask(&proxy, "mobile", "token", &pairs).await
    };
    let theirs = tokens_of("bob", "proxy-ropc").await;
    let first = good(&refresh(text(&theirs, "refresh_token")).await, &proxy);
    let second = good(&refresh(text(&first, "refresh_token")).await, &proxy);
    let access = text(&second, "access_token");
    let own = claims(access);
    assert_eq!(
        (&own["iss"], &own["legacy_uid"], &own["azp"]),
        (&json!(keycloak()), &json!("1002"), &json!("proxy-ropc"))
    );
    assert_eq!(at_app(&proxy, access).await, 200, "{}", proxy.log());
    let active = async |token: &str| {
        let said = ask(&proxy, "mobile", "introspect", &[("token", token)]).await;
        good(&said, &proxy)
    };
    let said = active(access).await;
    assert_eq!(
        (&said["active"], &said["client_id"], &said["token_type"]),
        (&json!(true), &json!("proxy-ropc"), &json!("Bearer"))
    );
    let last = text(&second, "refresh_token");
    assert_eq!(active(last).await["active"], json!(true));
    let answer = ask(&proxy, "mobile", "revoke", &[("token", last)]).await;
    assert_eq!(answer.status, 200, "{}", proxy.log());
    for over in [last, access] {
        assert_eq!(active(over).await, json!({ "active": false }));
    }
    is_error(&refresh(last).await, "invalid_grant", &proxy);
    assert_eq!(at_app(&proxy, access).await, 401);
    // Keycloak has been told.
    until(async || given_back < behind.happened("proxy-ropc", "REVOKE_GRANT", &bob).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keycloak_exchanges_for_a_client_and_no_result_outlives_its_token_by_more_than_is_allowed()
{
    let upstream = Echo::start().await;
    let strict = yaml(&upstream.url(), 100, "narrow");
    let proxy = start(&strict).await;
    let exchange = async |token: &str| {
        let pairs = [
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", "legacy-api"),
        ];
        ask(&proxy, "mobile", "token", &pairs).await
    };
    let theirs = tokens_of("bob", "proxy-ropc").await;
    let got = good(&exchange(text(&theirs, "access_token")).await, &proxy);
    let own = claims(text(&got, "access_token"));
    assert!(
        is_for(&own, "legacy-api") && !is_for(&own, "proxy-exchange"),
        "{own}"
    );
    assert_eq!(
        (&own["azp"], &own["legacy_uid"]),
        (&json!("proxy-exchange"), &json!("1002"))
    );
    assert_eq!(got["issued_token_type"], json!(ACCESS_TOKEN));
    // Keycloak refuses it for her, who may not use the application.
    let hers = tokens_of("carol", "proxy-ropc").await;
    is_error(
        &exchange(text(&hers, "access_token")).await,
        "invalid_target",
        &proxy,
    );
    // A token of two seconds, for which Keycloak gives one of five minutes. Each is new: what is kept is not asked for again.
    let brief = async || {
        let theirs = tokens_of("bob", "proxy-brief").await;
        exchange(text(&theirs, "access_token")).await
    };
    is_error(&brief().await, "invalid_target", &proxy);
    let lax = strict.replacen(
        "own_tokens: exchange",
        "own_tokens: exchange, longer_life: 10m",
        1,
    );
    assert_ne!(strict, lax);
    proxy.edit(&lax);
    until(async || brief().await.status == 200).await;
}
