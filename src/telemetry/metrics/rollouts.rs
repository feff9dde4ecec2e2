//! What operators see of rollouts under way: state, step, guards.

use crate::clock::UnixTime;
use crate::rollout::Direction;
use crate::rollout::GuardReading;
use crate::rollout::OnTrip;
use crate::rollout::RolloutId;
use crate::rollout::State;
use crate::rollout::Trigger;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::series::Labels;
use crate::telemetry::metrics::series::labels;

/// One rollout: its name, what it does and whether it waits for a person, since when, the observed split, its guards.
pub(crate) type Shown<'a> = (
    &'a RolloutId,
    (State, bool),
    UnixTime,
    Option<f64>,
    &'a [GuardReading],
);

impl Metrics {
    /// Where every rollout stands now.
    pub(crate) fn rollout_standings<'a>(&self, all: impl Iterator<Item = Shown<'a>>) {
        let all: Vec<Shown<'a>> = all.collect();
        let rare = &self.rare;
        rare.rollout_state
            .replace(all.iter().flat_map(|(id, (state, _), ..)| {
                State::ALL.map(|one| {
                    let now = f64::from(u8::from(one == *state));
                    row(labels([id.as_str(), one.as_str()]), now)
                })
            }));
        rare.rollout_ready.replace(
            all.iter().map(|(id, (_, ready), ..)| {
                row(labels([id.as_str()]), f64::from(u8::from(*ready)))
            }),
        );
        rare.step_entered.replace(
            all.iter()
                .map(|(id, _, entered, ..)| row(labels([id.as_str()]), entered.as_secs() as f64)),
        );
        rare.observed_ratio.replace(
            all.iter()
                .filter_map(|(id, _, _, ratio, _)| Some(row(labels([id.as_str()]), (*ratio)?))),
        );
        let guards = || {
            all.iter()
                .flat_map(|(id, .., guards)| guards.iter().map(move |guard| (id.as_str(), guard)))
        };
        rare.guard_log_e
            .replace(guards().map(|(id, guard)| row(labels([id, &guard.id]), guard.log_e)));
        rare.guard_trip
            .replace(guards().map(|(id, guard)| row(labels([id, &guard.id]), guard.trip_at)));
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
