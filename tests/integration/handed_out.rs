//! What a client got for somebody's token: it may give it back, and whatever ends that token ends what was made of it.

use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::now;
use crate::harness::request;
use crate::refresh::post;
use crate::revoke::call;
use crate::revoke::revoke;
use crate::token_endpoint::hash;
use crate::token_endpoint::is_error;
use crate::token_endpoint::object;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const REVOKE: &str = "/.authferry/oauth2/revoke";
const INTROSPECT: &str = "/.authferry/oauth2/introspect";
pub(crate) const SHOP: (&str, &str) = ("shop", "s3cret");
const OTHER: (&str, &str) = ("other", "other");
const BATCH: (&str, &str) = ("batch", "batch");

pub(crate) struct Stage {
    pub(crate) old: Idp,
    pub(crate) new: Idp,
    pub(crate) upstream: Echo,
    pub(crate) proxy: Proxy,
}

/// Everybody belongs to the new side. Neither client is registered at a provider: there, we ask.
pub(crate) async fn stage() -> Stage {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100).replace(
        "    public_paths: [/public/*]\n",
        "    assertion: { header: X-Assertion, issuer: \"https://proxy.test\", ttl: 5m }\n    routes: [{ path: /minted/*, exchange: ours }, { path: /new/*, exchange: to-new }, { path: /* }]\n",
    );
    let proxy = Proxy::start(&format!(
        r#"{yaml}
exchange:
  to-new: {{ token_exchange: {{ provider: new, audiences: [app] }} }}
  to-old: {{ token_exchange: {{ provider: old, audiences: [app] }} }}
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [ours] }} }}
  to-api: {{ token_exchange: {{ provider: new, audiences: [api] }} }}
  back-to-api: {{ token_exchange: {{ provider: old, audiences: [api] }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ app: {{ exchanges: [to-new, to-old] }}, ours: {{ exchanges: [ours] }}, api: {{ exchanges: [to-api, back-to-api] }} }}
  clients:
    batch: {{ secret_hashes: ["{}"], grants: [client_credentials], audiences: [api, app], scopes: [read], introspect: true, at: {{ old: {{ id: svc, secret: {{ env: HARNESS_SECRET }} }}, new: {{ id: svc, secret: {{ env: HARNESS_SECRET }} }} }} }}
    shop: {{ secret_hashes: ["{}"], grants: [token_exchange], audiences: [app, ours, api], scopes: [read], introspect: true }}
    other: {{ secret_hashes: ["{}"], grants: [token_exchange], audiences: [app, ours], scopes: [read], introspect: true }}
sessions: {{ store: embedded }}
server:
  listen: 127.0.0.1:0
  admin: {{ listen: 127.0.0.1:0, socket: {{dir}}/admin.sock, token: {{ file: {{dir}}/admin.token }} }}
  state_dir: {{dir}}/state
"#,
        hash("batch"),
        hash("s3cret"),
        hash("other"),
    ));
    proxy.settled().await;
    // As a provider writes it: the token is for whoever asked there.
    new.exchanges(
        json!({ "client_id": "authferry", "scope": "read", "exp": now() + 200 }),
        json!({ "expires_in": 200 }),
    );
    Stage {
        old,
        new,
        upstream,
        proxy,
    }
}

impl Stage {
    pub(crate) fn subject(&self, name: &str) -> String {
        let mut claims = self.old.claims(name);
        claims.insert("scope".to_owned(), json!("read"));
        self.old.sign(&claims)
    }

    pub(crate) async fn exchanged(&self, token: &str, audience: &str) -> Answer {
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
        post(&self.proxy, SHOP, TOKEN, &pairs).await
    }

    pub(crate) async fn given(&self, token: &str, audience: &str) -> String {
        let answer = self.exchanged(token, audience).await;
        assert_eq!(
            answer.status,
            200,
            "{}\n{}",
            answer.text(),
            self.proxy.log()
        );
        let got = object(&answer);
        got["access_token"].as_str().unwrap().to_owned()
    }

    async fn back(&self, who: (&str, &str), token: &str) -> Answer {
        post(&self.proxy, who, REVOKE, &[("token", token)]).await
    }

