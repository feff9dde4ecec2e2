//! What time it is. The only module that asks the operating system.
//!
//! Everything else takes `now: UnixTime` as an argument, so a test can say which moment it means.

use std::fmt;
use std::io;
use std::ops::Add;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde::Serialize;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// From whole seconds, as in the claims of RFC 7519 §2 (`NumericDate`).
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> UnixTime;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        #[expect(clippy::disallowed_methods, reason = "this is the one caller")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        UnixTime(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A clock that stands still until it is moved: for tests, drills and coarse readings kept by a ticker.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: UnixTime) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    /// Shows `now` from here on.
    pub fn set(&self, now: UnixTime) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Moves forward by `span`.
    pub fn advance(&self, span: Duration) {
        self.set(self.now() + span);
    }

    /// Shows what `clock` shows, read once in a `tick`, until nobody has this one any more. A thread of its own does that: a
    /// runtime whose tasks are busy would come to it late.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn follow(&self, clock: Arc<dyn Clock>, tick: Duration) -> io::Result<()> {
        let shown = Arc::downgrade(&self.0);
        thread::Builder::new().name("clock".into()).spawn(move || {
            while let Some(shown) = shown.upgrade() {
                Self(shown).set(clock.now());
                thread::sleep(tick);
            }
        })?;
        Ok(())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::Relaxed))
    }
}

/// A clock that runs faster than the system's, by a factor that may change, and can be held: for drills.
#[derive(Clone, Debug)]
pub struct ScaledClock(Arc<Mutex<Scale>>);

#[derive(Debug)]
struct Scale {
    /// What the system's clock showed when the factor was set …
    real: UnixTime,
    /// … and what this one showed.
    shown: UnixTime,
    factor: u32,
    held: bool,
}

impl ScaledClock {
    /// A clock that shows the present, and runs on by `factor`.
    pub fn new(factor: u32) -> Self {
        let now = SystemClock.now();
        Self(Arc::new(Mutex::new(Scale {
            real: now,
            shown: now,
            factor,
            held: false,
        })))
    }

    /// Runs on by another factor. It never jumps.
    pub fn set(&self, factor: u32) {
        self.change(|scale| scale.factor = factor);
    }

    /// Stands still, or runs on by its factor.
    pub fn hold(&self, held: bool) {
        self.change(|scale| scale.held = held);
    }

    fn change(&self, change: impl FnOnce(&mut Scale)) {
        let mut scale = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let real = SystemClock.now();
        scale.shown = scale.at(real);
        scale.real = real;
        change(&mut scale);
    }
}

impl Scale {
    fn at(&self, real: UnixTime) -> UnixTime {
        if self.held {
            return self.shown;
        }
        self.shown + real.since(self.real) * self.factor
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> UnixTime {
        let scale = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        scale.at(SystemClock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(UnixTime::NEVER + Duration::from_secs(1), UnixTime::NEVER);
        assert_eq!(
            UnixTime::from_secs(1) - Duration::from_secs(2),
            UnixTime::from_secs(0)
        );
        assert_eq!(
            UnixTime::from_secs(1).since(UnixTime::from_secs(3)),
            Duration::ZERO
        );
    }

    #[test]
    fn a_scaled_clock_runs_on_from_where_it_is() {
        let clock = ScaledClock::new(0);
        let begun = clock.now();
        clock.set(1_000_000);
        while clock.now() < begun + Duration::from_secs(1_000) {
            thread::yield_now();
        }
        clock.hold(true);
        let stopped = clock.now();
        assert!(begun + Duration::from_secs(1_000) <= stopped);
        thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), stopped);
        clock.hold(false);
        while clock.now() < stopped + Duration::from_secs(1_000) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_clock_follows_another_one_until_nobody_reads_it() {
        let exact = ManualClock::at(UnixTime::from_secs(10));
        let coarse = ManualClock::at(UnixTime::from_secs(1));
        let tick = Duration::from_millis(1);
        coarse.follow(Arc::new(exact.clone()), tick).unwrap();
        for seconds in [10, 20] {
            exact.set(UnixTime::from_secs(seconds));
            while coarse.now() != exact.now() {
                thread::yield_now();
            }
        }
        drop(coarse);
        // Its thread has the other one no longer.
        while 1 < Arc::strong_count(&exact.0) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(UnixTime::from_secs(10));
        assert_eq!(clock.now().as_secs(), 10);
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now().as_millis(), 11_500);
    }
}
