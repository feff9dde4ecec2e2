//! The judgement.
//!
//! The signature is checked first: a token that nobody made learns nothing about the rest, and costs little. After it, every
//! rule speaks about the object that was parsed once by `peek`, and the same object is handed on.

use std::fmt;

use aws_lc_rs::constant_time;
use serde_json::Number;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Refusal;
use crate::identity::Subject;
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

/// The longest `jti` and `sid`, in bytes: they are remembered.
const MAX_ID_BYTES: usize = 256;

/// The latest moment a claim may name, in seconds: the greatest integer that every JSON reader takes for the same number
/// (RFC 8259 §6).
const MAX_SECONDS: u64 = (1 << 53) - 1;

/// A token whose signature, issuer, audience, kind and times hold. Only this module makes one.
#[derive(Clone)]
pub struct Verified {
    subject: Option<Subject>,
    expires: UnixTime,
    claims: ClaimMap,
}

impl Verified {
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
    check_signature(&token.jws, keys)?;
    let Unverified { jws, claims } = token;
    if claims.text("iss") != Some(policy.issuer.as_str()) {
        return Err(Refusal::WrongIssuer.into());
    }
    check_kind(jws.header.typ, &claims, &policy.kind)?;
    check_audience(&claims, policy)?;
    let expires = check_times(&claims, policy, now)?;
    let subject = subject(&claims, &policy.kind)?;
    Ok(Verified {
        subject,
        expires,
        claims,
    })
}

/// Judges the signature of a compact JWS alone, of any payload: for runs of test vectors, never for a decision about a person.
///
/// # Errors
///
/// See [`TokenError`].
pub fn verify_signature_only(jws: &str, keys: &KeySet) -> Result<(), TokenError> {
    let (jws, _payload) = Jws::split(jws, &Budget::new(MAX_MEMBERS))?;
    check_signature(&jws, keys)
}

fn check_signature(jws: &Jws<'_>, keys: &KeySet) -> Result<(), TokenError> {
    let algorithm: Algorithm = jws.header.algorithm;
    let key = match keys.find(jws.header.kid.as_deref(), algorithm) {
        Found::Key(key) => key,
        Found::Unfit => return Err(Refusal::BadSignature.into()),
        Found::Unknown => return Err(TokenError::UnknownKey),
    };
    if key.check(algorithm, jws.signing_input.as_bytes(), &jws.signature) {
        Ok(())
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
    let meant: Option<Vec<&str>> = match claims.member("aud") {
        Some(Value::String(one)) => Some(vec![one]),
        Some(Value::Array(some)) => some.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let meant = meant.ok_or(Refusal::WrongAudience)?;
    let good = match &policy.kind {
        Kind::Id { client_id, .. } => {
            let authorised = match claims.member("azp") {
                Some(azp) => azp.as_str() == Some(client_id),
                None => meant.len() == 1,
            };
            meant.contains(&&**client_id) && authorised
        }
        Kind::Access { .. } | Kind::Logout | Kind::Plain => {
            let ours = &policy.audience.0;
            meant
                .iter()
                .any(|name| ours.iter().any(|our| **our == **name))
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
        Kind::Id { .. } | Kind::Logout => true,
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
enum Round {
    Down,
    Up,
}

/// A `NumericDate` (RFC 7519 §2): a number that is not negative and not absurd; a string is none.
fn seconds(claims: &ClaimMap, name: &str, round: Round) -> Result<Option<UnixTime>, Refusal> {
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
