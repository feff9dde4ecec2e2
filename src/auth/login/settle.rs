//! From a proof to a session: whose it is, whether it counts on its side of the rollout, and the cookies that carry it.

use std::sync::Arc;

use http::HeaderValue;
use tracing::error;
use tracing::warn;

use crate::auth::canonical::NotJoined;
use crate::auth::cookies::Keep;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::callback::NoSession;
use crate::auth::login::callback::Returned;
use crate::auth::login::flow::Errand;
use crate::auth::login::flow::Flow;
use crate::auth::login::page::Page;
use crate::auth::login::return_to::ReturnPath;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::LoggedIn;
use crate::providers::Provider;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::Facts;
use crate::rollout::LoginBegun;
use crate::rollout::Person;
use crate::rollout::Plan;
use crate::rollout::RuleRef;
use crate::session::Backing;
use crate::session::NewSession;
use crate::session::Origin;
use crate::store::StoreError;
use crate::telemetry::Pseudonym;
use crate::telemetry::metrics::Attempt;
use crate::telemetry::metrics::CarryOver;

/// The side that a login counts on.
struct Side {
    backing: Backing,
    /// Whether the browser starts at the new provider the next time.
    next_time: bool,
}

impl Logins {
    /// From a proof to a session: the cookies that carry it, and whose it is.
    pub(super) async fn settle(
        &self,
        returned: &Returned<'_>,
        owner: &Arc<dyn Provider>,
        logged_in: &LoggedIn,
    ) -> Result<(Vec<HeaderValue>, Pseudonym), NoSession> {
        let ask = returned.ask;
        let identity = logged_in.authenticated.identity();
        if identity.provider != *owner.id() {
            error!(provider = %owner.id(), "A provider vouched for somebody else's account; refused.");
            return Err(refused(Page::Failed, Refusal::Policy));
        }
        if self
            .deps
            .revocations
            .voids(owner.id(), returned.flow.began())
        {
            // Everything of the provider was ended meanwhile: the person is told before another page asks them.
            return Err(refused(Page::ForSafety, Refusal::Revoked));
        }
        // A browser proves nothing with its requests: what is bound cannot become a session.
        if logged_in.authenticated.confirmation().is_some() {
            return Err(refused(Page::Failed, Refusal::PopFailed));
        }
        let joined = self.deps.joiner.join_anew(identity, ask.now).await;
        let canonical = joined.map_err(|error| match error {
            NotJoined::Refused(refusal) => refused(Page::NotAllowed, refusal),
            NotJoined::Contested => self.contested(returned, identity),
            NotJoined::Store(error) => away(&error),
        })?;
        if self.deps.revocations.bars(identity, &canonical) {
            return Err(refused(Page::NotAllowed, Refusal::Disabled));
        }
        if let Errand::Silent { person, holder } = &returned.flow.errand {
            self.same_person(ask, (person, holder), &canonical).await?;
        }
        let plan = ask.policy.plan();
        if let (Some(plan), Some(_)) = (plan, returned.flow.fallback()) {
            self.may_fall_back(ask, plan, owner, identity).await?;
        }
        if let Some(plan) = plan {
            self.linked(returned, plan, identity, &canonical)?;
        }
        let (backing, next_time) = match plan {
            Some(plan) => {
                let side = self.side(returned, plan, identity, &canonical).await?;
                (Some(side.backing), side.next_time)
            }
            None => (None, false),
        };
        let mut device = self.device(ask);
        let hint = returned.flow.hint();
        let arm = backing.as_ref().map(|backing| backing.arm);
        if let (Some(plan), Some(Arm::To)) = (plan, arm) {
            let account = self.deps.joiner.account_row(&canonical, &plan.from);
            let pins = &self.deps.pins;
            let moved = pins.moved(&plan.id, (&canonical, &account), plan.epoch, ask.now);
            moved.await.map_err(|error| away(&error))?;
            let whom = (&canonical, &**identity);
            let stays = pins.stays((&plan.id, plan.epoch), whom, ask.now).await;
            let new_password = stays.unwrap_or_else(|error| {
                warn!(%error, "What a switch back would take from somebody is not noted.");
                None
            });
            self.asks_for_consents(plan, whom, ask.now);
            device.has_moved(plan);
            if let Some(since) = new_password {
                device.has_new_password(plan, since);
            }
            device.has_moved_as(hint.as_ref());
            let only = self
                .deps
                .joiner
                .is_unknown_at(&canonical, &plan.from, ask.now);
            if only.await.map_err(|error| away(&error))? {
                device.has_moved_only_there(plan);
            }
        }
        if let (Some(plan), true) = (plan, next_time) {
            device.has_moved(plan);
            device.has_moved_as(hint.as_ref());
        }
        let fallback = returned.flow.fallback();
        let said = logged_in.session_lasts;
        let sessions = &self.deps.sessions;
        let life = sessions.may_live(plan, owner.id(), said, ask.now).await;
        let life = life.map_err(|error| away(&error))?;
        let life = life.into_iter().chain(fallback).min();
        // What was revoked while somebody was asked after is not outlived by a session that nobody signed in for.
        let asked_after = matches!(returned.flow.errand, Errand::Silent { .. });
        let began = if asked_after {
            returned.flow.began()
        } else {
            ask.now
        };
        let left = self.leaves_behind(ask, (&canonical, owner.id())).await;
        let created = self
            .deps
            .sessions
            .create_in_place_of(
                self.session_id(ask).map(|earlier| earlier.row()),
                NewSession {
                    authenticated: &logged_in.authenticated,
                    canonical: &canonical,
                    app: ask.policy.app().as_str(),
                    host: ask.request.facts.host,
                    backing,
                    rule: &returned.flow.rule,
                    origin: fallback.map_or(Origin::Login, |_| Origin::Fallback),
                    until: life.map_or(UnixTime::NEVER, |life| ask.now + life),
                    began,
                    id_token: logged_in.id_token.as_ref(),
                    sid: logged_in.sid.as_deref(),
                    refresh_token: logged_in.refresh_token.as_ref(),
                    lasts: logged_in.lasts,
                    stands_for: None,
                    came_by: None,
                    left: left.as_ref(),
                },
                ask.now,
            )
            .await
            .map_err(|error| away(&error))?;
        // Whatever session the browser came with ends here: nothing of it is carried over.
        if asked_after {
            let place = self.takes_place(ask, &canonical, &created).await;
            if !matches!(place, Ok(true)) {
                return Err(self.is_not_needed(ask, &created.row, place).await);
            }
        } else if let Some(earlier) = self.session_id(ask) {
            self.ends_the_one_before(ask, earlier, (&canonical, &created))
                .await;
        }
        // It is theirs: now nobody who signs out meanwhile loses another one for it.
        self.makes_room(ask, &created).await;
        device.is_used_by(&canonical, &created.row, (owner.id(), began));
        if let (Some(plan), Some(arm), false) = (plan, arm, asked_after) {
            let took = returned.arrived.elapsed();
            self.arrives(ask, &device, (plan, arm), &canonical, took)
                .await;
        }
        let cookie = created.cookie.expose();
        let session = self.names.set(&self.names.session, cookie, Keep::Browser);
        let cookies = session.into_iter().chain(self.keep_device(ask, &device));
        let cookies: Vec<HeaderValue> = cookies.collect();
        let subject = self.deps.reports.pseudonyms.of(&canonical);
        Ok((cookies, subject))
    }

