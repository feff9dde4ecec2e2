//! The tables of the file within one transaction: a row, what it is found by, and when it is due change together.

use std::ops::Bound;

use redb::ReadableTable as _;
use redb::ReadableTableMetadata as _;
use redb::Table;
use redb::WriteTransaction;

use crate::clock::UnixTime;
use crate::store::Entry;
use crate::store::Expect;
use crate::store::embedded::NewPlain;
use crate::store::embedded::layout;
use crate::store::embedded::layout::DUE;
use crate::store::embedded::layout::ENTRIES;
use crate::store::embedded::layout::ENTRY;
use crate::store::embedded::layout::Head;
use crate::store::embedded::layout::ROWS;
use crate::store::embedded::writer::Change;
use crate::store::embedded::writer::Outcome;

/// Rows that one transaction of a sweep looks at: 2 000. Whoever writes waits for no more than these, and for 2 s at the most.
const SWEEP_ROWS: usize = 2_000;

/// How far sweeps have come. It is as good as the last commit: after a write that failed there is a new one.
#[derive(Debug)]
pub(super) struct Swept {
    /// Nothing that the sweeps have passed, and nothing that was written since, expires before this.
    soonest: UnixTime,
    /// Where the sweep that is under way goes on; `None`: none is.
    after: Option<Vec<u8>>,
    /// Rows that one transaction looks at.
    at_once: usize,
}

impl Default for Swept {
    /// Nothing was looked at yet.
    fn default() -> Self {
        Self {
            soonest: UnixTime::from_millis(0),
            after: None,
            at_once: SWEEP_ROWS,
        }
    }
}

pub(super) struct Tables<'t> {
    rows: Table<'t, &'static [u8], &'static [u8]>,
    due: Table<'t, &'static [u8], ()>,
    entries: Table<'t, &'static [u8; ENTRY], ()>,
    pub(super) version: u64,
    max_rows: u64,
    swept: &'t mut Swept,
}

/// What is left of a row that is replaced or removed.
struct Former {
    expires: UnixTime,
    entries: Vec<Entry>,
}

impl Former {
    fn of(value: &[u8]) -> Self {
        match Head::read(value) {
            Some(head) => Self {
                expires: head.expires,
                entries: head.entries().collect(),
            },
            // Damaged: it is found by its key alone.
            None => Self {
                expires: UnixTime::NEVER,
                entries: Vec::new(),
            },
        }
    }
}

