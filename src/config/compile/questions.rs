//! Questions before a sign-in are asked by rules: without one that asks, nobody is asked.

use crate::config::compile::context::Context;
use crate::config::raw::BeforeKnownWord;
use crate::config::raw::RawAssign;
use crate::config::raw::RawBucketing;
use crate::config::raw::RawConfig;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::rollout::Cohort;
use crate::rollout::CohortId;
use crate::rollout::Cohorts;

/// Reports what only a question would need that no rule asks.
pub(super) fn unasked(context: &mut Context<'_>, raw: &RawConfig, cohorts: &Cohorts) {
    let mut chosen = false;
    if let Some(short) = raw.rollout.get() {
        let rules = items(&short.assign);
        chosen |= choose(rules);
        let by_percent = !short.percent.is_absent();
        names(
            context,
            &short.bucketing,
            by_percent || heed(rules, cohorts),
        );
    }
    let named = raw.rollouts.get().into_iter();
    for (_, rollout) in named.flat_map(|named| named.readable()) {
        let stages = rollout.stages.get().map_or(&[][..], |list| &list.items);
        let mut rules = stages.iter().map(|stage| items(&stage.assign));
        let heeded = rules.clone().any(|rules| heed(rules, cohorts));
        chosen |= rules.any(choose);
        names(context, &rollout.bucketing, heeded);
    }
    let called = raw.pages.get().and_then(|pages| pages.providers.get());
    let first = called.and_then(|named| named.entries.first());
    if let Some((name, _)) = first.filter(|_| !chosen) {
        context
            .report
            .error(name.mark, "nobody reads this: no rule lets people choose")
            .hint("`assign: [{ choose: true }]` asks them, in a stage of the mode `canary`");
    }
}

fn names(context: &mut Context<'_>, raw: &Field<RawBucketing>, heeded: bool) {
    let before = raw.get().and_then(|raw| raw.before_known.get());
    let first = before.filter(|at| matches!(at.value, BeforeKnownWord::IdentifierFirst));
    if let Some(at) = first.filter(|_| !heeded) {
        context
            .report
            .error(
                at.mark,
                "nobody is asked: no rule looks at a percent or at a `login_hint`",
            )
            .hint("leave it out, or add such a rule");
    }
}

fn items(rules: &Field<List<RawAssign>>) -> &[RawAssign] {
    rules.get().map_or(&[][..], |list| &list.items)
}

fn choose(rules: &[RawAssign]) -> bool {
    rules.iter().any(|rule| rule.choose.or(false))
}

/// Whether a rule looks at what somebody calls themselves, or at a bucket.
fn heed(rules: &[RawAssign], cohorts: &Cohorts) -> bool {
    rules.iter().any(|rule| {
        let cohort = rule.cohort.get().map(|at| CohortId::new(&at.value));
        let cohort = cohort.and_then(|id| cohorts.get(&id));
        !rule.percent.is_absent()
            || !rule.ramp.is_absent()
            || cohort.is_some_and(Cohort::heeds_identifier)
    })
}
