//! The keys of the issuers, of the attacker, and those that must never be used.

use std::sync::OnceLock;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use super::big;
use super::jose::base64url;

/// An RSA key of 2048 bits.
#[derive(Debug)]
pub(crate) struct Rsa(signature::RsaKeyPair);

/// A key on P-256.
#[derive(Debug)]
pub(crate) struct Ec(EcdsaKeyPair);

/// A self-made RSA key that no library signs with: its numbers, big-endian.
#[derive(Debug)]
pub(crate) struct Odd {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    private: Vec<u8>,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// The main key.
    pub(crate) rsa: Rsa,
    /// Its `kid`.
    pub(crate) rsa_kid: &'static str,
    /// The second key.
    pub(crate) ec: Ec,
    /// Its `kid`.
    pub(crate) ec_kid: &'static str,
}

/// All keys of a run.
#[derive(Debug)]
pub(crate) struct Ring {
    /// The new provider's.
    pub(crate) new: Issuer,
    /// The old provider's.
    pub(crate) old: Issuer,
    /// A provider nobody trusts.
    pub(crate) evil: Issuer,
    /// The attacker's own.
    pub(crate) attacker: Rsa,
    /// The key that the new provider rotates to.
    pub(crate) n3: Rsa,
    /// Published for encryption.
    pub(crate) enc: Rsa,
    /// Published with `key_ops: [encrypt]`.
    pub(crate) ops: Rsa,
    /// 1024 bits.
    pub(crate) short: Odd,
    /// Exponent one: anybody can sign.
    pub(crate) one: Odd,
    /// A symmetric key, published by mistake.
    pub(crate) oct: Vec<u8>,
    /// A client's key for DPoP.
    pub(crate) dpop: Ec,
    /// A key of 4096 bits, made when it is first asked for: that takes a while.
    big: OnceLock<Rsa>,
}

impl Rsa {
    fn generate() -> Self {
        let pair = signature::RsaKeyPair::generate(KeySize::Rsa2048);
        Self(pair.expect("the library makes keys of 2048 bits"))
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256.
    pub(crate) fn sign(&self, input: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &signature::RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                input,
                &mut signature,
            )
            .expect("the key is long enough for the digest");
        signature
    }

    /// The modulus, big-endian.
    pub(crate) fn modulus(&self) -> Vec<u8> {
        let key = self.0.public_key();
        key.modulus().big_endian_without_leading_zero().to_vec()
    }

    fn exponent(&self) -> Vec<u8> {
        let key = self.0.public_key();
        key.exponent().big_endian_without_leading_zero().to_vec()
    }

    /// SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self
            .0
            .public_key()
            .as_der()
            .expect("a generated key has a public half");
        der.as_ref().to_vec()
    }

    /// RSAPublicKey (PKCS#1).
    pub(crate) fn pkcs1(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// The public key (RFC 7518 §6.3).
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
            "n": base64url(self.modulus()), "e": base64url(self.exponent()) })
    }
}

impl Ec {
    fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        Self(pair.expect("the library makes keys on P-256"))
    }

    /// ECDSA with SHA-256, as `r` and `s` side by side.
    pub(crate) fn sign(&self, input: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), input);
        signature
            .expect("signing needs only randomness")
            .as_ref()
            .to_vec()
    }

    /// The public key (RFC 7518 §6.2).
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.bare_jwk();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("ES256");
        jwk
    }

    /// The public key, with its required members only.
    pub(crate) fn bare_jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
    }

    /// The thumbprint (RFC 7638).
    pub(crate) fn thumbprint(&self) -> String {
        let jwk = self.bare_jwk();
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        base64url(digest::digest(&digest::SHA256, canonical.as_bytes()))
    }
}

impl Odd {
    /// RSASSA-PKCS1-v1_5 with SHA-256, by hand.
    pub(crate) fn sign(&self, input: &[u8]) -> Vec<u8> {
        // DigestInfo for SHA-256 (RFC 8017 §9.2, note 1).
        let mut tail = vec![
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x01, 0x05, 0x00, 0x04, 0x20,
        ];
        tail.extend_from_slice(digest::digest(&digest::SHA256, input).as_ref());
        let mut padded = vec![0x00, 0x01];
        padded.resize(self.modulus.len() - tail.len() - 1, 0xff);
        padded.push(0x00);
        padded.extend(tail);
        big::power(&padded, &self.private, &self.modulus)
    }

