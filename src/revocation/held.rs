//! Which refresh tokens of our token endpoint are out, so that a revocation can say how many it ends: by what each can be
//! revoked, and nothing that says whose it is. The tokens themselves are elsewhere, sealed under themselves.

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::revocation::list::Revocations;
use crate::revocation::record::Target;
use crate::revocation::standing::Marks;
use crate::store::Key;
use crate::store::StoreError;

const TABLE: &str = "refresh_held";

/// So many are looked at: with more, a count says `at least`.
const LOOKED_AT: usize = 200_000;

impl Revocations {
    /// Notes a refresh token that is out, by the key of the row that stands behind it.
    ///
    /// # Errors
    ///
    /// When the store did not take it: it is not counted then.
    pub(crate) async fn is_out(
        &self,
        row: &[u8; 32],
        marks: &Marks,
        (began, ends): (UnixTime, UnixTime),
    ) -> Result<(), StoreError> {
        let mut value = began.as_millis().to_be_bytes().to_vec();
        for mark in marks.all() {
            value.extend(mark.as_bytes());
        }
        self.store.put(place(row), &value, ends).await
    }

    /// It is over.
    ///
    /// # Errors
    ///
    /// When the store did not take it: it is counted until it would have ended.
    pub(crate) async fn is_back(&self, row: &[u8; 32]) -> Result<(), StoreError> {
        self.store.delete(place(row)).await
    }

    /// Erases what is noted of a person's, which names nobody and still tells of them.
    ///
    /// # Errors
    ///
    /// When the store did not do all of it: it can be asked again.
    pub(crate) async fn forget_refresh_tokens(
        &self,
        person: &CanonicalSubject,
    ) -> Result<(), StoreError> {
        let (mark, now) = (Mark::person(person), self.clock.now());
        let mut all = self.store.scan(TABLE, b"", LOOKED_AT, now).await?;
        if all.len() == LOOKED_AT {
            // There are more: their names are digests, so that a part of them begins with each byte.
            for first in 0..=u8::MAX {
                all.extend(self.store.scan(TABLE, &[first], LOOKED_AT, now).await?);
            }
        }
        for (row, held) in all {
            let theirs = read(&held.value).is_some_and(|(_, marks)| marks.contains(&mark));
            if theirs {
                let key = Key {
                    table: TABLE,
                    key: &row,
                };
                self.store.delete(key).await?;
            }
        }
        Ok(())
    }

    /// How many a revocation of `target` would end, and whether there may be more.
    ///
    /// # Errors
    ///
    /// When the store gives no answer, or the target cannot exist.
    pub(crate) async fn refresh_tokens(
        &self,
        target: &Target,
    ) -> Result<(usize, bool), StoreError> {
        let ends = target.ends().map_err(StoreError::Damaged)?;
        let now = self.clock.now();
        let rows = self.store.scan(TABLE, b"", LOOKED_AT, now).await?;
        let more = rows.len() == LOOKED_AT;
        let meant = |value: &[u8]| {
            let Some((began, marks)) = read(value) else {
                return false;
            };
            let named = ends.iter().any(|mark| marks.contains(mark));
            named && !self.index.denies(&marks, Some(began), now)
        };
        let count = rows.iter().filter(|(_, row)| meant(&row.value)).count();
        Ok((count, more))
    }
}

fn read(value: &[u8]) -> Option<(UnixTime, Vec<Mark>)> {
    let (began, rest) = value.split_first_chunk()?;
    let (marks, left) = rest.as_chunks();
    let marks = marks.iter().map(|mark| Mark::from_bytes(*mark)).collect();
    let began = UnixTime::from_millis(u64::from_be_bytes(*began));
    left.is_empty().then_some((began, marks))
}

const fn place(row: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: row,
    }
}
