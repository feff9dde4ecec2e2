//! Sessions that were looked at, for the guards: one person, honoured or refused.

use crate::auth::gate::Asked;
use crate::auth::gate::Gate;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::rollout::Observed;

impl Gate {
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
