//! What is kept of a session by name moves to a new key together with its row: otherwise nobody could find the session without
//! its cookie once the old key is gone, to end it or to erase it.

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::revocation::list::Revocations;
use crate::revocation::logins::LOGINS;
use crate::revocation::logins::Login;
use crate::revocation::logins::login_key;
use crate::revocation::mark::Mark;
use crate::session::MovesAlong;
use crate::session::Purpose;
use crate::session::SealedUnder;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

#[async_trait]
impl MovesAlong for Revocations {
    async fn move_along(
        &self,
        person: &CanonicalSubject,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let key = login_key(Mark::person(person), row);
        let place = || Key {
            table: LOGINS,
            key: &key,
        };
        let Some(found) = self.store.get(place(), now).await? else {
            return Ok(());
        };
        let ring = self.sessions.ring();
        let Some(opened) = ring.open(Purpose::Login, b"", &[&key], &found.value) else {
            return Ok(());
        };
        let login: Option<Login> = match opened.under {
            SealedUnder::CurrentKey => None,
            SealedUnder::OlderKey => serde_json::from_slice(&opened.plain).ok(),
        };
        let Some(login) = login else {
            return Ok(());
        };
        let sealed = ring.seal(Purpose::Login, b"", &[&key], &opened.plain, &*self.entropy);
        let (expect, ends) = (
            Expect::Version(found.version),
            UnixTime::from_millis(login.ends),
        );
        // Whoever was faster has done the same, or has removed it.
        self.store
            .compare_and_swap(place(), expect, &sealed, ends, now)
            .await?;
        Ok(())
    }
}