    pub(crate) async fn said(&self, token: &str) -> Value {
        let answer = post(&self.proxy, SHOP, INTROSPECT, &[("token", token)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Value::Object(object(&answer))
    }

    fn revoke(&self, name: &str) {
        let issuer = self.old.issuer();
        let account = ["--account", name, "--issuer", &issuer, "--reason", "left"];
        let (done, said) = revoke(&self.proxy, &account);
        assert!(done, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gives_back_what_it_was_given_for_another_token() {
    let stage = stage().await;
    let (alice, bob) = (stage.subject("alice"), stage.subject("bob"));
    let (given, other) = (
        stage.given(&alice, "app").await,
        stage.given(&bob, "app").await,
    );
    assert_eq!(call(&stage.proxy, &given).await.status, 200);
    is_error(&stage.back(OTHER, &given).await, 400, "unauthorized_client");
    assert_eq!(call(&stage.proxy, &given).await.status, 200);
    let answer = stage.back(SHOP, &given).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(call(&stage.proxy, &given).await.status, 401);
    assert_eq!(stage.said(&given).await, json!({ "active": false }));
    let all = ["--provider", "old", "--plan"];
    let (_, said) = revoke(&stage.proxy, &all);
    assert!(said.contains(" and 1 access token would end"), "{said}");
    // Nothing else is over.
    for token in [&alice, &other] {
        assert_eq!(call(&stage.proxy, token).await.status, 200);
    }
    // One that says the same, and was never handed out here, is nobody's.
    let mut claims = stage.new.claims("alice");
    claims.insert("client_id".to_owned(), json!("authferry"));
    let foreign = stage.new.sign(&claims);
    is_error(
        &stage.back(SHOP, &foreign).await,
        400,
        "unauthorized_client",
    );
    assert_eq!(call(&stage.proxy, &foreign).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_a_token_ends_what_was_made_of_it() {
    let stage = stage().await;
    let known = stage.given(&stage.subject("bob"), "app").await;
    let fresh = stage.given(&stage.subject("bob"), "app").await;
    let minted = stage.given(&stage.subject("bob"), "ours").await;
    let other = stage.given(&stage.subject("carol"), "app").await;
    assert_eq!(call(&stage.proxy, &known).await.status, 200);
    assert_eq!(stage.said(&minted).await["active"], json!(true));
    let plan = |issuer: &str, name: &str| {
        let plan = ["--account", name, "--issuer", issuer, "--plan"];
        revoke(&stage.proxy, &plan).1
    };
    let (theirs, ours) = (stage.old.issuer(), "https://app.test/.authferry/oauth2");
    let said = plan(&theirs, "bob");
    assert!(
        said.starts_with("0 running sessions and 3 access tokens would end"),
        "{said}"
    );
    let said = plan(ours, "shop");
    assert!(
        said.starts_with("0 running sessions and 4 access tokens would end"),
        "{said}"
    );
    // Of the account that the exchanged ones do not name.
    stage.revoke("bob");
    // What is over already does not end again.
    let said = plan(ours, "shop");
    assert!(
        said.starts_with("0 running sessions and 1 access token would end"),
        "{said}"
    );
    for token in [&known, &fresh] {
        assert_eq!(call(&stage.proxy, token).await.status, 401);
    }
    for token in [&known, &fresh, &minted] {
        assert_eq!(stage.said(token).await, json!({ "active": false }));
    }
    assert_eq!(call(&stage.proxy, &other).await.status, 200);
    // The client itself, by its name here.
    let here = ["--account", "shop", "--issuer"];
    let here = [&here[..], &["https://app.test/.authferry/oauth2"]].concat();
    let (done, said) = revoke(&stage.proxy, &[&here[..], &["--reason", "copied"]].concat());
    assert!(done, "{said}");
    assert_eq!(call(&stage.proxy, &other).await.status, 401);
}

/// What the switch takes nothing of any more has no children either.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_of_a_quarantined_token_is_good_for_nothing() {
    let stage = stage().await;
    let parent = stage.subject("bob");
    let minted = stage.given(&parent, "ours").await;
    let theirs = stage.new.token("carol");
    let other = stage.given(&theirs, "ours").await;
    for token in [&parent, &minted, &other] {
        assert_eq!(stage.said(token).await["active"], json!(true));
    }
    let dir = stage.proxy.dir().to_owned();
    let kill = async |position: &'static str| {
        let dir = dir.clone();
        let typed = move || {
            let mut program = Command::new(env!("CARGO_BIN_EXE_authferry"));
            program
                .args(["ctl", "--socket"])
                .arg(dir.join("admin.sock"));
            program.args(["kill", position, "--reason", "INC-1"]);
            let done = program.output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        tokio::task::spawn_blocking(typed).await.unwrap();
    };
    kill("modern").await;
    for token in [&parent, &minted] {
        assert_eq!(stage.said(token).await, json!({ "active": false }));
    }
    assert_eq!(stage.said(&other).await["active"], json!(true));
    kill("off").await;
    assert_eq!(stage.said(&minted).await["active"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_minted_for_a_client_is_known_and_can_be_given_back() {
    let mut stage = stage().await;
    let minted = stage.given(&stage.subject("alice"), "ours").await;
    let said = stage.said(&minted).await;
    for (name, value) in [
        ("active", json!(true)),
        ("client_id", json!("shop")),
        ("iss", json!("https://ferry.test")),
        ("sub", json!("uid-alice")),
        ("aud", json!("ours")),
        ("scope", json!("read")),
        ("token_type", json!("Bearer")),
    ] {
        assert_eq!(said[name], value, "{name} {said}");
    }
    let another = stage.given(&stage.subject("alice"), "ours").await;
    is_error(
        &stage.back(OTHER, &minted).await,
        400,
        "unauthorized_client",
    );
    assert_eq!(stage.said(&minted).await["active"], json!(true));
    // The bytes are what counts: with others it is none of ours.
    let changed = minted.replacen("eyJ", "eyK", 1);
    assert_eq!(stage.said(&changed).await, json!({ "active": false }));
    for _twice in 0..2 {
        let answer = stage.back(SHOP, &minted).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(stage.said(&minted).await, json!({ "active": false }));
    }
    stage.proxy.signal("KILL");
    stage.proxy.wait();
    stage.proxy.again();
    stage.proxy.settled().await;
    assert_eq!(stage.said(&minted).await, json!({ "active": false }));
    assert_eq!(stage.said(&another).await["active"], json!(true));

    // An upstream has it from us without having asked: it may ask about it, and whoever brings it back as theirs is told that it is not.
    let bearer = format!("Bearer {}", stage.subject("dora"));
    let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
    let answer = request(stage.proxy.address, "GET", "/minted/x", &fields, b"").await;
    assert_eq!(answer.status, 200, "{}", stage.proxy.log());
    let got = stage.upstream.last().all("authorization").remove(0);
    let upstream = got.strip_prefix("Bearer ").unwrap();
    let said = stage.said(upstream).await;
    for (name, value) in [
        ("active", json!(true)),
        ("iss", json!("https://ferry.test")),
        ("sub", json!("uid-dora")),
        ("aud", json!("ours")),
        ("client_id", json!("tests")),
    ] {
        assert_eq!(said[name], value, "{name} {said}");
    }
    let answer = stage.back(SHOP, upstream).await;
    is_error(&answer, 400, "unsupported_token_type");
    // It ends with what it was made of.
    stage.revoke("dora");
    assert_eq!(stage.said(upstream).await, json!({ "active": false }));
}

/// What came of it is kept, and counts no more: whoever asks again gets another one, and not that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_given_back_what_it_got_gets_another_one() {
    let stage = stage().await;
    let alice = stage.subject("alice");
    for audience in ["app", "ours"] {
        let first = stage.given(&alice, audience).await;
        assert_eq!(stage.given(&alice, audience).await, first, "it is kept");
        let answer = stage.back(SHOP, &first).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let second = stage.given(&alice, audience).await;
        assert_ne!(second, first);
        assert_eq!(stage.given(&alice, audience).await, second, "it is kept");
        assert_eq!(stage.said(&second).await["active"], json!(true));
        assert_eq!(stage.said(&first).await, json!({ "active": false }));
    }
    let same = json!({ "access_token": stage.new.sign(&stage.new.claims("bob")), "scope": "read", "expires_in": 200 });
    stage.new.exchanges(json!({}), same);
    let bob = stage.subject("bob");
    let first = stage.given(&bob, "app").await;
    assert_eq!(stage.back(SHOP, &first).await.status, 200);
    // A provider that gives the same again has no other one.
    is_error(&stage.exchanged(&bob, "app").await, 400, "invalid_target");
}

/// The client may have a token, and is told when to come again: its provider gives none but what it gave back.
fn waits(answer: &Answer) {
    is_error(answer, 503, "temporarily_unavailable");
    let after = answer.header("retry-after").unwrap();
    let after: u64 = after.parse().unwrap();
    assert!((100..=301).contains(&after), "{after}");
}

/// A provider that gives a machine the same token until that ends, and ends none: what was given back stays over.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_gave_its_own_token_back_waits_until_its_provider_has_another_one() {
    let stage = stage().await;
    let own = |jti: &str| {
        let mut own = stage.new.claims("service");
        for (name, value) in [("scope", "read"), ("client_id", "svc"), ("jti", jti)] {
            own.insert(name.to_owned(), json!(value));
        }
        own.insert("exp".to_owned(), json!(now() + 200));
        stage.new.sign(&own)
    };
    let always = |token: &str| {
        let answer = json!({ "access_token": token, "expires_in": 200 });
        stage.new.exchanges(json!({}), answer);
    };
    let asks = async || {
        let pairs = [
            ("grant_type", "client_credentials"),
            ("audience", "app"),
            ("scope", "read"),
        ];
        post(&stage.proxy, BATCH, TOKEN, &pairs).await
    };
    stage.new.revokes_none();
    let first = own("first");
    always(&first);
    let got = asks().await;
    assert_eq!(got.status, 200, "{}\n{}", got.text(), stage.proxy.log());
    assert_eq!(object(&got)["access_token"], json!(first));
    assert_eq!(call(&stage.proxy, &first).await.status, 200);
    let answer = stage.back(BATCH, &first).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(call(&stage.proxy, &first).await.status, 401);
    for _twice in 0..2 {
        waits(&asks().await);
    }
    assert_eq!(call(&stage.proxy, &first).await.status, 401);
    // Another one is had as soon as there is one.
    let second = own("second");
    always(&second);
    let got = asks().await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(object(&got)["access_token"], json!(second));
    assert_eq!(call(&stage.proxy, &second).await.status, 200);
    assert_eq!(call(&stage.proxy, &first).await.status, 401);
}

/// What a client gets for somebody else than the application is given back, and asked about, like what is for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_an_audience_that_the_application_is_not_is_known_and_can_be_given_back() {
    let stage = stage().await;
    let alice = stage.subject("alice");
    let given = stage.given(&alice, "api").await;
    let other = stage.given(&stage.subject("bob"), "api").await;
    assert_eq!(call(&stage.proxy, &given).await.status, 401);
    let said = stage.said(&given).await;
    for (name, value) in [
        ("active", json!(true)),
        ("iss", json!(stage.new.issuer())),
        ("aud", json!("api")),
        ("client_id", json!("authferry")),
    ] {
        assert_eq!(said[name], value, "{name} {said}");
    }
    // Nobody else is told of it, and nobody else ends it.
    let pairs = [("token", &*given)];
    let answer = post(&stage.proxy, OTHER, INTROSPECT, &pairs).await;
    assert_eq!(
        Value::Object(object(&answer)),
        json!({ "active": false }),
        "it is for none of theirs"
    );
    is_error(&stage.back(OTHER, &given).await, 400, "unauthorized_client");
    is_error(&stage.back(BATCH, &given).await, 400, "unauthorized_client");
    assert!(stage.new.revoked().is_empty());
    assert_eq!(stage.given(&alice, "api").await, given, "it is kept");
    let answer = stage.back(SHOP, &given).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stage.said(&given).await, json!({ "active": false }));
    assert_eq!(stage.new.revoked(), [given.as_str()]);
    let next = stage.given(&alice, "api").await;
    assert_ne!(next, given);
    for token in [&next, &other] {
        assert_eq!(stage.said(token).await["active"], json!(true));
    }
    // It ends with what it was made of.
    stage.revoke("bob");
    assert_eq!(stage.said(&other).await, json!({ "active": false }));
    // One that says the same, and is nobody's here.
    let foreign = |audience: &str, client: &str| {
        let mut claims = stage.new.claims("alice");
        claims.insert("aud".to_owned(), json!(audience));
        claims.insert("client_id".to_owned(), json!(client));
        stage.new.sign(&claims)
    };
    for (token, error) in [
        (foreign("api", "authferry"), "unauthorized_client"),
        (foreign("else", "authferry"), "unsupported_token_type"),
    ] {
        assert_eq!(stage.said(&token).await, json!({ "active": false }));
        is_error(&stage.back(SHOP, &token).await, 400, error);
    }
    // What says itself that it is over is over, whoever it was for.
    let mut claims = stage.new.claims("alice");
    claims.insert("aud".to_owned(), json!("else"));
    claims.insert("exp".to_owned(), json!(now() - 700));
    let over = stage.new.sign(&claims);
    assert_eq!(stage.back(SHOP, &over).await.status, 200);
    // What nobody else can end, its provider is asked to: it knows whose it is.
    let told = foreign("else", "svc");
    assert_eq!(stage.back(BATCH, &told).await.status, 200);
    assert_eq!(stage.new.revoked(), [given, told]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_got_for_itself_for_another_audience_is_known_and_can_be_given_back() {
    let stage = stage().await;
    let changed = json!({ "client_id": "svc", "exp": now() + 200 });
    stage.new.exchanges(changed, json!({ "expires_in": 200 }));
    let own = async || {
        let pairs = [("grant_type", "client_credentials"), ("audience", "api")];
        let answer = post(&stage.proxy, BATCH, TOKEN, &pairs).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        object(&answer)["access_token"].as_str().unwrap().to_owned()
    };
    let (first, second) = (own().await, own().await);
    for token in [&first, &second] {
        let said = stage.said(token).await;
        assert_eq!(said["active"], json!(true), "{}", stage.proxy.log());
        assert_eq!(said["client_id"], json!("svc"));
    }
    is_error(&stage.back(SHOP, &first).await, 400, "unauthorized_client");
    assert_eq!(stage.back(BATCH, &first).await.status, 200);
    assert_eq!(stage.new.revoked(), [first.as_str()]);
    assert_eq!(stage.said(&first).await, json!({ "active": false }));
    assert_eq!(stage.said(&second).await["active"], json!(true));
    // Its name here ends it too, as far as anybody asks us.
    let here = ["--account", "batch", "--issuer"];
    let here = [&here[..], &["https://app.test/.authferry/oauth2"]].concat();
    let (done, said) = revoke(&stage.proxy, &[&here[..], &["--reason", "copied"]].concat());
    assert!(done, "{said}");
    assert_eq!(stage.said(&second).await, json!({ "active": false }));
}

/// A minute of tolerance is for clocks and for registrations whose tokens live a minute, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_exchange_gave_is_not_exchanged_for_something_that_outlives_it() {
    let stage = stage().await;
    let ends = now() + 200;
    let given = stage.given(&stage.subject("alice"), "app").await;
    let longer = |by: u64| json!({ "client_id": "authferry", "scope": "read", "exp": ends + by, "iat": now() });
    stage
        .new
        .exchanges(longer(40), json!({ "expires_in": 200 }));
    let answer = stage.exchanged(&given, "app").await;
    is_error(&answer, 400, "invalid_target");
    // The first of them may.
    let mut claims = stage.old.claims("bob");
    claims.insert("scope".to_owned(), json!("read"));
    claims.insert("exp".to_owned(), json!(ends));
    let first = stage.old.sign(&claims);
    stage.given(&first, "app").await;
    // Whoever it names: nobody, and it is known all the same.
    let nameless =
        |by: u64| json!({ "client_id": null, "scope": "read", "exp": ends + by, "iat": now() });
    stage
        .new
        .exchanges(nameless(0), json!({ "expires_in": 200 }));
    let given = stage.given(&stage.subject("dora"), "app").await;
    stage
        .new
        .exchanges(nameless(40), json!({ "expires_in": 200 }));
    is_error(&stage.exchanged(&given, "app").await, 400, "invalid_target");
    // As long as it lives, no longer.
    let given = {
        stage.new.exchanges(longer(0), json!({ "expires_in": 100 }));
        stage.given(&stage.subject("carol"), "app").await
    };
    stage.new.exchanges(longer(0), json!({ "expires_in": 90 }));
    stage.given(&given, "app").await;
}
