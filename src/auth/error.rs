//! Why somebody was not admitted, and the one place that says what is answered.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::auth::limits::Standing;
use crate::auth::policy::AppPolicy;
use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::StepUp;
use crate::store::StoreError;

/// Why somebody was not admitted. Every variant ends the request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum AuthError {
    /// The credential is not good, or not honoured here. No other provider is asked.
    #[error("refused: {refusal}")]
    Refused {
        /// Why: for the log and the label, never for the client.
        refusal: Refusal,
        /// Whose credential it was, where that is known.
        provider: Option<ProviderId>,
        /// What was presented, where that is known.
        class: Option<CredentialClass>,
    },
    /// Nobody proved to hold what the token is bound to, or the token came in the scheme for proofs and is not good.
    #[error("unproven: {refusal}")]
    Unproven {
        /// Why: for the log and the label, never for the client.
        refusal: Refusal,
        /// Whose token it was, where that is known.
        provider: Option<ProviderId>,
        /// What was presented.
        class: CredentialClass,
        /// What the client is told (RFC 9449 §7.1).
        challenge: HeaderValue,
    },
    /// The person is known, and the token does not reach so far.
    #[error("insufficient scope")]
    InsufficientScope {
        /// Who vouched.
        provider: ProviderId,
        /// What was presented.
        class: CredentialClass,
        /// What the client is told (RFC 6750 §3.1).
        challenge: HeaderValue,
    },
    /// The person is known, and must sign in better, or once more.
    #[error("insufficient user authentication")]
    StepUp {
        /// Who vouched, and is asked again.
        provider: ProviderId,
        /// What was presented.
        class: CredentialClass,
        /// What the client is told (RFC 9470 §3).
        challenge: HeaderValue,
        /// What the login must be.
        wanted: Arc<StepUp>,
    },
    /// The person is known, and may not come in.
    #[error("forbidden: {refusal}")]
    Forbidden {
        /// Why.
        refusal: Refusal,
        /// Who vouched.
        provider: ProviderId,
        /// What was presented.
        class: CredentialClass,
    },
    /// No judgement was reached: answered 503, whatever else was presented.
    #[error("unavailable: {outage}")]
    Unavailable {
        /// What kind of outage.
        outage: Outage,
        /// What the provider asked for, if it did.
        retry_after: Option<Duration>,
        /// Who could not judge; `None` is our own store.
        provider: Option<ProviderId>,
        /// What was presented.
        class: Option<CredentialClass>,
    },
    /// Too many tokens of keys that nobody has published came from this address.
    #[error("too often")]
    Limited {
        /// Where it stands.
        standing: Standing,
        /// Whose token it would have been.
        provider: ProviderId,
        /// What was presented.
        class: CredentialClass,
    },
    /// The kill switch stands at `deny`.
    #[error("closed by the kill switch")]
    Closed,
}

/// What the client gets. The proxy turns each into one response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// 400: more than one credential, so that none is judged; with these values of `WWW-Authenticate` (RFC 6750 §3.1).
    Several(Vec<HeaderValue>),
    /// 401, with these values of `WWW-Authenticate` (RFC 9110 §11.6.1).
    Unauthorized(Vec<HeaderValue>),
    /// 403.
    Forbidden,
    /// 403, with a value of `WWW-Authenticate` (RFC 6750 §3.1).
    InsufficientScope(HeaderValue),
    /// 429.
    Limited(Standing),
    /// 503, with `Retry-After` in seconds.
    Unavailable(u64),
}

impl Answer {
    /// 401 for somebody who presented nothing where a credential is needed.
    pub(crate) fn unauthenticated(policy: &AppPolicy) -> Self {
        Self::Unauthorized(policy.challenges(Challenge::Plain))
    }
}

/// What a 401 tells about the token that was presented (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    /// Nothing was presented.
    Plain,
    /// A bearer token was, and it is not good.
    InvalidToken,
    /// There was more than one credential.
    InvalidRequest,
}

