//! Key sets (RFC 7517): parsed key by key, looked up by `kid`, replaced as a whole.

use crate::token::algorithm::Algorithm;

/// The public keys of one issuer.
#[derive(Clone, Debug)]
pub struct KeySet {}

/// A key of a set that is not used, and why: for the log.
#[derive(Clone, Debug)]
pub struct SkippedKey {
    /// Its `kid`, if it has one.
    pub kid: Option<Box<str>>,
    /// Why it is not used.
    pub reason: String,
}

/// Why a key set as a whole is not usable.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct KeySetError(pub String);

impl KeySet {
    /// Reads a set fetched from a provider: `oct`, unknown and unusable keys are skipped, each with a reason.
    ///
    /// # Errors
    ///
    /// When the document is no key set or is out of bounds (more than 100 keys).
    pub fn from_remote(_json: &[u8]) -> Result<(Self, Vec<SkippedKey>), KeySetError> {
        todo!()
    }

    /// Reads a set written in the configuration or a file of its own: nothing is skipped silently, a mix of symmetric
    /// and asymmetric keys is refused.
    ///
    /// # Errors
    ///
    /// When any key is unusable.
    pub fn from_inline(_json: &[u8]) -> Result<Self, KeySetError> {
        todo!()
    }

    /// Reads one public key or certificate in PEM, without a `kid`.
    ///
    /// # Errors
    ///
    /// When it is no key, or too weak.
    pub fn from_pem(_pem: &[u8]) -> Result<Self, KeySetError> {
        todo!()
    }

    /// A shared secret for the HS algorithms, only where the configuration names one of them.
    ///
    /// # Errors
    ///
    /// When it is shorter than the hash (RFC 7518 §3.2).
    pub fn from_shared_secret(_secret: &[u8], _algorithm: Algorithm) -> Result<Self, KeySetError> {
        todo!()
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a key with this `kid` is in the set; without a `kid`, whether exactly one key could be meant.
    pub fn knows(&self, _kid: Option<&str>, _algorithm: Algorithm) -> bool {
        todo!()
    }

    /// The `kid`s of the usable keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Whether a key of `before` is not in this set any more: then verdicts that rest on it must go.
    pub fn lost_a_key_of(&self, _before: &Self) -> bool {
        todo!()
    }

    /// A digest of the set: equal sets have equal digests.
    pub fn fingerprint(&self) -> [u8; 32] {
        todo!()
    }
}
