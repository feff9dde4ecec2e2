//! `fallback`: when a new login may start at the other provider.

use std::time::Duration;

use crate::config::compile::address::path_pattern;
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
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::identity::Outage;
use crate::rollout::AppId;
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
    }
    if let Some(session) = raw.session.get() {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(3_600));
        span(context, &session.max_age, least, most, "from `1m` to `1h`");
        max_age = session.max_age.or(Span(max_age)).0;
        recheck = session.recheck_when_healthy.or(recheck);
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
    })
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
