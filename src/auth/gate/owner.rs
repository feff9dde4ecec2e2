//! What the owner of a credential says about it.

use std::sync::Arc;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Gate;
use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Refusal;

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
        let owned = match presented.owner() {
            Ok(owned) => owned,
            Err(refusal) => {
                let own = presented.own().ok_or_else(|| unowned(refusal))?;
                return Box::pin(self.ask_own(presented, own, now)).await;
            }
        };
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
}
