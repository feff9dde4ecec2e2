//! Good and bad credentials: what is let in, what is answered, and what never reaches the upstream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use authferry::token::SigningKey;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::Answer;
use crate::harness::Echo;
use crate::harness::Idp;
use crate::harness::Proxy;
use crate::harness::get;
use crate::harness::read;
use crate::harness::request;
use crate::two_providers;

async fn stage() -> (Idp, Idp, Echo, Proxy) {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let proxy = Proxy::start(&two_providers(&old, &new, &upstream, 50));
    (old, new, upstream, proxy)
}

/// A body without the reference of its request, which it must have.
fn blank(answer: &Answer) -> String {
    let reference = answer.header("x-request-id").expect("a reference");
    answer.text().replace(reference, "REFERENCE")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_of_either_provider_reaches_the_application_with_the_same_bytes() {
    let (old, new, upstream, proxy) = stage().await;
    let mut heads = Vec::new();
    for idp in [&old, &new] {
        let answer = request(
            proxy.address,
            "GET",
            "/report",
            &[("Authorization", &bearer(&idp.token("alice")))],
            b"",
        )
        .await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
        let seen = upstream.last();
        assert_eq!(seen.line(), "GET /report HTTP/1.1");
        assert!(
            seen.all("authorization").is_empty(),
            "the credential stays here"
        );
        heads.push(["x-remote-user", "x-remote-name", "x-remote-groups"].map(|n| seen.all(n)));
    }
    assert_eq!(heads[0], heads[1]);
    assert_eq!(
        heads[0],
        [
            vec!["uid-alice".to_owned()],
            vec!["alice".to_owned()],
            vec!["users".to_owned()]
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_401_with_a_challenge_and_nothing_reaches_the_application() {
    let (old, new, upstream, proxy) = stage().await;
    let good = new.claims("alice");
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims.insert(name.to_owned(), value);
        new.sign(&claims)
    };
    let now = crate::harness::now();
    let token = new.sign(&good);
    let (head, rest) = token.split_once('.').unwrap();
    let none = format!("eyJhbGciOiJub25lIn0.{}.", rest.split('.').next().unwrap());
    // The secret of an HMAC that everybody knows: the key as the provider publishes it (RFC 8725 §2.1).
    let address = new
        .issuer()
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let published = request(address, "GET", "/jwks", &[], b"").await.body;
    let keys: Value = serde_json::from_slice(&published).unwrap();
    let key = keys["keys"][0].to_string();
    let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": keys["keys"][0]["kid"] });
    let confused = [published, key.into_bytes()].map(|secret| {
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            rest.split('.').next().unwrap()
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let tag = hmac::sign(&key, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    });
    let [confused_set, confused_key] = confused;
    // A key of its own under its own name, and under that of the provider's key.
    let foreign = SigningKey::generate()
        .unwrap()
        .sign("at+jwt", &good)
        .unwrap();
    let borrowed = format!("{head}.{}", foreign.split_once('.').unwrap().1);
    let mut flipped = token.clone().into_bytes();
    let at = head.len() + 10;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let cases = [
        ("expired", with("exp", json!(now - 120))),
        ("not yet valid", with("nbf", json!(now + 600))),
        ("wrong audience", with("aud", json!("other"))),
        (
            "wrong issuer",
            with("iss", json!("https://elsewhere.example")),
        ),
        (
            "the other provider's issuer",
            with("iss", json!(old.issuer())),
        ),
        ("no expiry", with("exp", json!(null))),
        ("no subject", with("sub", json!(null))),
        ("alg none", none),
        ("HMAC with the published key set", confused_set),
        ("HMAC with the published key", confused_key),
        ("foreign kid", foreign),
        ("foreign key under a known kid", borrowed),
        ("altered", String::from_utf8(flipped).unwrap()),
        ("truncated", token[..token.len() - 20].to_owned()),
        ("garbage", "garbage".to_owned()),
        ("an ID token", new.sign_as("JWT", &good)),
        ("a logout token", new.sign_as("logout+jwt", &good)),
    ];
    // One answer for all of them, to the byte.
    let mut said = BTreeSet::new();
    for (name, token) in cases {
        let answer = request(
            proxy.address,
            "GET",
            "/report",
            &[("Authorization", &bearer(&token))],
            b"",
        )
        .await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        let challenge = answer
            .header("www-authenticate")
            .unwrap_or_else(|| panic!("{name}: no challenge"));
        assert!(challenge.starts_with("Bearer"), "{name}: {challenge}");
        said.insert((blank(&answer), challenge.to_owned()));
        assert!(
            challenge.contains("error=\"invalid_token\"") && said.len() == 1,
            "{name}: the answer tells why: {said:?}"
        );
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_credentials_at_once_are_refused() {
    let (old, new, upstream, proxy) = stage().await;
    let (a, b) = (bearer(&old.token("alice")), bearer(&new.token("bob")));
    let bad = bearer("nobody-issued-this");
    let answer = request(
        proxy.address,
        "GET",
        "/",
        &[("Authorization", &a), ("Authorization", &b)],
        b"",
    )
    .await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    // RFC 6750 §3.1: a request with more than one is `invalid_request`, whatever they are worth.
    let mut said = BTreeSet::new();
    for (name, first, second) in [
        ("good and good", &a, &b),
        ("good and bad", &a, &bad),
        ("bad and good", &bad, &a),
        ("bad and bad", &bad, &bad),
    ] {
        let fields = [("Authorization", &**first), ("Authorization", &**second)];
        let answer = request(proxy.address, "GET", "/", &fields, b"").await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        let challenge = answer.all("www-authenticate").join(", ");
        assert_eq!(
            challenge, "Bearer realm=\"crm\", error=\"invalid_request\"",
            "{name}"
        );
        said.insert((blank(&answer), challenge));
        assert_eq!(said.len(), 1, "{name}: {said:?}");
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_presented_is_401_for_a_program_and_a_redirect_for_a_navigation() {
    let (_old, _new, upstream, proxy) = stage().await;
    let api = get(proxy.address, "/report").await;
    assert_eq!(api.status, 401);
    let navigation = [
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    let page = request(proxy.address, "GET", "/report", &navigation, b"").await;
    assert_eq!(page.status, 302, "{}", page.text());
    assert_eq!(
        request(proxy.address, "POST", "/report", &navigation, b"x")
            .await
            .status,
        401
    );
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_key_stops_counting_even_for_a_cached_token() {
    let (_old, new, _upstream, proxy) = stage().await;
    proxy.settled().await;
    let token = bearer(&new.token("alice"));
    assert_eq!(
        request(proxy.address, "GET", "/", &[("Authorization", &token)], b"")
            .await
            .status,
        200
    );
    new.rotate();
    // The new key is unknown, so its first use makes the proxy fetch the set; that fetch also withdraws the old key.
    let next = bearer(&new.token("alice"));
    assert_eq!(
        request(proxy.address, "GET", "/", &[("Authorization", &next)], b"")
            .await
            .status,
        200
    );
    assert_eq!(
        request(proxy.address, "GET", "/", &[("Authorization", &token)], b"")
            .await
            .status,
        401
    );
}

/// Clients on every worker that never stop asking, with verdicts that every worker remembers. From the first answer that
/// shows that the withdrawal is known, nothing that rests on the old key is accepted anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_late_when_a_key_is_withdrawn_under_load() {
    const CLIENTS: usize = 12;
    const AFTER: usize = 40;
    let (_old, new, upstream, proxy) = stage().await;
    proxy.settled().await;
    let withdrawn = Arc::new(AtomicBool::new(false));
    let (before, after) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            // Some share a token, so that one verdict is used from several connections.
            let token = new.token(["alice", "bob", "carol"][n % 3]);
            let head = format!(
                "GET / HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            let (withdrawn, before, after) = (withdrawn.clone(), before.clone(), after.clone());
            let address = proxy.address;
            tokio::spawn(async move {
                let (mut late, mut refused, mut stream) = (0, 0, None);
                while refused + late < AFTER {
                    let mut line = match stream.take() {
                        Some(line) => line,
                        None => TcpStream::connect(address).await.unwrap(),
                    };
                    // Known before the request is sent, so no request that was under way counts.
                    let known = withdrawn.load(SeqCst);
                    line.write_all(head.as_bytes()).await.unwrap();
                    let answer = read(&mut line).await;
                    match (answer.status, known) {
                        (200, false) => _ = before.fetch_add(1, SeqCst),
                        (200, true) => late += 1,
                        // Whoever goes on with a key that nobody knows any more is slowed down in the end.
                        (401 | 429, true) => refused += 1,
                        (401 | 429, false) => {}
                        (other, _) => panic!("{other}: {}", answer.text()),
                    }
                    if answer.header("connection") != Some("close") {
                        stream = Some(line);
                    }
                }
                after.fetch_add(refused, SeqCst);
                late
            })
        })
        .collect();
    // Everybody has been let in, several times.
    crate::reload::until(async || CLIENTS * 10 < before.load(SeqCst)).await;
    new.rotate();
    let next = bearer(&new.token("dave"));
    let answer = request(proxy.address, "GET", "/", &[("Authorization", &next)], b"").await;
    assert_eq!(answer.status, 200, "{}", proxy.log());
    withdrawn.store(true, SeqCst);
    let mut late = 0;
    for client in clients {
        late += client.await.unwrap();
    }
    assert_eq!(late, 0, "accepted late");
    assert_eq!(after.load(SeqCst), CLIENTS * AFTER);
    assert!(CLIENTS * 10 < upstream.hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn known_keys_keep_working_while_the_provider_is_away() {
    let (_old, new, _upstream, proxy) = stage().await;
    proxy.settled().await;
    let token = bearer(&new.token("alice"));
    assert_eq!(
        request(proxy.address, "GET", "/", &[("Authorization", &token)], b"")
            .await
            .status,
        200
    );
    new.fail_with(Some(503));
    let other = bearer(&new.token("bob"));
    assert_eq!(
        request(proxy.address, "GET", "/", &[("Authorization", &other)], b"")
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_is_judged_by_its_own_issuer_alone() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50);
    let line = yaml.lines().find(|l| l.starts_with("  old:")).unwrap();
    let introspection = format!(
        "  old: {{ introspection: {{ url: \"{old}/introspect\", issuer: \"{old}\", client: {{ id: authferry, secret: {{ env: HARNESS_SECRET }} }}, \
         claims: {{ subject: uid, name: name, groups: groups }}, authoritative: {{ claims: [uid] }} }} }}",
        old = old.issuer()
    );
    let client = "client: { id: authferry, secret: { env: HARNESS_SECRET } }, verify";
    let yaml = yaml.replace(line, &introspection).replace(client, "verify");
    let proxy = Proxy::start(&yaml);
    old.opaque("opaque-alice", "alice");
    let good = request(
        proxy.address,
        "GET",
        "/",
        &[("Authorization", "Bearer opaque-alice")],
        b"",
    )
    .await;
    assert_eq!(good.status, 200, "{}\n{}", good.text(), proxy.log());
    assert_eq!(upstream.last().all("x-remote-user"), ["uid-alice"]);
    let unknown = request(
        proxy.address,
        "GET",
        "/",
        &[("Authorization", "Bearer opaque-eve")],
        b"",
    )
    .await;
    assert_eq!(unknown.status, 401);
    old.fail_with(Some(503));
    let away = request(
        proxy.address,
        "GET",
        "/",
        &[("Authorization", "Bearer opaque-bob")],
        b"",
    )
    .await;
    assert_eq!(away.status, 503, "an outage is not a refusal");
    assert!(away.header("retry-after").is_some());
    assert_eq!((upstream.hits(), new.hits("/introspect")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_is_none_where_nobody_needs_one() {
    let (old, new, upstream) = (Idp::start().await, Idp::start().await, Echo::start().await);
    let yaml = two_providers(&old, &new, &upstream, 50).replace(
        "    public_paths: [/public/*]\n",
        "    routes: [{ path: /open/*, access: optional }, { path: /* }]\n",
    );
    let proxy = Proxy::start(&yaml);
    let dead = [
        (
            "Cookie",
            "authferry=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; theme=dark",
        ),
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    let answer = request(proxy.address, "GET", "/open/x", &dead, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.last();
    assert!(seen.all("x-remote-user").is_empty(), "{}", seen.head);
    assert_eq!(seen.all("cookie"), ["theme=dark"]);
    assert_eq!(
        request(proxy.address, "GET", "/closed", &dead, b"")
            .await
            .status,
        302
    );

    let bad = [("Authorization", "Bearer nobody-issued-this")];
    let answer = request(proxy.address, "GET", "/open/x", &bad, b"").await;
    assert_eq!(
        answer.status, 401,
        "what a program presents is good or ends the matter"
    );
    assert_eq!(upstream.hits(), 1);
}
