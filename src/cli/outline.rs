//! The rollouts of a checked file, rule by rule, with the phase of each: a rule about people is skipped where a login starts.

use std::io;
use std::io::Write;

use serde_json::Value;
use serde_json::json;

use crate::config::Outline;
use crate::config::StageOutline;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::Phase;
use crate::rollout::bad_rate_upper_bound;
use crate::rollout::shown_by;

/// What a step can show, if so many people take part in the rollout.
struct Sized {
    percent: Percent,
    /// At the new provider.
    people: u64,
    /// The smallest bad rate that the guards see among them.
    seen: Option<f64>,
    /// The bad rate that is excluded if none of them is bad.
    excluded: f64,
}

fn sized(stage: &StageOutline, people: u64) -> impl Iterator<Item = Sized> {
    stage.steps.iter().map(move |percent| {
        let there = (people as f64 * percent.ratio()).round() as u64;
        Sized {
            percent: *percent,
            people: there,
            seen: shown_by(there),
            excluded: bad_rate_upper_bound(there, 0),
        }
    })
}

/// For people; with the number of them, what each step can show.
pub(super) fn text(
    outlines: &[Outline],
    people: Option<u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for outline in outlines {
        let (from, to) = (&outline.from, &outline.to);
        writeln!(out, "rollout {}: from {from} to {to}", outline.rollout)?;
        for stage in &outline.stages {
            let present = if stage.present {
                ", the present one"
            } else {
                ""
            };
            writeln!(
                out,
                "  stage {} ({}){present}",
                stage.id,
                stage.mode.as_str()
            )?;
            for rule in &stage.rules {
                let cohort = rule
                    .cohort
                    .as_ref()
                    .map(|cohort| format!("cohort {cohort}"));
                let share = match (rule.climbs, rule.percent) {
                    (true, _) => Some("the step of the ramp".to_owned()),
                    (false, Some(percent)) => Some(format!("{percent} %")),
                    (false, None) => None,
                };
                let whom = match (share, cohort) {
                    (Some(share), Some(cohort)) => format!("{share} of {cohort}"),
                    (Some(one), None) | (None, Some(one)) => one,
                    (None, None) => "everybody".to_owned(),
                };
                let phase = match rule.phase {
                    Phase::Before => "known before the login",
                    Phase::After => "known after the login, holds for the next one",
                };
                let choice = if rule.chosen {
                    format!(" or {from}, as they choose")
                } else {
                    String::new()
                };
                writeln!(out, "    {whom} to {}{choice}: {phase}", rule.to)?;
            }
            let rest = match stage.mode {
                Mode::LegacyOnly | Mode::Shadow | Mode::Canary => from,
                Mode::ModernPrimary | Mode::ModernOnly => to,
            };
            writeln!(out, "    whoever is left to {rest}")?;
            for step in people.into_iter().flat_map(|people| sized(stage, people)) {
                let seen = step.seen.map_or_else(
                    || "no bad rate at all".to_owned(),
                    |rate| format!("a bad rate of {:.0} % or more", 100.0 * rate),
                );
                writeln!(
                    out,
                    "    at {} %: {} people at {to}; the guards see {seen}, none bad excludes {:.2} % and more",
                    step.percent,
                    step.people,
                    100.0 * step.excluded
                )?;
            }
        }
    }
    Ok(())
}

/// For programs.
pub(super) fn json(outlines: &[Outline], people: Option<u64>) -> Value {
    let all = outlines.iter().map(|outline| {
        let stages = outline.stages.iter().map(|stage| {
            let rules = stage.rules.iter().map(|rule| {
                let phase = match rule.phase {
                    Phase::Before => "before",
                    Phase::After => "after",
                };
                json!({
                    "cohort": rule.cohort, "percent": rule.percent.map(|percent| percent.to_string()),
                    "ramp": rule.climbs, "choose": rule.chosen, "to": rule.to, "phase": phase,
                })
            });
            let mut told = json!({
                "id": stage.id, "mode": stage.mode.as_str(), "present": stage.present,
                "rules": rules.collect::<Vec<_>>(),
            });
            if let (Some(people), Some(members)) = (people, told.as_object_mut()) {
                let steps = sized(stage, people).map(|step| {
                    json!({
                        "percent": step.percent.to_string(), "people": step.people,
                        "bad_rate_seen": step.seen, "bad_rate_excluded": step.excluded,
                    })
                });
                members.insert("steps".to_owned(), steps.collect());
            }
            told
        });
        json!({
            "rollout": outline.rollout, "from": outline.from, "to": outline.to,
            "stages": stages.collect::<Vec<_>>(),
        })
    });
    all.collect()
}
