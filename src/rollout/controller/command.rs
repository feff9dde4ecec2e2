//! What a person may order, and what is refused.

use crate::rollout::controller::Direction;
use crate::rollout::controller::Progress;
use crate::rollout::controller::State;
use crate::rollout::controller::Transition;
use crate::rollout::controller::Trigger;
use crate::rollout::controller::View;
use crate::rollout::controller::gates::missing;
use crate::rollout::controller::gone_back;
use crate::rollout::course::Control;
use crate::rollout::course::Place;
use crate::rollout::course::RollbackTo;
use crate::rollout::kill::KillPosition;

/// What a person orders.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Begin with the first stage.
    Start,
    /// Go to the next step now that it may be.
    Promote,
    /// Stay where it is.
    Pause,
    /// Go on.
    Resume,
    /// Go back.
    Rollback,
    /// Go to this step, whatever the evidence says.
    SetStage(String),
}

impl Command {
    /// The word in records.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rollback => "rollback",
            Self::SetStage(_) => "set-stage",
        }
    }

    /// What comes of it.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub fn apply(
        &self,
        progress: &Progress,
        view: &View<'_>,
        reason: &str,
    ) -> Result<Transition, String> {
        let course = view.course;
        if reason.trim().is_empty() {
            return Err(String::from("a reason is needed"));
        }
        if course.control == Control::Pinned {
            return Err(String::from(
                "the file says where it stands (`control: pinned`): edit `pinned_stage`",
            ));
        }
        let overridden = match view.kill {
            KillPosition::Off => progress.state == State::Overridden,
            KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern
            | KillPosition::Deny => true,
        };
        if overridden && *self != Self::Rollback {
            return Err(format!("the kill switch stands at `{}`", view.kill));
        }
        let why = reason.trim();
        let order = Order {
            progress,
            view,
            why,
        };
        match self {
            Self::Start => order.start(),
            Self::Promote => order.promote(),
            Self::Pause => order.pause(),
            Self::Resume => order.resume(),
            Self::Rollback => order.roll_back(),
            Self::SetStage(name) => order.set_stage(name),
        }
    }
}

struct Order<'a> {
    progress: &'a Progress,
    view: &'a View<'a>,
    why: &'a str,
}

impl Order<'_> {
    fn start(&self) -> Result<Transition, String> {
        match self.progress.state {
            State::Draft => Ok(self.to(Place::default(), Direction::Forward)),
            State::Baking
            | State::Held
            | State::RolledBack
            | State::Frozen
            | State::Overridden
            | State::Completed => Err(String::from("it has begun already")),
        }
    }

    fn promote(&self) -> Result<Transition, String> {
        if self.progress.state != State::Baking {
            let state = self.progress.state;
            return Err(format!("it is {state}: only what bakes is promoted"));
        }
        let missing = missing(self.progress, self.view);
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            return Err(format!("not yet: {}", missing.join("; ")));
        }
        let next = self
            .place()
            .and_then(|place| self.view.course.next(place))
            .ok_or("there is no further step")?;
        Ok(self.to(next, Direction::Forward))
    }

    fn pause(&self) -> Result<Transition, String> {
        if self.progress.state != State::Baking {
            return Err(format!("it is {} already", self.progress.state));
        }
        let next = self.progress.moved(self.view.now, State::Held, self.why);
        Ok(self.stay(next))
    }

    fn resume(&self) -> Result<Transition, String> {
        let now = self.view.now;
        let wait = self.progress.cooldown_until.since(now).as_secs();
        let went_back = match self.progress.state {
            State::RolledBack => true,
            // By itself, while it was stopped.
            State::Held => self.progress.at_from,
            State::Draft | State::Baking | State::Frozen | State::Overridden | State::Completed => {
                false
            }
        };
        if went_back && 0 < wait {
            return Err(format!("it cools down for {wait} s more"));
        }
        let place = self
            .place()
            .ok_or("its stage is gone: `set-stage` names another")?;
        match self.progress.state {
            // A person looks first, and lets it go on then.
            State::Frozen => {
                let mut next = self.progress.moved(now, State::Held, self.why);
                next.autos = 0;
                Ok(self.stay(next))
            }
            State::RolledBack if self.progress.at_from => {
                Ok(self.to(Place { step: 0, ..place }, Direction::Forward))
            }
            State::Held if self.progress.at_from => {
                Ok(self.to(Place { step: 0, ..place }, Direction::Forward))
            }
            // Nothing was wrong: the step has baked, and what was seen while it was held counts as well.
            State::Held if self.progress.lacks => {
                let next = self.progress.moved(now, State::Baking, self.why);
                Ok(self.stay(next))
            }
            State::RolledBack | State::Held => {
                // What was seen before the repair says nothing about after it.
                let mut next = self.progress.moved(now, State::Baking, self.why);
                next.entered = now;
                next.order = self.progress.order_after(now);
                next.baked = std::time::Duration::ZERO;
                next.noted.clear();
                Ok(self.stay(next))
            }
            State::Draft => Err(String::from("it has not begun: `start`")),
            State::Baking | State::Completed | State::Overridden => {
                Err(format!("it is {}", self.progress.state))
            }
        }
    }

    fn roll_back(&self) -> Result<Transition, String> {
        let place = self.place().ok_or("there is nothing to go back from")?;
        if self.progress.at_from {
            return Err(String::from("every new login starts at `from` already"));
        }
        let leg = self.view.course.leg(place);
        let to = leg.map_or(RollbackTo::From, |leg| leg.rollback);
        let next = gone_back(self.progress, place, self.view, to, self.why);
        Ok(Transition {
            revokes: leg.is_some_and(|leg| leg.rollback_revokes),
            ..Transition::back(next, Trigger::Operator, self.why.into())
        })
    }

    fn set_stage(&self, name: &str) -> Result<Transition, String> {
        let course = self.view.course;
        let target = course
            .find(name)
            .ok_or_else(|| format!("there is no step called `{name}`"))?;
        let back = self.place().is_some_and(|place| target < place) && !self.moves_more(target);
        let direction = if back {
            Direction::Back
        } else {
            Direction::Forward
        };
        let mut transition = self.to(target, direction);
        if back {
            transition.next.epoch += 1;
            transition.urgent = true;
            transition.promotes = false;
        }
        Ok(transition)
    }

    /// Whether more people are moved there than now: whoever stands at `from` goes forward to every step that moves anybody.
    fn moves_more(&self, target: Place) -> bool {
        let (course, now) = (self.view.course, self.view.now);
        if self.progress.at_from {
            return course.moves_people(target);
        }
        let share = |place| course.plan(place, false, 0).target(now);
        share(self.place()) < share(Some(target))
    }

    fn place(&self) -> Option<Place> {
        self.progress.place(self.view.course)
    }

    fn to(&self, place: Place, direction: Direction) -> Transition {
        let (course, now) = (self.view.course, self.view.now);
        Transition {
            next: self
                .progress
                .at(course, place, now, State::Baking, self.why),
            direction,
            trigger: Trigger::Operator,
            why: self.why.into(),
            urgent: false,
            promotes: course.moves_people(place),
            revokes: false,
        }
    }

    fn stay(&self, next: Progress) -> Transition {
        Transition::stay(next, Trigger::Operator, self.why.into())
    }
}
