//! How clients of our token endpoint prove who they are: hashes of secrets, public keys, thumbprints of certificates.

use crate::config::compile::claims::json;
use crate::config::compile::context::Context;
use crate::config::raw::GrantWord;
use crate::config::raw::RawTokenClient;
use crate::config::shape::At;
use crate::identity::ProviderId;
use crate::identity::Thumbprint;
use crate::issuer::settings::Grant;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::OAuthClient;
use crate::token::KeySet;

/// Whether a client proves nothing; and that it says so, or how it proves who it is.
pub(super) fn is_public(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawTokenClient,
) -> bool {
    let proofs = [
        ("secret_hashes", raw.secret_hashes.is_absent()),
        ("learn_secret_at", raw.learn_secret_at.is_absent()),
        ("keys", raw.keys.is_absent()),
        ("certificates", raw.certificates.is_absent()),
    ];
    let given = proofs.iter().find(|(_, absent)| !absent);
    let public = raw.auth.get().is_some();
    match (raw.auth.get(), given) {
        (Some(at), Some((proof, _))) => {
            context
                .report
                .error(at.mark, format!("a public client has no `{proof}`"))
                .hint("whoever can prove who they are does so with every request: leave out one of the two");
        }
        (None, None) => {
            context
                .report
                .error(name.mark, format!("`{}` cannot prove who it is", name.value))
                .hint("give it `secret_hashes`, `keys` or `certificates`: whoever knows a `client_id` must not get tokens; a public client says `auth: none`");
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if public {
        for at in raw.grants.get().map_or(&[][..], |list| &list.items) {
            let fine = match at.value {
                GrantWord::DeviceCode | GrantWord::RefreshToken => true,
                GrantWord::TokenExchange | GrantWord::ClientCredentials => false,
            };
            if !fine {
                context
                    .report
                    .error(at.mark, "not for a public client")
                    .hint("whoever knows its name could have it: `device_code` and `refresh_token` need a person");
            }
        }
        if let Some(at) = raw.introspect.get().filter(|at| at.value) {
            context
                .report
                .error(at.mark, "not for a public client")
                .hint("whoever asks about tokens must prove who they are (RFC 7662 §2.1)");
        }
        if let Some(at) = raw.expires.get() {
            let why = "a public client has nothing that ends";
            context.report.error(at.mark, why);
        }
    }
    public
}

/// Whether what a client proves here goes with what it is at its providers.
pub(super) fn fits(
    context: &mut Context<'_>,
    name: &At<String>,
    (public, grants, adopt): (bool, &[Grant], Option<&ProviderId>),
    at: &[(ProviderId, OAuthClient)],
) {
    let is_public = |own: &OAuthClient| matches!(own.auth, ClientAuth::None);
    for (provider, own) in at {
        if is_public(own) && grants.contains(&Grant::ClientCredentials) {
            context
                .report
                .error(
                    name.mark,
                    format!("`at.{provider}` is public, and gets no tokens for itself"),
                )
                .hint(
                    "`client_credentials` is for clients that prove who they are (RFC 6749 §4.4)",
                );
        }
        if public && !is_public(own) && adopt == Some(provider) {
            context
                .report
                .error(
                    name.mark,
                    format!("refresh tokens of `at.{provider}` would count without its secret"),
                )
                .hint("a public client adopts those of a public registration alone: `auth: none` there, or a proof here");
        }
    }
}

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
    known_at: &[(ProviderId, OAuthClient)],
) -> Option<ProviderId> {
    let at = raw.learn_secret_at.get()?;
    if !context.knows_provider(at) {
        return None;
    }
    let provider = ProviderId::new(&at.value);
    let own = known_at.iter().find(|(known, _)| *known == provider);
    match own.map(|(_, own)| &own.auth) {
        None => {
            context
                .report
                .error(at.mark, format!("`at.{}` is missing", at.value))
                .value(&at.value)
                .hint("a provider is asked about a client by the name that it has there");
        }
        // Such a provider would take any secret, or none.
        Some(ClientAuth::None) => {
            context
                .report
                .error(
                    at.mark,
                    format!("`at.{}` is public: no secret is known there", at.value),
                )
                .value(&at.value)
                .hint("learn it where the client has a secret, or say `secret_hashes` here");
        }
        Some(_) => {}
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
