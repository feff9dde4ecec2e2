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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Algorithm;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::KeyPair;

    fn block(label: &str, der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn reads_public_keys_and_certificates_of_every_type() {
        for (kind, algorithm) in [
            (&rcgen::PKCS_RSA_SHA256, Algorithm::Ps384),
            (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::Es256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::Es384),
            (&rcgen::PKCS_ECDSA_P521_SHA512, Algorithm::Es512),
            (&rcgen::PKCS_ED25519, Algorithm::EdDsa),
        ] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let params = rcgen::CertificateParams::new(vec!["idp.test".to_owned()]).unwrap();
            let certificate = params.self_signed(&pair).unwrap().pem();
            let key = parse(pair.public_key_pem().as_bytes()).unwrap();
            assert!(key.fits(algorithm));
            let same = parse(certificate.as_bytes()).unwrap();
            assert_eq!(same.material, key.material);
        }
    }

    #[test]
    fn refuses_what_is_not_one_public_key() {
        let pair = KeyPair::generate().unwrap();
        let good = pair.public_key_pem();
        let der = rcgen::PublicKeyData::subject_public_key_info(&pair);
        assert!(parse(good.as_bytes()).is_ok());
        for (bad, reason) in [
            (String::new(), "no PEM"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA".to_owned(), "no PEM"),
            (format!("{good}{good}"), "more than one"),
            (pair.serialize_pem(), "private"),
            (block("EC PRIVATE KEY", &[0]), "private"),
            (block("CERTIFICATE REQUEST", &der), "neither"),
            (block("PUBLIC KEY", &der[1..]), "DER"),
            (block("PUBLIC KEY", &[der.as_slice(), &[0]].concat()), "DER"),
            (block("RSA PUBLIC KEY", &der), "DER"),
            (block("CERTIFICATE", &der), "DER"),
        ] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}, not {reason}");
        }
    }
}
