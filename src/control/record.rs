//! What the ledger says about steps of rollouts and the kill switch.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::rollout::Command;
use crate::rollout::Course;
use crate::rollout::Direction;
use crate::rollout::Findings;
use crate::rollout::GuardReading;
use crate::rollout::KillPosition;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::Transition;

/// The record of a transition that is about to hold.
pub(super) fn entry(
    course: &Course,
    before: &Progress,
    transition: &Transition,
    findings: &Findings,
    actor: &str,
    command: Option<&Command>,
) -> Entry {
    let kind = match (command, transition.next.ready) {
        (Some(Command::Resume), _) => Kind::Resume,
        (None, true) => Kind::Ready,
        _ => Kind::Decision,
    };
    let entry = Entry::new(kind, actor)
        .with("rollout", course.id.as_str())
        .with("from", before.name(course))
        .with("to", transition.next.name(course))
        .with("state", transition.next.state.as_str())
        .with("direction", transition.direction.as_str())
        .with("trigger", transition.trigger.as_str())
        .with("epoch", transition.next.epoch)
        .with("version", transition.next.version)
        .with("why", transition.why.as_str())
        .maybe("command", command.map(Command::as_str));
    let entry = match transition.direction {
        Direction::Back => entry.with("modern_sessions", sessions(transition.revokes)),
        Direction::Forward | Direction::Stay => entry,
    };
    // What a person orders has all numbers beside it, whatever words they give for it.
    let shown = match command {
        Some(_) => all(findings),
        None => evidence(findings, &transition.why),
    };
    match shown {
        Some(evidence) => entry.with("evidence", evidence),
        None => entry,
    }
}

/// The record of a step that another instance has taken, and that is about to hold here.
pub(super) fn followed(course: &Course, before: &Progress, next: &Progress) -> Entry {
    Entry::new(Kind::Decision, "another instance")
        .with("rollout", course.id.as_str())
        .with("from", before.name(course))
        .with("to", next.name(course))
        .with("state", next.state.as_str())
        .with("epoch", next.epoch)
        .with("version", next.version)
        .with("why", next.why.as_str())
}

/// The record of a transition that was recorded, and does not hold after all.
pub(super) fn void(rollout: &RolloutId, transition: &Transition, why: &str, actor: &str) -> Entry {
    Entry::new(Kind::Decision, actor)
        .with("rollout", rollout.as_str())
        .with("void", transition.why.as_str())
        .with("version", transition.next.version)
        .with("epoch", transition.next.epoch)
        .with("why", why)
}

/// The same, of a step forward that a start finds recorded and not kept.
pub(super) fn lost(rollout: &RolloutId, what: &str, (version, epoch): (Option<u64>, u64)) -> Entry {
    let entry = Entry::new(Kind::Decision, "start")
        .with("rollout", rollout.as_str())
        .with("void", what)
        .with("epoch", epoch);
    match version {
        Some(version) => entry.with("version", version),
        None => entry,
    }
    .with("why", "it was not kept when the program ended")
}

/// The record of a step back that a start finds kept and not recorded.
pub(super) fn found(course: &Course, before: &Progress, next: &Progress) -> Entry {
    let direction = Direction::Back.as_str();
    followed(course, before, next)
        .with("actor", "start")
        .with("direction", direction)
}

/// A move of the kill switch.
pub(super) struct KillMove<'a> {
    /// Of one rollout, or of all.
    pub(super) scope: Option<&'a RolloutId>,
    /// From where to where.
    pub(super) positions: (KillPosition, KillPosition),
    /// Whether sessions of the new provider end by it.
    pub(super) revokes: bool,
    /// What the guards said, by rollout.
    pub(super) evidence: BTreeMap<RolloutId, Value>,
    /// Who.
    pub(super) actor: &'a str,
    /// Why.
    pub(super) reason: &'a str,
}

/// The record of a move of the kill switch.
pub(super) fn kill(moved: &KillMove<'_>) -> Entry {
    let by_file = moved.actor.starts_with("file");
    let (before, after) = moved.positions;
    let entry = Entry::new(Kind::KillSwitch, moved.actor)
        .with("position", after.as_str())
        .with("before", before.as_str())
        .with("modern_sessions", sessions(moved.revokes))
        .with("via", if by_file { "file" } else { "admin" })
        .maybe("rollout", moved.scope.map(RolloutId::as_str))
        .maybe("reason", Some(moved.reason));
    if moved.evidence.is_empty() {
        return entry;
    }
    let evidence = moved.evidence.iter();
    let evidence = evidence.map(|(id, told)| (id.to_string(), told.clone()));
    entry.with("evidence", Value::Object(evidence.collect()))
}

