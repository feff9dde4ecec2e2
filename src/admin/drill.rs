//! Exercises, as operators order them and see how they end.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroize;

/// A wish to exercise something.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrillRequest {
    /// Which: such as `modern-outage` or `slow:2s`.
    pub(crate) name: String,
    /// Of which rollout; without it, of the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<String>,
    /// At which of its providers, where there is a choice; without it, at the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// For whom, where people meet it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cohort: Option<String>,
    /// For how long, where it takes time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
    /// Whose credentials leak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// Calls a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rps: Option<u32>,
    /// The longest that 99 of 100 calls may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p99_millis: Option<u64>,
    /// Test accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) accounts: Vec<DrillAccount>,
    /// Why; recorded.
    pub(crate) reason: String,
}

/// A test account: a name and a password, or a token. Nothing of it is printed or kept.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrillAccount {
    /// The name it signs in with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    /// Its password.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    /// Instead of both: a token, or the value of a session cookie.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) token: String,
}

impl Drop for DrillAccount {
    fn drop(&mut self) {
        self.password.zeroize();
        self.token.zeroize();
    }
}

impl fmt::Debug for DrillAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DrillAccount")
    }
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
    /// What a provider did under load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<LoadView>,
}

/// What a provider did under load.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct LoadView {
    /// Which provider.
    pub(crate) provider: String,
    /// Calls a second that were asked for.
    pub(crate) asked_rps: u32,
    /// Answers a second that came.
    pub(crate) reached_rps: f64,
    /// For how long, in seconds.
    pub(crate) seconds: f64,
    /// Calls that were to be made.
    pub(crate) due: u64,
    /// Calls that were made.
    pub(crate) sent: u64,
    /// Good answers.
    pub(crate) good: u64,
    /// Calls without an answer.
    pub(crate) unanswered: u64,
    /// Of those, calls that the provider has answered with 429.
    pub(crate) too_many: u64,
    /// Calls that began late, because no account was free.
    pub(crate) late: u64,
    /// Whether it was stopped before its time.
    pub(crate) stopped: bool,
    /// Answers that were not good, and none, by what they say.
    pub(crate) others: BTreeMap<String, u64>,
    /// How long calls took, in milliseconds: `p50`, `p90`, `p95`, `p99`, `max`.
    pub(crate) millis: BTreeMap<String, f64>,
}
