//! A presented credential of a provider: judged by its one judge, and by nobody else whatever comes of it.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::auth::canonical::NotJoined;
use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::gate::admitted::until;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::asked::Instead;
use crate::auth::gate::exchanged::Holder;
use crate::auth::gate::own::Made;
use crate::auth::gate::stands::still_stands;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::providers::Authenticated;
use crate::providers::Provider;
use crate::revocation::Marks;
use crate::revocation::Origin;
use crate::rollout::Observed;
use crate::rollout::Passwords;
use crate::rollout::Plan;

/// A credential that its judge has found good.
pub(super) struct Judged<'a> {
    /// Who judged.
    pub(super) owner: &'a Arc<dyn Provider>,
    /// What was presented.
    pub(super) credential: &'a Credential,
    /// What the verdict rests on.
    pub(super) epoch: u64,
    /// The verdict.
    pub(super) proof: &'a Authenticated,
    /// How long it took; `None`: nobody has presented it, and nobody is asked for a second opinion.
    pub(super) took: Option<Duration>,
    /// What it was made of, where it is a token of ours.
    pub(super) made: Option<&'a Made>,
}

impl Gate {
    /// A credential of a provider: judged by its owner; a password that has moved, by the provider that it has moved to.
    pub(super) async fn by_credential(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
    ) -> Result<Admitted, AuthError> {
        let class = presented.class();
        if let Some(owner) = presented.who_refused(asked.now) {
            // As it would be if the token were read and judged once more.
            let provider = owner.id();
            self.may_be_judged(asked, provider, class)?;
            return Err(AuthError::refused(Refusal::BadSignature, provider, class));
        }
        let owned = match presented.owner() {
            Ok(owned) => owned,
            Err(refusal) => {
                return match presented.own() {
                    Some(own) => Box::pin(self.by_own(asked, presented, own)).await,
                    None => Err(AuthError::unowned(refusal, class)),
                };
            }
        };
        let owner = owned.owner;
        let provider = owner.id();
        if class == CredentialClass::Basic
            && let Some(home) = Box::pin(self.home_by_name(asked, presented, owner)).await?
        {
            return Box::pin(self.by_home(asked, presented, &home)).await;
        }
        self.may_be_judged(asked, provider, class)?;
        let credential = presented
            .credential()
            .ok_or_else(|| AuthError::refused(Refusal::BadCredentials, provider, class))?;
        // Before the judgement: what is voided while it is made is void.
        let epoch = owner.epoch().current();
        let (proof, took) = self.judged_timed(asked, owned, &credential, class).await?;
        let judged = Judged {
            owner,
            credential: &credential,
            epoch,
            proof: &proof,
            took: Some(took),
            made: None,
        };
        let canonical = self.whose(asked, presented, &judged).await?;
        if class == CredentialClass::Basic
            && let Some(home) = Box::pin(self.home_by_person(asked, &judged, &canonical)).await?
        {
            return Box::pin(self.by_home(asked, presented, &home)).await;
        }
        let whole = (canonical, None);
        self.weighed(asked, presented, &judged, whole).await
    }

    /// Who it is, once the holder has proved to hold what the credential is bound to.
    pub(super) async fn whose(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        judged: &Judged<'_>,
    ) -> Result<CanonicalSubject, AuthError> {
        let (class, provider) = (presented.class(), judged.owner.id());
        let proof = judged.proof;
        let identity = proof.identity();
        if identity.provider != *provider {
            error!(provider = %provider, "A provider vouched for somebody else's account; refused.");
            return Err(AuthError::refused(Refusal::Policy, provider, class));
        }
        if proof.is_over(asked.now) {
            return Err(AuthError::refused(Refusal::Expired, provider, class));
        }
        let bound = proof.confirmation();
        if !asked.is_proven(bound) {
            let way = (asked.facts, asked.channel);
            let possession = &self.deps.possession;
            possession
                .check(presented, bound, way, identity, asked.now)
                .await?;
        }
        let joined = self.deps.joiner.join(identity, asked.now).await;
        let forbidden = |refusal| AuthError::Forbidden {
            refusal,
            provider: provider.clone(),
            class,
        };
        joined.map_err(|error| match error {
            NotJoined::Refused(refusal) => forbidden(refusal),
            NotJoined::Contested => forbidden(Refusal::LinkConflict),
            NotJoined::Store(error) => AuthError::store(&error, class),
        })
    }

