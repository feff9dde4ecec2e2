//! Devices without a browser, whose people sign in at real providers: our token endpoint between both, and oidc-provider alone.

use serde_json::Value;
use serde_json::json;

use crate::behind::token;
use crate::browser::Browser;
use crate::endpoint::ask;
use crate::endpoint::at_app;
use crate::endpoint::form;
use crate::endpoint::good;
use crate::endpoint::is_error;
use crate::endpoint::start;
use crate::endpoint::text;
use crate::endpoint::yaml;
use crate::exchange::claims;
use crate::exchange::is_for;
use crate::harness::Echo;
use crate::harness::request;
use crate::keycloak;
use crate::old_provider;
use crate::operators::until;
use crate::secret;

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Somebody types in the code that a device shows, signs in, and says yes.
async fn types_in(started: &Value) {
    let mut browser = Browser::default();
    let field = if text(started, "verification_uri").starts_with(&old_provider()) {
        "user_code"
    } else {
        "device_user_code"
    };
    let mut shown = browser.open(text(started, "verification_uri"), None).await;
    shown = browser
        .type_in(&shown, field, text(started, "user_code"))
        .await;
    for _ in 0..3 {
        let page = shown.answer.text();
        shown = if page.contains("type=password") || page.contains("type=\"password\"") {
            browser.sign_in(&shown, "bob", &secret("bob-pw")).await
        } else if page.contains("<form") {
            browser.press(&shown, "accept=Yes").await
        } else {
            break;
        };
    }
    assert_eq!(
        shown.answer.status,
        200,
        "{} {}",
        shown.url,
        shown.answer.text()
    );
}

/// Straight from a provider, as its own client: an access token of bob, for a resource or for nobody in particular.
pub(crate) async fn device_token_of_old(more: &[(&str, &str)]) -> String {
    let host = old_provider().strip_prefix("http://").unwrap().to_owned();
    let fields = [
        ("Host", host.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let post = async |path: &str, pairs: &[(&str, &str)]| -> Value {
        let body = form(&[&[("client_id", "tv")], pairs, more].concat());
        let answer = request(
            host.parse().unwrap(),
            "POST",
            path,
            &fields,
            body.as_bytes(),
        )
        .await;
        serde_json::from_slice(&answer.body).unwrap()
    };
    let started = post("/device/auth", &[("scope", "openid")]).await;
    types_in(&started).await;
    let code = text(&started, "device_code");
    let got = post(
        "/token",
        &[("grant_type", DEVICE_CODE), ("device_code", code)],
    )
    .await;
    text(&got, "access_token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_television_signs_somebody_in_at_either_provider_and_goes_on_where_they_are_moved_to() {
    let upstream = Echo::start().await;
    let proxy = start(&yaml(&upstream.url(), 0, "bridge")).await;
    let begin = async || {
        let answer = ask(&proxy, "television", "device_authorization", &[]).await;
        good(&answer, &proxy)
    };
    let poll = async |started: &Value| {
        let code = text(started, "device_code");
        let pairs = [("grant_type", DEVICE_CODE), ("device_code", code)];
        ask(&proxy, "television", "token", &pairs).await
    };
    let refresh = async |got: &Value| {
        let token = text(got, "refresh_token");
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
        ask(&proxy, "television", "token", &pairs).await
    };
    is_error(&poll(&begin().await).await, "authorization_pending", &proxy);
    let started = begin().await;
    assert!(text(&started, "verification_uri").starts_with(&old_provider()));
    types_in(&started).await;
    let got = good(&poll(&started).await, &proxy);
    let access = text(&got, "access_token");
    let own = claims(access);
    assert_eq!(
        (&own["iss"], &own["sub"], &own["client_id"]),
        (&json!(old_provider()), &json!("1002"), &json!("tv"))
    );
    assert!(is_for(&own, "urn:legacy-api"), "{own}");
    assert_eq!(at_app(&proxy, access).await, 200, "{}", proxy.log());
    assert_eq!(upstream.last().all("x-remote-user"), ["1002"]);
    let got = good(&refresh(&got).await, &proxy);
    assert_eq!(
        claims(text(&got, "access_token"))["iss"],
        json!(old_provider())
    );

    // Moved, the same refresh token gives tokens of Keycloak, and nobody signs in again.
    proxy.edit(&yaml(&upstream.url(), 100, "bridge"));
    until(async || text(&begin().await, "verification_uri").starts_with(&keycloak())).await;
    let got = good(&refresh(&got).await, &proxy);
    let own = claims(text(&got, "access_token"));
    assert_eq!(
        (&own["iss"], &own["legacy_uid"]),
        (&json!(keycloak()), &json!("1002"))
    );
    assert!(is_for(&own, "legacy-api"), "{own}");

    let started = begin().await;
    types_in(&started).await;
    let got = good(&poll(&started).await, &proxy);
    let own = claims(text(&got, "access_token"));
    assert_eq!(
        (&own["iss"], &own["legacy_uid"], &own["azp"]),
        (&json!(keycloak()), &json!("1002"), &json!("tv"))
    );
    let next = good(&refresh(&got).await, &proxy);
    // Two have it: all of it is over, here and there.
    is_error(&poll(&started).await, "invalid_grant", &proxy);
    is_error(&refresh(&next).await, "invalid_grant", &proxy);
    let answer = token("new", "grant_type=client_credentials&client_id=tv").await;
    assert_ne!(
        answer.status, 200,
        "a public client gets nothing for itself there either"
    );
}
