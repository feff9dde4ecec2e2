//! `sessions.carry_over` and `sessions.silent`: how sessions of the old side come over to the new one.

use std::time::Duration;

use crate::auth::settings::Silent;
use crate::config::compile::context::Context;
use crate::config::compile::instead;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::span;
use crate::config::raw::CarryOverWord;
use crate::config::raw::RawConfig;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::exchange::settings::Settings as Exchange;
use crate::exchange::settings::Way;
use crate::identity::ProviderId;
use crate::providers::settings::KindSettings;
use crate::rollout::Course;

/// Whether sessions of old systems get one of ours beside them.
pub(super) fn wrap(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    courses: &[Course],
) -> bool {
    let words = raw.sessions.get().and_then(|raw| raw.carry_over.get());
    let mut all = words.into_iter().flat_map(|list| &list.items);
    let Some(at) = all.find(|word| matches!(word.value, CarryOverWord::Wrap)) else {
        return false;
    };
    // What could not be read has been reported.
    let known = |course: &&Course| {
        let from = providers.iter().find(|p| p.words.provider == course.from);
        let settings = from.map(|from| from.settings.as_ref());
        settings.is_none_or(|settings| settings.is_none_or(|s| !s.owns.cookies.is_empty()))
    };
    if !courses.iter().any(|course| known(&course)) {
        context
            .report
            .error(
                at.mark,
                "no provider that people leave has a session of its own",
            )
            .hint("`wrap` is for cookies of an old system: `session_probe` with `owns.cookies`");
    }
    for provider in providers {
        let left = courses
            .iter()
            .any(|course| course.from == provider.words.provider);
        let kind = provider.settings.as_ref().map(|settings| &settings.kind);
        if left && matches!(kind, Some(KindSettings::SessionProbe(probe)) if probe.logout.is_none())
        {
            context
                .report
                .error(
                    at.mark,
                    format!(
                        "whoever signs out would be in again: `{}` cannot be told that a session is over",
                        provider.words.provider
                    ),
                )
                .hint("`session_probe.revoke: { url: … }` says where");
        }
    }
    true
}

/// By which exchange sessions become those of a new provider.
pub(super) fn exchange(
    context: &mut Context<'_>,
    raw: &RawConfig,
    courses: &[Course],
    exchanges: &[Exchange],
    joined: bool,
) -> Vec<(ProviderId, Box<str>)> {
    let mut chosen = Vec::new();
    let Some(raw) = raw.sessions.get() else {
        return chosen;
    };
    let words = raw
        .carry_over
        .get()
        .into_iter()
        .flat_map(|list| &list.items);
    let mut words = words.filter(|word| matches!(word.value, CarryOverWord::Exchange));
    let Some(at) = words.next() else {
        if let Some(exchange) = raw.exchange.get() {
            context.report.warning(
                exchange.mark,
                "without `carry_over: [exchange]` this has no effect",
            );
        }
        return chosen;
    };
    if !joined {
        context
            .report
            .error(
                at.mark,
                "nobody can say that an account of the new provider is the same person",
            )
            .hint("say in `identity.canonical` who is one person across providers");
    }
    let gives = |exchange: &Exchange, to: &ProviderId| match &exchange.way {
        Way::Assertion(remote, _) => remote.provider == *to,
        Way::TokenExchange(_) | Way::Mint(_) => false,
    };
    if let Some(by) = raw.exchange.get().and_then(|raw| raw.by.get()) {
        let Some(named) = instead::named(context, by, exchanges) else {
            return chosen;
        };
        let to = courses.iter().map(|course| &course.to);
        chosen.extend(
            to.filter(|to| gives(named, to))
                .map(|to| (to.clone(), named.name.clone())),
        );
        if chosen.is_empty() {
            context
                .report
                .error(
                    by.mark,
                    format!("`{}` shows no assertion to a new provider", by.value),
                )
                .value(&by.value)
                .hint("an `exchange` of the kind `assertion` at the rollout's `to`");
        }
        return chosen;
    }
    for course in courses {
        let all: Vec<_> = exchanges.iter().filter(|e| gives(e, &course.to)).collect();
        match all.as_slice() {
            [only] => chosen.push((course.to.clone(), only.name.clone())),
            [] => {
                context.report.warning(
                    at.mark,
                    format!(
                        "nobody is taken to `{}` by `exchange`: no `exchange` of the kind `assertion` is asked for there",
                        course.to
                    ),
                );
            }
            [_, _, ..] => {
                context
                    .report
                    .error(
                        at.mark,
                        format!("several exchanges show assertions to `{}`", course.to),
                    )
                    .hint("`sessions.exchange: { by: NAME }` says by which");
            }
        }
    }
    chosen
}

/// How often people are asked after without a page; `None`: never.
pub(super) fn silent(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    courses: &[Course],
) -> Option<Silent> {
    let raw = raw.sessions.get()?;
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    let words = raw.carry_over.get();
    let at = words.and_then(|list| {
        let mut all = list.items.iter();
        all.find(|word| matches!(word.value, CarryOverWord::Silent))
    });
    let (mut retry_after, mut per_day) = (Span(day), Whole(2));
    if let Some(silent) = raw.silent.get() {
        span(
            context,
            &silent.retry_after,
            hour,
            30 * day,
            "from `1h` to `30d`",
        );
        if let Some(most) = silent.max_per_subject_per_day.get() {
            context.range(most.mark, &most.value.0, (1, 24), "from 1 to 24");
        }
        retry_after = silent.retry_after.or(retry_after);
        per_day = silent.max_per_subject_per_day.or(per_day);
        if at.is_none() {
            context.report.warning(
                silent.mark,
                "without `carry_over: [silent]` this has no effect",
            );
        }
    }
    let at = at?;
    for course in courses {
        let to = providers.iter().find(|p| p.words.provider == course.to);
        let kind = to.and_then(|to| to.settings.as_ref()).map(|s| &s.kind);
        if !matches!(kind, Some(KindSettings::Oidc(oidc)) if oidc.client.is_some()) {
            context
                .report
                .error(
                    at.mark,
                    format!(
                        "`{}` has no login: nobody can be asked after there",
                        course.to
                    ),
                )
                .hint("a login is an `oidc` provider with a `client`");
        }
    }
    Some(Silent {
        retry_after: retry_after.0,
        per_day: u8::try_from(per_day.0).unwrap_or(u8::MAX),
    })
}
