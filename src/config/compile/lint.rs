//! What a rollout must not do although each of its stages is sound: send people back, jump, or end at no door.

use std::collections::BTreeSet;

use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::compile::rollouts::Pair;
use crate::config::names::one_of;
use crate::config::raw::Acknowledge;
use crate::config::tree::Mark;
use crate::rollout::Arm;
use crate::rollout::CohortId;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::Share;
use crate::rollout::Stage;

/// A stage with its places.
#[derive(Debug)]
pub(super) struct Placed {
    /// The stage.
    pub(super) stage: Stage,
    /// The place of its ramp rule.
    pub(super) ramp: Option<usize>,
    /// The percents that it climbs.
    pub(super) climbs: Vec<Percent>,
    /// Where its mode stands.
    pub(super) mode_mark: Mark,
    /// Where its rules stand.
    pub(super) assign_mark: Mark,
}

impl Placed {
    /// The only stage of a rollout.
    pub(super) const fn alone(stage: Stage, mark: Mark) -> Self {
        Self {
            stage,
            ramp: None,
            climbs: Vec::new(),
            mode_mark: mark,
            assign_mark: mark,
        }
    }
}

/// The order of modes. `shadow` is not counted: nobody moves in it.
const fn order(mode: Mode) -> u8 {
    match mode {
        Mode::LegacyOnly | Mode::Shadow => 0,
        Mode::Canary => 1,
        Mode::ModernPrimary => 2,
        Mode::ModernOnly => 3,
    }
}

/// Compares each stage with the one before.
pub(super) fn stages(context: &mut Context<'_>, all: &[Placed], acknowledged: Option<Acknowledge>) {
    let skip = acknowledged == Some(Acknowledge::Skip);
    for (before, after) in all.iter().zip(all.iter().skip(1)) {
        if before.stage.index + 1 != after.stage.index {
            // The stage between could not be read.
            continue;
        }
        let (was, is) = (order(before.stage.mode), order(after.stage.mode));
        if is < was {
            context
                .report
                .error(
                    after.mode_mark,
                    format!(
                        "stage `{}` goes back: a later stage never undoes an earlier one",
                        after.stage.id
                    ),
                )
                .hint("going back is an event, not a stage");
        } else if was + 1 < is && !skip {
            context
                .report
                .error(
                    after.mode_mark,
                    format!("stage `{}` jumps over a mode", after.stage.id),
                )
                .hint("add the stage between, or say `change: { acknowledge: skip }`");
        }
        if before.stage.mode == Mode::Canary && after.stage.mode == Mode::Canary {
            growth(context, before, after);
        }
    }
}

/// A moment of a stage: a ramp begins lower than it ends.
#[derive(Clone, Copy)]
enum Moment {
    Begins,
    Ends,
}

/// How many of a cohort, or of everybody, a stage moves.
fn share(placed: &Placed, cohort: Option<&str>, moment: Moment) -> Option<Percent> {
    let rules = placed.stage.assign.iter().enumerate();
    let theirs = rules.filter(|(_, rule)| {
        rule.to == Arm::To && rule.cohort.as_ref().map(CohortId::as_str) == cohort
    });
    theirs
        .filter_map(|(place, rule)| match (rule.share, moment) {
            (Share::All, _) => Some(Percent::ALL),
            (Share::Percent(first), Moment::Ends) if placed.ramp == Some(place) => {
                let climbs = placed.climbs.iter().copied();
                Some(climbs.max().unwrap_or(first).max(first))
            }
            (Share::Percent(percent), _) => Some(percent),
            (Share::Chosen, _) => None,
        })
        .max()
}

/// The cohorts of whom a stage moves some, and not all.
fn parts(stage: &Stage) -> BTreeSet<&str> {
    let rules = stage.assign.iter();
    let rules = rules.filter(|rule| rule.to == Arm::To && rule.share != Share::All);
    rules
        .filter_map(|rule| rule.cohort.as_ref())
        .map(CohortId::as_str)
        .collect()
}

/// Names of the cohorts that a stage sends to `arm` as a whole.
fn sent(stage: &Stage, arm: Arm) -> BTreeSet<&str> {
    let rules = stage
        .assign
        .iter()
        .filter(|rule| rule.to == arm && rule.share == Share::All);
    rules
        .filter_map(|rule| rule.cohort.as_ref())
        .map(|cohort| cohort.as_str())
        .collect()
}

/// Between two canary stages nobody who moved may go back.
fn growth(context: &mut Context<'_>, before: &Placed, after: &Placed) {
    let was = share(before, None, Moment::Ends);
    let is = share(after, None, Moment::Begins);
    if is < was {
        context
            .report
            .error(
                after.assign_mark,
                format!(
                    "the percent of stage `{}` is lower than that of `{}`",
                    after.stage.id, before.stage.id
                ),
            )
            .hint("a percent only grows from stage to stage: people who moved would go back");
    }
    if is == Some(Percent::ALL) {
        return;
    }
    for cohort in parts(&before.stage).union(&parts(&after.stage)) {
        // Whom no rule names is among everybody.
        let was = share(before, Some(cohort), Moment::Ends).or(was);
        let is = share(after, Some(cohort), Moment::Begins).or(is);
        if is < was {
            context
                .report
                .error(
                    after.assign_mark,
                    format!(
                        "the percent of `{cohort}` in stage `{}` is lower than in `{}`",
                        after.stage.id, before.stage.id
                    ),
                )
                .hint("a percent only grows from stage to stage: people who moved would go back");
        }
    }
    let lost: Vec<&str> = sent(&before.stage, Arm::To)
        .difference(&sent(&after.stage, Arm::To))
        .copied()
        .collect();
    if !lost.is_empty() {
        context
            .report
            .warning(
                after.assign_mark,
                format!(
                    "stage `{}` no longer moves {}",
                    after.stage.id,
                    one_of(lost)
                ),
            )
            .hint("keep the rule in every later canary stage, or its people go back");
    }
    let new: Vec<&str> = sent(&after.stage, Arm::From)
        .difference(&sent(&before.stage, Arm::From))
        .copied()
        .collect();
    if !new.is_empty() && was.is_some() {
        context
            .report
            .warning(
                after.assign_mark,
                format!(
                    "stage `{}` begins to exclude {}",
                    after.stage.id,
                    one_of(new)
                ),
            )
            .hint(
                "an exclusion stands in every stage from the first on, or people who moved go back",
            );
    }
}

/// Whoever is sent to one side must be able to sign in there.
pub(super) fn sign_in(context: &mut Context<'_>, pair: &Pair<'_>, providers: &[Provider]) {
    let door = |name: &str| {
        let provider = providers
            .iter()
            .find(|provider| provider.name.value == name);
        provider.and_then(|provider| provider.login.map(|login| (login, provider.passwords)))
    };
    let (Some(from), Some(to)) = (door(&pair.from.value), door(&pair.to.value)) else {
        return;
    };
    for (side, (login, passwords), (other, _)) in [(pair.from, from, to), (pair.to, to, from)] {
        if !login && !passwords && other {
            context
                .report
                .error(
                    side.mark,
                    format!(
                        "a browser that is sent to `{}` cannot sign in there",
                        side.value
                    ),
                )
                .value(&side.value)
                .hint("give the provider its `client`: the other side of this rollout has a login");
        }
    }
}
