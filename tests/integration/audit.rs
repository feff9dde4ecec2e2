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
const DEVICE: &str = "/.authferry/oauth2/device_authorization";

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
    let proxy = Proxy::start(&(yaml.clone() + crate::limits::TRUSTING));
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
    // A new configuration forgets nothing of it.
    let edited = yaml.replace("hosts: [app.test]", "hosts: [app.test, other.test]");
    let applied = "authferry_config_reloads_total{outcome=\"success\"}";
    let before = proxy.metric(applied).await;
    proxy.edit(&(edited + crate::limits::TRUSTING));
    until(async || before < proxy.metric(applied).await).await;
    for from in ["192.0.2.7", "2001:db8::7"] {
        assert_eq!(ask(from, "refresh_token").await.status, 400);
    }
    assert_eq!(counted("new_address_family").await, 1.0);
    // Devices are for those who may have them.
    let answer = post(&proxy, ("mobile", "s3cret"), DEVICE, &[]).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(counted("unusual_grant").await, 2.0);
    // Who is refused again and again is told of once.
    for _ in 0..80 {
        assert_eq!(ask("192.0.2.7", "refresh_token").await.status, 400);
    }
    let spikes = counted("many_refused").await;
    assert!((1.0..=2.0).contains(&spikes), "{spikes}");
    // So is who gives back one token after the other.
    assert_eq!(counted("many_given_back").await, 0.0);
    for _ in 0..80 {
        let answer = post(&proxy, ("tv", "tv"), REVOKE, &[("token", "made-up")]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let spikes = counted("many_given_back").await;
    assert!((1.0..=2.0).contains(&spikes), "{spikes}");
    assert!(1 <= told("many_given_back"));
    assert!(!proxy.log().contains("2001:db8::7"), "no address");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_one_event_whatever_comes_of_it() {
    const TOKEN: &str = "/.authferry/oauth2/token";
    const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
    const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
    const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let at = "at: { old: { id: authferry, secret: { env: HARNESS_SECRET } }, new: { id: authferry, secret: { env: HARNESS_SECRET } } }";
    let all = format!(
        "  clients:\n    all: {{ secret_hashes: [\"{}\"], grants: [token_exchange, client_credentials, refresh_token, device_code], introspect: true, audiences: [app], scopes: [read], refresh: {{ adopt: old }}, {at} }}\n",
        crate::token_endpoint::hash("all")
    );
    let yaml = two_providers(&old, &new, &upstream, 0) + &endpoint("10s");
    let proxy = Proxy::start(&yaml.replacen("  clients:\n", &all, 1));
    proxy.settled().await;
    for idp in [&old, &new] {
        let ends = crate::harness::now() + 200;
        idp.exchanges(json!({ "exp": ends }), json!({ "expires_in": 200 }));
    }
    old.types_in(Some("alice"));
    let who = ("all", "all");
    let (alice, adopted) = (old.token("alice"), old.refresh_token("alice"));
    let started = post(&proxy, who, DEVICE, &[]).await;
    let code = crate::token_endpoint::object(&started)["device_code"].clone();
    let code = code.as_str().unwrap();
    let subject = |token| {
        [
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
        ]
    };
    let grant = |grant, audience: Option<&'static str>, more: &[(&'static str, &str)]| {
        let audience = audience.map(|audience| ("audience", audience));
        let pairs = [("grant_type", grant)].into_iter().chain(audience);
        let pairs = pairs.chain(more.iter().copied());
        pairs
            .map(|(name, value): (&str, &str)| (name.to_owned(), value.to_owned()))
            .collect::<Vec<_>>()
    };
    let app = Some("app");
    let of = |token: &str| vec![("token".to_owned(), token.to_owned())];
    let wide = vec![("scope".to_owned(), "admin".to_owned())];
    let wrong = ("all", "wrong");
    // What each kind says of a good request and of one that is refused.
    let rows = [
        (
            "client_credentials",
            "issued",
            who,
            TOKEN,
            grant("client_credentials", app, &[]),
        ),
        (
            "client_credentials",
            "refused",
            who,
            TOKEN,
            grant("client_credentials", Some("nobody"), &[]),
        ),
        (
            "token_exchange",
            "issued",
            who,
            TOKEN,
            grant(EXCHANGE, app, &subject(&*alice)),
        ),
        (
            "token_exchange",
            "refused",
            who,
            TOKEN,
            grant(EXCHANGE, app, &subject("x")),
        ),
        (
            "refresh_token",
            "issued",
            who,
            TOKEN,
            grant("refresh_token", None, &[("refresh_token", &*adopted)]),
        ),
        (
            "refresh_token",
            "refused",
            who,
            TOKEN,
            grant("refresh_token", None, &[("refresh_token", "afr1_x")]),
        ),
        (
            "device_code",
            "issued",
            who,
            TOKEN,
            grant(DEVICE_CODE, None, &[("device_code", code)]),
        ),
        (
            "device_code",
            "refused",
            who,
            TOKEN,
            grant(DEVICE_CODE, None, &[("device_code", "x")]),
        ),
        ("device_authorization", "refused", who, DEVICE, wide),
        ("introspection", "answered", who, INTROSPECT, of(&alice)),
        ("introspection", "inactive", who, INTROSPECT, of("afr1_x")),
        ("introspection", "refused", wrong, INTROSPECT, of(&alice)),
        ("revocation", "revoked", who, REVOKE, of("its own")),
        ("revocation", "refused", wrong, REVOKE, of(&alice)),
        (
            "none",
            "refused",
            wrong,
            TOKEN,
            grant("client_credentials", app, &[]),
        ),
    ];
    // A client takes back what it was given, and nothing else.
    let mut held = String::new();
    for (kind, outcome, who, path, pairs) in &rows {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = if value == "its own" { &held } else { value };
            (&**name, &**value)
        });
        let answer = post(&proxy, *who, path, &pairs.collect::<Vec<_>>()).await;
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if let Some(given) = said["refresh_token"].as_str() {
            given.clone_into(&mut held);
        }
        let good = *outcome != "refused";
        assert_eq!(answer.status == 200, good, "{kind} {}", answer.text());
    }
    let file = proxy.dir().join("access.log");
    let events = || -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let token = |line: &serde_json::Value| line["event"] == "decision.token";
        lines.filter(token).collect()
    };
    // The device that began, and one for each.
    until(async || rows.len() < events().len()).await;
    let events = events();
    assert_eq!(events.len(), rows.len() + 1, "{events:#?}");
    let metrics = crate::harness::get(proxy.admin, "/metrics").await.text();
    let began = ("device_authorization", "answered");
    let kinds = rows.iter().map(|row| (row.0, row.1)).chain([began]);
    for (kind, outcome) in kinds {
        let is = |line: &&serde_json::Value| line["grant"] == kind && line["outcome"] == outcome;
        let found: Vec<_> = events.iter().filter(is).collect();
        let [line] = found.as_slice() else {
            panic!("{kind} {outcome}: {events:#?}")
        };
        let refused = outcome == "refused";
        let says_why = refused || outcome == "inactive";
        assert_eq!(line["reason"].is_string(), says_why, "{line}");
        if outcome == "revoked" || kind == "introspection" && outcome == "answered" {
            let subject = line["subject"].as_str().unwrap();
            assert!(subject.starts_with("p:"), "{line}");
        }
        assert!(refused || line["oauth_client"] == "all", "{line}");
        if outcome == "issued" {
            assert_eq!(line["audience"], "app", "{line}");
            let lifetime = line["lifetime"].as_u64();
            assert!(
                lifetime.is_some_and(|span| 0 < span && span <= 300),
                "{line}"
            );
        }
        if outcome == "issued" && kind == "client_credentials" {
            assert_eq!(line["scope"], "read", "{line}");
        }
        if outcome == "issued" && kind != "client_credentials" {
            assert!(
                line["subject"].as_str().unwrap().starts_with("p:"),
                "{line}"
            );
        }
        if outcome == "issued" && ["token_exchange", "refresh_token"].contains(&kind) {
            assert_eq!(line["parent"].as_str().unwrap().len(), 16, "{line}");
        }
        let counted =
            format!("authferry_token_requests_total{{grant=\"{kind}\",outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&counted), "{counted}\n{metrics}");
    }
    let log = std::fs::read_to_string(&file).unwrap();
    for secret in ["alice", &alice, &adopted, code] {
        assert!(!log.contains(secret), "{secret}");
    }
    // What a client asked for is not told a second time.
    assert!(!log.contains("decision.exchanged"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_gets_instead_is_one_event_and_a_span() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let collector = Echo::start().await;
    let yaml = two_providers(&old, &new, &upstream, 0).replace(
        "    public_paths: [/public/*]\n",
        "    routes: [{ path: /ours/*, exchange: ours }, { path: /new/*, exchange: to-new }]\n",
    );
    let proxy = Proxy::start(&format!(
        r#"{yaml}
exchange:
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [api] }} }}
  to-new: {{ token_exchange: {{ provider: new, audiences: [api] }} }}
telemetry: {{ access_log: {{ file: {{dir}}/access.log }}, traces: {{ otlp: "{}/v1/traces", sample_percent: 100 }} }}
"#,
        collector.url()
    ));
    proxy.settled().await;
    new.refuses_exchanges("invalid_grant");
    let mut claims = old.claims("alice");
    claims.insert("scope".to_owned(), json!("read"));
    let token = old.sign(&claims);
    let bearer = format!("Bearer {token}");
    for (path, status) in [("/ours/x", 200), ("/new/x", 403)] {
        let fields = [("Authorization", &*bearer)];
        let answer = crate::harness::request(proxy.address, "GET", path, &fields, b"").await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let file = proxy.dir().join("access.log");
    let events = || -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let is = |line: &serde_json::Value| line["event"] == "decision.exchanged";
        lines.filter(is).collect()
    };
    until(async || 2 <= events().len()).await;
    let events = events();
    let of = |exchange: &str| {
        let mut all = events.iter().filter(|line| line["exchange"] == exchange);
        (all.next().unwrap(), all.count())
    };
    let (good, more) = of("ours");
    assert_eq!(more, 0, "{events:?}");
    for (name, value) in [
        ("grant", "mint"),
        ("oauth_client", "tests"),
        ("audience", "api"),
        ("scope", "read"),
        ("outcome", "issued"),
    ] {
        assert_eq!(good[name], value, "{good}");
    }
    assert!(good["lifetime"].as_u64().unwrap() <= 300, "{good}");
    assert_eq!(good["parent"].as_str().unwrap().len(), 16, "{good}");
    assert!(!good["key"].as_str().unwrap().is_empty(), "{good}");
    assert!(
        good["subject"].as_str().unwrap().starts_with("p:"),
        "{good}"
    );
    let (bad, more) = of("to-new");
    assert_eq!(
        (&bad["outcome"], &bad["reason"], &bad["provider"], more),
        (
            &json!("refused"),
            &json!("exchange_refused"),
            &json!("new"),
            0
        )
    );
    assert_eq!(bad["parent"], good["parent"]);
    until(async || {
        let seen = collector.seen();
        let body: Vec<u8> = seen.iter().flat_map(|one| one.body.clone()).collect();
        ["exchange ours", "exchange to-new", "exchange_refused"]
            .iter()
            .all(|word| holds(&body, word))
    })
    .await;
}

