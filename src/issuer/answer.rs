//! What a client is told: an answer, an error of RFC 6749 §5.2, or that nobody can say now.

use http::HeaderValue;
use serde_json::Value;
use serde_json::json;

use crate::auth::Answer;
use crate::auth::AppPolicy;
use crate::auth::AuthError;
use crate::auth::Standing;
use crate::clock::UnixTime;
use crate::identity::Refusal;

/// What a client gets. The proxy turns each into one response.
#[derive(Debug)]
pub(crate) enum Reply {
    /// This object.
    Said(Value),
    /// An error, and its object.
    Denied(Denied),
    /// Nobody can say now; with `Retry-After` in seconds.
    Later(u64),
    /// Too often.
    Limited(Standing),
    /// Only this method is answered.
    Only(&'static str),
}

/// What a client gets, and where it stands.
#[derive(Debug)]
pub(crate) struct Answered {
    /// What it gets.
    pub(crate) reply: Reply,
    /// Of the limit that it is closest to.
    pub(crate) standing: Option<Standing>,
    /// What its next proofs are made with, where it proves to hold a key.
    pub(crate) nonce: Option<HeaderValue>,
}

/// Errors (RFC 6749 §5.2, RFC 8693 §2.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Denied {
    /// A parameter is missing, comes twice, or is no good; so is a token that was presented.
    InvalidRequest,
    /// Nobody knows whose request it is.
    InvalidClient,
    /// What was to be refreshed is over, or was never good.
    InvalidGrant,
    /// The client may not have this.
    UnauthorizedClient,
    /// There is no such grant.
    UnsupportedGrantType,
    /// More than the client or the token may have.
    InvalidScope,
    /// There is no token for this audience.
    InvalidTarget,
    /// The person has not signed in yet (RFC 8628 §3.5).
    AuthorizationPending,
    /// The device asks too often.
    SlowDown,
    /// The person said no.
    NotAllowed,
    /// The person did not come in time.
    ExpiredToken,
    /// The proof of a key does not hold (RFC 9449 §5).
    InvalidDpopProof,
    /// It needs a nonce of ours (RFC 9449 §8).
    UseDpopNonce,
    /// Its provider ends no such token (RFC 7009 §2.2.1).
    UnsupportedTokenType,
}

impl Denied {
    /// `error`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::NotAllowed => "access_denied",
            Self::ExpiredToken => "expired_token",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::UnsupportedTokenType => "unsupported_token_type",
        }
    }

    /// Whether whoever guesses is answered so. What a device is told while its person signs in, and a key that is to use our
    /// nonce, are no guesses.
    pub(super) const fn is_a_guess(self) -> bool {
        match self {
            Self::InvalidRequest
            | Self::InvalidClient
            | Self::InvalidGrant
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType
            | Self::InvalidScope
            | Self::InvalidTarget
            | Self::InvalidDpopProof => true,
            Self::AuthorizationPending
            | Self::UnsupportedTokenType
            | Self::SlowDown
            | Self::NotAllowed
            | Self::ExpiredToken
            | Self::UseDpopNonce => false,
        }
    }

    /// The object of the answer. It says no more than the error: why, is in the decision log.
    pub(crate) fn object(self) -> Value {
        json!({ "error": self.as_str() })
    }
}

/// Why there is no answer, for the client and for the log.
#[derive(Debug)]
pub(super) enum Not {
    Denied(Denied, &'static str),
    Later(u64, &'static str),
    Limited(Standing),
}

/// For so long a client is told to wait at the longest.
const LONGEST: u64 = 86_400;

impl Not {
    /// A provider gives again what its client has given back: nobody gets that one any more, and no other one comes before it ends.
    pub(super) fn given_back(ends: UnixTime, now: UnixTime) -> Self {
        let seconds = ends.since(now).as_secs().saturating_add(1);
        Self::Later(seconds.min(LONGEST), "revoked")
    }

    /// What the gate said of the token that was presented.
    pub(super) fn admitted(why: &AuthError, policy: &AppPolicy) -> Self {
        match why {
            AuthError::Forbidden {
                refusal: refusal @ Refusal::ExchangeRefused,
                ..
            } => Self::Denied(Denied::InvalidTarget, refusal.as_str()),
            AuthError::Refused { refusal, .. }
            | AuthError::Unproven { refusal, .. }
            | AuthError::Forbidden { refusal, .. } => {
                Self::Denied(Denied::InvalidRequest, refusal.as_str())
            }
            AuthError::InsufficientScope { .. } => {
                Self::Denied(Denied::InvalidScope, "insufficient_scope")
            }
            AuthError::StepUp { .. } => {
                Self::Denied(Denied::InvalidRequest, Refusal::MfaRequired.as_str())
            }
            AuthError::Limited { standing, .. } => Self::Limited(*standing),
            AuthError::Unavailable { outage, .. } => {
                Self::Later(later(why, policy), outage.as_str())
            }
            AuthError::Closed => Self::Later(later(why, policy), "kill_switch"),
        }
    }
}

fn later(why: &AuthError, policy: &AppPolicy) -> u64 {
    match why.answer(policy) {
        Answer::Unavailable(seconds) => seconds,
        Answer::Several(_)
        | Answer::Unauthorized(_)
        | Answer::Forbidden
        | Answer::Limited(_)
        | Answer::InsufficientScope(_) => 5,
    }
}
