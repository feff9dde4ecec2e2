//! Proof of possession (RFC 9449): whether a request comes from the holder of the key that its token is bound to.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixTime;
use crate::identity::Refusal;
use crate::identity::Thumbprint;
use crate::token::algorithm::Algorithm;
use crate::token::json;
use crate::token::json::Budget;
use crate::token::jwk;
use crate::token::peek::Jws;
use crate::token::peek::MAX_MEMBERS;
use crate::token::peek::Typ;
use crate::token::verify::MAX_ID_BYTES;
use crate::token::verify::Round;
use crate::token::verify::seconds;

/// What a proof must be for: one request, one token, one key.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The key that the token is bound to.
    pub key: Thumbprint,
    /// The access token, as it was presented; `None`: the proof comes with a request for one (RFC 9449 §5).
    pub token: Option<&'a str>,
    /// The method of the request.
    pub method: &'a str,
    /// Whether its public address is `https`.
    pub secure: bool,
    /// Its host, lower case, with the port unless that is the scheme's own.
    pub authority: &'a str,
    /// Its canonical path.
    pub path: &'a str,
    /// The algorithms accepted; symmetric ones never are.
    pub algorithms: &'a [Algorithm],
    /// How old a proof may be.
    pub max_age: Duration,
    /// Tolerated clock difference, to both sides.
    pub leeway: Duration,
}

/// A proof that holds, unless it came before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// What makes it unique for its key: at most 256 bytes.
    pub jti: Box<str>,
    /// The nonce of ours that it was made with.
    pub nonce: Option<Box<str>>,
    /// When it was made, by its own word.
    pub issued: UnixTime,
    /// Until when it would be taken: so long it is remembered.
    pub until: UnixTime,
}

/// The key that a proof says it was made with: who makes it out, and nothing of it holds yet.
pub fn key_of_proof(jwt: &str) -> Option<Thumbprint> {
    let budget = Budget::new(MAX_MEMBERS);
    let (jws, _) = Jws::split(jwt, &budget).ok()?;
    jwk::thumbprint(jws.header.jwk.as_ref()?.as_object()?)
}

/// Judges a proof (RFC 9449 §4.3). What has to be remembered, `jti` and `nonce`, is left to the caller.
///
/// The key is compared before its signature is checked: nobody chooses what their check costs us.
///
/// # Errors
///
/// [`Refusal::PopFailed`], whatever is wrong with it.
pub fn prove(jwt: &str, demand: &Demand<'_>, now: UnixTime) -> Result<Proof, Refusal> {
    judge(jwt, demand, now).ok_or(Refusal::PopFailed)
}

fn judge(jwt: &str, demand: &Demand<'_>, now: UnixTime) -> Option<Proof> {
    let budget = Budget::new(MAX_MEMBERS);
    let (jws, payload) = Jws::split(jwt, &budget).ok()?;
    let algorithm = jws.header.algorithm;
    if jws.header.typ != Typ::DpopProof
        || algorithm.is_symmetric()
        || !demand.algorithms.contains(&algorithm)
    {
        return None;
    }
    let jwk = jws.header.jwk.as_ref()?.as_object()?;
    if jwk::thumbprint(jwk)? != demand.key {
        return None;
    }
    let key = jwk::parse(jwk, false).ok()?;
    if !key.check(algorithm, jws.signing_input.as_bytes(), &jws.signature) {
        return None;
    }
    let claims = json::claims(&payload, &budget).ok()?;
    let hash = |token: &str| {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        URL_SAFE_NO_PAD.encode(hash)
    };
    let for_this = claims.text("htm") == Some(demand.method)
        && claims
            .text("htu")
            .is_some_and(|htu| is_this(htu, demand.secure, demand.authority, demand.path))
        && demand
            .token
            .is_none_or(|token| claims.text("ath") == Some(&*hash(token)));
    let jti = claims.text("jti").filter(|jti| !jti.is_empty())?;
    if !for_this || MAX_ID_BYTES < jti.len() {
        return None;
    }
    let issued = seconds(&claims, "iat", Round::Down).ok()??;
    let until = issued + demand.max_age + demand.leeway;
    if until <= now || now + demand.leeway < issued {
        return None;
    }
    let nonce = match claims.member("nonce") {
        None => None,
        Some(nonce) => Some(nonce.as_str()?.into()),
    };
    Some(Proof {
        jti: jti.into(),
        nonce,
        issued,
        until,
    })
}

