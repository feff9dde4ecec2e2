//! How an exchange ended, for logs and labels.

use crate::identity::Outage;
use crate::identity::Refusal;

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

    pub(super) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Issued | Self::Kept | Self::Renewing => None,
            Self::Refused(refusal) => Some(refusal.as_str()),
            Self::Unavailable(outage) => Some(outage.as_str()),
        }
    }
}
