//! What a worker keeps for a while, by digest: bounded in number, and let go once it counts no more.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::hash::Hasher;

use quick_cache::OptionsBuilder;
use quick_cache::UnitWeighter;
use quick_cache::unsync::Cache;
use quick_cache::unsync::DefaultLifecycle;

use crate::clock::UnixTime;
use crate::proxy::verdicts::Digest;

/// How many are looked at whether they are over, whenever one is added: more than one, so that what is over becomes less,
/// and few, so that no request waits for many to be dropped.
const LOOKS: usize = 4;

/// From when until when something counts: a clock that was set back knows nothing of what was made later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) since: UnixTime,
    pub(super) until: UnixTime,
}

impl Span {
    fn holds(self, now: UnixTime) -> bool {
        self.since <= now && now < self.until
    }
}

/// Values, each with the time in which it counts.
///
/// The cache alone would keep what is over until it is full: with most credentials seen for a few minutes and never again,
/// that is nearly all of it, and each entry holds whatever it rests on, such as a session that has ended.
pub(super) struct Kept<V> {
    all: Cache<Digest, (Span, V), UnitWeighter, DigestHasher>,
    /// In the order in which they were added. What took the place of another is there twice; what was removed is there, too.
    ages: VecDeque<(Span, Digest)>,
    most: usize,
}

impl<V> Kept<V> {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(most)
            .weight_capacity(most as u64)
            .build()
            .expect("both sizes are given");
        let all = Cache::with_options(
            options,
            UnitWeighter,
            DigestHasher,
            DefaultLifecycle::default(),
        );
        Self {
            all,
            ages: VecDeque::new(),
            most,
        }
    }

    /// What is kept under this name, if it counts.
    pub(super) fn get(&self, digest: &Digest, now: UnixTime) -> Option<&V> {
        let (span, value) = self.all.get(digest)?;
        span.holds(now).then_some(value)
    }

    /// Keeps something from now on; what is over by now goes.
    pub(super) fn insert(&mut self, digest: Digest, span: Span, value: V) {
        let now = span.since;
        for _ in 0..LOOKS {
            let Some((_, old)) = self.ages.front().filter(|(span, _)| !span.holds(now)) else {
                break;
            };
            // It may have been kept anew.
            self.all.remove_if(old, |(span, _)| !span.holds(now));
            self.ages.pop_front();
        }
        // So many within the time for which they are kept that the cache lets others go by itself.
        if self.most <= self.ages.len() {
            self.ages.pop_front();
        }
        self.ages.push_back((span, digest));
        self.all.insert(digest, (span, value));
    }

    /// Keeps it no longer.
    pub(super) fn remove(&mut self, digest: &Digest) {
        self.all.remove(digest);
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

/// Keys are digests already: their first eight bytes are as good as any hash of them.
#[derive(Clone, Copy, Debug, Default)]
struct DigestHasher;

impl BuildHasher for DigestHasher {
    type Hasher = FirstEight;

    fn build_hasher(&self) -> FirstEight {
        FirstEight(0)
    }
}

/// Takes the first eight bytes of what it is given last.
#[derive(Clone, Copy, Debug)]
struct FirstEight(u64);

impl Hasher for FirstEight {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // `[u8; 16]` hashes its length first; the digest that follows is what counts.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000_000 + seconds)
    }

    fn digest(number: u64) -> Digest {
        let mut digest = Digest::default();
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    fn minute(now: UnixTime) -> Span {
        Span {
            since: now,
            until: now + MINUTE,
        }
    }

    #[test]
    fn what_is_over_goes_long_before_there_is_no_room() {
        let mut kept = Kept::new(10_000);
        let rests_on = Rc::new(());
        // Ten new ones in a second, each used in that minute alone.
        for second in 0..900 {
            for n in 0..10 {
                let span = minute(at(second));
                kept.insert(digest(second * 10 + n), span, Rc::clone(&rests_on));
            }
        }
        assert_eq!(kept.len(), 600);
        assert_eq!(Rc::strong_count(&rests_on), 601, "nothing else is held");
        assert_eq!(kept.ages.len(), 600);
        assert!(kept.get(&digest(8_399), at(899)).is_none());
        assert!(kept.get(&digest(8_400), at(899)).is_some());
    }

    #[test]
    fn what_was_kept_anew_stays() {
        let mut kept = Kept::new(100);
        kept.insert(digest(1), minute(at(0)), "first");
        kept.insert(digest(1), minute(at(50)), "second");
        // The first has run out by now.
        kept.insert(digest(2), minute(at(61)), "other");
        assert_eq!(kept.get(&digest(1), at(61)), Some(&"second"));
        kept.remove(&digest(1));
        kept.insert(digest(3), minute(at(62)), "other");
        assert!(kept.get(&digest(1), at(62)).is_none());
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn a_shorter_life_behind_a_longer_one_ends_for_whoever_asks_and_goes_with_that_one() {
        let mut kept = Kept::new(100);
        kept.insert(digest(1), minute(at(0)), ());
        let short = Span {
            since: at(1),
            until: at(5),
        };
        kept.insert(digest(2), short, ());
        assert!(kept.get(&digest(2), at(5)).is_none());
        kept.insert(digest(3), minute(at(60)), ());
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nothing_from_going() {
        let mut kept = Kept::new(1_000);
        let day = 24 * 3_600;
        for n in 0..100 {
            kept.insert(digest(n), minute(at(day)), ());
        }
        assert!(kept.get(&digest(1), at(0)).is_none());
        for n in 0..200 {
            kept.insert(digest(1_000 + n), minute(at(n)), ());
        }
        assert_eq!(kept.len(), 60);
    }

    #[test]
    fn more_than_there_is_room_for_is_not_kept() {
        let mut kept = Kept::new(100);
        for n in 0..10_000 {
            kept.insert(digest(n), minute(at(0)), ());
        }
        assert!(kept.len() <= 100 && 50 <= kept.len());
        assert_eq!(kept.ages.len(), 100);
    }

    #[test]
    fn a_digest_spreads_over_the_table() {
        assert_ne!(
            DigestHasher.hash_one(digest(1)),
            DigestHasher.hash_one(digest(0))
        );
    }
}
