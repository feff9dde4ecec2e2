//! What the configuration says about logs, traces and metrics: plain data.

use std::path::PathBuf;

use crate::secret::Secret;

/// Logs, traces, metrics.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where access lines go; `None`: standard output.
    pub(crate) access_log: AccessLog,
    /// What lines say, and which are written.
    pub(crate) log: Log,
    /// Series that a family of metrics may have. Default 2 000.
    pub(crate) max_series: usize,
    /// The key of pseudonyms.
    pub(crate) pseudonym_key: Secret<Vec<u8>>,
    /// Where traces go (OTLP over HTTP, protobuf), such as `http://otel:4318/v1/traces`.
    pub(crate) otlp: Option<String>,
    /// The share of requests traced when the client does not decide, in thousandths. Default 10.
    pub(crate) trace_permille: u32,
}

/// What lines say, and which are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Log {
    /// Whether lines name people, by pseudonyms. Default yes.
    pub(crate) subjects: bool,
    /// The share of good requests that are written, in millionths. Default: all.
    pub(crate) sample_success: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            subjects: true,
            sample_success: 1_000_000,
        }
    }
}

/// Where access lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, opened again on SIGUSR1.
    File(PathBuf),
}
