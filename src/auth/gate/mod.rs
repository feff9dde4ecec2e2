//! The gate: a presented credential becomes an admitted identity, or an error. Nothing else does.

mod admitted;

pub(crate) use admitted::Admitted;
pub(crate) use admitted::Reach;

use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::error;

use crate::auth::canonical::Joiner;
use crate::auth::canonical::NotJoined;
use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::policy::AppPolicy;
use crate::auth::report::About;
use crate::auth::report::Reports;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Providers;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::Cohorts;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::rollout::OtherArm;
use crate::rollout::Person;
use crate::rollout::Plan;
use crate::session::Pins;
use crate::session::SessionId;
use crate::session::Sessions;

/// What the gate and the login work with, in one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    /// All providers.
    pub(crate) providers: Arc<Providers>,
    /// All cohorts.
    pub(crate) cohorts: Arc<Cohorts>,
    /// The key of the bucket hash.
    pub(crate) bucket_key: BucketKey,
    /// Who is one person across providers.
    pub(crate) joiner: Joiner,
    /// Our sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// Who has been on the new side.
    pub(crate) pins: Arc<Pins>,
    /// Where calls to providers run.
    pub(crate) background: Handle,
    /// Where decisions are told.
    pub(crate) reports: Reports,
}

/// Admits, or does not. One per snapshot.
#[derive(Debug)]
pub(crate) struct Gate {
    deps: Deps,
}

impl Gate {
    /// A gate for one snapshot.
    pub(crate) const fn new(deps: Deps) -> Self {
        Self { deps }
    }

    /// Admits the holder of a credential to an application, or says why not.
    ///
    /// # Errors
    ///
    /// See [`AuthError`]: each ends the request.
    pub(crate) async fn admit(
        &self,
        policy: &AppPolicy,
        presented: &Presented<'_>,
        facts: &Facts<'_>,
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let asked = Asked {
            policy,
            facts,
            kill,
            now,
        };
        match kill {
            KillPosition::Deny => return Err(AuthError::Closed),
            KillPosition::Off
            | KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern => {}
        }
        match presented.session() {
            Some(id) => self.by_session(&asked, id).await,
            None => self.by_credential(&asked, presented).await,
        }
    }

    /// Our own session: its proof was given at the login; what is asked now is whether it lives and is honoured here.
    async fn by_session(
        &self,
        asked: &Asked<'_>,
        id: SessionId<'_>,
    ) -> Result<Admitted, AuthError> {
        let class = CredentialClass::Session;
        let found = self
            .deps
            .sessions
            .restore(id, asked.now)
            .await
            .map_err(|error| AuthError::store(&error, class))?;
        // A session of another host looks like none.
        let restored = found
            .filter(|restored| restored.host() == asked.facts.host)
            .ok_or(AuthError::unowned(Refusal::Inactive, class))?;
        let identity = restored.identity();
        let provider = &identity.provider;
        let owner = asked
            .policy
            .judge(provider, &self.deps.providers)
            .ok_or_else(|| AuthError::refused(Refusal::NotAccepted, provider, class))?;
        let epoch = owner.epoch().current();
        self.accepted_of(asked, class, restored.canonical(), identity)?;
        Ok(Admitted {
            identity: Arc::clone(identity),
            canonical: restored.canonical().clone(),
            class,
            arm: asked.policy.plan().and_then(|plan| plan.arm(provider)),
            rule: Arc::clone(restored.rule()),
            expires: asked.policy.cut(provider, restored.ends(), asked.now),
            rests_on: owner.epoch().clone(),
            epoch,
            session: Some(Arc::clone(restored.live())),
            kill: asked.kill,
            reach: asked.policy.reach(),
        })
    }

