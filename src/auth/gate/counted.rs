//! What is told of people who were looked at: sessions to the guards, accepted credentials to whoever gives a second opinion.

use std::time::Duration;
use std::time::Instant;

use crate::auth::extract::Owned;
use crate::auth::gate::Asked;
use crate::auth::gate::Gate;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::rollout::KillPosition;
use crate::rollout::Observed;
use crate::shadow::Offer;

impl Gate {
    /// Offers an accepted credential for a second opinion. Nothing waits for it, and nothing here depends on it.
    pub(super) fn second_look(
        &self,
        asked: &Asked<'_>,
        (credential, proof, took): (&Credential, &Authenticated, Duration),
        canonical: &CanonicalSubject,
    ) {
        // An operator who pulls the switch may mean the second provider.
        let calm = asked.kill == KillPosition::Off;
        if let Some(plan) = asked.policy.plan().filter(|_| calm) {
            let offer = Offer {
                plan,
                app: asked.policy.app(),
                credential,
                identity: proof.identity(),
                canonical,
                bound: proof.confirmation().is_some(),
                ends: proof.ends(),
                took,
                now: asked.now,
            };
            self.deps.shadow.offer(&offer, &self.deps.bucket_key);
        }
    }

    /// The owner's judgement, and how long it took.
    pub(super) async fn judge_timed(
        &self,
        owned: Owned<'_>,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<(Authenticated, Duration), ProviderError> {
        let began = Instant::now();
        let proof = self.judge(owned, credential, now).await?;
        Ok((proof, began.elapsed()))
    }

    /// A live session was looked at: its person is counted.
    pub(super) fn saw_session(
        &self,
        asked: &Asked<'_>,
        person: &CanonicalSubject,
        provider: &ProviderId,
        honoured: bool,
    ) {
        // An exercise is no evidence against anybody.
        if self.deps.drills.is_on(provider, asked.now) {
            return;
        }
        let observed = if honoured {
            Observed::SessionHonoured
        } else {
            Observed::SessionRejected
        };
        let plan = asked.policy.plan();
        if let Some((plan, arm)) = plan.and_then(|plan| Some((plan, plan.arm(provider)?))) {
            let key = &self.deps.bucket_key;
            self.deps
                .journeys
                .session(plan, arm, person, observed, asked.now, key);
        }
    }
}
