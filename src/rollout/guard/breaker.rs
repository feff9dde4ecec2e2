//! The plain breaker: something is on fire, and it is not the same at `from`.
//!
//! It looks at a minute, not at a step, so it sees a fire within some twenty people. Ordinary days have bad minutes too:
//! whoever looks at each of them must ask for more than a share, and must know what is ordinary.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::guard::settings::BreakerRule;

/// The most people that are looked at; the oldest go first.
const MAX_RECENT: usize = 4_096;
/// So many times the bad rate of `from` is ordinary.
const TIMES: f64 = 2.0;
/// And so much in any case: people give up for reasons of their own.
const LEAST: f64 = 0.02;
/// But no more than this, however people fare at `from`: who gives up there needs no password, and whoever wants to can
/// make it look like anything. 20 of 20 are a fire beside it.
const MOST: f64 = 0.4;
/// `from` is spoken of as if so many people had come there before, …
const BEFORE: f64 = 50.0;
/// … and so many of them had been bad: without anybody there, 10 % are ordinary.
const BEFORE_BAD: f64 = 2.5;
/// How sure it is: by chance alone a minute looks like this once in e¹⁶, nine million.
const PROOF: f64 = 16.0;

/// The last people at one side, and how they fared.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    people: VecDeque<(UnixTime, bool)>,
}

/// People of a step at one side, and how they fared.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Fared {
    people: u64,
    bad: u64,
}

/// What the breaker looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Burning {
    /// People at `to` within its window.
    pub people: u64,
    /// Bad ones.
    pub bad: u64,
    /// The bad rate that is ordinary, by what is seen at `from`.
    pub ordinary: f64,
    /// Whether it burns because none of the first came back, or none of the last.
    pub none_came_back: bool,
}

impl Recent {
    pub(super) fn add(&mut self, at: UnixTime, bad: bool) {
        if MAX_RECENT <= self.people.len() {
            self.people.pop_front();
        }
        self.people.push_back((at, bad));
    }

    /// Forgets who is too long ago to be looked at again.
    pub(super) fn forget(&mut self, window: Duration, now: UnixTime) {
        let is_old = |(at, _): &(UnixTime, bool)| window <= now.since(*at);
        while self.people.front().is_some_and(is_old) {
            self.people.pop_front();
        }
    }

    /// People and bad people of the last `window`.
    pub(super) fn of(&self, window: Duration, now: UnixTime) -> (u64, u64) {
        let recent = self.people.iter().filter(|(at, _)| now.since(*at) < window);
        recent.fold((0, 0), |(people, bad), (_, is_bad)| {
            (people + 1, bad + u64::from(*is_bad))
        })
    }
}

impl Fared {
    pub(super) const fn add(&mut self, bad: bool) {
        self.people += 1;
        self.bad += bad as u64;
    }

    /// The bad rate that is ordinary.
    fn ordinary(self) -> f64 {
        let rate = (self.bad as f64 + BEFORE_BAD) / (self.people as f64 + BEFORE);
        ordinary(rate)
    }
}

/// By the bad rate of `from`.
fn ordinary(rate: f64) -> f64 {
    (TIMES * rate).clamp(LEAST, MOST)
}

/// What there is to see at `to`, beside `from`.
pub(super) fn look(
    rule: &BreakerRule,
    (to, from): (&Recent, &Recent),
    fared: Fared,
    now: UnixTime,
) -> Burning {
    let (people, bad) = to.of(rule.window, now);
    let (there, bad_there) = from.of(rule.window, now);
    // Where both sides burn it may not be the new provider: then much is ordinary.
    let ordinary = if is_much(rule, there, bad_there) {
        ordinary(bad_there as f64 / there as f64).max(fared.ordinary())
    } else {
        fared.ordinary()
    };
    Burning {
        people,
        bad,
        ordinary,
        none_came_back: false,
    }
}

/// Whether it burns.
pub(super) fn trips(rule: &BreakerRule, seen: &Burning) -> bool {
    is_much(rule, seen.people, seen.bad) && PROOF <= surprise(seen)
}

fn is_much(rule: &BreakerRule, people: u64, bad: u64) -> bool {
    u64::from(rule.min_units) <= people && rule.bad_rate * people as f64 <= bad as f64
}

/// By Chernoff: the chance of so many bad people or more is at most e to the power of minus this.
fn surprise(seen: &Burning) -> f64 {
    let (people, bad) = (seen.people as f64, seen.bad as f64);
    if bad <= people * seen.ordinary {
        return 0.0;
    }
    let good = people - bad;
    let of = |count: f64, expected: f64| {
        if count <= 0.0 {
            0.0
        } else {
            count * (count / expected).ln()
        }
    };
    of(bad, people * seen.ordinary) + of(good, people * (1.0 - seen.ordinary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::guard::settings::OnTrip;

    const RULE: BreakerRule = BreakerRule {
        window: Duration::from_secs(60),
        min_units: 20,
        bad_rate: 0.2,
        on_trip: OnTrip::Rollback,
    };

    fn at(n: u64) -> UnixTime {
        UnixTime::from_secs(1_000 + n)
    }

    fn recent(people: u64, bad: u64) -> Recent {
        let mut recent = Recent::default();
        (0..people).for_each(|n| recent.add(at(n), n < bad));
        recent
    }

    fn trips(to: (u64, u64), fared: (u64, u64), from: (u64, u64), now: u64) -> bool {
        let fared = Fared {
            people: fared.0,
            bad: fared.1,
        };
        let (to, from) = (recent(to.0, to.1), recent(from.0, from.1));
        super::trips(&RULE, &look(&RULE, (&to, &from), fared, at(now)))
    }

    #[test]
    fn eight_of_twenty_people_within_a_minute_are_a_fire_where_one_in_a_hundred_is_ordinary() {
        let ordinary = (1_000, 10);
        assert!(!trips((19, 19), ordinary, (0, 0), 19), "too few people");
        assert!(trips((20, 8), ordinary, (0, 0), 20));
        assert!(!trips((20, 4), ordinary, (0, 0), 20), "a bad minute");
        assert!(
            !trips((20, 8), ordinary, (0, 0), 62),
            "the bad ones are too long ago"
        );
    }

    #[test]
    fn what_is_ordinary_is_said_by_who_comes_to_the_old_side() {
        assert!(
            !trips((20, 8), (1_000, 100), (0, 0), 20),
            "a fifth is ordinary"
        );
        assert!(trips((20, 20), (1_000, 100), (0, 0), 20));
        assert!(!trips((20, 10), (0, 0), (0, 0), 20), "nobody was there");
        assert!(trips((20, 13), (0, 0), (0, 0), 20));
        assert!(!trips((20, 16), (1_000, 10), (20, 12), 20), "both burn");
    }

    #[test]
    fn nobody_makes_it_look_away_by_giving_up_at_the_old_side() {
        assert!(trips((20, 20), (1_000, 600), (0, 0), 20));
        assert!(trips((20, 20), (1_000, 10), (20, 20), 20));
        assert!(
            !trips((20, 14), (1_000, 600), (0, 0), 20),
            "much is ordinary"
        );
    }
}
