//! The rollouts of a checked file, rule by rule, with the phase of each: a rule about people is skipped where a login starts.

use std::io;
use std::io::Write;

use serde_json::Value;
use serde_json::json;

use crate::config::Outline;
use crate::rollout::Mode;
use crate::rollout::Phase;

/// For people.
pub(super) fn text(outlines: &[Outline], out: &mut dyn Write) -> io::Result<()> {
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
                writeln!(out, "    {whom} to {}: {phase}", rule.to)?;
            }
            let rest = match stage.mode {
                Mode::LegacyOnly | Mode::Shadow | Mode::Canary => from,
                Mode::ModernPrimary | Mode::ModernOnly => to,
            };
            writeln!(out, "    whoever is left to {rest}")?;
        }
    }
    Ok(())
}

/// For programs.
pub(super) fn json(outlines: &[Outline]) -> Value {
    let all = outlines.iter().map(|outline| {
        let stages = outline.stages.iter().map(|stage| {
            let rules = stage.rules.iter().map(|rule| {
                let phase = match rule.phase {
                    Phase::Before => "before",
                    Phase::After => "after",
                };
                json!({
                    "cohort": rule.cohort, "percent": rule.percent.map(|percent| percent.to_string()),
                    "ramp": rule.climbs, "to": rule.to, "phase": phase,
                })
            });
            json!({
                "id": stage.id, "mode": stage.mode.as_str(), "present": stage.present,
                "rules": rules.collect::<Vec<_>>(),
            })
        });
        json!({
            "rollout": outline.rollout, "from": outline.from, "to": outline.to,
            "stages": stages.collect::<Vec<_>>(),
        })
    });
    all.collect()
}
