//! What clients get for themselves and for tokens that name them: bound to what they prove to hold, and to nobody else's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Holder;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::now;
use crate::harness::request;
use crate::refresh::post;
use crate::reload::until;
use crate::revoke::call;
use crate::token_endpoint::claims;
use crate::token_endpoint::form;
use crate::token_endpoint::hash;
use crate::token_endpoint::is_error;
use crate::token_endpoint::object;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const REVOKE: &str = "/.authferry/oauth2/revoke";
const INTROSPECT: &str = "/.authferry/oauth2/introspect";
const HERE: (&str, &str) = ("POST", "http://app.test/.authferry/oauth2/token");
const BATCH: (&str, &str) = ("batch", "s3cret");

struct Stage {
    old: Idp,
    new: Idp,
    proxy: Proxy,
    _upstream: Echo,
}

async fn stage() -> Stage {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let at = |id: &str| {
        let own = format!("{{ id: {id}, secret: {{ env: HARNESS_SECRET }} }}");
        format!("at: {{ old: {own}, new: {own} }}")
    };
    let yaml = format!(
        r#"{}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [api] }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [api] }} }}
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [ours], binding: keep }} }}
  any: {{ token_exchange: {{ provider: new, audiences: [api], unreadable: accept }} }}
telemetry: {{ access_log: {{ file: {{dir}}/access.log }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ api: {{ exchanges: [to-new, to-old] }}, ours: {{ exchanges: [ours] }} }}
  clients:
    batch: {{ secret_hashes: ["{hash}"], grants: [client_credentials], audiences: [api, ours], scopes: [read, write], introspect: true, {} }}
    shop: {{ secret_hashes: ["{hash}"], grants: [token_exchange], audiences: [ours], subject_tokens: addressed, {} }}
    local: {{ secret_hashes: ["{hash}"], grants: [token_exchange], audiences: [ours], subject_tokens: addressed }}
"#,
        two_providers(&old, &new, &upstream, 100).replace(
            "    public_paths: [/public/*]\n",
            "    routes: [{ path: /read/*, exchange: to-new }, { path: /any/*, exchange: any }, { path: /* }]\n",
        ),
        at("authferry"),
        at("shop-there"),
        hash = hash("s3cret"),
    );
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    let ends = now() + 200;
    new.exchanges(json!({ "exp": ends }), json!({ "expires_in": 200 }));
    Stage {
        old,
        new,
        proxy,
        _upstream: upstream,
    }
}

impl Stage {
    /// What a client gets for itself, with these proofs of a key.
    async fn own(&self, audience: &str, scope: &str, proofs: &[String]) -> Answer {
        let basic = format!("Basic {}", STANDARD.encode("batch:s3cret"));
        let mut fields = vec![
            ("Host", "app.test"),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", &*basic),
        ];
        fields.extend(proofs.iter().map(|proof| ("DPoP", proof.as_str())));
        let pairs = [
            ("grant_type", "client_credentials"),
            ("audience", audience),
            ("scope", scope),
        ];
        let body = form(&pairs);
        request(self.proxy.address, "POST", TOKEN, &fields, body.as_bytes()).await
    }
}

fn proof(of: &Holder) -> Vec<String> {
    vec![of.proof(HERE, None, &json!({}))]
}