/// `Retry-After` when nobody said how long: 5 s.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl AuthError {
    /// What was presented belongs to `provider` and is not good.
    pub(super) fn refused(refusal: Refusal, provider: &ProviderId, class: CredentialClass) -> Self {
        Self::Refused {
            refusal,
            provider: Some(provider.clone()),
            class: Some(class),
        }
    }

    /// What was presented has no owner.
    pub(super) const fn unowned(refusal: Refusal, class: CredentialClass) -> Self {
        Self::Refused {
            refusal,
            provider: None,
            class: Some(class),
        }
    }

    /// What the owner said: a refusal stays one, and so does an outage.
    pub(super) fn judged(
        error: &ProviderError,
        provider: &ProviderId,
        class: CredentialClass,
    ) -> Self {
        match error {
            ProviderError::Rejected(refusal) => Self::refused(*refusal, provider, class),
            ProviderError::Unavailable {
                outage,
                retry_after,
            } => Self::Unavailable {
                outage: *outage,
                retry_after: *retry_after,
                provider: Some(provider.clone()),
                class: Some(class),
            },
        }
    }

    /// Our store gave no answer.
    pub(super) fn store(error: &StoreError, class: CredentialClass) -> Self {
        Self::Unavailable {
            outage: match error {
                StoreError::Timeout => Outage::Timeout,
                StoreError::Unavailable(_)
                | StoreError::Unreachable(_)
                | StoreError::Full(_)
                | StoreError::ReadOnly
                | StoreError::Denied(_) => Outage::Connect,
                StoreError::Damaged(_) => Outage::Malformed,
            },
            retry_after: None,
            provider: None,
            class: Some(class),
        }
    }

    /// What is answered: the client learns a status and a challenge, the reason goes to the log.
    pub(crate) fn answer(&self, policy: &AppPolicy) -> Answer {
        match self {
            Self::Refused {
                refusal: Refusal::Ambiguous,
                class: None,
                ..
            } => Answer::Several(policy.challenges(Challenge::InvalidRequest)),
            Self::Refused {
                class: Some(CredentialClass::Bearer | CredentialClass::Opaque),
                ..
            } => Answer::Unauthorized(policy.challenges(Challenge::InvalidToken)),
            Self::Unproven { challenge, .. } | Self::StepUp { challenge, .. } => {
                Answer::Unauthorized(vec![challenge.clone()])
            }
            Self::InsufficientScope { challenge, .. } => {
                Answer::InsufficientScope(challenge.clone())
            }
            // Signing in again would not help: the account itself is shut.
            Self::Refused {
                refusal,
                class: Some(CredentialClass::Session),
                ..
            } if !helps_to_sign_in(*refusal) => Answer::Forbidden,
            // No challenge asks for another certificate: it belongs to the connection.
            Self::Refused {
                provider: Some(_),
                class: Some(CredentialClass::ClientCert),
                ..
            } => Answer::Forbidden,
            Self::Refused { .. } => Answer::Unauthorized(policy.challenges(Challenge::Plain)),
            Self::Forbidden { .. } => Answer::Forbidden,
            Self::Limited { standing, .. } => Answer::Limited(*standing),
            Self::Unavailable { retry_after, .. } => {
                let wait = retry_after.unwrap_or(RETRY_AFTER).as_secs();
                Answer::Unavailable(wait.clamp(1, 3_600))
            }
            Self::Closed => Answer::Unavailable(RETRY_AFTER.as_secs()),
        }
    }

    /// Whether a signature was wrong.
    pub(crate) const fn is_forged(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                refusal: Refusal::BadSignature,
                ..
            }
        )
    }

    /// Whether a navigation is sent to a login instead: a session that is over, or no longer honoured.
    pub(crate) const fn leads_to_login(&self) -> bool {
        match self {
            Self::Refused {
                refusal,
                class: Some(CredentialClass::Session),
                ..
            } => helps_to_sign_in(*refusal),
            Self::StepUp { class, .. } => matches!(class, CredentialClass::Session),
            Self::Refused { .. }
            | Self::Unproven { .. }
            | Self::InsufficientScope { .. }
            | Self::Forbidden { .. }
            | Self::Limited { .. }
            | Self::Unavailable { .. }
            | Self::Closed => false,
        }
    }
}

