//! How long an origin lets a connection rest, learned from those that it has ended.
//!
//! Whoever ends an idle connection does not ask (RFC 9112 §9.6): a request that is sent in that moment is lost, and only
//! one that may be sent twice is sent again. The others use a connection only while its end is not near.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// What was learned counts so long without another sign of it. Default 10 min.
const KEPT: Duration = Duration::from_secs(600);

/// What must not be lost uses a connection for the first half of that time: what is learned comes late by as much as
/// nobody looked.
const SHARE: u32 = 2;

/// The shortest time after which a connection was found ended, and when that was.
#[derive(Default)]
pub(super) struct Rests(Cell<Option<(Duration, Instant)>>);

impl Rests {
    /// A connection had ended after it had rested for `rested`, or earlier.
    pub(super) fn found_ended(&self, rested: Duration, now: Instant) {
        let known = self.known(now).unwrap_or(Duration::MAX);
        self.0.set(Some((known.min(rested), now)));
    }

    /// A connection was good after `rested`: whatever ended others earlier was no limit of the origin's.
    pub(super) fn served(&self, rested: Duration) {
        if let Some((known, since)) = self.0.get()
            && known < rested
        {
            self.0.set(Some((rested, since)));
        }
    }

    /// Whether a connection that has rested for `rested` may carry what cannot be sent twice.
    pub(super) fn is_safe(&self, rested: Duration, now: Instant) -> bool {
        self.known(now).is_none_or(|known| rested < known / SHARE)
    }

    fn known(&self, now: Instant) -> Option<Duration> {
        let (known, since) = self.0.get()?;
        (now.saturating_duration_since(since) < KEPT).then_some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_second_half_of_what_an_origin_allows_is_not_for_what_cannot_be_sent_twice() {
        let (rests, now) = (Rests::default(), Instant::now());
        assert!(rests.is_safe(ms(3_600_000), now), "nothing is known");
        rests.found_ended(ms(180), now);
        rests.found_ended(ms(100), now);
        rests.found_ended(ms(140), now);
        assert!(rests.is_safe(ms(49), now));
        assert!(!rests.is_safe(ms(50), now));
    }

    #[test]
    fn a_connection_that_served_later_says_more_than_one_that_ended_early() {
        let (rests, now) = (Rests::default(), Instant::now());
        rests.found_ended(ms(2), now);
        rests.served(ms(1_000));
        assert!(rests.is_safe(ms(499), now));
        rests.served(ms(10));
        assert!(rests.is_safe(ms(499), now), "no less than was known");
    }

    #[test]
    fn what_was_learned_long_ago_is_forgotten() {
        let (rests, now) = (Rests::default(), Instant::now());
        rests.found_ended(ms(100), now);
        assert!(!rests.is_safe(ms(60), now + KEPT - ms(1)));
        assert!(rests.is_safe(ms(60), now + KEPT));
        rests.found_ended(ms(900), now + KEPT);
        assert!(rests.is_safe(ms(449), now + KEPT), "learned anew");
    }
}
