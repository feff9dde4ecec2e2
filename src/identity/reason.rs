//! Why somebody did not get in: two closed lists, and their border is the fallback policy.
//!
//! A [`Refusal`] is final: no other provider is asked. Only an [`Outage`] may open a fallback, and only for a new
//! login. The names are label values of `authferry_auth_attempts_total{reason}`.

/// A credential was judged, or cannot be judged by anyone, and it is not good.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A wrong password, an unknown key, a token that is not one.
    #[error("bad_credentials")]
    BadCredentials,
    /// Past `exp`, or before `nbf`.
    #[error("expired")]
    Expired,
    /// The signature is wrong, or no key of the issuer made it.
    #[error("bad_signature")]
    BadSignature,
    /// Nobody here owns this issuer.
    #[error("wrong_issuer")]
    WrongIssuer,
    /// Meant for somebody else (`aud`).
    #[error("wrong_audience")]
    WrongAudience,
    /// RFC 7662 §2.2 `active: false`, or a session that the owner does not know.
    #[error("inactive")]
    Inactive,
    /// Taken back.
    #[error("revoked")]
    Revoked,
    /// The account is switched off.
    #[error("disabled")]
    Disabled,
    /// The account is locked.
    #[error("locked")]
    Locked,
    /// The owner, or this route's `require`, wants another factor or a fresh login first.
    #[error("mfa_required")]
    MfaRequired,
    /// The owner's policy, or this route's `require`, says no.
    #[error("policy")]
    Policy,
    /// What is known of the person does not fit into the identity headers; it is not cut.
    #[error("identity_header_too_large")]
    IdentityHeaderTooLarge,
    /// The person has no partner at the other provider.
    #[error("no_link")]
    NoLink,
    /// Two candidates for one person.
    #[error("link_conflict")]
    LinkConflict,
    /// A bound token without its proof.
    #[error("pop_failed")]
    PopFailed,
    /// A single-use artefact came twice.
    #[error("replay")]
    Replay,
    /// The stage does not honour this class of credential of this provider now.
    #[error("not_accepted")]
    NotAccepted,
    /// The provider is quarantined.
    #[error("quarantined")]
    Quarantined,
    /// Two owners, or two credentials for two people.
    #[error("ambiguous")]
    Ambiguous,
    /// No provider owns this kind of credential.
    #[error("unsupported")]
    Unsupported,
    /// The target of an exchange does not give a token for this person, or the exchange would hand on more than was
    /// presented.
    #[error("exchange_refused")]
    ExchangeRefused,
}

/// No judgement was reached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Outage {
    /// No connection.
    #[error("connect")]
    Connect,
    /// No TLS session, or a certificate that does not hold.
    #[error("tls")]
    Tls,
    /// No answer in time.
    #[error("timeout")]
    Timeout,
    /// The provider answered 5xx.
    #[error("http_5xx")]
    Http5xx,
    /// The provider answered 429.
    #[error("rate_limited")]
    RateLimited,
    /// No usable key set, and the last fetch failed.
    #[error("keys_unavailable")]
    KeysUnavailable,
    /// The breaker is open: the provider was not asked.
    #[error("circuit_open")]
    CircuitOpen,
    /// An answer that is none, such as introspection without `active`.
    #[error("malformed")]
    Malformed,
    /// We had no room to ask.
    #[error("shed")]
    Shed,
    /// What it gave looks as old as what was revoked a moment ago; what it gives next does not.
    #[error("too_soon")]
    TooSoon,
}

impl Refusal {
    /// Every refusal, in the order of declaration.
    pub const ALL: [Self; 21] = [
        Self::BadCredentials,
        Self::Expired,
        Self::BadSignature,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::Inactive,
        Self::Revoked,
        Self::Disabled,
        Self::Locked,
        Self::MfaRequired,
        Self::Policy,
        Self::IdentityHeaderTooLarge,
        Self::NoLink,
        Self::LinkConflict,
        Self::PopFailed,
        Self::Replay,
        Self::NotAccepted,
        Self::Quarantined,
        Self::Ambiguous,
        Self::Unsupported,
        Self::ExchangeRefused,
    ];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadCredentials => "bad_credentials",
            Self::Expired => "expired",
            Self::BadSignature => "bad_signature",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Inactive => "inactive",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::MfaRequired => "mfa_required",
            Self::Policy => "policy",
            Self::IdentityHeaderTooLarge => "identity_header_too_large",
            Self::NoLink => "no_link",
            Self::LinkConflict => "link_conflict",
            Self::PopFailed => "pop_failed",
            Self::Replay => "replay",
            Self::NotAccepted => "not_accepted",
            Self::Quarantined => "quarantined",
            Self::Ambiguous => "ambiguous",
            Self::Unsupported => "unsupported",
            Self::ExchangeRefused => "exchange_refused",
        }
    }
}

impl Outage {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Http5xx => "http_5xx",
            Self::RateLimited => "rate_limited",
            Self::KeysUnavailable => "keys_unavailable",
            Self::CircuitOpen => "circuit_open",
            Self::Malformed => "malformed",
            Self::Shed => "shed",
            Self::TooSoon => "too_soon",
        }
    }
}
