//! `token_endpoint`: which clients get tokens from us, and what they may have.

mod proofs;
mod refresh;

use std::time::Duration;

use crate::config::compile::client;
use crate::config::compile::context::Context;
use crate::config::compile::limits;
use crate::config::compile::roles;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::raw::GrantWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawTokenAudience;
use crate::config::raw::RawTokenClient;
use crate::config::raw::RawTokenEndpoint;
use crate::config::raw::SubjectTokensWord;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::tree::Mark;
use crate::exchange::settings::Settings as Exchange;
use crate::exchange::settings::Way;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::issuer::Issuer;
use crate::issuer::settings::Audience;
use crate::issuer::settings::Client;
use crate::issuer::settings::Grant;
use crate::issuer::settings::Settings;
use crate::proxy::settings::App;
use crate::rollout::AppId;

const MINUTE: Duration = Duration::from_secs(60);

/// What the endpoint is checked against.
pub(super) struct Around<'a> {
    /// All applications.
    pub(super) apps: &'a [App],
    /// All exchanges.
    pub(super) exchanges: &'a [Exchange],
    /// The providers whose people an application sees.
    pub(super) speakers: &'a std::collections::HashMap<String, Vec<String>>,
}

/// Our token endpoint, where there is one.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    around: &Around<'_>,
) -> Option<Settings> {
    let raw = raw.token_endpoint.get()?;
    let app = raw.app.required(raw.mark, "app", &mut context.report);
    let app = app.filter(|at| context.knows_app(at));
    let issuer = origin(context, raw, app, around.apps);
    let none = Vec::new();
    let sides = app
        .and_then(|app| around.speakers.get(&app.value))
        .unwrap_or(&none);
    let mut audiences = Vec::new();
    let named = raw.audiences.get().into_iter();
    for (name, raw) in named.flat_map(|named| named.readable()) {
        audiences.push(audience(context, name, raw, sides, around.exchanges));
    }
    let named = raw
        .clients
        .required(raw.mark, "clients", &mut context.report);
    let mut clients = Vec::new();
    for (name, raw) in named.into_iter().flat_map(|named| named.readable()) {
        clients.extend(one(context, name, raw, sides, &audiences));
    }
    let limits = limits::token_limits(context, raw.limits.get());
    Some(Settings {
        limits,
        presented: Vec::new(),
        app: AppId::new(&app?.value),
        issuer: issuer?.into(),
        audiences,
        clients,
    })
}

/// The issuer identifier: at a host of the application, over TLS.
fn origin(
    context: &mut Context<'_>,
    raw: &RawTokenEndpoint,
    app: Option<&At<String>>,
    apps: &[App],
) -> Option<String> {
    let at = raw
        .origin
        .required(raw.mark, "origin", &mut context.report)?;
    let authority = at.value.strip_prefix("https://").unwrap_or_default();
    let plain = authority
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b));
    if authority.is_empty() || !plain {
        context
            .report
            .error(at.mark, "it is no origin of a public address")
            .value(&at.value)
            .hint("such as `https://api.corp.example`: no path, no slash at the end, small letters; secrets and tokens need TLS (RFC 6749 §3.2)");
        return None;
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    let app = app.and_then(|app| apps.iter().find(|known| known.id.as_str() == app.value));
    if let Some(app) = app
        && !app.hosts.iter().any(|own| **own == *host)
    {
        context
            .report
            .error(at.mark, format!("`{host}` is no host of `{}`", app.id))
            .value(&at.value)
            .hint("the endpoint answers at the hosts of its application");
        return None;
    }
    Some(Issuer::identifier(&at.value))
}

fn audience(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawTokenAudience,
    sides: &[String],
    all: &[Exchange],
) -> Audience {
    if raw.resources.is_absent() {
        raw.exchanges
            .required(raw.mark, "exchanges", &mut context.report);
    }
    let resources = resources(context, raw, sides);
    let mut found = Vec::new();
    for at in raw.exchanges.get().map_or(&[][..], |list| &list.items) {
        if !context.knows_exchange(&at.value) {
            context
                .report
                .error(at.mark, format!("no exchange is called `{}`", at.value))
                .value(&at.value);
            continue;
        }
        let Some(exchange) = all.iter().find(|one| *one.name == *at.value) else {
            continue;
        };
        if !is_for(exchange, &name.value) {
            context
                .report
                .error(
                    at.mark,
                    format!("`{}` is not for `{}` alone", at.value, name.value),
                )
                .value(&at.value)
                .hint("an exchange that clients ask for has one audience: the one that they name");
        }
        found.push((at.mark, exchange));
    }
    exhaustive(context, &found, sides);
    Audience {
        name: name.value.as_str().into(),
        exchanges: found.iter().map(|(_, one)| one.name.clone()).collect(),
        resources,
    }
}

/// What providers of the application call an audience.
fn resources(
    context: &mut Context<'_>,
    raw: &RawTokenAudience,
    sides: &[String],
) -> Vec<(ProviderId, Box<str>)> {
    let mut all = Vec::new();
    let named = raw.resources.get().into_iter();
    for (provider, at) in named.flat_map(|named| named.readable()) {
        if !context.knows_provider(provider) {
            continue;
        }
        if !sides.contains(&provider.value) {
            no_part(context, provider);
            continue;
        }
        let is_one =
            at.value.contains(':') && at.value.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if is_one {
            all.push((ProviderId::new(&provider.value), at.value.as_str().into()));
        } else {
            context
                .report
                .error(at.mark, "it is no absolute URI without a fragment")
                .value(&at.value)
                .hint("such as `https://api.corp.example` or `urn:corp:api` (RFC 8707 §2)");
        }
    }
    all
}

