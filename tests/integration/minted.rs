//! What we have minted for a client is a credential where an application takes it: worth what that is worth that it was made of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
use crate::refresh::post;
use crate::reload::until;
use crate::revoke::call;
use crate::revoke::revoke;
use crate::token_endpoint::form;
use crate::token_endpoint::hash;
use crate::token_endpoint::object;
use crate::two_providers;

const TOKEN: &str = "/.authferry/oauth2/token";
const REVOKE: &str = "/.authferry/oauth2/revoke";
const INTROSPECT: &str = "/.authferry/oauth2/introspect";
const SHOP: (&str, &str) = ("shop", "s3cret");
const DESK: (&str, &str) = ("desk", "s3cret");
const HEADERS: [&str; 3] = ["x-remote-user", "x-remote-name", "x-remote-groups"];

pub(crate) struct Stage {
    pub(crate) old: Idp,
    pub(crate) new: Idp,
    pub(crate) upstream: Echo,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let (old, new) = (Idp::start().await, Idp::start().await);
        let ends = now() + 200;
        new.exchanges(json!({ "exp": ends }), json!({ "expires_in": 200 }));
        Self {
            old,
            new,
            upstream: Echo::start().await,
        }
    }

    /// Everybody belongs to the new side.
    pub(crate) fn config(&self) -> String {
        let at = "at: { old: { id: authferry, secret: { env: HARNESS_SECRET } }, new: { id: authferry, secret: { env: HARNESS_SECRET } } }";
        let yaml = two_providers(&self.old, &self.new, &self.upstream, 100).replace(
            "    public_paths: [/public/*]\n",
            "    minted_tokens: [ours, bound]\n    routes: [{ path: /write/*, require: { scopes: [write] } }, { path: /made/*, exchange: ours }, { path: /bound/*, exchange: bound }, { path: /asked/*, exchange: to-new }, { path: /* }]\n",
        );
        format!(
            r#"{yaml}
exchange:
  ours: {{ mint: {{ issuer: "https://ferry.test", audiences: [ours] }} }}
  bound: {{ mint: {{ issuer: "https://ferry.test", audiences: [bound], binding: keep }} }}
  others: {{ mint: {{ issuer: "https://ferry.test", audiences: [others] }} }}
  to-new: {{ token_exchange: {{ provider: new, audiences: [app] }} }}
token_endpoint:
  app: crm
  origin: https://app.test
  audiences: {{ ours: {{ exchanges: [ours] }}, bound: {{ exchanges: [bound] }}, others: {{ exchanges: [others] }} }}
  clients:
    shop: {{ secret_hashes: ["{hash}"], grants: [token_exchange], audiences: [ours, others], scopes: [read] }}
    desk: {{ secret_hashes: ["{hash}"], grants: [token_exchange], audiences: [ours], scopes: [read], introspect: true }}
    batch: {{ secret_hashes: ["{hash}"], grants: [client_credentials], audiences: [bound], scopes: [read], {at} }}
server:
  listen: 127.0.0.1:0
  admin: {{ listen: 127.0.0.1:0, socket: {{dir}}/admin.sock, token: {{ file: {{dir}}/admin.token }} }}
  state_dir: {{dir}}/state
"#,
            hash = hash("s3cret"),
        )
    }

    pub(crate) async fn starts(&self) -> Proxy {
        let proxy = Proxy::start(&(self.config() + "sessions: { store: embedded }\n"));
        proxy.settled().await;
        proxy
    }

    /// The headers about the person, as the application got them last.
    fn told(&self) -> Vec<Vec<String>> {
        let seen = self.upstream.last();
        HEADERS.iter().map(|name| seen.all(name)).collect()
    }
}

/// A token of somebody that may read and write.
pub(crate) fn subject(idp: &Idp, name: &str) -> String {
    let mut claims = idp.claims(name);
    claims.insert("scope".to_owned(), json!("read write"));
    claims.insert("groups".to_owned(), json!(["users", "Größe/a"]));
    idp.sign(&claims)
}

