//! What is told of people who were looked at: sessions to the guards, accepted credentials to whoever gives a second opinion.

use std::time::Duration;

use crate::auth::error::AuthError;
use crate::auth::extract::Owned;
use crate::auth::extract::Presented;
use crate::auth::gate::Asked;
use crate::auth::gate::Gate;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::providers::Authenticated;
use crate::rollout;
use crate::rollout::KillPosition;
use crate::rollout::Observed;
use crate::session::Restored;
use crate::shadow::Offer;

impl Gate {
    /// Offers an accepted credential for a second opinion. Nothing waits for it, and nothing here depends on it.
    pub(super) fn second_look(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
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
                candidate: presented.candidate(),
                bound: proof.confirmation().is_some(),
                ends: proof.ends(),
                took,
                now: asked.now,
            };
            self.deps.shadow.offer(&offer);
        }
    }

    /// The owner's judgement of a request's credential, and how long it took.
    pub(super) async fn judged_timed(
        &self,
        asked: &Asked<'_>,
        owned: Owned<'_>,
        credential: &Credential,
        class: CredentialClass,
    ) -> Result<(Authenticated, Duration), AuthError> {
        let began = tokio::time::Instant::now();
        let proof = self.judged(asked, owned, credential, class).await?;
        Ok((proof, began.elapsed()))
    }

    /// A live session was looked at, and its provider had its say: its person is counted. What our own rules refuse is no
    /// evidence against a provider, and is not told here.
    pub(super) fn saw_session(
        &self,
        asked: &Asked<'_>,
        (person, identity): (&CanonicalSubject, &Identity),
        observed: Observed,
    ) {
        let provider = &identity.provider;
        // An exercise is no evidence against anybody.
        if self.deps.drills.is_on(provider, asked.now) {
            return;
        }
        let plan = asked.policy.plan();
        if let Some((plan, arm)) = plan.and_then(|plan| Some((plan, plan.arm(provider)?))) {
            let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
            let facts = asked.with(person, identity);
            // Where they are is what is compared; by whom they were moved there says whether they may be.
            let placed = rollout::is_left_to_percent(plan, cohorts, key, &facts, asked.now);
            let seen = (observed, placed.then_some(arm));
            self.deps
                .journeys
                .session(plan, arm, person, seen, asked.now, key);
        }
    }

    /// A live session could not be confirmed, and its person was not let in: its provider is away. Where we have not asked, as
    /// too much was under way here, that says nothing of it.
    pub(super) fn could_not_ask(&self, asked: &Asked<'_>, restored: &Restored, outage: Outage) {
        if outage == Outage::Shed {
            return;
        }
        let who = (restored.canonical(), &**restored.identity());
        self.saw_session(asked, who, Observed::SessionError);
    }
}