    /// Ends a session that was made without a sign-in and takes no place: whoever has signed out meanwhile stays signed out.
    async fn is_not_needed(
        &self,
        ask: &Ask<'_>,
        row: &[u8; 32],
        why: Result<bool, StoreError>,
    ) -> NoSession {
        let gone = self.deps.sessions.end_known(row, ask.now).await;
        // Where another tab was first, both are of one session at the provider, which lives on.
        let other = self.has_another_successor(ask, row).await;
        let gone = gone.map(|farewell| {
            if let (Some(mut farewell), Ok(false), Ok(false)) = (farewell, other, &why) {
                self.revoke_at_provider(ask, &mut farewell);
            }
        });
        match why.and(gone) {
            Ok(()) => NoSession::Stays(CarryOver::Refused),
            Err(error) => {
                // Nobody has its cookie.
                warn!(error = %error, "A session that nobody is given ends by itself.");
                NoSession::Stays(CarryOver::Unavailable)
            }
        }
    }

    /// Whether the stage takes a login of this account.
    pub(super) fn acceptance(
        &self,
        returned: &Returned<'_>,
        plan: &Plan,
        identity: &Identity,
        canonical: &CanonicalSubject,
    ) -> Acceptance {
        let (ask, target) = (returned.ask, returned.flow.target());
        let facts = known(returned, &target, canonical, identity);
        let (cohorts, provider) = (&self.deps.cohorts, &identity.provider);
        let begun = begun(&returned.flow);
        rollout::accept_login(plan, cohorts, ask.kill, provider, begun, &facts, ask.now)
    }

