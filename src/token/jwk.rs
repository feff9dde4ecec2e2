//! A JSON Web Key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2) as somebody else wrote it.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

use crate::identity::Thumbprint;
use crate::token::algorithm::Algorithm;
use crate::token::key::Family;
use crate::token::key::Key;
use crate::token::key::Unusable;
use crate::token::peek::MAX_KID_BYTES;

/// Members that only a private key has (RFC 7518 §6.2.2, §6.3.2). Whoever publishes them lets everybody sign.
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Reads a key that may check signatures; a shared secret only where `secrets` are expected.
pub(super) fn parse(jwk: &Map<String, Value>, secrets: bool) -> Result<Key, Unusable> {
    // RFC 7517 §4.2, §4.3: both say what a key may be used for, and both must agree.
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return Err("its use is not sig");
    }
    if let Some(operations) = jwk.get("key_ops") {
        let operations = operations.as_array().ok_or("its key_ops are no list")?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Err("its key_ops do not contain verify");
        }
    }
    let kid = text(jwk, "kid")?;
    if kid.is_some_and(|kid| MAX_KID_BYTES < kid.len()) {
        return Err("its kid has more than 512 bytes");
    }
    let kty = text(jwk, "kty")?.ok_or("it has no kty")?;
    let curve = text(jwk, "crv")?;
    let algorithm = match text(jwk, "alg")? {
        // A wide-spread slip: the curve has 521 bits, the algorithm is called after its hash (RFC 7518 §3.4).
        Some("ES521") if curve == Some("P-521") => Some(Algorithm::Es512),
        Some(name) => {
            Some(Algorithm::parse(name).ok_or("its alg is no signature algorithm known here")?)
        }
        None => None,
    };
    if kty != "oct" && PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err("it is a private key");
    }
    let mut key = match (kty, curve) {
        ("RSA", _) => Key::rsa(&octets(jwk, "n")?, &octets(jwk, "e")?, algorithm)?,
        ("EC", Some("P-256")) => Key::curve(Family::P256, &point(jwk, 32)?, algorithm)?,
        ("EC", Some("P-384")) => Key::curve(Family::P384, &point(jwk, 48)?, algorithm)?,
        ("EC", Some("P-521")) => Key::curve(Family::P521, &point(jwk, 66)?, algorithm)?,
        ("OKP", Some("Ed25519")) => Key::curve(Family::Ed25519, &octets(jwk, "x")?, algorithm)?,
        ("EC" | "OKP", _) => return Err("its crv is none that signs here"),
        ("oct", _) if secrets => Key::secret(&octets(jwk, "k")?, algorithm)?,
        ("oct", _) => return Err("it is a shared secret"),
        _ => return Err("its kty is unknown"),
    };
    key.kid = kid.map(Into::into);
    Ok(key)
}

