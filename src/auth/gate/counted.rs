//! What is told of people who were looked at: sessions to the guards, accepted credentials to whoever gives a second opinion.

use crate::auth::gate::Asked;
use crate::auth::gate::Gate;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::rollout::KillPosition;
use crate::rollout::Observed;
use crate::shadow::Offer;

impl Gate {
    /// Offers an accepted credential for a second opinion. Nothing waits for it, and nothing here depends on it.
    pub(super) fn second_look(
        &self,
        asked: &Asked<'_>,
        credential: &Credential,
        canonical: &CanonicalSubject,
        proof: &Authenticated,
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
                now: asked.now,
            };
            self.deps.shadow.offer(&offer, &self.deps.bucket_key);
        }
    }

    /// A live session was looked at: its person is counted.
    pub(super) fn saw_session(
        &self,
        asked: &Asked<'_>,
        person: &CanonicalSubject,
        provider: &ProviderId,
        honoured: bool,
    ) {
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
