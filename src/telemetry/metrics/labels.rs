//! The closed sets behind label values. A label value is one of these words or a name from the configuration.

use std::borrow::Cow;

use crate::identity::CredentialClass;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::rollout::Mode;
use crate::rollout::RuleRef;

/// Declares a closed set of words: the enum, its list in declaration order, its place in that list, and its text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub(crate) enum $name {
            $($(#[$word_doc])* $variant,)+
        }

        impl $name {
            /// Every word, in the order of [`Self::index`].
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The place in [`Self::ALL`].
            pub(crate) const fn index(self) -> usize {
                self as usize
            }

            /// The label value.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

words! {
    /// What kind of attempt to authenticate was made: a login, or the class of the presented credential.
    Flow {
        /// A browser login at a provider.
        Login = "login",
        /// A session cookie.
        Session = "session",
        /// A signed token.
        Bearer = "bearer",
        /// A token that only its issuer can read.
        Opaque = "opaque",
        /// User name and password.
        Basic = "basic",
        /// A client's key.
        ApiKey = "api_key",
        /// A client certificate.
        ClientCert = "client_cert",
        /// A refresh token.
        Refresh = "refresh",
    }
}

impl From<CredentialClass> for Flow {
    fn from(class: CredentialClass) -> Self {
        match class {
            CredentialClass::Session => Self::Session,
            CredentialClass::Bearer => Self::Bearer,
            CredentialClass::Opaque => Self::Opaque,
            CredentialClass::Basic => Self::Basic,
            CredentialClass::ApiKey => Self::ApiKey,
            CredentialClass::ClientCert => Self::ClientCert,
            CredentialClass::Refresh => Self::Refresh,
        }
    }
}

/// What became of one attempt to authenticate: the labels `outcome` and `reason` together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Attempt {
    /// The owner vouched.
    Success,
    /// Judged, and not good.
    Rejected(Refusal),
    /// Not judged.
    Unavailable(Outage),
    /// The person went away.
    Abandoned,
}

const REFUSALS: [Refusal; 19] = [
    Refusal::BadCredentials,
    Refusal::Expired,
    Refusal::BadSignature,
    Refusal::WrongIssuer,
    Refusal::WrongAudience,
    Refusal::Inactive,
    Refusal::Revoked,
    Refusal::Disabled,
    Refusal::Locked,
    Refusal::MfaRequired,
    Refusal::Policy,
    Refusal::NoLink,
    Refusal::LinkConflict,
    Refusal::PopFailed,
    Refusal::Replay,
    Refusal::NotAccepted,
    Refusal::Quarantined,
    Refusal::Ambiguous,
    Refusal::Unsupported,
];

const OUTAGES: [Outage; 9] = [
    Outage::Connect,
    Outage::Tls,
    Outage::Timeout,
    Outage::Http5xx,
    Outage::RateLimited,
    Outage::KeysUnavailable,
    Outage::CircuitOpen,
    Outage::Malformed,
    Outage::Shed,
];

impl Attempt {
    /// How many different outcomes there are.
    pub(crate) const COUNT: usize = 2 + REFUSALS.len() + OUTAGES.len();

    /// Every outcome, in the order of [`Self::index`].
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Success, Self::Abandoned]
            .into_iter()
            .chain(REFUSALS.into_iter().map(Self::Rejected))
            .chain(OUTAGES.into_iter().map(Self::Unavailable))
    }

    /// The place in [`Self::all`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Success => 0,
            Self::Abandoned => 1,
            Self::Rejected(refusal) => 2 + refusal_index(refusal),
            Self::Unavailable(outage) => 2 + REFUSALS.len() + outage_index(outage),
        }
    }

    /// The label `outcome`.
    pub(crate) const fn outcome(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rejected(_) => "rejected",
            Self::Unavailable(_) => "unavailable",
            Self::Abandoned => "abandoned",
        }
    }

    /// The label `reason`.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Success | Self::Abandoned => "none",
            Self::Rejected(refusal) => refusal.as_str(),
            Self::Unavailable(outage) => outage.as_str(),
        }
    }
}

