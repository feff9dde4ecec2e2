//! What became of an attempt to authenticate, as label values.

use crate::identity::Outage;
use crate::identity::Refusal;

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

const OUTAGES: [Outage; 10] = [
    Outage::Connect,
    Outage::Tls,
    Outage::Timeout,
    Outage::Http5xx,
    Outage::RateLimited,
    Outage::KeysUnavailable,
    Outage::CircuitOpen,
    Outage::Malformed,
    Outage::Shed,
    Outage::TooSoon,
];

impl Attempt {
    /// How many different outcomes there are.
    pub(crate) const COUNT: usize = 2 + Refusal::ALL.len() + OUTAGES.len();

    /// Every outcome, in the order of [`Self::index`].
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::Success, Self::Abandoned]
            .into_iter()
            .chain(Refusal::ALL.into_iter().map(Self::Rejected))
            .chain(OUTAGES.into_iter().map(Self::Unavailable))
    }

    /// The place in [`Self::all`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Success => 0,
            Self::Abandoned => 1,
            Self::Rejected(refusal) => 2 + refusal_index(refusal),
            Self::Unavailable(outage) => 2 + Refusal::ALL.len() + outage_index(outage),
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

/// The place in [`Refusal::ALL`]: a match without `_`, so that a new refusal cannot go uncounted.
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
        Refusal::IdentityHeaderTooLarge => 11,
        Refusal::NoLink => 12,
        Refusal::LinkConflict => 13,
        Refusal::PopFailed => 14,
        Refusal::Replay => 15,
        Refusal::NotAccepted => 16,
        Refusal::Quarantined => 17,
        Refusal::Ambiguous => 18,
        Refusal::Unsupported => 19,
        Refusal::ExchangeRefused => 20,
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
        Outage::TooSoon => 9,
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
}
