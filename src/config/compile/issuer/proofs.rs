//! How clients of our token endpoint prove who they are: hashes of secrets, public keys, thumbprints of certificates.

use crate::config::compile::claims::json;
use crate::config::compile::context::Context;
use crate::config::raw::RawTokenClient;
use crate::identity::ProviderId;
use crate::identity::Thumbprint;
use crate::token::KeySet;

/// Hashes of secrets. What is none may be a secret: it is not quoted.
pub(super) fn secrets(context: &mut Context<'_>, raw: &RawTokenClient) -> Vec<[u8; 32]> {
    let list = raw.secret_hashes.get().map_or(&[][..], |list| &list.items);
    let mut all = Vec::new();
    for at in list {
        match hash_of(&at.value) {
            Some(hash) => all.push(hash),
            None => {
                context.report.blot(at.mark);
                context
                    .report
                    .error(at.mark, "it is not `sha256:` and 64 hexadecimal digits")
                    .hint("`printf %s SECRET | sha256sum` makes one");
            }
        }
    }
    if let Some(third) = list.get(2) {
        context
            .report
            .error(third.mark, "a third secret")
            .hint("two are valid during a rotation: the old and the new one");
    }
    all
}

/// Where a secret is learned: at a provider that knows the client.
pub(super) fn learned(
    context: &mut Context<'_>,
    raw: &RawTokenClient,
    known_at: &[ProviderId],
) -> Option<ProviderId> {
    let at = raw.learn_secret_at.get()?;
    if !context.knows_provider(at) {
        return None;
    }
    let provider = ProviderId::new(&at.value);
    if !known_at.contains(&provider) {
        context
            .report
            .error(at.mark, format!("`at.{}` is missing", at.value))
            .value(&at.value)
            .hint("a provider is asked about a client by the name that it has there");
    }
    Some(provider)
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:")?;
    let digits = hex.bytes().map(|digit| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [high, low] => Some(high * 16 + low),
            _ => None,
        })
        .collect();
    (digits.len() == 64).then(|| bytes.try_into().ok())?
}

pub(super) fn keys(context: &mut Context<'_>, raw: &RawTokenClient) -> Option<Option<KeySet>> {
    let Some(inline) = raw.keys.get() else {
        return Some(None);
    };
    match KeySet::from_inline(json(&inline.0).to_string().as_bytes()) {
        Ok(set) if !holds_a_secret(&json(&inline.0)) => Some(Some(set)),
        Ok(_) => {
            context
                .report
                .error(inline.0.mark, "the key set has a secret or a private key")
                .hint("public keys only: whoever reads this file could sign as the client");
            None
        }
        Err(error) => {
            context
                .report
                .error(
                    inline.0.mark,
                    format!("the key set cannot be used: {error}"),
                )
                .hint(
                    "public keys only: `{ keys: [{ kty: EC, crv: P-256, kid: …, x: …, y: … }] }`",
                );
            None
        }
    }
}

fn holds_a_secret(set: &serde_json::Value) -> bool {
    let keys = set.get("keys").and_then(serde_json::Value::as_array);
    keys.into_iter()
        .flatten()
        .any(|key| key.get("d").is_some() || key.get("k").is_some())
}

pub(super) fn certificates(context: &mut Context<'_>, raw: &RawTokenClient) -> Vec<Thumbprint> {
    let mut all = Vec::new();
    for at in raw.certificates.get().map_or(&[][..], |list| &list.items) {
        match Thumbprint::parse(&at.value) {
            Some(thumbprint) => all.push(thumbprint),
            None => {
                context
                    .report
                    .error(at.mark, "it is no SHA-256 in base64url")
                    .value(&at.value)
                    .hint("43 letters without `=` (RFC 8705 §3.1)");
            }
        }
    }
    all
}
