//! Why a call brought no answer, and the one place that says which kind of outage that is.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderMap;
use http::StatusCode;
use http::header::RETRY_AFTER;
use hyper_util::client::legacy;

use crate::identity::Outage;
use crate::providers::ProviderError;

/// Why a call brought no answer.
#[derive(Debug)]
#[expect(dead_code, reason = "the causes are read by `Debug`, for the log")]
pub(super) enum Failure {
    /// The request was not built: an address or header that HTTP cannot carry.
    Request(http::Error),
    /// No connection, no TLS session, or it broke before the head of the answer.
    Transport(legacy::Error),
    /// The connection broke within the answer.
    Body(Box<dyn Error + Send + Sync>),
    /// The time of the whole call is over.
    Deadline,
    /// More bytes than the operation allows.
    TooLong,
    /// A content coding that was not asked for (RFC 9110 §12.5.3).
    Encoded,
    /// 429 or 5xx.
    Status {
        /// Which.
        status: StatusCode,
        /// What the provider asked for (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// Too many calls under way, and as many waiting.
    Crowded,
    /// The breaker is open for this long.
    Open(Duration),
}

impl Failure {
    /// Whether these status and headers are a failure.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let failed = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        failed.then(|| Self::Status {
            status,
            retry_after: retry_after(headers),
        })
    }

    /// The kind of outage. Nothing else decides this.
    pub(super) fn outage(&self) -> Outage {
        match self {
            Self::Transport(cause) if is_tls(cause) => Outage::Tls,
            Self::Transport(cause) if is_timeout(cause) => Outage::Timeout,
            Self::Transport(_) | Self::Body(_) => Outage::Connect,
            Self::Deadline => Outage::Timeout,
            Self::Request(_) | Self::TooLong | Self::Encoded => Outage::Malformed,
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                Outage::RateLimited
            }
            Self::Status { .. } => Outage::Http5xx,
            Self::Crowded => Outage::Shed,
            Self::Open(_) => Outage::CircuitOpen,
        }
    }

    /// How long the provider, or the breaker, wants to be left alone.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Open(left) => Some(*left),
            Self::Request(_)
            | Self::Transport(_)
            | Self::Body(_)
            | Self::Deadline
            | Self::TooLong
            | Self::Encoded
            | Self::Crowded => None,
        }
    }

    /// Whether the same call may bring an answer when it is made again.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Body(_) => self.outage() != Outage::Tls,
            Self::Status { status, .. } => *status != StatusCode::NOT_IMPLEMENTED,
            Self::Request(_)
            | Self::Deadline
            | Self::TooLong
            | Self::Encoded
            | Self::Crowded
            | Self::Open(_) => false,
        }
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable {
            outage: failure.outage(),
            retry_after: failure.retry_after(),
        }
    }
}

/// Whole seconds only: the other form, a date, would be measured with the provider's clock against ours.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim_ascii().parse().ok().map(Duration::from_secs)
}

/// Whether TLS, or what it is told about certificates, is the cause.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    any_cause(error, &|cause| cause.is::<rustls::Error>())
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    any_cause(error, &|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
    })
}

/// Asks an error and its causes. An I/O error that wraps another does not name it as its source, so both are followed.
fn any_cause(error: &(dyn Error + 'static), is: &dyn Fn(&(dyn Error + 'static)) -> bool) -> bool {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    is(error)
        || wrapped.is_some_and(|inner| any_cause(inner, is))
        || error.source().is_some_and(|inner| any_cause(inner, is))
}
