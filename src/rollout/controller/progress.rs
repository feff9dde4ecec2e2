//! Where a rollout stands, and what it is doing there.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::course::Course;
use crate::rollout::course::DRAFT;
use crate::rollout::course::Place;

/// What a rollout is doing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not begun: everything at `from`.
    #[default]
    Draft,
    /// Collecting evidence.
    Baking,
    /// Nobody moves any further.
    Held,
    /// Went back.
    RolledBack,
    /// Went back too often: a person must look at it.
    Frozen,
    /// The kill switch stands above it.
    Overridden,
    /// The last stage has baked.
    Completed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Draft,
        Self::Baking,
        Self::Held,
        Self::RolledBack,
        Self::Frozen,
        Self::Overridden,
        Self::Completed,
    ];

    /// The word in records, reports and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Baking => "baking",
            Self::Held => "held",
            Self::RolledBack => "rolled_back",
            Self::Frozen => "frozen",
            Self::Overridden => "overridden",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a rollout stands. It outlives a restart.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// What it is doing.
    pub state: State,
    /// The stage, by name, because stages may be added before it.
    pub stage: String,
    /// The step in it.
    pub step: usize,
    /// Whether every new login starts at `from`, whatever the step says.
    pub at_from: bool,
    /// Raised by everything that moves people back; pins of an older epoch are void.
    pub epoch: u64,
    /// When the step began.
    pub entered: UnixTime,
    /// Steps are told apart, and ordered, by this.
    #[serde(default)]
    pub order: u64,
    /// How long it has baked, up to `since`.
    pub baked: Duration,
    /// Since when it bakes on, in this state.
    pub since: UnixTime,
    /// Whether it waits for a person to promote it.
    pub ready: bool,
    /// Whether it is held for want of something that may still come: nothing was wrong, and what was seen counts on.
    #[serde(default)]
    pub lacks: bool,
    /// How often it went back by itself.
    pub autos: u32,
    /// Nobody resumes it before.
    pub cooldown_until: UnixTime,
    /// Why it is where it is.
    pub why: String,
    /// Guards that would have acted, and were only to be noted.
    pub noted: Vec<String>,
    /// Raised by every transition.
    pub version: u64,
}

impl Progress {
    /// Its place in a course. A stage that is gone, or a step, is looked for as near as possible before it.
    pub fn place(&self, course: &Course) -> Option<Place> {
        if self.state == State::Draft {
            return None;
        }
        let stage = course
            .legs
            .iter()
            .position(|leg| *leg.stage.id == *self.stage)?;
        let steps = course.legs.get(stage)?.steps.len();
        let step = self.step.min(steps.saturating_sub(1));
        Some(Place { stage, step })
    }

    /// How its place is called.
    pub fn name(&self, course: &Course) -> String {
        match self.place(course) {
            None => DRAFT.to_owned(),
            Some(place) if self.at_from => {
                let stage = course.leg(place).map_or("?", |leg| &leg.stage.id);
                format!("{stage}/from")
            }
            Some(place) => course.name(place),
        }
    }

    /// How long the step has baked.
    pub fn baked_at(&self, now: UnixTime) -> Duration {
        match self.state {
            State::Baking => self.baked + now.since(self.since),
            State::Draft
            | State::Held
            | State::RolledBack
            | State::Frozen
            | State::Overridden
            | State::Completed => self.baked,
        }
    }

    /// The number of a step that begins now: greater than that of this one, also where the clock of whoever leads is behind.
    pub fn order_after(&self, now: UnixTime) -> u64 {
        now.as_millis().max(self.order() + 1)
    }

    /// The number of the step. One that was written without it has that of its beginning.
    pub const fn order(&self) -> u64 {
        if self.order == 0 {
            self.entered.as_millis()
        } else {
            self.order
        }
    }

    pub(super) fn moved(&self, now: UnixTime, state: State, why: &str) -> Self {
        Self {
            state,
            baked: self.baked_at(now),
            since: now,
            why: why.to_owned(),
            ready: false,
            lacks: false,
            version: self.version + 1,
            ..self.clone()
        }
    }

    pub(super) fn at(
        &self,
        course: &Course,
        place: Place,
        now: UnixTime,
        state: State,
        why: &str,
    ) -> Self {
        let stage = course.leg(place).map_or("", |leg| &leg.stage.id);
        Self {
            stage: stage.to_owned(),
            step: place.step,
            at_from: false,
            entered: now,
            order: self.order_after(now),
            baked: Duration::ZERO,
            noted: Vec::new(),
            ..self.moved(now, state, why)
        }
    }
}