/// A client exchanges a token.
pub(crate) async fn exchange(
    proxy: &Proxy,
    client: (&str, &str),
    token: &str,
    audience: &str,
) -> Answer {
    let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
    let pairs = [
        ("grant_type", grant),
        ("subject_token", token),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("audience", audience),
    ];
    post(proxy, client, TOKEN, &pairs).await
}

/// What the client gets for a token.
pub(crate) async fn exchanged(proxy: &Proxy, token: &str, audience: &str) -> String {
    let answer = exchange(proxy, SHOP, token, audience).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let got = object(&answer);
    got["access_token"].as_str().unwrap().to_owned()
}

/// A request with a token, and with proofs of a key.
async fn asks(proxy: &Proxy, path: &str, scheme: &str, token: &str, proofs: &[String]) -> Answer {
    let value = format!("{scheme} {token}");
    let mut fields = vec![("Host", "app.test"), ("Authorization", &*value)];
    fields.extend(proofs.iter().map(|proof| ("DPoP", proof.as_str())));
    request(proxy.address, "GET", path, &fields, b"").await
}

/// An operator takes a signing key out.
pub(crate) fn withdraws(proxy: &Proxy, kid: &str) {
    let socket = proxy.dir().join("admin.sock");
    let at = [
        "keys",
        "--socket",
        socket.to_str().unwrap(),
        "withdraw",
        kid,
    ];
    let words = [&at[..], &["--reason", "leaked", "--confirm"]].concat();
    crate::control::good(proxy.dir(), &words);
}