/// Whether a URI names this resource, without query and fragment, after the normalisation of RFC 3986 §6.2.2 and §6.2.3.
fn is_this(htu: &str, secure: bool, authority: &str, path: &str) -> bool {
    let end = htu.find(['?', '#']).unwrap_or(htu.len());
    let (htu, _) = htu.split_at(end);
    let Some((scheme, rest)) = htu.split_once("://") else {
        return false;
    };
    let (own, port) = if secure {
        ("https", ":443")
    } else {
        ("http", ":80")
    };
    let (host, said) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.strip_suffix(port).unwrap_or(host);
    let said = if said.is_empty() { "/" } else { said };
    scheme.eq_ignore_ascii_case(own)
        && host.eq_ignore_ascii_case(authority)
        && (said == path || unescaped(said).is_some_and(|said| said == path.as_bytes()))
}

/// The path with octets decoded that need no escape, and the others in upper case.
fn unescaped(path: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        rest = after;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        let octet = u8::try_from(high? * 16 + low?).ok()?;
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(octet);
        } else {
            out.push(b'%');
            out.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        }
    }
    Some(out)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod promise;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::forge::Smith;
    use crate::token::forge::b64;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;
    use std::sync::LazyLock;

    const NOW: u64 = 1_800_000_000;
    const TOKEN: &str = "a.b.c";
    const ALL: [Algorithm; 6] = [
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
        Algorithm::Ps256,
        Algorithm::Rs256,
    ];

    static SMITH: LazyLock<Smith> = LazyLock::new(|| Smith::new(Algorithm::Es256));

    fn bare(smith: &Smith) -> Value {
        let mut jwk = smith.jwk("k");
        for member in ["kid", "alg"] {
            jwk.as_object_mut().unwrap().remove(member);
        }
        jwk
    }

    fn key(smith: &Smith) -> Thumbprint {
        jwk::thumbprint(bare(smith).as_object().unwrap()).unwrap()
    }

    fn header(smith: &Smith) -> Value {
        json!({ "typ": "dpop+jwt", "alg": smith.algorithm().as_str(), "jwk": bare(smith) })
    }

    fn claims() -> Value {
        let ath = b64(digest::digest(&digest::SHA256, TOKEN.as_bytes()));
        json!({ "jti": "j", "htm": "GET", "htu": "https://app.test/api/x", "iat": NOW, "ath": ath })
    }

    fn with(mut object: Value, name: &str, value: Value) -> Value {
        object[name] = value;
        object
    }

    fn without(mut object: Value, name: &str) -> Value {
        object.as_object_mut().unwrap().remove(name).unwrap();
        object
    }

    fn demand(smith: &Smith) -> Demand<'static> {
        Demand {
            key: key(smith),
            token: Some(TOKEN),
            method: "GET",
            secure: true,
            authority: "app.test",
            path: "/api/x",
            algorithms: &ALL,
            max_age: Duration::from_secs(60),
            leeway: Duration::from_secs(10),
        }
    }

    fn of(header: &Value, claims: &Value) -> Result<Proof, Refusal> {
        let jwt = SMITH.sign_raw(&header.to_string(), &claims.to_string());
        prove(&jwt, &demand(&SMITH), UnixTime::from_secs(NOW))
    }

    #[track_caller]
    fn refuses(header: &Value, claims: &Value) {
        assert_eq!(
            of(header, claims),
            Err(Refusal::PopFailed),
            "{header} {claims}"
        );
    }

    #[test]
    fn takes_a_proof_by_a_key_of_every_kind() {
        for algorithm in ALL {
            let smith = Smith::new(algorithm);
            let jwt = smith.sign_raw(&header(&smith).to_string(), &claims().to_string());
            let proof = prove(&jwt, &demand(&smith), UnixTime::from_secs(NOW)).unwrap();
            assert_eq!((&*proof.jti, proof.nonce), ("j", None), "{algorithm:?}");
            assert_eq!(proof.until, UnixTime::from_secs(NOW + 70));
        }
        let named = with(claims(), "nonce", json!("n"));
        let proof = of(&header(&SMITH), &named).unwrap();
        assert_eq!(proof.nonce.as_deref(), Some("n"));
    }

    /// RFC 7638 §3.1 and RFC 8037 appendix A.3 give these.
    #[test]
    fn thumbprints_are_those_of_the_standard() {
        let rsa = json!({ "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw" });
        let thumbprint = |jwk: &Value| {
            jwk::thumbprint(jwk.as_object().unwrap())
                .unwrap()
                .to_string()
        };
        assert_eq!(
            thumbprint(&rsa),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        assert_eq!(
            thumbprint(&ed),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn refuses_what_is_no_proof_of_this_key() {
        let good = header(&SMITH);
        let other = Smith::new(Algorithm::Es256);
        let mut private = bare(&SMITH);
        private["d"] = json!("AQAB");
        for bad in [
            with(good.clone(), "typ", json!("JWT")),
            with(good.clone(), "typ", json!("at+jwt")),
            without(good.clone(), "typ"),
            without(good.clone(), "jwk"),
            with(good.clone(), "jwk", json!(null)),
            with(good.clone(), "jwk", json!("x")),
            with(good.clone(), "jwk", bare(&other)),
            with(good.clone(), "jwk", private),
            with(good.clone(), "jwk", with(bare(&SMITH), "use", json!("enc"))),
            with(good.clone(), "alg", json!("none")),
            with(good.clone(), "alg", json!("HS256")),
            with(good.clone(), "alg", json!("ES384")),
            with(good.clone(), "crit", json!(["x"])),
            with(good, "b64", json!(false)),
        ] {
            refuses(&bad, &claims());
        }
        // A proof of another key, well made, for a token that is bound to ours.
        let jwt = other.sign_raw(&header(&other).to_string(), &claims().to_string());
        let judged = prove(&jwt, &demand(&SMITH), UnixTime::from_secs(NOW));
        assert_eq!(judged, Err(Refusal::PopFailed));
        // Our key is named, but somebody else signed.
        let jwt = other.sign_raw(&header(&SMITH).to_string(), &claims().to_string());
        let judged = prove(&jwt, &demand(&SMITH), UnixTime::from_secs(NOW));
        assert_eq!(judged, Err(Refusal::PopFailed));
    }

    #[test]
    fn an_algorithm_counts_only_where_it_is_listed() {
        let jwt = SMITH.sign_raw(&header(&SMITH).to_string(), &claims().to_string());
        let demand = Demand {
            algorithms: &[Algorithm::EdDsa],
            ..demand(&SMITH)
        };
        let judged = prove(&jwt, &demand, UnixTime::from_secs(NOW));
        assert_eq!(judged, Err(Refusal::PopFailed));
    }

    #[test]
    fn a_shared_secret_proves_nothing() {
        let smith = Smith::new(Algorithm::Hs256);
        let jwt = smith.sign_raw(&header(&smith).to_string(), &claims().to_string());
        let demand = Demand {
            algorithms: &[Algorithm::Hs256],
            ..demand(&SMITH)
        };
        assert!(prove(&jwt, &demand, UnixTime::from_secs(NOW)).is_err());
    }

    #[test]
    fn refuses_a_proof_for_another_request_or_token() {
        let header = header(&SMITH);
        for (name, values) in [
            (
                "htm",
                vec![json!("POST"), json!("get"), json!(""), json!(["GET"])],
            ),
            (
                "ath",
                vec![
                    json!(""),
                    json!(b64([0; 32])),
                    json!(format!(
                        "{}=",
                        b64(digest::digest(&digest::SHA256, TOKEN.as_bytes()))
                    )),
                ],
            ),
            (
                "jti",
                vec![
                    json!(""),
                    json!(1),
                    json!("j".repeat(257)),
                    json!(null),
                    json!({}),
                ],
            ),
            ("nonce", vec![json!(1), json!(null), json!([])]),
            (
                "iat",
                vec![
                    json!(NOW - 70),
                    json!(NOW + 11),
                    json!(NOW.to_string()),
                    json!(-1),
                    json!(null),
                    json!(1e300),
                ],
            ),
            (
                "htu",
                vec![
                    json!("http://app.test/api/x"),
                    json!("https://app.test/api/y"),
                    json!("https://app.test/api/x/"),
                    json!("https://app.test/api/X"),
                    json!("https://app.test/"),
                    json!("https://app.test"),
                    json!("https://app.test:8443/api/x"),
                    json!("https://app.test:80/api/x"),
                    json!("https://evil.test/api/x"),
                    json!("https://u@app.test/api/x"),
                    json!("https://app.test.evil.test/api/x"),
                    json!("https://app.test@evil.test/api/x"),
                    json!("https://app.test/%2Fapi/x"),
                    json!("https://app.test/api%2Fx"),
                    json!("https://app.test/api/x%"),
                    json!("https://app.test/api/x%0"),
                    json!("https://app.test\\/api/x"),
                    json!("https:app.test/api/x"),
                    json!("//app.test/api/x"),
                    json!("/api/x"),
                    json!(""),
                    json!(["https://app.test/api/x"]),
                ],
            ),
        ] {
            for value in values {
                refuses(&header, &with(claims(), name, value));
            }
        }
        for name in ["htm", "htu", "ath", "jti", "iat"] {
            refuses(&header, &without(claims(), name));
        }
    }

    #[test]
    fn an_address_may_be_spelt_otherwise() {
        for same in [
            "https://app.test/api/x?q=1",
            "https://app.test/api/x#f",
            "https://app.test/api/x?q#f",
            "HTTPS://APP.TEST/api/x",
            "https://app.test:443/api/x",
            "https://app.test/%61pi/x",
        ] {
            let claims = with(claims(), "htu", json!(same));
            assert!(of(&header(&SMITH), &claims).is_ok(), "{same}");
        }
        assert!(is_this("http://[::1]:8080", false, "[::1]:8080", "/"));
        assert!(is_this("http://[::1]:80/", false, "[::1]", "/"));
        assert!(is_this("https://a/x%2fy~z", true, "a", "/x%2Fy~z"));
        assert!(is_this("https://a/%7ez", true, "a", "/~z"));
    }

    #[test]
    fn a_proof_holds_within_its_window() {
        let at = |iat: Value| of(&header(&SMITH), &with(claims(), "iat", iat));
        assert!(at(json!(NOW - 69)).is_ok());
        assert!(at(json!(NOW + 10)).is_ok());
        assert_eq!(
            at(json!(NOW + 10)).unwrap().until,
            UnixTime::from_secs(NOW + 80)
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_judge(text in "\\PC{0,200}", path in "/[a-z%0-9]{0,20}") {
            let demand = demand(&SMITH);
            prop_assert!(prove(&text, &demand, UnixTime::from_secs(NOW)).is_err());
            let _any = is_this(&text, true, "app.test", &path);
            let _any = is_this(&format!("https://app.test{path}"), true, "app.test", "/x");
        }

        #[test]
        fn one_changed_letter_is_another_proof(at in 0_usize..300, letter in "[A-Za-z0-9_.-]") {
            let mut jwt = SMITH.sign_raw(&header(&SMITH).to_string(), &claims().to_string());
            let at = at.min(jwt.len() - 1);
            prop_assume!(jwt.get(at..=at) != Some(&letter));
            jwt.replace_range(at..=at, &letter);
            prop_assert!(prove(&jwt, &demand(&SMITH), UnixTime::from_secs(NOW)).is_err());
        }
    }
}
