//! What an upstream gets in place of a credential comes back as one of its own: it ends with what it was made of.

use serde_json::Value;
use serde_json::json;

use crate::control::records;
use crate::handed_out::SHOP;
use crate::handed_out::Stage;
use crate::handed_out::stage;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::now;
use crate::harness::request;
use crate::login::Browser;
use crate::refresh::post;
use crate::reload::until;
use crate::revoke::call;
use crate::revoke::revoke;
use crate::token_endpoint::claims;
use crate::two_providers;

/// What the upstream got last, in place of what was presented.
fn got(upstream: &Echo) -> String {
    let value = upstream.last().all("authorization").remove(0);
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

async fn through(stage: &Stage, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
    let answer = request(stage.proxy.address, "GET", "/new/x", &fields, b"").await;
    assert_eq!(answer.status, 200, "{}", stage.proxy.log());
    got(&stage.upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_got_ends_with_the_token_that_it_was_made_of() {
    let stage = stage().await;
    let issuer = stage.old.issuer();
    let of = |name: &str| {
        let mut claims = stage.old.claims(name);
        claims.insert("scope".to_owned(), json!("read"));
        claims.insert("jti".to_owned(), json!(format!("jti-{name}")));
        claims.insert("sid".to_owned(), json!(format!("sid-{name}")));
        claims.insert("client_id".to_owned(), json!(format!("client-{name}")));
        stage.old.sign(&claims)
    };
    let other = through(&stage, &of("zoe")).await;
    for (name, by, value) in [
        ("ann", "--account", "ann"),
        ("ben", "--token", "jti-ben"),
        ("cid", "--sid", "sid-cid"),
        ("dan", "--client", "client-dan"),
    ] {
        let parent = of(name);
        let (first, second) = (
            through(&stage, &parent).await,
            through(&stage, &parent).await,
        );
        assert_eq!(first, second, "it is kept");
        assert_eq!(call(&stage.proxy, &first).await.status, 200);
        let whose = match by {
            "--client" => ["--provider", "old"],
            _ => ["--issuer", &*issuer],
        };
        let said = [&[by, value][..], &whose, &["--reason", "left"]].concat();
        let (done, words) = revoke(&stage.proxy, &said);
        assert!(done, "{words}");
        assert_eq!(call(&stage.proxy, &first).await.status, 401, "{by}");
    }
    // Nobody here was given it: no client of ours ends it, or is told of it.
    let pairs = [("token", &*other)];
    let back = post(&stage.proxy, SHOP, "/.authferry/oauth2/revoke", &pairs).await;
    assert_eq!(back.status, 400, "{}", back.text());
    assert_eq!(call(&stage.proxy, &other).await.status, 200);
    let key = header(&of("zoe"))["kid"].as_str().unwrap().to_owned();
    // Its name may begin with a dash.
    let named = format!("--key={key}");
    let said = [&*named, "--provider", "old", "--reason", "leaked"];
    let (done, words) = revoke(&stage.proxy, &said);
    assert!(done, "{words}");
    assert_eq!(call(&stage.proxy, &other).await.status, 401);
    let unnoted = "authferry_exchanges_unnoted_total{exchange=\"to-new\"}";
    assert_eq!(stage.proxy.metric(unnoted).await, 0.0);
}

/// What a provider signs with a key that is revoked goes to no upstream and to no client, also where it was kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_revoked_itself_is_not_handed_on() {
    let stage = stage().await;
    let proxy = &stage.proxy;
    let parent = stage.subject("alice");
    let bearer = format!("Bearer {parent}");
    let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
    let on = async || request(proxy.address, "GET", "/new/x", &fields, b"").await;
    let first = through(&stage, &parent).await;
    assert_eq!(through(&stage, &parent).await, first, "it is kept");
    let own = claims(&json!(first));
    let jti = own["jti"].as_str().unwrap();
    let issuer = stage.new.issuer();
    let said = ["--token", jti, "--issuer", &issuer, "--reason", "copied"];
    let (done, words) = revoke(proxy, &said);
    assert!(done, "{words}");
    let next = through(&stage, &parent).await;
    assert_ne!(next, first, "another one is had");
    for token in [&next, &parent] {
        assert_eq!(call(proxy, token).await.status, 200);
    }
    let key = header(&next)["kid"].as_str().unwrap().to_owned();
    // Its name may begin with a dash.
    let named = format!("--key={key}");
    let said = [&*named, "--provider", "new", "--reason", "leaked"];
    let (done, words) = revoke(proxy, &said);
    assert!(done, "{words}");
    // The provider still signs with it.
    let (hits, asked) = (stage.upstream.hits(), stage.new.hits("/token"));
    for _ in 0..9 {
        assert_eq!(on().await.status, 403, "{}", proxy.log());
    }
    assert_eq!(stage.upstream.hits(), hits);
    assert!(
        stage.new.hits("/token") <= asked + 3,
        "it is asked now and then"
    );
    assert_eq!(call(proxy, &parent).await.status, 200, "hers is good");
    let answer = stage.exchanged(&parent, "app").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    stage.new.rotate();
    until(async || on().await.status == 200).await;
    assert_ne!(header(&got(&stage.upstream))["kid"], json!(key));
}

/// A provider that does not say when it has issued a token has done so after it was asked: it is no older than the question.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_does_not_say_how_old_it_is_outlives_no_revocation_and_is_refused_for_none_of_before()
 {
    let stage = stage().await;
    let proxy = &stage.proxy;
    let claims = json!({ "iat": null, "client_id": "authferry", "scope": "read" });
    stage.new.exchanges(claims, json!({}));
    let parent = stage.subject("alice");
    let first = through(&stage, &parent).await;
    assert_eq!(through(&stage, &parent).await, first, "it is kept");
    let (done, said) = revoke(proxy, &["--provider", "new", "--reason", "INC-1"]);
    assert!(done, "{said}");
    let next = through(&stage, &parent).await;
    assert_ne!(next, first);
    assert_eq!(through(&stage, &parent).await, next, "it is kept");
}

/// What a provider gives in the second in which everything of it was revoked looks older than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_the_second_of_a_revocation_is_waited_for_and_refuses_nobody() {
    let stage = stage().await;
    let proxy = &stage.proxy;
    let bearer = format!("Bearer {}", stage.subject("alice"));
    let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
    let on = async || request(proxy.address, "GET", "/new/x", &fields, b"").await;
    assert_eq!(on().await.status, 200, "{}", proxy.log());
    let said = [
        "--provider",
        "new",
        "--reason",
        "a rollback",
        "--confirm",
        "9",
    ];
    let (done, words) = revoke(proxy, &said);
    assert!(done, "{words}");
    let hits = stage.upstream.hits();
    // Its clock is behind: however long somebody waits, it is not the next one.
    stage.new.exchanges(json!({ "iat": now() - 60 }), json!({}));
    let answer = on().await;
    assert_eq!(answer.status, 503, "{}", proxy.log());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(stage.upstream.hits(), hits);
    let log = proxy.log();
    assert!(
        log.contains("as old as what was revoked a moment ago"),
        "{log}"
    );
    stage.new.exchanges(json!({}), json!({}));
    until(async || on().await.status == 200).await;
}

/// Whoever signs in at the new side is known to the upstream of `/api` by what that side gives for an assertion of ours.
async fn of_sessions() -> (Proxy, [Idp; 2], Echo) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 100)
        .replace("hosts: [app.test]", "hosts: [app.test, 127.0.0.1]")
        .replace(
            "    public_paths: [/public/*]\n",
            "    routes: [{ path: /api/*, exchange: as-new }, { path: /* }]\n",
        );
    let way = "assertion: { provider: new, issuer: \"https://ferry.test\", subject: \"{subject}\", audiences: [app] }";
    let proxy = Proxy::start(&format!("{yaml}exchange: {{ as-new: {{ {way} }} }}\n"));
    proxy.settled().await;
    let says = json!({ "client_id": "authferry", "aud": "app", "exp": now() + 200 });
    new.exchanges(says, json!({ "expires_in": 200 }));
    (proxy, [old, new], upstream)
}

