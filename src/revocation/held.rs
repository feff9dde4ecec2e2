//! Which tokens of our token endpoint are out, so that a revocation can say how many it ends: by what each can be revoked, and
//! nothing that says whose it is. The tokens themselves are elsewhere, sealed under themselves.

use tracing::debug;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::revocation::handed::Handed;
use crate::revocation::list::Revocations;
use crate::revocation::record::Target;
use crate::revocation::standing::Marks;
use crate::store::Key;
use crate::store::StoreError;

/// Refresh tokens, and the tokens that clients were given for others or for themselves.
const REFRESH: &str = "refresh_held";
const ACCESS: &str = "access_held";

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
        let value = written(began, marks.all());
        self.store.put(place(REFRESH, row), &value, ends).await
    }

    /// It is over.
    ///
    /// # Errors
    ///
    /// When the store did not take it: it is counted until it would have ended.
    pub(crate) async fn is_back(&self, row: &[u8; 32]) -> Result<(), StoreError> {
        self.store.delete(place(REFRESH, row)).await
    }

    /// Notes a token that a client has, or is given. Where the store does not take it, it is not counted.
    pub(super) async fn access_is_out(&self, handed: &Handed) {
        // What does not say when it began is as old as anything.
        let began = handed.began.unwrap_or_default();
        let value = written(began, &handed.marks);
        let place = place(ACCESS, &handed.digest);
        if let Err(error) = self.store.put(place, &value, handed.ends).await {
            debug!(%error, "A token that a client is given is not counted where it is revoked.");
        }
    }

    /// It was given back.
    pub(super) async fn access_is_back(&self, digest: &[u8; 32]) {
        if let Err(error) = self.store.delete(place(ACCESS, digest)).await {
            debug!(%error, "A token that was given back is counted until it would have ended.");
        }
    }

    /// Erases what is noted of a person's, which names nobody and still tells of them.
    ///
    /// # Errors
    ///
    /// When the store did not do all of it: it can be asked again.
    pub(crate) async fn forget_tokens(&self, person: &CanonicalSubject) -> Result<(), StoreError> {
        let (mark, now) = (Mark::person(person), self.clock.now());
        for table in [REFRESH, ACCESS] {
            let mut all = self.store.scan(table, b"", LOOKED_AT, now).await?;
            if all.len() == LOOKED_AT {
                // There are more: their names are digests, so that a part of them begins with each byte.
                for first in 0..=u8::MAX {
                    all.extend(self.store.scan(table, &[first], LOOKED_AT, now).await?);
                }
            }
            for (key, held) in all {
                let theirs = read(&held.value).is_some_and(|(_, marks)| marks.contains(&mark));
                if theirs {
                    self.store.delete(Key { table, key: &key }).await?;
                }
            }
        }
        Ok(())
    }

    /// How many refresh tokens a revocation of `target` would end, and whether there may be more.
    ///
    /// # Errors
    ///
    /// When the store gives no answer, or the target cannot exist.
    pub(crate) async fn refresh_tokens(
        &self,
        target: &Target,
    ) -> Result<(usize, bool), StoreError> {
        self.count(REFRESH, target).await
    }

    /// The same of the tokens that clients were given here. What they have from a provider by themselves is not known.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn access_tokens(&self, target: &Target) -> Result<(usize, bool), StoreError> {
        self.count(ACCESS, target).await
    }

    async fn count(
        &self,
        table: &'static str,
        target: &Target,
    ) -> Result<(usize, bool), StoreError> {
        let ends = target.ends().map_err(StoreError::Damaged)?;
        let now = self.clock.now();
        let rows = self.store.scan(table, b"", LOOKED_AT, now).await?;
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

fn written(began: UnixTime, marks: &[Mark]) -> Vec<u8> {
    let began = began.as_millis().to_be_bytes();
    let marks = marks.iter().flat_map(Mark::as_bytes);
    began.iter().chain(marks).copied().collect()
}

fn read(value: &[u8]) -> Option<(UnixTime, Vec<Mark>)> {
    let (began, rest) = value.split_first_chunk()?;
    let (marks, left) = rest.as_chunks();
    let marks = marks.iter().map(|mark| Mark::from_bytes(*mark)).collect();
    let began = UnixTime::from_millis(u64::from_be_bytes(*began));
    left.is_empty().then_some((began, marks))
}

const fn place<'a>(table: &'static str, row: &'a [u8; 32]) -> Key<'a> {
    Key { table, key: row }
}
