//! The breaker: a provider that fails is left alone for a while, and then asked by one call first.
//!
//! It counts whole calls of one provider, whatever they were for. What says nothing about the provider's health (our own
//! lack of room, 429, a 4xx to a strange question) is not counted: a flood of bad requests must not open it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::providers::settings;
use crate::telemetry::metrics::Circuit;

/// Where few calls are made, this many failures without one success open the breaker, if they lie this far apart: a moment's
/// trouble is no outage. The failures after the first are answers to our own questions, see `health`.
const STREAK: u32 = 3;
const STREAK_SPAN: Duration = Duration::from_secs(10);

/// An answer this young needs no further proof of life.
const FRESH: Duration = Duration::from_secs(10);

/// Into how many parts the window is cut: it moves in steps of a tenth.
const SLOTS: u32 = 10;

/// What became of a call, as far as the provider's health goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::providers) enum Outcome {
    /// It answered.
    Success,
    /// It did not, or what it said was no answer.
    Failure,
    /// Nothing was learned.
    Nothing,
}

/// A breaker.
#[derive(Debug)]
pub(in crate::providers) struct Breaker {
    settings: settings::Breaker,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    window: Window,
    /// The first failure since the last success, and how many there were; only while closed.
    streak: Option<(Instant, u32)>,
    answered: Option<Instant>,
    /// Somebody relies on the provider without asking it.
    wondered: bool,
    down_since: Option<UnixTime>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { since: Instant },
    Probing { since: Instant, opened: Instant },
}

/// Leave to make one call.
#[derive(Debug)]
#[must_use]
pub(in crate::providers) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    reported: bool,
}

impl Breaker {
    pub(in crate::providers) fn new(settings: settings::Breaker, clock: Arc<dyn Clock>) -> Self {
        let window = Window::new(settings.window);
        Self {
            settings,
            clock,
            state: Mutex::new(State {
                phase: Phase::Closed,
                window,
                streak: None,
                answered: None,
                wondered: false,
                down_since: None,
            }),
        }
    }

    /// Leave to call, or how long it will be refused.
    pub(in crate::providers) fn admit(&self) -> Result<Permit<'_>, Duration> {
        let now = Instant::now();
        let mut state = self.state();
        let probe = match state.phase {
            Phase::Closed => false,
            Phase::Open { since } => {
                let open = now.saturating_duration_since(since);
                if let Some(left) = self.left(open) {
                    return Err(left);
                }
                state.phase = Phase::Probing {
                    since: now,
                    opened: since,
                };
                true
            }
            Phase::Probing { since, .. } => {
                let trying = now.saturating_duration_since(since);
                return Err(self.left(trying).unwrap_or(Duration::from_secs(1)));
            }
        };
        Ok(Permit {
            breaker: self,
            probe,
            reported: false,
        })
    }

    /// Its position now.
    pub(in crate::providers) fn circuit(&self) -> Circuit {
        match self.state().phase {
            Phase::Closed => Circuit::Closed,
            Phase::Probing { .. } => Circuit::HalfOpen,
            Phase::Open { since } if self.left(since.elapsed()).is_none() => Circuit::HalfOpen,
            Phase::Open { .. } => Circuit::Open,
        }
    }

    /// Whether a background question would be of use: the last call failed, or nobody is let through.
    pub(in crate::providers) fn is_in_doubt(&self) -> bool {
        let state = self.state();
        match state.phase {
            Phase::Closed => state.streak.is_some() || state.wondered,
            Phase::Open { since } => self.left(since.elapsed()).is_none(),
            Phase::Probing { .. } => false,
        }
    }

    /// Somebody relies on the provider without asking it: has it asked in the background, unless it answered just now.
    pub(in crate::providers) fn wonder(&self) {
        let mut state = self.state();
        state.wondered = state.answered.is_none_or(|at| FRESH <= at.elapsed());
    }

    /// Since when it has been other than closed without one success.
    pub(in crate::providers) fn down_since(&self) -> Option<UnixTime> {
        self.state().down_since
    }

    /// What is left of the time it stays open; `None` when that is over.
    fn left(&self, open: Duration) -> Option<Duration> {
        self.settings
            .open_for
            .checked_sub(open)
            .filter(|left| !left.is_zero())
    }

    fn report(&self, probe: bool, outcome: Outcome) {
        let now = Instant::now();
        let mut state = self.state();
        state.wondered = false;
        if outcome == Outcome::Success {
            state.answered = Some(now);
        }
        match (state.phase, probe, outcome) {
            (Phase::Probing { .. }, true, Outcome::Success) => {
                state.phase = Phase::Closed;
                state.window.slots.clear();
                state.down_since = None;
            }
            (Phase::Probing { .. }, true, Outcome::Failure | Outcome::Nothing) => {
                state.phase = Phase::Open { since: now };
            }
            (Phase::Closed, _, Outcome::Success) => {
                state.window.count(now, true);
                state.streak = None;
            }
            (Phase::Closed, _, Outcome::Failure) => {
                state.window.count(now, false);
                let (first, before) = state.streak.unwrap_or((now, 0));
                let streak = (first, before.saturating_add(1));
                state.streak = Some(streak);
                if state.window.is_failing(&self.settings) || is_lasting(streak, now) {
                    state.phase = Phase::Open { since: now };
                    state.streak = None;
                    state.down_since = Some(self.clock.now());
                }
            }
            // A call that began before the breaker opened: proof of life, not yet of health.
            (Phase::Open { .. } | Phase::Probing { .. }, _, Outcome::Success) => {
                state.down_since = Some(self.clock.now());
            }
            (Phase::Closed, _, Outcome::Nothing)
            | (Phase::Open { .. } | Phase::Probing { .. }, _, _) => {}
        }
    }

    /// A probe that was dropped: nobody asked the provider anything, so the next call may.
    fn abandon(&self, probe: bool) {
        if !probe {
            return;
        }
        let mut state = self.state();
        if let Phase::Probing { opened, .. } = state.phase {
            state.phase = Phase::Open { since: opened };
        }
    }

    /// The state is a few numbers, each right by itself: a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether failures without a success between them are more than a moment's trouble.
