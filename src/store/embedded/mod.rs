//! A store in a file: rows survive the process, and whatever was acknowledged survives a crash.
//!
//! Reads look into the file's cache where they are asked, at what was committed last. Writes go through one thread, which
//! commits what has gathered in one durable transaction; a write returns when that transaction is on the disk. While several
//! write at once, a millisecond is waited for more of them. The file is locked: one process at a time.

mod closing;
mod fresh;
mod layout;
mod opening;
mod read;
mod tables;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::channel;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tracing::warn;

use crate::clock::UnixTime;
use crate::store::By;
use crate::store::Each;
use crate::store::Expect;
use crate::store::Key;
use crate::store::NewRow;
use crate::store::Row;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;
use crate::store::embedded::closing::CLOSING;
use crate::store::embedded::opening::OpenError;
use crate::store::embedded::opening::Opened;
use crate::store::embedded::opening::Source;
use crate::store::embedded::read::Read;
use crate::store::embedded::writer::Change;
use crate::store::embedded::writer::Job;
use crate::store::embedded::writer::Outcome;
use crate::store::watch::Changes;

/// A row without entries: its table, its key, its value.
type NewPlain = (&'static str, Box<[u8]>, Box<[u8]>);

/// Writes that wait for the writer: 1 024. One more is refused at once.
const QUEUE: usize = 1_024;
/// A write that is not on the disk after 2 s is answered as an outage. It may still happen.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// Rows in a file.
pub(crate) struct EmbeddedStore {
    file: Arc<File>,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    /// Ends with the writer.
    closed: std::sync::Mutex<Receiver<()>>,
}

/// The open file. After a failed write it is closed and opened again: only so does it become usable.
struct File {
    source: Source,
    database: RwLock<Option<Opened>>,
    max_rows: u64,
    changes: Changes,
}

impl EmbeddedStore {
    /// Opens or makes the file (mode 0600), for at most `max_rows` rows: with more, writes of new rows are refused.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A file that is not understood is never overwritten.
    pub(crate) fn open(path: &Path, max_rows: usize) -> Result<Self, OpenError> {
        Self::with(Source::at(path), max_rows)
    }

    fn with(source: Source, max_rows: usize) -> Result<Self, OpenError> {
        let database = (source.open)()?;
        let file = Arc::new(File {
            source,
            database: RwLock::new(Some(database)),
            max_rows: u64::try_from(max_rows).unwrap_or(u64::MAX),
            changes: Changes::new(),
        });
        let (jobs, due) = sync_channel(QUEUE);
        let (ends, closed) = channel();
        let writer = thread::Builder::new()
            .name(String::from("store"))
            .spawn({
                let file = Arc::clone(&file);
                move || {
                    writer::run(&file, &due);
                    closing::close(&file);
                    drop(file);
                    drop(ends);
                }
            })
            .map_err(|error| OpenError::Broken(error.to_string()))?;
        Ok(Self {
            file,
            jobs: Some(jobs),
            writer: Some(writer),
            closed: std::sync::Mutex::new(closed),
        })
    }

    async fn change(&self, change: Change) -> Result<Outcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(|| away("closed"))?;
        jobs.try_send(Job { change, answer })
            .map_err(|error| match error {
                TrySendError::Full(_) => away("too many writes wait"),
                TrySendError::Disconnected(_) => away("the writer is gone"),
            })?;
        match tokio::time::timeout(WRITE_WAIT, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(away("the writer is gone")),
            Err(_) => Err(StoreError::Timeout),
        }
    }
}

impl File {
    fn read<T>(
        &self,
        look: impl FnOnce(&Read) -> Result<Result<T, StoreError>, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let opened = database
            .as_ref()
            .ok_or_else(|| away("the file is being opened again"))?;
        look(&opened.read.load()).map_err(|error| away(&error.to_string()))?
    }
}

