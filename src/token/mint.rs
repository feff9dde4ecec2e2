//! Tokens we sign ourselves: the assertion for an upstream, `private_key_jwt` towards a provider.

use serde_json::Map;
use serde_json::Value;

/// A private key for ES256, and its public half as a JWK.
#[derive(Debug)]
pub struct SigningKey {}

/// Why a token was not signed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MintError(pub String);

impl SigningKey {
    /// Makes a new P-256 key.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, MintError> {
        todo!()
    }

    /// Reads a private key in PKCS#8 PEM (P-256, RSA of 2048 bits or more, Ed25519).
    ///
    /// # Errors
    ///
    /// When it is not such a key.
    pub fn from_pem(_pem: &[u8]) -> Result<Self, MintError> {
        todo!()
    }

    /// The private key as PKCS#8 PEM, for `state_dir/keys`.
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// The public key as a JWK with `kid`, `alg` and `use` (RFC 7517 §4).
    pub fn public_jwk(&self) -> Value {
        todo!()
    }

    /// Signs claims (RFC 7515), with `typ` in the header.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub fn sign(&self, _typ: &str, _claims: &Map<String, Value>) -> Result<String, MintError> {
        todo!()
    }
}