fn is_lasting((first, failures): (Instant, u32), now: Instant) -> bool {
    STREAK <= failures && STREAK_SPAN <= now.saturating_duration_since(first)
}

impl Permit<'_> {
    /// Says what became of the call.
    pub(in crate::providers) fn report(mut self, outcome: Outcome) {
        self.reported = true;
        self.breaker.report(self.probe, outcome);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.reported {
            self.breaker.abandon(self.probe);
        }
    }
}

/// Calls of the last while, counted in slots of a tenth of it.
#[derive(Debug)]
struct Window {
    step: Duration,
    began: Instant,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    turn: u128,
    good: u64,
    bad: u64,
}

impl Window {
    fn new(span: Duration) -> Self {
        Self {
            step: (span / SLOTS).max(Duration::from_millis(1)),
            began: Instant::now(),
            slots: VecDeque::new(),
        }
    }

    /// Counts a call that ended at `now`, and forgets what has left the window.
    fn count(&mut self, now: Instant, good: bool) {
        let elapsed = now.saturating_duration_since(self.began).as_millis();
        let turn = elapsed / self.step.as_millis();
        self.slots.retain(|s| turn < s.turn + u128::from(SLOTS));
        let mut slot = match self.slots.pop_back() {
            Some(last) if last.turn == turn => last,
            Some(last) => {
                self.slots.push_back(last);
                Slot {
                    turn,
                    ..Slot::default()
                }
            }
            None => Slot {
                turn,
                ..Slot::default()
            },
        };
        if good {
            slot.good += 1;
        } else {
            slot.bad += 1;
        }
        self.slots.push_back(slot);
    }

