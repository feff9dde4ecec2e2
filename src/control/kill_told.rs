//! What is told of a move of the kill switch: in the log, in the ledger, with what was known of people when it moved.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use serde_json::Value;
use tracing::warn;

use crate::clock::Clock;
use crate::control::record;
use crate::control::record::KillMove;
use crate::ledger::Ledger;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::RolloutId;
use crate::telemetry::Decision;
use crate::telemetry::DecisionLog;
use crate::telemetry::DecisionRecord;

/// What the guards of each rollout say at this moment.
pub(crate) type Witness = Box<dyn Fn() -> BTreeMap<RolloutId, Value> + Send + Sync>;

/// Who is told.
pub(super) struct Told {
    clock: Arc<dyn Clock>,
    log: DecisionLog,
    ledger: OnceLock<Arc<Ledger>>,
    witness: OnceLock<Witness>,
    /// The rollouts whose sessions at the new provider end when the switch comes to `legacy`.
    ends: Mutex<BTreeSet<RolloutId>>,
}

impl Told {
    pub(super) const fn new(clock: Arc<dyn Clock>, log: DecisionLog) -> Self {
        Self {
            clock,
            log,
            ledger: OnceLock::new(),
            witness: OnceLock::new(),
            ends: Mutex::new(BTreeSet::new()),
        }
    }

    pub(super) fn record_in(&self, ledger: Arc<Ledger>) {
        self.ledger.get_or_init(|| ledger);
    }

    pub(super) fn witnessed_by(&self, witness: Witness) {
        self.witness.get_or_init(|| witness);
    }

    pub(super) fn ends(&self, rollouts: BTreeSet<RolloutId>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = rollouts;
    }

    /// Tells of everything that is not as it was.
    pub(super) fn moved(
        &self,
        (before, after): (&KillState, &KillState),
        actor: &str,
        reason: &str,
    ) {
        self.one(None, (before, after), actor, reason);
        let gone = before.rollouts.keys();
        let scopes = gone.filter(|rollout| !after.rollouts.contains_key(*rollout));
        for rollout in scopes.chain(after.rollouts.keys()) {
            self.one(Some(rollout), (before, after), actor, reason);
        }
    }

    fn one(
        &self,
        scope: Option<&RolloutId>,
        states: (&KillState, &KillState),
        actor: &str,
        reason: &str,
    ) {
        let own = |state: &KillState| match scope {
            None => state.global,
            Some(rollout) => state.rollouts.get(rollout).copied().unwrap_or_default(),
        };
        let (before, after) = (own(states.0), own(states.1));
        if before == after {
            return;
        }
        let (rollout, from, to) = (
            scope.map_or("global", RolloutId::as_str),
            before.as_str(),
            after.as_str(),
        );
        warn!(rollout, from, to, actor, "The kill switch moved.");
        if let Some(ledger) = self.ledger.get() {
            let mut evidence = self.witness.get().map(|told| told()).unwrap_or_default();
            evidence.retain(|rollout, _| scope.is_none_or(|scope| scope == rollout));
            // It holds already: an emergency does not wait for a disk.
            ledger.append_or_owe(record::kill(&KillMove {
                scope,
                positions: (before, after),
                revokes: self.strikes(scope, states),
                evidence,
                actor,
                reason,
            }));
        }
        self.log.write(&DecisionRecord {
            at: self.clock.now(),
            request_id: None,
            trace: None,
            app: None,
            subject: None,
            client: None,
            took: None,
            revision: "",
            decision: Decision::Kill {
                scope,
                before,
                after,
                actor,
                reason,
            },
        });
    }

    /// Whether sessions of the new provider end by it, of this rollout or of any.
    fn strikes(
        &self,
        scope: Option<&RolloutId>,
        (before, after): (&KillState, &KillState),
    ) -> bool {
        let is = |state: &KillState, rollout| state.position(rollout) == KillPosition::Legacy;
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter()
            .filter(|rollout| scope.is_none_or(|scope| scope == *rollout))
            .any(|rollout| is(after, rollout) && !is(before, rollout))
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn sessions_end_where_the_switch_brings_a_rollout_to_legacy_that_was_not_there() {
        let told = Told::new(Arc::new(SystemClock), DecisionLog::off());
        let (crm, hr) = (RolloutId::new("crm"), RolloutId::new("hr"));
        let state = |text: &str| KillState::parse(text).unwrap();
        let strikes =
            |scope, before: &str, after: &str| told.strikes(scope, (&state(before), &state(after)));
        assert!(!strikes(None, "off", "legacy"), "they are kept");
        told.ends(BTreeSet::from([crm.clone()]));
        assert!(strikes(None, "off", "legacy"));
        assert!(strikes(Some(&crm), "off", "legacy rollout=crm"));
        assert!(!strikes(Some(&hr), "off", "legacy rollout=hr"));
        assert!(
            !strikes(None, "legacy rollout=crm", "legacy"),
            "it was there"
        );
        assert!(!strikes(None, "legacy", "off"));
        assert!(!strikes(None, "off", "deny"));
    }
}
