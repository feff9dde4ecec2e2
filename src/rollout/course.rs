//! The whole way of a rollout: its stages, the steps within them, and where it stands.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::bucket::Percent;
use crate::rollout::cohort::CohortId;
use crate::rollout::guard::Guardrails;
use crate::rollout::passwords::Passwords;
use crate::rollout::rules::Rules;
use crate::rollout::shadowed::Shadowed;
use crate::rollout::stage::AppId;
use crate::rollout::stage::Arm;
use crate::rollout::stage::Bucketing;
use crate::rollout::stage::Mode;
use crate::rollout::stage::OtherArm;
use crate::rollout::stage::Plan;
use crate::rollout::stage::RolloutId;
use crate::rollout::stage::Share;
use crate::rollout::stage::Stage;
use crate::rollout::windows::Windows;

/// Who drives the stages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Control {
    /// The file: guards only watch.
    Pinned,
    /// The controller, by evidence.
    Controller,
    /// The clock, as far as the guards let it.
    Schedule,
}

/// Whether a step is followed by the next without a person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PromoteWhen {
    /// A person says so.
    Manual,
    /// As soon as it may.
    Auto,
}

/// What must hold before a stage is left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Require {
    /// So many people at the new provider.
    pub units: u64,
    /// The bad rate is surely not above this.
    pub bad_rate_upper_bound: Option<f64>,
    /// These drills have passed in this stage.
    pub drills_passed: Vec<Box<str>>,
    /// A switch back would lock out no more people than this.
    pub rollback_exposure_max: Option<u64>,
    /// So many people were looked at a second time in this stage.
    pub compared_subjects: u64,
    /// So often something critical may have been found in this stage.
    pub critical: Option<u64>,
    /// The share of people about whom second opinions differ is surely not above this.
    pub divergence_upper_bound: Option<f64>,
    /// So many people may still have come with credentials of `from`.
    pub legacy_credentials_seen: Option<StillSeen>,
    /// No larger share of people has no partner at the other provider.
    pub unlinked_max: Option<f64>,
    /// Whether a hook of the stage has to say that it may be left.
    pub webhook: bool,
}

/// Who may still come with credentials of the provider that people leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StillSeen {
    /// How far back it is looked.
    pub within: Duration,
    /// So many people.
    pub max: u64,
    /// These do not count.
    pub except: Vec<CohortId>,
}

/// One step of a stage. A stage without a ramp has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The percent of the ramp rule.
    pub percent: Option<Percent>,
    /// How long it bakes.
    pub bake: Duration,
    /// How many people must have been seen at the new provider.
    pub min_units: u64,
    /// With a schedule: when it begins.
    pub at: Option<UnixTime>,
}

/// Where a rollback leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RollbackTo {
    /// The step before.
    PreviousStep,
    /// The first step of the stage.
    StageStart,
    /// All new logins at `from`.
    From,
}

/// A stage, and how it is gone through.
#[derive(Clone, Debug)]
pub struct Leg {
    /// What it does; the share of the ramp rule is that of the first step.
    pub stage: Stage,
    /// The place of the ramp rule among the rules of the stage.
    pub ramp: Option<usize>,
    /// Its steps, at least one.
    pub steps: Vec<Step>,
    /// Whether the next step follows without a person.
    pub when: PromoteWhen,
    /// What must hold before the stage is left.
    pub require: Require,
    /// When the controller may go forward by itself.
    pub windows: Option<Arc<Windows>>,
    /// Where a rollback leads.
    pub rollback: RollbackTo,
    /// Whether a rollback ends whatever the new provider has vouched for.
    pub rollback_revokes: bool,
    /// What watches.
    pub guardrails: Option<Arc<Guardrails>>,
}

/// A rollout as a whole.
#[derive(Clone, Debug)]
pub struct Course {
    /// Its name.
    pub id: RolloutId,
    /// The applications that move.
    pub apps: Vec<AppId>,
    /// Where people come from.
    pub from: ProviderId,
    /// Where they go.
    pub to: ProviderId,
    /// How they are put into buckets.
    pub bucketing: Bucketing,
    /// Who drives.
    pub control: Control,
    /// With [`Control::Pinned`]: where the file says it stands.
    pub pinned: Place,
    /// The stages, at least one.
    pub legs: Vec<Leg>,
}

/// A step of a course.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The stage.
    pub stage: usize,
    /// The step in it.
    pub step: usize,
}

