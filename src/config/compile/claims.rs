//! What providers say about people: which claims become which attributes, and who may speak about what.

use serde_json::Value;

use crate::config::compile::context::Context;
use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::raw::RawAssurance;
use crate::config::raw::RawAuthoritative;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::Named;
use crate::identity::ClaimPath;
use crate::identity::ProviderId;
use crate::identity::RESERVED_NAMES;
use crate::identity::Template;
use crate::providers::settings::Assurance;

/// The claims of OpenID Connect Core 1.0 §5.1 that we know by the same name, with `sub` as `subject`.
pub(super) const OPENID: &[(&str, &str)] = &[
    ("subject", "sub"),
    ("email", "email"),
    ("email_verified", "email_verified"),
    ("name", "name"),
    ("preferred_username", "preferred_username"),
    ("groups", "groups"),
];

/// What a list of people or clients says: a name, and the groups behind it.
pub(super) const LISTED: &[(&str, &str)] = &[("subject", "username"), ("groups", "groups")];

/// The attributes of a directory entry (RFC 4519, RFC 4524) that we know.
pub(super) const DIRECTORY: &[(&str, &str)] = &[
    ("subject", "uid"),
    ("email", "mail"),
    ("name", "cn"),
    ("groups", "groups"),
];

/// What is known of a provider's words.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// Which provider.
    pub(super) provider: ProviderId,
    /// Attributes by our names, with the claims they come from.
    pub(super) claims: Vec<(Box<str>, ClaimPath)>,
    /// Attributes or claims about which it may speak when people are joined.
    pub(super) authoritative: Vec<Box<str>>,
    /// Domains about whose addresses it may speak.
    pub(super) email_domains: Vec<Box<str>>,
    /// Whether something of it could not be read: it may map more than is known here.
    pub(super) partial: bool,
}

impl Words {
    /// The claim behind an attribute.
    pub(super) fn source(&self, attribute: &str) -> Option<String> {
        let found = self.claims.iter().find(|(name, _)| **name == *attribute);
        found.map(|(_, path)| path.to_string())
    }

    /// Whether it may speak about an attribute: by our name, or by the name of the claim.
    pub(super) fn may_speak_about(&self, attribute: &str) -> bool {
        let source = self.source(attribute);
        self.authoritative
            .iter()
            .any(|word| **word == *attribute || Some(&**word) == source.as_deref())
    }
}

/// The mapping of a provider: the operator's over the defaults.
pub(super) fn claims(
    context: &mut Context<'_>,
    raw: &Field<Named<At<String>>>,
    defaults: &[(&str, &str)],
) -> Vec<(Box<str>, ClaimPath)> {
    let mut mapping: Vec<(Box<str>, ClaimPath)> = Vec::new();
    if let Some(raw) = raw.get() {
        for (name, path) in raw.readable() {
            let good = name.value.starts_with(|c: char| c.is_ascii_lowercase())
                && name
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !good || RESERVED_NAMES.contains(&name.value.as_str()) {
                context
                    .report
                    .error(
                        name.mark,
                        format!("`{}` cannot be the name of an attribute", name.value),
                    )
                    .value(&name.value)
                    .hint(format!(
                        "small letters, digits and `_`, and none of {}",
                        one_of(RESERVED_NAMES)
                    ));
                continue;
            }
            match ClaimPath::parse(&path.value) {
                Ok(parsed) => mapping.push((name.value.as_str().into(), parsed)),
                Err(invalid) => {
                    context
                        .report
                        .error(path.mark, invalid.to_string())
                        .value(&path.value)
                        .hint("a name with a dot in it stands in double quotes inside of single ones: '\"https://corp.example/roles\"'");
                }
            }
        }
    }
    for (name, path) in defaults {
        let mapped = |known: &(Box<str>, ClaimPath)| *known.0 == **name;
        let named = raw.get().is_some_and(|raw| raw.names().any(|n| n == *name));
        if !mapping.iter().any(mapped)
            && !named
            && let Ok(path) = ClaimPath::parse(path)
        {
            mapping.push(((*name).into(), path));
        }
    }
    mapping
}

/// Checks `authoritative` against the mapping; answers the attributes and the domains.
pub(super) fn authoritative(
    context: &mut Context<'_>,
    raw: &Field<RawAuthoritative>,
    mapping: &[(Box<str>, ClaimPath)],
) -> (Vec<Box<str>>, Vec<Box<str>>) {
    let Some(raw) = raw.get() else {
        return Default::default();
    };
    let mut attributes = Vec::new();
    for claim in raw.claims.get().map_or(&[][..], |list| &list.items) {
        let known = mapping
            .iter()
            .any(|(name, path)| **name == *claim.value || path.to_string() == claim.value);
        if !known {
            let names = mapping.iter().map(|(name, _)| &**name);
            let hint = did_you_mean(&claim.value, names).map_or_else(
                || "name an attribute that `claims` maps, or the claim it comes from".to_owned(),
                |close| format!("did you mean `{close}`?"),
            );
            context
                .report
                .error(claim.mark, format!("`claims` maps no `{}`", claim.value))
                .value(&claim.value)
                .hint(hint);
        }
        attributes.push(claim.value.as_str().into());
    }
    let mut domains = Vec::new();
    for domain in raw.email_domains.get().map_or(&[][..], |list| &list.items) {
        domains.extend(super::address::host(context, domain, false));
    }
    (attributes, domains)
}

