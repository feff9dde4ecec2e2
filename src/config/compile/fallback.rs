//! `fallback`: when a new login may start at the other provider.

use std::time::Duration;

use crate::config::compile::address::path_pattern;
use crate::config::compile::assurance;
use crate::config::compile::context::Context;
use crate::config::compile::membership::Membership;
use crate::config::compile::providers::Provider;
use crate::config::compile::providers::whole;
use crate::config::compile::rollouts::Pair;
use crate::config::compile::stages::arm;
use crate::config::compile::tokens::span;
use crate::config::raw::OutageWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawFallback;
use crate::config::raw::RawFallbackRequire;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::identity::Outage;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Settings;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::Fallback;

/// All fallbacks.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    membership: &Membership,
) -> Vec<Fallback> {
    let mut fallbacks = Vec::new();
    for (name, raw) in raw
        .fallback
        .get()
        .into_iter()
        .flat_map(|named| named.readable())
    {
        if !context.knows_app(name) {
            continue;
        }
        let Some((from, to)) = membership.pairs.get(&name.value) else {
            if membership
                .single
                .iter()
                .any(|(app, _)| app.as_str() == name.value)
            {
                context
                    .report
                    .error(
                        name.mark,
                        format!(
                            "`{}` has one provider: there is nothing to fall back to",
                            name.value
                        ),
                    )
                    .value(&name.value);
            }
            continue;
        };
        let place = |value: &String| At {
            value: value.clone(),
            mark: name.mark,
        };
        let (from, to) = (place(from), place(to));
        fallbacks.extend(fallback(
            context,
            name,
            raw,
            &Pair {
                from: &from,
                to: &to,
            },
            providers,
        ));
    }
    fallbacks
}

fn fallback(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawFallback,
    pair: &Pair<'_>,
    providers: &[Provider],
) -> Option<Fallback> {
    let from = raw.from.required(raw.mark, "from", &mut context.report);
    let from = from.and_then(|at| arm(context, pair, at));
    if let Some(at) = raw.to.get() {
        let to = arm(context, pair, at);
        if to.is_some() && to == from {
            context
                .report
                .error(at.mark, "a fallback to the provider that is away")
                .value(&at.value);
        }
    }
    let when = raw.when.required(raw.mark, "when", &mut context.report);
    for provider in providers {
        let side = [&pair.from.value, &pair.to.value].contains(&&provider.name.value);
        if side && provider.login == Some(false) {
            context
                .report
                .error(
                    name.mark,
                    format!(
                        "provider `{}` has no login: a fallback starts logins",
                        provider.name.value
                    ),
                )
                .value(&name.value);
        }
    }
    let (mut down_for, mut max_age, mut per_hour) =
        (Duration::from_secs(30), Duration::from_secs(3_600), 500);
    let (mut not_paths, mut recheck) = (Vec::new(), false);
    let target = from.map(|from| match from.other() {
        Arm::From => &pair.from.value,
        Arm::To => &pair.to.value,
    });
    let target = target.and_then(|name| providers.iter().find(|p| p.name.value == *name));
    forms(context, name, target);
    let mut account_by = None;
    let mut assurance = Vec::new();
    if let Some(require) = raw.require.get() {
        let (least, most) = (Duration::from_secs(10), Duration::from_secs(3_600));
        span(
            context,
            &require.provider_down_for,
            least,
            most,
            "from `10s` to `1h`",
        );
        down_for = require.provider_down_for.or(Span(down_for)).0;
        let paths = require.not_paths.get().map_or(&[][..], |list| &list.items);
        not_paths = paths
            .iter()
            .filter_map(|at| path_pattern(context, at))
            .collect();
        if let Some(at) = require.assurance_at_least.get() {
            assurance = enough(context, at, target);
        }
        account_by = account(context, require, target);
    }
    let mut mark = None;
    if let Some(session) = raw.session.get() {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(3_600));
        span(context, &session.max_age, least, most, "from `1m` to `1h`");
        max_age = session.max_age.or(Span(max_age)).0;
        recheck = session.recheck_when_healthy.or(recheck);
        mark = session
            .mark_
            .get()
            .and_then(|at| self::mark(context, at))
            .map(Box::from);
    }
    if let Some(budget) = raw.budget.get() {
        per_hour = whole(context, &budget.per_hour, (1, 1_000_000), per_hour);
    }
    Some(Fallback {
        app: AppId::new(&name.value),
        from: from?,
        when: when?.items.iter().map(|at| outage(at.value.0)).collect(),
        provider_down_for: down_for,
        not_paths,
        max_age,
        recheck,
        per_hour,
        assurance,
        account_by,
        mark,
    })
}

