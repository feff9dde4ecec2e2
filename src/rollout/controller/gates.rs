//! What still keeps a step from being left, and what of it is more than time.

use crate::rollout::controller::Progress;
use crate::rollout::controller::State;
use crate::rollout::controller::View;
use crate::rollout::course::Control;
use crate::rollout::course::Place;
use crate::rollout::course::Require;
use crate::rollout::drills::Exercise;
use crate::rollout::guard::GuardReading;
use crate::rollout::guard::Looked;
use crate::rollout::guard::NoData;
use crate::rollout::guard::Verdict;
use crate::rollout::guard::bad_rate_upper_bound;
use crate::rollout::obstacle::Gap;
use crate::rollout::obstacle::Obstacle;

impl Progress {
    /// What keeps a step that has baked, where evidence alone moves a rollout; nothing: it goes on, waits for time, or for a person.
    pub fn waits_for(&self, view: &View<'_>) -> Vec<Gap> {
        if self.state != State::Baking || view.course.control != Control::Controller {
            return Vec::new();
        }
        let gaps = missing(self, view);
        if gaps.iter().any(|gap| gap.obstacle == Obstacle::Bake) {
            return Vec::new();
        }
        gaps
    }
}

/// Why a step is held that has baked: for want of the data of guards, or because its hook does not say yes.
pub(super) fn holds(place: Place, view: &View<'_>) -> Option<String> {
    let silent = silent(place, view);
    if !silent.is_empty() {
        return Some(format!("no data: guard {}", silent.join(", ")));
    }
    let (course, rails) = (view.course, view.course.guardrails(place));
    let asked = course.asks_hook(place) && rails.is_none_or(|r| r.no_data != NoData::Wait);
    let why = view.hook.filter(|_| asked)?.err()?;
    Some(format!("webhook: {why}"))
}

fn silent<'a>(place: Place, view: &View<'a>) -> Vec<&'a str> {
    let findings = view.findings;
    let mut silent: Vec<&str> = Vec::new();
    // Nobody can have come to what is counted for less time than the step bakes: the guards are newer than the step, or what
    // they had counted is lost.
    let counted = findings.since.map(|since| view.now.since(since));
    let bake = view.course.step(place).map(|step| step.bake);
    let long_enough = bake <= counted;
    // Where people were chosen by name there may be nobody to compare them with.
    if long_enough && view.course.is_randomised(place) {
        let holds = |guard: &&GuardReading| guard.no_data == NoData::Hold;
        let guards = findings.without_data().filter(holds);
        silent.extend(guards.map(|guard| &*guard.id));
    }
    // Whom nobody answers knows nothing, whatever the arms look like.
    let rails = view.course.guardrails(place);
    if rails.is_some_and(|rails| rails.no_data == NoData::Hold) {
        let mute = findings.limits.iter();
        let mute = mute.filter(|limit| !limit.of_opinions && limit.verdict == Verdict::NoData);
        silent.extend(mute.map(|limit| &*limit.id));
    }
    silent
}