    /// Whether the calls of the window open the breaker.
    fn is_failing(&self, settings: &settings::Breaker) -> bool {
        let good: u64 = self.slots.iter().map(|s| s.good).sum();
        let bad: u64 = self.slots.iter().map(|s| s.bad).sum();
        let all = good + bad;
        u64::from(settings.min_requests) <= all
            && all.saturating_mul(u64::from(settings.failure_permille)) <= bad.saturating_mul(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const OPEN_FOR: Duration = Duration::from_secs(15);

    fn breaker(min_requests: u32) -> (Breaker, ManualClock) {
        let clock = ManualClock::at(UnixTime::from_secs(1_000));
        let settings = settings::Breaker {
            window: Duration::from_secs(30),
            min_requests,
            failure_permille: 500,
            open_for: OPEN_FOR,
        };
        (Breaker::new(settings, Arc::new(clock.clone())), clock)
    }

    fn report(breaker: &Breaker, outcome: Outcome) {
        breaker.admit().unwrap().report(outcome);
    }

    fn opened() -> (Breaker, ManualClock) {
        let (breaker, clock) = breaker(2);
        report(&breaker, Outcome::Failure);
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Open);
        (breaker, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_that_last_open_it_and_a_moment_of_them_does_not() {
        let (breaker, _) = breaker(20);
        assert!(!breaker.is_in_doubt());
        report(&breaker, Outcome::Failure);
        report(&breaker, Outcome::Nothing);
        assert!(breaker.is_in_doubt());
        for _ in 0..5 {
            report(&breaker, Outcome::Failure);
        }
        assert_eq!(breaker.circuit(), Circuit::Closed, "all within a moment");
        tokio::time::advance(STREAK_SPAN).await;
        report(&breaker, Outcome::Success);
        assert!(!breaker.is_in_doubt());
        breaker.wonder();
        assert!(!breaker.is_in_doubt(), "it has just answered");
        tokio::time::advance(FRESH).await;
        breaker.wonder();
        assert!(breaker.is_in_doubt());
        for _ in 0..2 {
            report(&breaker, Outcome::Failure);
            tokio::time::advance(STREAK_SPAN).await;
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Open);
        assert!(breaker.down_since().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn half_failures_among_enough_calls_open_it() {
        let (breaker, _) = breaker(4);
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Success] {
            report(&breaker, outcome);
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Open);
        assert_eq!(breaker.down_since(), Some(UnixTime::from_secs(1_000)));
        assert_eq!(breaker.admit().err(), Some(OPEN_FOR));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_left_the_window_do_not_count() {
        let (breaker, _) = breaker(2);
        report(&breaker, Outcome::Failure);
        tokio::time::advance(Duration::from_secs(31)).await;
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Closed);
        tokio::time::advance(Duration::from_secs(20)).await;
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_nothing_never_opens_it() {
        let (breaker, _) = breaker(2);
        for _ in 0..1_000 {
            report(&breaker, Outcome::Nothing);
        }
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_and_closes_it_when_it_succeeds() {
        let (breaker, _) = opened();
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!(breaker.circuit(), Circuit::HalfOpen);
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "only one call may try");
        probe.report(Outcome::Success);
        assert_eq!(breaker.circuit(), Circuit::Closed);
        assert_eq!(breaker.down_since(), None);
        report(&breaker, Outcome::Failure);
        assert_eq!(breaker.circuit(), Circuit::Closed, "it starts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_try_keeps_the_moment_it_went_down() {
        let (breaker, clock) = opened();
        for outcome in [Outcome::Failure, Outcome::Nothing] {
            clock.advance(OPEN_FOR);
            tokio::time::advance(OPEN_FOR).await;
            report(&breaker, outcome);
            assert_eq!(breaker.circuit(), Circuit::Open);
        }
        assert_eq!(breaker.down_since(), Some(UnixTime::from_secs(1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_was_dropped_leaves_room_for_the_next() {
        let (breaker, _) = opened();
        tokio::time::advance(OPEN_FOR).await;
        drop(breaker.admit().unwrap());
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_success_moves_the_moment_it_went_down() {
        let (breaker, clock) = breaker(2);
        let late = breaker.admit().unwrap();
        report(&breaker, Outcome::Failure);
        report(&breaker, Outcome::Failure);
        clock.advance(Duration::from_secs(5));
        late.report(Outcome::Success);
        assert_eq!(breaker.circuit(), Circuit::Open);
        assert_eq!(breaker.down_since(), Some(UnixTime::from_secs(1_005)));
    }
}
