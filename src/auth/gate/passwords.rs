//! Passwords that have moved, or are about to: each has one judge. The old provider, until it has found a password good, an
//! account of the new one has it, and the new one has found it good; from then on the new one.

mod before;
mod removal;
mod typed;

pub(crate) use before::Stays;
pub(super) use typed::InHand;

use std::sync::Arc;
use std::sync::OnceLock;

use tokio::sync::OwnedSemaphorePermit;
use tracing::error;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::credential::Judged;
use crate::auth::gate::passwords::removal::Removal;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::links::Home;
use crate::links::Move;
use crate::providers::Provider;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::Plan;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::telemetry::metrics::CarryOver;

/// A password that has another judge than the owner of its class.
pub(super) struct AtHome {
    /// Who judges.
    owner: Arc<dyn Provider>,
    /// What was presented.
    credential: Credential,
    /// Where.
    home: Home,
    /// The account whose password it was: what ends that ends this.
    left: Option<SubjectKey>,
}

const fn way(plan: &Plan) -> Move<'_> {
    Move {
        from: &plan.from,
        to: &plan.to,
    }
}

impl Gate {
    /// The rollout, where passwords of the owner of the class may have moved in it.
    fn moving<'p>(&self, asked: &Asked<'p>, owner: &ProviderId) -> Option<&'p Plan> {
        let plan = asked.policy.plan()?;
        let concerned = plan.from == *owner && rollout::passwords_have_homes(plan, asked.kill);
        concerned.then_some(plan)
    }

    /// Where a password is judged that has moved, by the name that it came with. Nobody has judged it yet.
    pub(super) async fn home_by_name(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        owner: &Arc<dyn Provider>,
    ) -> Result<Option<AtHome>, AuthError> {
        let Some(plan) = self.moving(asked, owner.id()) else {
            return Ok(None);
        };
        let Some(credential) = presented.credential() else {
            return Ok(None);
        };
        let Credential::Basic { username, .. } = &credential else {
            return Ok(None);
        };
        let name = owner.person_name(username);
        let found = self.deps.homes.of_name(way(plan), &name, asked.now).await;
        self.at_home(asked, plan, found, credential).await
    }

    /// The same, by the person whose password the old provider has just found good: under a name by which nobody knew them.
    pub(super) async fn home_by_person(
        &self,
        asked: &Asked<'_>,
        judged: &Judged<'_>,
        person: &CanonicalSubject,
    ) -> Result<Option<AtHome>, AuthError> {
        let Some(plan) = self.moving(asked, judged.owner.id()) else {
            return Ok(None);
        };
        let homes = &self.deps.homes;
        let found = homes.of_person(way(plan), person, asked.now).await;
        if let (Ok(Some(home)), Credential::Basic { username, .. }) = (&found, judged.credential) {
            let name = judged.owner.person_name(username);
            let known = homes.also_knows_as(way(plan), (person, &name), home, asked.now);
            let known = known.await;
            known.map_err(|error| AuthError::store(&error, CredentialClass::Basic))?;
        }
        let credential = judged.credential.clone();
        self.at_home(asked, plan, found, credential).await
    }

    async fn at_home(
        &self,
        asked: &Asked<'_>,
        plan: &Plan,
        found: Result<Option<Home>, StoreError>,
        credential: Credential,
    ) -> Result<Option<AtHome>, AuthError> {
        let class = CredentialClass::Basic;
        // Without an answer nobody may judge: it could be the wrong one.
        let Some(home) = found.map_err(|error| AuthError::store(&error, class))? else {
            return Ok(None);
        };
        // An account that has been given to somebody else since took its name along, and not the password that was moved.
        let left = home
            .left()
            .map_err(|error| AuthError::store(&error, class))?;
        if let Some(left) = &left {
            let still = async {
                let (joiner, person) = (&self.deps.joiner, home.person()?);
                joiner
                    .is_still(&person, (&plan.from, left), asked.now)
                    .await
            };
            let still = still.await;
            if !still.map_err(|error| AuthError::store(&error, class))? {
                return Ok(None);
            }
        }
        let owner = self.deps.providers.named(&plan.to);
        let owner = owner.ok_or_else(|| AuthError::unowned(Refusal::Unsupported, class))?;
        Ok(Some(AtHome {
            owner: Arc::clone(owner),
            credential,
            home,
            left,
        }))
    }

    /// A password that has moved: judged by the provider that it has moved to, as that person's and nobody else's.
    pub(super) async fn by_home(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        at: &AtHome,
    ) -> Result<Admitted, AuthError> {
        let (class, owner, provider) = (CredentialClass::Basic, &at.owner, at.owner.id());
        self.may_be_judged(asked, provider, class)?;
        let Credential::Basic { password, .. } = &at.credential else {
            return Err(AuthError::refused(Refusal::BadCredentials, provider, class));
        };
        let epoch = owner.epoch().current();
        let (judge, username) = (Arc::clone(owner), at.home.username.clone());
        let (password, now) = (password.clone(), asked.now);
        let task = self.deps.background.spawn(async move {
            let judge = judge.passwords().ok_or(Refusal::Unsupported)?;
            judge.check(&username, &password, now).await
        });
        let proof = task.await.unwrap_or_else(|error| {
            error!(provider = %provider, error = %error, "A judgement broke off.");
            Err(Outage::Shed.into())
        });
        let proof = proof.map_err(|error| AuthError::judged(&error, provider, class))?;
        let judged = Judged {
            owner,
            credential: &at.credential,
            epoch,
            proof: &proof,
            // Nobody else sees a password that has moved: nothing is compared.
            took: None,
            made: None,
        };
        let canonical = self.whose(asked, presented, &judged).await?;
        // The name may have been given to somebody else there.
        let same = proof.identity().key.subject.as_str() == at.home.subject;
        if !same || !at.home.is_of(&canonical) {
            return Err(AuthError::Forbidden {
                refusal: Refusal::LinkConflict,
                provider: provider.clone(),
                class,
            });
        }
        let whole = (canonical, at.left.as_ref());
        self.weighed(asked, presented, &judged, whole).await
    }

    /// Takes the password of somebody who is assigned to the new side there. Nobody waits for it, and whatever comes of it, this
    /// request goes on as it is.
    pub(super) fn may_move(
        &self,
        asked: &Asked<'_>,
        judged: &Judged<'_>,
        person: &CanonicalSubject,
        side: Option<&ProviderId>,
    ) {
        let Credential::Basic { username, password } = judged.credential else {
            return;
        };
        let name = judged.owner.person_name(username);
        let Some(removal) = self.removal(asked, judged, (person, side), (name, password)) else {
            return;
        };
        let Some(room) = self.deps.homes.room() else {
            removal.told(CarryOver::Unavailable, Some(Outage::Shed.as_str()));
            return;
        };
        self.sets_out(removal, room);
    }

    /// A password on its way, where it may move; `None`: it stays.
    fn removal(
        &self,
        asked: &Asked<'_>,
        judged: &Judged<'_>,
        (person, side): (&CanonicalSubject, Option<&ProviderId>),
        (name, password): (String, &Secret<String>),
    ) -> Option<Removal> {
        let plan = asked.policy.plan()?;
        let assigned = side.and_then(|side| plan.arm(side)).unwrap_or(Arm::From);
        let to = self.deps.providers.named(&plan.to)?;
        let may = judged.owner.id() == &plan.from
            && rollout::password_moves(plan, asked.kill, assigned)
            && to.provisioning().is_some();
        may.then(|| Removal {
            homes: Arc::clone(&self.deps.homes),
            joiner: self.deps.joiner.clone(),
            pins: Arc::clone(&self.deps.pins),
            reports: self.deps.reports.clone(),
            to: Arc::clone(to),
            app: asked.policy.app().clone(),
            plan: plan.clone(),
            name,
            password: password.clone(),
            identity: Arc::clone(judged.proof.identity()),
            person: person.clone(),
            account: OnceLock::new(),
            now: asked.now,
        })
    }

    fn sets_out(&self, removal: Removal, room: OwnedSemaphorePermit) {
        self.deps.background.spawn(async move {
            removal.run().await;
            drop(room);
        });
    }
}

#[cfg(test)]
mod tests;
