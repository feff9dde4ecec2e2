//! The journeys of one rollout in one step.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::clock::UnixTime;
use crate::control::journeys::Rules;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::FirstLogins;
use crate::rollout::Observed;
use crate::rollout::Outcome;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Journey;

/// Outcomes that wait for the next look at them.
const MAX_OUTCOMES: usize = 50_000;

pub(super) struct Book {
    pub(super) rules: Rules,
    pub(super) open: HashMap<u64, Open>,
    /// When which browser's journey ends by itself.
    pub(super) due: BTreeMap<(UnixTime, u64), ()>,
    pub(super) first: HashMap<AppId, First>,
    pub(super) outcomes: Vec<Outcome>,
}

#[derive(Clone)]
pub(super) struct Open {
    pub(super) app: AppId,
    pub(super) arm: Arm,
    pub(super) began: UnixTime,
    pub(super) due: UnixTime,
    pub(super) stumbled: bool,
    pub(super) placed: Option<Arm>,
}

/// What an application has seen at the new provider in this step.
#[derive(Clone, Copy, Default)]
pub(super) struct First {
    pub(super) unfinished: u32,
    pub(super) succeeded: u32,
    /// Ended otherwise.
    pub(super) bad: u32,
    /// Of these, since the last that succeeded.
    pub(super) row: u32,
    /// Begun since the last that succeeded.
    pub(super) since: u32,
}

impl First {
    /// Whether one more may begin. Whoever did not come back keeps the place: nobody else is sent the same way.
    pub(super) const fn may_start(self, limits: FirstLogins) -> bool {
        if self.succeeded < limits.until_succeeded {
            return self.unfinished + self.bad < limits.unfinished;
        }
        // What has worked may break in the middle of a step. Where nobody is under way any more, somebody has to find out
        // whether it works again: ten in a row have gone back before that.
        self.since < limits.unfinished || self.unfinished == 0
    }
}

impl Book {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            open: HashMap::new(),
            due: BTreeMap::new(),
            first: HashMap::new(),
            outcomes: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, outcome: Outcome) {
        if self.outcomes.len() < MAX_OUTCOMES {
            self.outcomes.push(outcome);
        }
    }

    /// Takes a journey out.
    pub(super) fn close(&mut self, device: u64) -> Option<Open> {
        let open = self.open.remove(&device)?;
        self.due.remove(&(open.due, device));
        if open.arm == Arm::To {
            let first = self.first.entry(open.app.clone()).or_default();
            first.unfinished = first.unfinished.saturating_sub(1);
        }
        Some(open)
    }

    /// Ends what nobody came back from in time.
    pub(super) fn expire(&mut self, now: UnixTime, metrics: &Metrics) {
        while let Some((&(due, device), ())) = self.due.first_key_value() {
            if now < due {
                return;
            }
            let Some(open) = self.close(device) else {
                self.due.pop_first();
                continue;
            };
            let (observed, event) = if open.stumbled {
                (Observed::Failed, Journey::Failed)
            } else {
                (Observed::Abandoned, Journey::Abandoned)
            };
            if open.arm == Arm::To {
                let first = self.first.entry(open.app.clone()).or_default();
                first.bad += 1;
                first.row += 1;
            }
            metrics.journey(&self.rules.rollout, open.arm, event);
            self.tell(Outcome {
                unit: device,
                device: None,
                arm: open.arm,
                observed,
                placed: open.placed,
                at: open.began.max(due),
            });
        }
    }
}
