//! How fast the other side is asked, and when it is left alone. It outlives a reload: trouble does not end with one.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::shadow::settings::Breaker;
use crate::telemetry::metrics::Skipped;

/// Of one application.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Calls in a row without an answer.
    failures: u32,
    /// Until then nobody is asked.
    shut: UnixTime,
    /// The calls of the present second.
    second: (u64, u32),
}

impl Pace {
    /// Takes one of the calls of this second.
    pub(super) fn take(&self, rps: u32, now: UnixTime) -> Result<(), Skipped> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now < state.shut {
            return Err(Skipped::Breaker);
        }
        if state.second.0 != now.as_secs() {
            state.second = (now.as_secs(), 0);
        }
        if rps <= state.second.1 {
            return Err(Skipped::Budget);
        }
        state.second.1 += 1;
        Ok(())
    }

    /// For how long nobody is asked.
    pub(super) fn shut_for(&self, now: UnixTime) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.shut.since(now)
    }

    /// There was an answer.
    pub(super) fn answered(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failures = 0;
    }

    /// There was none: after so many in a row it is left alone for a while.
    pub(super) fn failed(&self, breaker: Breaker, now: UnixTime) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures += 1;
        if breaker.failures <= state.failures {
            state.failures = 0;
            state.shut = now + breaker.open_for;
        }
    }
}