/// A form of the application itself makes a session that nobody can mark or cut short.
fn forms(context: &mut Context<'_>, name: &At<String>, target: Option<&Provider>) {
    let kind = target.and_then(|target| target.settings.as_ref());
    if let Some(Settings {
        kind: KindSettings::SessionProbe(_),
        id,
        ..
    }) = kind
    {
        context
            .report
            .warning(
                name.mark,
                format!("no login falls back to `{id}`: the session of a form at the application can be neither marked nor cut short"),
            )
            .value(&name.value)
            .hint("a fallback needs a provider whose logins come back to us, such as `oidc`");
    }
}

/// The classes that are enough for a fallback; reports a provider of which none is.
fn enough(context: &mut Context<'_>, at: &At<String>, target: Option<&Provider>) -> Vec<Box<str>> {
    let Some(enough) = assurance::at_least(context, at) else {
        return Vec::new();
    };
    let settings = target.and_then(|target| target.settings.as_ref());
    if let Some(settings) = settings {
        let says = &settings.assurance;
        let mut all = says.fixed.iter().chain(says.map.iter().map(|(_, to)| to));
        if !all.any(|class| enough.contains(class)) {
            context
                .report
                .error(
                    at.mark,
                    format!(
                        "no login at `{}` is ever `{}`: by its `assurance` nothing falls back there",
                        settings.id, at.value
                    ),
                )
                .value(&at.value);
        }
    }
    enough
}

/// By which attribute an account is looked up before its login counts.
fn account(
    context: &mut Context<'_>,
    require: &RawFallbackRequire,
    target: Option<&Provider>,
) -> Option<Box<str>> {
    let wanted = require.legacy_account_enabled.or(false);
    if let (false, Some(at)) = (wanted, require.legacy_account_by.get()) {
        context.report.error(
            at.mark,
            "nobody is looked up: `legacy_account_enabled` is not `true`",
        );
    }
    if !wanted {
        return None;
    }
    let settings = target.and_then(|target| target.settings.as_ref())?;
    let has = match &settings.kind {
        // It is asked with each request, and says 403 of an account that may not be used.
        KindSettings::SessionProbe(_) => return None,
        KindSettings::Oidc(oidc) => oidc.directory.is_some(),
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(ldap) => ldap.directory.is_some(),
        KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => false,
    };
    if !has {
        let mark = require
            .legacy_account_enabled
            .mark()
            .unwrap_or(require.mark);
        context
            .report
            .error(
                mark,
                format!(
                    "whether an account at `{}` may be used cannot be asked: it has no `directory`",
                    settings.id
                ),
            )
            .hint("give it a `directory`, or leave this out");
        return None;
    }
    Some(require.legacy_account_by.or("subject".into()).into())
}

/// A mark that can stand in a header and in a log.
fn mark<'a>(context: &mut Context<'_>, at: &'a At<String>) -> Option<&'a str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let text = at.value.as_str();
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        return Some(text);
    }
    context
        .report
        .error(at.mark, format!("`{text}` is no mark"))
        .value(text)
        .hint("at most 64 letters, digits, `-`, `_` and `.`, such as `fallback`");
    None
}

const fn outage(word: OutageWord) -> Outage {
    match word {
        OutageWord::Connect => Outage::Connect,
        OutageWord::Tls => Outage::Tls,
        OutageWord::Timeout => Outage::Timeout,
        OutageWord::Http5xx => Outage::Http5xx,
        OutageWord::RateLimited => Outage::RateLimited,
        OutageWord::KeysUnavailable => Outage::KeysUnavailable,
        OutageWord::CircuitOpen => Outage::CircuitOpen,
        OutageWord::Malformed => Outage::Malformed,
    }
}