impl<'t> Tables<'t> {
    /// `version`: the last that was given out.
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        version: u64,
        max_rows: u64,
        swept: &'t mut Swept,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            rows: transaction.open_table(ROWS)?,
            due: transaction.open_table(DUE)?,
            entries: transaction.open_table(ENTRIES)?,
            version,
            max_rows,
            swept,
        })
    }

    pub(super) fn change(&mut self, change: &Change) -> Result<Outcome, redb::Error> {
        match change {
            Change::Write {
                table,
                key,
                value,
                entries,
                expires,
                condition,
            } => {
                let row = layout::row_key(table, key);
                if let Some((expect, now)) = condition
                    && !self.fits(&row, *expect, *now)?
                {
                    return Ok(Outcome::Unexpected);
                }
                self.put(&row, value, entries, *expires)
            }
            Change::Both { rows, expires, now } => self.both(rows, *expires, *now),
            Change::Delete { table, key } => {
                self.remove(&layout::row_key(table, key))?;
                Ok(Outcome::Written)
            }
            Change::Lease {
                name,
                holder,
                expires,
                now,
            } => {
                let row = layout::row_key("lease", name);
                let found = self.live(&row, *now)?;
                if found.is_none_or(|(_, other)| other == **holder) {
                    self.put(&row, holder, &[], *expires)
                } else {
                    Ok(Outcome::Unexpected)
                }
            }
            Change::Release { name, holder } => {
                let row = layout::row_key("lease", name);
                let found = self.rows.get(&*row)?;
                let own = found.is_some_and(|found| {
                    let head = Head::read(found.value());
                    head.is_some_and(|head| head.content == &**holder)
                });
                if own {
                    self.remove(&row)?;
                }
                Ok(Outcome::Written)
            }
            Change::Sweep { now } => self.sweep(*now),
        }
    }

    /// The version and content of a row, unless it has expired.
    fn live(&self, row: &[u8], now: UnixTime) -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
        let found = self.rows.get(row)?;
        Ok(found.and_then(|found| {
            let head = Head::read(found.value()).filter(|head| now < head.expires)?;
            Some((head.version, head.content.to_vec()))
        }))
    }

    fn fits(&self, row: &[u8], expect: Expect, now: UnixTime) -> Result<bool, redb::Error> {
        let found = self.live(row, now)?.map(|(version, _)| version);
        Ok(match (expect, found) {
            (Expect::Absent, None) => true,
            (Expect::Version(expected), Some(version)) => expected == version,
            (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
        })
    }

    fn both(
        &mut self,
        rows: &[NewPlain; 2],
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<Outcome, redb::Error> {
        for (table, key, _) in rows {
            if self.live(&layout::row_key(table, key), now)?.is_some() {
                return Ok(Outcome::Unexpected);
            }
        }
        // Room for one of them is none.
        if self.max_rows < self.rows.len()? + 2 {
            return Ok(Outcome::Full);
        }
        for (table, key, value) in rows {
            self.put(&layout::row_key(table, key), value, &[], expires)?;
        }
        Ok(Outcome::Written)
    }

    /// Writes a row in place of the former one.
    pub(super) fn put(
        &mut self,
        row: &[u8],
        content: &[u8],
        entries: &[Entry],
        expires: UnixTime,
    ) -> Result<Outcome, redb::Error> {
        let former = self.rows.get(row)?.map(|found| Former::of(found.value()));
        if former.is_none() && self.max_rows <= self.rows.len()? {
            return Ok(Outcome::Full);
        }
        self.version += 1;
        self.swept.soonest = self.swept.soonest.min(expires);
        let value = layout::value(expires, self.version, entries, content);
        self.rows.insert(row, &*value)?;
        let before = former.as_ref().map(|former| former.expires);
        self.due_again(row, before, Some(expires))?;
        let before = former.map(|former| former.entries).unwrap_or_default();
        for gone in before.iter().filter(|entry| !entries.contains(entry)) {
            self.entries.remove(&layout::entry_key(*gone, row))?;
        }
        for new in entries.iter().filter(|entry| !before.contains(entry)) {
            self.entries.insert(&layout::entry_key(*new, row), ())?;
        }
        Ok(Outcome::Written)
    }

    fn remove(&mut self, row: &[u8]) -> Result<(), redb::Error> {
        let former = self
            .rows
            .remove(row)?
            .map(|found| Former::of(found.value()));
        let Some(former) = former else {
            return Ok(());
        };
        self.due_again(row, Some(former.expires), None)?;
        for gone in former.entries {
            self.entries.remove(&layout::entry_key(gone, row))?;
        }
        Ok(())
    }

    /// Notes when a row is due that was due at another time.
    fn due_again(
        &mut self,
        row: &[u8],
        before: Option<UnixTime>,
        now: Option<UnixTime>,
    ) -> Result<(), redb::Error> {
        let is_due = |expires: &UnixTime| *expires != UnixTime::NEVER;
        let (before, now) = (before.filter(is_due), now.filter(is_due));
        if before.map(layout::unit) == now.map(layout::unit) {
            return Ok(());
        }
        if let Some(before) = before {
            self.due.remove(&*layout::due_key(before, row))?;
        }
        if let Some(now) = now {
            self.due.insert(&*layout::due_key(now, row), ())?;
        }
        Ok(())
    }

    /// Removes what has expired, of some rows: those that come next. What was looked at and has time left is not looked at again
    /// before some of it can have expired.
    fn sweep(&mut self, now: UnixTime) -> Result<Outcome, redb::Error> {
        let after = self.swept.after.take();
        if after.is_none() {
            if now < self.swept.soonest {
                return Ok(Outcome::Swept {
                    rows: 0,
                    more: false,
                });
            }
            self.swept.soonest = UnixTime::NEVER;
        }
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let until = layout::due_until(now);
        let mut gone = Vec::new();
        let listed = self.due.range::<&[u8]>((from, Bound::Unbounded))?;
        for (looked_at, found) in listed.enumerate() {
            let (key, ()) = found.map(|(key, unit)| (key, unit.value()))?;
            let key = key.value();
            if until.as_slice() <= key {
                let later = layout::due_no_earlier(key);
                self.swept.soonest = self.swept.soonest.min(later);
                break;
            }
            let row = layout::due_row(key);
            let value = self.rows.get(row)?;
            let head = value.as_ref().and_then(|value| Head::read(value.value()));
            // In the last unit there are some that have a little time left.
            match head.map(|head| head.expires).filter(|ends| now < *ends) {
                Some(ends) => self.swept.soonest = self.swept.soonest.min(ends),
                None => gone.push((key.to_vec(), row.to_vec())),
            }
            if self.swept.at_once <= looked_at + 1 {
                self.swept.after = Some(key.to_vec());
                break;
            }
        }
        for (key, row) in &gone {
            self.remove(row)?;
            // Also where its row was damaged.
            self.due.remove(&**key)?;
        }
        Ok(Outcome::Swept {
            rows: gone.len(),
            more: self.swept.after.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::Database;
    use redb::backends::InMemoryBackend;

    const AT_ONCE: usize = 3;

    struct Rows {
        database: Database,
        swept: Swept,
    }

    impl Rows {
        fn new() -> Self {
            let database = Database::builder().create_with_backend(InMemoryBackend::new());
            let swept = Swept {
                at_once: AT_ONCE,
                ..Swept::default()
            };
            Self {
                database: database.unwrap(),
                swept,
            }
        }

        fn change<T>(&mut self, change: impl FnOnce(&mut Tables<'_>) -> T) -> T {
            let transaction = self.database.begin_write().unwrap();
            let mut tables = Tables::open(&transaction, 0, 1_000, &mut self.swept).unwrap();
            let done = change(&mut tables);
            drop(tables);
            transaction.commit().unwrap();
            done
        }

        fn put(&mut self, name: u8, millis: u64) {
            let expires = UnixTime::from_millis(millis);
            self.change(|tables| tables.put(&[0, name], b"", &[], expires).unwrap());
        }

        /// How many rows have gone, and how many transactions it took.
        fn sweep(&mut self, millis: u64) -> (usize, usize) {
            let now = UnixTime::from_millis(millis);
            let mut all = 0;
            for took in 1.. {
                let Outcome::Swept { rows, more } = self.change(|t| t.sweep(now).unwrap()) else {
                    panic!("swept");
                };
                all += rows;
                if !more {
                    return (all, took);
                }
            }
            unreachable!("there is an end");
        }
    }

    #[test]
    fn a_sweep_goes_on_where_it_stopped_and_looks_at_nothing_twice_in_vain() {
        let mut rows = Rows::new();
        // One unit: ten with time left, four that have expired, in turns.
        for n in 0..14 {
            rows.put(n, if n % 4 == 1 { 1_000 } else { 60_000 });
        }
        // And one of a later unit, which waits for its time.
        rows.put(100, 640_000);
        let all = 14_usize.div_ceil(AT_ONCE);
        assert_eq!(rows.sweep(1_000), (4, all), "each is looked at once");
        assert_eq!(rows.sweep(1_000), (0, 1), "nothing is looked at");
        assert_eq!(rows.sweep(59_999), (0, 1), "nor before it can have expired");
        // What is written meanwhile ends in its time, wherever it lies.
        rows.put(0, 30_000);
        rows.put(200, 40_000);
        assert_eq!(rows.sweep(29_999), (0, 1));
        assert_eq!(rows.sweep(30_000).0, 1);
        assert_eq!(rows.sweep(40_000).0, 1);
        assert_eq!(rows.sweep(60_000).0, 9);
        assert_eq!(rows.sweep(639_999).0, 0);
        assert_eq!(rows.sweep(640_000).0, 1);
    }

    #[test]
    fn what_is_written_behind_a_sweep_that_is_under_way_is_found_by_the_next() {
        let mut rows = Rows::new();
        for n in 10..20 {
            rows.put(n, 60_000);
        }
        let now = UnixTime::from_millis(1_000);
        let swept = rows.change(|tables| tables.sweep(now).unwrap());
        assert!(matches!(
            swept,
            Outcome::Swept {
                rows: 0,
                more: true
            }
        ));
        rows.put(1, 2_000);
        assert_eq!(rows.sweep(3_000).0, 0, "the rest of that sweep");
        assert_eq!(rows.sweep(3_000).0, 1);
        assert_eq!(rows.sweep(60_000).0, 10);
    }
}
