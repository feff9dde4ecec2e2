//! Whether a credential of a provider counts here now: *accept*, and the arm that its person is on.

use std::sync::Arc;

use crate::auth::error::AuthError;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::policy::AppPolicy;
use crate::auth::report::About;
use crate::clock::UnixTime;
use crate::control::Upset;
use crate::exchange::Exchange;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::links::settings::OnMissing;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::rollout::OtherArm;
use crate::rollout::Plan;

impl Gate {
    /// *Accept*, before anybody is known: by class alone.
    pub(super) fn may_be_judged(
        &self,
        asked: &Asked<'_>,
        provider: &ProviderId,
        class: CredentialClass,
    ) -> Result<(), AuthError> {
        let refused = |refusal| Err(AuthError::refused(refusal, provider, class));
        match self.acceptance(asked, provider, class, asked.facts) {
            // Who it is must be known first.
            Acceptance::Accepted | Acceptance::OnlyExcept => Ok(()),
            Acceptance::NotAccepted => refused(Refusal::NotAccepted),
            Acceptance::Quarantined => refused(Refusal::Quarantined),
        }
    }

    /// With the accounts of the person that header templates write.
    pub(super) async fn with_accounts(
        &self,
        mut admitted: Admitted,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let (identity, person) = (&admitted.identity, &admitted.canonical);
        let accounts = self.deps.joiner.accounts_of(identity, person, now).await;
        admitted.accounts = accounts.map_err(|error| AuthError::store(&error, admitted.class))?;
        Ok(admitted)
    }

    /// What an exercise lets somebody meet who is known, as if it were their provider.
    pub(super) async fn exercised(
        &self,
        asked: &Asked<'_>,
        class: CredentialClass,
        canonical: &CanonicalSubject,
        identity: &Arc<Identity>,
    ) -> Result<(), AuthError> {
        // Whoever pulls the switch has real trouble.
        if asked.kill != KillPosition::Off {
            return Ok(());
        }
        let (provider, cohorts) = (&identity.provider, &self.deps.cohorts);
        let facts = asked.with(canonical, identity);
        match self.deps.drills.meets(provider, cohorts, &facts, asked.now) {
            Some(Upset::Away(outage)) => Err(AuthError::judged(&outage.into(), provider, class)),
            Some(Upset::Slow(span)) => {
                tokio::time::sleep(span).await;
                Ok(())
            }
            Some(Upset::Back) | None => Ok(()),
        }
    }

    /// *Accept*, of somebody who is known.
    pub(super) fn accepted_of(
        &self,
        asked: &Asked<'_>,
        class: CredentialClass,
        canonical: &CanonicalSubject,
        identity: &Arc<Identity>,
    ) -> Result<(), AuthError> {
        let provider = &identity.provider;
        let refused = |refusal| Err(AuthError::refused(refusal, provider, class));
        let arm = asked.policy.plan().and_then(|plan| plan.arm(provider));
        if arm == Some(Arm::To)
            && self.deps.joiner.on_missing(identity, canonical) != OnMissing::Alone
        {
            return match class {
                // A login says what becomes of such an account.
                CredentialClass::Session => refused(Refusal::NotAccepted),
                CredentialClass::Bearer
                | CredentialClass::Opaque
                | CredentialClass::Basic
                | CredentialClass::ApiKey
                | CredentialClass::ClientCert
                | CredentialClass::Refresh => Err(AuthError::Forbidden {
                    refusal: Refusal::NoLink,
                    provider: provider.clone(),
                    class,
                }),
            };
        }
        let facts = asked.with(canonical, identity);
        match self.acceptance(asked, provider, class, &facts) {
            Acceptance::Accepted => {
                let who = (canonical, identity);
                self.deps.seen.saw(asked.facts, who, class, asked.now);
                Ok(())
            }
            Acceptance::OnlyExcept | Acceptance::NotAccepted => refused(Refusal::NotAccepted),
            Acceptance::Quarantined => refused(Refusal::Quarantined),
        }
    }

