//! What templates say in words: values, signers, signatures, and what is done to a finished token.

use aws_lc_rs::aead;
use aws_lc_rs::digest;
use aws_lc_rs::rsa;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::jose::base64url;
use super::jose::compact;
use super::jose::unbase64url;
use super::keys::Issuer;
use super::keys::Rsa;
use super::keys::pem;
use super::template::Mint;
use super::template::Signer;
use super::template::Unknown;
use crate::now;

/// The order of P-256, big-endian.
const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// A claim: `now-29`, `thumbprint of dk1`, `(absent)`, a stand-in name, or what it says. `None`: the claim is absent.
pub(super) fn value(value: &Value, mint: &Mint) -> Result<Option<Value>, Unknown> {
    Ok(Some(match value {
        Value::String(text) if text == "(absent)" => return Ok(None),
        Value::String(text) => worded(text, mint),
        Value::Array(items) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| self::value(item, mint)).collect();
            items?.into_iter().flatten().collect()
        }
        Value::Object(members) => {
            let mut all = Map::new();
            for (name, value) in members {
                if let Some(value) = self::value(value, mint)? {
                    all.insert(name.clone(), value);
                }
            }
            Value::Object(all)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }))
}

fn worded(text: &str, mint: &Mint) -> Value {
    if let Some(offset) = text.strip_prefix("now") {
        if offset.is_empty() {
            return json!(now());
        }
        if let Ok(offset) = offset.parse::<i64>() {
            return json!(now() + offset);
        }
    }
    if let Some(found) = find(
        r#"^(\d+) names of (\d+) characters(?:, last one "([^"]*)")?$"#,
        text,
    ) {
        let (count, length) = (number(&found, 1), number(&found, 2));
        let mut names: Vec<String> = (0..count).map(|i| format!("{i:0length$}")).collect();
        if let (Some(last), Some(named)) = (names.last_mut(), found.get(3)) {
            *last = named.as_str().to_owned();
        }
        return json!(names);
    }
    match text {
        "thumbprint of dk1" => json!(mint.ring.dpop.thumbprint()),
        "hash of another token" => json!(base64url(digest::digest(&digest::SHA256, b"another"))),
        _ => json!(mint.names.ours(text)),
    }
}

/// A header member: as a claim, or a key or certificate in words. `null`: the member is absent.
pub(super) fn header_value(value: &Value, mint: &Mint) -> Result<Option<Value>, Unknown> {
    let certificate = |text: &str| {
        let der = match text {
            "genuine IdP cert" => &mint.certificates[0],
            "attacker self-signed" | "attacker cert" => &mint.certificates[1],
            _ => return None,
        };
        Some(json!(STANDARD.encode(der)))
    };
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text == "attacker RSA public key" => {
            let mut jwk = mint.ring.attacker.jwk("attacker");
            if let Some(members) = jwk.as_object_mut() {
                members.remove("kid");
            }
            Ok(Some(jwk))
        }
        Value::Array(items) => {
            let known = items.iter().map(|item| item.as_str().and_then(certificate));
            match known.collect::<Option<Vec<_>>>() {
                Some(certificates) if !certificates.is_empty() => Ok(Some(json!(certificates))),
                Some(_) | None => self::value(value, mint),
            }
        }
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            self::value(value, mint)
        }
    }
}

/// Claims as JSON text: `… "Sub":"admin" and no sub …`; an ellipsis stands for the other claims of the base.
pub(super) fn raw_claims(raw: &str, base: &Map<String, Value>) -> Result<String, Unknown> {
    let inner = raw.trim_matches(['…', ' ', ',']);
    let (inner, without) = match find(r"^(.*?)\s+and no ([A-Za-z_]+)$", inner) {
        Some(found) => (text(&found, 1), Some(text(&found, 2))),
        None => (inner.to_owned(), None),
    };
    if !raw.contains('…') {
        return Ok(raw.to_owned());
    }
    if !inner.starts_with('"') {
        return Err(Unknown(format!("raw claims `{raw}`")));
    }
    let mut rest = base.clone();
    rest.retain(|name, _| {
        !inner.contains(&format!("\"{name}\":")) && Some(name) != without.as_ref()
    });
    let rest = Value::Object(rest).to_string();
    Ok(format!("{},{inner}}}", rest.trim_end_matches('}')))
}

