//! Clients that prove nothing (RFC 6749 §2.1): they name themselves, get what a person signed in for, and nothing more.

use serde_json::Value;
use serde_json::json;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Holder;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::now;
use crate::harness::request;
use crate::limits::TRUSTING;
use crate::refresh::good;
use crate::refresh::post;
use crate::token_endpoint::claims;
use crate::token_endpoint::form;
use crate::token_endpoint::hash;
use crate::token_endpoint::is_error;
use crate::token_endpoint::object;
use crate::two_providers;

pub(crate) const TOKEN: &str = "/.authferry/oauth2/token";
const REVOKE: &str = "/.authferry/oauth2/revoke";
pub(crate) const INTROSPECT: &str = "/.authferry/oauth2/introspect";
pub(crate) const DEVICE: &str = "/.authferry/oauth2/device_authorization";
pub(crate) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

pub(crate) struct Stage {
    pub(crate) old: Idp,
    new: Idp,
    pub(crate) proxy: Proxy,
    _upstream: Echo,
}

/// A television, a telephone with tokens of its old provider, another client without proof and one with.
pub(crate) async fn stage(percent: u32, more: &str) -> Stage {
    stage_of(percent, 200, more).await
}

/// The same, where each client may ask so often in a minute.
async fn stage_of(percent: u32, often: u32, more: &str) -> Stage {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let ours = "{ id: authferry, secret: { env: HARNESS_SECRET } }";
    let public = "{ id: public, auth: none }";
    let yaml = format!(
        r#"{}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [app] }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [app] }} }}
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [ours], binding: keep }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ app: {{ exchanges: [to-new, to-old] }}, ours: {{ exchanges: [ours] }} }}
  limits: {{ client: {often} }}
  clients:
    tv: {{ auth: none, grants: [device_code, refresh_token], audiences: [app], scopes: [read], at: {{ old: {public}, new: {ours} }} }}
    phone: {{ auth: none, grants: [refresh_token], audiences: [app], refresh: {{ adopt: old }}, at: {{ old: {public}, new: {public} }} }}
    api: {{ secret_hashes: ["{}"], grants: [refresh_token], audiences: [app], refresh: {{ adopt: old }}, introspect: true, at: {{ old: {ours} }} }}
    pocket: {{ auth: none, grants: [device_code, refresh_token], audiences: [ours], refresh: {{ adopt: old }}, at: {{ old: {public}, new: {public} }} }}
    worker: {{ secret_hashes: ["{}"], grants: [refresh_token, client_credentials], audiences: [app, ours], refresh: {{ adopt: old }}, at: {{ old: {ours}, new: {ours} }} }}
{more}"#,
        two_providers(&old, &new, &upstream, percent),
        hash("s3cret"),
        hash("worker"),
    );
    let proxy = Proxy::start(&yaml);
    proxy.settled().await;
    for idp in [&old, &new] {
        idp.exchanges(json!({ "exp": now() + 200 }), json!({ "expires_in": 200 }));
    }
    Stage {
        old,
        new,
        proxy,
        _upstream: upstream,
    }
}