    /// The page for somebody whose login its side does not take for some minutes only.
    fn is_planned(
        &self,
        returned: &Returned<'_>,
        identity: &Identity,
        canonical: &CanonicalSubject,
    ) -> Option<Page> {
        let target = returned.flow.target();
        let facts = known(returned, &target, canonical, identity);
        let begun = begun(&returned.flow);
        self.planned_login(returned.ask, &identity.provider, begun, &facts)
    }

    /// What becomes of a login that its side does not take, where there is no other way.
    pub(super) fn not_taken(
        &self,
        returned: &Returned<'_>,
        identity: &Identity,
        canonical: &CanonicalSubject,
    ) -> NoSession {
        let planned = self.is_planned(returned, identity, canonical);
        refused(planned.unwrap_or(Page::NotAllowed), Refusal::NotAccepted)
    }

    /// Whether the login counts on its side of the rollout, now that it is known whose it is.
    async fn side(
        &self,
        returned: &Returned<'_>,
        plan: &Plan,
        identity: &Identity,
        canonical: &CanonicalSubject,
    ) -> Result<Side, NoSession> {
        let (ask, flow) = (returned.ask, &returned.flow);
        let Some(arm) = plan.arm(&identity.provider) else {
            return Err(NoSession::Again(None));
        };
        let target = flow.target();
        let facts = known(returned, &target, canonical, identity);
        let begun = begun(flow);
        let cohorts = &self.deps.cohorts;
        match self.acceptance(returned, plan, identity, canonical) {
            Acceptance::Accepted => {}
            Acceptance::OnlyExcept | Acceptance::NotAccepted | Acceptance::Quarantined => {
                return Err(match self.is_planned(returned, identity, canonical) {
                    Some(page) => refused(page, Refusal::NotAccepted),
                    None => NoSession::Again(None),
                });
            }
        }
        let pin = self.deps.pins.of(&plan.id, canonical, ask.now).await;
        let pin = pin.map_err(|error| away(&error))?;
        let key = &self.deps.bucket_key;
        let assigned = rollout::assign(plan, cohorts, key, ask.kill, pin, &facts, ask.now);
        // Kept away from the new provider while it proves itself, or for an exercise: not sent there by the back door.
        let kept = [RuleRef::FirstLogins, RuleRef::Drill];
        let kept_away = kept.iter().any(|rule| *flow.rule == *rule.label());
        if !begun.fallback && !kept_away && rollout::restarts_at_to(plan, pin, arm, &assigned) {
            return Err(NoSession::Again(pin));
        }
        // A rule that needs to know the person is skipped at the start of a login; what it says now holds the next time.
        let by_name = matches!(assigned.rule, RuleRef::Cohort(_));
        Ok(Side {
            backing: Backing {
                rollout: plan.id.clone(),
                epoch: plan.epoch,
                arm,
            },
            next_time: by_name && !begun.fallback && (arm, assigned.arm) == (Arm::From, Arm::To),
        })
    }
}

/// What is known of a login that came back.
fn known<'a>(
    returned: &Returned<'a>,
    target: &'a ReturnPath,
    canonical: &'a CanonicalSubject,
    identity: &'a Identity,
) -> Facts<'a> {
    Facts {
        path: target.path(),
        method: "GET",
        device: None,
        person: Some(Person {
            canonical,
            identity,
        }),
        ..returned.ask.request.facts
    }
}

fn begun(flow: &Flow) -> LoginBegun {
    LoginBegun {
        at: flow.began(),
        fallback: flow.fallback().is_some(),
    }
}

pub(super) const fn refused(page: Page, refusal: Refusal) -> NoSession {
    NoSession::Ends(page, Attempt::Rejected(refusal))
}

pub(super) fn away(error: &StoreError) -> NoSession {
    warn!(error = %error, "A login found no store.");
    NoSession::Ends(Page::Unavailable, Attempt::Unavailable(Outage::Connect))
}
