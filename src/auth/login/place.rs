//! Where a login starts: as the rollout says, unless the new provider has yet to prove itself or an exercise says otherwise.

use std::time::Duration;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::start::Begin;
use crate::identity::ProviderId;
use crate::rollout;
use crate::rollout::Arm;
use crate::rollout::Assignment;
use crate::rollout::Plan;
use crate::rollout::RuleRef;

/// Where a login starts.
pub(super) struct Place {
    pub(super) provider: ProviderId,
    pub(super) rule: String,
    /// How long the session of a fallback lives.
    pub(super) fallback: Option<Duration>,
    /// The side that the percent alone chose: by these people the split is checked.
    pub(super) placed: Option<Arm>,
    /// Whether it needs one of the places that there are until the new provider has proved itself: others may be faster.
    pub(super) bounded: bool,
    /// How it was assigned, where a rollout did.
    pub(super) assigned: Option<Assignment>,
}

impl Logins {
    /// Whether there is a bound to how many begin there. Where the switch or the mode sends everybody there is no other side, nor
    /// where nobody can sign in in a browser at `from`, nor for whom it has no account.
    fn has_bound(&self, ask: &Ask<'_>, begin: &Begin, plan: &Plan, assigned: &Assignment) -> bool {
        assigned.arm == Arm::To
            && ![RuleRef::Kill, RuleRef::Mode].contains(&assigned.rule)
            && (ask.policy.forms.contains_key(&plan.from) || self.has_page(&plan.from))
            && !begin.device.is_only_there(plan)
    }

    /// Whether a browser can sign in at a provider. A form is public, or it would lead to itself.
    fn has_door_at(&self, ask: &Ask<'_>, provider: &ProviderId) -> bool {
        let form = ask.policy.forms.get(provider).is_some_and(|form| {
            let path = form.split_once('?').map_or(form.as_str(), |(path, _)| path);
            path != ask.request.facts.path
        });
        form || self.has_page(provider)
    }

    fn has_page(&self, provider: &ProviderId) -> bool {
        let owner = self.deps.providers.named(provider);
        owner.is_some_and(|owner| owner.login().is_some())
    }

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
                } else if self.has_bound(ask, begin, plan, &assigned)
                    && !self.may_set_out(ask, &begin.device, plan, Arm::To).await
                {
                    Arm::From
                } else {
                    assigned.arm
                };
                Some(plan.provider(arm))
            }
            None => ask.policy.single.as_ref(),
        };
        provider.is_some_and(|provider| self.has_door_at(ask, provider))
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
                bounded: false,
                assigned: None,
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
        let mut bounded = self.has_bound(ask, begin, plan, &assignment);
        if self.is_only_there(ask, &begin.device) {
            (assignment.arm, assignment.rule) = (Arm::To, RuleRef::Pin);
            bounded = false;
        } else if bounded
            && (begin.late || !self.may_set_out(ask, &begin.device, plan, Arm::To).await)
        {
            // The new provider has yet to prove itself in this step.
            (assignment.arm, assignment.rule) = (Arm::From, RuleRef::FirstLogins);
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
        Some(Place {
            provider: plan.provider(assignment.arm).clone(),
            rule: assignment.rule.label().into_owned(),
            fallback: None,
            placed,
            bounded,
            assigned: Some(assignment),
        })
    }
}
