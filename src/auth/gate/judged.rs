//! What the owner of a credential says of it; and those who keep coming with tokens of keys that nobody has published.

use std::sync::Arc;

use tracing::error;

use crate::auth::error::AuthError;
use crate::auth::extract::Owned;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::limits::Of;
use crate::auth::limits::Standing;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Provider;
use crate::providers::ProviderError;

impl Gate {
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
        match owner.judge_locally(credential, now) {
            Some(judged) => judged,
            None => self.authenticate(owner, credential, now).await,
        }
    }

    /// The same of a request. A good token always goes on; a key that nobody has published is asked for, and waited for, only
    /// so often for one address.
    pub(super) async fn judged(
        &self,
        asked: &Asked<'_>,
        Owned { owner, read }: Owned<'_>,
        credential: &Credential,
        class: CredentialClass,
    ) -> Result<Authenticated, AuthError> {
        let (provider, now) = (owner.id(), asked.now);
        let failed = |why: &ProviderError| AuthError::judged(why, provider, class);
        let signed = read.is_some();
        if let Some(judged) = read.and_then(|token| owner.judge_read(token, now)) {
            return judged.map_err(|why| failed(&why));
        }
        let limited = |standing| AuthError::Limited {
            standing,
            provider: provider.clone(),
            class,
        };
        let judged = match owner.judge_locally(credential, now) {
            Some(judged) => judged,
            None => {
                if signed && let Some(standing) = self.too_many_keys(asked) {
                    // It may be a new one all the same: somebody else will find it there.
                    owner.look_for_keys();
                    return Err(limited(standing));
                }
                self.authenticate(owner, credential, now).await
            }
        };
        let unknown = matches!(
            judged,
            Err(ProviderError::Rejected(Refusal::BadSignature)) if signed
        );
        if unknown {
            let most = asked.policy.rate_limits.unknown_keys;
            let standing = self.deps.limits.take(keys_of(asked), most, now).await;
            if standing.over {
                self.count_limited();
                return Err(limited(standing));
            }
        }
        judged.map_err(|why| failed(&why))
    }

    async fn authenticate(
        &self,
        owner: &Arc<dyn Provider>,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
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

    fn too_many_keys(&self, asked: &Asked<'_>) -> Option<Standing> {
        let most = asked.policy.rate_limits.unknown_keys;
        let standing = self.deps.limits.over(keys_of(asked), most, asked.now)?;
        self.count_limited();
        Some(standing)
    }

    fn count_limited(&self) {
        let metrics = &self.deps.reports.metrics;
        metrics.rate_limited("unknown_keys", "address");
    }
}

fn keys_of<'a>(asked: &Asked<'a>) -> Of<'a> {
    Of::UnknownKeys(asked.policy.app(), asked.facts.client_ip)
}
