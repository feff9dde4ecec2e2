//! `identity.links[].claim`: claims that may link accounts, and those that must not.

use crate::config::compile::address;
use crate::config::compile::canonical;
use crate::config::compile::claims::Words;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::names::one_of;
use crate::config::raw::RawLinkClaim;
use crate::config::shape::At;
use crate::identity::Normalise;
use crate::identity::Template;
use crate::links::ClaimRule;
use crate::links::Speaker;

/// The attribute that is an e-mail address: the only one that nobody gets here without having proved it.
const ADDRESS: &str = "email";
/// What a word of `require` ends in that wants a provider's address verified.
const VERIFIED: &str = "_email_verified";
/// What a word of `require` begins with that names a domain.
const DOMAIN: &str = "domain:";

/// Compiles a rule. `left`: the providers that people leave.
pub(super) fn rule(
    context: &mut Context<'_>,
    raw: &RawLinkClaim,
    left: &[&str],
    providers: &[Provider],
) -> Option<ClaimRule> {
    let [one, two] = raw.speakers.as_slice() else {
        let count = raw.speakers.len();
        context
            .report
            .error(
                raw.mark,
                format!("the accounts of two providers are linked, and {count} stand here"),
            )
            .hint("`PROVIDER: ATTRIBUTE` twice; another pair is another `claim`");
        return None;
    };
    let (one, two) = (
        side(context, one, providers)?,
        side(context, two, providers)?,
    );
    let attributes = [one.1.value.as_str(), two.1.value.as_str()];
    let is_address = attributes.contains(&ADDRESS);
    if is_address && attributes != [ADDRESS; 2] {
        context
            .report
            .error(
                raw.mark,
                "an e-mail address is compared with something else",
            )
            .hint("`email` on both sides");
        return None;
    }
    let wanted = wanted(context, raw, [one.0, two.0]);
    let sound = if is_address {
        addresses(context, raw, [one.0, two.0], &wanted)
    } else {
        let numbers = [one, two].map(|(words, at)| identifier(context, at, words));
        numbers.iter().all(|good| *good) && !has_words_of_addresses(context, raw, &wanted)
    };
    if !(sound && wanted.unique) {
        return None;
    }
    let speaker = |(words, at): (&Words, &At<String>)| {
        Some(Speaker {
            provider: words.provider.clone(),
            value: Template::parse(&format!("{{{}}}", at.value)).ok()?,
            verified: wanted.verified.contains(&words.provider.as_str()),
        })
    };
    let leaves = |words: &Words| left.contains(&words.provider.as_str());
    let (old, new) = if leaves(two.0) && !leaves(one.0) {
        (two, one)
    } else {
        (one, two)
    };
    let mut normalise = canonical::ways(&raw.normalise);
    if is_address {
        normalise = vec![Normalise::Trim, Normalise::Lowercase];
    }
    Some(ClaimRule {
        old: speaker(old)?,
        new: speaker(new)?,
        normalise,
        domains: is_address.then_some(wanted.domains),
    })
}

/// Who says it, and which attribute it is.
fn side<'a>(
    context: &mut Context<'_>,
    (name, attribute): &'a (At<String>, Option<At<String>>),
    providers: &'a [Provider],
) -> Option<(&'a Words, &'a At<String>)> {
    let attribute = attribute.as_ref()?;
    if !context.knows_provider(name) {
        return None;
    }
    let provider = providers.iter().find(|p| p.name.value == name.value)?;
    let words = &provider.words;
    if words.source(&attribute.value).is_none() {
        if !words.partial {
            let names = words.claims.iter().map(|(name, _)| &**name);
            context
                .report
                .error(
                    attribute.mark,
                    format!(
                        "provider `{}` maps no `{}`",
                        words.provider, attribute.value
                    ),
                )
                .value(&attribute.value)
                .hint(format!("it maps {}", one_of(names)));
        }
        return None;
    }
    Some((words, attribute))
}

/// What `require` wants.
#[derive(Default)]
struct Wanted<'a> {
    unique: bool,
    verified: Vec<&'a str>,
    domains: Vec<Box<str>>,
}

