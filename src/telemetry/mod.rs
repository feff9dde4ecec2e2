//! What operators see: metrics, access log, decision log, traces, diagnostics.
//!
//! Nothing here decides. A subject, token, cookie or address must never reach a line or a label, except as a pseudonym.

pub(crate) mod metrics;
pub(crate) mod settings;

pub(crate) use metrics::Metrics;
pub(crate) use metrics::WorkerMetrics;
