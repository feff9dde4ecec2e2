//! What the ledger says about steps of rollouts and the kill switch.

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
        .with("why", transition.why.as_str())
        .maybe("command", command.map(Command::as_str));
    let entry = match transition.direction {
        Direction::Back => {
            let word = if transition.revokes { "revoke" } else { "keep" };
            entry.with("modern_sessions", word)
        }
        Direction::Forward | Direction::Stay => entry,
    };
    match evidence(findings, &transition.why) {
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
        .with("why", next.why.as_str())
}

/// The record of a transition that was recorded, and does not hold after all.
pub(super) fn void(rollout: &RolloutId, transition: &Transition, why: &str, actor: &str) -> Entry {
    Entry::new(Kind::Decision, actor)
        .with("rollout", rollout.as_str())
        .with("void", transition.why.as_str())
        .with("why", why)
}

/// The record of a move of the kill switch.
pub(super) fn kill(
    scope: Option<&RolloutId>,
    (before, after): (KillPosition, KillPosition),
    actor: &str,
    reason: &str,
) -> Entry {
    let by_file = actor.starts_with("file");
    Entry::new(Kind::KillSwitch, actor)
        .with("position", after.as_str())
        .with("before", before.as_str())
        .with("modern_sessions", "keep")
        .with("via", if by_file { "file" } else { "admin" })
        .maybe("rollout", scope.map(RolloutId::as_str))
        .maybe("reason", Some(reason))
}

/// The numbers behind it: of the guard that tripped, else of all.
fn evidence(findings: &Findings, why: &str) -> Option<Value> {
    if why == "breaker" {
        let (people, bad) = findings.burning;
        return Some(json!({ "people": people, "bad": bad }));
    }
    if let Some(split) = findings.split.as_ref().filter(|_| why == "split") {
        return Some(json!({
            "units": split.seen, "log_e": short(split.log_e), "trip_at": short(split.trip_at),
        }));
    }
    let tripped = findings.guards.iter().find(|guard| {
        why.strip_prefix("guard ")
            .is_some_and(|id| id.starts_with(&*guard.id))
    });
    if let Some(guard) = tripped {
        return Some(reading(guard));
    }
    let limit = findings.limits.iter().find(|limit| {
        why.strip_prefix("guard ")
            .is_some_and(|id| id.split(' ').next() == Some(&*limit.id))
    });
    if let Some(limit) = limit {
        return Some(json!({ "value": limit.value, "max": limit.max }));
    }
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
