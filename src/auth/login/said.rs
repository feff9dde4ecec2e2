//! What the answer of a provider means that is no success.

use crate::auth::login::callback::NoSession;
use crate::auth::login::page::Page;
use crate::auth::login::settle::refused;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::telemetry::metrics::Attempt;

/// What a provider refused when a login came back, or could not judge.
pub(super) fn failed(error: &ProviderError) -> NoSession {
    match error {
        ProviderError::Unavailable { outage, .. } => {
            NoSession::Ends(Page::Unavailable, Attempt::Unavailable(*outage))
        }
        ProviderError::Rejected(refusal) => {
            let page = match refusal {
                Refusal::Disabled
                | Refusal::Locked
                | Refusal::Policy
                | Refusal::IdentityHeaderTooLarge
                | Refusal::MfaRequired
                | Refusal::NoLink
                | Refusal::LinkConflict
                | Refusal::Revoked
                | Refusal::Quarantined
                | Refusal::ExchangeRefused => Page::NotAllowed,
                Refusal::BadCredentials
                | Refusal::Expired
                | Refusal::BadSignature
                | Refusal::WrongIssuer
                | Refusal::WrongAudience
                | Refusal::Inactive
                | Refusal::PopFailed
                | Refusal::Replay
                | Refusal::NotAccepted
                | Refusal::Ambiguous
                | Refusal::Unsupported => Page::Failed,
            };
            refused(page, *refusal)
        }
    }
}

/// Error codes of RFC 6749 §4.1.2.1 and OpenID Connect Core 1.0 §3.1.2.6; whatever else comes is a failure. The words of
/// the provider are not shown: anybody can write them.
pub(super) fn said_no(code: &str) -> (Page, Attempt) {
    match code {
        "access_denied" => (Page::Denied, Attempt::Rejected(Refusal::Policy)),
        "temporarily_unavailable" | "server_error" => {
            (Page::Unavailable, Attempt::Unavailable(Outage::Http5xx))
        }
        "login_required"
        | "interaction_required"
        | "consent_required"
        | "account_selection_required" => (Page::Failed, Attempt::Rejected(Refusal::MfaRequired)),
        _ => (Page::Failed, Attempt::Rejected(Refusal::BadCredentials)),
    }
}
