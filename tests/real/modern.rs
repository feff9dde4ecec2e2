//! Keycloak as the new side: bearer tokens and browser login.

use std::time::SystemTime;

use serde_json::Value;

use crate::browser::Browser;
use crate::browser::encode;
use crate::harness::Echo;
use crate::harness::request;
use crate::keycloak;
use crate::old_provider;
use crate::origin;
use crate::proxy;
use crate::secret;
use crate::two_sides;
use crate::var;

/// An access token of Keycloak for somebody, by the password grant of a test client.
pub(crate) async fn token_of(name: &str) -> String {
    let body = format!(
        "grant_type=password&client_id=proxy-ropc&client_secret={}&username={name}&password={}&scope=openid",
        encode(&secret("proxy-ropc-secret")),
        encode(&secret(&format!("{name}-pw"))),
    );
    let host = format!("127.0.0.1:{}", var("KC_PORT"));
    let fields = [
        ("Host", host.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = request(
        host.parse().unwrap(),
        "POST",
        "/realms/new/protocol/openid-connect/token",
        &fields,
        body.as_bytes(),
    )
    .await;
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    json["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{json}"))
        .to_owned()
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
    use aws_lc_rs::hmac;
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
    // Keycloak's answers have no date: that is said, and is no failure.
    assert!(said.contains("ok      providers.legacy: clock: its clock and ours agree"));
    assert!(said.contains("unknown providers.modern: clock: "), "{said}");
    let (code, said) = check_online(&yaml, "another secret");
    assert_eq!(code, Some(1), "{said}");
    for provider in ["legacy", "modern"] {
        let line = format!("failed  providers.{provider}: client: ");
        assert!(said.contains(&line), "{line}\n{said}");
    }
    assert!(!said.contains("another secret"), "{said}");
}
