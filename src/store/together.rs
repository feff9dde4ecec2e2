//! Notes that several instances write together: rows of one table, read, laid together, and swapped.
//!
//! A row changes by compare-and-swap alone, after what another instance has written in it was laid beside what is noted here:
//! nobody's notes are lost.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::warn;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::store::Event;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Store;
use crate::store::StoreError;
#[cfg(test)]
use crate::store::Watch;

/// How often what was noted is written.
const WRITE: Duration = Duration::from_secs(5);
/// Rows that are read at the start.
const MAX_ROWS: usize = 1 << 16;

/// What is noted. Laid together in any order, and more than once, it is the same.
pub(crate) trait Notes: fmt::Debug + Send + Sync {
    /// The rows that are to be written; they are not named again unless they change again.
    fn changed(&self) -> BTreeSet<Vec<u8>>;

    /// This row could not be written.
    fn not_written(&self, key: Vec<u8>);

    /// A row, as it is written.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    fn page(&self, key: &[u8], now: UnixTime) -> Result<Vec<u8>, serde_json::Error>;

    /// Lays what is written in a row beside what is noted here.
    ///
    /// # Errors
    ///
    /// When it cannot be read: then it says nothing, and is written anew.
    fn take_in(&self, key: &[u8], value: &[u8]) -> Result<(), serde_json::Error>;

    /// What was noted before is known from here on.
    fn is_known(&self);

    /// Forgets what is old.
    fn sweep(&self, now: UnixTime);
}

/// Keeps notes, for as long as the process lives.
pub(crate) struct Together {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    notes: Arc<dyn Notes>,
    table: &'static str,
    /// How long a row lives that nobody writes.
    keep: Duration,
    /// What others have written and was not read yet; `None`: everything.
    unread: Option<BTreeSet<Box<[u8]>>>,
    /// Whether the last try failed: it is said once.
    away: bool,
}

impl Together {
    /// Nothing was read yet.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        notes: Arc<dyn Notes>,
        (table, keep): (&'static str, Duration),
    ) -> Self {
        Self {
            store,
            clock,
            notes,
            table,
            keep,
            unread: None,
            away: false,
        }
    }

    /// Reads and writes from here on.
    pub(crate) async fn run(mut self) {
        let mut watch = self.store.watch(self.table);
        let mut tick = tokio::time::interval(WRITE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.turn().await,
                event = watch.next() => if !self.heard(event) {
                    return;
                },
            }
        }
    }

    /// Reads what others have written, and writes what was noted here.
    pub(crate) async fn turn(&mut self) {
        let now = self.clock.now();
        let done = match self.read(now).await {
            Ok(()) => self.write(now).await,
            // What is not known is not written over.
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => self.away = false,
            Err(error) if !self.away => {
                let notes = self.table;
                warn!(%error, notes, "What was noted is not kept, or not known, until the store answers.");
                self.away = true;
            }
            Err(_) => {}
        }
        self.notes.sweep(now);
    }

    /// Marks what others have written; `false`: the store is gone.
    fn heard(&mut self, event: Option<Event>) -> bool {
        match event {
            Some(Event::Changed(key)) => {
                if let Some(unread) = &mut self.unread {
                    unread.insert(key);
                }
            }
            Some(Event::Missed) => self.unread = None,
            None => return false,
        }
        true
    }

    /// Waits until others have written so many rows, in tests.
    #[cfg(test)]
    pub(crate) async fn hear(&mut self, watch: &mut Watch, rows: usize) {
        while self
            .unread
            .as_ref()
            .is_some_and(|unread| unread.len() < rows)
        {
            let event = watch.next().await;
            assert!(self.heard(event));
        }
    }

    async fn read(&mut self, now: UnixTime) -> Result<(), StoreError> {
        let Some(unread) = &mut self.unread else {
            for (key, row) in self.store.scan(self.table, &[], MAX_ROWS, now).await? {
                self.take_in(&key, &row.value);
            }
            self.notes.is_known();
            self.unread = Some(BTreeSet::new());
            return Ok(());
        };
        let mut unread = std::mem::take(unread);
        while let Some(key) = unread.pop_first() {
            match self.store.get(self.at(&key), now).await {
                Ok(Some(row)) => self.take_in(&key, &row.value),
                Ok(None) => {}
                Err(error) => {
                    unread.insert(key);
                    self.unread = Some(unread);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, now: UnixTime) -> Result<(), StoreError> {
        let mut changed = self.notes.changed().into_iter();
        while let Some(key) = changed.next() {
            match self.write_one(&key, now).await {
                Ok(true) => {}
                // Another instance was faster.
                Ok(false) => self.notes.not_written(key),
                Err(error) => {
                    for key in std::iter::once(key).chain(changed) {
                        self.notes.not_written(key);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn write_one(&self, key: &[u8], now: UnixTime) -> Result<bool, StoreError> {
        let row = self.store.get(self.at(key), now).await?;
        if let Some(row) = &row {
            self.take_in(key, &row.value);
        }
        let expect = row.map_or(Expect::Absent, |row| Expect::Version(row.version));
        let value = self.notes.page(key, now);
        let value = value.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.store
            .compare_and_swap(self.at(key), expect, &value, now + self.keep, now)
            .await
    }

    fn take_in(&self, key: &[u8], value: &[u8]) {
        if let Err(error) = self.notes.take_in(key, value) {
            let notes = self.table;
            warn!(%error, notes, "A row of notes is damaged.");
        }
    }

    const fn at<'a>(&self, key: &'a [u8]) -> Key<'a> {
        Key {
            table: self.table,
            key,
        }
    }
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
