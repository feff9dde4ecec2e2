//! What a client gives back at one of two instances over one real Redis is over at both, and another one takes its place.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::now;
use crate::instances::Redis;
use crate::instances::always_within;
use crate::instances::ready;
use crate::refresh::post;
use crate::reload::until;
use crate::revoke::call;
use crate::token_endpoint::hash;
use crate::token_endpoint::object;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const REVOKE: &str = "/.authferry/oauth2/revoke";
const INTROSPECT: &str = "/.authferry/oauth2/introspect";
const SHOP: (&str, &str) = ("shop", "s3cret");

async fn exchanged(proxy: &Proxy, token: &str, audience: &str) -> String {
    let pairs = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", token),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("audience", audience),
    ];
    let answer = post(proxy, SHOP, TOKEN, &pairs).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let got = object(&answer);
    got["access_token"].as_str().unwrap().to_owned()
}

async fn is_active(proxy: &Proxy, token: &str) -> bool {
    let answer = post(proxy, SHOP, INTROSPECT, &[("token", token)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    object(&answer)["active"] == json!(true)
}

async fn gives_back(proxy: &Proxy, token: &str) {
    let answer = post(proxy, SHOP, REVOKE, &[("token", token)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn subject(idp: &Idp, name: &str) -> String {
    let mut claims = idp.claims(name);
    claims.insert("scope".to_owned(), json!("read"));
    idp.sign(&claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_gives_back_at_one_instance_is_over_at_the_other_within_two_seconds() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let redis = Redis::start();
    let config = format!(
        r#"{}{}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [app] }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [app] }} }}
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [ours] }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ app: {{ exchanges: [to-new, to-old] }}, ours: {{ exchanges: [ours] }} }}
  clients:
    shop: {{ secret_hashes: ["{}"], grants: [token_exchange], audiences: [app, ours], scopes: [read], introspect: true }}
"#,
        two_providers(&old, &new, &upstream, 100),
        redis.shared("5m"),
        hash("s3cret"),
    );
    let claims = json!({ "client_id": "authferry", "scope": "read", "exp": now() + 250 });
    new.exchanges(claims, json!({ "expires_in": 250 }));
    let (mut a, mut b) = (Proxy::start(&config), Proxy::start(&config));
    ready(&a).await;
    ready(&b).await;
    let other = exchanged(&a, &subject(&old, "bob"), "app").await;
    let mut over = Vec::new();
    let what = "RFC 7009 at one of two instances: what was handed out, kept at the other, is refused there";
    always_within(what, Duration::from_secs(2), async |number, beat| {
        let own = subject(&old, &format!("alice{number}"));
        let (given, minted) = (
            exchanged(&a, &own, "app").await,
            exchanged(&a, &own, "ours").await,
        );
        // The second time each is kept.
        for _ in 0..2 {
            for token in [&given, &other] {
                assert_eq!(call(&b, token).await.status, 200, "{}", b.log());
            }
            assert!(is_active(&b, &given).await && is_active(&b, &minted).await);
        }
        gives_back(&a, &given).await;
        let acknowledged = beat.acknowledged();
        until(async || call(&b, &given).await.status == 401 && !is_active(&b, &given).await).await;
        let took = beat.took(acknowledged);
        gives_back(&a, &minted).await;
        let acknowledged = beat.acknowledged();
        until(async || !is_active(&b, &minted).await).await;
        let took = took.max(beat.took(acknowledged));
        assert_eq!(call(&b, &own).await.status, 200, "its parent is not over");
        over.extend([given, minted]);
        took
    })
    .await;
    // Nothing waits for an orderly end, and the first request that is let in afterwards knows.
    for proxy in [&mut a, &mut b] {
        proxy.signal("KILL");
        proxy.wait();
        proxy.again();
        ready(proxy).await;
        for token in &over {
            assert!(!is_active(proxy, token).await, "{}", proxy.log());
            // One that we minted the application takes from nobody.
            assert_eq!(call(proxy, token).await.status, 401, "{}", proxy.log());
        }
        assert_eq!(call(proxy, &other).await.status, 200, "{}", proxy.log());
    }

    // Whichever instance kept what was given back gives another one from that moment on, which is good, and kept in turn.
    let own = subject(&old, "carol");
    for audience in ["app", "ours"] {
        let at_b = exchanged(&b, &own, audience).await;
        assert_eq!(exchanged(&b, &own, audience).await, at_b, "it is kept");
        gives_back(&a, &at_b).await;
        let next = exchanged(&b, &own, audience).await;
        assert_ne!(next, at_b);
        assert!(is_active(&b, &next).await, "{}", b.log());
        assert_eq!(exchanged(&b, &own, audience).await, next, "it is kept");
        let answer = post(&a, SHOP, INTROSPECT, &[("token", &at_b)]).await;
        let said = Value::Object(object(&answer));
        assert_eq!(said, json!({ "active": false }));
    }
}
