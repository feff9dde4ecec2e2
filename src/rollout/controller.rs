//! The state machine of a rollout: an event goes in, a transition comes out. It reads no clock and writes nothing.
//!
//! Going forward needs evidence, and a person or `promote: auto`; going back needs neither. Whoever keeps the progress
//! records a transition first and lets it hold then.

use crate::clock::UnixTime;
use crate::rollout::course::Control;
use crate::rollout::course::Course;
use crate::rollout::course::Place;
use crate::rollout::course::PromoteWhen;
use crate::rollout::course::RollbackTo;
use crate::rollout::guard::Findings;
use crate::rollout::guard::Looked;
use crate::rollout::guard::OnTrip;
use crate::rollout::guard::Verdict;
use crate::rollout::kill::KillPosition;

mod command;
mod gates;
mod progress;

pub use command::Command;
pub use gates::missing;
pub use progress::Progress;
pub use progress::State;

/// What made a rollout move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// A person.
    Operator,
    /// A guard, or the split.
    Guard,
    /// The plain breaker.
    Breaker,
    /// Enough evidence.
    Evidence,
    /// The clock.
    Schedule,
    /// The kill switch.
    Kill,
}

impl Trigger {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Guard => "guard",
            Self::Breaker => "breaker",
            Self::Evidence => "evidence",
            Self::Schedule => "schedule",
            Self::Kill => "kill",
        }
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// More people at the new provider.
    Forward,
    /// Fewer.
    Back,
    /// As many.
    Stay,
}

impl Direction {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Back => "back",
            Self::Stay => "stay",
        }
    }
}

/// What a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The rollout.
    pub course: &'a Course,
    /// What the guards say.
    pub findings: &'a Findings,
    /// Where the kill switch stands for it.
    pub kill: KillPosition,
    /// Drills that have passed in this stage.
    pub drills: &'a [Box<str>],
    /// How many people a switch back would lock out, for whatever reason; `None`: not known.
    pub exposed: Option<u64>,
    /// What second opinions have found since the step began; `None`: not known.
    pub looked: Option<&'a Looked>,
    /// How many people still came with credentials of `from`, as the stage asks it; or why that is not known.
    pub came: Result<u64, &'a str>,
    /// How many people have no account at the other provider, and of how many that is known; `None`: not known.
    pub unlinked: Option<(u64, u64)>,
    /// What the hook of the stage has said of this step; `None`: nothing yet.
    pub hook: Option<Result<(), &'a str>>,
    /// Now.
    pub now: UnixTime,
}

/// A step of the state machine.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Where it stands then.
    pub next: Progress,
    /// Which way.
    pub direction: Direction,
    /// What made it move.
    pub trigger: Trigger,
    /// Why, for the record.
    pub why: String,
    /// Whether it is an escape that must not wait for a full disk.
    pub urgent: bool,
    /// Whether people are moved forward: the new provider is asked first whether it is there.
    pub promotes: bool,
    /// Whether what the new provider has vouched for ends.
    pub revokes: bool,
}

impl Transition {
    const fn stay(next: Progress, trigger: Trigger, why: String) -> Self {
        Self {
            next,
            direction: Direction::Stay,
            trigger,
            why,
            urgent: false,
            promotes: false,
            revokes: false,
        }
    }

    fn back(next: Progress, trigger: Trigger, why: String) -> Self {
        Self {
            direction: Direction::Back,
            urgent: true,
            ..Self::stay(next, trigger, why)
        }
    }
}

/// The clock ticked: what follows, if anything.
pub fn tick(progress: &Progress, view: &View<'_>) -> Option<Transition> {
    if let Some(transition) = by_kill(progress, view) {
        return Some(transition);
    }
    match progress.state {
        State::Draft | State::Completed => return None,
        // The other positions of the switch say themselves where people sign in.
        State::Overridden if view.kill != KillPosition::Freeze => return None,
        State::Baking | State::Held | State::RolledBack | State::Frozen | State::Overridden => {}
    }
    let place = progress.place(view.course)?;
    if !progress.at_from
        && view.course.moves_people(place)
        && let Some(transition) = by_trip(progress, place, view)
    {
        return Some(transition);
    }
    match progress.state {
        State::Baking => forward(progress, place, view),
        State::Draft
        | State::Held
        | State::RolledBack
        | State::Frozen
        | State::Overridden
        | State::Completed => None,
    }
}

