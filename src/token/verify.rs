//! The judgement.
//!
//! The signature is checked first: a token that nobody made learns nothing about the rest, and costs little. After it, every
//! rule speaks about the object that was parsed once by `peek`, and the same object is handed on.

use std::fmt;

use aws_lc_rs::constant_time;
use aws_lc_rs::digest;
use serde_json::Number;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Grounds;
use crate::identity::KeyPrint;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::TokenId;
use crate::token::algorithm::Algorithm;
use crate::token::json::Budget;
use crate::token::keys::Found;
use crate::token::keys::KeySet;
use crate::token::peek::Jws;
use crate::token::peek::MAX_MEMBERS;
use crate::token::peek::Typ;
use crate::token::peek::Unverified;
use crate::token::policy::Kind;
use crate::token::policy::Marker;
use crate::token::policy::Policy;

/// The member of `events` that makes a logout token (OpenID Connect Back-Channel Logout 1.0 §2.4).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The longest `jti` and `sid`, in bytes: they are remembered. A token with a longer `jti` is refused, a longer `sid` is none.
pub(super) const MAX_ID_BYTES: usize = 256;

/// The latest moment a claim may name, in seconds: the greatest integer that every JSON reader takes for the same number
/// (RFC 8259 §6).
const MAX_SECONDS: u64 = (1 << 53) - 1;

/// A token whose signature, issuer, audience, kind and times hold. Only this module makes one.
#[derive(Clone)]
pub struct Verified {
    subject: Option<Subject>,
    expires: UnixTime,
    grounds: Grounds,
    claims: ClaimMap,
}

impl Verified {
    /// By what the token can be revoked, and when it was issued.
    pub const fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// `sub`. Always present, except in a logout token by `sid`.
    pub const fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// `exp`, without the leeway: it may lie behind by so much. What is kept because of the token ends here.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The claims that were checked: the same parsed object.
    pub const fn claims(&self) -> &ClaimMap {
        &self.claims
    }

