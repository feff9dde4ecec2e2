//! How many calls a second a provider gets from here: one more waits for its turn, shortly, and is then an outage.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::identity::Outage;

/// How far calls may run ahead of their even distance: at most a tenth of a second's worth comes at once.
const BURST: Duration = Duration::from_millis(100);

/// The calls of one provider, in turn. Who waits holds a turn, so no more can wait than there are turns in the longest wait.
#[derive(Debug)]
pub(in crate::providers) struct Pace {
    /// The distance of two calls.
    step: Duration,
    longest: Duration,
    /// When the next call is due, were all evenly spread.
    due: Mutex<Instant>,
}

impl Pace {
    /// So many calls a second, of which none waits for longer than this. `None`: as many as come.
    pub(in crate::providers) fn new(per_second: Option<u32>, longest: Duration) -> Option<Self> {
        let step = Duration::from_secs(1).checked_div(per_second?)?;
        Some(Self {
            step,
            longest,
            due: Mutex::new(Instant::now()),
        })
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// When that would take too long.
    pub(in crate::providers) async fn turn(&self, deadline: Instant) -> Result<(), Outage> {
        let at = self.take(Instant::now(), deadline).ok_or(Outage::Shed)?;
        sleep_until(at).await;
        Ok(())
    }

    /// When the turn of a call is that comes now.
    fn take(&self, now: Instant, deadline: Instant) -> Option<Instant> {
        // One moment, right by itself: a panic elsewhere does not spoil it.
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*due).max(now);
        let ahead = turn.saturating_duration_since(now);
        let wait = ahead.saturating_sub(BURST.saturating_sub(self.step));
        if self.longest < wait || deadline.saturating_duration_since(now) < wait {
            return None;
        }
        *due = turn + self.step;
        Some(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn calls_come_as_often_as_allowed_and_one_more_waits_or_is_refused() {
        let pace = Pace::new(Some(50), SECOND).unwrap();
        let began = Instant::now();
        let far = began + 60 * SECOND;
        let mut turns = Vec::new();
        while let Some(turn) = pace.take(began, far) {
            turns.push(turn - began);
        }
        // Five at once, then one every 20 ms for the second that one may wait.
        assert_eq!(turns.iter().filter(|turn| turn.is_zero()).count(), 5);
        assert_eq!(turns.len(), 5 + 50);
        assert_eq!(turns.last(), Some(&SECOND));
        // A second later there is room for as many as a second has.
        let later = began + SECOND;
        let mut more = 0;
        while pace.take(later, far).is_some() {
            more += 1;
        }
        assert_eq!(more, 50);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_the_time_of_the_call() {
        let pace = Pace::new(Some(1), 10 * SECOND).unwrap();
        let began = Instant::now();
        assert!(pace.turn(began).await.is_ok(), "the first is due now");
        let soon = began + SECOND / 2;
        assert_eq!(pace.turn(soon).await, Err(Outage::Shed));
        pace.turn(began + 2 * SECOND).await.unwrap();
        assert_eq!(began.elapsed(), SECOND, "it has waited for its turn");
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        assert!(Pace::new(None, SECOND).is_none());
    }
}