fn by_kill(progress: &Progress, view: &View<'_>) -> Option<Transition> {
    // With a file in charge the switch only voids pins; afterwards everything is as the file says.
    let by_file = view.course.control == Control::Pinned;
    let moves = match view.kill {
        KillPosition::Off => {
            if progress.state != State::Overridden {
                return None;
            }
            let why = String::from("kill switch released");
            let place = progress.place(view.course);
            let rails = place.and_then(|place| view.course.guardrails(place));
            let few = rails.is_none_or(|r| progress.autos <= r.after_rollback.max_auto);
            let state = match (by_file, few) {
                (true, _) => State::Baking,
                (false, true) => State::Held,
                (false, false) => State::Frozen,
            };
            let next = progress.moved(view.now, state, &why);
            return Some(Transition::stay(next, Trigger::Kill, why));
        }
        KillPosition::Freeze | KillPosition::Deny if by_file => return None,
        KillPosition::Freeze | KillPosition::Deny => false,
        KillPosition::Legacy | KillPosition::Modern => true,
    };
    let why = format!("kill switch {}", view.kill);
    match progress.state {
        State::Draft | State::Completed => return None,
        // From one position to another that moves people they are called back again.
        State::Overridden if !moves || progress.why == why => return None,
        State::Baking | State::Held | State::RolledBack | State::Frozen | State::Overridden => {}
    }
    let mut next = progress.moved(view.now, State::Overridden, &why);
    next.epoch += u64::from(moves);
    let mut transition = Transition::stay(next, Trigger::Kill, why);
    transition.urgent = true;
    Some(transition)
}

/// Something tripped: the gravest of it.
fn by_trip(progress: &Progress, place: Place, view: &View<'_>) -> Option<Transition> {
    let mut trips: Vec<(OnTrip, Trigger, String)> = Vec::new();
    if let Some(on_trip) = view.findings.breaker {
        trips.push((on_trip, Trigger::Breaker, String::from("breaker")));
    }
    for guard in &view.findings.guards {
        if guard.verdict == Verdict::Tripped {
            trips.push((guard.on_trip, Trigger::Guard, format!("guard {}", guard.id)));
        }
    }
    for limit in &view.findings.limits {
        if limit.verdict == Verdict::Tripped {
            trips.push((limit.on_trip, Trigger::Guard, format!("guard {}", limit.id)));
        }
    }
    if let Some(split) = &view.findings.split
        && split.verdict == Verdict::Tripped
    {
        trips.push((split.on_trip, Trigger::Guard, String::from("split")));
    }
    // With a file in charge guards only watch.
    let watching = view.course.control == Control::Pinned;
    let stopped = matches!(progress.state, State::Frozen | State::Overridden);
    if stopped {
        // Whoever stopped it decides about everything but a fire and the wrong people.
        trips.retain(|(on_trip, trigger, _)| match on_trip {
            OnTrip::RollbackRevoke => true,
            OnTrip::Rollback => *trigger == Trigger::Breaker,
            OnTrip::Hold | OnTrip::Note => false,
        });
    }
    for gravest in [OnTrip::RollbackRevoke, OnTrip::Rollback] {
        let found = trips.iter().find(|(on_trip, ..)| *on_trip == gravest);
        if let Some((_, trigger, why)) = found.filter(|_| !watching) {
            return Some(roll_back(progress, place, view, (*trigger, gravest), why));
        }
    }
    for (on_trip, trigger, why) in &trips {
        if *on_trip == OnTrip::Hold && !watching && progress.state == State::Baking {
            let next = progress.moved(view.now, State::Held, why);
            return Some(Transition::stay(next, *trigger, why.clone()));
        }
    }
    for (on_trip, trigger, why) in trips {
        let only_noted = watching || on_trip == OnTrip::Note;
        if only_noted && !progress.noted.contains(&why) {
            let mut next = progress.clone();
            next.noted.push(why.clone());
            next.version += 1;
            let why = format!("{why} would have acted");
            return Some(Transition::stay(next, trigger, why));
        }
    }
    None
}

