//! The plain breaker: no statistics, something is on fire.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::rollout::guard::settings::BreakerRule;

/// The most people that are looked at; the oldest go first.
const MAX_RECENT: usize = 4_096;

/// The last people at the new provider, and how they fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    people: VecDeque<(UnixTime, bool)>,
}

impl Recent {
    pub(super) fn add(&mut self, at: UnixTime, bad: bool) {
        if MAX_RECENT <= self.people.len() {
            self.people.pop_front();
        }
        self.people.push_back((at, bad));
    }

    /// People and bad people of the last `window`.
    pub(super) fn of(&self, window: Duration, now: UnixTime) -> (u64, u64) {
        let recent = self.people.iter().filter(|(at, _)| now.since(*at) < window);
        recent.fold((0, 0), |(people, bad), (_, is_bad)| {
            (people + 1, bad + u64::from(*is_bad))
        })
    }

    /// Whether it burns.
    pub(super) fn trips(&self, rule: &BreakerRule, now: UnixTime) -> bool {
        let (people, bad) = self.of(rule.window, now);
        u64::from(rule.min_units) <= people && rule.bad_rate * people as f64 <= bad as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::guard::settings::OnTrip;

    #[test]
    fn a_fifth_of_twenty_people_within_a_minute_is_a_fire() {
        let rule = BreakerRule {
            window: Duration::from_secs(60),
            min_units: 20,
            bad_rate: 0.2,
            on_trip: OnTrip::Rollback,
        };
        let at = |n: u64| UnixTime::from_secs(1_000 + n);
        let mut recent = Recent::default();
        for n in 0..19 {
            recent.add(at(n), n < 4);
        }
        assert!(!recent.trips(&rule, at(19)), "too few people");
        recent.add(at(19), false);
        assert!(recent.trips(&rule, at(20)));
        assert!(
            !recent.trips(&rule, at(62)),
            "the bad ones are too long ago"
        );
    }
}
