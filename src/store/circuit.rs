//! When a store that fails is not asked any more: after 5 failures in one second, until a probe is answered.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

/// So many failures open it: 5.
const FAILURES: usize = 5;
/// Within this time: 1 s.
const WITHIN: Duration = Duration::from_secs(1);

/// Open or closed. It has no half-open position: the one call that may try is the probe's.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    open: AtomicBool,
    failures: Mutex<VecDeque<Instant>>,
}

impl Circuit {
    /// Whether nobody may ask.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Counts a failure; `true`: this one opened it.
    pub(super) fn failed(&self, at: Instant) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push_back(at);
        if FAILURES < failures.len() {
            failures.pop_front();
        }
        let full = failures.len() == FAILURES;
        let first = failures.front().copied();
        let many = full && first.is_some_and(|first| at.duration_since(first) <= WITHIN);
        many && !self.open.swap(true, Ordering::AcqRel)
    }

    /// Opens it without counting: what is asked of has gone. `true`: it was closed.
    pub(super) fn opens(&self) -> bool {
        !self.open.swap(true, Ordering::AcqRel)
    }

    /// A probe was answered. `true`: it was open.
    pub(super) fn closes(&self) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.clear();
        self.open.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_failures_within_a_second_open_it_and_a_probe_closes_it() {
        let circuit = Circuit::default();
        for _ in 0..20 {
            tokio::time::advance(Duration::from_millis(251)).await;
            assert!(
                !circuit.failed(Instant::now()),
                "five in more than a second"
            );
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        for _ in 0..4 {
            assert!(!circuit.failed(Instant::now()));
            tokio::time::advance(Duration::from_millis(250)).await;
        }
        assert!(!circuit.is_open());
        assert!(circuit.failed(Instant::now()));
        assert!(circuit.is_open());
        assert!(!circuit.failed(Instant::now()), "it is open already");
        assert!(circuit.closes());
        assert!(!circuit.is_open() && !circuit.closes());
        assert!(!circuit.failed(Instant::now()), "a new count");
    }
}
