//! Exercises that show a provider's adapter what nobody's request depends on: tokens of nobody, and those of test accounts by a
//! clock that is wrong.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::app::drill::Found;
use crate::app::reload::Reloader;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::TestAccount;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Verify;
use crate::rollout::Drill;
use crate::secret::Secret;

/// Tokens that must be refused are shown to the adapter of the new provider.
pub(super) async fn shown(
    settings: &Settings,
    reloader: &Reloader,
    drill: Drill,
    id: &ProviderId,
    now: UnixTime,
) -> Found {
    let verify = verified(settings, id);
    let providers = reloader.providers();
    let (Some((issuer, verify)), Some(provider)) = (verify, providers.named(id)) else {
        return Err(vec![format!("`{id}` takes no signed tokens")]);
    };
    if !provider.health().usable {
        return Err(vec![format!("`{id}` is away already")]);
    }
    let audience = verify.audiences.first().map_or("", |audience| &**audience);
    let algorithm = verify
        .algorithms
        .first()
        .map_or("RS256", |alg| alg.as_str());
    let token = |kid: &str| unknown(issuer, (audience, algorithm), kid, now);
    let tokens: Vec<String> = if drill == Drill::JwksRotation {
        (0..3)
            .map(|n| token(&format!("authferry-drill-{}-{n}", now.as_millis())))
            .collect()
    } else {
        misshapen(&token("x"))
    };
    let mut seen = Vec::new();
    let mut refused = 0;
    for token in &tokens {
        match judged(provider.as_ref(), token, now).await {
            Err(ProviderError::Rejected(_)) => refused += 1,
            Err(ProviderError::Unavailable { outage, .. }) => {
                seen.push(format!(
                    "one was answered as an outage: {}",
                    outage.as_str()
                ));
            }
            Ok(_) => seen.push(String::from("one was accepted")),
        }
    }
    if !provider.health().usable {
        seen.push(format!("`{id}` counts as away afterwards"));
    }
    let good = seen.is_empty();
    seen.push(format!("{refused} of {} were refused", tokens.len()));
    if good { Ok(seen) } else { Err(seen) }
}

/// How signed tokens of a provider are judged, where it has any.
fn verified<'a>(settings: &'a Settings, id: &ProviderId) -> Option<(&'a str, &'a Verify)> {
    let named = settings.providers.iter().find(|one| one.id == *id)?;
    match &named.kind {
        KindSettings::Oidc(oidc) => Some((oidc.issuer.as_str(), &oidc.verify)),
        KindSettings::Jwt(jwt) => Some((jwt.issuer.as_str(), &jwt.verify)),
        KindSettings::Introspection(_)
        | KindSettings::SessionProbe(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => None,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => None,
    }
}

/// Good tokens of test accounts are judged by a clock that is wrong: what is within the leeway still counts, and nothing else does.
pub(super) async fn skewed(
    settings: &Settings,
    reloader: &Reloader,
    (id, accounts): (&ProviderId, &[TestAccount]),
    (skew, now): (Duration, UnixTime),
) -> Found {
    let providers = reloader.providers();
    let (Some((_, verify)), Some(provider)) = (verified(settings, id), providers.named(id)) else {
        return Err(vec![format!("`{id}` takes no signed tokens")]);
    };
    let tolerated = skew <= verify.leeway;
    let (mut seen, mut good) = (Vec::new(), true);
    for (place, account) in accounts.iter().enumerate() {
        let TestAccount::Token(token) = account else {
            continue;
        };
        let place = place + 1;
        let Some((born, ends)) = life(token.expose()) else {
            return Err(vec![format!(
                "token {place} does not say when it begins and ends"
            )]);
        };
        if let Err(error) = judged(provider.as_ref(), token.expose(), now).await {
            return Err(vec![format!(
                "token {place} is not good to begin with: {error}"
            )]);
        }
        let slow = UnixTime::from_secs(born.saturating_sub(skew.as_secs()));
        let fast = UnixTime::from_secs(ends.saturating_add(skew.as_secs()));
        for (clock, at) in [("behind", slow), ("ahead", fast)] {
            let verdict = judged(provider.as_ref(), token.expose(), at).await;
            let (as_it_should, what) = match (verdict, tolerated) {
                (Ok(()), true) => (true, String::from("accepted, within the leeway")),
                (Ok(()), false) => (false, String::from("accepted, beyond the leeway")),
                // At the leeway itself a token may be over.
                (Err(ProviderError::Rejected(why)), _) => (
                    !tolerated || skew == verify.leeway,
                    format!("refused: {why}"),
                ),
                (Err(ProviderError::Unavailable { outage, .. }), _) => {
                    (false, format!("answered as an outage: {outage}"))
                }
            };
            good &= as_it_should;
            let off = skew.as_secs();
            seen.push(format!("token {place} by a clock {off} s {clock}: {what}"));
        }
    }
    if !provider.health().usable {
        seen.push(format!("`{id}` counts as away afterwards"));
        good = false;
    }
    if good { Ok(seen) } else { Err(seen) }
}

/// When a signed token begins and ends, as it says itself.
fn life(token: &str) -> Option<(u64, u64)> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let number = |name: &str| claims.get(name).and_then(Value::as_u64);
    let born = number("nbf").max(number("iat"));
    Some((born?, number("exp")?))
}

async fn judged(provider: &dyn Provider, token: &str, now: UnixTime) -> Result<(), ProviderError> {
    let credential = Credential::Bearer(Secret::new(token.to_owned()));
    let judged = match provider.judge_locally(&credential, now) {
        Some(judged) => judged,
        None => provider.authenticate(&credential, now).await,
    };
    judged.map(|_| ())
}

/// A token that is right in everything but its key, which nobody has.
fn unknown(issuer: &str, (audience, alg): (&str, &str), kid: &str, now: UnixTime) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (iat, exp) = (now.as_secs(), now.as_secs() + 60);
    let header = part(json!({ "alg": alg, "typ": "at+jwt", "kid": kid }));
    let claims = part(json!({
        "iss": issuer, "aud": audience, "sub": "authferry-drill", "client_id": "authferry-drill",
        "jti": kid, "iat": iat, "nbf": iat, "exp": exp,
    }));
    let length = if alg.ends_with("512") && alg.starts_with("ES") {
        132
    } else {
        64
    };
    let length = if alg.starts_with("RS") || alg.starts_with("PS") {
        256
    } else {
        length
    };
    format!(
        "{header}.{claims}.{}",
        URL_SAFE_NO_PAD.encode(vec![7; length])
    )
}

/// What is no token, or half of one.
fn misshapen(token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims) = match parts.as_slice() {
        [header, claims, ..] => (*header, *claims),
        _ => ("", ""),
    };
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let list = URL_SAFE_NO_PAD.encode("[]");
    vec![
        String::from("x"),
        String::from(".."),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{none}.{claims}."),
        format!("{list}.{claims}.AAAA"),
        format!("{header}.{list}.AAAA"),
        format!("{header}.{claims}.AAAA.BBBB.CCCC"),
        format!("{header}.{claims}.****"),
        "x".repeat(9_000),
    ]
}
