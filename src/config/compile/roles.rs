//! `roles`: from the groups of a provider to roles to scopes.

use std::collections::HashMap;

use crate::auth::settings::RoleMap;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::texts;
use crate::config::names::is_a_slip;
use crate::config::raw::RawConfig;
use crate::config::raw::RawRoles;
use crate::config::raw::Unmatched;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::identity::ClaimPath;
use crate::identity::ProviderId;

/// Whether a text is a scope token (RFC 6749 §3.3).
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Reports what is no scope.
pub(super) fn scopes(context: &mut Context<'_>, list: Option<&List<At<String>>>) {
    for at in list.map_or(&[][..], |list| &list.items) {
        scope(context, at);
    }
}

/// The same of those that a route asks for.
pub(super) fn required_scopes(context: &mut Context<'_>, list: Option<&List<At<String>>>) {
    for at in list.map_or(&[][..], |list| &list.items) {
        is_one(context, at);
        context.required_scopes.push(at.clone());
    }
}

/// Reports scopes that a route asks for and nobody here is given, if they are like one that is: tokens of providers may say more
/// than the file does.
pub(super) fn misspelt_scopes(context: &mut Context<'_>) {
    // Whatever names them may be what could not be read.
    if context.report.refuses() {
        return;
    }
    for at in std::mem::take(&mut context.required_scopes) {
        if context.scopes.contains(&at.value) {
            continue;
        }
        let meant = context.scopes.iter();
        let meant = meant.filter(|known| is_a_slip(&at.value, known)).min();
        if let Some(meant) = meant.cloned() {
            context
                .report
                .warning(
                    at.mark,
                    format!("nobody here is given the scope `{}`", at.value),
                )
                .value(&at.value)
                .hint(format!("did you mean `{meant}`?"));
        }
    }
}

/// The same of one.
pub(super) fn scope(context: &mut Context<'_>, at: &At<String>) {
    is_one(context, at);
    context.scopes.insert(at.value.clone());
}

fn is_one(context: &mut Context<'_>, at: &At<String>) {
    if !is_scope(&at.value) {
        context
            .report
            .error(at.mark, format!("`{}` is no scope", at.value))
            .value(&at.value)
            .hint("visible ASCII without spaces, quotes and backslashes (RFC 6749 §3.3); several are a list");
    }
}

/// The maps, by provider. Templates may name `roles` of such a provider.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &mut [Provider],
) -> HashMap<ProviderId, RoleMap> {
    let mut maps = HashMap::new();
    let Some(named) = raw.roles.get() else {
        return maps;
    };
    for (name, raw) in named.readable() {
        if !context.knows_provider(name) {
            continue;
        }
        let map = map(context, raw);
        let provider = providers.iter_mut().find(|p| p.name.value == name.value);
        if let Some(provider) = provider {
            speak(context, name, provider);
        }
        maps.insert(ProviderId::new(&name.value), map);
    }
    maps
}

/// The attribute `roles` is ours for this provider.
fn speak(context: &mut Context<'_>, name: &At<String>, provider: &mut Provider) {
    let has = |attribute: &str| {
        provider
            .words
            .claims
            .iter()
            .any(|(own, _)| **own == *attribute)
    };
    if has("roles") {
        context
            .report
            .error(
                name.mark,
                format!("`claims` of `{}` maps `roles` already", name.value),
            )
            .hint("either the provider says the roles, or its groups give them");
    }
    if !has("groups") && !provider.words.partial {
        context.report.error(
            name.mark,
            format!("`claims` of `{}` maps no `groups`", name.value),
        );
    }
    if let Ok(path) = ClaimPath::parse("roles") {
        provider.words.claims.push(("roles".into(), path));
    }
}

fn map(context: &mut Context<'_>, raw: &RawRoles) -> RoleMap {
    raw.groups.required(raw.mark, "groups", &mut context.report);
    let mut map = RoleMap {
        refuse_unmatched: match raw.unmatched.or(Unmatched::Count) {
            Unmatched::Count => false,
            Unmatched::Refuse => true,
        },
        scopes_for_tokens: raw.scopes_for_tokens.or(false),
        ..RoleMap::default()
    };
    let groups = raw
        .groups
        .get()
        .into_iter()
        .flat_map(|named| named.readable());
    for (group, roles) in groups {
        map.groups
            .insert(group.value.as_str().into(), texts(Some(roles)));
    }
    let given: Vec<Box<str>> = map.groups.values().flatten().cloned().collect();
    let all = raw
        .scopes
        .get()
        .into_iter()
        .flat_map(|named| named.readable());
    for (role, list) in all {
        if !given.iter().any(|own| **own == *role.value) {
            context
                .report
                .error(
                    role.mark,
                    format!("no group gives the role `{}`", role.value),
                )
                .value(&role.value);
        }
        scopes(context, Some(list));
        map.scopes
            .insert(role.value.as_str().into(), texts(Some(list)));
    }
    map
}