    /// The public key.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
            "n": base64url(&self.modulus), "e": base64url(&self.exponent) })
    }
}

impl Ring {
    /// New keys.
    pub(crate) fn generate() -> Self {
        let issuer = |rsa_kid, ec_kid| Issuer {
            rsa: Rsa::generate(),
            rsa_kid,
            ec: Ec::generate(),
            ec_kid,
        };
        let one = Rsa::generate();
        Self {
            new: issuer("n1", "es1"),
            old: issuer("o1", "oes1"),
            evil: issuer("v1", "ves1"),
            attacker: Rsa::generate(),
            n3: Rsa::generate(),
            enc: Rsa::generate(),
            ops: Rsa::generate(),
            short: short(),
            one: Odd {
                modulus: one.modulus(),
                exponent: vec![1],
                private: vec![1],
            },
            oct: digest::digest(&digest::SHA256, &one.modulus())
                .as_ref()
                .to_vec(),
            dpop: Ec::generate(),
            big: OnceLock::new(),
        }
    }

    /// What costs most to check with.
    pub(crate) fn big(&self) -> &Rsa {
        self.big.get_or_init(|| {
            let pair = signature::RsaKeyPair::generate(KeySize::Rsa4096);
            Rsa(pair.expect("the library makes keys of 4096 bits"))
        })
    }

    /// Everything that the new provider publishes: two good keys, and five that must never be used.
    pub(crate) fn new_jwks(&self) -> Vec<Value> {
        let mut enc = self.enc.jwk("enc");
        enc["use"] = json!("enc");
        let mut ops = self.ops.jwk("ops");
        ops["key_ops"] = json!(["encrypt"]);
        if let Some(ops) = ops.as_object_mut() {
            ops.remove("use");
        }
        vec![
            self.new.rsa.jwk(self.new.rsa_kid),
            self.new.ec.jwk(self.new.ec_kid),
            enc,
            self.short.jwk("rsa1024"),
            self.one.jwk("e1"),
            json!({ "kty": "oct", "kid": "oct", "alg": "HS256", "k": base64url(&self.oct) }),
            ops,
        ]
    }
}

impl Issuer {
    /// The two keys of the issuer, public.
    pub(crate) fn jwks(&self) -> Vec<Value> {
        vec![self.rsa.jwk(self.rsa_kid), self.ec.jwk(self.ec_kid)]
    }
}

/// HMAC with SHA-256 (RFC 2104), also with a key that a library refuses.
pub(super) fn hmac(key: &[u8], input: &[u8]) -> Vec<u8> {
    let mut block = if 64 < key.len() {
        digest::digest(&digest::SHA256, key).as_ref().to_vec()
    } else {
        key.to_vec()
    };
    block.resize(64, 0);
    let keyed = |with: u8, rest: &[u8]| {
        let mut all: Vec<u8> = block.iter().map(|byte| byte ^ with).collect();
        all.extend_from_slice(rest);
        digest::digest(&digest::SHA256, &all).as_ref().to_vec()
    };
    keyed(0x5c, &keyed(0x36, input))
}

/// PEM of a DER text.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A key of 1024 bits, made for this file and worth nothing.
fn short() -> Odd {
    let modulus = "\
        d6463d02d0f998c9ff2439891db6c59edc68c9752478f250172a7277fa4c46674bc064b32191bc6693c5a3d5007fb544\
        7ba814275d9d5d8c0376da22292d3ba8b495f8d479dfa516d402f0621473ff02ef9935eb9411f40413ca4586ddc0a7d2\
        e8bc64822ff0b5bdc689efe60f4f3b80aaa6906a89b924ab5ea8e9176a91ae5d";
    let private = "\
        2178553d646128919cee0ea2b1668455fd3dcd0224515420588e03d563de983cb86374175b0e05accc365a120282f050\
        a3342cf9bd30c0950751805f47a94e2111d8bdcf0137cd9cb52dae27d356ab807f14aee452138aca433239574af2ca5a\
        427c9830f5afd9090d16c39341a2bc110e2a27b9d4565da2eec6997c9ac3cfa1";
    Odd {
        modulus: unhex(modulus),
        exponent: vec![1, 0, 1],
        private: unhex(private),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
