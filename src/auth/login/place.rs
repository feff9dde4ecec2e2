//! Where a login starts: as the rollout says, unless the new provider has yet to prove itself or an exercise says otherwise.

use std::time::Duration;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::start::Begin;
use crate::identity::ProviderId;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::RuleRef;

/// Where a login starts.
pub(super) struct Place {
    pub(super) provider: ProviderId,
    pub(super) rule: String,
    /// How long the session of a fallback lives.
    pub(super) fallback: Option<Duration>,
    /// The side that the percent alone chose: by these people the split is checked.
    pub(super) placed: Option<Arm>,
}

impl Logins {
    /// Whether there is a sign-in page where a browser is assigned, as far as that is known before anything is asked. Nothing
    /// is counted.
    pub(super) async fn has_door(&self, ask: &Ask<'_>, begin: &Begin) -> bool {
        let provider = match ask.policy.plan() {
            Some(plan) => {
                let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
                let (pin, facts) = (begin.pin_of(plan), begin.facts(ask));
                let assigned = rollout::assign(plan, cohorts, key, ask.kill, pin, &facts, ask.now);
                let only = self.is_only_there(ask, &begin.device);
                let arm = if only {
                    Arm::To
                } else if self
                    .may_set_out(ask, &begin.device, plan, assigned.arm)
                    .await
                {
                    assigned.arm
                } else {
                    Arm::From
                };
                Some(plan.provider(arm))
            }
            None => ask.policy.single.as_ref(),
        };
        provider.is_some_and(|provider| {
            let owner = self.deps.providers.named(provider);
            // A form is public, or it would lead to itself.
            let form = ask.policy.forms.get(provider).is_some_and(|form| {
                let path = form.split_once('?').map_or(form.as_str(), |(path, _)| path);
                path != ask.request.facts.path
            });
            form || owner.is_some_and(|owner| owner.login().is_some())
        })
    }

    /// Where a login starts, by the rollout of its application; `None`: nowhere.
    pub(super) async fn assign(&self, ask: &Ask<'_>, begin: &Begin) -> Option<Place> {
        let Some(plan) = ask.policy.plan() else {
            let provider = ask.policy.single.clone()?;
            return Some(Place {
                provider,
                rule: String::from("single"),
                fallback: None,
                placed: None,
            });
        };
        let facts = begin.facts(ask);
        let pin = begin.pin_of(plan);
        let mut assignment = rollout::assign(
            plan,
            &self.deps.cohorts,
            &self.deps.bucket_key,
            ask.kill,
            pin,
            &facts,
            ask.now,
        );
        if self.is_only_there(ask, &begin.device) {
            assignment.arm = Arm::To;
            assignment.rule = RuleRef::Pin;
        } else if !self
            .may_set_out(ask, &begin.device, plan, assignment.arm)
            .await
        {
            // The new provider has yet to prove itself in this step.
            assignment.arm = Arm::From;
            assignment.rule = RuleRef::FirstLogins;
        }
        let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
        let drills = &self.deps.drills;
        if assignment.arm == Arm::To
            && drills.sends_back(&plan.to, cohorts, &facts, ask.now)
            && self.may_go_back(ask, begin, plan, &facts)
        {
            (assignment.arm, assignment.rule) = (Arm::From, RuleRef::Drill);
        }
        let placed = rollout::placed_by_percent(plan, cohorts, key, &facts, ask.now)
            .filter(|arm| *arm == assignment.arm || assignment.rule == RuleRef::FirstLogins);
        self.deps.reports.assigned(ask.about(), plan, &assignment);
        Some(Place {
            provider: plan.provider(assignment.arm).clone(),
            rule: assignment.rule.label().into_owned(),
            fallback: None,
            placed,
        })
    }
}