fn wanted<'a>(context: &mut Context<'_>, raw: &'a RawLinkClaim, sides: [&Words; 2]) -> Wanted<'a> {
    let mut wanted = Wanted::default();
    let Some(list) = raw
        .require
        .required(raw.mark, "require", &mut context.report)
    else {
        return wanted;
    };
    for at in &list.items {
        let word = at.value.as_str();
        let known = |name: &&str| sides.iter().any(|words| words.provider.as_str() == *name);
        if word == "unique" {
            wanted.unique = true;
        } else if let Some(provider) = word.strip_suffix(VERIFIED).filter(known) {
            wanted.verified.push(provider);
        } else if let Some(domain) = word.strip_prefix(DOMAIN) {
            let domain = At {
                value: domain.to_owned(),
                mark: at.mark,
            };
            wanted
                .domains
                .extend(address::host(context, &domain, false));
        } else {
            let verified = sides.map(|words| format!("{}{VERIFIED}", words.provider));
            let words = ["unique".to_owned(), "domain:…".to_owned()];
            let words: Vec<_> = words.into_iter().chain(verified).collect();
            context
                .report
                .error(at.mark, format!("`{word}` is nothing to require"))
                .value(word)
                .hint(format!(
                    "write {}",
                    one_of(words.iter().map(String::as_str))
                ));
        }
    }
    if !wanted.unique {
        context.report.error(list.mark, "`unique` is missing").hint(
            "what several accounts of one provider have links nobody, whether it is said or not",
        );
    }
    wanted
}

/// Whether an attribute is an identifier of which the provider may speak.
fn identifier(context: &mut Context<'_>, at: &At<String>, words: &Words) -> bool {
    let weak = |claim: &str| canonical::NO_PROOF.contains(&claim.to_ascii_lowercase().as_str());
    let source = words.source(&at.value);
    let behind = source.filter(|source| weak(source));
    let named = weak(&at.value).then(|| at.value.clone());
    if let Some(source) = named.or(behind) {
        context
            .report
            .error(
                at.mark,
                format!("`{source}` does not prove who somebody is"),
            )
            .value(&at.value)
            .hint("a name can belong to somebody else tomorrow; link people by an identifier that is never given twice, or by verified addresses (`email`)");
        return false;
    }
    if !words.may_speak_about(&at.value) {
        context
            .report
            .error(
                at.mark,
                format!(
                    "provider `{}` is not authoritative for `{}`: what it says of it links nobody",
                    words.provider, at.value
                ),
            )
            .value(&at.value)
            .hint(format!(
                "if its word can be trusted, and it never gives one to two people, add `{}` to its `authoritative.claims`",
                at.value
            ));
        return false;
    }
    true
}

fn has_words_of_addresses(
    context: &mut Context<'_>,
    raw: &RawLinkClaim,
    wanted: &Wanted<'_>,
) -> bool {
    let some = !wanted.verified.is_empty() || !wanted.domains.is_empty();
    if some {
        context.report.error(
            raw.require.mark().unwrap_or(raw.mark),
            "verified addresses and their domains belong to `email`",
        );
    }
    some
}

/// Whether addresses are proved on both sides, and ours to give.
fn addresses(
    context: &mut Context<'_>,
    raw: &RawLinkClaim,
    sides: [&Words; 2],
    wanted: &Wanted<'_>,
) -> bool {
    let mark = raw.require.mark().unwrap_or(raw.mark);
    let mut sound = true;
    if wanted.domains.is_empty() {
        context
            .report
            .error(
                mark,
                "addresses link people only in domains that are ours: `domain:` is missing",
            )
            .hint("`domain:corp.example`: nobody else gives out addresses there");
        sound = false;
    }
    if wanted.verified.is_empty() {
        context
            .report
            .error(
                mark,
                "an address that nobody has verified links nobody: `PROVIDER_email_verified` is missing",
            )
            .hint("anybody can enter an address into a profile");
        sound = false;
    }
    for words in sides {
        let verified = wanted.verified.contains(&words.provider.as_str());
        if verified && !words.partial && words.source("email_verified").is_none() {
            context
                .report
                .error(
                    mark,
                    format!("provider `{}` maps no `email_verified`", words.provider),
                )
                .hint("add it to its `claims`");
            sound = false;
        }
        let owns = |domain: &str| {
            let mut own = words.email_domains.iter();
            own.any(|own| own.eq_ignore_ascii_case(domain))
        };
        if !verified && !words.partial && !wanted.domains.iter().all(|domain| owns(domain)) {
            context
                .report
                .error(
                    mark,
                    format!(
                        "provider `{}` neither has addresses verified nor is it authoritative for these domains",
                        words.provider
                    ),
                )
                .hint(format!(
                    "`{}{VERIFIED}`, or its `authoritative.email_domains`",
                    words.provider
                ));
            sound = false;
        }
    }
    sound
}
