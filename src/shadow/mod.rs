//! A second opinion, off the path: what another provider says of somebody whom theirs has let in, compared and counted.
//!
//! It must never delay or change an answer, never ask about a credential that was refused, and never keep who it was about:
//! people and values stand here as keyed hashes only.

mod asked;
mod chosen;
mod compare;
mod desk;
mod found;
mod job;
mod kind;
mod looks;
mod pace;
mod passwords;
mod quiet;
mod sampled;
pub(crate) mod settings;
mod sweep;
mod weigh;
mod work;

pub(crate) use compare::Name;
pub(crate) use compare::Side;
pub(crate) use desk::Desk;
pub(crate) use desk::Offer;
pub(crate) use found::Found;
pub(crate) use found::Kept;
pub(crate) use found::TABLE;
pub(crate) use kind::Class;
pub(crate) use kind::Field;
pub(crate) use sweep::Listed;
pub(crate) use sweep::Progress;
pub(crate) use sweep::Swept;
pub(crate) use work::MAX_QUEUE;
pub(crate) use work::Reader;
pub(crate) use work::Shadow;
pub(crate) use work::ShadowParts;
