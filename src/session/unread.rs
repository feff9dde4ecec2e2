//! Sessions that nobody here can read: another version has written their rows, or the key is gone under which they are sealed.
//! They let nobody in here, but perhaps elsewhere, or again: they are ended by what they are found by, and nobody looks inside.

use std::collections::BTreeSet;

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
use crate::session::sessions::Farewell;
use crate::session::sessions::Sessions;
use crate::store::StoreError;
use tracing::warn;

/// Rows that are looked at for one person, account or session at an issuer: 1 000.
const BY_NAME: usize = 1_000;

impl Sessions {
    /// The rows that nobody here can read of a person, an account or a session at an issuer. `whole`: those that are over, too.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn unread_by(
        &self,
        mark: Mark,
        whole: bool,
        now: UnixTime,
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        let active = self.active.load_full();
        let mut rows = BTreeSet::new();
        let kinds = [BY_PERSON, BY_ACCOUNT, OVER_BY_PERSON, OVER_BY_ACCOUNT];
        for kind in kinds.into_iter().take(if whole { 4 } else { 2 }) {
            for entry in entries_of(&active.ring, kind, mark) {
                let mut each = |row: [u8; 32], handle: Option<Handle>| {
                    if handle.is_none() {
                        rows.insert(row);
                    }
                };
                let at = (kind, &entry.place[..]);
                self.looks_at(&active, at, BY_NAME, now, &mut each).await?;
            }
        }
        Ok(rows)
    }

    /// How many of all people nobody here can read, up to `limit`: whose they are nobody knows.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn unread(&self, limit: usize, now: UnixTime) -> Result<usize, StoreError> {
        let active = self.active.load_full();
        let mut rows = BTreeSet::new();
        for _ in 0..self.walks() {
            let mut each = |row: [u8; 32], handle: Option<Handle>| {
                if handle.is_none() {
                    rows.insert(row);
                }
            };
            let at = (BY_PERSON, &b""[..]);
            self.looks_at(&active, at, limit, now, &mut each).await?;
        }
        Ok(rows.len())
    }

    /// Whether there is a row that nobody here can read.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn is_unread(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let active = self.active.load_full();
        let found = self.store.get(rows::key(row), now).await?;
        Ok(found.is_some_and(|found| rows::open_handle(&active.ring, row, &found.value).is_none()))
    }

    /// Ends a session that nobody here can read; `false`: there is none, or somebody can.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn end_unread(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let unread = self.is_unread(row, now).await?;
        if unread {
            self.erase(row).await?;
        }
        Ok(unread)
    }

    /// Ends the session of a cookie whose row could not be opened with it, as far as there is one.
    pub(super) async fn end_unopened(
        &self,
        active: &Active,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let Some(found) = self.store.get(rows::key(row), now).await? else {
            return Ok(None);
        };
        match rows::open_handle(&active.ring, row, &found.value) {
            // It had ended.
            Some(handle) if !handle.runs(now) => Ok(None),
            Some(_) => self.end_row(active, row, now).await,
            None => {
                self.erase(row).await?;
                warn!("A session was ended that nobody here can read; its provider is not told.");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
impl Sessions {
    /// Writes a row as another version might, which finds it by the same: all of it, or what the cookie opens alone.
    pub(crate) async fn as_another_version(&self, row: &[u8; 32], whole: bool, now: UnixTime) {
        let active = self.active.load_full();
        let found = self.store.get(rows::key(row), now).await.unwrap().unwrap();
        let handle = rows::open_handle(&active.ring, row, &found.value).unwrap();
        let mut value = found.value.clone();
        let place = if whole { 0 } else { value.len() - 1 };
        *value.get_mut(place).unwrap() ^= 4;
        let new = crate::store::NewRow {
            key: rows::key(row),
            value: &value,
            entries: &handle.entries(&active.ring),
            expires: UnixTime::from_millis(handle.ends),
        };
        assert!(self.store.write(new, None).await.unwrap());
        self.forget(row);
    }
}
