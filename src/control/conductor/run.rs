//! One rollout under way: what it has seen, and where it stands as far as the file has a say in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::control::conductor::probe::Asking;
use crate::control::conductor::refused::Refused;
use crate::rollout;
use crate::rollout::Control;
use crate::rollout::Course;
use crate::rollout::Findings;
use crate::rollout::Gap;
use crate::rollout::Looked;
use crate::rollout::Place;
use crate::rollout::Progress;
use crate::rollout::State;
use crate::rollout::Tally;
use crate::rollout::View;

/// Before it was looked for the first time.
pub(super) const NOT_COUNTED: &str = "who still comes with old credentials is not known";

/// A step, and since when its state is what it is.
pub(super) type Moment = (u64, UnixTime);

/// How much of where it stands a restart would know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Memory {
    /// All of it.
    Whole,
    /// The step, and nothing of what was counted in it.
    Step,
    /// Not even that.
    Nothing,
}

/// One rollout under way.
pub(super) struct Run {
    pub(super) course: Arc<Course>,
    pub(super) progress: Progress,
    pub(super) tally: Option<Tally>,
    pub(super) findings: Findings,
    pub(super) drills: Vec<Box<str>>,
    /// How many people a switch back would lock out, when it was looked at last.
    pub(super) exposed: Option<u64>,
    /// What second opinions have found since the step began; `None`: not known.
    pub(super) looked: Option<Looked>,
    /// How many people still came with credentials of `from`, as the stage asks it; or why that is not known.
    pub(super) came: Result<u64, String>,
    /// The last answers to queries, by guard.
    pub(super) answers: BTreeMap<Box<str>, f64>,
    /// Whether it went back in a way that ends what the new provider has vouched for, and that is not done yet.
    pub(super) owes_revocation: bool,
    /// How many people have no partner, and of how many that is known.
    pub(super) unlinked: Option<(u64, u64)>,
    /// What the hook of the stage has said, and of which moment of which step: what was asked before a halt is asked again.
    pub(super) hook: Option<(Moment, Result<(), String>)>,
    pub(super) evaluated: UnixTime,
    /// The step that was due when it was looked at last, and why it was not taken.
    pub(super) refused: Option<Refused>,
    /// Why it is not known where the others stand.
    pub(super) behind: Option<Gap>,
    /// Whether the provider is there, while that is being asked.
    pub(super) asking: Option<Asking>,
    /// How much of this a restart would know.
    pub(super) memory: Memory,
    /// The version of the row that instances share.
    pub(super) row: Option<u64>,
}

impl Run {
    /// Takes in what happened; whether an interval ended.
    pub(super) fn look(
        &mut self,
        outcomes: &[rollout::Outcome],
        fires: bool,
        now: UnixTime,
    ) -> bool {
        let Some(place) = self.progress.place(&self.course) else {
            return false;
        };
        let (Some(rails), Some(tally)) = (self.course.guardrails(place), self.tally.as_mut())
        else {
            return false;
        };
        let randomised = !self.progress.at_from && self.course.is_randomised(place);
        for outcome in outcomes {
            tally.add(rails, randomised, outcome);
        }
        let ended = rails.evaluate_every <= now.since(self.evaluated);
        if ended {
            let plan = self.course.plan(Some(place), self.progress.at_from, 0);
            tally.close(rails, plan.target(now).ratio(), now);
            self.evaluated = now;
        }
        let steps = self.course.randomised_steps();
        self.findings = tally.read(rails, steps, randomised, now);
        let limits = rails.limits.iter();
        let limits = limits.map(|limit| limit.read(self.looked.as_ref(), &self.answers));
        self.findings.limits = limits.collect();
        if let (true, None, Some(rule)) = (fires, self.findings.breaker, &rails.breaker) {
            self.findings.breaker = Some(rule.on_trip);
            self.findings.burning.none_came_back = true;
        }
        ended
    }

    /// Which step it is: what is seen in another counts for nothing in this one. Later ones are greater.
    pub(super) fn step(&self) -> u64 {
        self.progress.order()
    }

    /// Goes on with what was counted elsewhere in this step.
    pub(super) fn go_on_with(&mut self, tally: Tally) {
        let rails = self.progress.place(&self.course);
        let rails = rails.and_then(|place| self.course.guardrails(place));
        if rails.is_some_and(|rails| tally.is_of(rails)) {
            self.tally = Some(tally);
        }
    }

    /// Since when it is what it is.
    pub(super) const fn moment(&self) -> Moment {
        (self.progress.order(), self.progress.since)
    }

    /// What the hook of the stage has said of this step.
    fn hook(&self) -> Option<&Result<(), String>> {
        let own = self.moment();
        let said = self.hook.as_ref().filter(|(of, _)| *of == own);
        said.map(|(_, said)| said)
    }

    pub(super) fn view(&self, kill: rollout::KillPosition, now: UnixTime) -> View<'_> {
        View {
            course: &self.course,
            findings: &self.findings,
            kill,
            drills: &self.drills,
            exposed: self.exposed,
            looked: self.looked.as_ref(),
            came: self
                .came
                .as_ref()
                .map(|people| *people)
                .map_err(String::as_str),
            unlinked: self.unlinked,
            hook: self
                .hook()
                .map(|said| said.as_ref().map_err(String::as_str).copied()),
            now,
        }
    }
}

/// The progress as far as the file has a say in it.
pub(super) fn settled(course: &Course, mut progress: Progress, now: UnixTime) -> Progress {
    let place = match course.control {
        Control::Pinned => course.pinned,
        Control::Schedule if progress.state == State::Draft => match course.scheduled(now) {
            Some(place) => place,
            None => return progress,
        },
        Control::Schedule | Control::Controller => return progress,
    };
    let stage = course.leg(place).map_or("", |leg| &leg.stage.id);
    let moved = progress.state == State::Draft
        || progress.stage != stage
        || progress.step != place.step
        || progress.at_from;
    if moved {
        progress = Progress {
            state: State::Baking,
            stage: stage.to_owned(),
            step: place.step,
            entered: now,
            order: progress.order_after(now),
            since: now,
            epoch: progress.epoch,
            version: progress.version + 1,
            why: String::from("the file"),
            ..Progress::default()
        };
    }
    progress
}

/// Where it stands; a stage that is gone is an error, because guessing would move people.
pub(super) fn place_of(course: &Course, progress: &Progress) -> Result<Option<Place>, String> {
    match (progress.state, progress.place(course)) {
        (State::Draft, _) => Ok(None),
        (_, Some(place)) => Ok(Some(place)),
        (
            State::Baking
            | State::Held
            | State::RolledBack
            | State::Frozen
            | State::Overridden
            | State::Completed,
            None,
        ) => Err(format!(
            "rollouts.{}: it is in stage `{}`, which is no longer there: `authferry ctl set-stage` first",
            course.id, progress.stage
        )),
    }
}
