//! The examples of the RFCs hold, and what is made from them by the known tricks does not.
//!
//! The Wycheproof vectors run through `examples/jws-verify.rs`, which asks the same function (`make suites`, `wycheproof`). Of the 401 published ones
//! (2026) six cannot hold: 367 and 370 repeat the text of the valid 357, 372 and 373 call letters outside base64url valid,
//! 346 and 350 sign with PS384 under a key that says PS256, as 340 must not.

#![expect(
    clippy::unwrap_used,
    reason = "a vector that cannot be read fails its test"
)]

use authferry::token::KeySet;
use authferry::token::verify_signature_only;
use serde_json::Value;
use serde_json::json;

/// A key of an RFC and what it signed there.
struct Example {
    source: &'static str,
    key: Value,
    jws: String,
}

/// The text that RFC 7520 §4 signs.
const FRODO: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0\
aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0I\
G9mZiB0by4";

fn examples() -> Vec<Example> {
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let bilbo = "bilbo.baggins@hobbiton.example";
    let rsa = json!({ "kty": "RSA", "kid": bilbo, "use": "sig", "e": "AQAB",
        "n": "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrK\
b2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsd\
e3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdr\
NP5zw" });
    let example = |source, key, header: &str, payload: &str, signature: &str| Example {
        source,
        key,
        jws: format!("{header}.{payload}.{signature}"),
    };
    vec![
        example(
            "RFC 7515 A.1",
            json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAz\
Zr1Z9CAow" }),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            joe,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        example(
            "RFC 7515 A.3",
            json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }),
            "eyJhbGciOiJFUzI1NiJ9",
            joe,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        example(
            "RFC 8037 A.4",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
            "eyJhbGciOiJFZERTQSJ9",
            "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
        example(
            "RFC 7520 4.1",
            rsa.clone(),
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            FRODO,
            "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-B\
DkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQ\
dLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
        ),
        example(
            "RFC 7520 4.2",
            rsa,
            "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            FRODO,
            "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1\
OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8I\
mUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
        ),
        example(
            "RFC 7520 4.3",
            json!({ "kty": "EC", "kid": bilbo, "use": "sig", "crv": "P-521",
                "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
                "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1" }),
            "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            FRODO,
            "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjn\
AMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
        ),
        example(
            "RFC 7520 4.4",
            json!({ "kty": "oct", "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037", "use": "sig", "alg": "HS256",
                "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg" }),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
            FRODO,
            "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
        ),
    ]
}

fn set(key: &Value) -> KeySet {
    let document = json!({ "keys": [key] }).to_string();
    KeySet::from_inline(document.as_bytes()).unwrap()
}

#[test]
fn the_examples_of_the_rfcs_hold() {
    for Example { source, key, jws } in examples() {
        assert_eq!(verify_signature_only(&jws, &set(&key)), Ok(()), "{source}");
    }
}

#[test]
fn no_key_answers_for_another() {
    let all = examples();
    for example in &all {
        // 4.1 and 4.2 share their key.
        for other in all.iter().filter(|other| other.key != example.key) {
            let verdict = verify_signature_only(&example.jws, &set(&other.key));
            assert!(verdict.is_err(), "{} {}", example.source, other.source);
        }
    }
}

#[test]
fn a_key_that_says_its_algorithm_serves_no_other() {
    for Example { source, key, jws } in examples() {
        if key["kty"] != "RSA" {
            continue;
        }
        let own = if source.ends_with("4.1") {
            "RS256"
        } else {
            "PS384"
        };
        for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            let mut key = key.clone();
            key["alg"] = json!(alg);
            let verdict = verify_signature_only(&jws, &set(&key));
            assert_eq!(verdict.is_ok(), alg == own, "{source} {alg}");
        }
    }
}

#[test]
fn every_part_is_needed_in_its_one_spelling() {
    for Example { source, key, jws } in examples() {
        let keys = set(&key);
        let parts: Vec<_> = jws.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!("three parts")
        };
        for bad in [
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            format!("{header}..{signature}"),
            format!(".{payload}.{signature}"),
            format!("{payload}.{signature}"),
            format!("{jws}."),
            format!("{jws}.{signature}"),
            format!("{jws}="),
            format!("{jws}AA"),
            format!("{jws}\n"),
            format!(" {jws}"),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}. {payload}.{signature}"),
            format!("{header}.{payload}?.{signature}"),
            format!("{header}.{payload}.AA{signature}"),
            format!("{header}.{payload}.{}", "A".repeat(signature.len())),
            format!(
                "{header}.{payload}.{}",
                signature.split_at(signature.len() / 2).0
            ),
            json!({ "payload": payload, "protected": header, "signature": signature }).to_string(),
        ] {
            assert!(
                verify_signature_only(&bad, &keys).is_err(),
                "{source} {bad}"
            );
        }
    }
}
