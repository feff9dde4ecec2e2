//! What upstreams got that was made of somebody's credential: it ends with that, wherever somebody brings it back here; where
//! another session has taken the place of one, with that one, too.

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::revocation::handed::HandOut;
use crate::revocation::list::Revocations;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// Of which sessions something was made, until when that may live, and in whose place they are.
const TABLE: &str = "made_of_sessions";

/// Sessions, one in the place of the other, of which something made may still live, that are remembered. What was made of the first ones of more
/// ends: nobody would end it with the last.
const MOST: usize = 64;

/// How often a row is tried that others are faster with.
const TRIES: usize = 8;

impl Revocations {
    /// Notes what an upstream gets, before it gets it, with all that ends what it was made of. `session`: that is one of ours.
    ///
    /// # Errors
    ///
    /// When the store did not take it: then it lives as long as it says itself.
    pub(crate) async fn notes_made(
        &self,
        token: HandOut<'_>,
        session: Option<&[u8; 32]>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let until = token.until();
        // One that is over already is nothing that could be made better: whoever asked is told by what it rests on.
        let _noted = self.hands_out(token, now).await?;
        let Some(row) = session else {
            return Ok(());
        };
        let made = Made { until, before: &[] };
        self.marks_session(row, made, now).await?;
        // Whoever signed out meanwhile looked before anything was there.
        if self.sessions.known(row, now).await?.is_some() || self.has_moved(row, now).await? {
            return Ok(());
        }
        let ended = self.end_what_follows(row).await;
        ended.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// Whether whoever had a session that is over goes on with one that was given for it, which ends what was made of it.
    async fn has_moved(&self, row: &[u8; 32], now: UnixTime) -> Result<bool, StoreError> {
        let mut moved = false;
        for new in self.sessions.given_for(row, now).await? {
            self.takes_over(row, &new, now).await?;
            // A sign-out of that one meanwhile, too, has looked before.
            moved |= self.sessions.known(&new, now).await?.is_some();
        }
        Ok(moved)
    }

    pub(super) async fn marks_session(
        &self,
        row: &[u8; 32],
        made: Made<'_>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mark = Mark::session(row);
        for _ in 0..TRIES {
            let found = self.store.get(place(&mark), now).await?;
            let (expect, before) = match &found {
                Some(found) => (Expect::Version(found.version), read(&found.value)),
                None => (Expect::Absent, None),
            };
            let before = before.unwrap_or_default();
            let mut after = before.clone();
            after.until = after.until.max(made.until);
            for row in made.before {
                if !after.before.contains(row) {
                    after.before.push(*row);
                }
            }
            let over = self.made_room(&mut after.before, now).await?;
            if after == before {
                return Ok(());
            }
            // Before it is forgotten: whoever ends it twice does no harm.
            for row in over {
                let ended = self.end_what_follows(&row).await;
                ended.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            }
            let (said, until) = (after.written(), after.until);
            let written = self
                .store
                .compare_and_swap(place(&mark), expect, &said, until, now);
            if written.await? {
                return Ok(());
            }
        }
        let busy = String::from("others note the same session again and again");
        Err(StoreError::Unavailable(busy))
    }

    /// Leaves out of which nothing lives any more where there are too many, and then the first ones: those are to be ended.
    async fn made_room(
        &self,
        before: &mut Vec<[u8; 32]>,
        now: UnixTime,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        if before.len() <= MOST {
            return Ok(Vec::new());
        }
        let mut live = Vec::with_capacity(before.len());
        for row in before.iter() {
            // It is there for as long as anything that was made of it may live.
            if self
                .store
                .get(place(&Mark::session(row)), now)
                .await?
                .is_some()
            {
                live.push(*row);
            }
        }
        let over = live.len().saturating_sub(MOST);
        *before = live.split_off(over);
        Ok(live)
    }

    /// A session has taken the place of another one of its person: what was made of that ends with it.
    ///
    /// # Errors
    ///
    /// When the store did not take it.
    pub(crate) async fn takes_over(
        &self,
        before: &[u8; 32],
        new: &[u8; 32],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mark = Mark::session(before);
        let Some(found) = self.store.get(place(&mark), now).await? else {
            return Ok(());
        };
        let mut made = read(&found.value).unwrap_or_default();
        made.before.push(*before);
        let made = Made {
            until: made.until,
            before: &made.before,
        };
        self.marks_session(new, made, now).await
    }

    /// Of which sessions, this one and those in whose place it is, something was made for an upstream that may still live; none:
    /// of no one.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn made_of(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let mark = Mark::session(row);
        let Some(found) = self.store.get(place(&mark), now).await? else {
            return Ok(Vec::new());
        };
        let before = read(&found.value).unwrap_or_default().before;
        Ok([*row].into_iter().chain(before).collect())
    }
}

/// What is to be noted of a session.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    pub(super) until: UnixTime,
    pub(super) before: &'a [[u8; 32]],
}

/// What is noted of a session.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Noted {
    until: UnixTime,
    before: Vec<[u8; 32]>,
}

impl Noted {
    fn written(&self) -> Vec<u8> {
        let until = self.until.as_millis().to_be_bytes();
        let before = self.before.iter().flatten();
        until.iter().chain(before).copied().collect()
    }
}

/// A row of an earlier version has a moment alone.
fn read(value: &[u8]) -> Option<Noted> {
    let (until, before) = value.split_first_chunk()?;
    let (before, left) = before.as_chunks();
    left.is_empty().then(|| Noted {
        until: UnixTime::from_millis(u64::from_be_bytes(*until)),
        before: before.to_vec(),
    })
}

const fn place(mark: &Mark) -> Key<'_> {
    Key {
        table: TABLE,
        key: mark.as_bytes(),
    }
}