    /// Whether nothing counts any more that one of these vouched for; nobody: as if the old side had.
    pub(crate) fn quarantines(
        &self,
        policy: &AppPolicy,
        owners: &[ProviderId],
        (facts, kill, now): (&Facts<'_>, KillPosition, UnixTime),
    ) -> bool {
        let Some(plan) = policy.plan() else {
            return false;
        };
        let from = std::slice::from_ref(&plan.from);
        let owners = if owners.is_empty() { from } else { owners };
        let (cohorts, class) = (&self.deps.cohorts, CredentialClass::Bearer);
        owners.iter().any(|owner| {
            let accepted = rollout::accept(plan, cohorts, kill, owner, class, facts, now);
            accepted == Acceptance::Quarantined
        })
    }

    fn acceptance(
        &self,
        asked: &Asked<'_>,
        provider: &ProviderId,
        class: CredentialClass,
        facts: &Facts<'_>,
    ) -> Acceptance {
        match asked.policy.plan() {
            Some(plan) => rollout::accept(
                plan,
                &self.deps.cohorts,
                asked.kill,
                provider,
                class,
                facts,
                asked.now,
            ),
            // Without a rollout there is one provider, and it is always honoured.
            None if asked.policy.single.as_ref() == Some(provider) => Acceptance::Accepted,
            None => Acceptance::NotAccepted,
        }
    }

    /// What becomes of a good credential whose owner is not its person's arm; the rule that assigned the person,
    /// the exchange that the stage wants, and the provider that the person belongs to.
    pub(super) async fn on_its_arm<'p>(
        &self,
        asked: &Asked<'p>,
        class: CredentialClass,
        canonical: &CanonicalSubject,
        identity: &Identity,
    ) -> Result<(Arc<str>, Option<&'p Arc<Exchange>>, Option<&'p ProviderId>), AuthError> {
        let provider = &identity.provider;
        let Some((plan, owner)) = asked
            .policy
            .plan()
            .and_then(|plan| Some((plan, plan.arm(provider)?)))
        else {
            return Ok((Arc::from("single"), None, asked.policy.single.as_ref()));
        };
        let pin = match self.deps.pins.of(&plan.id, canonical, asked.now).await {
            Ok(pin) => pin,
            // Where the answer does not hang on the pin, tokens need no store.
            Err(error) if pin_decides(plan, class) => return Err(AuthError::store(&error, class)),
            Err(_) => None,
        };
        let facts = asked.with(canonical, identity);
        let assignment = rollout::assign(
            plan,
            &self.deps.cohorts,
            &self.deps.bucket_key,
            asked.kill,
            pin,
            &facts,
            asked.now,
        );
        let action = rollout::other_arm(plan, owner, assignment.arm, class);
        let side = plan.provider(assignment.arm);
        if assignment.arm != owner {
            let about = About {
                app: asked.policy.app(),
                plan: Some(plan),
                person: Some(canonical),
                now: asked.now,
                source: asked.channel.source,
            };
            let reports = &self.deps.reports;
            reports.other_arm(about, plan, owner, &assignment, action, class);
        }
        match action {
            OtherArm::Accept => Ok((Arc::from(&*assignment.rule.label()), None, Some(side))),
            OtherArm::Exchange => {
                // Without a way, which `check` refuses, a credential is not taken as if it had been exchanged.
                let exchange = asked.policy.exchange_to(side);
                exchange
                    .map(|exchange| {
                        (
                            Arc::from(&*assignment.rule.label()),
                            Some(exchange),
                            Some(side),
                        )
                    })
                    .ok_or_else(|| AuthError::refused(Refusal::NotAccepted, provider, class))
            }
            OtherArm::Reject => Err(AuthError::refused(Refusal::NotAccepted, provider, class)),
        }
    }
}

/// Whether it matters where a person who holds a good credential of this class is assigned.
fn pin_decides(plan: &Plan, class: CredentialClass) -> bool {
    match rollout::other_arm(plan, Arm::From, Arm::To, class) {
        OtherArm::Accept => false,
        OtherArm::Exchange | OtherArm::Reject => true,
    }
}
