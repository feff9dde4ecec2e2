//! Whether a step of a rollout does harm: pure arithmetic over people and what happened to them.
//!
//! People are counted, not requests, and a person is bad at most once a step. The answer may be asked for at any moment, as
//! often as one likes: what is computed stays valid however often it is looked at. Nothing here may read a clock or decide
//! what follows from a verdict; that is the controller's.

mod bound;
mod breaker;
mod evidence;
mod first;
#[cfg(test)]
mod healthy;
mod judge;
mod limit;
mod settings;
#[cfg(test)]
mod simulated;
mod split;
mod tally;

pub use bound::bad_rate_upper_bound;
pub use bound::shown_by;
pub use breaker::Burning;
pub use first::First;
pub use judge::Findings;
pub use judge::GuardReading;
pub use judge::SplitReading;
pub use judge::Verdict;
pub use limit::Limit;
pub use limit::LimitReading;
pub use limit::Looked;
pub use limit::Watched;
pub use settings::AfterRollback;
pub use settings::BadOutcome;
pub use settings::BreakerRule;
pub use settings::FirstLogins;
pub use settings::Guard;
pub use settings::Guardrails;
pub use settings::NoData;
pub use settings::OnTrip;
pub use settings::SplitRule;
pub use tally::Observed;
pub use tally::Outcome;
pub use tally::PerArm;
pub use tally::Tally;
