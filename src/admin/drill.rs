//! Exercises, as operators order them and see how they end.

use serde::Deserialize;
use serde::Serialize;

/// A wish to exercise something.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrillRequest {
    /// Which: `modern-outage`, `legacy-outage`, `jwks-rotation`, `bad-token-format`.
    pub(crate) name: String,
    /// Of which rollout; without it, of the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<String>,
    /// For whom, where people meet it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cohort: Option<String>,
    /// For how long, where people meet it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
    /// Why; recorded.
    pub(crate) reason: String,
}

/// An exercise, as it stands.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct DrillView {
    /// Its number at this instance.
    pub(crate) number: u64,
    /// Which.
    pub(crate) name: String,
    /// Of which rollout.
    pub(crate) rollout: String,
    /// `running`, `passed`, `failed`.
    pub(crate) state: String,
    /// What was seen.
    pub(crate) seen: Vec<String>,
}
