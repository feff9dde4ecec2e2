//! Our own token endpoint: clients keep it while they and their people are moved, and get no more than they may have.

use authferry::token::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Holder;
use crate::harness::Idp;
use crate::harness::PATIENCE;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::now;
use crate::harness::request;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const INTROSPECT: &str = "/.authferry/oauth2/introspect";
const ISSUER: &str = "https://app.test/.authferry/oauth2";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

struct Stage {
    old: Idp,
    new: Idp,
    proxy: Proxy,
    key: SigningKey,
}

pub(crate) fn hash(secret: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

async fn stage(percent: u32) -> Stage {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let key = SigningKey::generate().unwrap();
    let at = "at: { old: { id: authferry, secret: { env: HARNESS_SECRET } }, new: { id: authferry, secret: { env: HARNESS_SECRET } } }";
    let yaml = format!(
        r#"{}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [api], unreadable: accept }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [api] }} }}
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [ours], actor: ferry, names_client: true, binding: keep }} }}
telemetry: {{ access_log: {{ file: {{dir}}/access.log }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ api: {{ exchanges: [to-new, to-old] }}, ours: {{ exchanges: [ours] }} }}
  clients:
    batch: {{ secret_hashes: ["{}", "{}"], grants: [token_exchange, client_credentials], audiences: [api, ours], scopes: [read, write], introspect: true, {at} }}
    signer: {{ keys: {{ keys: [{}] }}, grants: [client_credentials], audiences: [api], scopes: [read], {at} }}
    bare: {{ secret_hashes: ["{}"], grants: [token_exchange, client_credentials], audiences: [api], {at} }}
    poor: {{ secret_hashes: ["{}"], max_life: 60s, grants: [token_exchange], audiences: [api, ours], scopes: [read] }}
"#,
        two_providers(&old, &new, &upstream, percent),
        hash("s3cret"),
        hash("next"),
        key.public_jwk(),
        hash("bare"),
        hash("poor"),
    );
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    Stage {
        old,
        new,
        proxy,
        key,
    }
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

impl Stage {
    async fn post(&self, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let fields = [&[kind], fields].concat();
        request(self.proxy.address, "POST", path, &fields, body.as_bytes()).await
    }

    /// The first event about a grant, once it is written.
    async fn event(&self, grant: &str) -> Value {
        let start = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.proxy.dir().join("access.log"));
            let log = log.unwrap_or_default();
            let lines = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let is = |line: &Value| line["event"] == "decision.token" && line["grant"] == grant;
            if let Some(line) = lines.into_iter().find(is) {
                return line;
            }
            assert!(start.elapsed() < PATIENCE, "{log}");
            tokio::task::yield_now().await;
        }
    }

    async fn as_client(&self, who: (&str, &str), path: &str, pairs: &[(&str, &str)]) -> Answer {
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", who.0, who.1)));
        self.post(path, &[("Authorization", &basic)], &form(pairs))
            .await
    }

    async fn exchange(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let pairs = [
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let pairs = [&pairs[..], more].concat();
        self.as_client(("batch", "s3cret"), TOKEN, &pairs).await
    }

    /// A token of the old provider, with these claims beside the usual ones.
    fn old_token(&self, members: &Value) -> String {
        let mut claims = self.old.claims("alice");
        claims.extend(members.as_object().unwrap().clone());
        self.old.sign(&claims)
    }

    fn assertion(&self, changes: &Value) -> String {
        let claims = json!({ "iss": "signer", "sub": "signer", "aud": ISSUER, "iat": now(), "exp": now() + 60, "jti": "a-1" });
        let mut claims = claims.as_object().unwrap().clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        self.key.sign("JWT", &claims).unwrap()
    }
}

pub(crate) fn object(answer: &Answer) -> Map<String, Value> {
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

#[track_caller]
pub(crate) fn is_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(object(answer)["error"], json!(error));
}

