//! `exchange`, `secrets.signing`: what upstreams get in place of the credential that was presented.

mod mint;
mod switch;

use std::time::Duration;

use http::HeaderName;

use crate::config::compile::claims;
use crate::config::compile::claims::Words;
use crate::config::compile::client;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::providers::Provider;
use crate::config::compile::roles;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::raw::BindingWord;
use crate::config::raw::OwnTokensWord;
use crate::config::raw::RawAssertionGrant;
use crate::config::raw::RawClient;
use crate::config::raw::RawConfig;
use crate::config::raw::RawExchange;
use crate::config::raw::RawModule;
use crate::config::raw::RawScopeRules;
use crate::config::raw::RawSend;
use crate::config::raw::RawSigning;
use crate::config::raw::RawTokenExchange;
use crate::config::raw::SigningAlg;
use crate::config::raw::UnreadableWord;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::tree::Mark;
use crate::exchange::settings::Assertion;
use crate::exchange::settings::Binding;
use crate::exchange::settings::Module;
use crate::exchange::settings::Remote;
use crate::exchange::settings::Ring;
use crate::exchange::settings::ScopeRules;
use crate::exchange::settings::Settings;
use crate::exchange::settings::Way;
use crate::identity::ProviderId;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::KindSettings;
use crate::token::Algorithm;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// All exchanges.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
) -> Vec<Settings> {
    let mut all = Vec::new();
    let named = raw.exchange.get().into_iter();
    let speakers: Vec<&Words> = providers.iter().map(|provider| &provider.words).collect();
    for (name, raw) in named.flat_map(|named| named.readable()) {
        context.name("an exchange", name);
        let compiled = one(context, raw, providers, &speakers);
        all.extend(compiled.map(|compiled| Settings {
            name: name.value.as_str().into(),
            ..compiled
        }));
    }
    switch::look(context, raw, &all);
    all
}

fn one(
    context: &mut Context<'_>,
    raw: &RawExchange,
    providers: &[Provider],
    speakers: &[&Words],
) -> Option<Settings> {
    if let Some(raw) = raw.token_exchange.get() {
        return token_exchange(context, raw, providers);
    }
    if let Some(raw) = raw.assertion.get() {
        return assertion(context, raw, providers, speakers);
    }
    raw.mint
        .get()
        .and_then(|raw| mint::compile(context, raw, providers, speakers))
}

fn token_exchange(
    context: &mut Context<'_>,
    raw: &RawTokenExchange,
    providers: &[Provider],
) -> Option<Settings> {
    let provider = provider(context, raw.mark, &raw.provider, &raw.client, providers);
    let client = registration(context, &raw.client);
    let (header, scheme) = send(context, &raw.send)?;
    let scopes = scopes(context, &raw.scopes);
    targets(context, raw.mark, &raw.audiences, &raw.resources);
    let provider = provider?;
    Some(Settings {
        name: Box::default(),
        yields: Some(provider.clone()),
        own_pass: raw.own_tokens.or(OwnTokensWord::Pass) == OwnTokensWord::Pass,
        binding: binding(context, &raw.binding),
        longer_life: longer_life(context, &raw.longer_life),
        header,
        scheme,
        scopes,
        way: Way::TokenExchange(Remote {
            provider,
            client: client?,
            audiences: texts(raw.audiences.get()),
            resources: texts(raw.resources.get()),
            also: texts(raw.also.get()),
            actor: raw.actor.get().map(|at| at.value.as_str().into()),
            must_be_read: must_be_read(&raw.unreadable),
        }),
    })
}

/// Whether a result that nobody here can read is none.
fn must_be_read(raw: &Field<At<UnreadableWord>>) -> bool {
    match raw.or(UnreadableWord::Refuse) {
        UnreadableWord::Accept => false,
        UnreadableWord::Refuse => true,
    }
}

/// What becomes of a binding where a provider makes the result, which knows nothing of the key.
fn binding(context: &mut Context<'_>, raw: &Field<At<BindingWord>>) -> Binding {
    match raw.get().map(|at| (at.mark, at.value)) {
        None | Some((_, BindingWord::Lose)) => Binding::Lose,
        Some((_, BindingWord::Refuse)) => Binding::Refuse,
        Some((mark, BindingWord::Keep)) => {
            context
                .report
                .error(
                    mark,
                    "a provider does not bind its token to the key of a client of ours",
                )
                .hint("`refuse`; a token that we `mint` can keep it");
            Binding::Refuse
        }
    }
}

