//! Sessions without their cookies: found by whose they are.

use std::collections::HashSet;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::session::handle::BY_ACCOUNT;
use crate::session::handle::BY_PERSON;
use crate::session::handle::Handle;
use crate::session::handle::OVER_BY_ACCOUNT;
use crate::session::handle::OVER_BY_PERSON;
use crate::session::handle::entries_of;
use crate::session::rows;
use crate::session::sessions::Active;
use crate::session::sessions::Sessions;
use crate::session::sessions::TABLE;
use crate::store::By;
use crate::store::Row;
use crate::store::StoreError;

/// A session, as it is known without its cookie.
#[derive(Debug)]
pub(crate) struct Known {
    /// The key of its row.
    pub(crate) row: [u8; 32],
    /// Whose it is.
    pub(crate) handle: Handle,
    /// Whether it may be used: it is not over, and was not idle for too long.
    pub(crate) runs: bool,
}

/// Sessions that are looked at of those that were given for one: it is left alone for a minute after each.
const MOST_GIVEN: usize = 1_000;

/// Who is handed sessions, one after the other.
type Each<'e> = &'e mut (dyn FnMut(Known) + Send);

impl Active {
    /// Rows move to the key that seals now while somebody walks: perhaps to where that somebody has been. Where several keys
    /// are configured, they are met by a second walk.
    fn walks(&self) -> usize {
        1 + usize::from(self.ring.has_older_keys())
    }
}

impl Sessions {
    /// The sessions of a person, of an account or of a session at an issuer, at most `limit`: those that are over too, until
    /// they would have ended by themselves.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn found_by(
        &self,
        mark: Mark,
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<Known>, StoreError> {
        let active = self.active.load_full();
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..active.walks() {
            // Those that run first: they become those that are over, never the other way round.
            for kind in [BY_PERSON, BY_ACCOUNT, OVER_BY_PERSON, OVER_BY_ACCOUNT] {
                for entry in entries_of(&active.ring, kind, mark) {
                    let mut each = |known: Known| {
                        let wanted = found.len() < limit && known.handle.is_of(mark);
                        if wanted && seen.insert(known.row) {
                            found.push(known);
                        }
                    };
                    self.at(&active, (kind, &entry.place), limit, now, &mut each)
                        .await?;
                }
            }
        }
        Ok(found)
    }

    /// The sessions that were given for the word of this one and are not over: whoever has a cookie of it may not have heard of
    /// them.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn given_for(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let found = self.found_by(Mark::session(row), MOST_GIVEN, now).await?;
        let given = found.iter().filter(|one| one.handle.over().is_none());
        Ok(given.map(|one| one.row).collect())
    }

    /// The session for whose word alone this one was given, if it was.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn follows(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let active = self.active.load_full();
        let found = self.store.get(rows::key(row), now).await?;
        let handle = found.and_then(|found| rows::open_handle(&active.ring, row, &found.value));
        Ok(handle.and_then(|handle| handle.follows().copied()))
    }

    /// Hands over sessions that are not over, of anybody whose place by person begins so, at most `limit`; whether there may be
    /// more. 256 questions see all, as often as [`Self::walks`] says.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn of_people(
        &self,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<bool, StoreError> {
        let active = self.active.load_full();
        self.at(&active, (BY_PERSON, prefix), limit, now, each)
            .await
    }

    /// As [`Self::of_people`], those that are over.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn over_of_people(
        &self,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<bool, StoreError> {
        let active = self.active.load_full();
        self.at(&active, (OVER_BY_PERSON, prefix), limit, now, each)
            .await
    }

    /// How often whoever wants to see all sessions goes through them.
    pub(crate) fn walks(&self) -> usize {
        self.active.load().walks()
    }

    /// Hands over what is found at places that begin so, one after the other; whether there may be more.
    pub(super) async fn at(
        &self,
        active: &Active,
        (kind, prefix): (u8, &[u8]),
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<bool, StoreError> {
        let mut opened = |row: [u8; 32], handle: Option<Handle>| {
            // What nobody here can read is asked for by `unread`.
            let Some(handle) = handle else {
                return;
            };
            let runs = handle.runs(now);
            each(Known { row, handle, runs });
        };
        self.looks_at(active, (kind, prefix), limit, now, &mut opened)
            .await
    }

    /// The same, with those whose rows cannot be read.
    pub(super) async fn looks_at(
        &self,
        active: &Active,
        (kind, prefix): (u8, &[u8]),
        limit: usize,
        now: UnixTime,
        each: &mut (dyn FnMut([u8; 32], Option<Handle>) + Send),
    ) -> Result<bool, StoreError> {
        let table = TABLE;
        let by = By {
            table,
            kind,
            prefix,
        };
        let mut opened = |key: &[u8], row: Row| {
            let Ok(key) = <[u8; 32]>::try_from(key) else {
                return;
            };
            each(key, rows::open_handle(&active.ring, &key, &row.value));
        };
        let found = self.store.find(by, limit, now, &mut opened).await?;
        Ok(found == limit)
    }

    /// Removes whatever is left of a session.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn erase(&self, row: &[u8; 32]) -> Result<(), StoreError> {
        self.forget(row);
        self.store.delete(rows::key(row)).await?;
        self.forget(row);
        Ok(())
    }
}