/// The place in `REFUSALS`: a match without `_`, so that a new refusal cannot go uncounted.
const fn refusal_index(refusal: Refusal) -> usize {
    match refusal {
        Refusal::BadCredentials => 0,
        Refusal::Expired => 1,
        Refusal::BadSignature => 2,
        Refusal::WrongIssuer => 3,
        Refusal::WrongAudience => 4,
        Refusal::Inactive => 5,
        Refusal::Revoked => 6,
        Refusal::Disabled => 7,
        Refusal::Locked => 8,
        Refusal::MfaRequired => 9,
        Refusal::Policy => 10,
        Refusal::NoLink => 11,
        Refusal::LinkConflict => 12,
        Refusal::PopFailed => 13,
        Refusal::Replay => 14,
        Refusal::NotAccepted => 15,
        Refusal::Quarantined => 16,
        Refusal::Ambiguous => 17,
        Refusal::Unsupported => 18,
    }
}

/// The place in `OUTAGES`.
const fn outage_index(outage: Outage) -> usize {
    match outage {
        Outage::Connect => 0,
        Outage::Tls => 1,
        Outage::Timeout => 2,
        Outage::Http5xx => 3,
        Outage::RateLimited => 4,
        Outage::KeysUnavailable => 5,
        Outage::CircuitOpen => 6,
        Outage::Malformed => 7,
        Outage::Shed => 8,
    }
}

words! {
    /// A step of a login journey.
    Journey {
        /// Sent to a provider.
        Started = "started",
        /// Came back with an identity.
        Succeeded = "succeeded",
        /// Came back without one.
        Failed = "failed",
        /// Did not come back in time.
        Abandoned = "abandoned",
    }
}

words! {
    /// What a provider is asked for.
    Operation {
        /// OpenID Connect Discovery 1.0, RFC 8414.
        Discovery = "discovery",
        /// A key set (RFC 7517).
        Keys = "keys",
        /// The token endpoint.
        Token = "token",
        /// The userinfo endpoint.
        Userinfo = "userinfo",
        /// RFC 7662.
        Introspect = "introspect",
        /// RFC 7009.
        Revoke = "revoke",
        /// A session of the old system.
        Probe = "probe",
        /// An LDAP bind.
        Bind = "bind",
        /// An LDAP search.
        Search = "search",
        /// The background check of its health.
        Health = "health",
    }
}

words! {
    /// How a call to a provider ended.
    Call {
        /// With what was asked for.
        Success = "success",
        /// With a refusal.
        Rejected = "rejected",
        /// Without an answer that counts.
        Unavailable = "unavailable",
    }
}

words! {
    /// The position of a provider's circuit breaker; the place is the value of the gauge.
    Circuit {
        /// Calls pass.
        Closed = "closed",
        /// One call at a time passes.
        HalfOpen = "half_open",
        /// No call passes.
        Open = "open",
    }
}

words! {
    /// A cache of ours.
    Cache {
        /// A worker's verified credentials.
        Verdict = "verdict",
        /// Introspection answers.
        Introspection = "introspection",
        /// Answers about sessions of the old system.
        Probe = "probe",
        /// Verified passwords.
        Password = "password",
        /// Our sessions.
        Session = "session",
    }
}

words! {
    /// What a cache said.
    Lookup {
        /// It knew.
        Hit = "hit",
        /// It did not know.
        Miss = "miss",
        /// It knew something that no longer counts.
        Stale = "stale",
    }
}

words! {
    /// What was turned away or dropped for want of room.
    Shed {
        /// A line of the access log.
        AccessLog = "access_log",
        /// A record of the decision log.
        DecisionLog = "decision_log",
        /// A trace span.
        Trace = "trace",
        /// A connection.
        Connections = "connections",
        /// Anything, because memory is short.
        Memory = "memory",
        /// A call to a provider.
        Provider = "provider",
        /// A password check.
        Passwords = "passwords",
        /// A request to an upstream.
        Upstream = "upstream",
        /// A request that waits for somebody else's answer.
        Waiters = "waiters",
        /// A login.
        Login = "login",
        /// A request to the admin listener.
        Admin = "admin",
    }
}

words! {
    /// Why an upstream did not answer, or not to the end.
    UpstreamError {
        /// No connection.
        Connect = "connect",
        /// No TLS session.
        Tls = "tls",
        /// No answer in time.
        Timeout = "timeout",
        /// The connection broke before an answer.
        Reset = "reset",
        /// An answer that is none.
        Protocol = "protocol",
        /// The answer ended early.
        Truncated = "truncated",
        /// No origin is well.
        NoOrigin = "no_origin",
        /// An upgrade that was not agreed as asked.
        Upgrade = "upgrade",
    }
}

