//! The tables of the file within one transaction: a row, what it is found by, and when it is due change together.

use redb::ReadableTable as _;
use redb::ReadableTableMetadata as _;
use redb::Table;
use redb::WriteTransaction;

use crate::clock::UnixTime;
use crate::store::Entry;
use crate::store::Expect;
use crate::store::embedded::NewPlain;
use crate::store::embedded::SWEEP_ROWS;
use crate::store::embedded::layout;
use crate::store::embedded::layout::DUE;
use crate::store::embedded::layout::ENTRIES;
use crate::store::embedded::layout::ENTRY;
use crate::store::embedded::layout::Head;
use crate::store::embedded::layout::ROWS;
use crate::store::embedded::writer::Change;
use crate::store::embedded::writer::Outcome;

pub(super) struct Tables<'t> {
    rows: Table<'t, &'static [u8], &'static [u8]>,
    due: Table<'t, &'static [u8], ()>,
    entries: Table<'t, &'static [u8; ENTRY], ()>,
    pub(super) version: u64,
    max_rows: u64,
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
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            rows: transaction.open_table(ROWS)?,
            due: transaction.open_table(DUE)?,
            entries: transaction.open_table(ENTRIES)?,
            version,
            max_rows,
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

    fn sweep(&mut self, now: UnixTime) -> Result<Outcome, redb::Error> {
        let until = layout::due_until(now);
        let mut due = Vec::new();
        for found in self.due.range::<&[u8]>(..until.as_slice())? {
            let (key, ()) = found.map(|(key, unit)| (key, unit.value()))?;
            let row = layout::due_row(key.value());
            // In the last unit there are some that have a little time left.
            let value = self.rows.get(row)?;
            let left = value.is_some_and(|value| {
                let head = Head::read(value.value());
                head.is_some_and(|head| now < head.expires)
            });
            if !left {
                due.push((key.value().to_vec(), row.to_vec()));
            }
            if SWEEP_ROWS <= due.len() {
                break;
            }
        }
        for (key, row) in &due {
            self.remove(row)?;
            // Also where its row was damaged.
            self.due.remove(&**key)?;
        }
        Ok(Outcome::Swept(due.len()))
    }
}
