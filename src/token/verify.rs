//! The judgement.

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::token::keys::KeySet;
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

/// Judges a token as of `now`.
///
/// # Errors
///
/// See [`TokenError`].
pub fn verify(
    _token: &str,
    _keys: &KeySet,
    _policy: &Policy,
    _now: UnixTime,
) -> Result<Verified, TokenError> {
    todo!()
}
