//! What is asked of the closing of an old side, and what is told.

use serde::Deserialize;
use serde::Serialize;

/// A wish to close an old side, or to stop that.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LegacyRequest {
    /// `close` or `stop`.
    pub(crate) command: String,
    /// Which; without it, the only one that a rollout leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// So many sessions a minute; without it, 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_minute: Option<u32>,
    /// Do not tell the provider: it is gone already.
    #[serde(default)]
    pub(crate) untold: bool,
    /// Why; recorded.
    #[serde(default)]
    pub(crate) reason: String,
    /// Only say what it would end.
    #[serde(default)]
    pub(crate) plan: bool,
    /// Up to how many sessions may end; needed for more than ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirm: Option<usize>,
}

/// How far it has come.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct LegacyView {
    /// The old side.
    pub(crate) provider: String,
    /// `plan`, `closing`, `stopped` or `closed`.
    pub(crate) state: String,
    /// Sessions that are still to end.
    pub(crate) remaining: usize,
    /// Sessions that were ended.
    pub(crate) sessions: u64,
    /// Refresh tokens that the provider has revoked.
    pub(crate) tokens_revoked: u64,
    /// Refresh tokens that it did not revoke: they end by themselves.
    pub(crate) tokens_left: u64,
    /// Sessions that nobody here could read when it was closed, whosever they are.
    #[serde(default)]
    pub(crate) sessions_unread: u64,
    /// Refresh tokens of clients that would count no more, and that the provider is not told of.
    #[serde(default)]
    pub(crate) client_tokens: usize,
    /// So many a minute.
    pub(crate) per_minute: u32,
    /// Whether the provider is told.
    pub(crate) provider_told: bool,
    /// What it waits for, or why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits: Option<String>,
    /// When it was closed, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<u64>,
    /// Whether a restart would not forget it.
    pub(crate) durable: bool,
}
