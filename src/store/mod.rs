//! What must outlive a request: a small key-value contract.
//!
//! A store error is an outage: never "not found", never a logout, never an allow.

mod circuit;
#[cfg(test)]
mod contract;
mod counted;
mod embedded;
#[cfg(test)]
mod fake;
mod memory;
mod redis;
pub(crate) mod settings;
mod together;
mod watch;
mod whole;

pub(crate) use counted::Counted;
pub(crate) use embedded::EmbeddedStore;
#[cfg(test)]
pub(crate) use fake::FakeStore;
pub(crate) use memory::MemoryStore;
pub(crate) use redis::RedisStore;
pub(crate) use together::Notes;
pub(crate) use together::Together;
pub(crate) use watch::Event;
pub(crate) use watch::Watch;
pub(crate) use whole::Whole;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::telemetry::metrics::StoreFailure;

/// Rows of the store in a file: sessions, links, pins. A million sessions of a million people are five million; the bench of the
/// store opens it with the same.
pub(crate) const EMBEDDED_ROWS: usize = 20_000_000;
/// Rows of the store in memory.
pub(crate) const MEMORY_ROWS: usize = 6_000_000;

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot answer.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It did not answer in time.
    #[error("the store did not answer in time")]
    Timeout,
    /// It cannot be reached.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// It takes no more rows.
    #[error("the store is unavailable: full: {0}")]
    Full(String),
    /// It takes no writes.
    #[error("the store takes no writes (READONLY)")]
    ReadOnly,
    /// It does not let us in, or not at this.
    #[error("the store denies access: {0}")]
    Denied(String),
    /// It answered with what cannot be a row.
    #[error("the store holds a damaged row: {0}")]
    Damaged(String),
}

impl StoreError {
    /// For the metrics.
    pub(crate) const fn reason(&self) -> StoreFailure {
        match self {
            Self::Unavailable(_) => StoreFailure::Unavailable,
            Self::Timeout => StoreFailure::Timeout,
            Self::Unreachable(_) => StoreFailure::Unreachable,
            Self::Full(_) => StoreFailure::Full,
            Self::ReadOnly => StoreFailure::ReadOnly,
            Self::Denied(_) => StoreFailure::Denied,
            Self::Damaged(_) => StoreFailure::Damaged,
        }
    }

    /// Whether it says something of the way to the store, and not of what was asked.
    pub(crate) const fn is_of_the_link(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Timeout | Self::Unreachable(_) => true,
            Self::Full(_) | Self::ReadOnly | Self::Denied(_) | Self::Damaged(_) => false,
        }
    }
}

/// How soon this process learns what others write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sight {
    /// Nobody else writes.
    Alone,
    /// What others write is told at once: a heartbeat was heard within the last second.
    Told,
    /// What others write may not be told.
    Deaf,
    /// The store is not asked, because it does not answer.
    Away,
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

/// How long the place of an entry is.
pub(crate) const PLACE: usize = 10;

/// What a row is found by beside its key. It has no value and no end of its own: it lives and dies with its row. Only rows
/// whose keys are digests have entries: the first bytes of the key name the row.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Entry {
    /// What the place is of, as the owner of the table counts.
    pub(crate) kind: u8,
    /// A keyed digest.
    pub(crate) place: [u8; PLACE],
}

/// A row as it is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRow<'a> {
    /// Where.
    pub(crate) key: Key<'a>,
    /// The content.
    pub(crate) value: &'a [u8],
    /// What it is found by.
    pub(crate) entries: &'a [Entry],
    /// From then on it is absent.
    pub(crate) expires: UnixTime,
}

impl<'a> NewRow<'a> {
    /// Found by its key alone.
    const fn plain(key: Key<'a>, value: &'a [u8], expires: UnixTime) -> Self {
        Self {
            key,
            value,
            entries: &[],
            expires,
        }
    }
}

/// Where entries are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By<'a> {
    /// The table of the rows.
    pub(crate) table: &'static str,
    /// The kind of entry.
    pub(crate) kind: u8,
    /// What the places begin with.
    pub(crate) prefix: &'a [u8],
}

/// Who is handed rows, one after the other: the key, the row.
pub(crate) type Each<'e> = &'e mut (dyn FnMut(&[u8], Row) + Send);

/// The contract. Every implementation runs `store_contract`.
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// The row, unless it is absent or expired at `now`.
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError>;

    /// Writes a row together with its entries, durably where the implementation is durable, before it returns. Entries that
    /// the row had before and has no more are gone. `false`: the row is not as expected; nothing was written.
    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError>;

    /// Writes a row without entries.
    async fn put(&self, key: Key<'_>, value: &[u8], expires: UnixTime) -> Result<(), StoreError> {
        let row = NewRow::plain(key, value, expires);
        self.write(row, None).await.map(drop)
    }

    /// Writes a row without entries if it is as expected; `false`: it is not.
    async fn compare_and_swap(
        &self,
        key: Key<'_>,
        expect: Expect,
        value: &[u8],
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let row = NewRow::plain(key, value, expires);
        self.write(row, Some((expect, now))).await
    }

    /// Writes two rows in one step if neither is there, and as durably as [`Self::put`]; `Some(false)`: one of them is there,
    /// and nothing was written. `None`: this store writes one row at a time; nothing was written.
    async fn put_both(
        &self,
        _rows: [(Key<'_>, &[u8]); 2],
        _expires: UnixTime,
        _now: UnixTime,
    ) -> Result<Option<bool>, StoreError> {
        Ok(None)
    }

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

    /// Hands over the rows of a table by their entries of a kind whose places begin with `prefix`, at most `limit`, in the order
    /// of the places; how many. A row comes once for each such entry. However many there are, few of them are in memory at
    /// once: a row whose entries change meanwhile may come twice or not at all.
    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError>;

    /// Takes or renews a lease for `holder`; `false`: somebody else has it. A shared store counts `span` by its own clock,
    /// so that the clocks of instances need not agree; the others count it from `now`.
    #[allow(dead_code, reason = "part of the contract that every store is held to")]
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError>;

    /// Gives up a lease, if `holder` has it.
    #[allow(dead_code, reason = "part of the contract that every store is held to")]
    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError>;

    /// Tells what changes in a table from now on, whoever changes it. Every acknowledged `put`, `delete` and successful
    /// `compare_and_swap` or `put_both` is told, or that something was missed; rows that expire are not.
    fn watch(&self, table: &'static str) -> Watch;

    /// How soon [`Self::watch`] tells what others write. An atomic at most: it is asked on every use of a session.
    fn sight(&self) -> Sight {
        Sight::Alone
    }

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
