//! Keycloak as the new side: bearer tokens and browser login.

use std::collections::BTreeSet;
use std::time::SystemTime;

use authferry::token::SigningKey;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::behind::token;
use crate::browser::Browser;
use crate::browser::encode;
use crate::harness::Echo;
use crate::harness::request;
use crate::keycloak;
use crate::old_provider;
use crate::operators::until;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::two_sides;
use crate::var;

/// An access token of Keycloak for somebody, by the password grant of a test client.
pub(crate) async fn token_of(name: &str) -> String {
    let json = tokens_of(name, "proxy-ropc").await;
    json["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{json}"))
        .to_owned()
}

/// All that Keycloak gives somebody at once.
pub(crate) async fn tokens_of(name: &str, client: &str) -> Value {
    let form = format!(
        "grant_type=password&client_id={client}&client_secret={}&username={name}&password={}&scope=openid",
        encode(&secret(&format!("{client}-secret"))),
        encode(&secret(&format!("{name}-pw"))),
    );
    serde_json::from_slice(&token("new", &form).await.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_of_keycloak_names_the_old_user() {
    let upstream = Echo::start().await;
    let proxy = proxy(&two_sides(&upstream.url(), "50"));
    let token = format!("Bearer {}", token_of("bob").await);
    let answer = request(
        proxy.address,
        "GET",
        "/x",
        &[("Host", "127.0.0.1"), ("Authorization", &token)],
        b"",
    )
    .await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let seen = upstream.last();
    assert_eq!(seen.all("x-remote-user"), ["1002"]);
    assert_eq!(seen.all("x-remote-groups"), ["beta,testers"]);

    let mut altered = token.clone();
    altered.replace_range(token.len() - 8..token.len() - 4, "AAAA");
    let bad = request(
        proxy.address,
        "GET",
        "/x",
        &[("Host", "127.0.0.1"), ("Authorization", &altered)],
        b"",
    )
    .await;
    assert_eq!(bad.status, 401);
    assert_eq!(upstream.hits(), 1);
}

/// One part of a token.
fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// What is signed: a head, and the very claims of `token`.
fn unsigned(head: &Value, token: &str) -> String {
    let head = URL_SAFE_NO_PAD.encode(head.to_string());
    format!("{head}.{}", token.split('.').nth(1).unwrap())
}

fn with_signature(text: &str, signature: &[u8]) -> String {
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The public key that a token names, in each form in which anybody can have it.
async fn published(kid: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let host = format!("127.0.0.1:{}", var("KC_PORT"));
    let get = async |path: &str| {
        let fields = [("Host", host.as_str())];
        request(host.parse().unwrap(), "GET", path, &fields, b"").await
    };
    let set = get("/realms/new/protocol/openid-connect/certs").await.body;
    let keys: Value = serde_json::from_slice(&set).unwrap();
    let mut keys = keys["keys"].as_array().unwrap().iter();
    let key = keys.find(|key| key["kid"] == *kid).unwrap();
    // What the realm shows is the key in DER: the lines of its PEM.
    let realm: Value = serde_json::from_slice(&get("/realms/new").await.body).unwrap();
    let lines = realm["public_key"].as_str().unwrap();
    let pem = |lines: &str| {
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n").into_bytes()
    };
    let wrapped: Vec<_> = lines
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let der = STANDARD.decode(lines).unwrap();
    // It is the same key: what the other forms are made of is not a second one of the realm.
    let modulus = key["n"].as_str().unwrap();
    let modulus = URL_SAFE_NO_PAD.decode(modulus).unwrap();
    assert!(der.windows(modulus.len()).any(|part| part == modulus));
    let certificate = key["x5c"][0].as_str().unwrap();
    vec![
        ("its PEM", pem(&wrapped.join("\n"))),
        ("its PEM in one line", pem(lines)),
        ("its DER", der),
        ("its JWK", key.to_string().into_bytes()),
        ("its modulus", modulus),
        ("its certificate", certificate.as_bytes().to_vec()),
        ("the key set", set),
    ]
}

/// Tokens that Keycloak's own key and name stand in, and none of which is a good one.
async fn bad_tokens(good: &str) -> Vec<(String, String)> {
    let (head, claims) = (part(good, 0), part(good, 1));
    let mut bad = Vec::new();
    let none = json!({ "alg": "none", "typ": "JWT", "kid": head["kid"] });
    for (name, tail) in [("none", ""), ("none, with a signature", "AAAA")] {
        bad.push((name.to_owned(), format!("{}.{tail}", unsigned(&none, good))));
    }
    // The secret of an HMAC that everybody knows: the key as the provider publishes it (RFC 8725 §2.1).
    for (form, known) in published(&head["kid"]).await {
        for (name, hash) in [
            ("HS256", hmac::HMAC_SHA256),
            ("HS384", hmac::HMAC_SHA384),
            ("HS512", hmac::HMAC_SHA512),
        ] {
            let head = json!({ "alg": name, "typ": "JWT", "kid": head["kid"] });
            let text = unsigned(&head, good);
            let tag = hmac::sign(&hmac::Key::new(hash, &known), text.as_bytes());
            bad.push((
                format!("{name} by {form}"),
                with_signature(&text, tag.as_ref()),
            ));
        }
    }
    // A key of nobody: under its own name, and under that of Keycloak's.
    let stranger = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    for (name, kid) in [
        ("foreign kid", json!("a-key-of-nobody")),
        ("foreign key under the kid", head["kid"].clone()),
    ] {
        let text = unsigned(&json!({ "alg": "RS256", "typ": "JWT", "kid": kid }), good);
        let mut signature = vec![0; stranger.public_modulus_len()];
        stranger
            .sign(
                &signature::RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .unwrap();
        bad.push((name.to_owned(), with_signature(&text, &signature)));
    }
    let own = claims.as_object().unwrap();
    let own = SigningKey::generate().unwrap().sign("JWT", own).unwrap();
    bad.push(("foreign key of another kind".to_owned(), own));
    // For other audiences, and of another realm of the same server.
    let form = format!(
        "grant_type=client_credentials&client_id=svc&client_secret={}",
        encode(&secret("svc-secret"))
    );
    let other = token("new", &form).await.text();
    let master = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
    let master = token("master", master).await.text();
    for (name, said) in [("wrong audience", other), ("wrong issuer", master)] {
        let said: Value = serde_json::from_str(&said).unwrap();
        let token = said["access_token"].as_str().unwrap().to_owned();
        bad.push((name.to_owned(), token));
    }
    // Of the same sign-in, and for something else.
    let all = tokens_of("bob", "proxy-ropc").await;
    for name in ["id_token", "refresh_token"] {
        bad.push((name.to_owned(), all[name].as_str().unwrap().to_owned()));
    }
    let mut altered = good.to_owned();
    altered.replace_range(good.len() - 8..good.len() - 4, "AAAA");
    bad.push(("altered".to_owned(), altered));
    for (name, cut) in [
        ("truncated", &good[..good.len() - 20]),
        ("without its signature", &good[..=good.rfind('.').unwrap()]),
        ("cut in its claims", &good[..good.rfind('.').unwrap() - 20]),
        ("garbage", "garbage"),
        ("garbage in three parts", "a.b.c"),
    ] {
        bad.push((name.to_owned(), cut.to_owned()));
    }
    bad
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_at_keycloak_is_401_whatever_is_wrong_with_it() {
    let upstream = Echo::start().await;
    let yaml = two_sides(&upstream.url(), "50");
    let (verify, strict) = ("[proxy-exchange] }", "[proxy-exchange], leeway: 0s }");
    assert!(yaml.contains(verify));
    let proxy = proxy(&yaml.replace(verify, strict));
    proxy.settled().await;
    let ask = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [("Host", "127.0.0.1"), ("Authorization", bearer.as_str())];
        request(proxy.address, "GET", "/x", &fields, b"").await
    };
    // All but its end is that of a good one.
    let (good, old) = (
        token_of("bob").await,
        tokens_of("bob", "proxy-brief").await["access_token"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    let answer = ask(&good).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    for claim in ["iss", "aud", "sub", "typ", "legacy_uid"] {
        assert_eq!(part(&old, 1)[claim], part(&good, 1)[claim], "{claim}");
    }
    until(async || ask(&old).await.status == 401).await;
    let let_in = upstream.hits();

    let mut bad = bad_tokens(&good).await;
    bad.push(("expired".to_owned(), old));
    let mut said = BTreeSet::new();
    for (name, token) in bad {
        let answer = ask(&token).await;
        let body = answer.text();
        assert_eq!(answer.status, 401, "{name}: {body}\n{}", proxy.log());
        let challenge = answer.all("www-authenticate").join(", ");
        assert!(
            challenge.starts_with("Bearer") && challenge.contains("error=\"invalid_token\""),
            "{name}: {challenge}"
        );
        // One answer for all of them, to the byte, but for the name of the request.
        let request = answer.header("x-request-id").unwrap();
        said.insert((body.replace(request, ""), challenge));
        assert_eq!(said.len(), 1, "{name}: the answer tells why: {said:?}");
    }
    // Two at once, of which one is good.
    let fields = [good.as_str(), "garbage"].map(|token| format!("Bearer {token}"));
    let fields = [
        ("Host", "127.0.0.1"),
        ("Authorization", fields[0].as_str()),
        ("Authorization", fields[1].as_str()),
    ];
    let two = request(proxy.address, "GET", "/x", &fields, b"").await;
    assert_eq!(two.status, 400, "{}", two.text());
    assert_eq!(upstream.hits(), let_in, "nothing reaches the application");
    // The good one has stayed so.
    assert_eq!(ask(&good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_at_either_side_and_the_application_sees_the_same_bytes() {
    let upstream = Echo::start().await;
    let mut heads = Vec::new();
    for (percent, provider) in [("0", old_provider()), ("100", keycloak())] {
        let proxy = proxy(&two_sides(&upstream.url(), percent));
        let mut browser = Browser::default();
        let landed = browser
            .open(
                &format!("{}/deep/link?q=1", origin()),
                Some(("bob", &secret("bob-pw"))),
            )
            .await;
        assert_eq!(
            landed.answer.status,
            200,
            "{} {}\n{}",
            landed.url,
            landed.answer.text(),
            proxy.log()
        );
        assert_eq!(landed.url, format!("{}/deep/link?q=1", origin()));
        assert_eq!(browser.forms.len(), 1, "one sign-in");
        assert!(
            provider.contains(&browser.forms[0]),
            "at {}",
            browser.forms[0]
        );
        let seen = upstream.last();
        heads.push(["x-remote-user", "x-remote-name", "x-remote-groups"].map(|n| seen.all(n)));
    }
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[0][0], ["1002"]);
}

/// The one-time password of now (RFC 6238), of the seed that the realm gives alice.
fn one_time_password() -> String {
    let steps = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 30;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"12345678901234567890");
    let tag = hmac::sign(&key, &steps.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let word = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7FFF_FFFF;
    format!("{:06}", word % 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_asked_for_and_opens_no_way_around_it() {
    let upstream = Echo::start().await;
    let proxy = proxy(&two_sides(&upstream.url(), "100"));
    let mut browser = Browser::default();
    let page = format!("{}/deep?q=1", origin());
    let sign_in = Some(("alice", secret("alice-pw")));
    let sign_in = sign_in.as_ref().map(|(name, word)| (*name, word.as_str()));
    let asked = browser.open(&page, sign_in).await;
    assert!(asked.url.contains("/realms/new/"), "{}", asked.url);
    let refused = browser.type_in(&asked, "otp", "000000").await;
    assert!(refused.url.contains("/realms/new/"), "{}", refused.url);
    // Whoever goes on without it is asked for it again: at the same side, and the application hears of nobody.
    let again = browser.open(&page, None).await;
    assert!(again.url.contains("/realms/new/"), "{}", again.url);
    assert_eq!(upstream.hits(), 0, "{}", proxy.log());
    let old = old_provider();
    assert_eq!(browser.visits(old.strip_prefix("http://").unwrap()), 0);

    let mut browser = Browser::default();
    let asked = browser.open(&page, sign_in).await;
    let landed = browser.type_in(&asked, "otp", &one_time_password()).await;
    assert_eq!(landed.url, page, "{}", landed.answer.text());
    assert_eq!(landed.answer.status, 200);
    assert_eq!(upstream.last().all("x-remote-user"), ["1001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_disabled_at_the_new_side_does_not_get_in_there_or_elsewhere() {
    let upstream = Echo::start().await;
    let proxy = proxy(&two_sides(&upstream.url(), "100"));
    let mut browser = Browser::default();
    let landed = browser
        .open(
            &format!("{}/", origin()),
            Some(("dave", &secret("dave-pw"))),
        )
        .await;
    assert!(
        landed
            .url
            .starts_with(&keycloak().replace("/realms/new", "")),
        "{}",
        landed.url
    );
    assert_eq!(upstream.hits(), 0, "{}", proxy.log());
}

/// `check --online` with what `two_sides` says, and this secret at both.
pub(crate) fn check_online(yaml: &str, secret: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display().to_string();
    std::fs::write(dir.path().join("proxy.secret"), secret).unwrap();
    let file = dir.path().join("authferry.yaml");
    let server = format!("server: {{ listen: 127.0.0.1:8080, state_dir: {here}/state }}\n");
    let yaml = format!("version: 1\n{yaml}{server}").replace("{dir}", &here);
    std::fs::write(&file, yaml).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_authferry"))
        .args(["check", "--online", "--origin"])
        .arg(format!("crm={}", origin()))
        .arg(&file)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_beforehand_whether_both_providers_know_us() {
    let upstream = Echo::start().await;
    let yaml = two_sides(&upstream.url(), "50");
    let (code, said) = check_online(&yaml, &secret("proxy-secret"));
    assert_eq!(code, Some(0), "{said}");
    for provider in ["legacy", "modern"] {
        let line = format!("ok      providers.{provider}: client: it knows us");
        assert!(said.contains(&line), "{line}\n{said}");
        let callback = format!(
            "callback {}/.authferry/cb/{provider}: it comes back",
            origin()
        );
        assert!(said.contains(&callback), "{callback}\n{said}");
    }
    // Keycloak's answers have no date: its clock is that of a token of our own.
    for provider in ["legacy", "modern"] {
        let line = format!("ok      providers.{provider}: clock: its clock and ours agree");
        assert!(said.contains(&line), "{line}\n{said}");
    }
    let (code, said) = check_online(&yaml, "another secret");
    assert_eq!(code, Some(1), "{said}");
    for provider in ["legacy", "modern"] {
        let line = format!("failed  providers.{provider}: client: ");
        assert!(said.contains(&line), "{line}\n{said}");
    }
    assert!(!said.contains("another secret"), "{said}");
}
