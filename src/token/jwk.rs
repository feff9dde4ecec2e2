//! A JSON Web Key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2) as somebody else wrote it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

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
