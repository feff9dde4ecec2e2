//! A login begins at the other provider: only for an outage, never for a refusal, and only as the configuration allows.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;
use tracing::warn;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::callback::NoSession;
use crate::auth::login::page::Page;
use crate::auth::login::place::Place;
use crate::auth::login::settle::refused;
use crate::auth::login::start::Begin;
use crate::clock::UnixTime;
use crate::control::Upset;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::Known;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::Down;
use crate::rollout::Facts;
use crate::rollout::FallbackLeave;
use crate::rollout::KillPosition;
use crate::rollout::LoginBegun;
use crate::rollout::NoFallback;
use crate::rollout::Plan;
use crate::rollout::RuleRef;
use crate::telemetry::metrics::Attempt;

impl Logins {
    /// What an exercise lets a sign-in meet, as if it were its provider.
    pub(super) async fn exercised(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
    ) -> Option<Outage> {
        // Whoever pulls the switch has real trouble.
        if ask.kill != KillPosition::Off {
            return None;
        }
        let (facts, cohorts) = (begin.facts(ask), &self.deps.cohorts);
        let drills = &self.deps.drills;
        match drills.login_meets(&place.provider, cohorts, &facts, ask.now) {
            Some(Upset::Away(outage)) => Some(outage),
            Some(Upset::Slow(span)) => {
                tokio::time::sleep(span).await;
                None
            }
            Some(Upset::Back) | None => None,
        }
    }

    /// Whether an exercise may send somebody back: only to where a sign-in counts, and nobody who has no account there.
    pub(super) fn may_go_back(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        plan: &Plan,
        facts: &Facts<'_>,
    ) -> bool {
        let begun = LoginBegun {
            at: ask.now,
            fallback: false,
        };
        let (cohorts, from) = (&self.deps.cohorts, &plan.from);
        ask.kill == KillPosition::Off
            && !begin.device.is_only_there(plan)
            && rollout::accept_login(plan, cohorts, ask.kill, from, begun, facts, ask.now)
                == Acceptance::Accepted
    }

    /// Leave to begin elsewhere without a try, because the provider as a whole is known to be away; `None`: it is tried.
    pub(super) fn pass_over(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
        outage: Outage,
    ) -> Option<Place> {
        let plan = ask.policy.plan()?;
        let assigned = plan.arm(&place.provider)?;
        let leave = self.leave(ask, begin, plan, assigned, outage).ok()?;
        self.away(ask, place, outage);
        Some(self.take(ask, begin, (plan, assigned), outage, leave))
    }

    /// Leave to begin elsewhere after a try, or what stands against it: counted and told.
    pub(super) fn fall_back(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        place: &Place,
        outage: Outage,
    ) -> Option<Place> {
        self.away(ask, place, outage);
        let plan = ask.policy.plan()?;
        let assigned = plan.arm(&place.provider)?;
        match self.leave(ask, begin, plan, assigned, outage) {
            Ok(leave) => Some(self.take(ask, begin, (plan, assigned), outage, leave)),
            Err(reason) => {
                self.deps.reports.fallback_refused(ask.about(), reason);
                warn!(
                    app = ask.policy.app().as_str(),
                    provider = place.provider.as_str(),
                    outage = outage.as_str(),
                    fallback = reason.as_str(),
                    "A login could not begin."
                );
                None
            }
        }
    }

    fn away(&self, ask: &Ask<'_>, place: &Place, outage: Outage) {
        let attempt = Attempt::Unavailable(outage);
        let reports = &self.deps.reports;
        reports.login(ask.about(), &place.provider, attempt, Duration::ZERO);
    }

    fn take(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        (plan, assigned): (&Plan, Arm),
        outage: Outage,
        leave: FallbackLeave,
    ) -> Place {
        let (to, facts) = (plan.provider(assigned), begin.facts(ask));
        let drills = &self.deps.drills;
        drills.went_elsewhere(to, &self.deps.cohorts, &facts, ask.now);
        self.deps.taken.one_more(ask.policy.app(), ask.now);
        let reports = &self.deps.reports;
        reports.fallback(ask.about(), plan, assigned, outage);
        Place {
            provider: plan.provider(leave.arm).clone(),
            rule: RuleRef::Fallback.label().into_owned(),
            fallback: Some(leave.max_age),
            placed: None,
            // There is no other door.
            bounded: false,
            assigned: None,
        }
    }

