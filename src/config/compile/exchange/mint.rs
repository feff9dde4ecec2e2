//! Tokens that we sign ourselves: whose name they bear, what they say, in which format.

use std::time::Duration;

use crate::config::compile::claims;
use crate::config::compile::claims::Words;
use crate::config::compile::context::Context;
use crate::config::compile::exchange::HOUR;
use crate::config::compile::exchange::SECOND;
use crate::config::compile::exchange::scopes;
use crate::config::compile::exchange::send;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::raw::BindingWord;
use crate::config::raw::RawFormat;
use crate::config::raw::RawMint;
use crate::config::raw::RawSecretText;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::exchange::settings::Binding;
use crate::exchange::settings::Format;
use crate::exchange::settings::Mint;
use crate::exchange::settings::Settings;
use crate::exchange::settings::Way;
use crate::identity::ProviderId;
use crate::identity::Template;
use crate::secret::Secret;

/// Claims that are ours to say.
const OURS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "scope",
    "client_id",
    "acr",
    "act",
    "may_act",
    "cnf",
];

/// The shortest secret that keeps an HMAC safe (RFC 7518 §3.2), in bytes.
const MIN_SECRET: usize = 32;

pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawMint,
    providers: &[Provider],
    speakers: &[&Words],
) -> Option<Settings> {
    let (header, scheme) = send(context, &raw.send)?;
    let scopes = scopes(context, &raw.scopes);
    let issuer = raw.issuer.required(raw.mark, "issuer", &mut context.report);
    let audiences = raw
        .audiences
        .required(raw.mark, "audiences", &mut context.report);
    let subject = match raw.subject.get() {
        Some(at) => claims::template(context, at, speakers),
        None => Template::parse("{canonical}").ok(),
    };
    let mut texts_of = Vec::new();
    let mut attributes = Vec::new();
    for (name, at) in raw
        .claims
        .get()
        .into_iter()
        .flat_map(|named| named.readable())
    {
        let template = claims::template(context, at, speakers);
        if let (true, Some(template)) = (claim(context, name), template) {
            texts_of.push((name.value.as_str().into(), template));
        }
    }
    for (name, at) in raw
        .attributes
        .get()
        .into_iter()
        .flat_map(|named| named.readable())
    {
        if !speakers
            .iter()
            .any(|words| words.partial || words.source(&at.value).is_some())
        {
            context
                .report
                .error(at.mark, format!("no provider maps `{}`", at.value))
                .value(&at.value);
        } else if claim(context, name) {
            attributes.push((name.value.as_str().into(), at.value.as_str().into()));
        }
    }
    span(context, &raw.ttl, SECOND, HOUR, "from `1s` to `1h`");
    let yields = match raw.yields.get() {
        Some(at) if !context.knows_provider(at) => return None,
        at => at.map(|at| ProviderId::new(&at.value)),
    };
    let format = format(context, &raw.format, speakers);
    let binding = match raw.binding.or(BindingWord::Lose) {
        BindingWord::Keep => Binding::Keep,
        BindingWord::Lose => Binding::Lose,
        BindingWord::Refuse => Binding::Refuse,
    };
    if let (Binding::Keep, Some(Format::SignedText(..)), Some(at)) =
        (binding, &format, raw.binding.get())
    {
        context
            .report
            .error(at.mark, "a signed text has no place for a binding")
            .hint("`refuse`, or a JWT");
    }
    let issuer = issuer?;
    in_anothers_name(context, issuer, yields.as_ref(), providers);
    Some(Settings {
        name: Box::default(),
        yields,
        own_pass: true,
        binding,
        longer_life: Duration::ZERO,
        header,
        scheme,
        scopes,
        way: Way::Mint(Box::new(Mint {
            issuer: issuer.value.as_str().into(),
            audiences: texts(Some(audiences?)),
            subject: subject?,
            claims: texts_of,
            attributes,
            ttl: raw.ttl.or(Span(300 * SECOND)).0,
            actor: raw.actor.get().map(|at| at.value.as_str().into()),
            names_client: raw.names_client.or(false),
            format: format?,
        })),
    })
}

