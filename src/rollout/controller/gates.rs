//! What still keeps a step from being left, in words.

use crate::rollout::controller::Progress;
use crate::rollout::controller::View;
use crate::rollout::guard::Verdict;

/// What is missing before the step may be left; nothing: it may.
pub fn missing(progress: &Progress, view: &View<'_>) -> Vec<String> {
    let course = view.course;
    let Some(place) = progress.place(course) else {
        return vec![String::from("it has not begun")];
    };
    let (Some(leg), Some(step)) = (course.leg(place), course.step(place)) else {
        return vec![String::from("its stage is gone")];
    };
    let mut missing = Vec::new();
    let baked = progress.baked_at(view.now);
    if baked < step.bake {
        let (baked, bake) = (words(baked.as_secs()), words(step.bake.as_secs()));
        missing.push(format!("baked {baked} of {bake}"));
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
        missing.push(format!("{people} of {needed} people"));
    }
    for guard in &view.findings.guards {
        if guard.verdict == Verdict::Tripped {
            missing.push(format!("guard {} has tripped", guard.id));
        }
    }
    if let Some(split) = &view.findings.split
        && split.verdict == Verdict::Tripped
    {
        missing.push(String::from("the split is not the configured one"));
    }
    if !last {
        return missing;
    }
    if let Some(bound) = leg.require.bad_rate_upper_bound {
        let possible = view.findings.bad_rate_upper_bound();
        if view.findings.guards.is_empty() || bound < possible {
            missing.push(format!(
                "a bad rate of {:.1} % is still possible, where {:.1} % may be",
                100.0 * possible,
                100.0 * bound
            ));
        }
    }
    let needed = leg.require.compared_subjects;
    match view.compared {
        Some((compared, critical)) => {
            if compared < needed {
                missing.push(format!("{compared} of {needed} people looked at twice"));
            }
            if let Some(most) = leg.require.critical.filter(|most| *most < critical) {
                missing.push(format!(
                    "{critical} critical differences, where {most} may be"
                ));
            }
        }
        None if 0 < needed || leg.require.critical.is_some() => {
            missing.push(String::from(
                "how many people were looked at twice is not known",
            ));
        }
        None => {}
    }
    if let Some(most) = leg.require.rollback_exposure_max {
        match view.exposed {
            Some(exposed) if exposed <= most => {}
            Some(exposed) => missing.push(format!(
                "a switch back would lock out {exposed} people, where {most} may be"
            )),
            None => missing.push(String::from(
                "how many people a switch back would lock out is not known",
            )),
        }
    }
    for drill in &leg.require.drills_passed {
        if !view.drills.contains(drill) {
            missing.push(format!("drill {drill} has not passed"));
        }
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