/// A provider whose people the application never sees.
fn no_part(context: &mut Context<'_>, provider: &At<String>) {
    context
        .report
        .error(
            provider.mark,
            format!("`{}` has no part in the application", provider.value),
        )
        .value(&provider.value);
}

/// Whether tokens of an exchange are for this audience and no other.
fn is_for(exchange: &Exchange, audience: &str) -> bool {
    let (audiences, resources) = match &exchange.way {
        Way::TokenExchange(remote) | Way::Assertion(remote, _) => {
            (&remote.audiences, remote.resources.as_slice())
        }
        Way::Mint(mint) => (&mint.audiences, &[][..]),
    };
    resources.is_empty() && matches!(audiences.as_slice(), [one] if **one == *audience)
}

/// Whoever may come has a way, and no more than one.
fn exhaustive(context: &mut Context<'_>, found: &[(Mark, &Exchange)], sides: &[String]) {
    let Some((mark, _)) = found.first() else {
        return;
    };
    let of = |side: Option<&str>| {
        let yields = |one: &Exchange| one.yields.as_ref().map(ProviderId::as_str) == side;
        found.iter().filter(|(_, one)| yields(one)).count()
    };
    for side in sides {
        if of(Some(side)) == 0 && of(None) == 0 {
            context
                .report
                .error(*mark, format!("people of `{side}` get no token"))
                .hint("one exchange for each provider of the application, or one that mints");
        }
        if 1 < of(Some(side)) {
            context
                .report
                .error(*mark, format!("two exchanges yield tokens of `{side}`"));
        }
    }
    if 1 < of(None) {
        context.report.error(*mark, "two exchanges mint tokens");
    }
}

fn one(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawTokenClient,
    sides: &[String],
    audiences: &[Audience],
) -> Option<Client> {
    context.name("a client", name);
    // What names it in the log and to revocations.
    Subject::try_from(name.value.as_str()).ok()?;
    let secrets = proofs::secrets(context, raw);
    let keys = proofs::keys(context, raw);
    let certificates = proofs::certificates(context, raw);
    let public = proofs::is_public(context, name, raw);
    roles::scopes(context, raw.scopes.get());
    span(
        context,
        &raw.max_life,
        Duration::from_secs(10),
        60 * MINUTE,
        "from `10s` to `1h`",
    );
    let grants: Vec<Grant> = raw
        .grants
        .get()
        .map_or(&[][..], |list| &list.items)
        .iter()
        .map(|at| match at.value {
            GrantWord::TokenExchange => Grant::TokenExchange,
            GrantWord::ClientCredentials => Grant::ClientCredentials,
            GrantWord::RefreshToken => Grant::RefreshToken,
            GrantWord::DeviceCode => Grant::DeviceCode,
        })
        .collect();
    // A token of the side that its person is on passes as it is; to the other side there must be a way.
    let exchanges = grants.contains(&Grant::TokenExchange)
        || 1 < sides.len()
            && (grants.contains(&Grant::RefreshToken) || grants.contains(&Grant::DeviceCode));
    for at in raw.audiences.get().map_or(&[][..], |list| &list.items) {
        let mut known = audiences.iter().filter(|known| !known.exchanges.is_empty());
        let known = known.any(|known| *known.name == *at.value);
        if exchanges && !known {
            context
                .report
                .error(
                    at.mark,
                    format!("`audiences` says nothing of `{}`", at.value),
                )
                .value(&at.value)
                .hint("`token_exchange`, and `refresh_token` and `device_code` where people move, need the exchanges that make tokens for it");
        }
    }
    if !grants.is_empty() && raw.audiences.is_absent() {
        context
            .report
            .error(name.mark, "`audiences` is missing")
            .hint("a token for everybody could be used against everybody");
    }
    let at = registrations(context, raw, sides);
    if grants.contains(&Grant::ClientCredentials) || grants.contains(&Grant::DeviceCode) {
        for side in sides {
            if !at.iter().any(|(provider, _)| provider.as_str() == side) {
                context
                    .report
                    .error(name.mark, format!("`at.{side}` is missing"))
                    .hint("a client that is moved has a registration at every provider of the application");
            }
        }
    }
    let known_at: Vec<_> = at.iter().map(|(provider, _)| provider.clone()).collect();
    let refresh = refresh::refresh(context, name, raw, &grants, &known_at);
    proofs::fits(
        context,
        name,
        (public, &grants, refresh.adopt.as_ref()),
        &at,
    );
    let learn_at = proofs::learned(context, raw, &at);
    Some(Client {
        learn_at,
        refresh,
        id: name.value.as_str().into(),
        public,
        secrets,
        keys: keys?,
        certificates,
        expires: raw.expires.get().map(|at| at.value.0),
        grants,
        audiences: texts(raw.audiences.get()),
        scopes: texts(raw.scopes.get()),
        max_life: raw.max_life.or(Span(5 * MINUTE)).0,
        addressed: match raw.subject_tokens.or(SubjectTokensWord::Any) {
            SubjectTokensWord::Any => false,
            SubjectTokensWord::Addressed => true,
        },
        introspect: raw.introspect.or(false),
        at,
    })
}

fn registrations(
    context: &mut Context<'_>,
    raw: &RawTokenClient,
    sides: &[String],
) -> Vec<(ProviderId, crate::providers::settings::OAuthClient)> {
    let mut at = Vec::new();
    let named = raw.at.get().into_iter().flat_map(|named| named.readable());
    for (provider, raw) in named {
        if !context.knows_provider(provider) {
            continue;
        }
        if !sides.contains(&provider.value) {
            no_part(context, provider);
            continue;
        }
        let registration = client::client(context, raw, true);
        at.extend(registration.map(|one| (ProviderId::new(&provider.value), one)));
    }
    at
}
