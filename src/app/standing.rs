//! Where a rollout stands, in the words that operators see.

use crate::admin::BlockedView;
use crate::admin::GuardView;
use crate::admin::LimitView;
use crate::admin::RolloutView;
use crate::clock::UnixTime;
use crate::control::Standing;

/// The view of a rollout, with what its controller knows.
pub(super) fn told(view: RolloutView, standing: &Standing, now: UnixTime) -> RolloutView {
    let (course, progress) = (&standing.course, &standing.progress);
    let findings = &standing.findings;
    let guards = findings.guards.iter().map(|guard| GuardView {
        id: guard.id.to_string(),
        people: (guard.units.to, guard.units.from),
        bad: (guard.bad.to, guard.bad.from),
        ratio: guard.ratio,
        log_e: guard.log_e,
        trip_at: guard.trip_at,
        verdict: guard.verdict.as_str().to_owned(),
    });
    let limits = findings.limits.iter().map(|limit| LimitView {
        id: limit.id.to_string(),
        value: limit.value,
        max: limit.max,
        verdict: limit.verdict.as_str().to_owned(),
    });
    let split = findings.split.as_ref().map(|split| GuardView {
        id: "split".into(),
        people: (split.seen.to, split.seen.from),
        bad: (0, 0),
        ratio: None,
        log_e: split.log_e,
        trip_at: split.trip_at,
        verdict: split.verdict.as_str().to_owned(),
    });
    let next = progress
        .place(course)
        .and_then(|place| course.next(place))
        .map(|place| course.name(place));
    let blocked = standing.blocked.iter().map(|gap| BlockedView {
        reason: gap.obstacle.as_str().to_owned(),
        why: gap.why.clone(),
    });
    RolloutView {
        state: progress.state.as_str().to_owned(),
        step: progress.name(course),
        baked_seconds: progress.baked_at(now).as_secs(),
        ready: progress.ready,
        why: progress.why.clone(),
        next,
        missing: standing.missing.clone(),
        blocked: blocked.collect(),
        guards: guards.chain(split).collect(),
        limits: limits.collect(),
        persisted: (!standing.kept).then_some(false),
        ..view
    }
}
