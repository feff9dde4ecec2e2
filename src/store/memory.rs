//! A store in this process: gone with it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::store::By;
use crate::store::Each;
use crate::store::Entry;
use crate::store::Expect;
use crate::store::Key;
use crate::store::MEMORY_ROWS;
use crate::store::NewRow;
use crate::store::PLACE;
use crate::store::Row;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;
use crate::store::watch::Changes;

const SHARDS: usize = 16;
/// Entries that are looked at before others have their turn: 64.
const AT_ONCE: usize = 64;

/// Rows in memory, in shards that are locked for the time of one look.
pub(crate) struct MemoryStore {
    shards: [Mutex<Shard>; SHARDS],
    /// The entries of all rows; locked after the shard of the row.
    entries: Mutex<BTreeSet<Listed>>,
    hasher: RandomState,
    versions: AtomicU64,
    rows: AtomicUsize,
    max_rows: usize,
    changes: Changes,
}

type Place = (&'static str, Vec<u8>);
type Shard = BTreeMap<Place, Kept>;
/// The table, the entry, the key of the row.
type Listed = (&'static str, Entry, Vec<u8>);

struct Kept {
    row: Row,
    expires: UnixTime,
    entries: Box<[Entry]>,
}

impl MemoryStore {
    /// An empty store of at most `max_rows` rows: with more, writes of new rows are refused.
    pub(crate) fn new(max_rows: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            entries: Mutex::default(),
            hasher: RandomState::new(),
            versions: AtomicU64::new(0),
            rows: AtomicUsize::new(0),
            max_rows,
            changes: Changes::new(),
        }
    }

    fn shard(&self, place: &Place) -> MutexGuard<'_, Shard> {
        let [fallback, ..] = &self.shards;
        let number = self.hasher.hash_one(place) % SHARDS as u64;
        let shard = usize::try_from(number)
            .ok()
            .and_then(|n| self.shards.get(n));
        shard
            .unwrap_or(fallback)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a row without entries.
    fn write_plain(
        &self,
        shard: &mut Shard,
        place: Place,
        value: &[u8],
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        self.write_row(shard, place, (value, &[]), expires)
    }

    fn write_row(
        &self,
        shard: &mut Shard,
        place: Place,
        (value, entries): (&[u8], &[Entry]),
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        if !shard.contains_key(&place) {
            let counted = self
                .rows
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |rows| {
                    (rows < self.max_rows).then_some(rows + 1)
                });
            if counted.is_err() {
                return Err(StoreError::Full(format!("it holds {} rows", self.max_rows)));
            }
        }
        let version = self.versions.fetch_add(1, Ordering::AcqRel) + 1;
        let row = Row {
            value: value.to_vec(),
            version,
        };
        let kept = Kept {
            row,
            expires,
            entries: entries.into(),
        };
        let listed = place.clone();
        let before = shard.insert(place, kept);
        let before = before.map(|kept| kept.entries).unwrap_or_default();
        self.list(&listed, &before, entries);
        Ok(())
    }

    /// The entries of a row that had others before.
    fn list(&self, (table, key): &Place, before: &[Entry], now: &[Entry]) {
        if before.is_empty() && now.is_empty() {
            return;
        }
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in before {
            all.remove(&(*table, *entry, key.clone()));
        }
        all.extend(now.iter().map(|entry| (*table, *entry, key.clone())));
    }

    fn remove(&self, shard: &mut Shard, place: &Place) {
        if let Some(kept) = shard.remove(place) {
            self.list(place, &kept.entries, &[]);
            self.rows.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
impl MemoryStore {
    /// What all rows are found by.
    pub(crate) fn places(&self) -> Vec<[u8; PLACE]> {
        let entries = self.entries.lock().unwrap();
        entries.iter().map(|(_, entry, _)| entry.place).collect()
    }

    /// Watchers are told that they have missed something.
    pub(crate) fn miss(&self) {
        self.changes.missed();
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(MEMORY_ROWS)
    }
}

fn place(key: Key<'_>) -> Place {
    (key.table, key.key.to_vec())
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
        let place = place(key);
        let shard = self.shard(&place);
        let entry = shard.get(&place).filter(|entry| now < entry.expires);
        Ok(entry.map(|entry| entry.row.clone()))
    }

    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError> {
        let key = row.key;
        let place = place(key);
        let mut shard = self.shard(&place);
        let fits = condition.is_none_or(|(expect, now)| {
            let found = shard
                .get(&place)
                .filter(|kept| now < kept.expires)
                .map(|kept| kept.row.version);
            match (expect, found) {
                (Expect::Absent, None) => true,
                (Expect::Version(expected), Some(version)) => expected == version,
                (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
            }
        });
        if fits {
            self.write_row(&mut shard, place, (row.value, row.entries), row.expires)?;
            self.changes.changed(key.table, key.key);
        }
        Ok(fits)
    }

    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
        let place = place(key);
        let mut shard = self.shard(&place);
        self.remove(&mut shard, &place);
        self.changes.changed(key.table, key.key);
        Ok(())
    }

    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let from = (table, prefix.to_vec());
            let rows = shard
                .range(from..)
                .take_while(|((in_table, key), _)| *in_table == table && key.starts_with(prefix))
                .filter(|(_, entry)| now < entry.expires)
                .take(limit)
                .map(|((_, key), entry)| (key.clone(), entry.row.clone()));
            found.extend(rows);
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.truncate(limit);
        Ok(found)
    }

    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        let mut place = [0; PLACE];
        for (to, from) in place.iter_mut().zip(by.prefix) {
            *to = *from;
        }
        let first = Entry {
            kind: by.kind,
            place,
        };
        let mut from = Bound::Included((by.table, first, Vec::new()));
        let mut handed = 0;
        loop {
            let listed: Vec<Listed> = {
                let all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                all.range((from, Bound::Unbounded))
                    .take_while(|(table, entry, _)| {
                        *table == by.table
                            && entry.kind == by.kind
                            && entry.place.starts_with(by.prefix)
                    })
                    .take(AT_ONCE)
                    .cloned()
                    .collect()
            };
            let Some(last) = listed.last().cloned() else {
                return Ok(handed);
            };
            for (table, _, key) in listed {
                if limit <= handed {
                    return Ok(handed);
                }
                let place = (table, key);
                let row = {
                    let shard = self.shard(&place);
                    let kept = shard.get(&place).filter(|kept| now < kept.expires);
                    kept.map(|kept| kept.row.clone())
                };
                if let Some(row) = row {
                    handed += 1;
                    each(&place.1, row);
                }
            }
            from = Bound::Excluded(last);
            tokio::task::yield_now().await;
        }
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let place = ("lease", name.as_bytes().to_vec());
        let mut shard = self.shard(&place);
        let free = shard
            .get(&place)
            .filter(|entry| now < entry.expires)
            .is_none_or(|entry| entry.row.value == holder.as_bytes());
        if free {
            self.write_plain(&mut shard, place, holder.as_bytes(), now + span)?;
        }
        Ok(free)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let place = ("lease", name.as_bytes().to_vec());
        let mut shard = self.shard(&place);
        let own = shard
            .get(&place)
            .is_some_and(|entry| entry.row.value == holder.as_bytes());
        if own {
            self.remove(&mut shard, &place);
        }
        Ok(())
    }

    fn watch(&self, table: &'static str) -> Watch {
        self.changes.watch(table)
    }

    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        let mut gone = 0;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|place, kept| {
                let stays = now < kept.expires;
                if !stays {
                    self.list(place, &kept.entries, &[]);
                }
                stays
            });
            gone += before - shard.len();
        }
        self.rows.fetch_sub(gone, Ordering::AcqRel);
        Ok(gone)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({} rows)", self.rows.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::a_lease_ends_with_its_span;
    use crate::store::contract::store_contract;

    #[tokio::test]
    async fn the_memory_store_keeps_the_contract() {
        store_contract(MemoryStore::default).await;
        a_lease_ends_with_its_span(MemoryStore::default()).await;
    }

    #[tokio::test]
    async fn a_full_store_refuses_new_rows_and_says_so() {
        let store = MemoryStore::new(2);
        let key = |key| Key { table: "t", key };
        let later = UnixTime::from_secs(10);
        store.put(key(b"a"), b"1", later).await.unwrap();
        store.put(key(b"b"), b"1", later).await.unwrap();
        let error = store.put(key(b"c"), b"1", later).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the store is unavailable: full: it holds 2 rows"
        );
        store.put(key(b"a"), b"2", later).await.unwrap();
        store.delete(key(b"b")).await.unwrap();
        store.put(key(b"c"), b"1", later).await.unwrap();
        assert_eq!(store.sweep(later).await.unwrap(), 2);
        store.put(key(b"d"), b"1", later).await.unwrap();
    }
}
