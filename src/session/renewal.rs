//! When a session is confirmed at its owner again, and until when it is honoured without.

use std::time::Duration;

use crate::clock::UnixTime;

/// The moments of one period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Renewal {
    /// The owner is asked from here on, while requests go on.
    due: UnixTime,
    /// Requests wait for the owner's answer from here on.
    overdue: UnixTime,
    /// Without an answer nothing is honoured from here on.
    lapses: UnixTime,
}

/// Where a session stands in its period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nothing to do.
    Fresh,
    /// To be renewed, behind the requests.
    Due,
    /// To be renewed first; if the owner is away, it still counts.
    Overdue,
    /// To be renewed first; if the owner is away, it does not count.
    Lapsed,
}

impl Renewal {
    /// The period begins at `confirmed` and is as long as `span`; the owner is asked at 80 % of it, more or less by a tenth
    /// of that, so that sessions of one moment do not come back together. While the owner is away, one more period counts.
    pub(super) fn new(confirmed: UnixTime, span: Duration, jitter: u8) -> Self {
        let permille = 720 + 160 * u32::from(jitter) / 255;
        Self {
            due: confirmed + span * permille / 1_000,
            overdue: confirmed + span,
            lapses: confirmed + span * 2,
        }
    }

    pub(super) const fn due(&self) -> UnixTime {
        self.due
    }

    pub(super) const fn lapses(&self) -> UnixTime {
        self.lapses
    }

    /// `not_before`: the owner asked not to be asked earlier.
    pub(super) fn standing(&self, not_before: UnixTime, now: UnixTime) -> Standing {
        if self.lapses <= now {
            Standing::Lapsed
        } else if now < self.due || now < not_before {
            Standing::Fresh
        } else if now < self.overdue {
            Standing::Due
        } else {
            Standing::Overdue
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    #[test]
    fn the_owner_is_asked_before_the_period_ends_and_one_more_counts_without_it() {
        let renewal = Renewal::new(at(1_000), Duration::from_secs(100), 128);
        let standing = |now| renewal.standing(at(0), at(now));
        assert_eq!(standing(1_071), Standing::Fresh);
        assert_eq!(standing(1_089), Standing::Due);
        assert_eq!(standing(1_100), Standing::Overdue);
        assert_eq!(standing(1_199), Standing::Overdue);
        assert_eq!(standing(1_200), Standing::Lapsed);
        let told_to_wait = |now| renewal.standing(at(1_150), at(now));
        assert_eq!(told_to_wait(1_149), Standing::Fresh);
        assert_eq!(told_to_wait(1_150), Standing::Overdue);
        assert_eq!(renewal.standing(at(9_999), at(1_200)), Standing::Lapsed);
    }

    proptest! {
        #[test]
        fn it_is_due_between_72_and_88_percent(jitter: u8, span in 1_u64..100_000) {
            let renewal = Renewal::new(at(0), Duration::from_secs(span), jitter);
            let due = renewal.due().as_millis();
            prop_assert!(span * 720 <= due && due <= span * 880);
        }
    }
}
