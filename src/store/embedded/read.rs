//! Looks into the file, at what was committed last.

use std::ops::Bound;

use redb::Database;
use redb::ReadOnlyTable;
use redb::ReadableDatabase as _;

use crate::clock::UnixTime;
use crate::store::By;
use crate::store::Each;
use crate::store::Key;
use crate::store::Row;
use crate::store::StoreError;
use crate::store::embedded::layout;
use crate::store::embedded::layout::ENTRIES;
use crate::store::embedded::layout::ENTRY;
use crate::store::embedded::layout::Head;
use crate::store::embedded::layout::ROWS;

/// Entries that are looked at before others have their turn: 64.
const AT_ONCE: usize = 64;

/// The outer error is the file's: it is opened again. The inner one is that of a row.
type Looked<T> = Result<Result<T, StoreError>, redb::Error>;

/// The tables as of the last commit: to find them anew for each look costs several times the look.
pub(super) struct Read {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    entries: ReadOnlyTable<&'static [u8; ENTRY], ()>,
}

impl Read {
    pub(super) fn now(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        Ok(Self {
            rows: transaction.open_table(ROWS)?,
            entries: transaction.open_table(ENTRIES)?,
        })
    }

    pub(super) fn get(&self, key: Key<'_>, now: UnixTime) -> Looked<Option<Row>> {
        let found = self.rows.get(&*layout::row_key(key.table, key.key))?;
        Ok(found.map_or(Ok(None), |found| live(found.value(), now)))
    }

    pub(super) fn scan(
        &self,
        (table, prefix): (&str, &[u8]),
        limit: usize,
        now: UnixTime,
    ) -> Looked<Vec<(Vec<u8>, Row)>> {
        let mut found = Vec::new();
        let from = layout::row_key(table, prefix);
        for row in self.rows.range(&*from..)? {
            let (place, value) = row?;
            if !place.value().starts_with(&from) || limit <= found.len() {
                break;
            }
            let key = layout::own_key(place.value());
            match live(value.value(), now) {
                Ok(row) => found.extend(row.map(|row| (key.to_vec(), row))),
                Err(damaged) => return Ok(Err(damaged)),
            }
        }
        Ok(Ok(found))
    }

    /// Hands over some rows, at most `most`, whose entries come `after` one.
    pub(super) fn find(
        &self,
        by: By<'_>,
        (after, most): (Option<[u8; ENTRY]>, usize),
        now: UnixTime,
        each: Each<'_>,
    ) -> Looked<Part> {
        let mut part = Part::default();
        let (first, begin) = layout::entries_from(by.table, by.kind, by.prefix);
        let from = match &after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(&first),
        };
        let listed = self
            .entries
            .range::<&[u8; ENTRY]>((from, Bound::Unbounded))?;
        for (looked_at, listed) in listed.enumerate() {
            let (listed, _) = listed?;
            let listed = listed.value();
            if !listed.starts_with(&begin) || most <= part.handed {
                return Ok(Ok(part.done()));
            }
            if AT_ONCE <= looked_at {
                return Ok(Ok(part));
            }
            part.last = Some(*listed);
            let (entry, of) = layout::entry_of(listed, by.table);
            // One row, unless the beginnings of two digests are the same.
            for row in self.rows.range(&*of..)? {
                let (place, value) = row?;
                if !place.value().starts_with(&of) {
                    break;
                }
                let head = Head::read(value.value());
                if !head.is_some_and(|head| head.entries().any(|own| own == entry)) {
                    continue;
                }
                match live(value.value(), now) {
                    Ok(Some(row)) => {
                        part.handed += 1;
                        each(layout::own_key(place.value()), row);
                    }
                    Ok(None) => {}
                    Err(damaged) => return Ok(Err(damaged)),
                }
            }
        }
        Ok(Ok(part.done()))
    }
}

/// What was handed over of what was asked for.
#[derive(Default)]
pub(super) struct Part {
    /// How many rows.
    pub(super) handed: usize,
    /// The last entry that was looked at; `None`: there are no more.
    pub(super) last: Option<[u8; ENTRY]>,
}

impl Part {
    fn done(self) -> Self {
        Self { last: None, ..self }
    }
}

/// A row that has not expired. What cannot be a row is no absent one.
fn live(value: &[u8], now: UnixTime) -> Result<Option<Row>, StoreError> {
    let damaged = || StoreError::Damaged(String::from("a row without a head"));
    let head = Head::read(value).ok_or_else(damaged)?;
    Ok((now < head.expires).then(|| Row {
        value: head.content.to_vec(),
        version: head.version,
    }))
}
