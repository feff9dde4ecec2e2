//! What a proof rests on, by which it can be taken back: plain data.

use std::fmt;

use crate::clock::UnixTime;

/// What is known of a credential beside whose it is. What is not known stays empty: no guess.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grounds {
    /// When it began: `iat` of a token (RFC 7519 §4.1.6), the login of a session. Of a credential that a provider has judged, by our
    /// clock at the earliest.
    pub began: Option<UnixTime>,
    /// The key that signed it (RFC 7515 §4.1.4),
    pub kid: Option<Box<str>>,
    /// and that key itself, whatever it is called.
    pub signer: Option<KeyPrint>,
    /// The token itself.
    pub token: Option<TokenId>,
    /// The session at the issuer that it belongs to (`sid`).
    pub sid: Option<Box<str>>,
}

/// A key and what it signs by, and no other key: for as long as its provider has it, what was made of a token that it signed is good.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct KeyPrint([u8; 16]);

impl KeyPrint {
    /// Of 16 bytes that no two keys share.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The same bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// What names a token of an issuer.
#[derive(Clone, Eq, PartialEq)]
pub enum TokenId {
    /// `jti` (RFC 7519 §4.1.7): the same token in every spelling.
    Named(Box<str>),
    /// SHA-256 of what was signed for as payload, or of an opaque token.
    Digest([u8; 32]),
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[token id]")
    }
}
