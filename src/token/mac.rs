//! Tokens in old formats, by a secret that both sides know.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use serde_json::Map;
use serde_json::Value;

use crate::secret::Secret;
use crate::token::mint::MintError;

/// A secret that is shared with whoever checks.
pub struct MacKey {
    name: Box<str>,
    jwt: EncodingKey,
    text: hmac::Key,
}

impl MacKey {
    /// Takes the secret as it is.
    pub fn new(secret: &Secret<Vec<u8>>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"authferry/key-id/v1");
        context.update(secret.expose());
        let id = context.finish();
        let id = id.as_ref().iter().take(4);
        Self {
            name: id
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into(),
            jwt: EncodingKey::from_secret(secret.expose()),
            text: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
        }
    }

    /// What it is called where its uses are counted: the beginning of a digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Signs claims with HS256 (RFC 7518 §3.2), with `typ` in the header.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<String, MintError> {
        let header = Header {
            typ: Some(typ.to_owned()),
            ..Header::new(jsonwebtoken::Algorithm::HS256)
        };
        jsonwebtoken::encode(&header, claims, &self.jwt)
            .map_err(|cause| MintError(format!("the token was not signed: {cause}")))
    }

    /// A text, a dot, and its HMAC-SHA-256 in hexadecimal.
    pub fn sign_text(&self, text: &str) -> String {
        let tag = hmac::sign(&self.text, text.as_bytes());
        let mut signed = format!("{text}.");
        for byte in tag.as_ref() {
            signed.push_str(&format!("{byte:02x}"));
        }
        signed
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_signed_as_everybody_signs_it() {
        // RFC 4231 §4.3, test case 2.
        let key = MacKey::new(&Secret::new(b"Jefe".to_vec()));
        assert!(key.name().len() == 8 && !key.name().contains("Jefe"));
        assert_eq!(
            key.sign_text("what do ya want for nothing?"),
            "what do ya want for nothing?.\
             5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
