//! The journeys of one rollout in one step.

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::control::journeys::Rules;
use crate::control::journeys::departure::Mark;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::First;
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

#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Open {
    #[serde(with = "by_name")]
    pub(super) app: AppId,
    pub(super) arm: Arm,
    pub(super) began: UnixTime,
    pub(super) due: UnixTime,
    pub(super) stumbled: bool,
    pub(super) placed: Option<Arm>,
    /// Nobody meant to sign in: the guards hear nothing of it.
    #[serde(default)]
    pub(super) silent: bool,
    /// By what it is known to whoever began it.
    #[serde(default, with = "by_number")]
    pub(super) mark: Mark,
    /// The store was away when it set out: what becomes of it is known here alone.
    #[serde(skip)]
    pub(super) apart: bool,
    /// Nor has it a place there.
    #[serde(skip)]
    pub(super) placeless: bool,
}

/// The name of an application, as a row holds it.
mod by_name {
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;

    use crate::rollout::AppId;

    pub(super) fn serialize<S: Serializer>(app: &AppId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(app.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AppId, D::Error> {
        Ok(AppId::new(&String::deserialize(from)?))
    }
}

/// The mark of a journey, as a row holds it.
mod by_number {
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;

    use crate::control::journeys::departure::Mark;

    pub(super) fn serialize<S: Serializer>(mark: &Mark, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(mark.number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mark, D::Error> {
        u64::deserialize(from).map(Mark::of)
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

    /// A journey is under way.
    pub(super) fn opens(&mut self, device: u64, open: Open) {
        self.due.insert((open.due, device), ());
        self.open.insert(device, open);
    }

    /// Takes a journey out. What that means for its application is said apart from it.
    pub(super) fn close(&mut self, device: u64) -> Option<Open> {
        let open = self.open.remove(&device)?;
        self.due.remove(&(open.due, device));
        Some(open)
    }

    /// A journey that was taken out has ended where it is counted: elsewhere.
    pub(super) fn gives_back(&mut self, known: Option<&Open>) {
        if let Some(known) = known.filter(|known| known.arm == Arm::To) {
            let first = self.first.entry(known.app.clone()).or_default();
            first.unfinished = first.unfinished.saturating_sub(1);
        }
    }

    /// Browsers that should have come back.
    pub(super) fn is_due(&self, now: UnixTime) -> Vec<u64> {
        let due = self.due.range(..=(now, u64::MAX));
        due.map(|((_, device), ())| *device).collect()
    }

    /// Ends what nobody came back from in time.
    pub(super) fn expire(&mut self, now: UnixTime, metrics: &Metrics) {
        for device in self.is_due(now) {
            if let Some(open) = self.close(device) {
                self.lose(device, &open, metrics);
            }
        }
    }

    /// Nobody came back from a journey that was taken out.
    pub(super) fn lose(&mut self, device: u64, open: &Open, metrics: &Metrics) {
        let (observed, event) = if open.stumbled {
            (Observed::Failed, Journey::Failed)
        } else {
            (Observed::Abandoned, Journey::Abandoned)
        };
        if open.arm == Arm::To {
            self.first.entry(open.app.clone()).or_default().is_lost();
        }
        if open.silent {
            return;
        }
        metrics.journey(&self.rules.rollout, open.arm, event);
        self.tell(Outcome {
            unit: device,
            device: None,
            arm: open.arm,
            observed,
            placed: open.placed,
            at: open.began.max(open.due),
        });
    }
}
