//! What a provider says is over: each word of it once, and for everybody it means.

use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::identity::SubjectKey;
use crate::revocation::list::Asked;
use crate::revocation::list::ListError;
use crate::revocation::list::Revocations;
use crate::revocation::record::Source;
use crate::revocation::record::Target;
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;
use crate::token::LogoutToken;

/// Names of logout tokens that have counted.
const SEEN: &str = "logout_jti";

/// Why a logout token that is good ends nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLoggedOut {
    /// It has counted already.
    #[error("the logout token was used before")]
    Replayed,
    /// The session it names is somebody else's.
    #[error("the session is of another subject")]
    Mismatch,
    /// What it means is not written down: the provider may try again with the same token.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Revocations {
    /// Ends every session here of the person whom a logout token means, whoever vouched for it, and whatever was issued to the
    /// account or in the session it names.
    ///
    /// # Errors
    ///
    /// See [`NotLoggedOut`].
    pub(crate) async fn logged_out(
        &self,
        provider: &ProviderId,
        token: &LogoutToken,
    ) -> Result<(), NotLoggedOut> {
        let now = self.clock.now();
        let issuer = token.issuer();
        let seen = jti(issuer.as_str(), token.jti());
        let seen = Key {
            table: SEEN,
            key: seen.as_bytes(),
        };
        if self.store.get(seen, now).await?.is_some() {
            return Err(NotLoggedOut::Replayed);
        }
        let account = token.subject().map(|subject| SubjectKey {
            issuer: issuer.clone(),
            subject: subject.clone(),
        });
        let mut marks = Vec::new();
        if let Some(account) = &account {
            marks.push(Mark::account(account));
            marks.extend(self.persons_of(provider, account).await?);
        }
        let target = match (token.sid(), &account) {
            (Some(sid), _) => {
                let owners = self.owners_of_sid(issuer.as_str(), sid).await?;
                let meant = account.as_ref().map(Mark::account);
                let own = owners
                    .iter()
                    .filter(|owner| meant.is_none_or(|meant| owner.account == meant));
                let persons: Vec<_> = own.map(|owner| owner.person).collect();
                if persons.is_empty() && !owners.is_empty() {
                    return Err(NotLoggedOut::Mismatch);
                }
                marks.extend(persons);
                // What was issued in that session to this account; of nobody else.
                if account.is_none() {
                    marks.push(Mark::sid(issuer.as_str(), sid));
                }
                Target::ProviderSession {
                    issuer: issuer.as_str().to_owned(),
                    sid: sid.to_owned(),
                }
            }
            (None, Some(account)) => Target::Account {
                issuer: issuer.as_str().to_owned(),
                subject: account.subject.as_str().to_owned(),
            },
            // `token::verify_logout` makes no such token.
            (None, None) => return Err(NotLoggedOut::Mismatch),
        };
        marks.sort_unstable();
        marks.dedup();
        self.end(provider, Source::BackChannel, target, marks)
            .await?;
        self.metrics
            .revocation_lag(Some(provider), now.since(token.issued()));
        // Only now: a token whose meaning was not written down may come again.
        let until = token.counts_until();
        let first = self
            .store
            .compare_and_swap(seen, Expect::Absent, b"", until, now)
            .await?;
        if first {
            Ok(())
        } else {
            Err(NotLoggedOut::Replayed)
        }
    }

    /// Ends one session at an issuer, as a browser was told to say (OpenID Connect Front-Channel Logout 1.0): nobody signed
    /// it, so it ends that session alone, and only one that is known here. `false`: there is none.
    ///
    /// # Errors
    ///
    /// When it is not written down.
    pub(crate) async fn front_channel(
        &self,
        provider: &ProviderId,
        issuer: &str,
        sid: &str,
    ) -> Result<bool, StoreError> {
        if self.owners_of_sid(issuer, sid).await?.is_empty() {
            // It may be one that another version has written.
            let (mark, now) = (Mark::sid(issuer, sid), self.clock.now());
            if self.sessions.unread_by(mark, false, now).await?.is_empty() {
                return Ok(false);
            }
        }
        let target = Target::ProviderSession {
            issuer: issuer.to_owned(),
            sid: sid.to_owned(),
        };
        let mut marks = vec![Mark::sid(issuer, sid)];
        marks.extend(self.given_for(&target).await?);
        self.end(provider, Source::FrontChannel, target, marks)
            .await?;
        Ok(true)
    }

    async fn end(
        &self,
        provider: &ProviderId,
        source: Source,
        target: Target,
        marks: Vec<Mark>,
    ) -> Result<(), StoreError> {
        let asked = Asked {
            target,
            source,
            actor: provider.as_str().to_owned(),
            reason: String::new(),
            keep: None,
            provider: Some(provider.clone()),
        };
        match self.revoke_marks(asked, marks).await {
            Ok(_) => Ok(()),
            Err(ListError::Store(error)) => Err(error),
            Err(error @ (ListError::Target(_) | ListError::Unknown | ListError::Final)) => {
                Err(StoreError::Damaged(error.to_string()))
            }
        }
    }
}

fn jti(issuer: &str, jti: &str) -> Mark {
    Mark::token(issuer, &crate::identity::TokenId::Named(jti.into()))
}
