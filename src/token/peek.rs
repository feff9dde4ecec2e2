//! A strict, bounded look at a token before anyone judges it: it chooses the judge, and nothing else.

use std::fmt;

use crate::identity::ClaimMap;
use crate::identity::Refusal;
use crate::token::algorithm::Algorithm;

/// What a token says about itself, parsed once. Nothing here is true before [`crate::token::verify`] has taken it.
///
/// Borrows the text of the token: the signed part of it is not copied.
#[derive(Clone)]
pub struct Unverified<'t> {
    signing_input: &'t str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    typ: Option<Box<str>>,
    claims: ClaimMap,
}

impl Unverified<'_> {
    /// `iss`: a string that is not empty. For the choice of the judge: compare it byte for byte.
    pub fn issuer(&self) -> &str {
        self.claims.text("iss").unwrap_or_default()
    }

    /// `alg`.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`, at most 512 bytes.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Reads header and claims without believing them: three parts, canonical base64url, at most 16 KiB, JSON depth 16,
/// 1 000 members, no duplicate member at any depth, no `crit`, no `b64`.
///
/// # Errors
///
/// What cannot be a token of anyone.
pub fn peek(_token: &str) -> Result<Unverified<'_>, Refusal> {
    todo!()
}
