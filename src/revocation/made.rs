//! What upstreams got that was made of somebody's credential: it ends with that, wherever somebody brings it back here.

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::revocation::handed::HandOut;
use crate::revocation::list::Revocations;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// Of which sessions something was made.
const TABLE: &str = "made_of_sessions";

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
        self.marks_session(row, until, now).await?;
        // Whoever signed out meanwhile looked before anything was there.
        if self.sessions.known(row, now).await?.is_none() {
            let ended = self.end_what_follows(row).await;
            ended.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }

    async fn marks_session(
        &self,
        row: &[u8; 32],
        until: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mark = Mark::session(row);
        for _ in 0..TRIES {
            let found = self.store.get(place(&mark), now).await?;
            let (expect, before) = match &found {
                Some(found) => (Expect::Version(found.version), read(&found.value)),
                None => (Expect::Absent, None),
            };
            if before.is_some_and(|before| until <= before) {
                return Ok(());
            }
            let said = until.as_millis().to_be_bytes();
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

    /// Whether anything that may still live was made of a session, for an upstream.
    ///
    /// # Errors
    ///
    /// When the store gives no answer.
    pub(crate) async fn was_made_of(
        &self,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let mark = Mark::session(row);
        Ok(self.store.get(place(&mark), now).await?.is_some())
    }
}

fn read(value: &[u8]) -> Option<UnixTime> {
    let value = value.try_into().ok()?;
    Some(UnixTime::from_millis(u64::from_be_bytes(value)))
}

const fn place(mark: &Mark) -> Key<'_> {
    Key {
        table: TABLE,
        key: mark.as_bytes(),
    }
}
