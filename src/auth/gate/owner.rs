//! What the owner of a credential says about it.

use std::sync::Arc;

use tracing::error;

use crate::auth::error::AuthError;
use crate::auth::extract::Owned;
use crate::auth::extract::Presented;
use crate::auth::gate::Gate;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;

impl Gate {
    /// Has a credential judged by its owner, for an operator who asks. Whether it is honoured anywhere is another question.
    ///
    /// # Errors
    ///
    /// What the owner says against it, or that it has none.
    pub(crate) async fn ask_owner(
        &self,
        presented: &Presented<'_>,
        now: UnixTime,
    ) -> Result<Arc<Identity>, AuthError> {
        let class = presented.class();
        let unowned = |refusal| AuthError::unowned(refusal, class);
        let owned = presented.owner().map_err(unowned)?;
        let owner = owned.owner;
        let credential = presented
            .credential()
            .ok_or_else(|| unowned(Refusal::BadCredentials))?;
        let proof = self.judge(owned, &credential, now).await;
        let proof = proof.map_err(|error| AuthError::judged(&error, owner.id(), class))?;
        if proof.is_over(now) {
            return Err(AuthError::refused(Refusal::Expired, owner.id(), class));
        }
        Ok(Arc::clone(proof.identity()))
    }

    /// Without I/O where the owner can; else on the background runtime, where its connections live.
    pub(super) async fn judge(
        &self,
        Owned { owner, read }: Owned<'_>,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        if let Some(judged) = read.and_then(|token| owner.judge_read(token, now)) {
            return judged;
        }
        if let Some(judged) = owner.judge_locally(credential, now) {
            return judged;
        }
        let (judge, credential) = (Arc::clone(owner), credential.clone());
        let task = self
            .deps
            .background
            .spawn(async move { judge.authenticate(&credential, now).await });
        task.await.unwrap_or_else(|error| {
            error!(provider = %owner.id(), error = %error, "A judgement broke off.");
            Err(Outage::Shed.into())
        })
    }
}
