//! What reading and judging a signed token costs, per algorithm: CPU time of the thread, median of rounds.
//!
//! ```text
//! cargo bench --features bench --bench token
//! ```

mod report;

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use authferry::clock::UnixTime;
use authferry::identity::Issuer;
use authferry::token::Algorithm;
use authferry::token::Audience;
use authferry::token::KeySet;
use authferry::token::Kind;
use authferry::token::Policy;
use authferry::token::SigningKey;
use authferry::token::peek;
use authferry::token::public_jwks;
use authferry::token::verify;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::report::heading;
use crate::report::report;
use crate::report::tail;

const NOW: u64 = 1_800_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let claims = claims();
    heading();
    for (algorithm, kind) in [
        (Algorithm::Rs256, &rcgen::PKCS_RSA_SHA256),
        (Algorithm::Es256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (Algorithm::EdDsa, &rcgen::PKCS_ED25519),
    ] {
        let pem = rcgen::KeyPair::generate_for(kind)?.serialize_pem();
        let key = SigningKey::from_pem(pem.as_bytes())?;
        let (keys, _skipped) = KeySet::from_remote(public_jwks(&[&key]).to_string().as_bytes())?;
        let token = key.sign("at+jwt", &claims)?;
        judge(algorithm, &token, &keys);
        let name = format!("sign {}", algorithm.as_str());
        report(&name, || key.sign("at+jwt", &claims).is_ok());
    }
    let secret = [7; 32];
    let header = json!({ "alg": "HS256", "typ": "at+jwt" }).to_string();
    let payload = Value::Object(claims.clone()).to_string();
    let input = [header, payload]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &secret),
        input.as_bytes(),
    );
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag));
    let keys = KeySet::from_shared_secret(&secret, Algorithm::Hs256)?;
    judge(Algorithm::Hs256, &token, &keys);
    report("peek", || peek(black_box(&token)).is_ok());
    let garbage = "x".repeat(8_192);
    report("peek garbage of 8 KiB", || {
        peek(black_box(&garbage)).is_err()
    });
    unsigned(&token, &garbage)
}

/// What is refused before a signature is looked at: what is no token, one of an algorithm or a key that nobody has here.
fn unsigned(token: &str, garbage: &str) -> Result<(), Box<dyn Error>> {
    const MOST: Duration = Duration::from_micros(20);
    tail("refuse 8 KiB of garbage", MOST, || {
        peek(black_box(garbage)).is_err()
    });
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?.serialize_pem();
    let key = SigningKey::from_pem(pem.as_bytes())?;
    let (keys, _skipped) = KeySet::from_remote(public_jwks(&[&key]).to_string().as_bytes())?;
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?.serialize_pem();
    let strange = SigningKey::from_pem(other.as_bytes())?.sign("at+jwt", &claims())?;
    let (policy, now) = (policy(Algorithm::Es256), UnixTime::from_secs(NOW));
    for (name, token) in [("another algorithm", token), ("an unknown key", &*strange)] {
        tail(&format!("refuse {name}"), MOST, || {
            peek(black_box(token)).is_ok_and(|read| verify(read, &keys, &policy, now).is_err())
        });
    }
    Ok(())
}

fn policy(algorithm: Algorithm) -> Policy {
    Policy {
        issuer: Issuer::new("https://idp.example/realms/corp"),
        algorithms: vec![algorithm],
        audience: Audience(vec!["app".into()]),
        kind: Kind::Access { markers: vec![] },
        leeway: Duration::from_secs(30),
        max_life: Duration::from_secs(86_400),
    }
}

/// A good token, and the same with another key's signature.
fn judge(algorithm: Algorithm, token: &str, keys: &KeySet) {
    let policy = policy(algorithm);
    let now = UnixTime::from_secs(NOW);
    let good = |token: &str| {
        peek(black_box(token)).is_ok_and(|read| verify(read, keys, &policy, now).is_ok())
    };
    let name = algorithm.as_str();
    report(&format!("peek and verify {name}"), || good(token));
    // Another letter in the midst of the signature.
    let (kept, rest) = token.split_at(token.len() - 20);
    let other = if rest.starts_with('A') { "B" } else { "A" };
    let forged = [kept, other, rest.get(1..).unwrap_or_default()].concat();
    report(&format!("refuse a forged {name}"), || !good(&forged));
}

fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://idp.example/realms/corp", "sub": "248289761001", "aud": "app",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300, "jti": "5b0c5fb4-62a5-4c8e-9d6c",
        "azp": "web", "scope": "openid profile email", "email": "alice@corp.example",
        "preferred_username": "alice", "groups": ["users", "hr", "payroll-readers"],
        "realm_access": { "roles": ["offline_access", "user"] },
    });
    match claims {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