/// Who signs.
pub(super) fn signer<'a>(words: &str, mint: &'a Mint) -> Result<Signer<'a>, Unknown> {
    let ring = &*mint.ring;
    let issuer = |name: &str| -> Option<&'a Issuer> {
        match name {
            "new" => Some(&ring.new),
            "old" => Some(&ring.old),
            "evil" => Some(&ring.evil),
            _ => None,
        }
    };
    if let Some(found) = find(r"^(new|old|evil)(?:\.(?:rs1|n1|o1|rsa))? (.+)$", words) {
        let key = issuer(&text(&found, 1)).map(|issuer| &issuer.rsa);
        if let Some(bytes) = key.and_then(|key| representation(key, &text(&found, 2), mint)) {
            return Ok(Signer::Hmac(bytes));
        }
    }
    Ok(match words {
        "attacker" => Signer::Rsa(&ring.attacker),
        "new" | "new.rs1" | "new.n1" => Signer::Rsa(&ring.new.rsa),
        "new.n3" => Signer::Rsa(&ring.n3),
        "new.es1" => Signer::Ec(&ring.new.ec),
        "old" | "old.rs1" | "old.o1" => Signer::Rsa(&ring.old.rsa),
        "evil" => Signer::Rsa(&ring.evil.rsa),
        "empty key" => Signer::Hmac(Vec::new()),
        "new.enc (use=enc)" => Signer::Rsa(&ring.enc),
        "new.rsa1024" => Signer::Odd(&ring.short),
        "RSA key with e=1" => Signer::Odd(&ring.one),
        "oct key published in the JWKS" => Signer::Hmac(ring.oct.clone()),
        r#"key with key_ops ["encrypt"]"# => Signer::Rsa(&ring.ops),
        _ => match words
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            Some(quoted) => Signer::Hmac(quoted.as_bytes().to_vec()),
            None => return Err(Unknown(format!("signer `{words}`"))),
        },
    })
}

/// The bytes of a public key that somebody might take for a symmetric one.
fn representation(key: &Rsa, words: &str, mint: &Mint) -> Option<Vec<u8>> {
    let spki = || pem("PUBLIC KEY", &key.spki());
    Some(match words {
        "SPKI PEM" => spki().into_bytes(),
        "SPKI PEM without final newline" => spki().trim_end().as_bytes().to_vec(),
        "SPKI PEM with leading space" => format!(" {}", spki()).into_bytes(),
        "PKCS#1 PEM" => pem("RSA PUBLIC KEY", &key.pkcs1()).into_bytes(),
        "SPKI DER" => key.spki(),
        "PKCS#1 DER" => key.pkcs1(),
        "modulus bytes" => key.modulus(),
        "JWK JSON text" => key.jwk("n1").to_string().into_bytes(),
        "x5c certificate PEM" => pem("CERTIFICATE", &mint.certificates[0]).into_bytes(),
        _ => return None,
    })
}

/// Another signature than the right one. `before`: the header as it was before the template changed it.
pub(super) fn signature(
    words: &str,
    mint: &Mint,
    token: &str,
    before: &str,
    claims: &str,
) -> Result<String, Unknown> {
    let (input, valid) = token.rsplit_once('.').unwrap_or((token, ""));
    let valid = unbase64url(valid).unwrap_or_default();
    let n: Vec<u8> = unhex(N);
    let pair = |r: &[u8], s: &[u8]| [r, s].concat();
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let signature = match words {
        "" => Vec::new(),
        // The signature that the issuer gave the token before its header was changed.
        "keep" => {
            let genuine = compact(before, claims, |input| mint.ring.new.rsa.sign(input));
            let kept = genuine.rsplit('.').next().unwrap_or_default();
            return Ok(format!("{input}.{kept}"));
        }
        "64 zero bytes" => vec![0; 64],
        "r=n,s=n" => pair(&n, &n),
        "r=0,s=1" => pair(&zero, &one),
        "r=1,s=0" => pair(&one, &zero),
        "DER-encoded valid signature" => der(&valid),
        "valid signature with 2 trailing zero bytes" => pair(&valid, &[0, 0]),
        "96-byte signature" => pair(&valid, &zero),
        _ if words
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') =>
        {
            return Ok(format!("{input}.{words}"));
        }
        _ => return Err(Unknown(format!("signature `{words}`"))),
    };
    Ok(format!("{input}.{}", base64url(signature)))
}

