//! Wrapping: a session of ours stands for one of an old system, together with its cookie and never without it.
//!
//! What the application is told and what it reads from the cookie of the old system is one person: ours counts only beside
//! the very cookie that it stands for. Another one is judged anew, by its owner, before anything is said about anybody.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::debug;
use tracing::warn;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Refreshed;
use crate::revocation::Marks;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::revocation::Standing;
use crate::rollout::Arm;
use crate::secret::Secret;
use crate::session::AskAgain;
use crate::session::Backing;
use crate::session::Farewell;
use crate::session::NewSession;
use crate::session::OldSession;
use crate::session::Origin;
use crate::session::Renewed;
use crate::session::Restored;
use crate::store::StoreError;
use crate::telemetry::metrics::CarryOver;

/// The rule that such a session names, and the method that it is counted by.
const WRAP: &str = "wrap";

/// How often it is tried to be the first of several instances.
const TRIES: u8 = 2;

/// A session that stands for one of an old system, once its cookie has been looked at.
pub(super) enum Its {
    /// It counts.
    Session(Restored),
    /// The cookie beside it is of somebody else, or has just been exchanged for another.
    OfAnother,
}

/// Asks the owner of an old session about it, as the browser sends it now.
struct OldCookie {
    owner: Arc<dyn Provider>,
    credential: Credential,
    stands_for: [u8; 32],
}

#[async_trait]
impl AskAgain for OldCookie {
    async fn ask(&self, now: UnixTime) -> Result<Refreshed, ProviderError> {
        let proof = self.owner.authenticate(&self.credential, now).await?;
        if proof.is_over(now) {
            return Err(Refusal::Expired.into());
        }
        // An earlier yes confirms nothing: the session goes on as long as its owner may be away.
        if proof.is_remembered() {
            return Err(Outage::Connect.into());
        }
        Ok(Refreshed {
            authenticated: Some(proof),
            id_token: None,
            refresh_token: None,
            lasts: None,
        })
    }

    fn stands_for(&self) -> Option<[u8; 32]> {
        Some(self.stands_for)
    }
}

impl Gate {
    /// A session of ours that is over, or is of somebody else than the one of the old system beside it: that one counts, as if
    /// it had come alone, where sessions are wrapped. Not of a person who has moved: the next sign-in is at the new side, unless
    /// they moved by the very sign-in that it came of.
    pub(super) async fn beside(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
    ) -> Result<Admitted, AuthError> {
        let class = CredentialClass::Session;
        let inactive = || AuthError::unowned(Refusal::Inactive, class);
        let theirs = presented.without_ours().filter(|_| asked.policy.wraps());
        let theirs = theirs.ok_or_else(inactive)?;
        let stands = async || {
            let found = self.stand_in_of(asked, &theirs).await;
            found.map_err(|error| AuthError::store(&error, class))
        };
        // Nobody moves by the sign-in itself but where passwords of forms move.
        let before = match asked.policy.typed() {
            Some(_) => stands().await?,
            None => None,
        };
        let admitted = self.by_credential(asked, &theirs).await?;
        if let Some(plan) = asked.policy.plan().filter(|_| before.is_none()) {
            let pin = self.deps.pins.of(&plan.id, admitted.canonical(), asked.now);
            let pin = pin.await.map_err(|error| AuthError::store(&error, class))?;
            if pin.is_some_and(|pin| pin.arm == Arm::To && pin.epoch == plan.epoch) {
                // It has just got one, which nobody is to find there.
                if let Some(restored) = stands().await? {
                    self.is_over(&restored, asked.now).await;
                }
                return Err(inactive());
            }
        }
        Ok(admitted)
    }

