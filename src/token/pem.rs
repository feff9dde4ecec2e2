//! A public key as an operator has it in a file: PEM (RFC 7468).

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry as oid;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::token::key::Family;
use crate::token::key::Key;
use crate::token::key::Unusable;

/// Reads one public key or certificate. Dates and signatures of a certificate do not count: the operator chose its key.
pub(super) fn parse(text: &[u8]) -> Result<Key, Unusable> {
    let mut blocks = Pem::iter_from_buffer(text);
    let block = blocks
        .next()
        .and_then(Result::ok)
        .ok_or("there is no PEM block")?;
    if blocks.next().is_some() {
        return Err("there is more than one PEM block");
    }
    match block.label.as_str() {
        "PUBLIC KEY" => public_key(&whole(SubjectPublicKeyInfo::from_der(&block.contents))?),
        "CERTIFICATE" => {
            public_key(whole(X509Certificate::from_der(&block.contents))?.public_key())
        }
        "RSA PUBLIC KEY" => rsa(&whole(RSAPublicKey::from_der(&block.contents))?),
        label if label.ends_with("PRIVATE KEY") => Err("it is a private key"),
        _ => Err("it is neither PUBLIC KEY nor CERTIFICATE"),
    }
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<Key, Unusable> {
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == oid::OID_PKCS1_RSAENCRYPTION {
        return match info.parsed() {
            Ok(PublicKey::RSA(key)) => rsa(&key),
            Ok(_) | Err(_) => Err("it is no valid key of its type"),
        };
    }
    let family = if *algorithm == oid::OID_SIG_ED25519 {
        Family::Ed25519
    } else if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        let parameters = info.algorithm.parameters.as_ref();
        let curve = parameters
            .and_then(|any| any.as_oid().ok())
            .ok_or("its curve is not named")?;
        [
            (oid::OID_EC_P256, Family::P256),
            (oid::OID_NIST_EC_P384, Family::P384),
            (oid::OID_NIST_EC_P521, Family::P521),
        ]
        .into_iter()
        .find(|(name, _)| *name == curve)
        .map(|(_, family)| family)
        .ok_or("its curve is none that signs here")?
    } else {
        return Err("its type is unknown");
    };
    Key::curve(family, &info.subject_public_key.data, None)
}

fn rsa(key: &RSAPublicKey<'_>) -> Result<Key, Unusable> {
    Key::rsa(key.modulus, key.exponent, None)
}

/// What was read, if nothing follows it.
fn whole<T, E>(parsed: Result<(&[u8], T), E>) -> Result<T, Unusable> {
    match parsed {
        Ok(([], value)) => Ok(value),
        Ok(_) | Err(_) => Err("it is not valid DER"),
    }
}