    /// As [`Self::claims`], without a copy.
    pub fn into_claims(self) -> ClaimMap {
        self.claims
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Final.
    #[error("{0}")]
    Refused(Refusal),
    /// No key of the set has this `kid`: worth one fetch, see `providers::jwks`.
    #[error("unknown key")]
    UnknownKey,
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Judges a token that [`crate::token::peek`] has read, as of `now`. The claims of the result are those that were read there.
///
/// # Errors
///
/// See [`TokenError`]. To fetch keys at most once, ask [`KeySet::knows`] before.
pub fn verify(
    token: Unverified<'_>,
    keys: &KeySet,
    policy: &Policy,
    now: UnixTime,
) -> Result<Verified, TokenError> {
    // The configuration chose the algorithms; a token may only be one of them (RFC 8725 §3.1).
    if !policy.algorithms.contains(&token.algorithm()) {
        return Err(Refusal::BadSignature.into());
    }
    let signer = check_signature(&token.jws, keys)?;
    let Unverified { jws, claims, .. } = token;
    if claims.text("iss") != Some(policy.issuer.as_str()) {
        return Err(Refusal::WrongIssuer.into());
    }
    check_kind(jws.header.typ, &claims, &policy.kind)?;
    check_audience(&claims, policy)?;
    let expires = check_times(&claims, policy, now)?;
    let subject = subject(&claims, &policy.kind)?;
    let grounds = grounds(&jws, signer, &claims)?;
    Ok(Verified {
        subject,
        expires,
        grounds,
        claims,
    })
}

/// The key that has signed: its name in the set, if it has one there, and itself.
type Signer<'a> = (Option<&'a str>, KeyPrint);

/// What names the token. A revocation finds it by `jti` whatever its spelling; without one, by what was signed as payload.
fn grounds(jws: &Jws<'_>, signer: Signer<'_>, claims: &ClaimMap) -> Result<Grounds, Refusal> {
    let named = claims.text("jti").filter(|jti| !jti.is_empty());
    // By another name a revocation would not find it.
    if named.is_some_and(|jti| MAX_ID_BYTES < jti.len()) {
        return Err(Refusal::BadCredentials);
    }
    let id = named.map_or_else(
        || {
            let payload = jws.signing_input.rsplit('.').next().unwrap_or_default();
            let mut hash = [0; 32];
            hash.copy_from_slice(digest::digest(&digest::SHA256, payload.as_bytes()).as_ref());
            TokenId::Digest(hash)
        },
        |jti| TokenId::Named(jti.into()),
    );
    let sid = claims
        .text("sid")
        .filter(|sid| !sid.is_empty() && sid.len() <= MAX_ID_BYTES);
    Ok(Grounds {
        began: seconds(claims, "iat", Round::Down)?,
        // Whoever leaves the name out is found by the key all the same.
        kid: jws.header.kid.clone().or_else(|| signer.0.map(Box::from)),
        signer: Some(signer.1),
        token: Some(id),
        sid: sid.map(Box::from),
    })
}

/// Judges the signature of a compact JWS alone, of any payload: for runs of test vectors, never for a decision about a person.
///
/// # Errors
///
/// See [`TokenError`].
pub fn verify_signature_only(jws: &str, keys: &KeySet) -> Result<(), TokenError> {
    let (jws, _payload) = Jws::split(jws, &Budget::new(MAX_MEMBERS))?;
    check_signature(&jws, keys).map(drop)
}

/// By which key of the set.
fn check_signature<'a>(jws: &Jws<'_>, keys: &'a KeySet) -> Result<Signer<'a>, TokenError> {
    let algorithm: Algorithm = jws.header.algorithm;
    let key = match keys.find(jws.header.kid.as_deref(), algorithm) {
        Found::Key(key) => key,
        Found::Unfit => return Err(Refusal::BadSignature.into()),
        Found::Unknown => return Err(TokenError::UnknownKey),
    };
    if key.check(algorithm, jws.signing_input.as_bytes(), &jws.signature) {
        Ok((key.kid.as_deref(), key.print(algorithm)))
    } else {
        Err(Refusal::BadSignature.into())
    }
}

/// Keeps the kinds of signed objects of one issuer apart (RFC 8725 §3.12).
fn check_kind(typ: Typ, claims: &ClaimMap, kind: &Kind) -> Result<(), Refusal> {
    let absent = |names: &[&str]| names.iter().all(|name| claims.member(name).is_none());
    let plain = matches!(typ, Typ::Absent | Typ::Jwt);
    let good = match kind {
        Kind::Access { markers } => {
            let marked = || {
                markers.iter().any(|marker| is_marked(claims, marker))
                    && absent(&["nonce", "at_hash", "c_hash"])
            };
            typ == Typ::AccessToken || (plain && marked())
        }
        Kind::Id { nonce, .. } => {
            let expected = |sent: &str| {
                let compared =
                    constant_time::verify_slices_are_equal(sent.as_bytes(), nonce.as_bytes());
                compared.is_ok()
            };
            plain && absent(&["events"]) && claims.text("nonce").is_some_and(expected)
        }
        Kind::RenewedId { .. } => plain && absent(&["events"]),
        Kind::Logout => {
            let event = claims
                .member("events")
                .and_then(|events| events.get(LOGOUT_EVENT));
            typ == Typ::LogoutToken
                && event.is_some_and(Value::is_object)
                && is_id(claims.member("jti"))
                && absent(&["nonce"])
        }
        Kind::Plain => true,
    };
    good.then_some(()).ok_or(Refusal::BadCredentials)
}

fn is_marked(claims: &ClaimMap, marker: &Marker) -> bool {
    claims.text(&marker.claim) == Some(&*marker.equals)
}

/// Whether it is an identifier that can be remembered.
fn is_id(value: Option<&Value>) -> bool {
    value
        .and_then(Value::as_str)
        .is_some_and(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES)
}

/// `aud` (RFC 7519 §4.1.3), and `azp` of an ID token (OpenID Connect Core 1.0 §3.1.3.7).
fn check_audience(claims: &ClaimMap, policy: &Policy) -> Result<(), Refusal> {
    let meant = match claims.member("aud") {
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(Value::Array(some)) if some.iter().all(Value::is_string) => some,
        _ => return Err(Refusal::WrongAudience),
    };
    let names = |name: &str| meant.iter().any(|one| one.as_str() == Some(name));
    let good = match &policy.kind {
        Kind::Id { client_id, .. } | Kind::RenewedId { client_id } => {
            let authorised = match claims.member("azp") {
                Some(azp) => azp.as_str() == Some(client_id),
                None => meant.len() == 1,
            };
            names(client_id) && authorised
        }
        Kind::Access { .. } | Kind::Logout | Kind::Plain => {
            policy.audience.0.iter().any(|ours| names(ours))
        }
    };
    good.then_some(()).ok_or(Refusal::WrongAudience)
}

/// `exp`, `nbf`, `iat` (RFC 7519 §4.1.4–4.1.6) and the longest life. Answers `exp`.
fn check_times(claims: &ClaimMap, policy: &Policy, now: UnixTime) -> Result<UnixTime, Refusal> {
    let late = now + policy.leeway;
    let expires = seconds(claims, "exp", Round::Down)?.ok_or(Refusal::BadCredentials)?;
    let not_before = seconds(claims, "nbf", Round::Up)?;
    let issued = seconds(claims, "iat", Round::Up)?;
    let needs_iat = match policy.kind {
        Kind::Id { .. } | Kind::RenewedId { .. } | Kind::Logout => true,
        Kind::Access { .. } | Kind::Plain => false,
    };
    if needs_iat && issued.is_none() {
        return Err(Refusal::BadCredentials);
    }
    if expires + policy.leeway <= now
        || [not_before, issued]
            .into_iter()
            .flatten()
            .any(|at| late < at)
    {
        return Err(Refusal::Expired);
    }
    let born = seconds(claims, "iat", Round::Down)?.unwrap_or(now);
    if policy.max_life < expires.since(born) {
        return Err(Refusal::BadCredentials);
    }
    Ok(expires)
}

/// To which side a fraction of a second goes: the one that refuses more.
#[derive(Clone, Copy)]
pub(super) enum Round {
    /// To the past.
    Down,
    /// To the future.
    Up,
}

/// A `NumericDate` (RFC 7519 §2): a number that is not negative and not absurd; a string is none.
pub(super) fn seconds(
    claims: &ClaimMap,
    name: &str,
    round: Round,
) -> Result<Option<UnixTime>, Refusal> {
    let Some(value) = claims.member(name) else {
        return Ok(None);
    };
    let whole = value.as_number().and_then(|number| whole(number, round));
    whole
        .filter(|seconds| *seconds <= MAX_SECONDS)
        .map(|seconds| Some(UnixTime::from_secs(seconds)))
        .ok_or(Refusal::BadCredentials)
}

fn whole(number: &Number, round: Round) -> Option<u64> {
    if let Some(exact) = number.as_u64() {
        return Some(exact);
    }
    let rounded = match round {
        Round::Down => number.as_f64()?.floor(),
        Round::Up => number.as_f64()?.ceil(),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    (0.0..=9_007_199_254_740_991.0)
        .contains(&rounded)
        .then_some(rounded as u64)
}

/// `sub`, required; in a logout token `sid` may stand for it (OpenID Connect Back-Channel Logout 1.0 §2.4).
fn subject(claims: &ClaimMap, kind: &Kind) -> Result<Option<Subject>, Refusal> {
    match (claims.member("sub"), kind) {
        (Some(Value::String(sub)), _) => match Subject::try_from(sub.as_str()) {
            Ok(subject) => Ok(Some(subject)),
            Err(_nobody) => Err(Refusal::BadCredentials),
        },
        (None, Kind::Logout) if is_id(claims.member("sid")) => Ok(None),
        _ => Err(Refusal::BadCredentials),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::token::Audience;
    use crate::token::forge::ALL;
    use crate::token::forge::Smith;
    use crate::token::forge::b64;
    use crate::token::forge::jwks;
    use crate::token::peek;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;

    static SMITH: LazyLock<Smith> = LazyLock::new(|| Smith::new(Algorithm::Es256));

    fn policy(kind: Kind) -> Policy {
        Policy {
            issuer: Issuer::new("https://idp"),
            algorithms: vec![Algorithm::Es256],
            audience: Audience(vec!["app".into(), "app-2".into()]),
            kind,
            leeway: Duration::from_secs(30),
            max_life: Duration::from_secs(86_400),
        }
    }

    fn access() -> Kind {
        Kind::Access { markers: vec![] }
    }

    fn id() -> Kind {
        Kind::Id {
            nonce: "n-1".into(),
            client_id: "web".into(),
        }
    }

    fn access_claims() -> Value {
        json!({ "iss": "https://idp", "sub": "alice", "aud": "app", "iat": NOW - 10, "exp": NOW + 300 })
    }

    fn id_claims() -> Value {
        with(
            access_claims(),
            &[("aud", json!("web")), ("nonce", json!("n-1"))],
        )
    }

    fn logout_claims() -> Value {
        let events = json!({ LOGOUT_EVENT: {} });
        with(
            access_claims(),
            &[("events", events), ("jti", json!("j-1"))],
        )
    }

    fn with(mut claims: Value, changes: &[(&str, Value)]) -> Value {
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        claims
    }

    fn without(mut claims: Value, name: &str) -> Value {
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn judge(token: &str, keys: &KeySet, policy: &Policy) -> Result<Verified, TokenError> {
        verify(peek(token)?, keys, policy, UnixTime::from_secs(NOW))
    }

    /// What the judgement of a well signed token is: `None` for good.
    fn verdict(typ: &str, claims: &Value, kind: Kind) -> Option<Refusal> {
        let token = SMITH.sign(typ, claims);
        match judge(&token, &SMITH.keys(), &policy(kind)) {
            Ok(_) => None,
            Err(TokenError::Refused(refusal)) => Some(refusal),
            Err(TokenError::UnknownKey) => panic!("the key is known"),
        }
    }

    #[track_caller]
    fn access_is(claims: &Value, expected: Option<Refusal>) {
        assert_eq!(verdict("at+jwt", claims, access()), expected, "{claims}");
    }

    #[test]
    fn a_good_access_token_is_good_and_its_claims_are_kept() {
        let token = SMITH.sign(
            "at+jwt",
            &with(access_claims(), &[("x", json!({ "y": [1] }))]),
        );
        let verified = judge(&token, &SMITH.keys(), &policy(access())).unwrap();
        assert_eq!(verified.subject().unwrap().as_str(), "alice");
        assert_eq!(verified.expires(), UnixTime::from_secs(NOW + 300));
        assert_eq!(verified.claims().member("x"), Some(&json!({ "y": [1] })));
        assert!(!format!("{verified:?}").contains("alice"));
    }

    #[test]
    fn every_algorithm_is_good_where_the_policy_names_it_and_only_there() {
        for algorithm in ALL {
            let smith = Smith::new(algorithm);
            let token = smith.sign("at+jwt", &access_claims());
            let allowed = Policy {
                algorithms: vec![algorithm],
                ..policy(access())
            };
            assert!(
                judge(&token, &smith.keys(), &allowed).is_ok(),
                "{algorithm:?}"
            );
            let others = Policy {
                algorithms: ALL
                    .into_iter()
                    .filter(|other| *other != algorithm)
                    .collect(),
                ..policy(access())
            };
            assert_eq!(
                judge(&token, &smith.keys(), &others).unwrap_err(),
                Refusal::BadSignature.into()
            );
        }
    }

    #[test]
    fn ed25519_is_the_other_name_of_eddsa() {
        let smith = Smith::new(Algorithm::EdDsa);
        let header = r#"{"alg":"Ed25519","kid":"k","typ":"at+jwt"}"#;
        let token = smith.sign_raw(header, &access_claims().to_string());
        let policy = Policy {
            algorithms: vec![Algorithm::EdDsa],
            ..policy(access())
        };
        assert!(judge(&token, &smith.keys(), &policy).is_ok());
    }

    #[test]
    fn a_public_key_is_no_shared_secret_in_any_encoding() {
        let smith = Smith::new(Algorithm::Rs256);
        let Smith::Rsa(pair, _) = &smith else {
            unreachable!()
        };
        use aws_lc_rs::encoding::AsDer as _;
        use aws_lc_rs::signature::KeyPair as _;
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let pem = |label: &str, der: &[u8]| {
            let lines: Vec<_> = STANDARD.encode(der).into_bytes();
            let lines: Vec<_> = lines
                .chunks(64)
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
                .collect();
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                lines.join("\n")
            )
        };
        let spki_pem = pem("PUBLIC KEY", &spki);
        let pkcs1 = pair.public_key().as_ref().to_vec();
        let jwk = smith.jwk("k");
        let n = jwk["n"].as_str().unwrap().to_owned();
        let set = KeySet::from_remote(&jwks(std::slice::from_ref(&jwk)))
            .unwrap()
            .0;
        let by_pem = KeySet::from_pem(spki_pem.as_bytes()).unwrap();
        for secret in [
            spki_pem.clone().into_bytes(),
            spki_pem.trim_end().as_bytes().to_vec(),
            format!(" {spki_pem}").into_bytes(),
            pem("RSA PUBLIC KEY", &pkcs1).into_bytes(),
            spki,
            pkcs1,
            n.clone().into_bytes(),
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(n)
                .unwrap(),
            jwk.to_string().into_bytes(),
            Vec::new(),
        ] {
            for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
                let forger = Smith::Secret(secret.clone(), algorithm);
                let token = forger.sign("at+jwt", &access_claims());
                // Even where an operator allows both families.
                let both = Policy {
                    algorithms: ALL.to_vec(),
                    ..policy(access())
                };
                for keys in [&set, &by_pem] {
                    for policy in [&both, &policy(access())] {
                        assert_eq!(
                            judge(&token, keys, policy).unwrap_err(),
                            Refusal::BadSignature.into()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_in_the_header_is_not_used() {
        let attacker = Smith::new(Algorithm::Es256);
        let own = attacker.jwk("k");
        for header in [
            json!({ "alg": "ES256", "typ": "at+jwt", "kid": "k", "jwk": own }),
            json!({ "alg": "ES256", "typ": "at+jwt", "jwk": own }),
            json!({ "alg": "ES256", "typ": "at+jwt", "kid": "k", "jku": "https://evil/keys" }),
            json!({ "alg": "ES256", "typ": "at+jwt", "kid": "k", "x5c": ["AAAA"], "x5u": "https://evil" }),
        ] {
            let token = attacker.sign_raw(&header.to_string(), &access_claims().to_string());
            let verdict = judge(&token, &SMITH.keys(), &policy(access()));
            assert_eq!(verdict.unwrap_err(), Refusal::BadSignature.into());
        }
    }

    #[test]
    fn only_a_key_nobody_knows_is_worth_a_fetch() {
        let header = |kid: &str| format!(r#"{{"alg":"ES256","typ":"at+jwt"{kid}}}"#);
        let token = |kid: &str| SMITH.sign_raw(&header(kid), &access_claims().to_string());
        let wrong = Smith::new(Algorithm::Es256).sign("at+jwt", &access_claims());
        let keys = SMITH.keys();
        let empty = KeySet::from_remote(b"{\"keys\":[]}").unwrap().0;
        let known = policy(access());
        // Whoever leaves its name out is found by it all the same.
        let nameless = judge(&token(""), &keys, &known).unwrap();
        assert_eq!(nameless.grounds().kid.as_deref(), Some("k"));
        for (token, keys, expected) in [
            (token(r#","kid":"K""#), &keys, TokenError::UnknownKey),
            (token(r#","kid":"""#), &keys, TokenError::UnknownKey),
            (token(r#","kid":"k""#), &empty, TokenError::UnknownKey),
            (token(""), &empty, TokenError::UnknownKey),
            (wrong, &keys, Refusal::BadSignature.into()),
        ] {
            assert_eq!(judge(&token, keys, &known).unwrap_err(), expected);
        }
        let closed = Policy {
            algorithms: vec![],
            ..policy(access())
        };
        assert_eq!(
            judge(&token(""), &keys, &closed).unwrap_err(),
            Refusal::BadSignature.into()
        );
    }

    #[test]
    fn a_bad_signature_hides_every_other_reason() {
        let attacker = Smith::new(Algorithm::Es256);
        for claims in [
            with(access_claims(), &[("iss", json!("https://other"))]),
            with(access_claims(), &[("aud", json!("other"))]),
            with(access_claims(), &[("exp", json!(1))]),
            json!({ "iss": "https://idp" }),
        ] {
            let token = attacker.sign("JWT", &claims);
            assert_eq!(
                judge(&token, &SMITH.keys(), &policy(access())).unwrap_err(),
                Refusal::BadSignature.into()
            );
        }
    }

    #[test]
    fn an_issuer_is_compared_letter_by_letter() {
        for issuer in [
            "https://idp/",
            "https://id",
            "https://idp/realms/x",
            "HTTPS://IDP",
            "http://idp",
            "https://idp#",
            "https://u@idp",
            "https://idp\u{200b}",
            "https://\u{456}dp",
            "https://idp ",
            " https://idp",
            "https://idp:443",
            "https://idp\0",
        ] {
            access_is(
                &with(access_claims(), &[("iss", json!(issuer))]),
                Some(Refusal::WrongIssuer),
            );
        }
    }

    #[test]
    fn an_audience_is_ours_or_not() {
        for (aud, expected) in [
            (json!("app"), None),
            (json!("app-2"), None),
            (json!(["app"]), None),
            (json!(["other", "app"]), None),
            (json!("app2"), Some(Refusal::WrongAudience)),
            (json!("ap"), Some(Refusal::WrongAudience)),
            (json!("APP"), Some(Refusal::WrongAudience)),
            (json!("app "), Some(Refusal::WrongAudience)),
            (json!("app/"), Some(Refusal::WrongAudience)),
            (json!("other app"), Some(Refusal::WrongAudience)),
            (json!("app,app-2"), Some(Refusal::WrongAudience)),
            (json!(["other"]), Some(Refusal::WrongAudience)),
            (json!([]), Some(Refusal::WrongAudience)),
            (json!(""), Some(Refusal::WrongAudience)),
            (json!(null), Some(Refusal::WrongAudience)),
            (json!(["app", 1]), Some(Refusal::WrongAudience)),
            (json!(["app", null]), Some(Refusal::WrongAudience)),
            (json!([["app"]]), Some(Refusal::WrongAudience)),
            (json!({ "app": true }), Some(Refusal::WrongAudience)),
            (json!(1), Some(Refusal::WrongAudience)),
        ] {
            access_is(&with(access_claims(), &[("aud", aud)]), expected);
        }
        access_is(
            &without(access_claims(), "aud"),
            Some(Refusal::WrongAudience),
        );
        let nobody = Policy {
            audience: Audience(vec![]),
            ..policy(access())
        };
        let token = SMITH.sign("at+jwt", &access_claims());
        assert_eq!(
            judge(&token, &SMITH.keys(), &nobody).unwrap_err(),
            Refusal::WrongAudience.into()
        );
    }

    #[test]
    fn times_hold_with_the_leeway_and_not_a_second_more() {
        let expired = Some(Refusal::Expired);
        for (name, at, expected) in [
            ("exp", NOW - 29, None),
            ("exp", NOW - 30, expired),
            ("exp", NOW - 31, expired),
            ("exp", 0, expired),
            ("nbf", NOW + 29, None),
            ("nbf", NOW + 30, None),
            ("nbf", NOW + 31, expired),
            ("nbf", 0, None),
            ("iat", NOW + 30, None),
            ("iat", NOW + 31, expired),
        ] {
            access_is(&with(access_claims(), &[(name, json!(at))]), expected);
        }
        for (name, at, expected) in [
            ("exp", NOW as f64 - 29.0, None),
            ("exp", NOW as f64 - 29.5, expired),
            ("nbf", NOW as f64 + 29.5, None),
            ("nbf", NOW as f64 + 30.5, expired),
            ("iat", NOW as f64 + 30.5, expired),
        ] {
            access_is(&with(access_claims(), &[(name, json!(at))]), expected);
        }
    }

    #[test]
    fn a_time_is_a_number_of_seconds() {
        for name in ["exp", "nbf", "iat"] {
            for value in [
                json!("1800000300"),
                json!(null),
                json!(true),
                json!([NOW + 300]),
                json!({}),
                json!(-1),
                json!(-0.5e9),
                json!(1e18),
                json!(u64::MAX),
                json!(i64::MIN),
                json!(f64::MAX),
            ] {
                access_is(
                    &with(access_claims(), &[(name, value)]),
                    Some(Refusal::BadCredentials),
                );
            }
        }
        access_is(
            &without(access_claims(), "exp"),
            Some(Refusal::BadCredentials),
        );
        access_is(&without(access_claims(), "iat"), None);
        access_is(
            &with(access_claims(), &[("exp", json!(1.800_000_3e9))]),
            None,
        );
    }

    #[test]
    fn a_name_that_is_too_long_to_be_remembered_is_no_name_of_a_token() {
        let named = |length| with(access_claims(), &[("jti", json!("j".repeat(length)))]);
        access_is(&named(256), None);
        access_is(&named(257), Some(Refusal::BadCredentials));
    }

    #[test]
    fn no_token_lives_too_long() {
        let too_long = Some(Refusal::BadCredentials);
        let life =
            |iat: u64, exp: u64| with(access_claims(), &[("iat", json!(iat)), ("exp", json!(exp))]);
        access_is(&life(NOW, NOW + 86_400), None);
        access_is(&life(NOW, NOW + 86_401), too_long);
        access_is(&life(NOW - 86_000, NOW + 400), None);
        access_is(&life(NOW - 86_000, NOW + 401), too_long);
        access_is(&life(0, NOW + 300), too_long);
        let without_iat = |exp: u64| without(life(NOW, exp), "iat");
        access_is(&without_iat(NOW + 86_400), None);
        access_is(&without_iat(NOW + 86_401), too_long);
        access_is(&without_iat(9_007_199_254_740_991), too_long);
    }

    #[test]
    fn a_subject_is_a_name() {
        for sub in [
            json!(""),
            json!(1),
            json!(null),
            json!(["alice"]),
            json!("a\nb"),
            json!("x".repeat(256)),
        ] {
            access_is(
                &with(access_claims(), &[("sub", sub)]),
                Some(Refusal::BadCredentials),
            );
        }
        access_is(
            &without(access_claims(), "sub"),
            Some(Refusal::BadCredentials),
        );
        let capital = with(without(access_claims(), "sub"), &[("Sub", json!("admin"))]);
        access_is(&capital, Some(Refusal::BadCredentials));
    }

    #[test]
    fn look_alike_members_are_other_members() {
        let claims = r#"{"sub\u0000":"x","sub":"alice","groups\u0020":["admins"],"iss":"https://idp",
            "aud":"app","exp":1800000300}"#;
        let token = SMITH.sign_raw(r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#, claims);
        let verified = judge(&token, &SMITH.keys(), &policy(access())).unwrap();
        assert_eq!(verified.subject().unwrap().as_str(), "alice");
        assert_eq!(verified.claims().member("groups"), None);
    }

    #[test]
    fn kinds_exclude_each_other() {
        let marked = || Kind::Access {
            markers: vec![Marker {
                claim: "typ".into(),
                equals: "Bearer".into(),
            }],
        };
        let bearer = || with(access_claims(), &[("typ", json!("Bearer"))]);
        // An ID token of the client whose id is also an API's audience.
        let id_for_app = || with(id_claims(), &[("aud", json!("app")), ("typ", json!("ID"))]);
        let bad = Some(Refusal::BadCredentials);
        for (typ, claims, kind, expected) in [
            ("at+jwt", access_claims(), access(), None),
            ("application/AT+JWT", access_claims(), access(), None),
            ("JWT", access_claims(), access(), bad),
            ("", access_claims(), access(), bad),
            ("at+jwt2", access_claims(), access(), bad),
            ("logout+jwt", logout_claims(), access(), bad),
            ("dpop+jwt", access_claims(), access(), bad),
            ("secevent+jwt", access_claims(), access(), bad),
            ("token-introspection+jwt", access_claims(), access(), bad),
            ("JWT", id_for_app(), access(), bad),
            ("JWT", bearer(), access(), bad),
            ("JWT", bearer(), marked(), None),
            ("JWT", access_claims(), marked(), bad),
            ("JWT", id_for_app(), marked(), bad),
            (
                "JWT",
                with(bearer(), &[("typ", json!("bearer"))]),
                marked(),
                bad,
            ),
            (
                "JWT",
                with(bearer(), &[("typ", json!(["Bearer"]))]),
                marked(),
                bad,
            ),
            (
                "JWT",
                with(bearer(), &[("nonce", json!("n"))]),
                marked(),
                bad,
            ),
            (
                "JWT",
                with(bearer(), &[("nonce", json!(null))]),
                marked(),
                bad,
            ),
            (
                "JWT",
                with(bearer(), &[("at_hash", json!("x"))]),
                marked(),
                bad,
            ),
            (
                "JWT",
                with(bearer(), &[("c_hash", json!("x"))]),
                marked(),
                bad,
            ),
            ("logout+jwt", bearer(), marked(), bad),
            ("dpop+jwt", bearer(), marked(), bad),
            ("JWT", id_claims(), id(), None),
            ("at+jwt", id_claims(), id(), bad),
            (
                "logout+jwt",
                with(id_claims(), &[("events", json!({}))]),
                id(),
                bad,
            ),
            (
                "JWT",
                with(id_claims(), &[("events", json!({ LOGOUT_EVENT: {} }))]),
                id(),
                bad,
            ),
            ("logout+jwt", logout_claims(), Kind::Logout, None),
            ("JWT", logout_claims(), Kind::Logout, bad),
            ("at+jwt", access_claims(), Kind::Logout, bad),
            ("JWT", id_for_app(), Kind::Logout, bad),
            ("anything", access_claims(), Kind::Plain, None),
        ] {
            assert_eq!(
                verdict(typ, &claims, kind.clone()),
                expected,
                "{typ} {claims} {kind:?}"
            );
        }
    }

    #[test]
    fn a_token_without_typ_is_no_access_token_unless_marked() {
        let header = r#"{"alg":"ES256","kid":"k"}"#;
        let token = SMITH.sign_raw(header, &access_claims().to_string());
        assert_eq!(
            judge(&token, &SMITH.keys(), &policy(access())).unwrap_err(),
            Refusal::BadCredentials.into()
        );
        let id_token = SMITH.sign_raw(header, &id_claims().to_string());
        assert!(judge(&id_token, &SMITH.keys(), &policy(id())).is_ok());
    }

    #[test]
    fn an_id_token_is_for_this_login_of_this_client() {
        let wrong = Some(Refusal::WrongAudience);
        let bad = Some(Refusal::BadCredentials);
        for (changes, expected) in [
            (vec![], None),
            (vec![("azp", json!("web"))], None),
            (vec![("aud", json!(["web"]))], None),
            (
                vec![("aud", json!(["web", "api"])), ("azp", json!("web"))],
                None,
            ),
            (vec![("aud", json!(["web", "api"]))], wrong),
            (
                vec![("aud", json!(["web", "api"])), ("azp", json!("api"))],
                wrong,
            ),
            (vec![("azp", json!("other"))], wrong),
            (vec![("azp", json!(null))], wrong),
            (vec![("azp", json!(["web"]))], wrong),
            (vec![("aud", json!("app"))], wrong),
            (vec![("aud", json!(["app"])), ("azp", json!("web"))], wrong),
            (vec![("nonce", json!("n-2"))], bad),
            (vec![("nonce", json!("n-1 "))], bad),
            (vec![("nonce", json!(""))], bad),
            (vec![("nonce", json!(1))], bad),
        ] {
            let claims = with(id_claims(), &changes);
            assert_eq!(verdict("JWT", &claims, id()), expected, "{claims}");
        }
        for name in ["nonce", "iat", "exp", "sub"] {
            assert_eq!(
                verdict("JWT", &without(id_claims(), name), id()),
                bad,
                "{name}"
            );
        }
        assert_eq!(verdict("JWT", &without(id_claims(), "aud"), id()), wrong);
    }

    #[test]
    fn a_logout_token_says_whom_and_is_remembered() {
        let by_sid = with(without(logout_claims(), "sub"), &[("sid", json!("s-1"))]);
        assert_eq!(verdict("logout+jwt", &by_sid, Kind::Logout), None);
        let token = SMITH.sign("logout+jwt", &by_sid);
        let verified = judge(&token, &SMITH.keys(), &policy(Kind::Logout)).unwrap();
        assert!(verified.subject().is_none());
        for claims in [
            without(logout_claims(), "sub"),
            without(logout_claims(), "jti"),
            without(logout_claims(), "iat"),
            without(logout_claims(), "exp"),
            without(logout_claims(), "events"),
            with(by_sid.clone(), &[("sid", json!(1))]),
            with(by_sid.clone(), &[("sid", json!(""))]),
            with(by_sid, &[("sub", json!(null))]),
            with(logout_claims(), &[("jti", json!("j".repeat(257)))]),
            with(logout_claims(), &[("nonce", json!("n-1"))]),
            with(logout_claims(), &[("events", json!({}))]),
            with(logout_claims(), &[("events", json!([LOGOUT_EVENT]))]),
            with(
                logout_claims(),
                &[("events", json!({ LOGOUT_EVENT: true }))],
            ),
        ] {
            let verdict = verdict("logout+jwt", &claims, Kind::Logout);
            assert_eq!(verdict, Some(Refusal::BadCredentials), "{claims}");
        }
    }

    #[test]
    fn no_letter_of_a_token_can_be_changed() {
        let smith = Smith::new(Algorithm::EdDsa);
        let keys = smith.keys();
        let policy = Policy {
            algorithms: ALL.to_vec(),
            ..policy(access())
        };
        let token = smith.sign("at+jwt", &access_claims());
        assert!(judge(&token, &keys, &policy).is_ok());
        for (at, own) in token.bytes().enumerate() {
            for other in *b"A_g-z.= 0" {
                if other != own {
                    let mut bytes = token.clone().into_bytes();
                    bytes[at] = other;
                    let changed = String::from_utf8(bytes).unwrap();
                    assert!(judge(&changed, &keys, &policy).is_err(), "{changed}");
                }
            }
        }
    }

    #[test]
    fn the_signature_alone_can_be_judged_for_vectors() {
        let keys = SMITH.keys();
        let header = r#"{"alg":"ES256","kid":"k"}"#;
        for payload in ["", "foo", "{}"] {
            let jws = SMITH.sign_raw(header, payload);
            assert_eq!(verify_signature_only(&jws, &keys), Ok(()));
        }
        let crit = SMITH.sign_raw(r#"{"alg":"ES256","kid":"k","crit":["x"],"x":1}"#, "foo");
        assert!(verify_signature_only(&crit, &keys).is_err());
        let other = Smith::new(Algorithm::Es256).sign_raw(header, "foo");
        assert_eq!(
            verify_signature_only(&other, &keys),
            Err(Refusal::BadSignature.into())
        );
    }

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z:/.]{0,12}".prop_map(Value::from),
            Just(json!("https://idp")),
            Just(json!("app")),
            Just(json!(["app", "web"])),
            Just(json!(NOW)),
        ]
    }

    proptest! {
        /// Claims of any types are judged, not stumbled over; what is good has all it needs.
        #[test]
        fn no_claims_are_too_strange(
            changes in prop::collection::vec((0..10_usize, leaf()), 0..6),
            typ in prop_oneof![Just("at+jwt"), Just("JWT"), Just("logout+jwt"), Just("x")],
            kind in 0..4_usize,
        ) {
            const NAMES: [&str; 10] =
                ["iss", "sub", "aud", "exp", "iat", "nbf", "azp", "nonce", "events", "jti"];
            let mut claims = logout_claims();
            for (name, value) in changes {
                claims[NAMES[name]] = value;
            }
            let kinds = [access(), id(), Kind::Logout, Kind::Plain];
            let token = SMITH.sign(typ, &claims);
            if let Ok(verified) = judge(&token, &SMITH.keys(), &policy(kinds[kind].clone())) {
                prop_assert!(verified.subject().is_some() || kind == 2);
                prop_assert!(UnixTime::from_secs(NOW - 30) < verified.expires());
                prop_assert!(verified.expires() <= UnixTime::from_secs(NOW + 86_400 + 30));
                prop_assert_eq!(verified.claims().text("iss"), Some("https://idp"));
            }
        }

        /// Cutting, doubling and turning pieces of a good token never makes another good one.
        #[test]
        fn no_mutation_of_a_token_is_good(
            at in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
            noise in "[A-Za-z0-9_.=-]{0,6}",
            way in 0..4_usize,
        ) {
            let token = SMITH.sign("at+jwt", &access_claims());
            let (at, to) = (at.index(token.len()), to.index(token.len()));
            let (at, to) = (at.min(to), at.max(to));
            let mutated = match way {
                0 => [token.get(..at), token.get(to..)].map(Option::unwrap).concat(),
                1 => [token.get(..at), Some(&noise), token.get(at..)].map(Option::unwrap).concat(),
                2 => [token.get(..at), Some(&noise), token.get(to..)].map(Option::unwrap).concat(),
                _ => [token.get(..to), token.get(at..)].map(Option::unwrap).concat(),
            };
            if mutated != token {
                prop_assert!(judge(&mutated, &SMITH.keys(), &policy(access())).is_err());
            }
        }

        /// Other payloads under a good signature are not good.
        #[test]
        fn a_signature_covers_one_payload(subject in "[a-z]{1,8}") {
            let token = SMITH.sign("at+jwt", &access_claims());
            let parts: Vec<_> = token.split('.').collect();
            let claims = with(access_claims(), &[("sub", json!(subject))]);
            let forged = format!("{}.{}.{}", parts[0], b64(claims.to_string()), parts[2]);
            if forged != token {
                prop_assert_eq!(
                    judge(&forged, &SMITH.keys(), &policy(access())).unwrap_err(),
                    Refusal::BadSignature.into()
                );
            }
        }
    }
}
