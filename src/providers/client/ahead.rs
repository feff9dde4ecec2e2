//! How far a provider's clock may be ahead of ours: what it issued before a revocation looks younger than that by as much.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::providers::Deps;
use crate::providers::client::date::Offset;
use crate::providers::client::date::TOLERANCE;
use crate::telemetry::Metrics;

/// Nobody has heard of its clock yet: it may be ahead by as much as is tolerated.
const UNKNOWN: u64 = u64::MAX;

/// The most that a provider's clock was seen to be ahead. It never shrinks while the provider is as it is: what was issued before
/// its clock was set right is still about.
pub(in crate::providers) struct Ahead {
    clock: Arc<dyn Clock>,
    /// By the dates of answers, in milliseconds.
    by_date: AtomicU64,
    /// By what tokens say that came before they were issued, in milliseconds.
    by_tokens: AtomicU64,
    /// Who is told, and whose clock it is.
    told: Option<(Arc<Metrics>, ProviderId)>,
}

impl Ahead {
    /// Of a clock that nobody has seen.
    pub(in crate::providers) fn unknown(clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            by_date: AtomicU64::new(UNKNOWN),
            by_tokens: AtomicU64::new(0),
            told: None,
        }
    }

    /// The same, of which it is told how far it is ahead.
    pub(in crate::providers) fn of(provider: &ProviderId, deps: &Deps) -> Self {
        Self {
            told: Some((Arc::clone(&deps.metrics), provider.clone())),
            ..Self::unknown(&deps.clock)
        }
    }

    /// Tells by how much it was ahead at the most, as far as anybody has seen.
    fn tell(&self) {
        if let Some((metrics, provider)) = &self.told {
            let by_date = self.by_date.load(Ordering::Acquire);
            let seen = Some(by_date).filter(|by| *by != UNKNOWN).unwrap_or(0);
            let seen = seen.max(self.by_tokens.load(Ordering::Acquire));
            metrics.clock_ahead(provider, Duration::from_millis(seen).as_secs_f64());
        }
    }

    fn most(&self) -> Duration {
        let by_date = self.by_date.load(Ordering::Acquire);
        Duration::from_millis(by_date.max(self.by_tokens.load(Ordering::Acquire)))
    }

    /// What the date of an answer says.
    pub(super) fn heard(&self, offset: Offset) {
        let by = match offset {
            Offset::None | Offset::Behind(_) => 0,
            // Whole seconds hide up to one more.
            Offset::Ahead(by) => millis(by + TOLERANCE),
        };
        let more = |seen: u64| (seen == UNKNOWN || seen < by).then_some(by);
        let changed = self
            .by_date
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        if changed.is_ok() {
            self.tell();
        }
    }

    /// When a token was issued by our clock, at the earliest: it says `issued`, and is judged as of `now`. A token tells of its
    /// issuer's clock too, where that is not the one that answers for it.
    pub(in crate::providers) fn at_the_earliest(
        &self,
        issued: UnixTime,
        leeway: Duration,
        now: UnixTime,
    ) -> UnixTime {
        if issued <= now {
            return issued - self.most().min(leeway);
        }
        // Judged as of an earlier moment than this one, perhaps: when its provider was asked for it, or in an exercise.
        let here = self.clock.now();
        let early = issued.since(here);
        if !early.is_zero() {
            let by = millis(early + TOLERANCE);
            if self.by_tokens.fetch_max(by, Ordering::AcqRel) < by {
                self.tell();
            }
        }
        (issued - self.most().min(leeway)).min(here)
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ahead").field(&self.most()).finish()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(UNKNOWN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const LEEWAY: Duration = Duration::from_secs(30);

    struct World {
        ahead: Ahead,
    }

    /// It is second 1000.
    fn world() -> World {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(UnixTime::from_secs(1_000)));
        World {
            ahead: Ahead::unknown(&clock),
        }
    }

    impl World {
        fn began(&self, issued: u64, now: u64) -> u64 {
            let at = UnixTime::from_secs;
            let began = self.ahead.at_the_earliest(at(issued), LEEWAY, at(now));
            began.as_secs()
        }
    }

    #[test]
    fn a_clock_that_nobody_has_seen_may_be_ahead_by_the_leeway() {
        let world = world();
        assert_eq!(world.began(1_000, 1_000), 970);
        // A token proves nothing about the others.
        assert_eq!(world.began(1_005, 1_000), 975);
        assert_eq!(world.began(1_000, 1_000), 970);
        // Nor does the date of an answer that another machine gives take it back.
        world.ahead.heard(Offset::None);
        assert_eq!(world.began(1_000, 1_000), 994);
    }

    #[test]
    fn the_most_that_a_clock_was_ahead_counts_within_the_leeway() {
        let world = world();
        world.ahead.heard(Offset::None);
        assert_eq!(world.began(1_000, 1_000), 1_000);
        world.ahead.heard(Offset::Ahead(Duration::from_secs(19)));
        assert_eq!(world.began(1_000, 1_000), 980);
        // Its clock is set right; what it issued before is as it was.
        for offset in [Offset::None, Offset::Behind(LEEWAY)] {
            world.ahead.heard(offset);
        }
        assert_eq!(world.began(1_000, 1_000), 980);
        let day = Duration::from_secs(86_400);
        world.ahead.heard(Offset::Ahead(day));
        assert_eq!(
            world.began(1_000, 1_000),
            970,
            "no further than tokens may be"
        );
    }

    #[test]
    fn a_token_from_the_future_tells_of_its_clock_and_is_no_younger_than_now() {
        let world = world();
        world.ahead.heard(Offset::None);
        // An exercise, and a provider that has taken its time.
        assert_eq!(world.began(1_000, 920), 1_000);
        assert_eq!(world.began(995, 990), 995);
        assert_eq!(world.began(1_010, 1_000), 999);
        assert_eq!(
            world.began(1_000, 1_000),
            989,
            "one that is presented later"
        );
        // A clock that is off by more than is tolerated.
        assert_eq!(world.began(1_100, 1_000), 1_000);
    }

    #[tokio::test]
    async fn how_far_it_is_ahead_is_told() {
        let deps = Deps::for_test();
        let ahead = Ahead::of(&ProviderId::new("new"), &deps);
        let told = || {
            let text = deps.metrics.render().unwrap();
            let name = "authferry_provider_clock_ahead_seconds{provider=\"new\"} ";
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        assert_eq!(told(), None, "nobody has seen it");
        ahead.heard(Offset::None);
        assert_eq!(told().as_deref(), Some("0"));
        ahead.heard(Offset::Ahead(Duration::from_secs(19)));
        assert_eq!(told().as_deref(), Some("20"));
        ahead.heard(Offset::None);
        assert_eq!(told().as_deref(), Some("20"));
        let here = deps.clock.now();
        let early = here + Duration::from_secs(24);
        ahead.at_the_earliest(early, LEEWAY, here);
        assert_eq!(told().as_deref(), Some("25"));
    }
}