/// How much longer than the presented token a provider's may live.
fn longer_life(context: &mut Context<'_>, raw: &Field<At<Span>>) -> Duration {
    let day = 24 * HOUR;
    span(context, raw, Duration::ZERO, day, "from `0s` to `24h`");
    raw.or(Span(60 * SECOND)).0
}

fn assertion(
    context: &mut Context<'_>,
    raw: &RawAssertionGrant,
    providers: &[Provider],
    speakers: &[&Words],
) -> Option<Settings> {
    let provider = provider(context, raw.mark, &raw.provider, &raw.client, providers);
    let client = registration(context, &raw.client);
    let (header, scheme) = send(context, &raw.send)?;
    let scopes = scopes(context, &raw.scopes);
    targets(context, raw.mark, &raw.audiences, &raw.resources);
    let issuer = raw.issuer.required(raw.mark, "issuer", &mut context.report);
    let subject = raw
        .subject
        .required(raw.mark, "subject", &mut context.report);
    let subject = subject.and_then(|at| claims::template(context, at, speakers));
    span(context, &raw.ttl, SECOND, 300 * SECOND, "from `1s` to `5m`");
    let key = mint::key(context, &raw.key);
    let provider = provider?;
    Some(Settings {
        name: Box::default(),
        yields: Some(provider.clone()),
        own_pass: raw.own_tokens.or(OwnTokensWord::Pass) == OwnTokensWord::Pass,
        binding: binding(context, &raw.binding),
        longer_life: longer_life(context, &raw.longer_life),
        header,
        scheme,
        scopes,
        way: Way::Assertion(
            Remote {
                provider,
                client: client?,
                audiences: texts(raw.audiences.get()),
                resources: texts(raw.resources.get()),
                also: texts(raw.also.get()),
                actor: raw.actor.get().map(|at| at.value.as_str().into()),
                must_be_read: must_be_read(&raw.unreadable),
            },
            Box::new(Assertion {
                issuer: issuer?.value.as_str().into(),
                audience: raw.audience.get().map(|at| at.value.as_str().into()),
                subject: subject?,
                ttl: raw.ttl.or(Span(60 * SECOND)).0,
                key: key?,
            }),
        ),
    })
}

/// The provider of a token endpoint, and a registration that can prove itself.
fn provider(
    context: &mut Context<'_>,
    parent: Mark,
    field: &Field<At<String>>,
    client: &Field<RawClient>,
    providers: &[Provider],
) -> Option<ProviderId> {
    let at = field.required(parent, "provider", &mut context.report)?;
    if !context.knows_provider(at) {
        return None;
    }
    let found = providers
        .iter()
        .find(|provider| provider.name.value == at.value);
    // What could not be read has been reported.
    let settings = found.and_then(|provider| provider.settings.as_ref())?;
    let KindSettings::Oidc(oidc) = &settings.kind else {
        context
            .report
            .error(
                at.mark,
                format!("provider `{}` has no token endpoint", at.value),
            )
            .value(&at.value)
            .hint("exchanges are asked for at `oidc` providers");
        return None;
    };
    let proves = oidc
        .client
        .as_ref()
        .is_some_and(|client| !matches!(client.auth, ClientAuth::None));
    if client.is_absent() && !proves {
        context
            .report
            .error(parent, "`client` is missing")
            .hint("whoever exchanges tokens must prove who they are (RFC 8693 §5)");
        return None;
    }
    Some(settings.id.clone())
}

/// `Some(None)`: the provider's own.
fn registration(
    context: &mut Context<'_>,
    field: &Field<RawClient>,
) -> Option<Option<crate::providers::settings::OAuthClient>> {
    match field {
        Field::Given(raw) => client::client(context, raw, false).map(Some),
        Field::Absent => Some(None),
        Field::Broken => None,
    }
}

fn targets(
    context: &mut Context<'_>,
    parent: Mark,
    audiences: &Field<List<At<String>>>,
    resources: &Field<List<At<String>>>,
) {
    if audiences.is_absent() && resources.is_absent() {
        context
            .report
            .error(parent, "`audiences` is missing")
            .hint("a token for everybody could be used against everybody (RFC 8693 §2.1): name its `audiences` or `resources`");
    }
}

