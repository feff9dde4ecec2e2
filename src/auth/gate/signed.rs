//! Whether the keys still count that have signed what a token was made of: as if that were presented once more.

use std::sync::Arc;

use tracing::error;

use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::clock::UnixTime;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Epoch;
use crate::providers::ProviderError;
use crate::revocation::Handed;

/// What an admission rests on, besides what its provider says of what was presented.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// Those who have the keys, and what their verdicts rested on then.
    rests_on: Box<[(Epoch, u64)]>,
    /// Until when their keys are believed.
    pub(super) until: UnixTime,
}

impl Default for Signed {
    /// Nobody has signed anything.
    fn default() -> Self {
        Self {
            rests_on: Box::default(),
            until: UnixTime::NEVER,
        }
    }
}

impl Signed {
    /// Whether none of the keys can have left since.
    pub(super) fn still_good(&self) -> bool {
        let mut all = self.rests_on.iter();
        all.all(|(epoch, seen)| epoch.current() == *seen)
    }
}

impl Gate {
    /// Whether each key that has signed what a token was made of is still one of its provider: it is refused as the token that
    /// was signed would be, and while nobody can say that, nobody says it of this one.
    ///
    /// # Errors
    ///
    /// A refusal where a key is gone, or the provider itself; an outage where its keys are too old to be believed.
    pub(crate) async fn still_signed(
        &self,
        handed: &Handed,
        class: CredentialClass,
        now: UnixTime,
    ) -> Result<Signed, AuthError> {
        let mut rests_on = Vec::with_capacity(handed.signers.len());
        let mut until = UnixTime::NEVER;
        for signer in &handed.signers {
            let gone = || AuthError::refused(Refusal::Revoked, &signer.provider, class);
            let provider = self.deps.providers.named(&signer.provider);
            let provider = provider.ok_or_else(gone)?;
            // Before the look: what leaves while it is made has left.
            rests_on.push((provider.epoch().clone(), provider.epoch().current()));
            let said = match provider.has_key(&signer.key, now) {
                Some(said) => said,
                None => {
                    let (owner, key) = (Arc::clone(provider), signer.key);
                    let look = async move { owner.look_for_key(&key, now).await };
                    let looked = self.deps.background.spawn(look).await;
                    looked.unwrap_or_else(|error| {
                        error!(provider = %signer.provider, %error, "A look for a key broke off.");
                        Err(Outage::Shed.into())
                    })
                }
            };
            let believed = said.map_err(|why| match why {
                ProviderError::Rejected(_) => gone(),
                ProviderError::Unavailable { .. } => {
                    AuthError::judged(&why, &signer.provider, class)
                }
            })?;
            until = until.min(believed);
        }
        Ok(Signed {
            rests_on: rests_on.into(),
            until,
        })
    }
}
