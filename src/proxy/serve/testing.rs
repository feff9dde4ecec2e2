//! What tests of this module share: limits, a handler that echoes, workers on port 0, and raw connections.

use crate::proxy::settings::Limits;
use std::time::Duration;

/// The defaults.
pub(crate) fn limits() -> Limits {
    Limits {
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(10),
        head_bytes: 32 * 1024,
        head_fields: 100,
        target_bytes: 8 * 1024,
        idle_h1: Duration::from_secs(60),
        idle_h2: Duration::from_secs(300),
        body_grace: Duration::from_secs(10),
        body_rate: 1024,
        h2_streams: 100,
        connections: 50_000,
        identity_bytes: 16 * 1024,
        cache_entries: 16_384,
        cache_ttl: Duration::from_secs(60),
    }
}
