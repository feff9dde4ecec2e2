//! What the ledger says about the kill switch.

use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::rollout::KillPosition;
use crate::rollout::RolloutId;

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
