//! The keys that sign what we mint, as operators see them.

use serde::Deserialize;
use serde::Serialize;

/// A signing key, without the key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct KeyView {
    /// Its name in key sets.
    pub(crate) kid: String,
    /// What it signs with.
    pub(crate) algorithm: String,
    /// `next`, `signing` or `leaving`.
    pub(crate) state: String,
    /// From when it signs, in seconds since 1970.
    pub(crate) from: u64,
    /// When it leaves the published set, in seconds since 1970.
    pub(crate) until: Option<u64>,
}

/// A signing key that is to count no more.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WithdrawRequest {
    /// Its name in key sets.
    pub(crate) kid: String,
    /// Why; recorded.
    pub(crate) reason: String,
    /// Whether that is meant.
    #[serde(default)]
    pub(crate) confirm: bool,
}
