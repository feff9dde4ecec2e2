//! What another configuration would do, as operators ask and are told.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::admin::question::ExplainRequest;

/// A configuration that might run, and people beside those who were seen.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanRequest {
    /// Where the file is: relative paths in it start there.
    pub(crate) path: String,
    /// The file.
    pub(crate) text: String,
    /// Whether those who were seen within `retention.facts` are counted.
    pub(crate) seen: bool,
    /// The inventory: each as for `explain`; without `app` they are at every application that moves.
    #[serde(default)]
    pub(crate) people: Vec<ExplainRequest>,
    /// By rollout, a step to suppose it in.
    #[serde(default)]
    pub(crate) steps: BTreeMap<String, String>,
}

/// What it would do.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct PlanView {
    /// The revision that it was compared with; empty: nothing runs.
    pub(crate) revision: String,
    /// People let in within `retention.facts`, counted at each application.
    pub(crate) seen: u64,
    /// Whether there were more than are kept in mind.
    pub(crate) more: bool,
    /// People of the inventory.
    pub(crate) listed: u64,
    /// How many a reload may send back or newly refuse.
    pub(crate) allowed: u64,
    /// Of those who were seen: how many a reload would send back or newly refuse.
    pub(crate) recalled: u64,
    /// Whom it concerns, by application and rule.
    pub(crate) rows: Vec<PlanRow>,
    /// Why a reload would refuse it whatever becomes of people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
    /// What is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// Whom one rule concerns at one application.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct PlanRow {
    /// The application.
    pub(crate) app: String,
    /// The rule of the new configuration that decides, as in the label `rule`; where something is refused, its stage.
    pub(crate) rule: String,
    /// They would start at the new provider.
    pub(crate) forward: u64,
    /// They would start at the old provider again.
    pub(crate) back: u64,
    /// What they use would not be accepted any more.
    pub(crate) refused: u64,
    /// Pseudonyms of some who would go back or be refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) who: Vec<String>,
}

impl PlanView {
    /// How many would move forward.
    pub(crate) fn forward(&self) -> u64 {
        self.rows.iter().map(|row| row.forward).sum()
    }

    /// How many would go back.
    pub(crate) fn back(&self) -> u64 {
        self.rows.iter().map(|row| row.back).sum()
    }

    /// Of how many something would not be accepted any more.
    pub(crate) fn refused(&self) -> u64 {
        self.rows.iter().map(|row| row.refused).sum()
    }

    /// Whether a reload would refuse it.
    pub(crate) fn is_refused(&self) -> bool {
        !self.problems.is_empty() || self.allowed < self.recalled
    }
}