fn away(why: &str) -> StoreError {
    StoreError::Unavailable(why.to_owned())
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
        self.file.read(|read| read.get(key, now))
    }

    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError> {
        let change = Change::Write {
            table: row.key.table,
            key: row.key.key.into(),
            value: row.value.into(),
            entries: row.entries.into(),
            expires: row.expires,
            condition,
        };
        Ok(matches!(self.change(change).await?, Outcome::Written))
    }

    async fn put_both(
        &self,
        rows: [(Key<'_>, &[u8]); 2],
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<Option<bool>, StoreError> {
        let change = Change::Both {
            rows: rows.map(|(key, value)| (key.table, key.key.into(), value.into())),
            expires,
            now,
        };
        Ok(Some(matches!(self.change(change).await?, Outcome::Written)))
    }

    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
        let change = Change::Delete {
            table: key.table,
            key: key.key.into(),
        };
        self.change(change).await.map(|_| ())
    }

    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
        self.file
            .read(|read| read.scan((table, prefix), limit, now))
    }

    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        let (mut handed, mut after) = (0, None);
        while handed < limit {
            let most = limit - handed;
            let part = self
                .file
                .read(|read| read.find(by, (after, most), now, each))?;
            handed += part.handed;
            after = part.last;
            if after.is_none() {
                break;
            }
            // Whoever else is served by this thread has a turn, and what was committed meanwhile is seen.
            tokio::task::yield_now().await;
        }
        Ok(handed)
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let change = Change::Lease {
            name: name.as_bytes().into(),
            holder: holder.as_bytes().into(),
            expires: now + span,
            now,
        };
        Ok(matches!(self.change(change).await?, Outcome::Written))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let change = Change::Release {
            name: name.as_bytes().into(),
            holder: holder.as_bytes().into(),
        };
        self.change(change).await.map(|_| ())
    }

    fn watch(&self, table: &'static str) -> Watch {
        self.file.changes.watch(table)
    }

    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        let mut gone = 0;
        loop {
            let swept = self.change(Change::Sweep { now }).await?;
            let Outcome::Swept { rows, more } = swept else {
                return Ok(gone);
            };
            gone += rows;
            if !more {
                return Ok(gone);
            }
        }
    }

    fn is_durable(&self) -> bool {
        true
    }
}