    /// A credential of a provider: judged by its owner, and by nobody else whatever comes of it.
    async fn by_credential(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
    ) -> Result<Admitted, AuthError> {
        let class = presented.class();
        let owner = presented
            .owner()
            .and_then(|owner| owner.ok_or(Refusal::Unsupported))
            .map_err(|refusal| AuthError::unowned(refusal, class))?;
        let provider = owner.id();
        self.may_be_judged(asked, provider, class)?;
        let credential = presented
            .credential()
            .ok_or_else(|| AuthError::refused(Refusal::BadCredentials, provider, class))?;
        // Before the judgement: what is voided while it is made is void.
        let epoch = owner.epoch().current();
        let proof = self
            .judge(owner, credential, asked.now)
            .await
            .map_err(|error| AuthError::judged(&error, provider, class))?;
        let identity = proof.identity();
        if identity.provider != *provider {
            error!(provider = %provider, "A provider vouched for somebody else's account; refused.");
            return Err(AuthError::refused(Refusal::Policy, provider, class));
        }
        if proof.expires() <= asked.now {
            return Err(AuthError::refused(Refusal::Expired, provider, class));
        }
        let canonical = self
            .deps
            .joiner
            .join(identity, asked.now)
            .await
            .map_err(|error| match error {
                NotJoined::Refused(refusal) => AuthError::Forbidden {
                    refusal,
                    provider: provider.clone(),
                    class,
                },
                NotJoined::Store(error) => AuthError::store(&error, class),
            })?;
        self.accepted_of(asked, class, &canonical, identity)?;
        let rule = self.on_its_arm(asked, class, &canonical, identity).await?;
        Ok(Admitted {
            identity: Arc::clone(identity),
            canonical,
            class,
            arm: asked.policy.plan().and_then(|plan| plan.arm(provider)),
            rule,
            expires: asked.policy.cut(provider, proof.expires(), asked.now),
            rests_on: owner.epoch().clone(),
            epoch,
            session: None,
            kill: asked.kill,
            reach: asked.policy.reach(),
        })
    }

    /// Without I/O where the owner can; else on the background runtime, where its connections live.
    async fn judge(
        &self,
        owner: &Arc<dyn Provider>,
        credential: Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        if let Some(judged) = owner.judge_locally(&credential, now) {
            return judged;
        }
        let judge = Arc::clone(owner);
        let task = self
            .deps
            .background
            .spawn(async move { judge.authenticate(&credential, now).await });
        task.await.unwrap_or_else(|error| {
            error!(provider = %owner.id(), error = %error, "A judgement broke off.");
            Err(Outage::Shed.into())
        })
    }

    /// *Accept*, before anybody is known: by class alone.
    fn may_be_judged(
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

    /// *Accept*, of somebody who is known.
    fn accepted_of(
        &self,
        asked: &Asked<'_>,
        class: CredentialClass,
        canonical: &CanonicalSubject,
        identity: &Identity,
    ) -> Result<(), AuthError> {
        let provider = &identity.provider;
        let refused = |refusal| Err(AuthError::refused(refusal, provider, class));
        let facts = asked.with(canonical, identity);
        match self.acceptance(asked, provider, class, &facts) {
            Acceptance::Accepted => Ok(()),
            Acceptance::OnlyExcept | Acceptance::NotAccepted => refused(Refusal::NotAccepted),
            Acceptance::Quarantined => refused(Refusal::Quarantined),
        }
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

    /// What becomes of a good credential whose owner is not its person's arm; the rule that assigned the person.
    async fn on_its_arm(
        &self,
        asked: &Asked<'_>,
        class: CredentialClass,
        canonical: &CanonicalSubject,
        identity: &Identity,
    ) -> Result<Arc<str>, AuthError> {
        let provider = &identity.provider;
        let Some((plan, owner)) = asked
            .policy
            .plan()
            .and_then(|plan| Some((plan, plan.arm(provider)?)))
        else {
            return Ok(Arc::from("single"));
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
        if assignment.arm != owner {
            let about = About {
                app: asked.policy.app(),
                person: Some(canonical),
                now: asked.now,
            };
            let reports = &self.deps.reports;
            reports.other_arm(about, plan, owner, &assignment, action, class);
        }
        match action {
            OtherArm::Accept => Ok(Arc::from(&*assignment.rule.label())),
            // `check` refuses `exchange` in this build; a credential is never taken as if it had been exchanged.
            OtherArm::Exchange | OtherArm::Reject => {
                Err(AuthError::refused(Refusal::NotAccepted, provider, class))
            }
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

/// One question to the gate.
struct Asked<'a> {
    policy: &'a AppPolicy,
    facts: &'a Facts<'a>,
    kill: KillPosition,
    now: UnixTime,
}

impl Asked<'_> {
    fn with<'p>(&'p self, canonical: &'p CanonicalSubject, identity: &'p Identity) -> Facts<'p> {
        Facts {
            person: Some(Person {
                canonical,
                identity,
            }),
            ..*self.facts
        }
    }
}
