//! How often a provider may be asked for its keys: at most so often, whoever wants it and however the answers are.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Between two fetches that unknown keys caused.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(10);

/// However many reasons there are, so many fetches at most begin within [`COOL_DOWN`]: also while the provider fails.
const MAX_FETCHES: usize = 2;

/// Which fetches began, and when.
#[derive(Debug, Default)]
pub(super) struct Gate {
    started: u64,
    /// When an unknown key last caused a fetch, and the number of that fetch.
    forced: Option<(Instant, u64)>,
    /// When the last fetches began, or ended where they have, that asked the provider; the oldest first.
    begun: VecDeque<Instant>,
}

impl Gate {
    /// The fetch that a token with an unknown key waits for: its number, and whether it must still be begun.
    pub(super) fn ask(&mut self, finished: u64, now: Instant) -> (u64, bool) {
        if let Some((at, number)) = self.forced
            && (finished < number || now.saturating_duration_since(at) < COOL_DOWN)
        {
            return (number, false);
        }
        if self.closed_until(now).is_some() {
            // Nobody waits for a fetch that may not begin yet: the last one says how it stands.
            return (self.started, false);
        }
        let number = self.started + 1;
        self.forced = Some((now, number));
        (number, true)
    }

    /// The fetch that speaks for every token with an unknown key until the cool-down is over.
    pub(super) fn speaks(&self, now: Instant) -> Option<u64> {
        let (at, number) = self.forced?;
        (now.saturating_duration_since(at) < COOL_DOWN).then_some(number)
    }

    /// When the next fetch may begin, if not at once.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        let full = MAX_FETCHES <= self.begun.len();
        let oldest = self.begun.front().filter(|_| full)?;
        Some(*oldest + COOL_DOWN).filter(|until| now < *until)
    }

    /// A fetch begins: of the provider, or of nothing where its address is not known yet.
    pub(super) fn begin(&mut self, asks: bool, now: Instant) {
        self.started += 1;
        if asks {
            self.begun.push_back(now);
        }
        if MAX_FETCHES < self.begun.len() {
            self.begun.pop_front();
        }
    }

    /// That fetch is over: the time runs from here, because the provider may have been reached at any moment before.
    pub(super) fn end(&mut self, asked: bool, now: Instant) {
        if asked && let Some(last) = self.begun.back_mut() {
            *last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fetches_begin_within_the_cool_down_and_nobody_waits_for_a_third() {
        let (zero, second) = (Instant::now(), Duration::from_secs(1));
        let mut gate = Gate::default();
        gate.begin(true, zero);
        assert_eq!(gate.closed_until(zero), None);
        gate.begin(true, zero + second);
        let open = zero + COOL_DOWN;
        assert_eq!(gate.closed_until(zero + second), Some(open));
        assert_eq!(gate.ask(1, zero + second), (2, false), "the one under way");
        assert_eq!(gate.ask(2, open - second), (2, false), "the last one");
        assert_eq!(gate.closed_until(open), None);
        assert_eq!(gate.ask(2, open), (3, true));
        gate.begin(true, open);
        assert_eq!(gate.closed_until(open), Some(zero + second + COOL_DOWN));
    }

    #[test]
    fn a_slow_first_fetch_does_not_let_the_third_come_early() {
        let (zero, second) = (Instant::now(), Duration::from_secs(1));
        let mut gate = Gate::default();
        gate.begin(true, zero);
        gate.end(true, zero + 3 * second);
        gate.begin(true, zero + 4 * second);
        assert_eq!(
            gate.closed_until(zero + COOL_DOWN),
            Some(zero + 3 * second + COOL_DOWN)
        );
    }

    #[test]
    fn what_asks_nobody_uses_nothing_up() {
        let now = Instant::now();
        let mut gate = Gate::default();
        for _ in 0..5 {
            gate.begin(false, now);
        }
        assert_eq!(gate.closed_until(now), None);
        assert_eq!(gate.ask(5, now), (6, true));
        assert_eq!(gate.ask(5, now), (6, false), "one for all");
        assert_eq!(gate.speaks(now), Some(6));
        assert_eq!(gate.speaks(now + COOL_DOWN), None);
    }
}
