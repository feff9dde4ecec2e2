//! What must outlive a request: a small key-value contract.
//!
//! A store error is an outage: never "not found", never a logout, never an allow.

#[cfg(test)]
mod contract;
mod embedded;
mod memory;
mod watch;

pub(crate) use embedded::EmbeddedStore;
pub(crate) use memory::MemoryStore;
pub(crate) use watch::Event;
pub(crate) use watch::Watch;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot be reached, or did not answer in time (default 250 ms).
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It answered with what cannot be a row.
    #[error("the store holds a damaged row: {0}")]
    Damaged(String),
}

/// A row with the version that a compare-and-swap names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    /// The content.
    pub(crate) value: Vec<u8>,
    /// Changes with every write.
    pub(crate) version: u64,
}

/// What a compare-and-swap expects to find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expect {
    /// No row.
    Absent,
    /// This version.
    Version(u64),
}

/// Keys are `(table, key)`: a table is a word of ours, a key is bytes; they are never joined into one string by callers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key<'a> {
    /// The kind of row, such as `session` or `link`.
    pub(crate) table: &'static str,
    /// The row.
    pub(crate) key: &'a [u8],
}

/// The contract. Every implementation runs `store_contract`.
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// The row, unless it is absent or expired at `now`.
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError>;

    /// Writes, durably where the implementation is durable, before it returns.
    async fn put(&self, key: Key<'_>, value: &[u8], expires: UnixTime) -> Result<(), StoreError>;

    /// Writes if the row is as expected; `false`: it is not.
    async fn compare_and_swap(
        &self,
        key: Key<'_>,
        expect: Expect,
        value: &[u8],
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError>;

    /// Removes the row, if it is there.
    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError>;

    /// The keys of a table that begin with `prefix`, at most `limit`.
    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError>;

    /// Takes or renews a lease for `holder`; `false`: somebody else has it. A shared store counts `span` by its own clock,
    /// so that the clocks of instances need not agree; the others count it from `now`.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "part of the contract that every store is held to")
    )]
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError>;

    /// Gives up a lease, if `holder` has it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "part of the contract that every store is held to")
    )]
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;

    /// Tells what changes in a table from now on, whoever changes it. Every acknowledged `put`, `delete` and successful
    /// `compare_and_swap` is told, or that something was missed; rows that expire are not.
    fn watch(&self, table: &'static str) -> Watch;

    /// Removes what has expired at `now`; called from a background task. Says how many rows went.
    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError>;

    /// Whether what was acknowledged survives this process.
    fn is_durable(&self) -> bool {
        false
    }

    /// Whether other instances write into it too.
    fn is_shared(&self) -> bool {
        false
    }
}