fn send(context: &mut Context<'_>, field: &Field<RawSend>) -> Option<(HeaderName, Box<str>)> {
    let usual = || (http::header::AUTHORIZATION, Box::from("Bearer"));
    let raw = match field {
        Field::Absent => return Some(usual()),
        Field::Broken => return None,
        Field::Given(raw) => raw,
    };
    let scheme = raw.scheme.get().map(|at| Box::from(at.value.as_str()));
    match raw.header.get() {
        None => Some((
            http::header::AUTHORIZATION,
            scheme.unwrap_or("Bearer".into()),
        )),
        Some(at) if at.value.eq_ignore_ascii_case("authorization") => Some((
            http::header::AUTHORIZATION,
            scheme.unwrap_or("Bearer".into()),
        )),
        Some(at) => Some((headers::written(context, at)?, scheme.unwrap_or_default())),
    }
}

fn scopes(context: &mut Context<'_>, field: &Field<RawScopeRules>) -> ScopeRules {
    let harmless = || vec![Box::from("openid")];
    let Some(raw) = field.get() else {
        return ScopeRules {
            harmless: harmless(),
            ..ScopeRules::default()
        };
    };
    roles::scopes(context, raw.grant.get());
    roles::scopes(context, raw.harmless.get());
    let named = raw.map.get().into_iter().flat_map(|named| named.readable());
    let mut map = Vec::new();
    for (from, to) in named {
        roles::scope(context, from);
        roles::scope(context, to);
        map.push((Box::from(from.value.as_str()), Box::from(to.value.as_str())));
    }
    ScopeRules {
        grants: texts(raw.grant.get()),
        map,
        harmless: raw
            .harmless
            .get()
            .map_or_else(harmless, |list| texts(Some(list))),
    }
}

/// `secrets.signing`.
pub(super) fn ring(context: &mut Context<'_>, raw: &RawConfig) -> Ring {
    let usual = Ring::default();
    let Some(raw) = raw.secrets.get().and_then(|secrets| secrets.signing.get()) else {
        return usual;
    };
    let day = 24 * HOUR;
    span(
        context,
        &raw.rotate_every,
        HOUR,
        400 * day,
        "from `1h` to `400d`",
    );
    span(
        context,
        &raw.announce,
        // As long as our own set may be kept by those who check.
        5 * 60 * SECOND,
        7 * day,
        "from `5m` to `7d`",
    );
    span(context, &raw.overlap, HOUR, 30 * day, "from `1h` to `30d`");
    let files = raw.files.get().map_or(&[][..], |list| &list.items);
    let mut paths = Vec::new();
    for at in files {
        let check = |bytes: &[u8]| {
            crate::token::SigningKey::from_pem(bytes)
                .map(|_| ())
                .map_err(|cause| format!("is no signing key: {cause}"))
        };
        paths.extend(context.readable(at, "the key", check));
    }
    Ring {
        algorithm: match raw.algorithm.or(SigningAlg::Es256) {
            SigningAlg::Es256 => Algorithm::Es256,
            SigningAlg::Rs256 => Algorithm::Rs256,
            SigningAlg::EdDsa => Algorithm::EdDsa,
        },
        rotate_every: raw.rotate_every.or(Span(usual.rotate_every)).0,
        announce: raw.announce.or(Span(usual.announce)).0,
        overlap: raw.overlap.or(Span(usual.overlap)).0,
        files: paths,
        module: raw.pkcs11.get().and_then(|own| module(context, raw, own)),
    }
}

/// `secrets.signing.pkcs11`.
fn module(context: &mut Context<'_>, signing: &RawSigning, raw: &RawModule) -> Option<Module> {
    if !cfg!(feature = "pkcs11") {
        context
            .report
            .error(raw.mark, "`pkcs11` is not in this build")
            .hint("build with `--features pkcs11`, or name `files`");
        return None;
    }
    if !signing.files.is_absent() {
        context
            .report
            .error(raw.mark, "`files` and `pkcs11`: one of them signs");
    }
    let library = raw.module.required(raw.mark, "module", &mut context.report);
    let token = raw.token.required(raw.mark, "token", &mut context.report);
    let keys = raw.keys.required(raw.mark, "keys", &mut context.report);
    let pin = context.secret_text(&raw.pin, "the PIN");
    if raw.pin.is_absent() {
        context.report.error(raw.mark, "`pin` is missing");
    }
    Some(Module {
        library: context.path(&library?.value),
        token: token?.value.as_str().into(),
        pin: pin?,
        keys: texts(keys),
    })
}