    /// The session of ours that stands for one of an old system already: what that came beside is of another.
    async fn stand_in_of(
        &self,
        asked: &Asked<'_>,
        theirs: &Presented<'_>,
    ) -> Result<Option<Restored>, StoreError> {
        let Some(old) = theirs.old() else {
            return Ok(None);
        };
        let whose = (asked.policy.app().as_str(), asked.facts.host);
        let mut noted = self.deps.sessions.noted(whose, old, asked.now).await?;
        Ok(noted.there.take().map(|(_, restored)| restored))
    }

    /// A session that stands for one of an old system, which came along or not.
    pub(super) async fn with_its_cookie(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        restored: Restored,
        owner: &Arc<dyn Provider>,
    ) -> Result<Its, AuthError> {
        let (class, provider) = (CredentialClass::Session, owner.id());
        // Who is no longer honoured is not asked either.
        self.may_be_judged(asked, provider, class)?;
        let theirs = presented.without_ours();
        let old = presented
            .old()
            .zip(theirs.and_then(|theirs| theirs.credential()));
        let Some((old, credential)) = old else {
            // The browser has lost it: by a sign-out of the old system, for one.
            if restored.standing(asked.now) != crate::session::Standing::Fresh {
                self.is_over(&restored, asked.now).await;
            }
            return Err(AuthError::unowned(Refusal::Inactive, class));
        };
        let stands_for = old.digest();
        // Later requests have brought another cookie: what this one says no longer counts for the session, nor against it. Where
        // they come no more, nobody has confirmed the session in time, and its owner cannot be asked about it by this cookie.
        if asked.is_open() && restored.stands_for() != Some(&stands_for) {
            return match restored.standing(asked.now) {
                crate::session::Standing::Overdue | crate::session::Standing::Lapsed => {
                    Err(AuthError::refused(Refusal::Expired, provider, class))
                }
                crate::session::Standing::Fresh | crate::session::Standing::Due => {
                    Ok(Its::Session(restored))
                }
            };
        }
        let again: Arc<dyn AskAgain> = Arc::new(OldCookie {
            owner: Arc::clone(owner),
            credential,
            stands_for,
        });
        if restored.stands_for() == Some(&stands_for) {
            let confirmed = self.confirmed(restored, (owner, Some(again)), asked);
            return confirmed.await.map(Its::Session);
        }
        // Old systems change the values of their cookies, and people sign in anew: whose it is must be known first.
        let renewed = self.renewed(&restored, (owner, Some(again)), asked.now);
        match renewed.await {
            Ok(Renewed::Session(restored)) if restored.stands_for() == Some(&stands_for) => {
                Ok(Its::Session(restored))
            }
            Ok(Renewed::Session(_) | Renewed::Ended { .. }) => Ok(Its::OfAnother),
            Ok(Renewed::Away {
                outage,
                retry_after,
            }) => {
                self.could_not_ask(asked, &restored, outage);
                let away = ProviderError::Unavailable {
                    outage,
                    retry_after,
                };
                Err(AuthError::judged(&away, provider, class))
            }
            Err(error) => Err(AuthError::store(&error, class)),
        }
    }

    async fn is_over(&self, restored: &Restored, now: UnixTime) {
        if let Err(error) = self.deps.sessions.end_known(restored.row(), now).await {
            debug!(%error, "A session whose cookie is gone ends by itself.");
        }
    }

    /// The cookie of the session of ours that stands for the presented one; `None`: there is none, and the presented one
    /// goes on by itself.
    pub(super) async fn wrap(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        proof: &Authenticated,
        canonical: &CanonicalSubject,
    ) -> Option<Arc<Secret<String>>> {
        if !asked.is_a_request() {
            return None;
        }
        self.stands_beside(asked, presented, proof, canonical).await
    }

