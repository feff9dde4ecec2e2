//! The end of sessions without their cookies: because there are too many, or because their owner refused them.

use futures_util::future::try_join_all;
use tracing::info;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::secret::Secret;
use crate::session::body::Handle;
use crate::session::index;
use crate::session::rows;
use crate::session::sessions::Active;
use crate::session::sessions::Farewell;
use crate::session::sessions::Sessions;
use crate::store::Key;
use crate::store::StoreError;

/// Entries of one person that are looked at beyond the limit: 256.
const BEYOND: usize = 256;

const fn entry(key: &[u8]) -> Key<'_> {
    Key {
        table: index::TABLE,
        key,
    }
}

impl Sessions {
    /// Writes the entry of a session, under the key that seals now.
    pub(super) async fn write_entry(
        &self,
        active: &Active,
        handle: &Handle,
        row: &[u8; 32],
        ends: UnixTime,
    ) -> Result<(), StoreError> {
        let entries = index::entries(&active.ring, handle, row);
        let current = entries.first();
        let current = current.ok_or_else(|| StoreError::Damaged(String::from("no key")))?;
        self.store.put(entry(current), b"", ends).await
    }

    /// Ends the oldest sessions of a person who has too many; what is left of them.
    pub(super) async fn make_room(
        &self,
        active: &Active,
        person: &Handle,
        now: UnixTime,
    ) -> Result<Vec<Farewell>, StoreError> {
        let most = active.max_per_subject;
        let mut entries = Vec::new();
        for place in index::places(&active.ring, person) {
            let limit = most.saturating_add(BEYOND);
            let found = self.store.scan(index::TABLE, &place, limit, now).await?;
            entries.extend(found.into_iter().map(|(key, _)| key));
        }
        if entries.len() <= most {
            return Ok(Vec::new());
        }
        entries.sort_by(|a, b| index::login(a).cmp(index::login(b)));
        // Entries outlive sessions that were idle for too long, and there may be one under an older key too.
        let mut alive = Vec::new();
        for key in &entries {
            let Some(row) = index::row(key) else {
                continue;
            };
            if alive.contains(&row) {
                continue;
            }
            if self.store.get(rows::key(&row), now).await?.is_some() {
                alive.push(row);
            } else {
                self.store.delete(entry(key)).await?;
            }
        }
        let too_many = alive.len().saturating_sub(most);
        let mut ended = Vec::new();
        for row in alive.iter().take(too_many) {
            info!("A person has too many sessions; the oldest ends.");
            ended.extend(self.end_row(active, row, now).await?);
        }
        Ok(ended)
    }

    /// Ends a session that is known by its row alone; `None`: there was none that can be read.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn end_known(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let active = self.active.load_full();
        self.end_row(&active, row, now).await
    }

    /// What would be left of a session that is known by its row alone; `None`: there is none that can be read.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn known(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let active = self.active.load_full();
        let found = self.store.get(rows::key(row), now).await?;
        let handle = found.and_then(|found| rows::open_handle(&active.ring, row, &found.value));
        Ok(handle.map(|handle| farewell(handle, row)))
    }

    /// Ends the session of a row for everybody who holds it; `None`: there was none that can be read.
    pub(super) async fn end_row(
        &self,
        active: &Active,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let found = self.store.get(rows::key(row), now).await?;
        let handle = found.and_then(|found| rows::open_handle(&active.ring, row, &found.value));
        self.forget(row);
        self.store.delete(rows::key(row)).await?;
        // Whoever restored it meanwhile finds it ended.
        self.forget(row);
        let Some(handle) = handle else {
            return Ok(None);
        };
        let entries = index::entries(&active.ring, &handle, row);
        try_join_all(entries.iter().map(|key| self.store.delete(entry(key)))).await?;
        Ok(Some(farewell(handle, row)))
    }
}

fn farewell(handle: Handle, row: &[u8; 32]) -> Farewell {
    Farewell {
        provider: ProviderId::new(&handle.provider),
        canonical: None,
        row: *row,
        id_token: None,
        refresh_token: handle.refresh_token.map(Secret::new),
    }
}