/// The provider sees no proof of the client's key: what it gives is bound to nothing, and handed to nobody who proves one.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_proves_a_key_gets_what_we_mint_of_its_token_and_bind_to_that_key() {
    let stage = stage().await;
    let holder = Holder::new();
    let answer = stage.own("ours", "read", &proof(&holder)).await;
    let log = stage.proxy.log();
    assert_eq!(answer.status, 200, "{}\n{log}", answer.text());
    let got = object(&answer);
    assert_eq!(got["token_type"], json!("DPoP"));
    assert!(got["expires_in"].as_u64().unwrap() <= 200, "{got:?}");
    let token = got["access_token"].as_str().unwrap().to_owned();
    let own = claims(&got["access_token"]);
    for (name, value) in [
        ("iss", json!("https://ferry.test")),
        ("aud", json!("ours")),
        ("sub", json!("uid-service")),
        ("client_id", json!("batch")),
        ("scope", json!("read")),
        ("cnf", json!({ "jkt": holder.thumbprint() })),
    ] {
        assert_eq!(own[name], value, "{name} {own:?}");
    }
    // The record names the key that signed it.
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header);
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    let mut line = Value::Null;
    until(async || {
        let log = std::fs::read_to_string(stage.proxy.dir().join("access.log"));
        let log = log.unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let is = |line: &Value| line["event"] == "decision.token";
        line = lines.into_iter().find(is).unwrap_or_default();
        !line.is_null()
    })
    .await;
    assert_eq!(line["key"], header["kid"], "{line}");
    // It can be given back, as whatever a client got.
    let said = object(&post(&stage.proxy, BATCH, INTROSPECT, &[("token", &token)]).await);
    assert_eq!((&said["active"], &said["cnf"]), (&json!(true), &own["cnf"]));
    let back = post(&stage.proxy, BATCH, REVOKE, &[("token", &token)]).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let said = object(&post(&stage.proxy, BATCH, INTROSPECT, &[("token", &token)]).await);
    assert_eq!(said["active"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_proves_a_key_gets_no_token_that_is_good_without_it_and_none_that_does_more()
{
    let stage = stage().await;
    let holder = Holder::new();
    // An audience whose tokens are bound to nothing: its provider is not even asked.
    let asked = stage.new.hits("/token");
    let answer = stage.own("api", "read", &proof(&holder)).await;
    is_error(&answer, 400, "invalid_request");
    let used = proof(&holder);
    let two = [proof(&holder), proof(&Holder::new())].concat();
    for proofs in [vec!["x".to_owned()], two] {
        let answer = stage.own("ours", "read", &proofs).await;
        is_error(&answer, 400, "invalid_dpop_proof");
    }
    assert_eq!(stage.new.hits("/token"), asked);
    assert_eq!(stage.own("ours", "read", &used).await.status, 200);
    let answer = stage.own("ours", "read", &used).await;
    is_error(&answer, 400, "invalid_dpop_proof");
    // Without one it has what its provider gives.
    let plain = object(&stage.own("ours", "read", &[]).await);
    assert_eq!(plain["token_type"], json!("Bearer"));
    let own = claims(&plain["access_token"]);
    assert_eq!(own["iss"], json!(stage.new.issuer()));
    // It does what the provider's does, and nothing is made of one that nobody can read, or that lives for too long.
    let ends = now() + 200;
    let less = json!({ "exp": ends, "scope": "read" });
    stage.new.exchanges(less, json!({ "expires_in": 200 }));
    let got = object(&stage.own("ours", "read write", &proof(&holder)).await);
    assert_eq!(got["scope"], json!("read"));
    for (changed, members, error) in [
        (
            json!({ "exp": ends }),
            json!({ "access_token": "opaque", "scope": "read", "expires_in": 200 }),
            "invalid_target",
        ),
        (
            json!({ "exp": ends, "scope": "read admin" }),
            json!({ "expires_in": 200 }),
            "invalid_scope",
        ),
        (
            json!({ "exp": now() + 1_000 }),
            json!({ "expires_in": 200 }),
            "invalid_target",
        ),
    ] {
        stage.new.exchanges(changed, members);
        let answer = stage.own("ours", "read", &proof(&holder)).await;
        is_error(&answer, 400, error);
    }
    stage.new.refuses_exchanges("invalid_grant");
    let answer = stage.own("ours", "read", &proof(&holder)).await;
    is_error(&answer, 400, "unauthorized_client");
}

/// RFC 8693 §2.1: a token that somebody else was given, for somebody else, is nothing that a client may make its own of.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_exchanges_what_names_it_exchanges_nothing_else() {
    let stage = stage().await;
    for (client, changed, status) in [
        ("shop", json!({}), 400),
        ("shop", json!({ "aud": ["app", "shop-there"] }), 200),
        ("shop", json!({ "client_id": "shop-there" }), 200),
        (
            "shop",
            json!({ "client_id": null, "azp": "shop-there" }),
            200,
        ),
        // Its name here may be somebody else's there.
        (
            "shop",
            json!({ "aud": ["app", "shop"], "client_id": "shop" }),
            400,
        ),
        ("shop", json!({ "aud": ["app", "shop-there2"] }), 400),
        // It has no other name anywhere.
        ("local", json!({ "aud": ["app", "local"] }), 200),
        ("local", json!({ "aud": ["app", "shop-there"] }), 400),
        // Somebody else may be called so there.
        ("local", json!({ "client_id": "local" }), 400),
        ("local", json!({ "client_id": null, "azp": "local" }), 400),
    ] {
        let mut own = stage.old.claims("alice");
        for (name, value) in changed.as_object().unwrap() {
            match value {
                Value::Null => own.remove(name),
                value => own.insert(name.clone(), value.clone()),
            };
        }
        let token = stage.old.sign(&own);
        // Whatever becomes of it there, the application takes it.
        assert_eq!(call(&stage.proxy, &token).await.status, 200, "{changed}");
        let pairs = [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", &*token),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            ("audience", "ours"),
        ];
        let answer = post(&stage.proxy, (client, "s3cret"), TOKEN, &pairs).await;
        assert_eq!(
            answer.status,
            status,
            "{client} {changed} {}",
            answer.text()
        );
        if status == 400 {
            is_error(&answer, 400, "invalid_request");
        }
    }
}

/// Whom an opaque token is about, only its provider knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_can_read_is_used_only_where_that_is_taken() {
    let stage = stage().await;
    let opaque = json!({ "access_token": "opaque", "scope": "read", "expires_in": 100 });
    for (answer, path, status) in [
        (opaque.clone(), "/any/x", 200),
        (opaque, "/read/x", 403),
        (json!({ "expires_in": 100 }), "/read/x", 200),
    ] {
        stage.new.exchanges(json!({ "scope": "read" }), answer);
        let mut own = stage.old.claims("alice");
        own.insert("scope".to_owned(), json!("read"));
        let bearer = format!("Bearer {}", stage.old.sign(&own));
        let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
        let answer = request(stage.proxy.address, "GET", path, &fields, b"").await;
        assert_eq!(answer.status, status, "{path}\n{}", stage.proxy.log());
    }
}