/// How assurance is read: the same for all, or from a claim.
pub(super) fn assurance(context: &mut Context<'_>, raw: &Field<RawAssurance>) -> Assurance {
    let Some(raw) = raw.get() else {
        return Assurance::default();
    };
    if let (Some(fixed), Some(_)) = (raw.acr.get(), raw.acr_claim.get()) {
        context
            .report
            .error(fixed.mark, "either `acr` or `acr_claim`, not both")
            .hint("`acr` says the same of every credential, `acr_claim` reads it from each");
    }
    if let Some(map) = raw.map.get()
        && raw.acr_claim.is_absent()
    {
        context
            .report
            .error(map.mark, "`map` without `acr_claim` translates nothing");
    }
    let claim = raw
        .acr_claim
        .get()
        .and_then(|at| match ClaimPath::parse(&at.value) {
            Ok(path) => Some(path),
            Err(invalid) => {
                context
                    .report
                    .error(at.mark, invalid.to_string())
                    .value(&at.value);
                None
            }
        });
    let map = raw.map.get().map(|map| {
        map.readable()
            .map(|(from, to)| (from.value.as_str().into(), to.value.as_str().into()))
            .collect()
    });
    Assurance {
        fixed: raw.acr.get().map(|acr| acr.value.as_str().into()),
        claim,
        map: map.unwrap_or_default(),
    }
}

/// Compiles a template and checks that the providers concerned map what it reads.
///
/// `speakers` are the providers whose people it is rendered for.
pub(super) fn template(
    context: &mut Context<'_>,
    at: &At<String>,
    speakers: &[&Words],
) -> Option<Template> {
    template_besides(context, at, speakers, &[])
}

/// The same for a template that may read `besides` too.
pub(super) fn template_besides(
    context: &mut Context<'_>,
    at: &At<String>,
    speakers: &[&Words],
    besides: &[&str],
) -> Option<Template> {
    let template = match Template::parse(&at.value) {
        Ok(template) => template,
        Err(invalid) => {
            context
                .report
                .error(at.mark, format!("`{}` is no template: {invalid}", at.value))
                .value(&at.value)
                .hint(format!(
                    "at character {} of the template",
                    at.value
                        .get(..invalid.at)
                        .map_or(1, |before| before.chars().count() + 1)
                ));
            return None;
        }
    };
    let mut roots: Vec<&str> = template.roots().collect();
    roots.sort_unstable();
    roots.dedup();
    let mut sound = true;
    for root in roots {
        if besides.contains(&root) {
            continue;
        }
        sound &= check_root(context, at, root, speakers);
    }
    sound.then_some(template)
}

/// Whether the providers concerned map what a template reads.
fn check_root(
    context: &mut Context<'_>,
    at: &At<String>,
    first: &str,
    speakers: &[&Words],
) -> bool {
    if first == "link" {
        context
            .report
            .error(
                at.mark,
                "`link`: linked accounts are known to the identity headers of applications alone",
            )
            .value(&at.value);
        return false;
    }
    if RESERVED_NAMES.contains(&first) {
        return true;
    }
    let lacking: Vec<&str> = speakers
        .iter()
        .filter(|words| !words.partial && words.source(first).is_none())
        .map(|words| words.provider.as_str())
        .collect();
    if lacking.is_empty() {
        return true;
    }
    if lacking.len() < speakers.len() {
        // With a default the template says itself what happens.
        if !at.value.contains("|omit") && !at.value.contains("|default") {
            context
                .report
                .warning(at.mark, format!("provider {} maps no `{first}`: its people are denied", one_of(lacking)))
                .value(&at.value)
                .hint(format!("add `{first}` to its `claims`, or say what happens without it: `{{{first}|omit}}` or `{{{first}|default:…}}`"));
        }
        return true;
    }
    let known: Vec<&str> = speakers
        .iter()
        .flat_map(|words| words.claims.iter().map(|(name, _)| &**name))
        .chain(RESERVED_NAMES)
        .collect();
    let hint = did_you_mean(first, known).map_or_else(
        || format!("add `{first}: CLAIM` to the `claims` of the provider"),
        |close| format!("did you mean `{close}`?"),
    );
    context
        .report
        .error(
            at.mark,
            format!("no provider of this application maps `{first}`"),
        )
        .value(&at.value)
        .hint(hint);
    false
}

/// A key set as JSON: everything in it is a text or a list of texts.
pub(super) fn json(node: &crate::config::tree::Node) -> Value {
    use crate::config::tree::Content;
    match &node.content {
        Content::Null => Value::Null,
        Content::Scalar(scalar) => Value::String(scalar.text.to_string()),
        Content::List(items) => items.iter().map(json).collect(),
        Content::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.text.to_string(), json(value)))
            .collect(),
    }
}
