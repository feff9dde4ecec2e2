//! Steps that were due and are not taken: why, since when, and for how long they are not tried again.

use tracing::warn;

use crate::clock::UnixTime;
use crate::control::conductor::Conductor;
use crate::control::conductor::PATIENCE;
use crate::rollout::Gap;
use crate::rollout::Obstacle;
use crate::rollout::RolloutId;

/// A step that was due, and what stood in its way when it was tried last.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) gap: Gap,
    at: UnixTime,
}

impl Conductor {
    /// Whether what failed a moment ago is not tried again yet.
    pub(super) fn waits(&self, id: &RolloutId, now: UnixTime) -> bool {
        let runs = self.runs();
        let refused = runs.get(id).and_then(|run| run.refused.as_ref());
        refused.is_some_and(|refused| now.since(refused.at) < PATIENCE)
    }

    /// A step that is due is not taken.
    pub(super) fn refused(&self, id: &RolloutId, gap: Gap) {
        let at = self.parts.clock.now();
        if let Some(run) = self.runs().get_mut(id) {
            let before = run.refused.as_ref();
            if before.is_none_or(|before| before.gap != gap) {
                let (reason, why) = (gap.obstacle.as_str(), &gap.why);
                warn!(rollout = %id, reason, why, "A step is refused; the rollout stays where it is.");
            }
            run.refused = Some(Refused { gap, at });
        }
    }

    /// No step is due: what was in the way of one is no more.
    pub(super) fn nothing_is_due(&self, id: &RolloutId) {
        if let Some(run) = self.runs().get_mut(id) {
            run.refused = None;
            // An answer of now says nothing of when one is due again.
            run.asking = None;
        }
    }

    /// Whether it is known where the others stand: `None`, it is.
    pub(super) fn behind(&self, id: &RolloutId, gap: Option<Gap>) {
        if let Some(run) = self.runs().get_mut(id) {
            if let Some(gap) = gap.as_ref().filter(|gap| run.behind.as_ref() != Some(*gap)) {
                let (reason, why) = (gap.obstacle.as_str(), &gap.why);
                warn!(rollout = %id, reason, why, "A rollout cannot go on.");
            }
            run.behind = gap;
        }
    }
}

/// What the ledger or the store said when it took nothing.
pub(super) fn ledger(why: String) -> Gap {
    Obstacle::Ledger.because(why)
}

/// As [`ledger`], of the store.
pub(super) fn store(why: String) -> Gap {
    Obstacle::Store.because(why)
}
