//! The ledger: what was decided about rollouts, configuration and the kill switch, in a chain of records.
//!
//! A record is written before the change that it tells of takes effect. The chain proves order and integrity since the last
//! head that was kept elsewhere, not more: whoever owns the disk can write a new one. Nothing here may decide anything, and
//! no subject, token or address may enter a record.

mod chain;
mod entry;
mod file;
mod tail;

pub(crate) use chain::Anchor;
pub(crate) use chain::verify;
pub(crate) use entry::Entry;
pub(crate) use entry::Kind;
pub(crate) use file::Ledger;
pub(crate) use file::LedgerError;
pub(crate) use file::LedgerSettings;
pub(crate) use tail::since;
pub(crate) use tail::tail;
