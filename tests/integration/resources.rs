//! Audiences that a provider knows as resources (RFC 8707).

use serde_json::Value;
use serde_json::json;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::refresh::good;
use crate::refresh::post;
use crate::token_endpoint::claims;
use crate::token_endpoint::hash;
use crate::token_endpoint::object;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const DEVICE: &str = "/.authferry/oauth2/device_authorization";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A provider may call an audience by a name of its own, as a resource (RFC 8707), and know no other word for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_audience_is_asked_for_by_the_name_that_its_provider_knows() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let ours = "{ id: authferry, secret: { env: HARNESS_SECRET } }";
    let config = two_providers(&old, &new, &upstream, 0);
    let also = config.replacen("audiences: [app]", "audiences: [\"urn:app\"]", 1);
    assert_ne!(config, also);
    let proxy = Proxy::start(&format!(
        r#"{also}
exchange: {{ ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [app] }} }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ app: {{ exchanges: [ours], resources: {{ old: "urn:app" }} }} }}
  clients:
    tv: {{ secret_hashes: ["{}"], grants: [device_code, refresh_token, client_credentials], audiences: [app], at: {{ old: {ours}, new: {ours} }} }}
"#,
        hash("tv"),
    ));
    proxy.settled().await;
    let ask = async |pairs: &[(&str, &str)]| post(&proxy, ("tv", "tv"), TOKEN, pairs).await;
    let is_theirs = |got: &Value| {
        let own = claims(got);
        assert_eq!(
            (&own["iss"], &own["aud"]),
            (&json!(old.issuer()), &json!("urn:app"))
        );
    };
    let answer = ask(&[("grant_type", "client_credentials"), ("audience", "app")]).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    is_theirs(&object(&answer)["access_token"]);
    let started = object(&post(&proxy, ("tv", "tv"), DEVICE, &[]).await);
    old.types_in(Some("alice"));
    let code = started["device_code"].as_str().unwrap();
    let answer = ask(&[("grant_type", DEVICE_CODE), ("device_code", code)]).await;
    let (got, token) = good(&answer);
    is_theirs(&got["access_token"]);
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", &*token)];
    let (got, _) = good(&ask(&pairs).await);
    is_theirs(&got["access_token"]);
}
