//! When a new login may start at the other provider: only for an outage, never for a refusal.

use std::time::Duration;

use crate::identity::Outage;
use crate::rollout::stage::AppId;
use crate::rollout::stage::Arm;

/// One app's fallback.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// The application.
    pub app: AppId,
    /// The arm whose outage opens it.
    pub from: Arm,
    /// The outages that count.
    pub when: Vec<Outage>,
    /// How long the provider's breaker must have been open without one success.
    pub provider_down_for: Duration,
    /// Paths without fallback; a trailing `*` matches any rest.
    pub not_paths: Vec<Box<str>>,
    /// How long a session made this way lives.
    pub max_age: Duration,
    /// How many logins an hour may take it.
    pub per_hour: u32,
}