/// The name of the stage before the first.
pub(super) const DRAFT: &str = "draft";

impl Course {
    /// A course that a file drives: one stage, one step.
    pub fn pinned(plan: Plan, guardrails: Option<Arc<Guardrails>>) -> Self {
        let leg = Leg {
            stage: plan.stage,
            ramp: None,
            steps: vec![Step::whole(Duration::ZERO)],
            when: PromoteWhen::Manual,
            require: Require::default(),
            windows: None,
            rollback: RollbackTo::PreviousStep,
            rollback_revokes: false,
            guardrails,
        };
        Self {
            id: plan.id,
            apps: plan.apps,
            from: plan.from,
            to: plan.to,
            bucketing: plan.bucketing,
            control: Control::Pinned,
            pinned: Place::default(),
            legs: vec![leg],
        }
    }

    /// The rollout as it decides before anybody has driven it.
    pub fn at_first(&self) -> Plan {
        match self.control {
            Control::Pinned => self.plan(Some(self.pinned), false, 0),
            Control::Controller | Control::Schedule => self.plan(None, false, 0),
        }
    }

    /// The stage of a place.
    pub fn leg(&self, place: Place) -> Option<&Leg> {
        self.legs.get(place.stage)
    }

    /// The step of a place.
    pub fn step(&self, place: Place) -> Option<&Step> {
        self.leg(place)?.steps.get(place.step)
    }

    /// What watches there.
    pub fn guardrails(&self, place: Place) -> Option<&Arc<Guardrails>> {
        self.leg(place)?.guardrails.as_ref()
    }

    /// Whether a hook is asked before it is left: in the last step of a stage.
    pub fn asks_hook(&self, place: Place) -> bool {
        let leg = self.leg(place);
        leg.is_some_and(|leg| leg.require.webhook && place.step + 1 == leg.steps.len())
    }

    /// The step after.
    pub fn next(&self, place: Place) -> Option<Place> {
        let within = Place {
            step: place.step + 1,
            ..place
        };
        let after = Place {
            stage: place.stage + 1,
            step: 0,
        };
        [within, after]
            .into_iter()
            .find(|next| self.step(*next).is_some())
    }

    /// The step before.
    pub fn previous(&self, place: Place) -> Option<Place> {
        if let Some(step) = place.step.checked_sub(1) {
            return Some(Place { step, ..place });
        }
        let stage = place.stage.checked_sub(1)?;
        let steps = self.legs.get(stage)?.steps.len();
        Some(Place {
            stage,
            step: steps.saturating_sub(1),
        })
    }

    /// How a place is called: `4-ramp/25`, or the stage alone where it has no ramp.
    pub fn name(&self, place: Place) -> String {
        let Some(leg) = self.leg(place) else {
            return String::from("?");
        };
        match self.step(place).and_then(|step| step.percent) {
            Some(percent) => format!("{}/{percent}", leg.stage.id),
            None => leg.stage.id.to_string(),
        }
    }

    /// The place that is called so; a stage with a ramp alone means its first step.
    pub fn find(&self, name: &str) -> Option<Place> {
        let (id, percent) = match name.split_once('/') {
            Some((id, percent)) => (id, Some(Percent::parse(percent).ok()?)),
            None => (name, None),
        };
        let stage = self.legs.iter().position(|leg| *leg.stage.id == *id)?;
        let steps = &self.legs.get(stage)?.steps;
        let step = match percent {
            None => 0,
            Some(_) => steps.iter().position(|step| step.percent == percent)?,
        };
        Some(Place { stage, step })
    }

    /// Whether people were chosen by chance there, and not by name: only then the arms can be compared.
    pub fn is_randomised(&self, place: Place) -> bool {
        let share = self.plan(Some(place), false, 0).target(UnixTime::NEVER);
        share != Percent::NONE && share != Percent::ALL
    }

    /// How many steps share the error budget.
    pub fn randomised_steps(&self) -> usize {
        let places =
            self.legs.iter().enumerate().flat_map(|(stage, leg)| {
                (0..leg.steps.len()).map(move |step| Place { stage, step })
            });
        places.filter(|place| self.is_randomised(*place)).count()
    }

