//! What is told of an exchange, and how it ended, for logs and labels.

use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeEvent<'a> {
    /// Which.
    pub(crate) exchange: &'a str,
    /// By which grant.
    pub(crate) grant: &'static str,
    /// The client that the credential names.
    pub(crate) client: Option<&'a str>,
    /// Whom the result is for.
    pub(crate) audience: Option<&'a str>,
    /// What it may do.
    pub(crate) scope: Option<&'a str>,
    /// How long it is used, in seconds.
    pub(crate) lifetime: Option<u64>,
    /// The beginning of a digest of the token that was presented.
    pub(crate) parent: Option<&'a str>,
    /// Whose token was wanted; `None`: ours.
    pub(crate) provider: Option<&'a ProviderId>,
    /// The key of ours that signed it, or the assertion that it was had for.
    pub(crate) key: Option<&'a str>,
    /// How it ended.
    pub(crate) outcome: ExchangeOutcome,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ExchangeOutcome {
    /// A token was issued or minted.
    Issued,
    /// From memory.
    Kept,
    /// From memory, while a fresh one is fetched or its target is away.
    Renewing,
    /// There is none for this person.
    Refused(Refusal),
    /// Nobody could say.
    Unavailable(Outage),
}

impl ExchangeOutcome {
    /// The label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Kept => "kept",
            Self::Renewing => "renewing",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
        }
    }

    pub(crate) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Issued | Self::Kept | Self::Renewing => None,
            Self::Refused(refusal) => Some(refusal.as_str()),
            Self::Unavailable(outage) => Some(outage.as_str()),
        }
    }
}