/// Signs in, wherever the browser is, and what the upstream of `/api` gets then.
async fn signs_in(proxy: &Proxy, upstream: &Echo, browser: &mut Browser) -> String {
    let start = browser.open(proxy, "/.authferry/login?rd=%2F").await;
    let done = browser.sign_in(proxy, &start).await;
    assert_eq!(done.status, 303, "{}\n{}", done.text(), proxy.log());
    assert_eq!(browser.open(proxy, "/api/x").await.status, 200);
    let token = got(upstream);
    assert_eq!(call(proxy, &token).await.status, 200, "{}", proxy.log());
    token
}

async fn signs_out(proxy: &Proxy, browser: &Browser) {
    let cookies: Vec<String> = browser.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (host, cookies) = (proxy.address.to_string(), cookies.join("; "));
    let origin = format!("http://{host}");
    let fields = [
        ("Host", &*host),
        ("Origin", &*origin),
        ("Cookie", &*cookies),
    ];
    let out = request(proxy.address, "POST", "/.authferry/logout", &fields, b"").await;
    assert_eq!(out.status, 303, "{}", out.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_got_for_a_session_ends_when_its_person_signs_out() {
    let (proxy, _idps, upstream) = of_sessions().await;
    let (mut gone, mut stays) = (Browser::default(), Browser::default());
    let mut tokens = Vec::new();
    for browser in [&mut gone, &mut stays] {
        tokens.push(signs_in(&proxy, &upstream, browser).await);
    }
    assert_ne!(tokens[0], tokens[1]);
    signs_out(&proxy, &gone).await;
    assert_eq!(call(&proxy, &tokens[0]).await.status, 401);
    assert_eq!(call(&proxy, &tokens[1]).await.status, 200);
    assert_eq!(stays.open(&proxy, "/api/x").await.status, 200);
}

/// A sign-in ends the session that the browser came with: what was made of that goes on with the new one, and with nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_got_for_an_earlier_session_ends_with_the_one_in_its_place() {
    let (proxy, [_old, new], upstream) = of_sessions().await;
    let mut browser = Browser::default();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(signs_in(&proxy, &upstream, &mut browser).await);
    }
    for token in &tokens {
        assert_eq!(call(&proxy, token).await.status, 200);
    }
    signs_out(&proxy, &browser).await;
    for token in &tokens {
        assert_eq!(call(&proxy, token).await.status, 401);
    }
    // Somebody else in the same browser.
    let mut browser = Browser::default();
    let hers = signs_in(&proxy, &upstream, &mut browser).await;
    new.signs_in("bob");
    let his = signs_in(&proxy, &upstream, &mut browser).await;
    assert_eq!(call(&proxy, &hers).await.status, 401);
    assert_eq!(call(&proxy, &his).await.status, 200);
}

