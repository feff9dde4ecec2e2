//! `identity`: who is one person across providers.

use crate::config::compile::claims;
use crate::config::compile::context::Context;
use crate::config::compile::links;
use crate::config::compile::providers::Provider;
use crate::config::raw::NormaliseWord;
use crate::config::raw::RawConfig;
use crate::config::settings::Canonical;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::identity::Normalise;
use crate::identity::ProviderId;
use crate::identity::RESERVED_NAMES;

/// Claims that are no proof of who somebody is: reassigned, chosen by the person, or equal by accident.
pub(super) const NO_PROOF: &[&str] = &[
    "email",
    "mail",
    "email_verified",
    "name",
    "preferred_username",
    "nickname",
    "phone_number",
];

/// `identity.canonical`.
pub(super) fn canonical(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
) -> Option<Canonical> {
    let identity = raw.identity.get()?;
    let canonical = identity
        .canonical
        .required(identity.mark, "canonical", &mut context.report)?;
    let at = canonical
        .template
        .required(canonical.mark, "template", &mut context.report)?;
    // Checked without providers first: one that lacks an attribute merely stays unjoined.
    let template = claims::template(context, at, &[])?;
    let names: Vec<String> = template.roots().map(str::to_owned).collect();
    if names.is_empty() {
        context
            .report
            .error(
                at.mark,
                "the same text for everybody: all people would be one person",
            )
            .value(&at.value)
            .hint("name an attribute that is unique, such as `hr:{employee_id}`");
        return None;
    }
    let mut sound = true;
    for name in &names {
        sound &= proof(context, at, name, providers);
    }
    if !sound {
        return None;
    }
    if let Err(invalid) = template.check_canonical() {
        let reason = format!("this cannot name people: {}", invalid.reason);
        let character = at
            .value
            .get(..invalid.at)
            .map_or(1, |before| before.chars().count() + 1);
        context
            .report
            .error(at.mark, reason)
            .value(&at.value)
            .hint(format!("at character {character} of the template"));
        return None;
    }
    let joined = joined(context, at, &names, providers);
    let normalise = ways(&canonical.normalise);
    let sources = links::sources(context, raw, identity, (&template, &normalise), providers);
    Some(Canonical {
        template,
        normalise,
        authoritative: joined,
        files: sources.files,
        claims: sources.claims,
        prove_both: sources.prove_both,
        on_missing: sources.on_missing,
    })
}

/// What is done to a value before it is compared.
pub(super) fn ways(raw: &Field<List<At<NormaliseWord>>>) -> Vec<Normalise> {
    let words = raw.get().map_or(&[][..], |list| &list.items);
    let way = |word: &At<NormaliseWord>| match word.value {
        NormaliseWord::Trim => Normalise::Trim,
        NormaliseWord::Lowercase => Normalise::Lowercase,
        NormaliseWord::StripLeadingZeros => Normalise::StripLeadingZeros,
    };
    words.iter().map(way).collect()
}

/// Whether an attribute proves who somebody is; reports one that joins people who may be different ones.
fn proof(context: &mut Context<'_>, at: &At<String>, name: &str, providers: &[Provider]) -> bool {
    if RESERVED_NAMES.contains(&name) {
        context
            .report
            .error(
                at.mark,
                format!("`{name}` is known only once the canonical name is"),
            )
            .value(&at.value);
        return false;
    }
    let weak = |claim: &str| NO_PROOF.contains(&claim.to_ascii_lowercase().as_str());
    let behind = providers
        .iter()
        .filter_map(|provider| provider.words.source(name))
        .find(|source| weak(source));
    let source = if weak(name) {
        Some(name.to_owned())
    } else {
        behind
    };
    if let Some(source) = &source {
        context
            .report
            .error(at.mark, format!("`{source}` does not prove who somebody is"))
            .value(&at.value)
            .hint("an address or a display name can belong to somebody else tomorrow; join people by an identifier that is never given twice");
    }
    source.is_none()
}

/// Providers that may speak about every attribute of the template.
fn joined(
    context: &mut Context<'_>,
    at: &At<String>,
    names: &[String],
    providers: &[Provider],
) -> Vec<ProviderId> {
    let mut joined = Vec::new();
    for provider in providers {
        let words = &provider.words;
        let lacking = names.iter().find(|name| words.source(name).is_none());
        let silent = names.iter().find(|name| !words.may_speak_about(name));
        match (lacking, silent) {
            (None, None) => joined.push(words.provider.clone()),
            _ if words.partial => {}
            (Some(name), _) => {
                let said = context.report.warning(
                    at.mark,
                    format!(
                        "provider `{}` maps no `{name}`: its people stay unjoined",
                        words.provider
                    ),
                );
                said.value(&at.value).hint(format!(
                    "add `{name}` to its `claims` and its `authoritative.claims`"
                ));
            }
            (None, Some(name)) => {
                let said = context.report.warning(
                    at.mark,
                    format!(
                        "provider `{}` is not authoritative for `{name}`: its people stay unjoined",
                        words.provider
                    ),
                );
                said.value(&at.value)
                    .hint(format!("if its word about `{name}` can be trusted, add it to its `authoritative.claims`"));
            }
        }
    }
    joined
}
