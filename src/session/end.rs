//! The end of sessions without their cookies: because there are too many, or because their owner refused them.

use tracing::debug;
use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::secret::Secret;
use crate::session::found::Known;
use crate::session::handle::BY_ACCOUNT;
use crate::session::handle::BY_PERSON;
use crate::session::handle::Handle;
use crate::session::handle::entries_of;
use crate::session::rows;
use crate::session::sessions::Active;
use crate::session::sessions::Farewell;
use crate::session::sessions::Room;
use crate::session::sessions::Sessions;
use crate::store::Expect;
use crate::store::NewRow;
use crate::store::StoreError;

/// Sessions of one person that are looked at beyond the limit: 256.
const BEYOND: usize = 256;
/// How often a row is read again that others write while it is ended.
const TRIES: u32 = 4;

impl Sessions {
    /// Ends the oldest sessions of a person who has been given one more and has too many; what is left of them.
    pub(crate) async fn make_room_for(&self, room: &Room, now: UnixTime) -> Vec<Farewell> {
        let active = self.active.load_full();
        let made = self.make_room(&active, &room.person, &room.replaced, now);
        made.await.unwrap_or_else(|error| {
            warn!(%error, "Whether a person has too many sessions is seen at the next login.");
            Vec::new()
        })
    }

    /// At whatever side they are. Those that are `replaced` end by themselves in a moment.
    async fn make_room(
        &self,
        active: &Active,
        person: &Handle,
        replaced: &[[u8; 32]],
        now: UnixTime,
    ) -> Result<Vec<Farewell>, StoreError> {
        let most = active.max_per_subject;
        let limit = most.saturating_add(BEYOND);
        let Some(account) = person.account() else {
            return Ok(Vec::new());
        };
        let mut known: Vec<Known> = Vec::new();
        // Some were made before it was known whose the account is.
        let places = [
            (BY_PERSON, person.person()),
            (BY_ACCOUNT, Mark::account(&account)),
        ];
        for (kind, mark) in places {
            for entry in entries_of(&active.ring, kind, mark) {
                let mut each = |one: Known| {
                    // By its own account: not by that of the other side for which it was given.
                    let own = one.handle.canonical() == person.canonical()
                        || one.handle.account().as_ref() == Some(&account);
                    if own && !replaced.contains(&one.row) {
                        known.push(one);
                    }
                };
                self.at(active, (entry.kind, &entry.place), limit, now, &mut each)
                    .await?;
            }
        }
        known.sort_by_key(|one| (one.handle.made, one.row));
        known.dedup_by_key(|one| one.row);
        if known.len() <= most {
            return Ok(Vec::new());
        }
        // Some were idle for too long: they are counted no more.
        let (alive, idle): (Vec<_>, Vec<_>) = known.into_iter().partition(|one| one.runs);
        let mut ended = Vec::new();
        for one in &idle {
            ended.extend(self.end_row(active, &one.row, now).await?);
        }
        let too_many = alive.len().saturating_sub(most);
        for one in alive.iter().take(too_many) {
            info!("A person has too many sessions; the oldest ends.");
            ended.extend(self.end_row(active, &one.row, now).await?);
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

    /// Leaves of a session that has rested for too long only whose it was; `false`: there was none, or it runs.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn end_rested(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let active = self.active.load_full();
        let Some(found) = self.store.get(rows::key(row), now).await? else {
            return Ok(false);
        };
        let handle = rows::open_handle(&active.ring, row, &found.value);
        let Some(handle) = handle.filter(|handle| !handle.over && !handle.runs(now)) else {
            return Ok(false);
        };
        let left = (&handle, found.version);
        // Where somebody has written it meanwhile, it is looked at another time.
        match self.leave_handle(&active, row, left, now).await {
            Ok(left) => Ok(left),
            Err(error) if error.is_of_the_link() => Err(error),
            Err(error) => {
                // A store that takes nothing more may still let go of something: nobody could use it any more.
                debug!(%error, "Nothing is kept of a session that has rested for too long.");
                self.store.delete(rows::key(row)).await?;
                Ok(true)
            }
        }
    }

    /// What would be left of a session that is known by its row alone; `None`: there is none that can be read, or it is over.
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
        let handle = handle.filter(|handle| !handle.over);
        Ok(handle.map(|handle| farewell(handle, row, now)))
    }

    /// When a session that is known by its row alone ends by itself at the latest; `None`: there is none that can be read, or it is over.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(super) async fn would_end(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<UnixTime>, StoreError> {
        let active = self.active.load_full();
        let found = self.store.get(rows::key(row), now).await?;
        let handle = found.and_then(|found| rows::open_handle(&active.ring, row, &found.value));
        let handle = handle.filter(|handle| !handle.over);
        Ok(handle.map(|handle| UnixTime::from_millis(handle.ends)))
    }

    /// Ends the session of a row for everybody who holds it; `None`: there was none that can be read, or it was over. Whose it
    /// was is known until it would have ended by itself: its provider and operators may still speak of it.
    pub(super) async fn end_row(
        &self,
        active: &Active,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        let mut tries = 0;
        let handle = loop {
            // What cannot be looked at has not ended: it goes on.
            let found = self.store.get(rows::key(row), now).await?;
            // Whatever happens to the row now: in this process nobody goes on with it.
            self.forget(row);
            let Some(found) = found else {
                return Ok(None);
            };
            let handle = rows::open_handle(&active.ring, row, &found.value);
            let left = match &handle {
                Some(handle) if handle.over => return Ok(None),
                Some(handle) if tries < TRIES => {
                    let left = (handle, found.version);
                    self.leave_handle(active, row, left, now).await
                }
                Some(_) => Err(StoreError::Timeout),
                None => Err(StoreError::Damaged(String::from("nobody can read it"))),
            };
            match left {
                Ok(true) => break handle,
                // A use was written meanwhile, or a renewal.
                Ok(false) => tries += 1,
                Err(error) => {
                    // A store that takes nothing more may still let go of something.
                    debug!(%error, "Nothing is kept of a session that has ended.");
                    self.store.delete(rows::key(row)).await?;
                    break handle;
                }
            }
        };
        // Whoever restored it meanwhile finds it ended.
        self.forget(row);
        Ok(handle.map(|handle| farewell(handle, row, now)))
    }

    /// Writes what is left of a session that is over, in place of what was read; `false`: that is not there any more.
    async fn leave_handle(
        &self,
        active: &Active,
        row: &[u8; 32],
        (handle, version): (&Handle, u64),
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let left = handle.after(now);
        let new = NewRow {
            key: rows::key(row),
            value: &self.seal_handle(&active.ring, row, &left)?,
            entries: &left.entries(&active.ring),
            expires: UnixTime::from_millis(left.ends),
        };
        let expect = Expect::Version(version);
        self.store.write(new, Some((expect, now))).await
    }
}

fn farewell(handle: Handle, row: &[u8; 32], now: UnixTime) -> Farewell {
    let runs = handle.runs(now);
    // A provider may end more with a refresh token than was issued with it: its grant, or its own session, by which the same
    // person is signed in elsewhere. Where nobody has signed out, nobody else is to be.
    let follows = handle.follows().copied();
    let refresh_token = handle.refresh_token.filter(|_| runs);
    Farewell {
        provider: ProviderId::new(&handle.provider),
        row: *row,
        rested: !runs,
        follows,
        id_token: None,
        left: None,
        refresh_token: refresh_token.map(Secret::new),
    }
}