/// Whether the holder of a refused session gets further by signing in once more.
const fn helps_to_sign_in(refusal: Refusal) -> bool {
    match refusal {
        Refusal::BadCredentials
        | Refusal::Expired
        | Refusal::BadSignature
        | Refusal::WrongIssuer
        | Refusal::WrongAudience
        | Refusal::Inactive
        | Refusal::Revoked
        | Refusal::MfaRequired
        | Refusal::PopFailed
        | Refusal::Replay
        | Refusal::NotAccepted
        | Refusal::Quarantined
        | Refusal::Unsupported => true,
        Refusal::Disabled
        | Refusal::Locked
        | Refusal::Policy
        | Refusal::IdentityHeaderTooLarge
        | Refusal::NoLink
        | Refusal::LinkConflict
        | Refusal::Ambiguous
        | Refusal::ExchangeRefused => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::World;

    fn refused(refusal: Refusal, class: Option<CredentialClass>) -> AuthError {
        AuthError::Refused {
            refusal,
            provider: None,
            class,
        }
    }

    #[tokio::test]
    async fn the_client_learns_a_status_and_a_challenge_and_no_reason() {
        let policy = World::canary().policy();
        let challenges = |error: AuthError| match error.answer(&policy) {
            Answer::Unauthorized(values) => values
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
            other @ (Answer::Several(_)
            | Answer::Forbidden
            | Answer::InsufficientScope(_)
            | Answer::Limited(_)
            | Answer::Unavailable(_)) => {
                panic!("{other:?}")
            }
        };
        let basic = "Basic realm=\"crm\", charset=\"UTF-8\"";
        for refusal in [Refusal::Expired, Refusal::BadSignature, Refusal::Ambiguous] {
            let error = refused(refusal, Some(CredentialClass::Bearer));
            let bearer = "Bearer realm=\"crm\", error=\"invalid_token\"";
            assert_eq!(challenges(error), [bearer, basic]);
        }
        let error = refused(Refusal::Inactive, Some(CredentialClass::Session));
        assert_eq!(challenges(error), ["Bearer realm=\"crm\"", basic]);
    }

    #[tokio::test]
    async fn each_error_has_one_answer() {
        let policy = World::canary().policy();
        let outage = |retry_after| AuthError::Unavailable {
            outage: Outage::Timeout,
            retry_after,
            provider: None,
            class: None,
        };
        let forbidden = AuthError::Forbidden {
            refusal: Refusal::LinkConflict,
            provider: ProviderId::new("new"),
            class: CredentialClass::Bearer,
        };
        for (error, answer) in [
            (
                refused(Refusal::Ambiguous, None),
                Answer::Several(vec![
                    HeaderValue::from_static("Bearer realm=\"crm\", error=\"invalid_request\""),
                    HeaderValue::from_static("Basic realm=\"crm\", charset=\"UTF-8\""),
                ]),
            ),
            (forbidden, Answer::Forbidden),
            (outage(None), Answer::Unavailable(5)),
            (
                outage(Some(Duration::from_secs(30))),
                Answer::Unavailable(30),
            ),
            (outage(Some(Duration::ZERO)), Answer::Unavailable(1)),
            (
                outage(Some(Duration::from_hours(100))),
                Answer::Unavailable(3_600),
            ),
            (AuthError::Closed, Answer::Unavailable(5)),
        ] {
            assert_eq!(error.answer(&policy), answer, "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_shut_account_is_told_so_and_not_sent_round_in_circles() {
        let policy = World::canary().policy();
        for refusal in [Refusal::Disabled, Refusal::Locked, Refusal::Policy] {
            let error = refused(refusal, Some(CredentialClass::Session));
            assert_eq!(error.answer(&policy), Answer::Forbidden);
            assert!(!error.leads_to_login());
        }
    }

    #[test]
    fn only_a_session_that_is_over_leads_to_a_login() {
        let leads = |error: &AuthError| error.leads_to_login();
        assert!(leads(&refused(
            Refusal::Inactive,
            Some(CredentialClass::Session)
        )));
        assert!(!leads(&refused(
            Refusal::Expired,
            Some(CredentialClass::Bearer)
        )));
        assert!(!leads(&refused(Refusal::Ambiguous, None)));
        assert!(!leads(&AuthError::store(
            &StoreError::Unavailable(String::new()),
            CredentialClass::Session
        )));
    }
}