/// What it has given back is over; of the same token of its provider another one is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_gave_back_what_it_got_gets_another_one_of_the_same_token() {
    let stage = stage().await;
    let mut own = stage.new.claims("service");
    for (name, value) in [("aud", "ours"), ("scope", "read")] {
        own.insert(name.to_owned(), json!(value));
    }
    own.insert("exp".to_owned(), json!(now() + 200));
    let always = json!({ "access_token": stage.new.sign(&own), "expires_in": 200 });
    stage.new.exchanges(json!({}), always);
    let holder = Holder::new();
    let mut before = Vec::new();
    for round in 0..3 {
        let answer = stage.own("ours", "read", &proof(&holder)).await;
        let log = stage.proxy.log();
        assert_eq!(answer.status, 200, "{round} {}\n{log}", answer.text());
        let token = object(&answer)["access_token"].as_str().unwrap().to_owned();
        assert!(!before.contains(&token), "{round}");
        let said = object(&post(&stage.proxy, BATCH, INTROSPECT, &[("token", &token)]).await);
        assert_eq!(said["active"], json!(true), "{round}");
        let back = post(&stage.proxy, BATCH, REVOKE, &[("token", &token)]).await;
        assert_eq!(back.status, 200, "{}", back.text());
        before.push(token);
        for token in &before {
            let said = object(&post(&stage.proxy, BATCH, INTROSPECT, &[("token", token)]).await);
            assert_eq!(said["active"], json!(false), "{round}");
        }
    }
}

/// What a verdict rests on is looked at before it is made: a key that left the set while a provider was asked voids the answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_voided_while_a_provider_is_asked_is_made_nothing_of() {
    let stage = stage().await;
    let holder = Holder::new();
    let waits = stage.new.keeps_waiting().await;
    let asked = stage.new.hits("/token");
    let rotated = async {
        until(async || asked < stage.new.hits("/token")).await;
        stage.new.rotate();
        let bob = stage.new.token("bob");
        until(async || call(&stage.proxy, &bob).await.status == 200).await;
        drop(waits);
    };
    let proofs = proof(&holder);
    let (answer, ()) = tokio::join!(stage.own("ours", "read", &proofs), rotated);
    is_error(&answer, 400, "invalid_request");
    let answer = stage.own("ours", "read", &proof(&holder)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