    /// Whether the login of a fallback, now that it is known whose it is, is what the configuration asks of one.
    pub(super) async fn may_fall_back(
        &self,
        ask: &Ask<'_>,
        plan: &Plan,
        owner: &Arc<dyn Provider>,
        identity: &Arc<Identity>,
    ) -> Result<(), NoSession> {
        let arm = plan.arm(&identity.provider);
        let Some(fallback) = arm.and_then(|arm| ask.policy.fallback_to(arm)) else {
            return Ok(());
        };
        if !fallback.takes(identity.acr.as_deref()) {
            return Err(refused(Page::NotAllowed, Refusal::MfaRequired));
        }
        match &fallback.account_by {
            Some(by) => self.is_in_use(owner, identity, by, ask.now).await,
            None => Ok(()),
        }
    }

    /// Whether the directory of a provider knows an account, and that it may be used. Without an answer nobody gets in.
    async fn is_in_use(
        &self,
        owner: &Arc<dyn Provider>,
        identity: &Arc<Identity>,
        by: &str,
        now: UnixTime,
    ) -> Result<(), NoSession> {
        let value = match by {
            "subject" => Some(identity.key.subject.as_str().to_owned()),
            by => identity.attributes.text(by).map(str::to_owned),
        };
        let Some(value) = value else {
            return Err(refused(Page::NotAllowed, Refusal::Disabled));
        };
        let provider = Arc::clone(owner);
        let looking = self.deps.background.spawn(async move {
            let directory = provider.directory();
            let directory = directory.ok_or(ProviderError::from(Outage::Shed))?;
            directory.find(&value, now).await
        });
        let known = looking.await.unwrap_or_else(|error| {
            error!(provider = %owner.id(), %error, "A look into a directory broke off.");
            Err(Outage::Shed.into())
        });
        match known {
            Ok(Known::Person {
                identity: found,
                enabled: true,
            }) if found.key == identity.key => Ok(()),
            Ok(Known::Person { .. } | Known::Nobody | Known::Several) => {
                Err(refused(Page::NotAllowed, Refusal::Disabled))
            }
            Err(ProviderError::Rejected(refusal)) => Err(refused(Page::NotAllowed, refusal)),
            Err(ProviderError::Unavailable { outage, .. }) => {
                warn!(provider = %owner.id(), %outage, "Whether an account may be used could not be asked; its login is no session.");
                Err(NoSession::Ends(
                    Page::Unavailable,
                    Attempt::Unavailable(outage),
                ))
            }
        }
    }

    fn leave(
        &self,
        ask: &Ask<'_>,
        begin: &Begin,
        plan: &Plan,
        assigned: Arm,
        outage: Outage,
    ) -> Result<FallbackLeave, NoFallback> {
        let app = ask.policy.app();
        let fallback = ask
            .policy
            .fallbacks
            .iter()
            .find(|fallback| fallback.app == *app && fallback.from == assigned);
        let health = self
            .deps
            .providers
            .named(plan.provider(assigned))
            .map(|provider| provider.health());
        let instead = self.deps.providers.named(plan.provider(assigned.other()));
        let facts = begin.facts(ask);
        let (to, cohorts) = (plan.provider(assigned), &self.deps.cohorts);
        let drilled = self.deps.drills.away_since(to, cohorts, &facts, ask.now);
        // The session of an upstream's own form cannot be marked or cut short: no fallback leads there.
        if instead.is_none_or(|provider| provider.login().is_none()) {
            return Err(NoFallback::NotConfigured);
        }
        rollout::fall_back(
            fallback,
            plan,
            &self.deps.cohorts,
            ask.kill,
            Down {
                assigned,
                outage,
                since: health.and_then(|health| health.down_since).or(drilled),
            },
            self.deps.taken.count(app, ask.now),
            &facts,
            ask.now,
        )
    }
}

/// The outage that the breaker of a provider stands for. Its keys and metadata may be known nevertheless: that it can judge says
/// nothing of its sign-in page.
pub(super) fn known_outage(provider: &dyn Provider) -> Option<Outage> {
    let away = provider.health().down_since.is_some();
    away.then_some(Outage::CircuitOpen)
}
