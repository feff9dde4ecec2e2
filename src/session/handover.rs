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

/// Sessions that are to end because others have taken their places, by row, until they would have ended by themselves: the row of the
/// one in its place, and since when. Nothing is left of it once the session has ended.
const OWED: &str = "owed_ends";

/// Ends that are looked for at once.
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

    /// Notes that a session is to end because another one, which its person has been given, has taken its place: whatever becomes of
    /// this process, and however long the store is away, it ends.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn owes_end(
        &self,
        before: &[u8; 32],
        new: &[u8; 32],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let Some(ends) = self.would_end(before, now).await? else {
            return Ok(());
        };
        let owed = Owed {
            before: *before,
            new: *new,
            since: now,
        };
        self.store
            .put(at(OWED, before), &owed.written(), ends)
            .await
    }

    /// The session of a row has ended: nobody owes it any more.
    ///
    /// # Errors
    ///
    /// When the store did not confirm: it is looked for once more.
    pub(crate) async fn owes_nothing(&self, before: &[u8; 32]) -> Result<(), StoreError> {
        self.store.delete(at(OWED, before)).await
    }

    /// The sessions that are to end since `since` or longer.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn owed_ends(
        &self,
        since: UnixTime,
        now: UnixTime,
    ) -> Result<Vec<Owed>, StoreError> {
        let found = self.store.scan(OWED, b"", MOST, now).await?;
        let owed = found.iter().filter_map(|(key, row)| {
            let owed = Owed::read(key, &row.value);
            // Of nobody, or of another version: the session is ended all the same, and now.
            owed.or_else(|| {
                Some(Owed {
                    before: (&**key).try_into().ok()?,
                    new: [0; 32],
                    since: UnixTime::from_millis(0),
                })
            })
        });
        Ok(owed.filter(|owed| owed.since <= since).collect())
    }

    /// Another session has taken the place of this one, which ends in a moment.
    pub(crate) fn is_replaced(&self, row: &[u8; 32]) {
        if let Some(live) = self.registry.find(row) {
            live.replace();
        }
    }
}

/// A session that is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Owed {
    /// Its row,
    pub(crate) before: [u8; 32],
    /// that of the one in its place,
    pub(crate) new: [u8; 32],
    since: UnixTime,
}

impl Owed {
    fn written(&self) -> Vec<u8> {
        let since = self.since.as_millis().to_be_bytes();
        self.new.iter().chain(&since).copied().collect()
    }

    fn read(before: &[u8], value: &[u8]) -> Option<Self> {
        let (new, since) = value.split_first_chunk()?;
        Some(Self {
            before: before.try_into().ok()?,
            new: *new,
            since: UnixTime::from_millis(u64::from_be_bytes(since.try_into().ok()?)),
        })
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