    /// Whether a good credential of somebody who is known counts here and now, and what is made of it. `left`: the account whose
    /// password it was before it moved.
    pub(super) async fn weighed(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        judged: &Judged<'_>,
        (canonical, left): (CanonicalSubject, Option<&SubjectKey>),
    ) -> Result<Admitted, AuthError> {
        let Judged {
            owner,
            credential,
            epoch,
            proof,
            took,
            made,
        } = *judged;
        let class = made.map_or_else(|| presented.class(), Made::class);
        let (provider, identity) = (owner.id(), proof.identity());
        let marks = asked.since(Marks::of(identity, &canonical, proof.grounds()));
        let marks = match presented.old() {
            Some(old) if class == CredentialClass::Session => marks.and_session(&old.digest()),
            Some(_) | None => marks,
        };
        let marks = match left {
            Some(left) => marks.and_account(left),
            None => marks,
        };
        let (marks, signed) = match made {
            Some(made) => (made.and_its_own(marks), made.signed().clone()),
            None => self.made_of(asked, credential, identity, marks).await?,
        };
        let standing = self.stands_there(asked, owner, credential, marks)?;
        let exercised = self.exercised(asked, class, &canonical, identity).await;
        exercised.and_then(|()| self.accepted_of(asked, class, &canonical, identity))?;
        if class == CredentialClass::Session {
            let who = (&canonical, &**identity);
            self.saw_session(asked, who, Observed::SessionHonoured);
        }
        let (rule, other_arm, side) = self.on_its_arm(asked, class, &canonical, identity).await?;
        // A password that has moved has one judge: nobody else sees it, not even for a second opinion.
        let moved = |plan: &Plan| plan.to == *provider && plan.stage.passwords != Passwords::AtFrom;
        let took = took
            .filter(|_| class != CredentialClass::Basic || !asked.policy.plan().is_some_and(moved))
            // The session of a form is looked at when it is used.
            .filter(|_| asked.typed.is_none());
        if let Some(took) = took {
            self.second_look(asked, presented, (credential, proof, took), &canonical);
        }
        if class == CredentialClass::Basic {
            self.may_move(asked, judged, &canonical, side);
        } else if let Some(in_hand) = asked.typed {
            let (what, who) = ((presented, judged), (&canonical, side));
            Box::pin(self.may_move_typed(asked, what, who, in_hand)).await;
        }
        // What is handed on says of a person what the configuration makes of the groups, like everything else here.
        let known = self.with_roles(identity, class, asked.now)?;
        // An earlier yes counts for as long as it does, whatever its token says.
        let life_ends = if proof.is_remembered() {
            proof.expires()
        } else {
            proof.life_ends()
        };
        let holder = Holder {
            identity: &known,
            canonical: &canonical,
            class,
            // Its provider has not issued it: nobody there is shown it.
            credential: made.is_none().then_some(credential),
            bound: proof.confirmation().copied(),
            // What counts here no more at a moment is handed on as nothing that lives beyond it.
            ends: asked
                .policy
                .cut_of_class(provider, class, life_ends, asked.now),
            outlived: match class {
                CredentialClass::Bearer | CredentialClass::Opaque | CredentialClass::Refresh => {
                    Some(proof.life_ends())
                }
                CredentialClass::Session
                | CredentialClass::Basic
                | CredentialClass::ApiKey
                | CredentialClass::ClientCert => None,
            },
            lasts: life_ends,
            epoch,
            asked_by: None,
            narrowed: false,
            over: None,
            standing: &standing,
            session: None,
        };
        // What the route's upstream expects goes before what the stage prefers.
        let token = match asked.instead {
            Instead::OnRoute(_) | Instead::StillOnRoute(_) => {
                let wanted = asked.on_route().or(other_arm);
                self.instead(asked, wanted, presented, &holder).await?
            }
            Instead::ForClient(client) => {
                let issued = self.issued(asked, client, side, presented, &holder);
                Some(issued.await?.of(Origin::new(identity, class)))
            }
            Instead::Nothing => None,
        };
        still_stands(&standing, (provider, class), asked.now)?;
        let wrapped = self.wrap(asked, presented, proof, &canonical).await;
        Ok(Admitted {
            identity: known,
            canonical,
            accounts: None,
            class,
            confirmation: proof.confirmation().copied(),
            arm: asked.policy.plan().and_then(|plan| plan.arm(provider)),
            rule,
            expires: until(
                asked
                    .policy
                    .cut_of_class(provider, class, proof.expires(), asked.now)
                    .min(signed.until),
                &token,
            ),
            token,
            ends: asked.policy.cut(provider, proof.ends(), asked.now),
            life_ends: asked.policy.cut(provider, life_ends, asked.now),
            rests_on: made.map_or(owner.epoch(), Made::rests_on).clone(),
            epoch,
            signed,
            session: None,
            standing,
            kill: asked.kill,
            reach: asked.policy.reach(),
            wrapped,
        })
    }
}
