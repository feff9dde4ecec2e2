//! Sessions that somebody has ended, and what is erased of them.

use std::time::Duration;

use crate::identity::CanonicalSubject;
use crate::revocation::before::Before;
use crate::revocation::list::Asked;
use crate::revocation::list::ListError;
use crate::revocation::list::Revocations;
use crate::revocation::logins::ACCOUNTS;
use crate::revocation::logins::LOGINS;
use crate::revocation::logins::Login;
use crate::revocation::logins::SIDS;
use crate::revocation::logins::login_key;
use crate::revocation::mark::Mark;
use crate::revocation::record::Source;
use crate::revocation::record::Target;
use crate::revocation::record::hex;
use crate::store::Key;
use crate::store::StoreError;

/// An old system is told of the end of its session for 90 minutes at most; this is longer.
const UNTIL_HEARD: Duration = Duration::from_hours(2);

impl Revocations {
    /// Ends a session whose row the store could not remove.
    ///
    /// # Errors
    ///
    /// With [`ListError::Store`] it is over in this process, and everywhere when the store takes it.
    pub(crate) async fn end_session(&self, row: &[u8; 32]) -> Result<(), ListError> {
        let asked = Asked {
            target: Target::Session { session: hex(row) },
            source: Source::Logout,
            actor: String::new(),
            reason: String::new(),
            keep: None,
            provider: None,
        };
        self.revoke(asked).await.map(drop)
    }

    /// Ends what was given for a session that is gone.
    ///
    /// # Errors
    ///
    /// As [`Self::end_session`].
    pub(crate) async fn end_what_follows(&self, row: &[u8; 32]) -> Result<(), ListError> {
        let asked = Asked {
            target: Target::Session { session: hex(row) },
            source: Source::Logout,
            actor: String::new(),
            reason: String::new(),
            keep: None,
            provider: None,
        };
        // Its rows end by themselves: nothing was issued to it that would have to be given back.
        self.revoke_only(asked).await.map(drop)
    }

    /// Ends one session of an old system, by [`crate::session::OldSession::digest`]: its cookie counts nowhere any more,
    /// whatever was said of it a moment ago, for as long as its system may not have heard of it.
    ///
    /// # Errors
    ///
    /// As [`Self::end_session`].
    pub(crate) async fn end_old_session(&self, digest: &[u8; 32]) -> Result<(), ListError> {
        let asked = Asked {
            target: Target::Session {
                session: hex(digest),
            },
            source: Source::Logout,
            actor: String::new(),
            reason: String::new(),
            keep: Some(UNTIL_HEARD),
            provider: None,
        };
        // It has no row here that would have to be found.
        self.revoke_only(asked).await.map(drop)
    }

    /// Forgets a session that has ended.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn forget(
        &self,
        canonical: &CanonicalSubject,
        row: &[u8; 32],
    ) -> Result<(), StoreError> {
        let key = login_key(Mark::person(canonical), row);
        let table = LOGINS;
        self.store.delete(Key { table, key: &key }).await
    }

    /// Erases what is known of a running session of a person: how it is found, and whose its account is.
    ///
    /// # Errors
    ///
    /// When the store did not confirm.
    pub(crate) async fn erase(&self, login: &Login) -> Result<(), StoreError> {
        let (Some(row), Some(person)) = (login.row(), login.person) else {
            return Ok(());
        };
        let own = login.sid.as_ref().map(|sid| (&login.issuer, sid));
        let before = login.before.as_ref();
        let before = before.and_then(|before| Some((&before.issuer, before.sid.as_ref()?)));
        for (issuer, sid) in own.into_iter().chain(before) {
            let key = login_key(Mark::sid(issuer, sid), &row);
            let table = SIDS;
            self.store.delete(Key { table, key: &key }).await?;
        }
        let account = Target::Account {
            issuer: login.issuer.clone(),
            subject: login.subject.clone(),
        };
        let before = login.before.as_ref().map(Before::account);
        for mark in [Some(account), before].into_iter().flatten() {
            let Ok(mark) = mark.mark() else {
                continue;
            };
            let (table, key) = (ACCOUNTS, mark.as_bytes().as_slice());
            self.store.delete(Key { table, key }).await?;
        }
        let (table, key) = (LOGINS, login_key(person, &row));
        self.store.delete(Key { table, key: &key }).await
    }
}
