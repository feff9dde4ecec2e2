//! A client that holds a key, and proves it (RFC 9449).

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::harness::now;

/// A client with a key of its own.
pub(crate) struct Holder(EcdsaKeyPair);

impl Holder {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "crv": "P-256", "kty": "EC", "x": text(x), "y": text(y) })
    }

    /// `jkt` (RFC 7638): the members of the key in the order of their names.
    pub(crate) fn thumbprint(&self) -> String {
        let text = self.jwk().to_string();
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
    }

    /// A proof for one request, with these members beside the usual ones; `token` is what it is used with. Its clock is a little
    /// ahead: what was made before the memory of proofs began is not taken.
    pub(crate) fn proof(
        &self,
        (method, htu): (&str, &str),
        token: Option<&str>,
        more: &Value,
    ) -> String {
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() });
        let mut jti = [0; 16];
        aws_lc_rs::rand::fill(&mut jti).unwrap();
        let mut claims = json!({ "htm": method, "htu": htu, "iat": now() + 2, "jti": URL_SAFE_NO_PAD.encode(jti) });
        if let Some(token) = token {
            let hash = digest::digest(&digest::SHA256, token.as_bytes());
            claims["ath"] = json!(URL_SAFE_NO_PAD.encode(hash));
        }
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
