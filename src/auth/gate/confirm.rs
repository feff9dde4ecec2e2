//! A session whose confirmation at its owner is due: asked for behind the request, or before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::error;

use crate::auth::error::AuthError;
use crate::auth::gate::Asked;
use crate::auth::gate::Gate;
use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::session::AskAgain;
use crate::session::Renewed;
use crate::session::Restored;
use crate::session::Standing;
use crate::store::StoreError;

/// Whoever waits for a renewal is answered after 30 s at the latest.
const ANSWER: Duration = Duration::from_secs(30);

impl Gate {
    /// The session, as it is once its owner has been asked, where that is due.
    pub(super) async fn confirmed(
        &self,
        restored: Restored,
        (owner, again): (&Arc<dyn Provider>, Option<Arc<dyn AskAgain>>),
        asked: &Asked<'_>,
    ) -> Result<Restored, AuthError> {
        let now = asked.now;
        let (class, provider) = (CredentialClass::Session, owner.id());
        let grace = match restored.standing(now) {
            Standing::Fresh => return Ok(restored),
            Standing::Due => {
                if restored.claim_renewal(now) {
                    // It goes on to its end, and whoever comes next sees what it brought.
                    drop(self.renewal(&restored, (owner, again), now));
                }
                return Ok(restored);
            }
            Standing::Overdue => true,
            Standing::Lapsed => false,
        };
        match self.renewed(&restored, (owner, again), now).await {
            Ok(Renewed::Session(restored)) => Ok(restored),
            Ok(Renewed::Ended { .. }) => Err(AuthError::unowned(Refusal::Inactive, class)),
            Ok(Renewed::Away { .. }) | Err(_) if grace => Ok(restored),
            Ok(Renewed::Away {
                outage,
                retry_after,
            }) => {
                self.could_not_ask(asked, &restored, outage);
                let away = ProviderError::Unavailable {
                    outage,
                    retry_after,
                };
                Err(AuthError::judged(&away, provider, class))
            }
            Err(error) => Err(AuthError::store(&error, class)),
        }
    }

    /// What became of a renewal, as far as somebody waits for it.
    pub(super) async fn renewed(
        &self,
        restored: &Restored,
        (owner, again): (&Arc<dyn Provider>, Option<Arc<dyn AskAgain>>),
        now: UnixTime,
    ) -> Result<Renewed, StoreError> {
        let renewal = self.renewal(restored, (owner, again), now);
        match tokio::time::timeout(ANSWER, renewal).await {
            Ok(Ok(renewed)) => renewed,
            Ok(Err(error)) => {
                error!(provider = %owner.id(), %error, "A renewal broke off.");
                Ok(Renewed::Away {
                    outage: Outage::Shed,
                    retry_after: None,
                })
            }
            // It goes on: what the owner gave out is not lost.
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// On the background runtime: a client that goes away does not take it along. What is left of a session that was ended
    /// meanwhile is revoked at its owner.
    fn renewal(
        &self,
        restored: &Restored,
        (owner, again): (&Arc<dyn Provider>, Option<Arc<dyn AskAgain>>),
        now: UnixTime,
    ) -> JoinHandle<Result<Renewed, StoreError>> {
        let (sessions, owner) = (Arc::clone(&self.deps.sessions), Arc::clone(owner));
        let restored = restored.clone();
        let (notices, background) = (Arc::clone(&self.deps.notices), self.deps.background.clone());
        let metrics = Arc::clone(&self.deps.reports.metrics);
        self.deps.background.spawn(async move {
            let asked = (&owner, again.as_deref());
            let mut renewed = sessions.renew(&restored, asked, now).await;
            if let Ok(Renewed::Ended { left }) = &mut renewed
                && let Some(token) = left.take()
            {
                let spent = Spent::Token(Arc::clone(&owner), token);
                let notice = Notice::new(owner.id(), spent, &metrics, now);
                notices.send(notice, &background);
            }
            renewed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::World;
    use crate::auth::fake::at;
    use crate::auth::fake::identity;
    use crate::identity::CanonicalSubject;
    use crate::providers::Authenticated;
    use crate::providers::Refreshed;
    use crate::secret::Secret;
    use crate::session::NewSession;
    use crate::session::Origin;
    use crate::session::SessionId;
    use crate::session::Sessions;
    use async_trait::async_trait;

    /// An owner that answers after the person has signed out.
    struct TooLate {
        sessions: Arc<Sessions>,
        row: [u8; 32],
    }

    #[async_trait]
    impl AskAgain for TooLate {
        async fn ask(&self, now: UnixTime) -> Result<Refreshed, ProviderError> {
            let ended = self.sessions.end_known(&self.row, now).await.unwrap();
            assert_eq!(ended.unwrap().refresh_token.unwrap().expose(), "RT1");
            Ok(Refreshed {
                authenticated: None,
                id_token: None,
                refresh_token: Some(Secret::new(String::from("RT2"))),
                lasts: None,
            })
        }
    }

    #[tokio::test]
    async fn what_a_renewal_brings_after_a_sign_out_is_revoked() {
        let world = World::canary();
        let proof = Authenticated::for_test(identity("new", "alice"), at(60));
        let canonical = CanonicalSubject::named("hr:1").unwrap();
        let new = NewSession {
            authenticated: &proof,
            canonical: &canonical,
            app: "crm",
            host: "app.test",
            backing: None,
            rule: "percent",
            origin: Origin::Login,
            until: UnixTime::NEVER,
            began: UnixTime::NEVER,
            id_token: None,
            sid: None,
            refresh_token: Some(&Secret::new(String::from("RT1"))),
            lasts: None,
            stands_for: None,
            came_by: None,
            left: None,
        };
        let sessions = world.sessions();
        let created = sessions.create(new, at(0)).await.unwrap();
        let id = SessionId::parse(created.cookie.expose()).unwrap();
        let restored = sessions.restore(id, at(1)).await.unwrap().unwrap();
        let gate = Gate::new(world.deps());
        let owner: Arc<dyn Provider> = Arc::clone(&world.new) as _;
        let again: Arc<dyn AskAgain> = Arc::new(TooLate {
            sessions: Arc::clone(&sessions),
            row: created.row,
        });
        let renewed = gate.renewed(&restored, (&owner, Some(again)), at(1)).await;
        assert!(matches!(renewed, Ok(Renewed::Ended { left: None })));
        let revoked = &world.new.login.as_ref().unwrap().revoked;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*revoked.lock().unwrap(), ["RT2"]);
    }
}
