//! A session that takes the place of another without a sign-in, while somebody may be signing out of that other: the sign-out has
//! its way, whichever of the two comes first and at whichever instance. What is open with that other finds the one in its place.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixTime;
use crate::secret::Secret;
use crate::session::id::SessionId;
use crate::session::seal::Purpose;
use crate::session::sessions::Created;
use crate::session::sessions::Farewell;
use crate::session::sessions::Sessions;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// The new session, or nothing where somebody has signed out; by the row of the session before, or the digest of one of an old
/// system.
const TABLE: &str = "handover";

/// The id of the session in the place of another one, by the row of that one and opened by its id alone: whoever reads the store
/// learns of neither.
const SUCCESSOR: &str = "successor";

/// The row of the session before, by that of the one in its place.
const PREDECESSOR: &str = "predecessor";

/// A request that was on its way with the session before comes within this time.
const KEPT: Duration = Duration::from_mins(2);

/// What is open with the session before looks for the one in its place within this time. One that an exchange has given may wait
/// for its first use for some of it.
const LED: Duration = Duration::from_mins(10);

/// Moves that are finished at a start: those of the last [`KEPT`].
const MOST: usize = 65_536;

/// How often it is tried to be the first.
const TRIES: u8 = 4;

impl Sessions {
    /// Notes that a session takes the place of another one; `false`: somebody has just signed out of that, or another took its
    /// place.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn takes_place(
        &self,
        before: &[u8; 32],
        new: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let (key, until) = (key(before), now + KEPT);
        let noted = self
            .store
            .compare_and_swap(key, Expect::Absent, new, until, now);
        noted.await
    }

    /// The session that has just taken the place of another one.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn took_place(
        &self,
        before: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let found = self.store.get(key(before), now).await?;
        Ok(found.and_then(|found| (&*found.value).try_into().ok()))
    }

    /// Notes that somebody signs out of a session, so that no other takes its place; the one that had taken it already.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn has_left(
        &self,
        before: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        for _ in 0..TRIES {
            let (key, until) = (key(before), now + KEPT);
            let noted = self
                .store
                .compare_and_swap(key, Expect::Absent, b"", until, now);
            if noted.await? {
                return Ok(None);
            }
            if let Some(found) = self.store.get(key, now).await? {
                return Ok((&*found.value).try_into().ok());
            }
        }
        Err(StoreError::Timeout)
    }

    /// Leads what is open with the session of `before` to the one in its place, which is the same person's, and a sign-out of that
    /// one to the one before.
    ///
    /// # Errors
    ///
    /// When the store did not take it: what is open ends with the session before.
    pub(crate) async fn leads_on(
        &self,
        before: SessionId<'_>,
        new: &Created,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let Some(id) = SessionId::parse(new.cookie.expose()) else {
            return Err(StoreError::Damaged(String::from("a session id")));
        };
        let (row, until) = (before.row(), now + LED);
        let sealed = self.ring().seal(
            Purpose::Successor,
            before.bytes(),
            &[&row],
            id.bytes(),
            &*self.entropy,
        );
        let (successor, predecessor) = (at(SUCCESSOR, &row), at(PREDECESSOR, &new.row));
        self.store.put(successor, &sealed, until).await?;
        self.store.put(predecessor, &row, until).await
    }

    /// The cookie of the session that stands in the place of this one, whether it counts or not.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn successor(
        &self,
        before: SessionId<'_>,
        now: UnixTime,
    ) -> Result<Option<Secret<String>>, StoreError> {
        let row = before.row();
        let found = self.store.get(at(SUCCESSOR, &row), now).await?;
        let opened = found.and_then(|found| {
            let ring = self.ring();
            ring.open(Purpose::Successor, before.bytes(), &[&row], &found.value)
        });
        let id = opened.map(|opened| Secret::new(opened.plain));
        Ok(id.map(|id| Secret::new(URL_SAFE_NO_PAD.encode(id.expose()))))
    }

    /// The row of the session in whose place this one is, since a moment ago.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn predecessor(
        &self,
        new: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let found = self.store.get(at(PREDECESSOR, new), now).await?;
        Ok(found.and_then(|found| (&*found.value).try_into().ok()))
    }

    /// Ends a session because another one has taken its place: what is open with it looks for that one first.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn end_replaced(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Farewell>, StoreError> {
        self.is_replaced(row);
        self.end_known(row, now).await
    }

    /// Ends what was to end in a moment when the process ended before: sessions whose place others have taken.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn finish_moves(&self, now: UnixTime) -> Result<(), StoreError> {
        for (before, new) in self.store.scan(TABLE, b"", MOST, now).await? {
            // Where somebody has signed out, nobody has taken the place.
            let taken = !new.value.is_empty();
            if let (Ok(before), true) = (<[u8; 32]>::try_from(&*before), taken) {
                self.end_replaced(&before, now).await?;
            }
        }
        Ok(())
    }

    /// Another session has taken the place of this one, which ends in a moment.
    pub(crate) fn is_replaced(&self, row: &[u8; 32]) {
        if let Some(live) = self.registry.find(row) {
            live.replace();
        }
    }
}

const fn at<'a>(table: &'static str, row: &'a [u8; 32]) -> Key<'a> {
    Key { table, key: row }
}

const fn key(before: &[u8; 32]) -> Key<'_> {
    Key {
        table: TABLE,
        key: before,
    }
}
