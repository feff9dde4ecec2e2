//! Which provider a credential or a login belongs to. Pure: no I/O, no clock, no randomness, not async.
//!
//! Three questions, never one switch: *accept* (is this class of credential of this provider honoured now),
//! *assign* (where does a new login start) and *observe*. This module must never verify a credential.

#![deny(clippy::wildcard_enum_match_arm)]

mod accept;
mod assign;
mod bucket;
mod cohort;
mod facts;
mod fallback;
mod guard;
mod kill;
mod stage;
#[cfg(test)]
mod testing;

pub use accept::Acceptance;
pub use accept::LoginBegun;
pub use accept::accept;
pub use accept::accept_login;
pub use accept::other_arm;
pub use assign::Assignment;
pub use assign::Pin;
pub use assign::RuleRef;
pub use assign::assign;
pub use assign::restarts_at_to;
pub use bucket::Bucket;
pub use bucket::BucketKey;
pub use bucket::InvalidPercent;
pub use bucket::Percent;
pub use bucket::UnitKind;
pub use cohort::Cohort;
pub use cohort::CohortId;
pub use cohort::Cohorts;
pub use cohort::Phase;
pub use facts::Facts;
pub use facts::Fields;
pub use facts::Person;
pub use fallback::Down;
pub use fallback::Fallback;
pub use fallback::FallbackLeave;
pub use fallback::NoFallback;
pub use fallback::fall_back;
pub use guard::*;
pub use kill::KillPosition;
pub use kill::KillState;
pub use stage::AcceptOverride;
pub use stage::AppId;
pub use stage::Arm;
pub use stage::AssignRule;
pub use stage::BasicPolicy;
pub use stage::BeforeKnown;
pub use stage::Bucketing;
pub use stage::LoginPolicy;
pub use stage::Mode;
pub use stage::OnDecrease;
pub use stage::OtherArm;
pub use stage::PinnedAtFrom;
pub use stage::Plan;
pub use stage::RolloutId;
pub use stage::SessionPolicy;
pub use stage::Share;
pub use stage::Stage;
