//! A store for tests.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::clock::UnixTime;
use crate::store::By;
use crate::store::Each;
use crate::store::Expect;
use crate::store::Key;
use crate::store::MemoryStore;
use crate::store::NewRow;
use crate::store::Row;
use crate::store::Sight;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;

/// A store that several instances share, and that may be away.
#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    /// What it holds, whether it answers or not.
    pub(crate) rows: MemoryStore,
    /// Nobody is told of what others write.
    pub(crate) deaf: AtomicBool,
    /// It answers nothing.
    pub(crate) away: AtomicBool,
    /// It takes nothing more.
    pub(crate) full: AtomicBool,
    /// It takes no row of a session away, and nothing in its place.
    pub(crate) keeps: AtomicBool,
    /// How often it was asked for a row.
    pub(crate) reads: AtomicUsize,
    /// Others have their turn between a look at a row and what comes of it.
    pub(crate) slow: AtomicBool,
    /// The next write to this table says so in `halted`, and waits for `goes_on`.
    pub(crate) halts_at: Mutex<Option<&'static str>>,
    pub(crate) halted: Notify,
    pub(crate) goes_on: Notify,
}

#[async_trait]
impl Store for FakeStore {
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.there()?;
        let found = self.rows.get(key, now).await;
        if self.slow.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        found
    }

    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError> {
        self.there()?;
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Full(String::from("it takes nothing more")));
        }
        let replaces = matches!(condition, Some((Expect::Version(_), _)));
        if replaces && row.key.table == "session" && self.keeps.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(String::from(
                "it keeps what it has",
            )));
        }
        let halts = {
            let mut at = self.halts_at.lock().unwrap();
            at.take_if(|at| *at == row.key.table).is_some()
        };
        if halts {
            self.halted.notify_one();
            self.goes_on.notified().await;
        }
        self.rows.write(row, condition).await
    }

    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        self.there()?;
        self.rows.find(by, limit, now, each).await
    }

    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
        self.there()?;
        if self.keeps.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(String::from(
                "it keeps what it has",
            )));
        }
        self.rows.delete(key).await
    }

    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
        self.there()?;
        self.rows.scan(table, prefix, limit, now).await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        self.there()?;
        self.rows.lease(name, holder, span, now).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.there()?;
        self.rows.release(name, holder).await
    }

    fn watch(&self, table: &'static str) -> Watch {
        self.rows.watch(table)
    }

    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.there()?;
        self.rows.sweep(now).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn sight(&self) -> Sight {
        if self.deaf.load(Ordering::SeqCst) {
            Sight::Deaf
        } else {
            Sight::Alone
        }
    }
}

impl FakeStore {
    fn there(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(String::from("away")));
        }
        Ok(())
    }
}
