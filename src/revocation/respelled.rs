//! The other good signature of a token: of ECDSA (r, s) and (r, n - s) are both one, and whoever has one has the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The order of P-256 (SEC 2), big-endian, like the others.
const P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// Of P-384.
const P384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
/// Of P-521.
const P521: [u8; 66] = [
    0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xfa, 0x51, 0x86, 0x87, 0x83, 0xbf, 0x2f, 0x96, 0x6b, 0x7f, 0xcc, 0x01, 0x48, 0xf7, 0x09,
    0xa5, 0xd0, 0x3b, 0xb5, 0xc9, 0xb8, 0x89, 0x9c, 0x47, 0xae, 0xbb, 0x6f, 0xb7, 0x1e, 0x91, 0x38,
    0x64, 0x09,
];

/// The same token with the other signature. What is as long as a signature of ECDSA and is none (of EdDSA, of a shared secret) becomes a
/// token that nobody has.
pub(super) fn respelled(token: &str) -> Option<String> {
    let (signed, signature) = token.rsplit_once('.')?;
    if signed.matches('.').count() != 1 {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let order: &[u8] = match signature.len() {
        64 => &P256,
        96 => &P384,
        132 => &P521,
        _ => return None,
    };
    let (r, s) = signature.split_at(order.len());
    let other = URL_SAFE_NO_PAD.encode([r, &less(order, s)?].concat());
    Some(format!("{signed}.{other}"))
}

/// `order - s`; `None`: it is not above 0.
fn less(order: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let mut borrow = false;
    let mut left: Vec<u8> = order
        .iter()
        .zip(s)
        .rev()
        .map(|(order, s)| {
            let (once, under) = order.overflowing_sub(*s);
            let (twice, again) = once.overflowing_sub(u8::from(borrow));
            borrow = under || again;
            twice
        })
        .collect();
    left.reverse();
    (!borrow && left.iter().any(|byte| *byte != 0)).then_some(left)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature;
    use aws_lc_rs::signature::EcdsaKeyPair;
    use aws_lc_rs::signature::KeyPair as _;
    use aws_lc_rs::signature::UnparsedPublicKey;

    use super::*;

    #[test]
    fn both_signatures_are_good_and_each_leads_to_the_other() {
        for (signs, judges) in [
            (
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                &signature::ECDSA_P256_SHA256_FIXED,
            ),
            (
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                &signature::ECDSA_P384_SHA384_FIXED,
            ),
            (
                &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
                &signature::ECDSA_P521_SHA512_FIXED,
            ),
        ] {
            let key = EcdsaKeyPair::generate(signs).unwrap();
            let good = key.sign(&SystemRandom::new(), b"head.claims").unwrap();
            let token = format!("head.claims.{}", URL_SAFE_NO_PAD.encode(good));
            let other = respelled(&token).unwrap();
            assert_ne!(token, other);
            let spelt = URL_SAFE_NO_PAD.decode(other.rsplit_once('.').unwrap().1);
            let judge = UnparsedPublicKey::new(judges, key.public_key().as_ref());
            assert!(judge.verify(b"head.claims", &spelt.unwrap()).is_ok());
            assert_eq!(respelled(&other), Some(token));
        }
    }

    #[test]
    fn what_has_no_other_signature_has_none() {
        let order = URL_SAFE_NO_PAD.encode([[1; 32], P256].concat());
        let long = URL_SAFE_NO_PAD.encode([0xff; 64]);
        for token in [
            "opaque".to_owned(),
            "head.claims.AAAA".to_owned(),
            format!("head.claims.{order}"),
            format!("head.claims.{long}"),
            format!("one.more.head.{order}"),
        ] {
            assert_eq!(respelled(&token), None, "{token}");
        }
    }
}
