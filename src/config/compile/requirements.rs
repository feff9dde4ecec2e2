//! `promote.require`: what must hold before a stage is left.

use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::guardrails;
use crate::config::names::did_you_mean;
use crate::config::raw::RawConfig;
use crate::config::raw::RawStage;
use crate::config::raw::RawStageRequire;
use crate::config::scalar::Whole;
use crate::rollout::CohortId;
use crate::rollout::Drill;
use crate::rollout::Exercise;
use crate::rollout::Require;
use crate::rollout::StillSeen;
use crate::rollout::bad_rate_upper_bound;

/// Whoever counts people without an account at `from` must know who is one person.
pub(super) fn exposures(context: &mut Context<'_>, raw: &RawConfig, joined: bool) {
    let rollouts = raw.rollouts.get().into_iter();
    let stages = rollouts
        .flat_map(|named| named.readable())
        .filter_map(|(_, rollout)| rollout.stages.get())
        .flat_map(|list| &list.items);
    for stage in stages {
        let require = stage.promote.get().and_then(|raw| raw.require.get());
        if let Some(at) = require.and_then(|raw| raw.unlinked_max.get())
            && !joined
        {
            context
                .report
                .error(at.mark, "nobody is joined, so nobody has a partner")
                .hint("`identity.canonical` says who is one person");
        }
        if let Some(at) = require.and_then(|raw| raw.rollback_exposure_max.get())
            && !joined
        {
            context
                .report
                .error(
                    at.mark,
                    "nobody is joined, so no account at `from` is known of anybody at `to`",
                )
                .hint("`identity.canonical` says who is one person");
        }
    }
}

/// What a stage asks for.
pub(super) fn require(context: &mut Context<'_>, raw: &RawStage) -> Require {
    let Some(raw) = raw.promote.get().and_then(|raw| raw.require.get()) else {
        return Require::default();
    };
    let units = raw.units.or(Whole(0)).0;
    let bound = raw
        .bad_rate_upper_bound
        .get()
        .map(|_| guardrails::share(context, &raw.bad_rate_upper_bound, 0.05));
    if let (Some(at), Some(bound)) = (raw.units.get(), bound)
        && bound < bad_rate_upper_bound(units, 0)
    {
        context.report.warning(
            at.mark,
            format!(
                "{units} people can prove a bad rate below {:.1} % at best",
                100.0 * bad_rate_upper_bound(units, 0)
            ),
        );
    }
    Require {
        units,
        bad_rate_upper_bound: bound,
        drills_passed: drills(context, raw),
        rollback_exposure_max: raw.rollback_exposure_max.get().map(|at| at.value.0),
        compared_subjects: raw.compared_subjects.or(Whole(0)).0,
        critical: raw.critical.get().map(|at| at.value.0),
        divergence_upper_bound: bound_of_differences(context, raw),
        legacy_credentials_seen: still_seen(context, raw),
        unlinked_max: raw
            .unlinked_max
            .get()
            .map(|_| guardrails::share_or_none(context, &raw.unlinked_max, 0.0)),
        webhook: raw.webhook.get().is_some(),
    }
}

/// Exercises by their words.
fn drills(context: &mut Context<'_>, raw: &RawStageRequire) -> Vec<Box<str>> {
    let list = raw.drills_passed.get();
    let mut drills = Vec::new();
    for at in list.map_or(&[][..], |list| &list.items) {
        if Exercise::named(&at.value).is_none() {
            let words = Drill::ALL.map(Drill::as_str);
            let hint = did_you_mean(&at.value, words);
            context
                .report
                .error(at.mark, format!("`{}` is no exercise", at.value))
                .value(&at.value)
                .hint(hint.map_or_else(
                    || words.join(", "),
                    |close| format!("did you mean `{close}`?"),
                ));
        }
        drills.push(at.value.as_str().into());
    }
    drills
}

/// How many people may differ, and whether so few can prove it.
fn bound_of_differences(context: &mut Context<'_>, raw: &RawStageRequire) -> Option<f64> {
    let field = &raw.divergence_upper_bound;
    let at = field.get()?;
    let bound = guardrails::share(context, field, 0.05);
    let people = raw.compared_subjects.or(Whole(0)).0;
    let best = bad_rate_upper_bound(people, 0);
    if 0 < people && bound < best {
        context.report.warning(
            at.mark,
            format!(
                "{people} people can prove that fewer than {:.1} % differ at best",
                100.0 * best
            ),
        );
    }
    Some(bound)
}

fn still_seen(context: &mut Context<'_>, raw: &RawStageRequire) -> Option<StillSeen> {
    let raw = raw.legacy_credentials_seen.get()?;
    let at = raw
        .within
        .required(raw.mark, "within", &mut context.report)?;
    let range = (Duration::from_hours(1), Duration::from_hours(90 * 24));
    context.range(at.mark, &at.value.0, range, "from `1h` to `90d`");
    let mut except = Vec::new();
    for at in raw.except.get().map_or(&[][..], |list| &list.items) {
        if context.knows_cohort(at) {
            except.push(CohortId::new(&at.value));
        }
    }
    Some(StillSeen {
        within: at.value.0,
        max: raw.max.or(Whole(0)).0,
        except,
    })
}