/// What is missing before the step may be left; nothing: it may.
pub fn missing(progress: &Progress, view: &View<'_>) -> Vec<Gap> {
    let course = view.course;
    let Some(place) = progress.place(course) else {
        return vec![Obstacle::File.because("it has not begun")];
    };
    let (Some(leg), Some(step)) = (course.leg(place), course.step(place)) else {
        return vec![Obstacle::File.because("its stage is gone")];
    };
    let mut missing = Vec::new();
    let baked = progress.baked_at(view.now);
    if baked < step.bake {
        let (baked, bake) = (words(baked.as_secs()), words(step.bake.as_secs()));
        missing.push(Obstacle::Bake.because(format!("baked {baked} of {bake}")));
    }
    let people = view.findings.people_at_to();
    // What leaves the stage is asked in its last step only.
    let last = place.step + 1 == leg.steps.len();
    let needed = if last {
        step.min_units.max(leg.require.units)
    } else {
        step.min_units
    };
    if people < needed {
        missing.push(Obstacle::People.because(format!("{people} of {needed} people")));
    }
    if course.guardrails(place).is_some() && view.findings.since.is_none() {
        missing.push(Obstacle::NoData.because("the guards have not been looked at yet"));
    }
    if course.is_randomised(place) {
        for guard in view.findings.without_data() {
            let (to, from) = (guard.units.to, guard.units.from);
            let why = format!(
                "guard {}: no data ({to} people at `{}`, {from} at `{}`)",
                guard.id, course.to, course.from
            );
            missing.push(Obstacle::NoData.because(why));
        }
    }
    for guard in &view.findings.guards {
        if guard.verdict == Verdict::Tripped {
            let why = format!("guard {} has tripped", guard.id);
            missing.push(Obstacle::Guard.because(why));
        }
    }
    for limit in &view.findings.limits {
        match limit.verdict {
            Verdict::Tripped => {
                let why = format!("guard {} has tripped", limit.id);
                missing.push(Obstacle::Guard.because(why));
            }
            Verdict::NoData => {
                let why = format!("guard {}: no data", limit.id);
                missing.push(Obstacle::NoData.because(why));
            }
            Verdict::Ok => {}
        }
    }
    if let Some(split) = &view.findings.split
        && split.verdict == Verdict::Tripped
    {
        missing.push(Obstacle::Split.because("the split is not the configured one"));
    }
    if !last {
        return missing;
    }
    if let Some(bound) = leg.require.bad_rate_upper_bound {
        let possible = view.findings.bad_rate_upper_bound();
        if view.findings.guards.is_empty() || bound < possible {
            missing.push(Obstacle::BadRate.because(format!(
                "a bad rate of {:.1} % is still possible, where {:.1} % may be",
                100.0 * possible,
                100.0 * bound
            )));
        }
    }
    missing.extend(opinions(&leg.require, view.looked));
    if let Some(seen) = &leg.require.legacy_credentials_seen {
        let most = seen.max;
        match view.came {
            Ok(people) if people <= most => {}
            Ok(people) => missing.push(Obstacle::LegacyCredentials.because(format!(
                "{people} people still came with credentials of `{}`, where {most} may",
                course.from
            ))),
            Err(why) => missing.push(Obstacle::LegacyCredentials.because(why)),
        }
    }
    if let Some(most) = leg.require.rollback_exposure_max {
        match view.exposed {
            Some(exposed) if exposed <= most => {}
            Some(exposed) => missing.push(Obstacle::RollbackExposure.because(format!(
                "a switch back would lock out {exposed} people, where {most} may be"
            ))),
            None => missing.push(
                Obstacle::RollbackExposure
                    .because("how many people a switch back would lock out is not known"),
            ),
        }
    }
    if let Some(most) = leg.require.unlinked_max {
        // Few people say little: as many as the stage asks for in any case.
        let enough = leg.require.units.max(1);
        match view.unlinked {
            Some((alone, of)) if enough <= of && alone as f64 <= most * of as f64 => {}
            Some((alone, of)) if enough <= of => missing.push(Obstacle::Unlinked.because(format!(
                "{alone} of {of} people have no partner, where {:.1} % may have none",
                100.0 * most
            ))),
            Some(_) | None => missing
                .push(Obstacle::Unlinked.because("how many people have no partner is not known")),
        }
    }
    if leg.require.webhook {
        match view.hook {
            Some(Ok(())) => {}
            Some(Err(why)) => missing.push(Obstacle::Webhook.because(format!("webhook: {why}"))),
            None => missing.push(Obstacle::Webhook.because("the webhook has not been asked yet")),
        }
    }
    for drill in &leg.require.drills_passed {
        let wanted = Exercise::named(drill);
        let mut passed = view.drills.iter().filter_map(|word| Exercise::named(word));
        if !wanted.is_some_and(|wanted| passed.any(|passed| passed.is_enough(wanted))) {
            missing.push(Obstacle::Drill.because(format!("drill {drill} has not passed")));
        }
    }
    missing
}

/// One of so many second looks may have been skipped for want of room or of an answer.
const MOST_LOST: u64 = 20;

/// What second opinions must have found.
fn opinions(require: &Require, looked: Option<&Looked>) -> Vec<Gap> {
    let mut missing = Vec::new();
    let asked = 0 < require.compared_subjects
        || require.critical.is_some()
        || require.divergence_upper_bound.is_some();
    let Some(looked) = looked else {
        if asked {
            missing.push(
                Obstacle::Opinions.because("how many people were looked at twice is not known"),
            );
        }
        return missing;
    };
    if looked.people < require.compared_subjects {
        let (compared, needed) = (looked.people, require.compared_subjects);
        let why = format!("{compared} of {needed} people looked at twice");
        missing.push(Obstacle::Opinions.because(why));
    }
    if let Some(most) = require.critical.filter(|most| *most < looked.critical) {
        let critical = looked.critical;
        missing.push(Obstacle::Divergences.because(format!(
            "{critical} critical differences, where {most} may be"
        )));
    }
    let (lost, all) = (looked.lost, looked.asked + looked.lost);
    if asked && all < MOST_LOST * lost {
        missing.push(Obstacle::Opinions.because(format!(
            "{lost} of {all} second looks were skipped (`queue_full`, `breaker`), more than 5 %: who was looked at is no fair sample"
        )));
    }
    let possible = bad_rate_upper_bound(looked.people, looked.differ);
    if let Some(bound) = require.divergence_upper_bound
        && bound < possible
    {
        missing.push(Obstacle::Divergences.because(format!(
            "of all people {:.1} % may still differ ({} of {} did), where {:.1} % may",
            100.0 * possible,
            looked.differ,
            looked.people,
            100.0 * bound
        )));
    }
    missing
}

/// `15h40m`, `40m`, `12s`.
fn words(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, _) => format!("{minutes}m"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
