//! What a client asks our token endpoint is a span beside its event, and every key that it took is counted.

use serde_json::json;

use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::refresh::endpoint;
use crate::refresh::good;
use crate::refresh::post;
use crate::refresh::refresh;
use crate::reload::until;
use crate::two_providers;

const INTROSPECT: &str = "/.authferry/oauth2/introspect";
const REVOKE: &str = "/.authferry/oauth2/revoke";

fn holds(body: &[u8], part: &str) -> bool {
    body.windows(part.len())
        .any(|window| window == part.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_client_has_a_span_that_names_nobody_and_each_key_is_counted() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let collector = Echo::start().await;
    let traces = format!(
        "telemetry: {{ traces: {{ otlp: \"{}/v1/traces\", sample_percent: 100 }},",
        collector.url()
    );
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s");
    let proxy = Proxy::start(&yaml.replacen("telemetry: {", &traces, 1));
    proxy.settled().await;
    for idp in [&old, &new] {
        let ends = crate::harness::now() + 200;
        idp.exchanges(json!({ "exp": ends }), json!({ "expires_in": 200 }));
    }
    let (_, token) = good(&refresh(&proxy, &old.refresh_token("alice")).await);
    let pairs = [("token", &*token)];
    let answer = post(&proxy, ("other", "other"), INTROSPECT, &pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = post(&proxy, ("mobile", "wrong"), INTROSPECT, &pairs).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    let answer = post(&proxy, ("mobile", "s3cret"), REVOKE, &pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let spans = ["refresh_token", "introspection", "revocation"].map(|g| format!("token {g}"));
    let said = async || {
        let seen = collector.seen();
        let bodies = seen.iter().flat_map(|one| one.body.iter().copied());
        bodies.collect::<Vec<u8>>()
    };
    until(async || {
        let body = said().await;
        spans.iter().all(|name| holds(&body, name))
    })
    .await;
    let body = said().await;
    for word in [
        "authferry.client",
        "mobile",
        "bad_credentials",
        "POST crm",
        "issued",
        "revoked",
    ] {
        assert!(holds(&body, word), "{word}");
    }
    for name in ["alice", &token] {
        assert!(!holds(&body, name), "{name}");
    }
    // What stands behind the refresh token was sealed, and opened for each question about it.
    let metrics = crate::harness::get(proxy.admin, "/metrics").await.text();
    let uses = |how: &str| -> f64 {
        let is = format!("use=\"{how}\",purpose=\"refresh_family\"}}");
        let lines = metrics.lines().filter(|line| {
            line.starts_with("authferry_key_uses_total{key=\"") && line.contains(&is)
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    assert!(1.0 <= uses("seal") && 2.0 <= uses("open"), "{metrics}");
    let log = proxy.log();
    let first = log
        .lines()
        .filter(|line| line.contains("first time since the start"))
        .filter(|line| line.contains("refresh_family"));
    assert_eq!(
        first.count(),
        2,
        "one line for each, not for each use\n{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_what_it_never_did_is_told_of() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s");
    let proxy = Proxy::start(&(yaml + crate::limits::TRUSTING));
    proxy.settled().await;
    let ask = async |from: &str, grant: &str| {
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "tv:tv");
        let basic = format!("Basic {basic}");
        let fields = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", &*basic),
            ("X-Forwarded-For", from),
        ];
        let body = crate::token_endpoint::form(&[("grant_type", grant)]);
        let path = "/.authferry/oauth2/token";
        crate::harness::request(proxy.address, "POST", path, &fields, body.as_bytes()).await
    };
    let counted = async |kind: &str| {
        let series = format!("authferry_token_anomalies_total{{kind=\"{kind}\"}}");
        proxy.metric(&series).await
    };
    let told = |kind: &str| {
        let log = proxy.log();
        let lines = log.lines().filter(|line| {
            line.contains("A client does what it never did.") && line.contains(kind)
        });
        lines.count()
    };
    // It may have tokens for refresh tokens, and for devices.
    assert_eq!(ask("192.0.2.7", "refresh_token").await.status, 400);
    assert_eq!(
        counted("unusual_grant").await + counted("new_address_family").await,
        0.0
    );
    assert_eq!(ask("192.0.2.7", "client_credentials").await.status, 400);
    assert_eq!(counted("unusual_grant").await, 1.0);
    // The other kind of network is news once.
    for _ in 0..2 {
        assert_eq!(ask("2001:db8::7", "refresh_token").await.status, 400);
    }
    assert_eq!(counted("new_address_family").await, 1.0);
    assert_eq!((told("unusual_grant"), told("new_address_family")), (1, 1));
    assert!(!proxy.log().contains("2001:db8::7"), "no address");
}