pub(crate) fn claims(token: &Value) -> Map<String, Value> {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_says_where_everything_is() {
    let stage = stage(100).await;
    let path = "/.well-known/oauth-authorization-server/.authferry/oauth2";
    let answer = get(stage.proxy.address, path).await;
    assert_eq!(answer.status, 200);
    let metadata = object(&answer);
    assert_eq!(metadata["issuer"], json!(ISSUER));
    for (name, path) in [
        ("token_endpoint", TOKEN),
        ("introspection_endpoint", INTROSPECT),
        ("revocation_endpoint", "/.authferry/oauth2/revoke"),
    ] {
        assert_eq!(metadata[name], json!(format!("https://app.test{path}")));
    }
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = &metadata[&format!("{endpoint}_endpoint_auth_methods_supported")];
        let methods = methods.as_array().unwrap();
        assert!(methods.contains(&json!("private_key_jwt")), "{methods:?}");
        assert!(
            !methods.contains(&json!("none")),
            "there is no public client"
        );
    }
    let keys = metadata["jwks_uri"].as_str().unwrap();
    let keys = keys.strip_prefix("https://app.test").unwrap();
    let keys: Value = serde_json::from_slice(&get(stage.proxy.address, keys).await.body).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        request(stage.proxy.address, "POST", path, &[], b"")
            .await
            .status,
        405
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_its_endpoint_while_it_and_its_people_move() {
    for percent in [0, 100] {
        let stage = stage(percent).await;
        let (there, other) = match percent {
            0 => (&stage.old, &stage.new),
            _ => (&stage.new, &stage.old),
        };
        for idp in [&stage.old, &stage.new] {
            idp.exchanges(json!({ "exp": now() + 200 }), json!({ "expires_in": 200 }));
        }
        for secret in ["s3cret", "next"] {
            let pairs = [
                ("grant_type", "client_credentials"),
                ("audience", "api"),
                ("scope", "read"),
            ];
            let answer = stage.as_client(("batch", secret), TOKEN, &pairs).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let got = object(&answer);
            assert_eq!(
                (&got["token_type"], &got["scope"]),
                (&json!("Bearer"), &json!("read"))
            );
            let own = claims(&got["access_token"]);
            assert_eq!(own["iss"], json!(there.issuer()));
            assert_eq!(own["aud"], json!("api"));
        }
        // A token of either side becomes one of the side that its person belongs to.
        for from in [&stage.old, &stage.new] {
            let token = from.token("alice");
            let answer = stage.exchange(&token, &[("audience", "api")]).await;
            assert_eq!(
                answer.status,
                200,
                "{}\n{}",
                answer.text(),
                stage.proxy.log()
            );
            let got = object(&answer);
            assert_eq!(got["issued_token_type"], json!(ACCESS_TOKEN));
            assert!(got["expires_in"].as_u64().unwrap() <= 200);
            assert_ne!(got["access_token"], json!(token));
            let own = claims(&got["access_token"]);
            assert_eq!(own["iss"], json!(there.issuer()));
            assert_eq!(
                (&own["uid"], &own["aud"]),
                (&json!("uid-alice"), &json!("api"))
            );
        }
        assert_eq!(other.hits("/token"), 0);
        let line = stage.event("token_exchange").await;
        assert_eq!(
            (&line["oauth_client"], &line["audience"], &line["outcome"]),
            (&json!("batch"), &json!("api"), &json!("issued"))
        );
        assert!(line["subject"].as_str().unwrap().starts_with("p:"));
        assert_eq!(line["parent"].as_str().unwrap().len(), 16);
        assert!(line["lifetime"].as_u64().unwrap() <= 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_more_than_the_token_or_the_client_may_have() {
    let stage = stage(100).await;
    let scoped = stage.old_token(&json!({ "scope": "read admin", "exp": now() + 100 }));
    let ours = ("audience", "ours");
    // All that both have, for as long as the token lives.
    let answer = stage.exchange(&scoped, &[ours]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = object(&answer);
    let own = claims(&got["access_token"]);
    assert_eq!(
        (&got["scope"], &own["scope"]),
        (&json!("read"), &json!("read"))
    );
    assert_eq!(own["iss"], json!("https://ferry.test"));
    assert!(own["exp"].as_u64().unwrap() <= now() + 100);
    assert!(got["expires_in"].as_u64().unwrap() <= 100);
    // What only the token has, what only the client has, what nobody has, and no list.
    for wider in ["admin", "write", "read write", "root", "read  read"] {
        let answer = stage.exchange(&scoped, &[ours, ("scope", wider)]).await;
        is_error(&answer, 400, "invalid_scope");
    }
    // A client with a shorter life.
    let pairs = [
        ("grant_type", EXCHANGE),
        ("subject_token", &scoped),
        ("subject_token_type", ACCESS_TOKEN),
        ours,
    ];
    let answer = stage.as_client(("poor", "poor"), TOKEN, &pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        claims(&object(&answer)["access_token"])["exp"]
            .as_u64()
            .unwrap()
            <= now() + 60
    );
    // A provider whose token lives longer than the one presented, or can do more.
    let api = ("audience", "api");
    let longer = json!({ "exp": now() + 3_000 });
    stage.new.exchanges(longer, json!({ "expires_in": 3_000 }));
    is_error(
        &stage.exchange(&scoped, &[api]).await,
        400,
        "invalid_target",
    );
    // One that nobody can read is held to what is said of it, and there must be a word.
    for (number, life) in [json!(50), json!(null)].into_iter().enumerate() {
        let opaque = json!({ "access_token": "opaque", "expires_in": life });
        stage.new.exchanges(json!({}), opaque);
        let token = stage.old_token(&json!({ "scope": "read", "jti": format!("opaque-{number}") }));
        let answer = stage.exchange(&token, &[api]).await;
        if life.is_null() {
            is_error(&answer, 400, "invalid_target");
        } else {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let wider = json!({ "exp": now() + 50, "scope": "read write" });
    stage.new.exchanges(wider, json!({ "expires_in": 50 }));
    let other = stage.old_token(&json!({ "scope": "read", "jti": "other" }));
    is_error(&stage.exchange(&other, &[api]).await, 400, "invalid_target");
    // The same for a client's own token.
    let pairs = [("grant_type", "client_credentials"), api];
    let own = stage.as_client(("batch", "s3cret"), TOKEN, &pairs).await;
    assert_eq!(own.status, 200, "{}", own.text());
    let wider = json!({ "scope": "read admin" });
    stage.new.exchanges(wider, json!({}));
    let own = stage.as_client(("batch", "s3cret"), TOKEN, &pairs).await;
    is_error(&own, 400, "invalid_scope");
    // A provider that does not know a scope will not know it later.
    stage.new.refuses_exchanges("invalid_scope");
    let own = stage.as_client(("batch", "s3cret"), TOKEN, &pairs).await;
    is_error(&own, 400, "invalid_scope");
    stage.new.refuses_exchanges("");
    let longer = json!({ "exp": now() + 3_000 });
    stage.new.exchanges(longer, json!({ "expires_in": 3_000 }));
    let own = stage.as_client(("batch", "s3cret"), TOKEN, &pairs).await;
    is_error(&own, 400, "invalid_target");
    // A client that may have no scope asks for none: what nobody can read and nothing is said of may do anything.
    let exchange = |token: &str| {
        let subject = ("subject_token", token.to_owned());
        let kind = ("subject_token_type", ACCESS_TOKEN.to_owned());
        vec![("grant_type", EXCHANGE.to_owned()), subject, kind]
    };
    let opaque = |scope: Option<&str>| match scope {
        Some(scope) => json!({ "access_token": "opaque", "expires_in": 50, "scope": scope }),
        None => json!({ "access_token": "opaque", "expires_in": 50 }),
    };
    let own = || vec![("grant_type", "client_credentials".to_owned())];
    for (number, (scope, error)) in [
        (None, Some(("invalid_scope", "invalid_target"))),
        (Some("read"), Some(("invalid_scope", "invalid_target"))),
        (Some(""), None),
    ]
    .into_iter()
    .enumerate()
    {
        stage.new.exchanges(json!({}), opaque(scope));
        let token = stage.old_token(&json!({ "scope": "admin", "jti": format!("bare-{number}") }));
        for (asked, error) in [
            (own(), error.map(|error| error.0)),
            (exchange(&token), error.map(|error| error.1)),
        ] {
            let pairs = asked.iter().map(|(name, value)| (*name, &**value));
            let pairs: Vec<_> = pairs.chain([api]).collect();
            let answer = stage.as_client(("bare", "bare"), TOKEN, &pairs).await;
            match error {
                Some(error) => is_error(&answer, 400, error),
                None => assert_eq!(answer.status, 200, "{scope:?} {}", answer.text()),
            }
        }
    }
    for audience in ["else", "nobody", ""] {
        let pairs = [("grant_type", "client_credentials"), ("audience", audience)];
        let answer = stage.as_client(("batch", "s3cret"), TOKEN, &pairs).await;
        let error = if audience.is_empty() {
            "invalid_request"
        } else {
            "invalid_target"
        };
        is_error(&answer, 400, error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_presented_token_is_judged_first() {
    let stage = stage(100).await;
    let good = stage.old.claims("alice");
    let changed = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims.insert(name.to_owned(), value);
        claims
    };
    let stranger = Idp::start().await;
    for bad in [
        stage.old.sign(&changed("aud", json!("other"))),
        stage.old.sign(&changed("exp", json!(now() - 100))),
        stage
            .old
            .sign(&changed("cnf", json!({ "jkt": "A".repeat(43) }))),
        stage.old.sign_as("JWT", &good),
        stranger.sign(&good),
        stranger.token("alice"),
        "x".to_owned(),
        String::new(),
        "a b".to_owned(),
    ] {
        for audience in ["api", "ours"] {
            let answer = stage.exchange(&bad, &[("audience", audience)]).await;
            is_error(&answer, 400, "invalid_request");
        }
    }
    let token = stage.old.token("alice");
    for more in [
        &[("audience", "api"), ("actor_token", "x")][..],
        &[
            ("audience", "api"),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:refresh_token",
            ),
        ],
        &[("audience", "api"), ("audience", "ours")],
        &[("audience", "api"), ("scope", "read"), ("scope", "read")],
        &[],
    ] {
        is_error(&stage.exchange(&token, more).await, 400, "invalid_request");
    }
    let more = [("audience", "api"), ("resource", "https://api.test")];
    is_error(&stage.exchange(&token, &more).await, 400, "invalid_target");
    assert_eq!(stage.new.hits("/token"), 0);
    // A provider that is away is an outage, not a refusal.
    stage.new.fail_with(Some(500));
    let answer = stage.exchange(&token, &[("audience", "api")]).await;
    is_error(&answer, 503, "temporarily_unavailable");
    assert!(answer.header("retry-after").is_some());
}

/// RFC 9449 §5: what a token is bound to is proved with the request, and what is minted of it is bound to the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_exchanged_by_whoever_holds_its_key_for_one_that_is_bound_too() {
    let stage = stage(100).await;
    let (holder, other) = (Holder::new(), Holder::new());
    let bound = stage.old_token(&json!({ "cnf": { "jkt": holder.thumbprint() } }));
    let here = ("POST", "http://app.test/.authferry/oauth2/token");
    let ask = async |token: &str, audience: &str, proofs: &[&str]| {
        let basic = format!("Basic {}", STANDARD.encode("batch:s3cret"));
        let mut fields = vec![("Host", "app.test"), ("Authorization", &*basic)];
        fields.extend(proofs.iter().map(|proof| ("DPoP", *proof)));
        let pairs = form(&[
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", audience),
        ]);
        stage.post(TOKEN, &fields, &pairs).await
    };
    let proof = |of: &Holder| of.proof(here, None, &json!({}));
    let kind = |answer: &Answer| {
        let got = object(answer);
        let bound = claims(&got["access_token"]).get("cnf").cloned();
        (got["token_type"].clone(), bound)
    };
    let cnf = Some(json!({ "jkt": holder.thumbprint() }));
    let used = proof(&holder);
    let answer = ask(&bound, "ours", &[&used]).await;
    assert_eq!(
        answer.status,
        200,
        "{}\n{}",
        answer.text(),
        stage.proxy.log()
    );
    assert_eq!(kind(&answer), (json!("DPoP"), cnf.clone()));
    // One that is bound to nothing becomes one that is.
    let plain = stage.old.token("alice");
    let answer = ask(&plain, "ours", &[&proof(&holder)]).await;
    assert_eq!(kind(&answer), (json!("DPoP"), cnf));
    let answer = ask(&plain, "ours", &[]).await;
    assert_eq!(kind(&answer), (json!("Bearer"), None));
    let again = (
        holder.proof(here, None, &json!({})),
        other.proof(here, None, &json!({})),
    );
    let mine = || holder.proof(here, None, &json!({}));
    for (token, audience, proofs, error) in [
        // Another key, none, and an audience whose tokens are bound to nothing.
        (&bound, "ours", vec![proof(&other)], "invalid_request"),
        (&bound, "ours", vec![], "invalid_request"),
        (&bound, "api", vec![proof(&holder)], "invalid_request"),
        // Who proves to hold a key gets no token that is good without it.
        (&plain, "api", vec![proof(&holder)], "invalid_request"),
        // What holds for no request, or for another one, or came before.
        (&bound, "ours", vec![used], "invalid_dpop_proof"),
        (&bound, "ours", vec![again.0, again.1], "invalid_dpop_proof"),
        (&plain, "ours", vec!["x".to_owned()], "invalid_dpop_proof"),
        (
            &bound,
            "ours",
            vec![holder.proof(("GET", here.1), None, &json!({}))],
            "invalid_dpop_proof",
        ),
        (
            &bound,
            "ours",
            vec![holder.proof(("POST", "http://app.test/other"), None, &json!({}))],
            "invalid_dpop_proof",
        ),
        (
            &bound,
            "ours",
            vec![holder.proof(here, None, &json!({ "iat": now() - 600 }))],
            "invalid_dpop_proof",
        ),
        (
            &bound,
            "ours",
            vec![mine().replacen("eyJ", "eyK", 1)],
            "invalid_dpop_proof",
        ),
    ] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        is_error(&ask(token, audience, &proofs).await, 400, error);
    }
    let path = "/.well-known/oauth-authorization-server/.authferry/oauth2";
    let metadata = object(&get(stage.proxy.address, path).await);
    let algorithms = metadata["dpop_signing_alg_values_supported"].as_array();
    assert!(
        algorithms.unwrap().contains(&json!("ES256")),
        "{metadata:?}"
    );
}

/// RFC 8693 §4.4, §5: who exchanges is the client that asks. What it gets says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_acts_for_somebody_only_where_it_is_the_one_that_may() {
    let stage = stage(100).await;
    let ask = async |who: (&str, &str), token: &str| {
        let pairs = [
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", "ours"),
        ];
        stage.as_client(who, TOKEN, &pairs).await
    };
    let (batch, poor) = (("batch", "s3cret"), ("poor", "poor"));
    let old = stage.old.issuer();
    for (number, (may_act, by_batch, by_poor)) in [
        // A name without an issuer is one of its provider: ours need not be the same party.
        (json!({ "sub": "batch" }), false, false),
        (json!({ "sub": "authferry" }), true, false),
        (json!({ "sub": "batch", "iss": ISSUER }), true, false),
        (json!({ "sub": "poor", "iss": ISSUER }), false, true),
        // As its provider calls it, which knows only one of the two.
        (json!({ "sub": "authferry", "iss": old }), true, false),
        (json!({ "sub": "batch", "iss": old }), false, false),
        // What is for ourselves is not for whoever asks us.
        (json!({ "sub": "ferry" }), false, false),
        (json!("batch"), false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let claims = json!({ "may_act": may_act, "scope": "read", "jti": format!("may-{number}") });
        let token = stage.old_token(&claims);
        for (who, may) in [(batch, by_batch), (poor, by_poor)] {
            let answer = ask(who, &token).await;
            if may {
                assert_eq!(answer.status, 200, "{may_act} {}", answer.text());
            } else {
                is_error(&answer, 400, "invalid_target");
            }
        }
    }
    let token = stage.old_token(&json!({ "scope": "read", "act": { "sub": "bot" } }));
    for who in [batch, poor] {
        let got = object(&ask(who, &token).await);
        let own = claims(&got["access_token"]);
        assert_eq!(own["client_id"], json!(who.0));
        let act = json!({ "sub": who.0, "iss": ISSUER, "act": { "sub": "bot" } });
        assert_eq!(own["act"], act);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_prove_to_be_a_client_gets_nothing() {
    let stage = stage(100).await;
    let own = [
        ("grant_type", "client_credentials"),
        ("audience", "api"),
        ("scope", "read"),
    ];
    for who in [
        ("batch", "wrong"),
        ("batch", ""),
        ("nobody", "s3cret"),
        ("poor", "s3cret"),
        ("signer", ""),
    ] {
        let answer = stage.as_client(who, TOKEN, &own).await;
        is_error(&answer, 401, "invalid_client");
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Basic ")
        );
    }
    let post = |more: &[(&str, &str)]| form(&[&own[..], more].concat());
    for body in [
        post(&[]),
        post(&[("client_id", "batch")]),
        post(&[("client_id", "batch"), ("client_secret", "wrong")]),
    ] {
        let answer = stage.post(TOKEN, &[], &body).await;
        is_error(&answer, 401, "invalid_client");
    }
    let body = post(&[("client_id", "batch"), ("client_secret", "s3cret")]);
    assert_eq!(stage.post(TOKEN, &[], &body).await.status, 200);
    // Two proofs, two names, one in the address, another method, no form.
    let basic = format!("Basic {}", STANDARD.encode("batch:s3cret"));
    let basic = [("Authorization", basic.as_str())];
    is_error(
        &stage.post(TOKEN, &basic, &body).await,
        401,
        "invalid_client",
    );
    let other = post(&[("client_id", "poor")]);
    is_error(
        &stage.post(TOKEN, &basic, &other).await,
        401,
        "invalid_client",
    );
    let twice = format!("{}&audience=api", post(&[]));
    is_error(
        &stage.post(TOKEN, &basic, &twice).await,
        400,
        "invalid_request",
    );
    let asked = format!("{TOKEN}?{body}");
    is_error(
        &stage.post(&asked, &[], &body).await,
        400,
        "invalid_request",
    );
    let answer = get(stage.proxy.address, &asked).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = request(stage.proxy.address, "POST", TOKEN, &basic, body.as_bytes()).await;
    is_error(&answer, 400, "invalid_request");
    // Grants that the client may not have, or nobody has.
    let grant = |grant| [("grant_type", grant), ("audience", "api")];
    let may_not = grant("client_credentials");
    let answer = stage.as_client(("poor", "poor"), TOKEN, &may_not).await;
    is_error(&answer, 400, "unauthorized_client");
    for unknown in ["password", "authorization_code"] {
        let answer = stage
            .as_client(("poor", "poor"), TOKEN, &grant(unknown))
            .await;
        is_error(&answer, 400, "unsupported_grant_type");
    }
    assert_eq!(stage.new.hits("/token"), 1, "one was good");
    let metrics = get(stage.proxy.admin, "/metrics").await.text();
    let counted =
        r#"authferry_token_requests_total{grant="client_credentials",outcome="issued"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_is_good_once_for_us_and_for_a_short_time() {
    let stage = stage(100).await;
    let ask = async |assertion: &str| {
        let body = form(&[
            ("grant_type", "client_credentials"),
            ("audience", "api"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
        ]);
        stage.post(TOKEN, &[], &body).await
    };
    let good = stage.assertion(&json!({}));
    assert_eq!(ask(&good).await.status, 200);
    is_error(&ask(&good).await, 401, "invalid_client");
    let endpoint = json!({ "jti": "a-2", "aud": format!("https://app.test{TOKEN}") });
    assert_eq!(ask(&stage.assertion(&endpoint)).await.status, 200);
    for bad in [
        // The same name in another token.
        json!({ "exp": now() + 61 }),
        json!({ "jti": null }),
        json!({ "jti": "b", "aud": "https://else.test" }),
        json!({ "jti": "b", "aud": stage.new.issuer() }),
        json!({ "jti": "b", "sub": "batch" }),
        json!({ "jti": "b", "iss": "batch", "sub": "batch" }),
        json!({ "jti": "b", "exp": now() - 60, "iat": now() - 120 }),
        json!({ "jti": "b", "exp": now() + 3_600 }),
        json!({ "jti": "b", "exp": null }),
    ] {
        let answer = ask(&stage.assertion(&bad)).await;
        is_error(&answer, 401, "invalid_client");
    }
    // Made before the memory of used ones began, or nobody can say: it may have been used.
    for early in [
        json!({ "jti": "early", "iat": now() - 200 }),
        json!({ "jti": "timeless", "iat": null }),
    ] {
        let answer = ask(&stage.assertion(&early)).await;
        assert_eq!(answer.status, 503, "{early} {}", answer.text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=240).contains(&wait), "{wait}");
        is_error(&ask(&stage.assertion(&early)).await, 401, "invalid_client");
    }
    let stranger = Stage {
        key: SigningKey::generate().unwrap(),
        ..stage
    };
    let body = form(&[
        ("grant_type", "client_credentials"),
        ("audience", "api"),
        ("client_assertion_type", JWT_BEARER),
        (
            "client_assertion",
            &stranger.assertion(&json!({ "jti": "c" })),
        ),
    ]);
    let answer = stranger.post(TOKEN, &[], &body).await;
    is_error(&answer, 401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_both_sides_can_be_asked_about() {
    let stage = stage(100).await;
    for idp in [&stage.old, &stage.new] {
        let token = idp.token("alice");
        let pairs = [("token", token.as_str())];
        let answer = stage
            .as_client(("batch", "s3cret"), INTROSPECT, &pairs)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = object(&answer);
        assert_eq!(
            (&said["active"], &said["iss"], &said["sub"]),
            (&json!(true), &json!(idp.issuer()), &json!("alice"))
        );
        // Its own, whatever is tolerated of clocks and however long the verdict is kept.
        assert_eq!(said["exp"], claims(&json!(token))["exp"], "{said:?}");
    }
    // A bound one is as good, though whoever asks cannot prove to hold what it is bound to: it is told what that is.
    let print = "A".repeat(43);
    for (cnf, kind) in [
        (json!({ "jkt": print }), "DPoP"),
        (json!({ "x5t#S256": print }), "Bearer"),
        (json!({ "jkt": print, "x5t#S256": print }), "DPoP"),
    ] {
        let token = stage.old_token(&json!({ "cnf": cnf }));
        let pairs = [("token", token.as_str())];
        let answer = stage
            .as_client(("batch", "s3cret"), INTROSPECT, &pairs)
            .await;
        let said = object(&answer);
        assert_eq!(
            (&said["active"], said.get("cnf"), &said["token_type"]),
            (&json!(true), Some(&cnf), &json!(kind)),
            "{cnf}"
        );
    }
    let mut over = stage.old.claims("alice");
    over.insert("exp".to_owned(), json!(now() - 100));
    for bad in [stage.old.sign(&over), "x".to_owned()] {
        let pairs = [("token", bad.as_str())];
        let answer = stage
            .as_client(("batch", "s3cret"), INTROSPECT, &pairs)
            .await;
        assert_eq!(answer.text(), r#"{"active":false}"#);
    }
    let token = stage.old.token("alice");
    let pairs = [("token", token.as_str())];
    let answer = stage.as_client(("poor", "poor"), INTROSPECT, &pairs).await;
    is_error(&answer, 400, "unauthorized_client");
    let answer = stage
        .as_client(("batch", "wrong"), INTROSPECT, &pairs)
        .await;
    is_error(&answer, 401, "invalid_client");
}
