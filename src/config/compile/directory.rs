//! A directory as a provider.

#[cfg(feature = "ldap")]
mod reached;

#[cfg(feature = "ldap")]
use crate::config::compile::bounds::cache;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Kind;
use crate::config::compile::tokens::own_issuer;
#[cfg(feature = "ldap")]
use crate::config::compile::tokens::texts;
use crate::config::raw::RawLdap;
use crate::config::raw::RawLdapBind;
#[cfg(feature = "ldap")]
use crate::config::raw::RawLdapDirectory;
#[cfg(feature = "ldap")]
use crate::config::raw::RawLdapGroups;
#[cfg(feature = "ldap")]
use crate::config::raw::RawLdapPool;
use crate::config::raw::RawSessionProbe;
#[cfg(feature = "ldap")]
use crate::config::scalar::Span;
#[cfg(feature = "ldap")]
use crate::config::shape::At;
use crate::config::shape::Field;
#[cfg(feature = "ldap")]
use crate::config::shape::List;
#[cfg(feature = "ldap")]
use crate::config::tree::Mark;
use crate::identity::ClaimPath;
use crate::identity::Issuer;
use crate::providers::settings;
use crate::providers::settings::KindSettings;

/// Without the feature, a directory is refused by name.
#[cfg(not(feature = "ldap"))]
pub(super) fn ldap(
    context: &mut Context<'_>,
    _name: &str,
    raw: &RawLdap,
    _mapping: &[(Box<str>, ClaimPath)],
) -> Option<Kind> {
    context
        .report
        .error(raw.mark, "`ldap` is not in this build")
        .hint("build with `--features ldap`");
    None
}

/// A directory.
#[cfg(feature = "ldap")]
pub(super) fn ldap(
    context: &mut Context<'_>,
    name: &str,
    raw: &RawLdap,
    mapping: &[(Box<str>, ClaimPath)],
) -> Option<Kind> {
    use crate::providers::Owns;

    let bind = Bind {
        mark: raw.mark,
        url: &raw.url,
        starttls: &raw.starttls,
        user_dn: &raw.user_dn,
        groups: &raw.groups,
        attributes: &raw.attributes,
        cache: &raw.cache,
        pool: &raw.pool,
    };
    let bound = bound(context, own_issuer(name, &raw.issuer), &bind, mapping);
    let directory = searched(context, &raw.directory);
    let ldap = bound?;
    Some(Kind {
        owns: Owns {
            basic: true,
            ..Owns::default()
        },
        mark: raw.mark,
        timeout: None,
        settings: KindSettings::Ldap(settings::Ldap {
            directory: directory?,
            ..ldap
        }),
    })
}

/// The keys of a bind, wherever they stand.
#[cfg(feature = "ldap")]
struct Bind<'a> {
    mark: Mark,
    url: &'a Field<At<String>>,
    starttls: &'a Field<At<bool>>,
    user_dn: &'a Field<At<String>>,
    groups: &'a Field<RawLdapGroups>,
    attributes: &'a Field<List<At<String>>>,
    cache: &'a Field<At<Span>>,
    pool: &'a Field<RawLdapPool>,
}

/// A bind.
#[cfg(feature = "ldap")]
fn bound(
    context: &mut Context<'_>,
    issuer: Issuer,
    raw: &Bind<'_>,
    mapping: &[(Box<str>, ClaimPath)],
) -> Option<settings::Ldap> {
    let url = raw.url.required(raw.mark, "url", &mut context.report);
    let good_url = url.and_then(|at| reached::server(context, at, raw.starttls.or(false)));
    let user_dn = raw
        .user_dn
        .required(raw.mark, "user_dn", &mut context.report);
    if let Some(at) = user_dn
        && !at.value.contains("{username}")
    {
        context
            .report
            .error(
                at.mark,
                "`user_dn` names nobody: `{username}` is missing in it",
            )
            .value(&at.value)
            .hint("such as `uid={username},ou=people,dc=corp,dc=example`");
    }
    let groups = raw.groups.get().map(|groups| {
        let base = groups
            .base
            .required(groups.mark, "base", &mut context.report);
        let filter = groups
            .filter
            .required(groups.mark, "filter", &mut context.report);
        if let Some(at) = filter {
            group_filter(context, at);
        }
        Some(settings::LdapGroups {
            base: base?.value.clone(),
            filter: filter?.value.clone(),
            attribute: groups.attribute.or("cn".into()),
        })
    });
    let cache = cache(context, raw.cache);
    let pool = reached::pool(context, raw.pool);
    let attributes = if raw.attributes.is_absent() {
        read_attributes(mapping)
    } else {
        texts(raw.attributes.get())
    };
    Some(settings::Ldap {
        issuer,
        url: good_url?,
        starttls: raw.starttls.or(false),
        user_dn: user_dn?.value.clone(),
        attributes,
        groups: match groups {
            Some(groups) => Some(groups?),
            None => None,
        },
        directory: None,
        cache,
        pool,
    })
}

