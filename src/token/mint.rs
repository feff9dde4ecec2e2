//! Tokens we sign ourselves: the assertion for an upstream, `private_key_jwt` towards a provider.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::PublicKeyUse;
use jsonwebtoken::jwk::ThumbprintHash;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use x509_parser::pem::Pem;

use crate::secret::Secret;
use crate::token::algorithm::Algorithm;

/// A private key for ES256, RS256 or EdDSA, and its public half as a JWK.
///
/// Signs through `jsonwebtoken`, which is as good as a way of our own here: a token is signed once and used often.
pub struct SigningKey {
    algorithm: Algorithm,
    kid: Box<str>,
    pem: Secret<String>,
    hand: Hand,
    header: Header,
    public: Value,
}

/// Signs what it is given, as RFC 7518 §3 says for the algorithm of its key.
type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, MintError> + Send + Sync>;

/// Where the private key is.
enum Hand {
    Here(EncodingKey),
    Elsewhere(Sign),
}

/// Why a token was not signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct MintError(pub String);

impl SigningKey {
    /// Makes a new P-256 key.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, MintError> {
        let failed = |_| MintError("no key could be made".to_owned());
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = pair.and_then(|pair| pair.to_pkcs8v1()).map_err(failed)?;
        Self::from_pem(to_pem(pkcs8.as_ref()).expose().as_bytes())
    }

    /// Makes a new key for ES256, RS256 (2048 bits) or EdDSA.
    ///
    /// # Errors
    ///
    /// When we do not sign with `algorithm`, or the crypto library fails.
    pub fn generate_for(algorithm: Algorithm) -> Result<Self, MintError> {
        let failed = |_| MintError("no key could be made".to_owned());
        match algorithm {
            Algorithm::Es256 => Self::generate(),
            Algorithm::Rs256 => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
                let pkcs8: Pkcs8V1Der<'_> = pair.and_then(|pair| pair.as_der()).map_err(failed)?;
                Self::from_pem(to_pem(pkcs8.as_ref()).expose().as_bytes())
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate();
                let pkcs8 = pair.and_then(|pair| pair.to_pkcs8v1()).map_err(failed)?;
                Self::from_pem(to_pem(pkcs8.as_ref()).expose().as_bytes())
            }
            Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512
            | Algorithm::Es384
            | Algorithm::Es512
            | Algorithm::Hs256
            | Algorithm::Hs384
            | Algorithm::Hs512 => Err(MintError(format!(
                "we do not sign with {}",
                algorithm.as_str()
            ))),
        }
    }

    /// Reads a private key in PKCS#8 PEM (P-256, RSA of 2048 bits or more, Ed25519).
    ///
    /// # Errors
    ///
    /// When it is not such a key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, MintError> {
        let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
        let block = block.ok_or_else(|| MintError("there is no PEM block".to_owned()))?;
        if block.label != "PRIVATE KEY" {
            return Err(MintError(
                "it is not PRIVATE KEY: `openssl pkcs8 -topk8 -nocrypt` makes one".to_owned(),
            ));
        }
        let pkcs8 = Secret::new(block.contents);
        // Version 2 (RFC 5958) carries the public key too; `jsonwebtoken` reads version 1 only.
        let pem = match Ed25519KeyPair::from_pkcs8(pkcs8.expose())
            .and_then(|pair| Ok(pair.to_pkcs8v1()?))
        {
            Ok(first) => to_pem(first.as_ref()),
            Err(_other) => to_pem(pkcs8.expose()),
        };
        let text = pem.expose().as_bytes();
        let readers = [
            (
                EncodingKey::from_ec_pem(text),
                Algorithm::Es256,
                jsonwebtoken::Algorithm::ES256,
            ),
            (
                EncodingKey::from_rsa_pem(text),
                Algorithm::Rs256,
                jsonwebtoken::Algorithm::RS256,
            ),
            (
                EncodingKey::from_ed_pem(text),
                Algorithm::EdDsa,
                jsonwebtoken::Algorithm::EdDSA,
            ),
        ];
        let read = readers.into_iter().find_map(|(signer, algorithm, theirs)| {
            let signer = signer.ok()?;
            let public = Jwk::from_encoding_key(&signer, theirs).ok()?;
            Some((signer, algorithm, Header::new(theirs), public))
        });
        let (signer, algorithm, header, public) =
            read.ok_or_else(|| MintError("it is no key for ES256, RS256 or EdDSA".to_owned()))?;
        if let AlgorithmParameters::RSA(rsa) = &public.algorithm {
            let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).unwrap_or_default();
            if modulus.len() < 256 {
                return Err(MintError("the RSA key has less than 2048 bits".to_owned()));
            }
        }
        Self::named(algorithm, header, public, (pem, Hand::Here(signer)))
    }

    /// A key that is not here: `sign` makes its signatures, `public` is its public half as a JWK.
    ///
    /// # Errors
    ///
    /// When it is no key for ES256 or RS256.
    pub fn elsewhere(algorithm: Algorithm, public: Value, sign: Sign) -> Result<Self, MintError> {
        let theirs = [
            (Algorithm::Es256, jsonwebtoken::Algorithm::ES256),
            (Algorithm::Rs256, jsonwebtoken::Algorithm::RS256),
        ];
        let theirs = theirs.into_iter().find(|(ours, _)| *ours == algorithm);
        let (_, theirs) =
            theirs.ok_or_else(|| MintError("it is no key for ES256 or RS256".to_owned()))?;
        let public: Jwk = serde_json::from_value(public)
            .map_err(|cause| MintError(format!("its public half cannot be read: {cause}")))?;
        let hand = (Secret::new(String::new()), Hand::Elsewhere(sign));
        Self::named(algorithm, Header::new(theirs), public, hand)
    }

    fn named(
        algorithm: Algorithm,
        mut header: Header,
        mut public: Jwk,
        (pem, hand): (Secret<String>, Hand),
    ) -> Result<Self, MintError> {
        let failed = |cause| MintError(format!("its public half cannot be written: {cause}"));
        let kid: Box<str> = public
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|cause| MintError(format!("it has no thumbprint: {cause}")))?
            .into();
        header.kid = Some(kid.to_string());
        public.common.key_id = Some(kid.to_string());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let public = serde_json::to_value(&public).map_err(failed)?;
        Ok(Self {
            algorithm,
            kid,
            pem,
            hand,
            header,
            public,
        })
    }

    /// The private key as PKCS#8 PEM, for `state_dir/keys`; nothing, where it is elsewhere.
    pub fn to_pem(&self) -> String {
        self.pem.expose().clone()
    }

    /// Its name in key sets and headers: the thumbprint of the public key (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as a JWK with `kid`, `alg` and `use` (RFC 7517 §4).
    pub fn public_jwk(&self) -> Value {
        self.public.clone()
    }

    /// Signs claims (RFC 7515), with `typ` in the header.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<String, MintError> {
        let header = Header {
            typ: Some(typ.to_owned()),
            ..self.header.clone()
        };
        match &self.hand {
            Hand::Here(signer) => jsonwebtoken::encode(&header, claims, signer)
                .map_err(|cause| MintError(format!("the token was not signed: {cause}"))),
            Hand::Elsewhere(sign) => {
                let failed = |cause| MintError(format!("the token was not written: {cause}"));
                let head = serde_json::to_vec(&header).map_err(failed)?;
                let claims = serde_json::to_vec(claims).map_err(failed)?;
                let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
                let input = format!("{}.{}", encoded(&head), encoded(&claims));
                let signature = sign(input.as_bytes())?;
                Ok(format!("{input}.{}", encoded(&signature)))
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// The public halves of `keys` as a key set (RFC 7517 §5), to be published.
pub fn public_jwks(keys: &[&SigningKey]) -> Value {
    let keys: Vec<_> = keys.iter().map(|key| key.public_jwk()).collect();
    json!({ "keys": keys })
}

/// PKCS#8 as PEM (RFC 7468 §10).
fn to_pem(pkcs8: &[u8]) -> Secret<String> {
    let body = Secret::new(STANDARD.encode(pkcs8));
    let mut pem = String::with_capacity(body.expose().len() * 66 / 64 + 64);
    pem.push_str("-----BEGIN PRIVATE KEY-----");
    for (at, letter) in body.expose().char_indices() {
        if at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    Secret::new(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::KeySet;
    use crate::token::verify_signature_only;
    use rcgen::KeyPair;

    #[test]
    fn what_it_signs_its_published_key_checks() {
        let mut keys = vec![SigningKey::generate().unwrap()];
        for (kind, algorithm) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::Es256),
            (&rcgen::PKCS_RSA_SHA256, Algorithm::Rs256),
            (&rcgen::PKCS_ED25519, Algorithm::EdDsa),
        ] {
            let pem = KeyPair::generate_for(kind).unwrap().serialize_pem();
            let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            keys.push(key);
        }
        let all: Vec<_> = keys.iter().collect();
        let published = public_jwks(&all).to_string();
        let (set, skipped) = KeySet::from_remote(published.as_bytes()).unwrap();
        assert_eq!((set.len(), skipped.len()), (4, 0));
        assert!(!published.contains("\"d\""));
        let Value::Object(claims) = json!({ "sub": "alice" }) else {
            unreachable!()
        };
        for key in &keys {
            let token = key.sign("at+jwt", &claims).unwrap();
            assert_eq!(verify_signature_only(&token, &set), Ok(()));
            assert!(set.kids().any(|kid| kid == key.kid()));
            assert_eq!(key.public_jwk()["use"], "sig");
        }
    }

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(again.public_jwk(), key.public_jwk());
        assert!(key.to_pem().lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn refuses_other_keys_and_other_files() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let ours = KeyPair::generate().unwrap();
        for bad in [
            String::new(),
            "secret".to_owned(),
            p384.serialize_pem(),
            ours.public_key_pem(),
            ours.serialize_pem().replace("PRIVATE", "EC PRIVATE"),
        ] {
            assert!(SigningKey::from_pem(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_a_key_is_its_thumbprint() {
        // RFC 7638 §3.1: members in order, without white space.
        let key = SigningKey::generate().unwrap();
        let jwk = key.public_jwk();
        let text = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        assert_eq!(key.kid(), URL_SAFE_NO_PAD.encode(digest));
    }

    #[test]
    fn debug_shows_no_private_key() {
        let key = SigningKey::generate().unwrap();
        let text = format!("{key:?}");
        assert!(
            !text.contains("PRIVATE") && !text.contains("redacted"),
            "{text}"
        );
    }
}
