//! How fast the other side is asked, and when it is left alone. It outlives a reload: trouble does not end with one.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::shadow::settings::Breaker;
use crate::shadow::settings::Trips;
use crate::telemetry::metrics::Skipped;

/// Of one application.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last calls, and whether there was an answer; as many as the breaker looks at.
    last: VecDeque<bool>,
    /// Until then nobody is asked.
    shut: UnixTime,
    /// The calls of the present second.
    second: (u64, u32),
    /// Calls a second, where the other side has said that there were too many.
    slowed: Option<u32>,
    /// When it was last raised again.
    raised: u64,
}

impl Pace {
    /// Takes one of the calls of this second.
    pub(super) fn take(&self, rps: u32, now: UnixTime) -> Result<(), Skipped> {
        let mut state = self.state();
        if now < state.shut {
            return Err(Skipped::Breaker);
        }
        let second = now.as_secs();
        if state.second.0 != second {
            state.second = (second, 0);
        }
        if let Some(slowed) = state.slowed.filter(|_| state.raised < second) {
            // One more in each second, until it is as before.
            state.raised = second;
            state.slowed = Some(slowed + 1).filter(|slowed| *slowed < rps);
        }
        let may = state.slowed.map_or(rps, |slowed| slowed.min(rps));
        if may <= state.second.1 {
            return Err(Skipped::Budget);
        }
        state.second.1 += 1;
        Ok(())
    }

    /// For how long nobody is asked.
    pub(super) fn shut_for(&self, now: UnixTime) -> Duration {
        self.state().shut.since(now)
    }

    /// There was an answer.
    pub(super) fn answered(&self, breaker: Breaker, now: UnixTime) {
        self.came(breaker, true, now);
    }

    /// There was none: after so many of them it is left alone for a while. One that wants fewer calls gets half of them.
    pub(super) fn failed(&self, breaker: Breaker, why: Outage, rps: u32, now: UnixTime) {
        if why == Outage::RateLimited {
            let mut state = self.state();
            let may = state.slowed.unwrap_or(rps);
            state.slowed = Some((may / 2).max(1));
            state.raised = now.as_secs();
        }
        self.came(breaker, false, now);
    }

    fn came(&self, breaker: Breaker, answer: bool, now: UnixTime) {
        let mut state = self.state();
        let (most, share) = match breaker.trips {
            Trips::InARow(most) => (most, 1.0),
            Trips::Share(share, most) => (most, share),
        };
        let most = most.max(1);
        let room = usize::try_from(most).unwrap_or(usize::MAX);
        while room <= state.last.len() {
            state.last.pop_front();
        }
        state.last.push_back(answer);
        let failed = state.last.iter().filter(|answer| !**answer).count();
        if !answer && state.last.len() == room && share * f64::from(most) <= failed as f64 {
            state.last.clear();
            state.shut = now + breaker.open_for;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(1_000 + secs)
    }

    const fn breaker(trips: Trips) -> Breaker {
        Breaker {
            trips,
            open_for: Duration::from_secs(60),
        }
    }

    #[test]
    fn calls_are_counted_by_the_second() {
        let pace = Pace::default();
        assert!(pace.take(2, at(0)).is_ok() && pace.take(2, at(0)).is_ok());
        assert_eq!(pace.take(2, at(0)), Err(Skipped::Budget));
        assert!(pace.take(2, at(1)).is_ok());
    }

    #[test]
    fn a_row_of_failures_or_a_share_of_them_shuts_it() {
        let open = |trips, calls: &str| {
            let pace = Pace::default();
            for call in calls.chars() {
                match call {
                    '+' => pace.answered(breaker(trips), at(0)),
                    _ => pace.failed(breaker(trips), Outage::Timeout, 9, at(0)),
                }
            }
            pace.take(9, at(59)).is_ok() && pace.take(9, at(61)).is_ok()
        };
        assert!(open(Trips::InARow(3), "--+--"));
        assert!(!open(Trips::InARow(3), "+---"));
        assert!(open(Trips::Share(0.5, 4), "--"), "too few to say anything");
        assert!(!open(Trips::Share(0.5, 4), "+-+-"));
        assert!(open(Trips::Share(0.5, 4), "-+++-+++-"));
    }

    #[test]
    fn whoever_says_too_many_gets_half_and_then_one_more_in_each_second() {
        let pace = Pace::default();
        let calls = |secs| (0..20).filter(|_| pace.take(8, at(secs)).is_ok()).count();
        assert_eq!(calls(0), 8);
        pace.failed(breaker(Trips::InARow(9)), Outage::RateLimited, 8, at(1));
        assert_eq!(calls(1), 4);
        pace.failed(breaker(Trips::InARow(9)), Outage::RateLimited, 8, at(1));
        assert_eq!((calls(2), calls(3), calls(4)), (3, 4, 5));
        assert_eq!((5..9).map(calls).sum::<usize>(), 6 + 7 + 8 + 8);
    }
}