async fn at(proxy: &Proxy, path: &str, token: &str) -> u16 {
    asks(proxy, path, "Bearer", token, &[]).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_uses_what_it_was_given_for_a_token_of_either_side() {
    let stage = Stage::new().await;
    let proxy = stage.starts().await;
    for (idp, name) in [(&stage.old, "alice"), (&stage.new, "bob")] {
        let token = subject(idp, name);
        assert_eq!(at(&proxy, "/write/x", &token).await, 200);
        let told = stage.told();
        assert_eq!(told[0], [format!("uid-{name}")]);
        let minted = exchanged(&proxy, &token, "ours").await;
        // The second time it is kept.
        for _twice in 0..2 {
            let answer = call(&proxy, &minted).await;
            assert_eq!(answer.status, 200, "{}", proxy.log());
            assert_eq!(stage.told(), told);
        }
        // It does what it says, not what the first one does.
        let answer = asks(&proxy, "/write/x", "Bearer", &minted, &[]).await;
        assert_eq!(answer.status, 403);
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("insufficient_scope"), "{challenge}");
        // A route that mints has it from the person; one that shows the provider a token has none to show.
        assert_eq!(at(&proxy, "/made/x", &minted).await, 200);
        assert_eq!(stage.told(), told);
        let passed = stage.upstream.last().all("authorization");
        assert_ne!(passed, [format!("Bearer {minted}")]);
        let asked = stage.new.hits("/token");
        assert_eq!(at(&proxy, "/asked/x", &minted).await, 403);
        assert_eq!(stage.new.hits("/token"), asked);
        // For somebody else it is nothing here, nor is what only an upstream was given.
        let other = exchanged(&proxy, &token, "others").await;
        assert_eq!(call(&proxy, &other).await.status, 401);
        assert_eq!(at(&proxy, "/made/x", &token).await, 200);
        let upstreams = stage.upstream.last().all("authorization").remove(0);
        let upstreams = upstreams.strip_prefix("Bearer ").unwrap();
        let answer = call(&proxy, upstreams).await;
        assert_eq!(answer.status, 401);
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
}

/// A machine is who its provider says, and proves its key with every request.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_uses_what_is_bound_to_its_key() {
    let stage = Stage::new().await;
    let proxy = stage.starts().await;
    let holder = Holder::new();
    let basic = format!("Basic {}", STANDARD.encode("batch:s3cret"));
    let proof = holder.proof(
        ("POST", "http://app.test/.authferry/oauth2/token"),
        None,
        &json!({}),
    );
    let fields = [
        ("Host", "app.test"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", &*basic),
        ("DPoP", &*proof),
    ];
    let body = form(&[
        ("grant_type", "client_credentials"),
        ("audience", "bound"),
        ("scope", "read"),
    ]);
    let answer = request(proxy.address, "POST", TOKEN, &fields, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let got = object(&answer);
    let token = got["access_token"].as_str().unwrap();
    assert_eq!(got["token_type"], json!("DPoP"));
    let used = |of: &Holder| {
        let of = of.proof(("GET", "http://app.test/x"), Some(token), &json!({}));
        vec![of]
    };
    for _twice in 0..2 {
        let answer = asks(&proxy, "/x", "DPoP", token, &used(&holder)).await;
        assert_eq!(answer.status, 200, "{}", proxy.log());
        assert_eq!(stage.told()[0], ["uid-service"]);
    }
    for (scheme, proofs) in [
        ("DPoP", used(&Holder::new())),
        ("DPoP", Vec::new()),
        ("Bearer", used(&holder)),
        ("Bearer", Vec::new()),
    ] {
        let answer = asks(&proxy, "/x", scheme, token, &proofs).await;
        assert_eq!(answer.status, 401, "{scheme}");
    }
}

/// RFC 9449: the application gets what is bound to the same key, and nothing where that is not proved.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_to_a_key_is_kept_on_the_way_to_the_application() {
    let stage = Stage::new().await;
    let proxy = stage.starts().await;
    let holder = Holder::new();
    let mut claims = stage.old.claims("alice");
    let cnf = json!({ "jkt": holder.thumbprint() });
    claims.insert("cnf".to_owned(), cnf.clone());
    let token = stage.old.sign(&claims);
    let used = |of: &Holder| {
        let here = ("GET", "http://app.test/bound/x");
        vec![of.proof(here, Some(&token), &json!({}))]
    };
    for (proofs, scheme) in [
        (Vec::new(), "DPoP"),
        (used(&Holder::new()), "DPoP"),
        (used(&holder), "Bearer"),
    ] {
        let answer = asks(&proxy, "/bound/x", scheme, &token, &proofs).await;
        assert_eq!(answer.status, 401, "{scheme}");
    }
    assert_eq!(stage.upstream.hits(), 0);
    let answer = asks(&proxy, "/bound/x", "DPoP", &token, &used(&holder)).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let got = stage.upstream.last().all("authorization").remove(0);
    let (_, got) = got.split_once(' ').unwrap();
    let got = crate::token_endpoint::claims(&json!(got));
    assert_eq!(
        (&got["iss"], &got["cnf"]),
        (&json!("https://ferry.test"), &cnf)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_it_ends_it_at_once() {
    let stage = Stage::new().await;
    let mut proxy = stage.starts().await;
    let mut given = Vec::new();
    for name in ["alice", "bob", "carol", "dora"] {
        let token = exchanged(&proxy, &subject(&stage.old, name), "ours").await;
        assert_eq!(call(&proxy, &token).await.status, 200, "{}", proxy.log());
        given.push(token);
    }
    let [back, account, own, last] = &*given else {
        panic!("four of them")
    };
    // Its client gives it back (RFC 7009).
    let answer = post(&proxy, SHOP, REVOKE, &[("token", back)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(call(&proxy, back).await.status, 401);
    // The account that it was made of, which it does not name,
    let issuer = stage.old.issuer();
    let words = ["--account", "bob", "--issuer", &issuer, "--reason", "left"];
    assert!(revoke(&proxy, &words).0);
    assert_eq!(call(&proxy, account).await.status, 401);
    // it itself, by its own name,
    let claims = crate::token_endpoint::claims(&json!(own));
    let jti = claims["jti"].as_str().unwrap();
    let words = [
        "--token",
        jti,
        "--issuer",
        "https://ferry.test",
        "--reason",
        "copied",
    ];
    assert!(revoke(&proxy, &words).0, "{}", proxy.log());
    assert_eq!(call(&proxy, own).await.status, 401);
    assert_eq!(call(&proxy, last).await.status, 200);
    // and also where nothing of it is remembered but what is in the store.
    proxy.signal("KILL");
    proxy.wait();
    proxy.again();
    proxy.settled().await;
    for token in [back, account, own] {
        assert_eq!(call(&proxy, token).await.status, 401);
    }
    assert_eq!(call(&proxy, last).await.status, 200, "{}", proxy.log());
    // The key that signed them all.
    let answer = get(proxy.address, "/.authferry/jwks.json").await;
    let set: Value = serde_json::from_str(&answer.text()).unwrap();
    let kid = set["keys"][0]["kid"].as_str().unwrap();
    withdraws(&proxy, kid);
    assert_eq!(call(&proxy, last).await.status, 401);
    let next = exchanged(&proxy, &subject(&stage.old, "dora"), "ours").await;
    assert_eq!(call(&proxy, &next).await.status, 200, "{}", proxy.log());
}

/// Judged as the token would be that it was made of: while its provider is away it counts, and is over with its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_provider_takes_out_takes_along_what_we_made_of_what_it_had_signed() {
    let stage = Stage::new().await;
    let proxy = stage.starts().await;
    let parent = subject(&stage.old, "alice");
    let kept = exchanged(&proxy, &parent, "ours").await;
    assert_eq!(call(&proxy, &kept).await.status, 200, "{}", proxy.log());
    let other = exchanged(&proxy, &subject(&stage.new, "bob"), "ours").await;
    // What was made of what was made of it,
    let answer = exchange(&proxy, DESK, &kept, "ours").await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let again = object(&answer)["access_token"].as_str().unwrap().to_owned();
    // what a provider gave for it, which comes back,
    let claims = json!({ "exp": now() + 200, "client_id": "authferry", "scope": "read" });
    stage.new.exchanges(claims, json!({ "expires_in": 200 }));
    assert_eq!(at(&proxy, "/asked/x", &parent).await, 200);
    let result = stage.upstream.last().all("authorization").remove(0);
    let result = result.strip_prefix("Bearer ").unwrap();
    assert_ne!(result, parent);
    assert_eq!(call(&proxy, result).await.status, 200, "{}", proxy.log());
    // and, while its provider is away, what nobody has looked at before.
    stage.old.fail_with(Some(503));
    let active = async |token: &str| {
        let answer = post(&proxy, DESK, INTROSPECT, &[("token", token)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        object(&answer)["active"].as_bool().unwrap()
    };
    for token in [&kept, &again, &other] {
        assert_eq!(call(&proxy, token).await.status, 200, "{}", proxy.log());
        assert!(active(token).await);
    }
    stage.old.fail_with(None);
    stage.old.rotate();
    // The set is fetched for the first token of a new key.
    let next = subject(&stage.old, "alice");
    until(async || call(&proxy, &next).await.status == 200).await;
    for token in [&*parent, &*kept, &*again, result] {
        assert_eq!(call(&proxy, token).await.status, 401, "{}", proxy.log());
    }
    assert!(!active(&kept).await && !active(&again).await);
    let answer = exchange(&proxy, DESK, &kept, "ours").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(call(&proxy, &other).await.status, 200, "{}", proxy.log());
    assert!(active(&other).await);
    let next = exchanged(&proxy, &next, "ours").await;
    assert_eq!(call(&proxy, &next).await.status, 200, "{}", proxy.log());
}

/// By name, too: while the provider still has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_provider_that_is_revoked_takes_along_what_we_made_of_what_it_had_signed() {
    let stage = Stage::new().await;
    let proxy = stage.starts().await;
    let parent = subject(&stage.old, "alice");
    let token = exchanged(&proxy, &parent, "ours").await;
    let other = exchanged(&proxy, &subject(&stage.new, "bob"), "ours").await;
    assert_eq!(call(&proxy, &token).await.status, 200, "{}", proxy.log());
    let kid = crate::made::header(&parent)["kid"]
        .as_str()
        .unwrap()
        .to_owned();
    let named = format!("--key={kid}");
    let words = [&*named, "--provider", "old", "--reason", "leaked"];
    let (done, said) = revoke(&proxy, &words);
    assert!(done, "{said}");
    for token in [&parent, &token] {
        assert_eq!(call(&proxy, token).await.status, 401);
    }
    assert_eq!(call(&proxy, &other).await.status, 200, "{}", proxy.log());
}

/// `explain` says whose it is, as the application is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_ours_is_explained_as_what_it_was_made_of() {
    let stage = Stage::new().await;
    let proxy = stage.starts().await;
    let file = proxy.dir().join("token");
    let socket = proxy.dir().join("admin.sock");
    let explained = |token: &str| -> Value {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let words = ["explain", "--format", "json", "--app", "crm", "--socket"];
        let at = [socket.to_str().unwrap(), "--token-file"];
        let words = [&words[..], &at, &[file.to_str().unwrap()]].concat();
        serde_json::from_str(&crate::control::good(proxy.dir(), &words)).unwrap()
    };
    let token = exchanged(&proxy, &subject(&stage.old, "alice"), "ours").await;
    let said = explained(&token);
    assert_eq!(said["judged"], "bearer of old: good");
    assert_eq!(said["subject"], "uid-alice", "{said}");
    let is_over = |token: &str| {
        let said = explained(token);
        let judged = said["judged"].as_str().unwrap();
        assert!(judged.contains("self: "), "{judged}");
        assert!(judged.contains("revoked"), "{judged}");
    };
    let answer = post(&proxy, SHOP, REVOKE, &[("token", &token)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    is_over(&token);
    // Nor does one count whose person is revoked.
    let token = exchanged(&proxy, &subject(&stage.old, "bob"), "ours").await;
    assert_eq!(explained(&token)["judged"], "bearer of old: good");
    let words = ["--subject", "uid-bob", "--reason", "left"];
    assert!(revoke(&proxy, &words).0, "{}", proxy.log());
    is_over(&token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_counts_no_more_has_no_tokens_of_ours_either() {
    let stage = Stage::new().await;
    let all = stage.config();
    let (head, rest) = all.split_once("rollout:\n").unwrap();
    let (_, tail) = rest.split_once("\nexchange:\n").unwrap();
    let at = |mode: &str| {
        format!(
            "{head}rollouts:\n  default: {{ from: old, to: new, apps: [crm], bucketing: {{ salt: test }}, control: pinned, pinned_stage: {mode}, stages: [{{ id: canary, mode: canary }}, {{ id: modern-primary, mode: modern-primary }}, {{ id: modern-only, mode: modern-only }}] }}\nchange: {{ reason: to {mode}, acknowledge: skip, recall: 10 }}\nexchange:\n{tail}sessions: {{ store: embedded }}\n"
        )
    };
    let proxy = Proxy::start(&at("canary"));
    proxy.settled().await;
    let (theirs, hers) = (subject(&stage.old, "alice"), subject(&stage.new, "bob"));
    let old = exchanged(&proxy, &theirs, "ours").await;
    let new = exchanged(&proxy, &hers, "ours").await;
    for token in [&theirs, &hers, &old, &new] {
        assert_eq!(call(&proxy, token).await.status, 200, "{}", proxy.log());
    }
    proxy.edit(&at("modern-only"));
    until(async || call(&proxy, &theirs).await.status == 401).await;
    assert_eq!(call(&proxy, &old).await.status, 401);
    for token in [&hers, &new] {
        assert_eq!(call(&proxy, token).await.status, 200, "{}", proxy.log());
    }
}
