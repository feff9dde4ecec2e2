//! The judgement.

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::token::keys::KeySet;
use crate::token::peek::Unverified;
use crate::token::policy::Policy;

/// A token whose signature, issuer, audience, kind and times hold. Only this module makes one.
#[derive(Clone, Debug)]
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

    /// `exp`.
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

/// Why a token is not good.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Final.
    #[error("{0}")]
    Refused(Refusal),
    /// No key of the set has this `kid`: worth one fetch, see `providers::jwks`.
    #[error("unknown key")]
    UnknownKey,
}

/// Judges a token that [`crate::token::peek`] has read, as of `now`. The claims of the result are those that were read there.
///
/// # Errors
///
/// See [`TokenError`]. To fetch keys at most once, ask [`KeySet::knows`] before.
#[expect(clippy::needless_pass_by_value, reason = "it is used up")]
pub fn verify(
    _token: Unverified<'_>,
    _keys: &KeySet,
    _policy: &Policy,
    _now: UnixTime,
) -> Result<Verified, TokenError> {
    todo!()
}
