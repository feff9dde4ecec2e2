//! Old subject ↔ new subject: which account of a provider a person is.
//!
//! One row per person and provider, unique on both sides, written at the first sighting and never overwritten. This module
//! must never find a person by e-mail address, and never decide what a conflict leads to.

mod file;
mod naming;
mod preflight;
pub(crate) mod settings;
mod table;

pub(crate) use file::Columns;
pub(crate) use file::LinkFile;
pub(crate) use naming::Method;
pub(crate) use naming::joined;
pub(crate) use preflight::Preflight;
pub(crate) use preflight::inventory;
pub(crate) use preflight::preflight;
pub(crate) use table::LinkError;
pub(crate) use table::Links;
pub(crate) use table::Sighting;