    /// The same, whoever asks.
    pub(super) async fn stands_beside(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        proof: &Authenticated,
        canonical: &CanonicalSubject,
    ) -> Option<Arc<Secret<String>>> {
        let plan = asked.policy.plan()?;
        let old = presented.old().filter(|_| asked.policy.wraps())?;
        // A browser proves nothing with its requests.
        if plan.arm(&proof.identity().provider) != Some(Arm::From) || proof.confirmation().is_some()
        {
            return None;
        }
        if proof.is_remembered() {
            return None;
        }
        let backing = Backing {
            rollout: plan.id.clone(),
            epoch: plan.epoch,
            arm: Arm::From,
        };
        for _ in 0..TRIES {
            let backing = backing.clone();
            match self.stand_in(asked, old, (proof, canonical), backing).await {
                Ok(Some(cookie)) => return Some(Arc::new(cookie)),
                // Another instance was faster: theirs counts.
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "A session of an old system goes on without one of ours.");
                    self.wrapped_is(asked, CarryOver::Unavailable);
                    return None;
                }
            }
        }
        None
    }

    async fn stand_in(
        &self,
        asked: &Asked<'_>,
        old: OldSession<'_>,
        (proof, canonical): (&Authenticated, &CanonicalSubject),
        backing: Backing,
    ) -> Result<Option<Secret<String>>, StoreError> {
        let (sessions, identity) = (&self.deps.sessions, proof.identity());
        // Whose it is, as the store says it and not as this instance remembers.
        let account = (&identity.provider, &identity.key);
        let joiner = &self.deps.joiner;
        if !joiner.is_still(canonical, account, asked.now).await? {
            return Ok(None);
        }
        let (app, host) = (asked.policy.app().as_str(), asked.facts.host);
        let mut noted = sessions.noted((app, host), old, asked.now).await?;
        if let Some((cookie, restored)) = noted.there.take()
            && self.is_of(&restored, proof, canonical, asked.now)
        {
            return Ok(Some(cookie));
        }
        let new = NewSession {
            authenticated: proof,
            canonical,
            app,
            host,
            backing: Some(backing),
            rule: WRAP,
            origin: Origin::Wrap,
            until: proof.life_ends(),
            // As of the question: what was revoked since ends it too.
            began: asked.now,
            id_token: None,
            sid: None,
            refresh_token: None,
            lasts: None,
            stands_for: Some(old),
            came_by: None,
            left: None,
        };
        let created = sessions.create(new, asked.now).await?;
        if sessions.note(&noted, old, &created, asked.now).await? {
            self.wrapped_is(asked, CarryOver::Moved);
            for ended in sessions.make_room_for(&created.room, asked.now).await {
                self.give_back(asked, ended);
            }
            return Ok(Some(created.cookie));
        }
        // Nobody holds its cookie.
        sessions.erase(&created.row).await?;
        Ok(None)
    }

    /// Whether a session that stands for this one already is of the same account and person, and not revoked.
    fn is_of(
        &self,
        restored: &Restored,
        proof: &Authenticated,
        canonical: &CanonicalSubject,
        now: UnixTime,
    ) -> bool {
        let (one, other) = (restored.identity(), proof.identity());
        let marks = Marks::of(one, restored.canonical(), restored.grounds());
        let marks = marks.and_session(restored.row());
        one.provider == other.provider
            && one.key == other.key
            && restored.canonical() == canonical
            && Standing::new(self.deps.revocations.index(), marks).holds(now)
    }

    /// Has the provider of a session that ended revoke its refresh token.
    fn give_back(&self, asked: &Asked<'_>, ended: Farewell) {
        let provider = self.deps.providers.named(&ended.provider);
        if let (Some(provider), Some(token)) = (provider, ended.refresh_token) {
            let spent = Spent::Token(Arc::clone(provider), token);
            let metrics = &self.deps.reports.metrics;
            let notice = Notice::new(provider.id(), spent, metrics, asked.now);
            self.deps.notices.send(notice, &self.deps.background);
        }
    }

    fn wrapped_is(&self, asked: &Asked<'_>, outcome: CarryOver) {
        let metrics = &self.deps.reports.metrics;
        metrics.carried_over(asked.policy.app(), WRAP, outcome);
    }
}