    /// The rollout as it decides at a place; `None` is before the first stage. With `at_from` every new login starts at
    /// `from`, while whoever has moved keeps their session.
    pub fn plan(&self, place: Option<Place>, at_from: bool, epoch: u64) -> Plan {
        let leg = place.and_then(|place| Some((self.leg(place)?, self.step(place)?)));
        let mut stage = match leg {
            None => Stage {
                id: DRAFT.into(),
                index: 0,
                mode: Mode::LegacyOnly,
                assign: Rules::default(),
                accept: Vec::new(),
                other_arm: OtherArm::Accept,
                brownouts: Vec::new(),
                warning: None,
                passwords: Passwords::AtFrom,
                shadow: Shadowed::Nowhere,
            },
            Some((leg, step)) => {
                let mut stage = leg.stage.clone();
                let ramp = leg.ramp.and_then(|ramp| stage.assign.get_mut(ramp));
                if let (Some(rule), Some(percent)) = (ramp, step.percent) {
                    rule.share = Share::Percent(percent);
                }
                stage
            }
        };
        if at_from && !matches!(stage.mode, Mode::LegacyOnly | Mode::Shadow) {
            stage.mode = Mode::Canary;
            stage.assign.clear();
            stage.accept.clear();
            stage.brownouts.clear();
            if stage.passwords == Passwords::Moving {
                stage.passwords = Passwords::Kept;
            }
        }
        Plan {
            id: self.id.clone(),
            apps: self.apps.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            bucketing: self.bucketing.clone(),
            stage,
            epoch,
            closed: false,
        }
    }

    /// The last place whose moment has come.
    pub fn scheduled(&self, now: UnixTime) -> Option<Place> {
        let mut found = None;
        for (stage, leg) in self.legs.iter().enumerate() {
            for (step, at) in leg.steps.iter().enumerate() {
                if at.at.is_some_and(|at| at <= now) {
                    found = Some(Place { stage, step });
                }
            }
        }
        found
    }

    /// Whether a place sends anybody to the new provider.
    pub fn moves_people(&self, place: Place) -> bool {
        self.leg(place).is_some_and(|leg| match leg.stage.mode {
            Mode::LegacyOnly | Mode::Shadow => false,
            Mode::Canary => leg.stage.assign.iter().any(|rule| rule.to == Arm::To),
            Mode::ModernPrimary | Mode::ModernOnly => true,
        })
    }
}

impl Step {
    /// The one step of a stage without a ramp.
    pub const fn whole(bake: Duration) -> Self {
        Self {
            percent: None,
            bake,
            min_units: 0,
            at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::testing::course;

    #[test]
    fn places_have_names_and_an_order() {
        let course = course();
        let mut place = Place::default();
        let mut names = vec![course.name(place)];
        while let Some(next) = course.next(place) {
            assert_eq!(course.previous(next), Some(place));
            assert!(place < next);
            place = next;
            names.push(course.name(place));
        }
        assert_eq!(names, ["staff", "ramp/1", "ramp/25", "ramp/98", "primary"]);
        assert_eq!(course.previous(Place::default()), None);
        for name in names {
            assert_eq!(course.name(course.find(&name).unwrap()), name);
        }
        assert_eq!(course.find("ramp"), course.find("ramp/1"));
        assert_eq!(course.find("ramp/2"), None);
        assert_eq!(course.find("ramps/1"), None);
    }

    #[test]
    fn only_steps_of_a_percent_are_randomised() {
        let course = course();
        assert_eq!(course.randomised_steps(), 3);
        assert!(!course.is_randomised(course.find("staff").unwrap()));
        assert!(!course.is_randomised(course.find("primary").unwrap()));
    }

    #[test]
    fn a_plan_is_that_of_its_step() {
        let course = course();
        let target = |name: &str, at_from| {
            let plan = course.plan(course.find(name), at_from, 4);
            assert_eq!(plan.epoch, 4);
            plan.target(UnixTime::from_secs(1)).to_string()
        };
        assert_eq!(target("ramp/25", false), "25");
        assert_eq!(target("ramp/98", false), "98");
        assert_eq!(target("ramp/98", true), "0");
        assert_eq!(target("primary", true), "0");
        let draft = course.plan(None, false, 0);
        assert_eq!(
            (&*draft.stage.id, draft.stage.mode),
            (DRAFT, Mode::LegacyOnly)
        );
    }

    /// Sessions of people who have moved outlive a rollback; nobody is locked out of either side.
    #[test]
    fn back_at_from_both_sides_are_honoured() {
        let course = course();
        let plan = course.plan(course.find("primary"), true, 1);
        assert_eq!(plan.stage.mode, Mode::Canary);
        assert!(plan.stage.assign.is_empty() && plan.stage.accept.is_empty());
    }
}
