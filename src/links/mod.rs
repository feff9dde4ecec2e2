//! Old subject ↔ new subject: which account of a provider a person is.
//!
//! One row per person and provider, unique on both sides, written at the first sighting and never overwritten. This module
//! must never find a person by e-mail address, and never decide what a conflict leads to.

mod table;

pub(crate) use table::LinkError;
pub(crate) use table::Links;
pub(crate) use table::Sighting;
