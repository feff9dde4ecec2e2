//! Rollouts as operators see them, and what they order.

use serde::Deserialize;
use serde::Serialize;

/// One rollout.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RolloutView {
    /// Its name.
    pub(crate) id: String,
    /// The applications that move.
    pub(crate) apps: Vec<String>,
    /// The provider people leave.
    pub(crate) from: String,
    /// The provider they move to.
    pub(crate) to: String,
    /// The present stage.
    pub(crate) stage: String,
    /// Its mode.
    pub(crate) mode: String,
    /// The share configured for `to`, in percent; `None` where no percent decides.
    pub(crate) percent: Option<f64>,
    /// The epoch of its pins.
    pub(crate) epoch: u64,
    /// The position of the kill switch that holds for it.
    pub(crate) kill: String,
    /// What the controller is doing.
    #[serde(default)]
    pub(crate) state: String,
    /// Where it stands, such as `4-ramp/25`.
    #[serde(default)]
    pub(crate) step: String,
    /// How long the step has baked.
    #[serde(default)]
    pub(crate) baked_seconds: u64,
    /// Whether it waits for a person to promote it.
    #[serde(default)]
    pub(crate) ready: bool,
    /// Why it stands there.
    #[serde(default)]
    pub(crate) why: String,
    /// The step after.
    #[serde(default)]
    pub(crate) next: Option<String>,
    /// What keeps it from going on.
    #[serde(default)]
    pub(crate) missing: Vec<String>,
    /// What of that is more than time, once the step has baked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blocked: Vec<BlockedView>,
    /// People who have moved, as far as they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) people: Option<PeopleView>,
    /// What the guards say, and the split.
    #[serde(default)]
    pub(crate) guards: Vec<GuardView>,
    /// What may not be more than so much.
    #[serde(default)]
    pub(crate) limits: Vec<LimitView>,
    /// `false`: it stands there, but could not be written down so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) persisted: Option<bool>,
}

/// One thing that keeps a rollout where it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct BlockedView {
    /// Its kind, as in `authferry_rollout_blocked`.
    pub(crate) reason: String,
    /// What exactly.
    pub(crate) why: String,
}

/// People who have moved.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct PeopleView {
    /// They are at the new provider.
    pub(crate) modern: u64,
    /// Of those, they have no account at the old one that is known.
    pub(crate) modern_born: u64,
    /// They were there before a step back.
    pub(crate) recalled: u64,
    /// A switch back now would lock them out.
    #[serde(default)]
    pub(crate) locked_out: u64,
    /// Accounts of which it is in doubt whose they are.
    #[serde(default)]
    pub(crate) conflict: u64,
}

/// One limit.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LimitView {
    /// Its name.
    pub(crate) id: String,
    /// What there is, if that is known.
    pub(crate) value: Option<f64>,
    /// What may be.
    pub(crate) max: f64,
    /// `ok`, `no_data`, `tripped`.
    pub(crate) verdict: String,
}

/// What one guard says. Pairs are: at the new provider, at the old one.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct GuardView {
    /// Its name.
    pub(crate) id: String,
    /// People in this step.
    pub(crate) people: (u64, u64),
    /// Bad ones.
    pub(crate) bad: (u64, u64),
    /// Bad rate at the new provider by that at the old one.
    pub(crate) ratio: Option<f64>,
    /// The logarithm of the evidence.
    pub(crate) log_e: f64,
    /// Where it trips.
    pub(crate) trip_at: f64,
    /// `ok`, `no_data`, `tripped`.
    pub(crate) verdict: String,
}

/// An order to a rollout.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    /// Which rollout.
    pub(crate) rollout: String,
    /// `start`, `promote`, `pause`, `resume`, `rollback`, `set-stage`.
    pub(crate) command: String,
    /// For `set-stage`: the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
    /// Why; recorded.
    pub(crate) reason: String,
    /// For `promote` and `set-stage`: so many people may go back to the old provider by it; recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recall: Option<u64>,
}
