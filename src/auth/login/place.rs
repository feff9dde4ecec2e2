//! Where a login starts: as the rollout says, unless the new provider has yet to prove itself or an exercise says otherwise.

use std::time::Duration;

use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::elsewhere::known_outage;
use crate::auth::login::start::Begin;
use crate::identity::ProviderId;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Arm;
use crate::rollout::Assignment;
use crate::rollout::Facts;
use crate::rollout::LoginBegun;
use crate::rollout::Mode;
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

/// How a login begins at `from` for which there is no room at the new provider yet.
#[derive(Clone, Copy)]
enum Aside {
    /// As any other: both sides take logins.
    Plain,
    /// As a fallback does, with a session for so long: no other login counts there any more.
    Fallback(Duration),
}

/// How long the session of a login lives that began aside, where the application says nothing of fallbacks.
const AN_HOUR: Duration = Duration::from_hours(1);

impl Logins {
    /// Whether there is a sign-in page where a browser is assigned, as far as that is known before anything is asked. Nothing
    /// is counted.
    pub(super) async fn has_door(&self, ask: &Ask<'_>, begin: &Begin) -> bool {
        let provider = match ask.policy.plan() {
            Some(plan) => {
                let (cohorts, key) = (&self.deps.cohorts, &self.deps.bucket_key);
                let (pin, facts) = (begin.pin_of(plan), begin.facts(ask));
                let aside = |assigned: &Assignment| self.aside(ask, plan, assigned, &facts);
                let assigned = rollout::assign(plan, cohorts, key, ask.kill, pin, &facts, ask.now);
                let only = self.is_only_there(ask, &begin.device);
                let arm = if only {
                    Arm::To
                } else if aside(&assigned).is_some()
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
        let aside = self.aside(ask, plan, &assignment, &facts);
        let mut bounded = aside.is_some();
        let mut fallback = None;
        if self.is_only_there(ask, &begin.device) {
            (assignment.arm, assignment.rule) = (Arm::To, RuleRef::Pin);
            bounded = false;
        } else if bounded
            && (begin.late || !self.may_set_out(ask, &begin.device, plan, Arm::To).await)
        {
            // The new provider has yet to prove itself in this step.
            (assignment.arm, assignment.rule) = (Arm::From, RuleRef::FirstLogins);
            bounded = false;
            if let Some(Aside::Fallback(span)) = aside {
                fallback = Some(span);
            }
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
            // By this name the session is known as one of a fallback.
            rule: match fallback {
                Some(_) => RuleRef::Fallback.label().into_owned(),
                None => assignment.rule.label().into_owned(),
            },
            fallback,
            placed,
            bounded,
            assigned: Some(assignment),
        })
    }

    /// How somebody who is assigned to the new provider begins at `from` instead; `None`: not at all. Where the switch or
    /// `modern-only` sends everybody, and where `modern-primary` says that nothing begins at `from`, there is no other side, and no
    /// bound: whoever opens ten sign-ins and leaves would keep everybody out.
    fn aside(
        &self,
        ask: &Ask<'_>,
        plan: &Plan,
        assigned: &Assignment,
        facts: &Facts<'_>,
    ) -> Option<Aside> {
        if assigned.arm != Arm::To || assigned.rule == RuleRef::Kill {
            return None;
        }
        match plan.stage.mode {
            Mode::Canary => (assigned.rule != RuleRef::Mode).then_some(Aside::Plain),
            Mode::ModernPrimary => self.aside_as_fallback(ask, plan, facts),
            Mode::LegacyOnly | Mode::Shadow | Mode::ModernOnly => None,
        }
    }

    /// The same where `from` takes nothing but fallbacks: only where one would count, at a page whose session can be cut short.
    fn aside_as_fallback(&self, ask: &Ask<'_>, plan: &Plan, facts: &Facts<'_>) -> Option<Aside> {
        let begun = LoginBegun {
            at: ask.now,
            fallback: true,
        };
        let (cohorts, from) = (&self.deps.cohorts, &plan.from);
        let taken = rollout::accept_login(plan, cohorts, ask.kill, from, begun, facts, ask.now);
        let owner = self.deps.providers.named(from)?;
        let said = ask.policy.fallback_to(Arm::From);
        let kept_out = said.is_some_and(|fallback| fallback.leaves_out(facts.path));
        let is_open = taken == Acceptance::Accepted
            && owner.login().is_some()
            && known_outage(&**owner).is_none()
            && !kept_out;
        is_open.then(|| Aside::Fallback(said.map_or(AN_HOUR, |fallback| fallback.max_age)))
    }
}
