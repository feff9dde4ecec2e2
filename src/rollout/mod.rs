//! Which provider a credential or a login belongs to. Pure: no I/O, no clock, no randomness, not async.
//!
//! Three questions, never one switch: *accept* (is this class of credential of this provider honoured now),
//! *assign* (where does a new login start) and *observe*. This module must never verify a credential.

#![deny(clippy::wildcard_enum_match_arm)]

mod accept;
mod assign;
mod bucket;
mod cohort;
mod controller;
mod course;
mod drills;
mod facts;
mod fallback;
mod guard;
mod kill;
mod shadowed;
mod stage;
#[cfg(test)]
pub(crate) mod testing;
mod windows;

pub use accept::Acceptance;
pub use accept::LoginBegun;
pub use accept::accept;
pub use accept::accept_login;
pub use accept::other_arm;
pub use assign::Assignment;
pub use assign::Pin;
pub use assign::RuleRef;
pub use assign::assign;
pub use assign::placed_by_percent;
pub use assign::restarts_at_to;
pub use bucket::Bucket;
pub use bucket::BucketKey;
pub use bucket::InvalidPercent;
pub use bucket::Percent;
pub use bucket::UnitKind;
pub use bucket::unit;
pub use cohort::Cohort;
pub use cohort::CohortId;
pub use cohort::Cohorts;
pub use cohort::Phase;
pub use controller::Command;
pub use controller::Direction;
pub use controller::Progress;
pub use controller::State;
pub use controller::Transition;
pub use controller::Trigger;
pub use controller::View;
pub use controller::missing;
pub use controller::tick;
pub use course::Control;
pub use course::Course;
pub use course::Leg;
pub use course::Place;
pub use course::PromoteWhen;
pub use course::Require;
pub use course::RollbackTo;
pub use course::Step;
pub use course::StillSeen;
pub use drills::Drill;
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
pub use shadowed::Shadowed;
pub use stage::AcceptOverride;
pub use stage::AppId;
pub use stage::Arm;
pub use stage::AssignRule;
pub use stage::BasicPolicy;
pub use stage::BeforeKnown;
pub use stage::Brownout;
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
pub use stage::Warning;
pub use windows::Windows;
