//! A session whose confirmation at its owner is due: asked for behind the request, or before it.

use std::sync::Arc;

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
use crate::session::AskAgain;
use crate::session::Renewed;
use crate::session::Restored;
use crate::session::Standing;
use crate::store::StoreError;

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
        let renewed = match self.renewal(&restored, (owner, again), now).await {
            Ok(renewed) => renewed,
            Err(error) => {
                error!(provider = %provider, error = %error, "A renewal broke off.");
                Ok(Renewed::Away {
                    outage: Outage::Shed,
                    retry_after: None,
                })
            }
        };
        match renewed {
            Ok(Renewed::Session(restored)) => Ok(restored),
            Ok(Renewed::Ended) => Err(AuthError::unowned(Refusal::Inactive, class)),
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

    /// On the background runtime: a client that goes away does not take it along.
    pub(super) fn renewal(
        &self,
        restored: &Restored,
        (owner, again): (&Arc<dyn Provider>, Option<Arc<dyn AskAgain>>),
        now: UnixTime,
    ) -> JoinHandle<Result<Renewed, StoreError>> {
        let (sessions, owner) = (Arc::clone(&self.deps.sessions), Arc::clone(owner));
        let restored = restored.clone();
        self.deps.background.spawn(async move {
            let asked = (&owner, again.as_deref());
            sessions.renew(&restored, asked, now).await
        })
    }
}
