//! A strict, bounded look at a token before anyone judges it: it chooses the judge, and nothing else.

use crate::identity::Issuer;
use crate::identity::Refusal;
use crate::token::algorithm::Algorithm;

/// What a token says about itself. Nothing here is true yet.
#[derive(Clone, Debug)]
pub struct Unverified {
    /// `iss`: must be a string.
    pub issuer: Issuer,
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`, at most 512 bytes.
    pub kid: Option<Box<str>>,
}

/// Reads header and claims without believing them: three parts, canonical base64url, at most 16 KiB, JSON depth 16,
/// 1 000 members, no duplicate member at any depth, no `crit`, no `b64`.
///
/// # Errors
///
/// What cannot be a token of anyone.
pub fn peek(_token: &str) -> Result<Unverified, Refusal> {
    todo!()
}