fn roll_back(
    progress: &Progress,
    place: Place,
    view: &View<'_>,
    (trigger, on_trip): (Trigger, OnTrip),
    why: &str,
) -> Transition {
    let course = view.course;
    let leg = course.leg(place);
    let revokes = on_trip == OnTrip::RollbackRevoke;
    let to = match leg {
        // On fire, or the wrong people are in: nobody waits for a step back to be enough.
        Some(leg) if trigger != Trigger::Breaker && !revokes => leg.rollback,
        Some(_) | None => RollbackTo::From,
    };
    let mut next = gone_back(progress, place, view, to, why);
    next.autos += 1;
    let limits = course.guardrails(place).map(|rails| rails.after_rollback);
    if let Some(limits) = limits {
        next.cooldown_until = view.now + limits.cooldown;
        if limits.max_auto < next.autos {
            next.state = State::Frozen;
        }
    }
    match progress.state {
        // It still waits for whoever stopped it.
        State::Frozen | State::Overridden => next.state = progress.state,
        State::Draft | State::Baking | State::Held | State::RolledBack | State::Completed => {}
    }
    Transition {
        revokes: revokes || leg.is_some_and(|leg| leg.rollback_revokes),
        ..Transition::back(next, trigger, why.to_owned())
    }
}

/// Where a rollback leads: always to fewer people, and every pin is void.
fn gone_back(
    progress: &Progress,
    place: Place,
    view: &View<'_>,
    to: RollbackTo,
    why: &str,
) -> Progress {
    let course = view.course;
    let target = match to {
        RollbackTo::PreviousStep => course.previous(place),
        RollbackTo::StageStart if place.step != 0 => Some(Place { step: 0, ..place }),
        RollbackTo::StageStart | RollbackTo::From => None,
    };
    let mut next = match target {
        Some(target) => progress.at(course, target, view.now, State::RolledBack, why),
        None => Progress {
            at_from: true,
            ..progress.at(course, place, view.now, State::RolledBack, why)
        },
    };
    next.epoch += 1;
    next
}

/// Nothing is wrong: whether the next step begins.
fn forward(progress: &Progress, place: Place, view: &View<'_>) -> Option<Transition> {
    let course = view.course;
    match course.control {
        Control::Pinned => return None,
        Control::Schedule => {
            let due = course.scheduled(view.now).filter(|due| place < *due)?;
            let why = format!("schedule: {}", course.name(due));
            let next = progress.at(course, due, view.now, State::Baking, &why);
            return Some(advance(next, Trigger::Schedule, why));
        }
        Control::Controller => {}
    }
    let missing = missing(progress, view);
    let step = course.step(place)?;
    let baked = step.bake <= progress.baked_at(view.now);
    if let Some(why) = gates::holds(place, view).filter(|_| baked) {
        let mut next = progress.moved(view.now, State::Held, &why);
        next.lacks = true;
        return Some(Transition::stay(next, Trigger::Guard, why));
    }
    if !missing.is_empty() {
        return None;
    }
    let leg = course.leg(place)?;
    match (leg.when, course.next(place)) {
        (PromoteWhen::Manual, Some(_)) if progress.ready => None,
        (PromoteWhen::Manual, Some(next)) => {
            let why = format!("ready for {}", course.name(next));
            let waiting = Progress {
                ready: true,
                version: progress.version + 1,
                ..progress.clone()
            };
            Some(Transition::stay(waiting, Trigger::Evidence, why))
        }
        (PromoteWhen::Auto, Some(next)) => {
            let open = leg.windows.as_ref().is_none_or(|w| w.is_open(view.now));
            open.then(|| {
                let why = format!("baked: {}", course.name(place));
                let next = progress.at(course, next, view.now, State::Baking, &why);
                advance(next, Trigger::Evidence, why)
            })
        }
        (PromoteWhen::Manual | PromoteWhen::Auto, None) => {
            let why = String::from("the last step of the last stage has baked");
            let next = progress.moved(view.now, State::Completed, &why);
            Some(Transition::stay(next, Trigger::Evidence, why))
        }
    }
}

const fn advance(next: Progress, trigger: Trigger, why: String) -> Transition {
    Transition {
        next,
        direction: Direction::Forward,
        trigger,
        why,
        urgent: false,
        promotes: true,
        revokes: false,
    }
}

#[cfg(test)]
mod tests;