impl Drop for EmbeddedStore {
    /// Ends the writer, so that the file is free once this returns; one that takes too long is left to the end of the process,
    /// as a crash would leave it.
    fn drop(&mut self) {
        drop(self.jobs.take());
        let closed = self
            .closed
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        match (closed.recv_timeout(CLOSING), self.writer.take()) {
            (Ok(()) | Err(RecvTimeoutError::Disconnected), Some(writer)) => drop(writer.join()),
            (Ok(()) | Err(RecvTimeoutError::Disconnected), None) => {}
            (Err(RecvTimeoutError::Timeout), _) => {
                warn!(
                    "The store's file is not closed in time; the next start goes through it as after a crash."
                );
            }
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedStore")
    }
}

#[cfg(test)]
impl EmbeddedStore {
    /// What keys and values take, and what their pages take: of rows, of when they are due, of entries.
    pub(crate) fn bytes(&self) -> [(u64, u64); 3] {
        use redb::ReadableDatabase as _;
        use redb::ReadableTableMetadata as _;
        let database = self.file.database.read().unwrap();
        let transaction = database.as_ref().unwrap().database.begin_read().unwrap();
        let rows = transaction.open_table(layout::ROWS).unwrap();
        let due = transaction.open_table(layout::DUE).unwrap();
        let entries = transaction.open_table(layout::ENTRIES).unwrap();
        let all = [rows.stats(), due.stats(), entries.stats()];
        all.map(|stats| {
            let stats = stats.unwrap();
            let unused = stats.metadata_bytes() + stats.fragmented_bytes();
            (stats.stored_bytes(), stats.stored_bytes() + unused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;
    use crate::store::PLACE;
    use crate::store::contract::a_lease_ends_with_its_span;
    use crate::store::contract::store_contract;
    use crate::store::embedded::closing::SPARED;
    use crate::store::embedded::layout::META;
    use crate::store::embedded::layout::SCHEMA;
    use crate::store::embedded::opening::checked;
    use redb::Database;
    use redb::StorageBackend;
    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    const LATER: UnixTime = UnixTime::from_secs(10);
    const NOW: UnixTime = UnixTime::from_secs(1);

    const fn key(key: &[u8]) -> Key<'_> {
        Key { table: "t", key }
    }

    /// A disk that forgets what was not synced when the power goes, and which may be full.
    #[derive(Clone, Debug, Default)]
    struct Disk(Arc<Platters>);

    #[derive(Debug, Default)]
    struct Platters {
        written: Mutex<Vec<u8>>,
        synced: Mutex<Vec<u8>>,
        full: AtomicBool,
        /// What is found after an end at any of these moments, if it is noted: killed, or without power.
        moments: Mutex<Option<Vec<Vec<u8>>>>,
    }

    impl Disk {
        fn of(bytes: Vec<u8>) -> Self {
            Self(Arc::new(Platters {
                written: Mutex::new(bytes.clone()),
                synced: Mutex::new(bytes),
                ..Platters::default()
            }))
        }

        fn note(&self) {
            if let Some(moments) = &mut *self.0.moments.lock().unwrap() {
                moments.push(self.0.written.lock().unwrap().clone());
            }
        }

        /// What is found after the power has come back.
        fn after_a_crash(&self) -> Self {
            Self::of(self.0.synced.lock().unwrap().clone())
        }

        fn store(&self) -> EmbeddedStore {
            EmbeddedStore::with(self.source(), 1_000).unwrap()
        }

        fn source(&self) -> Source {
            let (disk, same) = (self.clone(), self.clone());
            Source {
                open: Box::new(move || checked(&mut Database::builder(), disk.clone())),
                length: Box::new(move || same.0.written.lock().unwrap().len() as u64),
                spared: 0,
            }
        }

        fn check_room(&self) -> io::Result<()> {
            match self.0.full.load(SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(offset).unwrap();
        start..start + length
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.written.lock().unwrap().len() as u64)
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let written = self.0.written.lock().unwrap();
            let part = written
                .get(range(offset, out.len()))
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(part);
            Ok(())
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check_room()?;
            self.0
                .written
                .lock()
                .unwrap()
                .resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        }
        fn sync_data(&self) -> io::Result<()> {
            self.check_room()?;
            *self.0.synced.lock().unwrap() = self.0.written.lock().unwrap().clone();
            self.note();
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check_room()?;
            self.0.written.lock().unwrap()[range(offset, data.len())].copy_from_slice(data);
            self.note();
            Ok(())
        }
        fn try_lock_range(
            &self,
            _start: std::ops::Bound<u64>,
            _end: std::ops::Bound<u64>,
        ) -> Result<bool, redb::BackendError> {
            Ok(true)
        }
    }

    fn at(directory: &tempfile::TempDir) -> Result<EmbeddedStore, OpenError> {
        EmbeddedStore::open(&directory.path().join("state.redb"), 1_000)
    }

    #[tokio::test]
    async fn the_embedded_store_keeps_the_contract() {
        store_contract(|| Disk::default().store()).await;
        a_lease_ends_with_its_span(Disk::default().store()).await;
    }

    #[tokio::test]
    async fn rows_survive_the_process_and_versions_go_on() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let store = at(&directory).unwrap();
        store.put(key(b"a"), b"one", LATER).await.unwrap();
        let first = store.get(key(b"a"), NOW).await.unwrap().unwrap();
        drop(store);
        let store = at(&directory).unwrap();
        assert_eq!(store.get(key(b"a"), NOW).await.unwrap().unwrap(), first);
        store.put(key(b"b"), b"two", LATER).await.unwrap();
        assert!(first.version < store.get(key(b"b"), NOW).await.unwrap().unwrap().version);
        let mode = std::fs::metadata(directory.path().join("state.redb"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn many_who_write_at_once_share_transactions_and_each_finds_what_it_wrote() {
        let disk = Disk::default();
        let store = Arc::new(disk.store());
        for _ in 0..3 {
            let mut all = tokio::task::JoinSet::new();
            for n in 0..40_u8 {
                let store = Arc::clone(&store);
                all.spawn(async move {
                    let (one, two) = ([b'a', n], [b'p', n]);
                    let rows = [(key(&one), one.as_slice()), (key(&two), &two)];
                    let written = store.put_both(rows, LATER, NOW).await.unwrap();
                    for row in [&one, &two] {
                        let found = store.get(key(row), NOW).await.unwrap();
                        assert_eq!(found.unwrap().value, row);
                    }
                    written
                });
            }
            let first = all.join_all().await;
            let rows = store.scan("t", b"a", 100, NOW).await.unwrap();
            assert!(rows.len() == 40 && first.iter().all(|said| *said == first[0]));
        }
        let found = disk.after_a_crash().store();
        assert_eq!(found.scan("t", b"", 100, NOW).await.unwrap().len(), 80);
    }

    #[tokio::test]
    async fn one_process_has_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let store = at(&directory).unwrap();
        assert!(matches!(at(&directory), Err(OpenError::InUse)));
        drop(store);
        assert!(at(&directory).is_ok());
    }

    #[tokio::test]
    async fn what_was_acknowledged_survives_a_crash_at_any_moment() {
        let disk = Disk::default();
        let store = disk.store();
        for n in 0..40_u8 {
            store.put(key(&[n]), &[n], LATER).await.unwrap();
            if n % 3 == 0 {
                store.delete(key(&[n])).await.unwrap();
            }
            let found = disk.after_a_crash().store();
            for earlier in 0..=n {
                let row = found.get(key(&[earlier]), NOW).await.unwrap();
                assert_eq!(
                    row.map(|row| row.value),
                    (earlier % 3 != 0).then(|| vec![earlier]),
                    "{n}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_row_and_what_it_is_found_by_survive_a_crash_together() {
        let disk = Disk::default();
        let store = disk.store();
        for n in 0..20_u8 {
            let (digest, entry) = ([n; 32], |kind, n| Entry {
                kind,
                place: [n; PLACE],
            });
            let row = NewRow {
                key: key(&digest),
                value: &[n],
                entries: &[entry(0, n), entry(1, 7)],
                expires: LATER,
            };
            store.write(row, None).await.unwrap();
            if n % 3 == 0 {
                store.delete(key(&digest)).await.unwrap();
            }
            let found = disk.after_a_crash().store();
            let by = |kind, prefix| By {
                table: "t",
                kind,
                prefix,
            };
            let rows = found.scan("t", b"", 100, NOW).await.unwrap();
            for by in [by(0, b""), by(1, &[7])] {
                let mut same = Vec::new();
                let each: Each<'_> = &mut |key, row| same.push((key.to_vec(), row));
                found.find(by, 100, NOW, each).await.unwrap();
                assert_eq!(same, rows);
            }
            assert_eq!(
                rows.len(),
                usize::from(n) + 1 - usize::from(n / 3 + 1),
                "{n}"
            );
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_outage_that_ends_when_there_is_room() {
        let disk = Disk::default();
        let store = disk.store();
        store.put(key(b"a"), b"one", LATER).await.unwrap();
        disk.0.full.store(true, SeqCst);
        assert!(store.put(key(b"b"), b"two", LATER).await.is_err());
        disk.0.full.store(false, SeqCst);
        store.put(key(b"c"), b"three", LATER).await.unwrap();
        assert_eq!(
            store.get(key(b"a"), NOW).await.unwrap().unwrap().value,
            b"one"
        );
        assert_eq!(store.get(key(b"b"), NOW).await.unwrap(), None);
        assert!(
            disk.after_a_crash()
                .store()
                .get(key(b"c"), NOW)
                .await
                .unwrap()
                .is_some()
        );
    }

    #[tokio::test]
    async fn a_full_store_refuses_new_rows_and_says_so() {
        let disk = Disk::default();
        let store = EmbeddedStore::with(disk.source(), 2).unwrap();
        store.put(key(b"a"), b"1", LATER).await.unwrap();
        store.put(key(b"b"), b"1", LATER).await.unwrap();
        let error = store.put(key(b"c"), b"1", LATER).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the store is unavailable: full: it holds 2 rows"
        );
        let swapped = store
            .compare_and_swap(key(b"c"), Expect::Absent, b"1", LATER, NOW)
            .await;
        assert!(swapped.is_err(), "not to be taken for a lost race");
        store.put(key(b"a"), b"2", LATER).await.unwrap();
        store.delete(key(b"b")).await.unwrap();
        let rows = [(key(b"c"), b"1".as_slice()), (key(b"d"), b"1")];
        let both = store.put_both(rows, LATER, NOW).await;
        assert!(matches!(both, Err(StoreError::Full(_))));
        assert_eq!(store.get(key(b"c"), NOW).await.unwrap(), None, "neither");
        store.put(key(b"b"), b"1", LATER).await.unwrap();
        assert_eq!(store.sweep(LATER).await.unwrap(), 2);
        store.put(key(b"c"), b"1", LATER).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_of_another_kind_or_schema_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        std::fs::write(&path, "not a store").unwrap();
        assert!(matches!(at(&directory), Err(OpenError::Broken(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"not a store");
        std::fs::remove_file(&path).unwrap();
        drop(at(&directory).unwrap());
        for other in [SCHEMA - 1, SCHEMA + 1] {
            let database = Database::open(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction
                .open_table(META)
                .unwrap()
                .insert("schema", other)
                .unwrap();
            transaction.commit().unwrap();
            drop(database);
            let refused = at(&directory).unwrap_err();
            let said = refused.to_string();
            let (words, goes): (_, &[&str]) = match refused {
                OpenError::Earlier(found) if found < SCHEMA => (
                    "run the version that wrote it, or delete",
                    &[
                        "sessions",
                        "revocations",
                        "links",
                        "moved",
                        "refresh tokens",
                    ],
                ),
                OpenError::Later(found) if SCHEMA < found => ("run that one", &[]),
                other => panic!("{other}"),
            };
            assert!(said.contains(words), "{said}");
            assert!(goes.iter().all(|goes| said.contains(goes)), "{said}");
            assert_eq!(said.contains("delete"), other < SCHEMA, "{said}");
            assert!(said.contains(&format!("schema {other},")), "{said}");
        }
    }

    #[tokio::test]
    async fn a_row_that_was_renewed_is_not_swept_with_its_old_expiry() {
        let store = Disk::default().store();
        store
            .put(key(b"a"), b"", UnixTime::from_secs(5))
            .await
            .unwrap();
        store.put(key(b"a"), b"", LATER).await.unwrap();
        store.put(key(b"b"), b"", UnixTime::NEVER).await.unwrap();
        assert_eq!(store.sweep(UnixTime::from_secs(5)).await.unwrap(), 0);
        assert_eq!(store.sweep(LATER).await.unwrap(), 1);
        assert!(store.get(key(b"b"), LATER).await.unwrap().is_some());
    }

    /// A store that was full, and is half empty.
    async fn half_empty(disk: &Disk) -> EmbeddedStore {
        half_empty_in(disk.store()).await
    }

    async fn half_empty_in(store: EmbeddedStore) -> EmbeddedStore {
        let value = [7; 2_000];
        for n in 0..80_u8 {
            store.put(key(&[n]), &value, LATER).await.unwrap();
        }
        for n in (0..80_u8).filter(|n| n % 4 != 0) {
            store.delete(key(&[n])).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_stop_makes_a_file_shorter_of_which_a_good_part_is_free() {
        let disk = Disk::default();
        let store = half_empty(&disk).await;
        let length = || disk.0.written.lock().unwrap().len();
        let before = length();
        drop(store);
        let after = length();
        assert!(after < before / 3 * 2, "{before} {after}");
        // What is free at its end is cut off without that.
        let plain = Disk::default();
        let source = Source {
            spared: SPARED,
            ..plain.source()
        };
        drop(half_empty_in(EmbeddedStore::with(source, 1_000).unwrap()).await);
        let plain = plain.0.written.lock().unwrap().len();
        assert!(after < plain, "{plain} {after}");
        let store = disk.store();
        assert_eq!(store.scan("t", b"", 999, NOW).await.unwrap().len(), 20);
        // There is nothing more to gain, but for a page or two.
        drop(store);
        assert!(length() <= after && after / 2 < length());
    }

    #[tokio::test]
    async fn a_stop_takes_no_time_for_a_small_file() {
        let disk = Disk::default();
        drop(half_empty(&disk).await);
        let length = disk.0.written.lock().unwrap().len();
        let disk = Disk::default();
        let source = Source {
            spared: SPARED,
            ..disk.source()
        };
        let store = half_empty_in(EmbeddedStore::with(source, 1_000).unwrap()).await;
        drop(store);
        assert!(length < disk.0.written.lock().unwrap().len());
    }

    #[tokio::test]
    async fn whoever_ends_a_stop_in_the_middle_loses_nothing() {
        let disk = Disk::default();
        let store = half_empty(&disk).await;
        let rows = store.scan("t", b"", 999, NOW).await.unwrap();
        *disk.0.moments.lock().unwrap() = Some(Vec::new());
        drop(store);
        let moments = disk.0.moments.lock().unwrap().take().unwrap();
        assert!(10 < moments.len(), "{}", moments.len());
        for (n, moment) in moments.into_iter().enumerate() {
            let store = Disk::of(moment).store();
            let found = store.scan("t", b"", 999, NOW).await.unwrap();
            assert_eq!(found, rows, "at moment {n}");
            store.put(key(b"more"), b"", LATER).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stop_does_not_try_again_what_did_not_end() {
        // The moments of one stop.
        async fn stop(disk: &Disk, store: EmbeddedStore) -> Vec<Vec<u8>> {
            *disk.0.moments.lock().unwrap() = Some(Vec::new());
            drop(store);
            disk.0.moments.lock().unwrap().take().unwrap()
        }
        let disk = Disk::default();
        let moments = stop(&disk, half_empty(&disk).await).await;
        let killed = Disk::of(moments[moments.len() / 2].clone());
        let again = stop(&killed, killed.store()).await;
        assert!(again.len() < moments.len() / 2, "{}", again.len());
        // Nor does the one after it, although that one got to its end.
        let third = stop(&killed, killed.store()).await;
        assert!(third.len() < moments.len() / 2, "{}", third.len());
        // One that did end is tried again when there is something to gain.
        let more = stop(&disk, half_empty(&disk).await).await;
        assert!(moments.len() / 2 < more.len(), "{}", more.len());
    }
}