words! {
    /// Why a tunnel ended.
    TunnelEnd {
        /// The client closed it.
        Client = "client",
        /// The upstream closed it.
        Upstream = "upstream",
        /// Nothing moved.
        Idle = "idle",
        /// We are going away.
        Drain = "drain",
        /// The session or the person was revoked.
        Revoked = "revoked",
        /// The credential expired.
        Expired = "expired",
        /// One side read too slowly.
        Slow = "slow",
        /// A connection broke.
        Error = "error",
    }
}

words! {
    /// What became of an attempt to load a configuration.
    Reload {
        /// It runs, or ran already.
        Success = "success",
        /// It has problems; the running one stays.
        Refused = "refused",
        /// It could not be read or built; the running one stays.
        Failed = "failed",
    }
}

words! {
    /// What the store was asked for.
    StoreOperation {
        /// A row.
        Get = "get",
        /// A write.
        Put = "put",
        /// A conditional write.
        CompareAndSwap = "compare_and_swap",
        /// A removal.
        Delete = "delete",
        /// Rows by prefix.
        Scan = "scan",
        /// A lease.
        Lease = "lease",
        /// The removal of what has expired.
        Sweep = "sweep",
    }
}

words! {
    /// How a session came about.
    Origin {
        /// By a login.
        Login = "login",
        /// By a login at the other provider, because the assigned one was away.
        Fallback = "fallback",
        /// Around a session of the old system.
        Wrap = "wrap",
    }
}

/// The label `rule`: one of our words, or `cohort:` and the name of a cohort.
pub(crate) fn rule(rule: &RuleRef) -> Cow<'static, str> {
    match rule {
        RuleRef::Kill => "kill".into(),
        RuleRef::Mode => "mode".into(),
        RuleRef::Pin => "pin".into(),
        RuleRef::Cohort(id) => format!("cohort:{id}").into(),
        RuleRef::Percent => "percent".into(),
        RuleRef::Default => "default".into(),
        RuleRef::Fallback => "fallback".into(),
    }
}

/// The label `mode`.
pub(crate) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::LegacyOnly => "legacy-only",
        Mode::Shadow => "shadow",
        Mode::Canary => "canary",
        Mode::ModernPrimary => "modern-primary",
        Mode::ModernOnly => "modern-only",
    }
}

/// The status codes that have their own label value: those of the IANA registry. Others are counted as `2xx`, `4xx`, …
const CODES: [u16; 63] = [
    100, 101, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303,
    304, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414,
    415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503,
    504, 505, 506, 507, 508, 511,
];

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// How many values the label `code` can have.
pub(crate) const CODE_COUNT: usize = CODES.len() + CLASSES.len();

/// From a status code (100 to 599) to its place among the values of the label `code`.
static CODE_INDEX: [u8; 500] = {
    let mut table = [0_u8; 500];
    let mut offset = 0;
    while offset < 500 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            table[offset] = (CODES.len() + offset / 100) as u8;
        }
        offset += 1;
    }
    let mut place = 0;
    while place < CODES.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            table[CODES[place] as usize - 100] = place as u8;
        }
        place += 1;
    }
    table
};

/// The place of a status code among the values of the label `code`, below [`CODE_COUNT`].
pub(crate) fn code_index(status: u16) -> usize {
    usize::from(status)
        .checked_sub(100)
        .and_then(|offset| CODE_INDEX.get(offset))
        .map_or(CODE_COUNT - 1, |place| usize::from(*place))
}

/// The label value at a place.
pub(crate) fn code(index: usize) -> Cow<'static, str> {
    match (CODES.get(index), index.checked_sub(CODES.len())) {
        (Some(code), _) => code.to_string().into(),
        (None, Some(class)) => CLASSES.get(class).copied().unwrap_or("other").into(),
        (None, None) => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_stands_at_its_own_place() {
        let all: Vec<_> = Attempt::all().collect();
        assert_eq!(all.len(), Attempt::COUNT);
        for (place, attempt) in all.iter().enumerate() {
            assert_eq!(attempt.index(), place, "{attempt:?}");
        }
    }

    #[test]
    fn a_status_code_is_exact_when_registered_and_a_class_otherwise() {
        for (status, label) in [
            (200, "200"),
            (404, "404"),
            (511, "511"),
            (299, "2xx"),
            (477, "4xx"),
            (599, "5xx"),
            (99, "other"),
            (600, "other"),
            (0, "other"),
            (999, "other"),
        ] {
            assert_eq!(code(code_index(status)), label, "{status}");
        }
    }

    #[test]
    fn every_status_code_has_a_place_in_the_table() {
        for status in 0..=u16::MAX {
            assert!(code_index(status) < CODE_COUNT);
        }
    }
}