/// A token in the name of a provider may only stand in for that provider's tokens.
fn in_anothers_name(
    context: &mut Context<'_>,
    issuer: &At<String>,
    yields: Option<&ProviderId>,
    providers: &[Provider],
) {
    let settings = providers
        .iter()
        .filter_map(|provider| provider.settings.as_ref());
    for settings in settings {
        let owns = settings
            .owns
            .issuers
            .iter()
            .any(|own| own.as_str() == issuer.value);
        if owns && yields != Some(&settings.id) {
            context
                .report
                .error(
                    issuer.mark,
                    format!(
                        "`{}` is the issuer of provider `{}`",
                        issuer.value, settings.id
                    ),
                )
                .value(&issuer.value)
                .hint(format!(
                    "say `yields: {}` if the upstream cannot tell them apart, or name ourselves",
                    settings.id
                ));
        }
    }
}

/// Whether a claim may be filled from what is known of a person; reports it if not.
fn claim(context: &mut Context<'_>, name: &At<String>) -> bool {
    let ours = OURS.contains(&name.value.as_str());
    if ours {
        context
            .report
            .error(
                name.mark,
                format!("`{}` is written by us alone", name.value),
            )
            .value(&name.value);
    }
    !ours
}

fn format(
    context: &mut Context<'_>,
    field: &Field<RawFormat>,
    speakers: &[&Words],
) -> Option<Format> {
    let raw = match field {
        Field::Absent => return Some(Format::Jwt("at+jwt".into(), None)),
        Field::Broken => return None,
        Field::Given(raw) => raw,
    };
    if let Some(raw) = raw.jwt.get() {
        let typ = raw.typ.or("at+jwt".to_owned()).into();
        if let (false, Field::Given(other)) = (raw.key.is_absent(), &raw.shared_secret) {
            context
                .report
                .error(other.0.mark, "either `key` or `shared_secret`, not both");
            return None;
        }
        return if raw.shared_secret.is_absent() {
            Some(Format::Jwt(typ, key(context, &raw.key)?))
        } else {
            Some(Format::SharedJwt(typ, shared(context, &raw.shared_secret)?))
        };
    }
    let raw = raw.signed_text.get()?;
    let at = raw
        .template
        .required(raw.mark, "template", &mut context.report);
    if raw.shared_secret.is_absent() {
        context.report.error(raw.mark, "`shared_secret` is missing");
    }
    let secret = shared(context, &raw.shared_secret);
    let at = at?;
    let template = claims::template_besides(context, at, speakers, &["issued", "expires"])?;
    if !template.roots().any(|root| root == "expires") {
        context
            .report
            .error(at.mark, "a token without `{expires}` never ends")
            .value(&at.value);
        return None;
    }
    if !template.is_apart() {
        context
            .report
            .error(at.mark, "nothing tells two values of a signed text apart")
            .value(&at.value)
            .hint("put a character between them that is neither a letter nor a digit, such as `:`");
        return None;
    }
    if let Some(clash) = template.clashes() {
        context
            .report
            .warning(
                at.mark,
                format!("whoever has `{clash}` in a value gets no signed text (403)"),
            )
            .value(&at.value)
            .hint("identifiers and addresses have it: put `:` or `|` beside the values");
    }
    Some(Format::SignedText(template, secret?))
}

/// `Some(None)`: the ring.
pub(super) fn key(
    context: &mut Context<'_>,
    field: &Field<RawSecretText>,
) -> Option<Option<Secret<String>>> {
    match field {
        Field::Given(_) => context.secret_text(field, "the key").map(Some),
        Field::Absent => Some(None),
        Field::Broken => None,
    }
}

fn shared(context: &mut Context<'_>, field: &Field<RawSecretText>) -> Option<Secret<Vec<u8>>> {
    let secret = context.secret(field, "the shared secret")?;
    let mark = field.get()?.0.mark;
    if secret.expose().len() < MIN_SECRET {
        context.report.error(
            mark,
            format!("the shared secret has less than {MIN_SECRET} bytes"),
        );
        return None;
    }
    Some(secret)
}