/// The judge of passwords of an old system, where it has one.
pub(super) fn with_passwords(
    context: &mut Context<'_>,
    (name, raw, mapping): (&str, &RawSessionProbe, &[(Box<str>, ClaimPath)]),
    kind: Option<Kind>,
) -> Option<Kind> {
    let owns = raw.owns.get();
    let owned = owns.and_then(|owns| owns.basic.get()).filter(|at| at.value);
    let raw_bind = match (&raw.authenticate, owned) {
        (Field::Absent, None) => return kind,
        (Field::Absent, Some(at)) => {
            context
                .report
                .error(
                    at.mark,
                    "nobody judges its passwords: `authenticate` is missing",
                )
                .hint("`authenticate: { ldap_bind: { url: …, user_dn: … } }`");
            return None;
        }
        (Field::Given(judge), None) => {
            let what = "no password comes here: `owns` does not say `basic: true`";
            context.report.error(judge.mark, what);
            return None;
        }
        (Field::Broken, _) => return None,
        (Field::Given(judge), Some(_)) => {
            judge
                .ldap_bind
                .required(judge.mark, "ldap_bind", &mut context.report)?
        }
    };
    let bind = by_bind(context, own_issuer(name, &raw.issuer), raw_bind, mapping);
    let (mut kind, bind) = (kind?, bind?);
    kind.owns.basic = true;
    if let KindSettings::SessionProbe(probe) = &mut kind.settings {
        probe.bind = Some(bind);
    }
    Some(kind)
}

#[cfg(feature = "ldap")]
fn by_bind(
    context: &mut Context<'_>,
    issuer: Issuer,
    raw: &RawLdapBind,
    mapping: &[(Box<str>, ClaimPath)],
) -> Option<settings::Bind> {
    let bind = Bind {
        mark: raw.mark,
        url: &raw.url,
        starttls: &raw.starttls,
        user_dn: &raw.user_dn,
        groups: &raw.groups,
        attributes: &raw.attributes,
        cache: &raw.cache,
        pool: &raw.pool,
    };
    let bound = bound(context, issuer, &bind, mapping);
    let directory = searched(context, &raw.directory);
    Some(settings::Ldap {
        directory: directory?,
        ..bound?
    })
}

#[cfg(not(feature = "ldap"))]
fn by_bind(
    context: &mut Context<'_>,
    _issuer: Issuer,
    raw: &RawLdapBind,
    _mapping: &[(Box<str>, ClaimPath)],
) -> Option<settings::Bind> {
    context
        .report
        .error(raw.mark, "`ldap_bind` is not in this build")
        .hint("build with `--features ldap`");
    None
}

/// How it is searched. The outer `None`: something of it has been reported.
#[cfg(feature = "ldap")]
#[expect(
    clippy::option_option,
    reason = "nothing asked for, or nothing understood"
)]
fn searched(
    context: &mut Context<'_>,
    raw: &Field<RawLdapDirectory>,
) -> Option<Option<settings::LdapDirectory>> {
    let raw = match raw {
        Field::Given(raw) => raw,
        Field::Absent => return Some(None),
        Field::Broken => return None,
    };
    let base = raw.base.required(raw.mark, "base", &mut context.report);
    let key = raw.key.required(raw.mark, "key", &mut context.report);
    if let Some(at) = key {
        attribute_name(context, at);
    }
    if let Some(at) = raw.filter.get()
        && !is_filter(&at.value)
    {
        context
            .report
            .error(at.mark, format!("`{}` is not a search filter", at.value))
            .value(&at.value)
            .hint("parentheses around it, such as `(objectClass=inetOrgPerson)`");
    }
    let password = context.secret_text(&raw.password, "the password of `bind_dn`");
    let bind = match (raw.bind_dn.get(), raw.password.is_absent()) {
        (Some(at), true) => {
            let why =
                "a bind without a password proves nothing (RFC 4513 §5.1.2): `password` is missing";
            context.report.error(at.mark, why);
            return None;
        }
        (Some(at), false) => Some((at.value.clone(), password?)),
        (None, false) => {
            context
                .report
                .error(raw.mark, "a password of nobody: `bind_dn` is missing");
            return None;
        }
        (None, true) => None,
    };
    Some(Some(settings::LdapDirectory {
        bind,
        base: base?.value.clone(),
        filter: raw.filter.or("(objectClass=person)".into()),
        key: key?.value.clone(),
    }))
}

/// RFC 4512 §1.4: a name of letters, digits and hyphens, or numbers with dots.
#[cfg(feature = "ldap")]
fn attribute_name(context: &mut Context<'_>, at: &At<String>) {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b';');
    if at.value.is_empty() || !at.value.bytes().all(good) {
        context
            .report
            .error(at.mark, format!("`{}` is no attribute", at.value))
            .value(&at.value);
    }
}

#[cfg(feature = "ldap")]
fn is_filter(text: &str) -> bool {
    let open = text.matches('(').count();
    text.starts_with('(') && text.ends_with(')') && open == text.matches(')').count()
}

/// The attributes that a mapping reads: the first step of each path; `groups` comes from the group search.
#[cfg(feature = "ldap")]
fn read_attributes(mapping: &[(Box<str>, ClaimPath)]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for (_, path) in mapping {
        let text = path.to_string();
        let name = text.split(['.', '[']).next().unwrap_or_default();
        if name != "groups" && !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
    }
    names
}

#[cfg(feature = "ldap")]
fn group_filter(context: &mut Context<'_>, at: &At<String>) {
    let text = at.value.as_str();
    if !is_filter(text) {
        context
            .report
            .error(at.mark, format!("`{text}` is not a search filter"))
            .value(text)
            .hint("parentheses around it, such as `(member={dn})`");
    } else if !text.contains("{dn}") && !text.contains("{username}") {
        context
            .report
            .error(at.mark, "the filter finds the same groups for everybody")
            .value(text)
            .hint("`{dn}` or `{username}` stands for the person");
    }
}