/// The thumbprint of a public key (RFC 7638 §3.1): SHA-256 over the members that make it this key, by name. `None`: it
/// is no such key, or a member has a letter that JSON escapes, as none of a real key has.
pub(super) fn thumbprint(jwk: &Map<String, Value>) -> Option<Thumbprint> {
    let kty = jwk.get("kty")?.as_str()?;
    let members: &[&str] = match kty {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let mut context = digest::Context::new(&digest::SHA256);
    for (place, member) in members.iter().enumerate() {
        let text = jwk.get(*member)?.as_str()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !text.bytes().all(plain) {
            return None;
        }
        let before: &[u8] = if place == 0 { b"{\"" } else { b",\"" };
        for part in [before, member.as_bytes(), b"\":\"", text.as_bytes(), b"\""] {
            context.update(part);
        }
    }
    context.update(b"}");
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Some(Thumbprint(bytes))
}

/// `x` and `y` as an uncompressed point; each has the full width of the field (RFC 7518 §6.2.1.2).
fn point(jwk: &Map<String, Value>, width: usize) -> Result<Vec<u8>, Unusable> {
    let (x, y) = (octets(jwk, "x")?, octets(jwk, "y")?);
    if x.len() != width || y.len() != width {
        return Err("its point has the wrong length");
    }
    Ok([&[4], &*x, &*y].concat())
}

fn octets(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, Unusable> {
    let text = text(jwk, name)?.ok_or("a member that its type needs is missing")?;
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .ok_or("a member is not base64url")
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Unusable> {
    match jwk.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_str()
            .map(Some)
            .ok_or("a member that must be a string is none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::forge::Smith;
    use crate::token::forge::b64;
    use serde_json::json;

    fn reason(jwk: &Value) -> Option<Unusable> {
        parse(jwk.as_object().unwrap(), false).err()
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    fn without(mut jwk: Value, name: &str) -> Value {
        jwk.as_object_mut().unwrap().remove(name).unwrap();
        jwk
    }

    #[test]
    fn takes_good_keys_of_every_type() {
        for algorithm in [
            Algorithm::Rs256,
            Algorithm::Ps512,
            Algorithm::Es256,
            Algorithm::Es384,
            Algorithm::Es512,
            Algorithm::EdDsa,
        ] {
            let jwk = Smith::new(algorithm).jwk("k");
            for good in [
                jwk.clone(),
                without(jwk.clone(), "kid"),
                without(jwk.clone(), "alg"),
                with(jwk.clone(), "use", json!("sig")),
                with(jwk.clone(), "key_ops", json!(["verify"])),
                with(jwk.clone(), "x5c", json!(["AAAA"])),
                with(jwk.clone(), "unknown", json!({ "a": 1 })),
            ] {
                assert_eq!(reason(&good), None, "{good}");
            }
        }
        let p521 = with(Smith::new(Algorithm::Es512).jwk("k"), "alg", json!("ES521"));
        assert_eq!(reason(&p521), None);
        let ed = with(
            Smith::new(Algorithm::EdDsa).jwk("k"),
            "alg",
            json!("Ed25519"),
        );
        assert_eq!(reason(&ed), None);
        let key = parse(
            without(Smith::new(Algorithm::Rs256).jwk("k"), "alg")
                .as_object()
                .unwrap(),
            false,
        );
        assert_eq!(key.unwrap().algorithms().count(), 6);
    }

    #[test]
    fn every_unusable_key_has_its_reason() {
        let rsa = Smith::new(Algorithm::Rs256).jwk("k");
        let ec = Smith::new(Algorithm::Es256).jwk("k");
        let ed = Smith::new(Algorithm::EdDsa).jwk("k");
        let p521 = Smith::new(Algorithm::Es512).jwk("k");
        let n = |bytes: usize| json!(b64(vec![0xc5; bytes]));
        let x = ec["x"].as_str().unwrap().to_owned();
        for (jwk, expected) in [
            (with(rsa.clone(), "use", json!("enc")), "use is not sig"),
            (with(rsa.clone(), "use", json!(1)), "use is not sig"),
            (with(rsa.clone(), "use", json!(null)), "use is not sig"),
            (with(rsa.clone(), "key_ops", json!(["encrypt"])), "key_ops"),
            (with(rsa.clone(), "key_ops", json!([])), "key_ops"),
            (with(rsa.clone(), "key_ops", json!("verify")), "key_ops"),
            (with(rsa.clone(), "alg", json!("RSA-OAEP")), "alg"),
            (with(rsa.clone(), "alg", json!("none")), "alg"),
            (with(rsa.clone(), "alg", json!("ES256")), "alg does not fit"),
            (with(rsa.clone(), "alg", json!("HS256")), "alg does not fit"),
            (
                with(rsa.clone(), "alg", json!(["RS256"])),
                "must be a string",
            ),
            (with(rsa.clone(), "kid", json!(7)), "must be a string"),
            (with(rsa.clone(), "kid", json!("k".repeat(513))), "512"),
            (with(rsa.clone(), "e", json!("AQ")), "exponent is weak"),
            (with(rsa.clone(), "e", json!("Aw")), "exponent is weak"),
            (with(rsa.clone(), "e", json!("AQAA")), "exponent is weak"),
            (with(rsa.clone(), "e", json!("")), "exponent is weak"),
            (
                with(rsa.clone(), "e", json!(b64([1; 9]))),
                "exponent is too large",
            ),
            (with(rsa.clone(), "e", json!("AQAB=")), "base64url"),
            (with(rsa.clone(), "e", json!("AQAB\n")), "base64url"),
            (with(rsa.clone(), "n", n(128)), "less than 2048"),
            (with(rsa.clone(), "n", n(255)), "less than 2048"),
            (with(rsa.clone(), "n", n(1_025)), "more than 8192"),
            (
                with(rsa.clone(), "n", json!(b64([0xc4; 256]))),
                "modulus is weak",
            ),
            (with(rsa.clone(), "d", json!("AQAB")), "private"),
            (with(rsa.clone(), "kty", json!("EC")), "crv"),
            (with(rsa.clone(), "kty", json!("rsa")), "kty is unknown"),
            (with(rsa.clone(), "kty", json!("AKP")), "kty is unknown"),
            (without(rsa.clone(), "kty"), "no kty"),
            (without(rsa.clone(), "n"), "missing"),
            (without(ec.clone(), "y"), "missing"),
            (without(ec.clone(), "crv"), "crv"),
            (with(ec.clone(), "crv", json!("P-384")), "wrong length"),
            (with(ec.clone(), "crv", json!("secp256k1")), "crv"),
            (with(ec.clone(), "crv", json!("p-256")), "crv"),
            (with(ec.clone(), "kty", json!("RSA")), "missing"),
            (with(ec.clone(), "alg", json!("ES384")), "alg does not fit"),
            (with(ec.clone(), "alg", json!("ES521")), "alg"),
            (with(ec.clone(), "alg", json!("ES224")), "alg"),
            (with(ec.clone(), "y", json!(x)), "no valid key"),
            (with(ec.clone(), "x", json!(b64([0; 32]))), "no valid key"),
            (with(ec.clone(), "x", json!(b64([1; 31]))), "wrong length"),
            (with(ec.clone(), "x", json!(b64([0; 33]))), "wrong length"),
            (with(ec, "d", json!("AQAB")), "private"),
            (with(p521, "alg", json!("ES256")), "alg does not fit"),
            (with(ed.clone(), "crv", json!("X25519")), "crv"),
            (with(ed.clone(), "crv", json!("Ed448")), "crv"),
            (with(ed.clone(), "x", json!(b64([1; 31]))), "wrong length"),
            (with(ed, "alg", json!("ES256")), "alg does not fit"),
            (Smith::new(Algorithm::Hs256).jwk("k"), "shared secret"),
            (json!({}), "no kty"),
        ] {
            let reason = reason(&jwk).unwrap_or("none");
            assert!(reason.contains(expected), "{jwk}: {reason}, not {expected}");
        }
    }

    #[test]
    fn a_secret_is_as_long_as_its_hash() {
        let jwk = |bytes: usize| json!({ "kty": "oct", "k": b64(vec![7; bytes]) });
        let key = |jwk: Value| parse(jwk.as_object().unwrap(), true);
        for (name, bytes) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
            assert!(key(with(jwk(bytes), "alg", json!(name))).is_ok());
            assert!(key(with(jwk(bytes - 1), "alg", json!(name))).is_err());
        }
        assert!(key(jwk(31)).is_err());
        assert!(key(jwk(0)).is_err());
        let fits: Vec<_> = key(jwk(48)).unwrap().algorithms().collect();
        assert_eq!(fits, [Algorithm::Hs256, Algorithm::Hs384]);
        assert!(key(with(jwk(32), "alg", json!("A256GCM"))).is_err());
        assert!(key(with(jwk(64), "alg", json!("RS256"))).is_err());
    }
}
