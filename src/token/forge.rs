//! Test keys and tokens of any shape, well made or not.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test key is made by its caller"
)]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::token::Algorithm;
use crate::token::KeySet;

/// Unpadded base64url.
pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key set document.
pub(super) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// A private key of one algorithm.
pub(super) enum Smith {
    Rsa(&'static RsaKeyPair, Algorithm),
    Ec(EcdsaKeyPair, Algorithm),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>, Algorithm),
}

impl Smith {
    /// A new key; RSA keys are one for the whole run, because it takes long to make.
    pub(super) fn new(algorithm: Algorithm) -> Self {
        static RSA: LazyLock<RsaKeyPair> = LazyLock::new(rsa);
        match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Self::Rsa(&RSA, algorithm),
            Algorithm::Es256 => Self::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, algorithm),
            Algorithm::Es384 => Self::ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, algorithm),
            Algorithm::Es512 => Self::ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, algorithm),
            Algorithm::EdDsa => Self::Ed(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                let mut secret = vec![0; 64];
                aws_lc_rs::rand::fill(&mut secret).unwrap();
                Self::Secret(secret, algorithm)
            }
        }
    }

    fn ec(signing: &'static signature::EcdsaSigningAlgorithm, algorithm: Algorithm) -> Self {
        Self::Ec(EcdsaKeyPair::generate(signing).unwrap(), algorithm)
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_, algorithm) | Self::Ec(_, algorithm) | Self::Secret(_, algorithm) => {
                *algorithm
            }
            Self::Ed(_) => Algorithm::EdDsa,
        }
    }

    /// The public key (or the secret) as a JWK with `kid` and `alg`.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(pair, _) => {
                let components =
                    signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": b64(components.n), "e": b64(components.e) })
            }
            Self::Ec(pair, algorithm) => {
                let crv = match algorithm {
                    Algorithm::Es256 => "P-256",
                    Algorithm::Es384 => "P-384",
                    _ => "P-521",
                };
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": crv, "x": b64(x), "y": b64(y) })
            }
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()) })
            }
            Self::Secret(secret, _) => json!({ "kty": "oct", "k": b64(secret) }),
        };
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(self.algorithm().as_str());
        jwk
    }

    /// A set with this key alone, called `k`.
    pub(super) fn keys(&self) -> KeySet {
        KeySet::from_inline(&jwks(&[self.jwk("k")])).unwrap()
    }

    /// A token over any texts.
    pub(super) fn sign_raw(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(payload));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", b64(signature))
    }

    /// A token by key `k` with this `typ`.
    pub(super) fn sign(&self, typ: &str, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm().as_str(), "kid": "k", "typ": typ });
        self.sign_raw(&header.to_string(), &claims.to_string())
    }

    pub(super) fn signature(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, algorithm) => {
                let encoding: &dyn signature::RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, input, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair, _) => pair.sign(&random, input).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(input).as_ref().to_vec(),
            Self::Secret(secret, algorithm) => {
                let hash = match algorithm {
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), input)
                    .as_ref()
                    .to_vec()
            }
        }
    }
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::generate(KeySize::Rsa2048).unwrap()
}

/// Every algorithm of this build.
pub(super) const ALL: [Algorithm; 13] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
];
