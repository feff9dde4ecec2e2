//! Old subject ↔ new subject: which account of a provider a person is.
//!
//! One row per person and provider, unique on both sides, written at the first sighting and never overwritten. This module
//! must never find a person by an address that nobody has verified or that is not ours to give, and never decide what a
//! conflict leads to.

mod accounts;
mod claim;
mod conflicts;
mod decided;
mod file;
mod home;
mod homes;
mod kept;
mod lasting;
mod naming;
mod preflight;
pub(crate) mod settings;
mod sights;
mod steered;
mod table;
mod there;
mod whose;

pub(crate) use claim::ClaimRule;
pub(crate) use claim::Place;
pub(crate) use claim::Speaker;
pub(crate) use conflicts::CONFLICTS_KEPT;
pub(crate) use conflicts::MAX_CONFLICTS;
pub(crate) use decided::Decided;
pub(crate) use file::Columns;
pub(crate) use file::LinkFile;
pub(crate) use home::Home;
pub(crate) use homes::Homes;
pub(crate) use homes::Move;
pub(crate) use naming::Method;
pub(crate) use naming::joined;
pub(crate) use preflight::Preflight;
pub(crate) use preflight::inventory;
pub(crate) use preflight::preflight;
pub(crate) use sights::Partner;
pub(crate) use table::LinkError;
pub(crate) use table::Links;
pub(crate) use table::Sighting;