/// What is done to a finished token.
pub(super) fn post(words: &str, mint: &Mint, token: &str) -> Result<String, Unknown> {
    if let Some(found) = find(r#"^append "(.*)"$"#, words) {
        return Ok(format!("{token}{}", text(&found, 1).replace("\\n", "\n")));
    }
    if let Some(found) = find(r#"^replace "(.)" by "(.+)"$"#, words) {
        return Ok(token.replace(&text(&found, 1), &text(&found, 2)));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return if words.is_empty() {
            Ok(token.to_owned())
        } else {
            Err(Unknown(words.to_owned()))
        };
    };
    Ok(match words {
        "" | "re-encode header with different whitespace, re-sign" => token.to_owned(),
        "prepend space" => format!(" {token}"),
        "replace - and _ by + and /" => standard_alphabet(mint, token),
        "insert newline in payload" => {
            let (left, right) = payload.split_at(payload.len() / 2);
            format!("{header}.{left}\n{right}.{signature}")
        }
        "set unused trailing bits of the last signature character" => {
            trailing_bits(token).ok_or_else(|| Unknown("no unused bits".to_owned()))?
        }
        "JSON (flattened) serialization" => {
            json!({ "protected": header, "payload": payload, "signature": signature }).to_string()
        }
        "general JSON serialization with two signatures" => {
            json!({ "payload": payload, "signatures": [
            { "protected": header, "signature": signature },
            { "protected": header, "signature": base64url([0; 256]) } ] })
            .to_string()
        }
        _ => return Err(Unknown(format!("post `{words}`"))),
    })
}

/// A token that has letters to replace: nearly every one has, this one certainly.
fn standard_alphabet(mint: &Mint, token: &str) -> String {
    let mut token = token.to_owned();
    while !token.contains(['-', '_']) {
        token = mint.good("new.access", &json!({}));
    }
    token.replace('-', "+").replace('_', "/")
}

/// The last letter of 256 bytes carries two bits that mean nothing... and must be zero (RFC 4648 §3.5).
fn trailing_bits(token: &str) -> Option<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = token.as_bytes().to_vec();
    let last = bytes.last_mut()?;
    let at = LETTERS.iter().position(|letter| letter == last)?;
    *last = *LETTERS.get(at | 1)?;
    let changed = String::from_utf8(bytes).ok()?;
    (changed != token).then_some(changed)
}

/// Something encrypted around a token (RFC 7516), or around its claims without a signature.
pub(super) fn wrap(words: &str, mint: &Mint, token: &str, claims: &str) -> Result<String, Unknown> {
    let inner = match words.split_once(" around ") {
        Some((_, "an alg=none JWT")) => {
            format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims))
        }
        Some((_, "a correctly signed JWT")) => token.to_owned(),
        Some(_) | None => return Err(Unknown(format!("wrap `{words}`"))),
    };
    let failed = || Unknown(format!("wrap `{words}`: the library would not"));
    let header = base64url(
        json!({ "alg": "RSA-OAEP", "enc": "A128GCM", "cty": "JWT", "kid": "enc" }).to_string(),
    );
    let key = [7; 16];
    let public = rsa::PublicEncryptingKey::from_der(&mint.ring.enc.spki()).map_err(|_| failed())?;
    let public = rsa::OaepPublicEncryptingKey::new(public).map_err(|_| failed())?;
    let mut wrapped = vec![0; public.ciphertext_size()];
    let wrapped = public
        .encrypt(&rsa::OAEP_SHA1_MGF1SHA1, &key, &mut wrapped, None)
        .map_err(|_| failed())?;
    let sealing = aead::UnboundKey::new(&aead::AES_128_GCM, &key).map_err(|_| failed())?;
    let sealing = aead::LessSafeKey::new(sealing);
    let mut body = inner.into_bytes();
    let nonce = aead::Nonce::assume_unique_for_key([9; 12]);
    let tag = sealing
        .seal_in_place_separate_tag(nonce, aead::Aad::from(header.as_bytes()), &mut body)
        .map_err(|_| failed())?;
    Ok(format!(
        "{header}.{}.{}.{}.{}",
        base64url(&*wrapped),
        base64url([9; 12]),
        base64url(&body),
        base64url(tag.as_ref())
    ))
}

/// `r` and `s` as ASN.1 (RFC 3279 §2.2.3).
fn der(pair: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        let mut number = bytes[start..].to_vec();
        if number.first().is_none_or(|first| first & 0x80 != 0) {
            number.insert(0, 0);
        }
        let mut all = vec![0x02, number.len() as u8];
        all.extend(number);
        all
    };
    let (r, s) = pair.split_at(pair.len() / 2);
    let inner = [integer(r), integer(s)].concat();
    let mut all = vec![0x30, inner.len() as u8];
    all.extend(inner);
    all
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn find<'h>(pattern: &str, text: &'h str) -> Option<regex::Captures<'h>> {
    let pattern = Regex::new(pattern).expect("the patterns of this file are good");
    pattern.captures(text)
}

fn text(found: &regex::Captures<'_>, group: usize) -> String {
    found.get(group).map_or("", |m| m.as_str()).to_owned()
}

fn number(found: &regex::Captures<'_>, group: usize) -> usize {
    text(found, group).parse().unwrap_or(0)
}