/// Whoever has a key that signs what we mint is anybody: it is out at once, and what it signed is nobody's any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_withdrawn_signs_nothing_that_counts() {
    let stage = stage().await;
    let proxy = &stage.proxy;
    let parent = stage.subject("alice");
    let minted = stage.given(&parent, "ours").await;
    let routed = async || {
        let bearer = format!("Bearer {parent}");
        let fields = [("Host", "app.test"), ("Authorization", &*bearer)];
        let answer = request(proxy.address, "GET", "/minted/x", &fields, b"").await;
        assert_eq!(answer.status, 200, "{}", proxy.log());
        got(&stage.upstream)
    };
    let upstream = routed().await;
    // It is kept, by each worker for itself.
    until(async || routed().await == upstream).await;
    let asserted = async || {
        assert_eq!(call(proxy, &parent).await.status, 200, "{}", proxy.log());
        stage.upstream.last().all("x-assertion").remove(0)
    };
    let assertion = asserted().await;
    until(async || asserted().await == assertion).await;
    assert_eq!(stage.said(&minted).await["active"], json!(true));
    let before = kids(proxy).await;
    let [leaked] = &*before else {
        panic!("one key: {before:?}")
    };
    let withdraw = |more: &[&str]| {
        let socket = proxy.dir().join("admin.sock");
        let at = [
            "keys",
            "--socket",
            socket.to_str().unwrap(),
            "withdraw",
            leaked,
        ];
        let words = [&at[..], more].concat();
        crate::control::authferry(proxy.dir(), &words)
    };
    for more in [&["--reason", "INC-1"][..], &["--reason", " ", "--confirm"]] {
        let (done, said) = withdraw(more);
        assert!(!done, "{said}");
        assert_eq!(kids(proxy).await, before);
    }
    assert_eq!(stage.said(&minted).await["active"], json!(true));
    let (done, said) = withdraw(&["--reason", "INC-1", "--confirm"]);
    assert!(
        done && said.starts_with("signing") && !said.contains(leaked),
        "{said}"
    );
    let after = kids(proxy).await;
    assert!(after.len() == 1 && after != before, "{after:?}");
    assert_eq!(stage.said(&minted).await, json!({ "active": false }));
    // Nothing that it signed is handed on: what is made now is under the next one.
    let next = stage.given(&parent, "ours").await;
    assert_eq!(stage.said(&next).await["active"], json!(true));
    let (again, asserted) = (routed().await, asserted().await);
    let kid = |token: &str| header(token)["kid"].as_str().unwrap().to_owned();
    for token in [&next, &again, &asserted] {
        assert_eq!(kid(token), after[0]);
    }
    for token in [&minted, &upstream, &assertion] {
        assert_eq!(kid(token), *leaked);
    }
    let records = records(proxy.dir());
    let told = records.iter().find(|one| one["kind"] == "key_withdrawn");
    let told = told.expect("a record");
    assert_eq!(
        (&told["kid"], &told["signs"]),
        (&json!(leaked), &json!(after[0]))
    );
    let (done, said) = withdraw(&["--reason", "INC-1", "--confirm"]);
    assert!(!done && said.contains("no key"), "{said}");
}

/// The names of the published keys.
async fn kids(proxy: &Proxy) -> Vec<String> {
    let answer = get(proxy.address, "/.authferry/jwks.json").await;
    let set: Value = serde_json::from_str(&answer.text()).unwrap();
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn header(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').next().unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(part)
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