impl Stage {
    /// A form that says who asks, with these fields and nothing that proves it.
    pub(crate) async fn send(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        pairs: &[(&str, &str)],
    ) -> Answer {
        let own = [
            ("Host", "app.test"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let fields = [&own, fields].concat();
        let body = form(pairs);
        request(self.proxy.address, "POST", path, &fields, body.as_bytes()).await
    }

    pub(crate) async fn named(&self, client: &str, path: &str, pairs: &[(&str, &str)]) -> Answer {
        let pairs = [&[("client_id", client)], pairs].concat();
        self.send(path, &[], &pairs).await
    }

    async fn refresh(&self, client: &str, token: &str) -> Answer {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.named(client, TOKEN, &pairs).await
    }

    async fn device(&self) -> String {
        let answer = self.named("tv", DEVICE, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        object(&answer)["device_code"].as_str().unwrap().to_owned()
    }

    async fn poll(&self, client: &str, code: &str) -> Answer {
        let pairs = [("grant_type", DEVICE_CODE), ("device_code", code)];
        self.named(client, TOKEN, &pairs).await
    }

    /// Whether a token is good, as somebody says who may ask.
    async fn is_active(&self, token: &str) -> Value {
        let who = ("api", "s3cret");
        let answer = post(&self.proxy, who, INTROSPECT, &[("token", token)]).await;
        object(&answer)["active"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_television_without_a_secret_signs_somebody_in_wherever_it_belongs() {
    for percent in [0, 100] {
        let stage = stage(percent, "").await;
        let (there, other) = match percent {
            0 => (&stage.old, &stage.new),
            _ => (&stage.new, &stage.old),
        };
        let code = stage.device().await;
        is_error(&stage.poll("tv", &code).await, 400, "authorization_pending");
        there.types_in(Some("alice"));
        let code = stage.device().await;
        // The code is all that is secret: it is the television's alone.
        is_error(
            &stage.poll("phone", &code).await,
            400,
            "unauthorized_client",
        );
        let (got, first) = good(&stage.poll("tv", &code).await);
        let own = claims(&got["access_token"]);
        assert_eq!(
            (&own["iss"], &own["uid"]),
            (&json!(there.issuer()), &json!("uid-alice"))
        );
        assert_eq!(got["token_type"], json!("Bearer"));
        assert_eq!(other.hits("/token") + other.hits("/device"), 0);
        // Each is good once (RFC 9700 §4.14.2), and of this client.
        is_error(&stage.refresh("phone", &first).await, 400, "invalid_grant");
        let (_, second) = good(&stage.refresh("tv", &first).await);
        let (_, third) = good(&stage.refresh("tv", &second).await);
        assert_eq!(stage.is_active(&third).await, json!(true));
        is_error(&stage.refresh("tv", &first).await, 400, "invalid_grant");
        is_error(&stage.refresh("tv", &third).await, 400, "invalid_grant");
        assert_eq!(stage.is_active(&third).await, json!(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_gets_nothing_that_its_name_alone_would_be_enough_for() {
    let stage = stage(0, "").await;
    let token = stage.old.token("alice");
    let exchange = [
        ("grant_type", EXCHANGE),
        ("subject_token", &*token),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("audience", "app"),
    ];
    for pairs in [
        &exchange[..],
        &[("grant_type", "client_credentials"), ("audience", "app")],
        &[("grant_type", DEVICE_CODE), ("device_code", "x")],
    ] {
        let answer = stage.named("phone", TOKEN, pairs).await;
        is_error(&answer, 400, "unauthorized_client");
        // A name that is not public is none.
        is_error(
            &stage.named("api", TOKEN, pairs).await,
            401,
            "invalid_client",
        );
    }
    let about = [("token", &*token)];
    let answer = stage.named("tv", INTROSPECT, &about).await;
    is_error(&answer, 400, "unauthorized_client");
    // Nor is there anything that it could prove itself with.
    let mut one = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "x"),
        ("client_id", "tv"),
        ("client_secret", "tv"),
    ];
    is_error(&stage.send(TOKEN, &[], &one).await, 401, "invalid_client");
    one[3].1 = "";
    is_error(&stage.send(TOKEN, &[], &one).await, 400, "invalid_grant");
    let assertion = [
        ("grant_type", "refresh_token"),
        ("client_id", "tv"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &*token),
    ];
    is_error(
        &stage.send(TOKEN, &[], &assertion).await,
        401,
        "invalid_client",
    );
    for (secret, status) in [("", 400), ("tv", 401)] {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", "x")];
        let answer = post(&stage.proxy, ("tv", secret), TOKEN, &pairs).await;
        assert_eq!(answer.status, status, "{secret} {}", answer.text());
    }
    // What strangers do in its name is no sign of anything.
    let metrics = get(stage.proxy.admin, "/metrics").await.text();
    let anomalies = metrics.lines().filter(|line| {
        line.starts_with("authferry_token_anomalies_total{") && !line.ends_with(" 0")
    });
    assert_eq!(anomalies.collect::<Vec<_>>(), Vec::<&str>::new());
    let path = "/.well-known/oauth-authorization-server/.authferry/oauth2";
    let metadata = object(&get(stage.proxy.address, path).await);
    for (endpoint, may) in [
        ("token", true),
        ("revocation", true),
        ("introspection", false),
    ] {
        let methods = &metadata[&format!("{endpoint}_endpoint_auth_methods_supported")];
        let has = methods.as_array().unwrap().contains(&json!("none"));
        assert_eq!(has, may, "{endpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telephone_goes_on_with_what_its_old_provider_gave_it_and_gives_it_back() {
    let stage = stage(100, "").await;
    let theirs = stage.old.refresh_token("alice");
    let (got, first) = good(&stage.refresh("phone", &theirs).await);
    assert_eq!(
        claims(&got["access_token"])["iss"],
        json!(stage.new.issuer()),
        "she has moved"
    );
    let give =
        async |client: &str, token: &str| stage.named(client, REVOKE, &[("token", token)]).await;
    // Of another client it is not.
    is_error(&give("tv", &first).await, 400, "unauthorized_client");
    assert_eq!(stage.is_active(&first).await, json!(true));
    assert_eq!(give("phone", &first).await.status, 200);
    assert_eq!(stage.is_active(&first).await, json!(false));
    is_error(&stage.refresh("phone", &first).await, 400, "invalid_grant");
    // One that was never brought is given back at its provider; we remember nothing of what a stranger says.
    let other = stage.old.refresh_token("bob");
    stage.old.revokes_later(9);
    assert_eq!(give("phone", &other).await.status, 503);
    stage.old.revokes_later(0);
    assert_eq!(stage.refresh("phone", &other).await.status, 200);
    let third = stage.old.refresh_token("carol");
    assert_eq!(give("phone", &third).await.status, 200);
    assert!(stage.old.revoked().contains(&third));
    is_error(&stage.refresh("phone", &third).await, 400, "invalid_grant");
    // Where its provider ends none, nobody is told that it is over.
    stage.old.revokes_none();
    let fourth = stage.old.refresh_token("dora");
    let kept = give("phone", &fourth).await;
    is_error(&kept, 400, "unsupported_token_type");
    assert_eq!(stage.refresh("phone", &fourth).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_a_key_is_judged_with_every_grant_and_never_dropped() {
    let stage = stage(0, "").await;
    let holder = Holder::new();
    let here = ("POST", "http://app.test/.authferry/oauth2/token");
    let ask = async |pairs: &[(&str, &str)], proof: &str| {
        stage.send(TOKEN, &[("DPoP", proof)], pairs).await
    };
    let theirs = stage.old.refresh_token("alice");
    let own = |client: &'static str, token| {
        [
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", token),
        ]
    };
    // What is good without the key is not given to who proves to hold one.
    let phone = own("phone", &*theirs);
    is_error(&ask(&phone, "x").await, 400, "invalid_dpop_proof");
    let proof = holder.proof(here, None, &json!({}));
    is_error(&ask(&phone, &proof).await, 400, "invalid_request");
    is_error(&ask(&phone, &proof).await, 400, "invalid_dpop_proof");
    let (_, first) = good(&stage.refresh("phone", &theirs).await);
    let device = [
        ("grant_type", DEVICE_CODE),
        ("client_id", "tv"),
        ("device_code", &*stage.device().await),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let device: Vec<_> = device
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    let proof = holder.proof(here, None, &json!({}));
    is_error(&ask(&device, &proof).await, 400, "invalid_request");
    // Nothing of it was used up.
    good(&stage.refresh("phone", &first).await);
    // Of one that proves itself: what cannot be bound is not given, and what can be is.
    let theirs = stage.old.refresh_token("bob");
    let api = [&own("api", &theirs)[..], &[("client_secret", "s3cret")]].concat();
    let proof = holder.proof(here, None, &json!({}));
    is_error(&ask(&api, &proof).await, 400, "invalid_request");
    let answer = stage.send(TOKEN, &[], &api).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let secret = ("client_secret", "worker");
    let itself = [
        ("grant_type", "client_credentials"),
        ("client_id", "worker"),
        ("audience", "app"),
        secret,
    ];
    let proof = holder.proof(here, None, &json!({}));
    is_error(&ask(&itself, &proof).await, 400, "invalid_request");
    assert_eq!(stage.send(TOKEN, &[], &itself).await.status, 200);
    let theirs = stage.old.refresh_token("carol");
    let worker = |audience| {
        [
            &own("worker", &theirs)[..],
            &[secret, ("audience", audience)],
        ]
        .concat()
    };
    let proof = holder.proof(here, None, &json!({}));
    is_error(&ask(&worker("app"), &proof).await, 400, "invalid_request");
    let proof = holder.proof(here, None, &json!({}));
    let answer = ask(&worker("ours"), &proof).await;
    assert_eq!(
        answer.status,
        200,
        "{}\n{}",
        answer.text(),
        stage.proxy.log()
    );
    let got = object(&answer);
    assert_eq!(got["token_type"], json!("DPoP"));
    let own = claims(&got["access_token"]);
    assert_eq!(own["cnf"], json!({ "jkt": holder.thumbprint() }));
    // Which audience it is for, its use says each time: it is good, although nothing here says it now.
    let next = got["refresh_token"].as_str().unwrap();
    assert_eq!(stage.is_active(next).await, json!(true));
}

/// Anybody can name a public client: who does so too often shuts nobody else out.
#[tokio::test(flavor = "multi_thread")]
async fn a_public_client_is_counted_by_the_address_that_it_comes_from() {
    let stage = stage(0, TRUSTING).await;
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", "tv"),
        ("refresh_token", "x"),
    ];
    let from = async |address: &str| {
        let field = [("X-Forwarded-For", address)];
        stage.send(TOKEN, &field, &pairs).await.status
    };
    let mut told = false;
    for _ in 0..1_000 {
        if from("192.0.2.1").await == 429 {
            told = true;
            break;
        }
    }
    assert!(told, "nobody was limited");
    assert_eq!(from("192.0.2.2").await, 400);
}

/// What a stranger makes up costs the provider a call each time: it is refused unseen after a while, and the client goes on.
#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_in_a_public_clients_name_spends_its_providers_calls_for_a_while_only() {
    let stage = stage_of(0, 2_000, TRUSTING).await;
    let ask = async |address: &str, token: &str| {
        let field = [("X-Forwarded-For", address)];
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", "phone"),
            ("refresh_token", token),
        ];
        stage.send(TOKEN, &field, &pairs).await
    };
    let mut refused = 0;
    let last = loop {
        let answer = ask("192.0.2.1", &format!("guess-{refused}")).await;
        if answer.status != 400 || refused == 1_500 {
            break answer;
        }
        refused += 1;
    };
    assert_eq!(last.status, 503, "after {refused}: {}", last.text());
    let spent = stage.old.hits("/token");
    let more = ask("192.0.2.1", "another guess").await;
    assert_eq!(more.status, 503, "unseen: {}", more.text());
    assert_eq!(stage.old.hits("/token"), spent);
    // Who guessed is kept out, whoever they say to be; the client is not.
    let theirs = stage.old.refresh_token("alice");
    let answer = ask("192.0.2.2", &theirs).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
