//! What is watched in a step, and what follows: plain data, compiled from `guardrails`.

use std::time::Duration;

use crate::rollout::guard::limit::Limit;

/// What happens when a guard trips.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnTrip {
    /// It is recorded what would have happened: a dry run.
    Note,
    /// Nobody is moved any further.
    Hold,
    /// New logins go back.
    Rollback,
    /// Every new login starts at `from` at once, and whatever the new provider has vouched for ends.
    RollbackRevoke,
}

impl OnTrip {
    /// The word used in the configuration, records and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
            Self::RollbackRevoke => "rollback_revoke",
        }
    }
}

/// What may have happened to a person that is bad.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadOutcome {
    /// A login was tried and did not succeed.
    Failed,
    /// A login was begun, and nobody came back.
    Abandoned,
    /// A login took longer than this at the provider, from its answer to the session.
    SlowerThan(Duration),
    /// A live session was refused.
    Rejected,
    /// A live session could not be judged.
    Error,
}

impl BadOutcome {
    /// Whether it is about logins, and not about sessions: a guard compares one or the other.
    pub const fn is_of_logins(self) -> bool {
        match self {
            Self::Failed | Self::Abandoned | Self::SlowerThan(_) => true,
            Self::Rejected | Self::Error => false,
        }
    }
}

/// One comparison of the arms.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Its name: a label value.
    pub id: Box<str>,
    /// What counts as bad.
    pub bad: Vec<BadOutcome>,
    /// How much worse than `from` the new provider may be.
    pub max_ratio: f64,
    /// A difference of rates below this is no harm.
    pub min_effect: f64,
    /// Fewer bad people at the new provider prove nothing.
    pub min_bad_units: u32,
    /// What follows.
    pub on_trip: OnTrip,
    /// What it means that it has seen nobody at one of the sides.
    pub no_data: NoData,
}

/// The plain breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerRule {
    /// How far back it looks.
    pub window: Duration,
    /// Fewer people than this prove nothing.
    pub min_units: u32,
    /// The share of bad people that is a fire.
    pub bad_rate: f64,
    /// What follows.
    pub on_trip: OnTrip,
}

/// The check of the split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitRule {
    /// The chance of a false alarm in a step.
    pub alpha: f64,
    /// What follows.
    pub on_trip: OnTrip,
}

/// What it means that a guard has seen nobody at one of the sides when the step has baked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoData {
    /// The rollout is held.
    Hold,
    /// It bakes on until somebody comes.
    Wait,
    /// The step is left without it.
    Proceed,
}

/// What follows a rollback that happened by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AfterRollback {
    /// How long nobody may resume.
    pub cooldown: Duration,
    /// After more than this many, the rollout is frozen until a person decides.
    pub max_auto: u32,
}

/// The bound of harm in a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirstLogins {
    /// This many logins of an application may be unfinished at the new provider …
    pub unfinished: u32,
    /// … until this many have succeeded there; afterwards so many may have begun since the last that succeeded.
    pub until_succeeded: u32,
}

/// Everything that watches a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Guardrails {
    /// Its name.
    pub id: Box<str>,
    /// How long a login may take before it counts as abandoned; a person counts once in this time.
    pub window: Duration,
    /// How long after a failed attempt a success still makes it good.
    pub retry: Duration,
    /// How often the arms are compared.
    pub evaluate_every: Duration,
    /// The chance of a false rollback, of the whole rollout.
    pub alpha_budget: f64,
    /// The comparisons.
    pub guards: Vec<Guard>,
    /// What may not be more than so much.
    pub limits: Vec<Limit>,
    /// The plain breaker.
    pub breaker: Option<BreakerRule>,
    /// The check of the split.
    pub split: Option<SplitRule>,
    /// What it means that nobody answers the query of a limit; guards say it themselves.
    pub no_data: NoData,
    /// What follows a rollback.
    pub after_rollback: AfterRollback,
    /// The bound of harm at the start of a step.
    pub first_logins: FirstLogins,
}

impl Guardrails {
    /// The logarithm of the evidence at which a guard trips, in a rollout with so many randomised steps: the budget is
    /// divided over guards, steps and repetitions.
    pub fn trip_at(&self, randomised_steps: usize) -> f64 {
        let shares = self.guards.len().max(1) as f64
            * randomised_steps.max(1) as f64
            * f64::from(self.after_rollback.max_auto.saturating_add(1));
        (shares / self.alpha_budget).ln()
    }
}

impl Default for Guardrails {
    /// The shipped defaults, which the reference of the configuration documents.
    fn default() -> Self {
        let guard = |id: &str, bad, max_ratio, min_effect, min_bad_units, on_trip| Guard {
            id: id.into(),
            bad,
            max_ratio,
            min_effect,
            min_bad_units,
            on_trip,
            no_data: NoData::Hold,
        };
        Self {
            id: "default".into(),
            window: Duration::from_mins(10),
            retry: Duration::from_mins(1),
            evaluate_every: Duration::from_secs(30),
            alpha_budget: 0.05,
            guards: vec![
                guard(
                    "login",
                    vec![BadOutcome::Failed, BadOutcome::Abandoned],
                    1.25,
                    0.005,
                    5,
                    OnTrip::Rollback,
                ),
                guard(
                    "session",
                    vec![BadOutcome::Error],
                    1.5,
                    0.002,
                    5,
                    OnTrip::Rollback,
                ),
            ],
            limits: Vec::new(),
            breaker: Some(BreakerRule {
                window: Duration::from_secs(60),
                min_units: 20,
                bad_rate: 0.2,
                on_trip: OnTrip::Rollback,
            }),
            split: Some(SplitRule {
                alpha: 0.0001,
                on_trip: OnTrip::Hold,
            }),
            no_data: NoData::Hold,
            after_rollback: AfterRollback {
                cooldown: Duration::from_hours(24),
                max_auto: 2,
            },
            first_logins: FirstLogins {
                unfinished: 10,
                until_succeeded: 5,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_divided_over_guards_steps_and_repetitions() {
        let mut rails = Guardrails::default();
        // 2 guards × 5 steps × (1 + 2).
        assert!((rails.trip_at(5) - (30.0_f64 / 0.05).ln()).abs() < 1e-12);
        rails.guards.clear();
        rails.after_rollback.max_auto = 0;
        assert!((rails.trip_at(0) - 20.0_f64.ln()).abs() < 1e-12);
    }
}
