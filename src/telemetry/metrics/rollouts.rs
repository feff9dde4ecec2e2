//! What operators see of rollouts under way: state, step, guards.

use std::collections::BTreeSet;

use crate::rollout::Direction;
use crate::rollout::Findings;
use crate::rollout::Gap;
use crate::rollout::GuardReading;
use crate::rollout::OnTrip;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::SplitReading;
use crate::rollout::State;
use crate::rollout::Trigger;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::series::Labels;
use crate::telemetry::metrics::series::labels;

/// One rollout, as operators see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    /// Its name.
    pub(crate) id: &'a RolloutId,
    /// What it does, since when, and whether it waits for a person.
    pub(crate) progress: &'a Progress,
    /// The observed split.
    pub(crate) observed: Option<f64>,
    /// What keeps it from going on, if that is more than time.
    pub(crate) blocked: &'a [Gap],
    /// What its guards say.
    pub(crate) findings: &'a Findings,
}

/// By this name the split stands among the guards.
const SPLIT: &str = "split";

impl Metrics {
    /// Where every rollout stands now.
    pub(crate) fn rollout_standings<'a>(&self, all: impl Iterator<Item = Shown<'a>>) {
        let all: Vec<Shown<'a>> = all.collect();
        let rare = &self.rare;
        rare.rollout_state.replace(all.iter().flat_map(|one| {
            State::ALL.map(|state| {
                let now = f64::from(u8::from(state == one.progress.state));
                row(labels([one.id.as_str(), state.as_str()]), now)
            })
        }));
        rare.rollout_ready.replace(all.iter().map(|one| {
            let ready = f64::from(u8::from(one.progress.ready));
            row(labels([one.id.as_str()]), ready)
        }));
        rare.rollout_blocked.replace(all.iter().flat_map(|one| {
            let reasons: BTreeSet<_> = one.blocked.iter().map(|gap| gap.obstacle).collect();
            let id = one.id.as_str();
            let reasons = reasons.into_iter();
            reasons.map(move |reason| row(labels([id, reason.as_str()]), 1.0))
        }));
        rare.step_entered.replace(all.iter().map(|one| {
            let entered = one.progress.entered.as_secs() as f64;
            row(labels([one.id.as_str()]), entered)
        }));
        rare.observed_ratio.replace(
            all.iter()
                .filter_map(|one| Some(row(labels([one.id.as_str()]), one.observed?))),
        );
        let guards = || {
            all.iter().flat_map(|one| {
                one.findings
                    .guards
                    .iter()
                    .map(|guard| (one.id.as_str(), guard))
            })
        };
        // A guard that goes by that name stands in its place.
        let splits = || {
            let own =
                |one: &Shown<'a>| !one.findings.guards.iter().any(|guard| *guard.id == *SPLIT);
            let own = all.iter().filter(move |one| own(one));
            own.filter_map(|one| Some((one.id.as_str(), one.findings.split.as_ref()?)))
        };
        let of_guard = |read: fn(&GuardReading) -> f64| {
            guards().map(move |(id, guard)| row(labels([id, &guard.id]), read(guard)))
        };
        let of_split = |read: fn(&SplitReading) -> f64| {
            splits().map(move |(id, split)| row(labels([id, SPLIT]), read(split)))
        };
        rare.guard_log_e
            .replace(of_guard(|guard| guard.log_e).chain(of_split(|split| split.log_e)));
        rare.guard_trip
            .replace(of_guard(|guard| guard.trip_at).chain(of_split(|split| split.trip_at)));
        let limits = || {
            all.iter().flat_map(|one| {
                one.findings
                    .limits
                    .iter()
                    .map(|limit| (one.id.as_str(), limit))
            })
        };
        rare.guard_limit_value.replace(
            limits().filter_map(|(id, limit)| Some(row(labels([id, &limit.id]), limit.value?))),
        );
        rare.guard_limit_max
            .replace(limits().map(|(id, limit)| row(labels([id, &limit.id]), limit.max)));
        rare.guard_units.replace(guards().flat_map(|(id, guard)| {
            let (from, to) = (guard.units.from, guard.units.to);
            [("legacy", from), ("modern", to)]
                .map(|(arm, n)| row(labels([id, &guard.id, arm]), n as f64))
        }));
        rare.guard_bad_units
            .replace(guards().flat_map(|(id, guard)| {
                let (from, to) = (guard.bad.from, guard.bad.to);
                [("legacy", from), ("modern", to)]
                    .map(|(arm, n)| row(labels([id, &guard.id, arm]), n as f64))
            }));
    }

    /// People whom a switch back would hurt: rollout, why, how many.
    pub(crate) fn rollback_exposure<'a>(&self, all: impl Iterator<Item = (&'a str, &'a str, u64)>) {
        let rows = all.map(|(id, why, people)| row(labels([id, why]), people as f64));
        self.rare.rollback_exposure.replace(rows);
    }

    /// People who have moved: rollout, state, how many.
    pub(crate) fn subjects<'a>(&self, all: impl Iterator<Item = (&'a str, &'a str, u64)>) {
        let rows = all.map(|(id, state, people)| row(labels([id, state]), people as f64));
        self.rare.subjects.replace(rows);
    }

    /// Whether this instance drives.
    pub(crate) fn leads(&self, leads: bool) {
        self.rare.leads.with(&[]).set(f64::from(u8::from(leads)));
    }

    /// A rollout moved, or stopped moving.
    pub(crate) fn rollout_transition(
        &self,
        rollout: &RolloutId,
        direction: Direction,
        trigger: Trigger,
    ) {
        let labels = [rollout.as_str(), direction.as_str(), trigger.as_str()];
        self.rare.transitions.with(&labels).add(1);
    }

    /// A guard tripped.
    pub(crate) fn guard_trip(&self, rollout: &RolloutId, guard: &str, action: OnTrip) {
        let labels = [rollout.as_str(), guard, action.as_str()];
        self.rare.guard_trips.with(&labels).add(1);
    }
}

fn row(labels: Labels, value: f64) -> (Labels, Gauge) {
    let gauge = Gauge::default();
    gauge.set(value);
    (labels, gauge)
}