const fn sessions(revokes: bool) -> &'static str {
    if revokes { "revoke" } else { "keep" }
}

/// The numbers behind it: of the guard that tripped, else of all.
fn evidence(findings: &Findings, why: &str) -> Option<Value> {
    // "guard login", "breaker", "split", and each of them with "would have acted".
    let mut words = why.split(' ');
    match (words.next(), words.next()) {
        (Some("breaker"), _) => Some(burning(findings)),
        (Some("split"), _) => findings.split.as_ref().map(|split| {
            json!({
                "units": split.seen, "log_e": short(split.log_e), "trip_at": short(split.trip_at),
            })
        }),
        (Some("guard"), Some(id)) => {
            let guard = findings.guards.iter().find(|guard| &*guard.id == id);
            let limit = findings.limits.iter().find(|limit| &*limit.id == id);
            guard
                .map(reading)
                .or_else(|| limit.map(|limit| json!({ "value": limit.value, "max": limit.max })))
                .or_else(|| all(findings))
        }
        _ => all(findings),
    }
}

fn burning(findings: &Findings) -> Value {
    let seen = &findings.burning;
    let mut told =
        json!({ "people": seen.people, "bad": seen.bad, "ordinary": short(seen.ordinary) });
    if let (true, Some(members)) = (seen.none_came_back, told.as_object_mut()) {
        members.insert("none_came_back".into(), true.into());
    }
    told
}

/// The numbers of every guard.
pub(super) fn all(findings: &Findings) -> Option<Value> {
    let all: Map<String, Value> = findings
        .guards
        .iter()
        .map(|guard| (guard.id.to_string(), reading(guard)))
        .collect();
    (!all.is_empty()).then_some(Value::Object(all))
}

fn reading(guard: &GuardReading) -> Value {
    let mut told = json!({
        "units": guard.units,
        "bad": guard.bad,
        "effect": short(guard.effect),
        "log_e": short(guard.log_e),
        "trip_at": short(guard.trip_at),
    });
    if let (Some(ratio), Some(members)) = (guard.ratio, told.as_object_mut()) {
        members.insert("ratio".into(), short(ratio).into());
    }
    told
}

/// Three decimals: every reader of JSON writes them the same way.
fn short(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::rollout::Burning;
    use crate::rollout::LimitReading;
    use crate::rollout::NoData;
    use crate::rollout::OnTrip;
    use crate::rollout::PerArm;
    use crate::rollout::SplitReading;
    use crate::rollout::Verdict;

    fn findings() -> Findings {
        let guard = |id: &str, to| GuardReading {
            id: id.into(),
            units: PerArm { to, from: 900 },
            bad: PerArm { to: 5, from: 9 },
            ratio: None,
            effect: 0.01,
            log_e: 7.0,
            trip_at: 6.0,
            verdict: Verdict::Tripped,
            on_trip: OnTrip::Rollback,
            no_data: NoData::Hold,
        };
        Findings {
            guards: vec![guard("login", 100), guard("login-slow", 200)],
            limits: vec![LimitReading {
                id: "login-x".into(),
                of_opinions: true,
                value: Some(3.0),
                max: 1.0,
                verdict: Verdict::Tripped,
                on_trip: OnTrip::Hold,
            }],
            split: Some(SplitReading {
                seen: PerArm { to: 7, from: 8 },
                log_e: 9.5,
                trip_at: 9.2,
                verdict: Verdict::Tripped,
                on_trip: OnTrip::Hold,
            }),
            burning: Burning {
                people: 20,
                bad: 12,
                ordinary: 0.02,
                none_came_back: false,
            },
            breaker: Some(OnTrip::Rollback),
            ..Findings::none(UnixTime::from_secs(1))
        }
    }

    /// One name may begin as another does.
    #[test]
    fn the_numbers_are_those_of_what_acted_or_would_have() {
        let findings = findings();
        for after in ["", " would have acted"] {
            let of = |why: &str| evidence(&findings, &format!("{why}{after}")).unwrap();
            assert_eq!(of("guard login")["units"]["modern"], 100);
            assert_eq!(of("guard login-slow")["units"]["modern"], 200);
            assert_eq!(of("guard login-x")["value"], 3.0);
            assert_eq!(of("breaker")["bad"], 12);
            assert_eq!(of("split")["units"]["modern"], 7);
            assert_eq!(of("baked")["login-slow"]["units"]["modern"], 200);
        }
    }
}
