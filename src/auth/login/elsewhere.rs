//! A login begins at the other provider: only for an outage, never for a refusal, and only as the configuration allows.

use std::time::Duration;

use tracing::warn;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::start::Begin;
use crate::auth::login::start::Place;
use crate::identity::Outage;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::Down;
use crate::rollout::FallbackLeave;
use crate::rollout::NoFallback;
use crate::rollout::Plan;
use crate::rollout::RuleRef;
use crate::telemetry::metrics::Attempt;

impl Logins {
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
        Some(self.take(ask, plan, assigned, outage, leave))
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
            Ok(leave) => Some(self.take(ask, plan, assigned, outage, leave)),
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
        plan: &Plan,
        assigned: Arm,
        outage: Outage,
        leave: FallbackLeave,
    ) -> Place {
        self.deps.taken.one_more(ask.policy.app(), ask.now);
        let reports = &self.deps.reports;
        reports.fallback(ask.about(), plan, assigned, outage);
        Place {
            provider: plan.provider(leave.arm).clone(),
            rule: RuleRef::Fallback.label().into_owned(),
            fallback: Some(leave.max_age),
            placed: None,
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
        // The session of an upstream's own form cannot be marked or cut short: no fallback leads there.
        if instead.is_none_or(|provider| provider.login().is_none()) {
            return Err(NoFallback::NotConfigured);
        }
        let facts = begin.facts(ask);
        rollout::fall_back(
            fallback,
            plan,
            &self.deps.cohorts,
            ask.kill,
            Down {
                assigned,
                outage,
                since: health.and_then(|health| health.down_since),
            },
            self.deps.taken.count(app, ask.now),
            &facts,
            ask.now,
        )
    }
}