/// Nobody's request waits for it, and an outage is one also while what is kept serves.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_ahead_of_an_end_is_told_like_what_somebody_waits_for() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let collector = Echo::start().await;
    let yaml = two_providers(&old, &new, &upstream, 0).replace(
        "    public_paths: [/public/*]\n",
        "    routes: [{ path: /new/*, exchange: to-new }]\n",
    );
    let proxy = Proxy::start(&format!(
        r#"{yaml}
exchange: {{ to-new: {{ token_exchange: {{ provider: new, audiences: [api] }} }} }}
telemetry: {{ access_log: {{ file: {{dir}}/access.log }}, traces: {{ otlp: "{}/v1/traces", sample_percent: 100 }} }}
"#,
        collector.url()
    ));
    proxy.settled().await;
    let life = |seconds: u64| {
        let answer = json!({ "expires_in": seconds });
        new.exchanges(json!({ "scope": "read" }), answer);
    };
    let mut claims = old.claims("alice");
    claims.insert("scope".to_owned(), json!("read"));
    let token = old.sign(&claims);
    let ask = async || {
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", &*bearer)];
        let answer = crate::harness::request(proxy.address, "GET", "/new/x", &fields, b"").await;
        answer.status
    };
    let outcome = |outcome: &str| {
        let series = format!(
            "authferry_exchanges_total{{exchange=\"to-new\",grant=\"token_exchange\",outcome=\"{outcome}\"}} "
        );
        let proxy = &proxy;
        async move { proxy.metric(&series).await }
    };
    life(4);
    let mut asked = 0.0;
    // The second that is issued nobody has waited for, or has waited where the first had ended by then.
    until(async || {
        assert_eq!(ask().await, 200, "{}", proxy.log());
        2.0 <= outcome("issued").await
    })
    .await;
    new.fail_with(Some(503));
    until(async || {
        if ask().await == 503 {
            asked += 1.0;
        }
        asked < outcome("unavailable").await
    })
    .await;
    let file = proxy.dir().join("access.log");
    let told = || -> Vec<String> {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = log.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let is = line["event"] == "decision.exchanged" && line["parent"].is_string();
            is.then(|| line["outcome"].as_str().unwrap_or_default().to_owned())
        });
        lines.collect()
    };
    let count = |what: &str| told().iter().filter(|one| *one == what).count();
    until(async || 2 <= count("issued") && asked < count("unavailable") as f64).await;
    until(async || {
        let seen = collector.seen();
        let body: Vec<u8> = seen.iter().flat_map(|one| one.body.clone()).collect();
        ["exchange to-new", "unavailable"]
            .iter()
            .all(|word| holds(&body, word))
    })
    .await;
}
