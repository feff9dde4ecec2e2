//! Sessions without their cookies: found by whose they are.

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
        let mut found: Vec<Known> = Vec::new();
        for kind in [BY_PERSON, BY_ACCOUNT, OVER_BY_PERSON, OVER_BY_ACCOUNT] {
            for entry in entries_of(&active.ring, kind, mark) {
                let left = limit.saturating_sub(found.len());
                let some = self.at(&active, (kind, &entry.place), left, now).await?;
                // A row may be written under another key between two looks.
                let new = |known: &Known| {
                    known.handle.is_of(mark) && found.iter().all(|other| other.row != known.row)
                };
                let some: Vec<Known> = some.0.into_iter().filter(new).collect();
                found.extend(some);
            }
        }
        Ok(found)
    }

    /// Sessions that are not over, of anybody whose place by person begins so, at most `limit`; whether there may be more. 256
    /// questions see all.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn of_people(
        &self,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<(Vec<Known>, bool), StoreError> {
        let active = self.active.load_full();
        self.at(&active, (BY_PERSON, prefix), limit, now).await
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
    ) -> Result<(Vec<Known>, bool), StoreError> {
        let active = self.active.load_full();
        self.at(&active, (OVER_BY_PERSON, prefix), limit, now).await
    }

    pub(super) async fn at(
        &self,
        active: &Active,
        (kind, prefix): (u8, &[u8]),
        limit: usize,
        now: UnixTime,
    ) -> Result<(Vec<Known>, bool), StoreError> {
        let table = TABLE;
        let by = By {
            table,
            kind,
            prefix,
        };
        let rows = self.store.find(by, limit, now).await?;
        let more = rows.len() == limit;
        let known = rows.into_iter().filter_map(|(key, row)| {
            let key: [u8; 32] = key.try_into().ok()?;
            // Sealed under a key that is gone: it was not used while that key was there, and is over with it.
            let handle = rows::open_handle(&active.ring, &key, &row.value)?;
            let runs = handle.runs(now);
            Some(Known {
                row: key,
                handle,
                runs,
            })
        });
        Ok((known.collect(), more))
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
