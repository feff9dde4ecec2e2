//! The revocations in force, as every request sees them: shards that are replaced, never locked by a reader.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use crate::clock::UnixTime;
use crate::identity::Mark;
use crate::revocation::record::RevocationId;

/// A write copies one shard, so there are many: with as many revocations as there may be, each holds about forty.
const SHARDS: usize = 1 << 15;

/// Revocations that can be in force at once. One more is refused, and with it what asked for it: 1 250 000.
pub(super) const MAX_ENTRIES: usize = 1_250_000;

/// What is denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) id: RevocationId,
    /// Denies what began then or before.
    pub(super) not_before: UnixTime,
    /// Denies also what does not say when it began.
    pub(super) undated: bool,
    /// Until when it is in force.
    pub(super) expires: UnixTime,
    /// Nobody will lift it, so it may give way to one that denies all it denies.
    pub(super) merges: bool,
    /// A provider has barred the account: no other door opens to its person.
    pub(super) bars: bool,
}

impl Entry {
    const fn denies(&self, began: Option<UnixTime>, now: UnixTime) -> bool {
        let over = self.expires.as_millis() <= now.as_millis();
        let meant = match began {
            Some(began) => began.as_millis() <= self.not_before.as_millis(),
            None => self.undated,
        };
        !over && meant
    }

    /// Whether `self` is of no use beside `other`.
    fn is_within(&self, other: &Self) -> bool {
        self.merges
            && other.merges
            && self.not_before <= other.not_before
            && self.expires <= other.expires
            && (other.undated || !self.undated)
    }
}

type Shard = HashMap<Mark, Vec<Entry>, BuildHasherDefault<MarkHasher>>;

/// The revocations in force.
pub(crate) struct Index {
    shards: Vec<ArcSwap<Shard>>,
    /// Raised by every change: what was seen under an earlier one is looked up again.
    epoch: AtomicU64,
    /// Whether what the store holds has been read. Before that, nothing is known to hold.
    ready: AtomicBool,
    entries: AtomicUsize,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

impl Index {
    pub(super) fn new() -> Self {
        let none = Arc::new(Shard::default());
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::new(none.clone())).collect(),
            epoch: AtomicU64::new(1),
            ready: AtomicBool::new(false),
            entries: AtomicUsize::new(0),
        }
    }

    /// The present state: one load.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether anything is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether one of `marks` is revoked for what began at `began`.
    pub(super) fn denies(&self, marks: &[Mark], began: Option<UnixTime>, now: UnixTime) -> bool {
        marks.iter().any(|mark| {
            let Some(shard) = self.shard(mark) else {
                return true;
            };
            let shard = shard.load();
            shard
                .get(mark)
                .is_some_and(|entries| entries.iter().any(|entry| entry.denies(began, now)))
        })
    }

    /// Whether one of `marks` is barred by a provider. Asked of what is denied only.
    pub(super) fn bars(&self, marks: &[Mark], now: UnixTime) -> bool {
        let bars = |entry: &Entry| entry.bars && now < entry.expires;
        marks
            .iter()
            .filter_map(|mark| Some((mark, self.shard(mark)?)))
            .any(|(mark, shard)| {
                let shard = shard.load();
                shard
                    .get(mark)
                    .is_some_and(|entries| entries.iter().any(bars))
            })
    }

    /// What ends this for good, at least until then.
    pub(super) fn ending(&self, mark: &Mark, until: UnixTime) -> Vec<RevocationId> {
        let Some(shard) = self.shard(mark) else {
            return Vec::new();
        };
        let shard = shard.load();
        let entries = shard.get(mark).into_iter().flatten();
        entries
            .filter(|entry| entry.undated && entry.not_before == UnixTime::NEVER)
            .filter(|entry| until <= entry.expires)
            .map(|entry| entry.id)
            .collect()
    }

    /// How many are in force.
    pub(super) fn len(&self) -> usize {
        self.entries.load(Ordering::Acquire)
    }

    /// Whether nothing is in force.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an entry under each mark, then raises the epoch. Only one caller at a time: writers take turns elsewhere.
    pub(super) fn add(&self, marks: &[Mark], entry: Entry) -> Result<(), Full> {
        if MAX_ENTRIES < self.len().saturating_add(marks.len()) {
            return Err(Full);
        }
        for mark in marks {
            self.change(mark, |entries| {
                if entries.iter().any(|old| old.id == entry.id) {
                    return;
                }
                if entries.iter().any(|old| entry.is_within(old)) {
                    return;
                }
                entries.retain(|old| !old.is_within(&entry));
                entries.push(entry);
            });
        }
        self.raise();
        Ok(())
    }

    /// Takes a revocation out.
    pub(super) fn remove(&self, marks: &[Mark], id: RevocationId) {
        for mark in marks {
            self.change(mark, |entries| entries.retain(|entry| entry.id != id));
        }
        self.raise();
    }

    /// Forgets what is no longer in force.
    pub(super) fn sweep(&self, now: UnixTime) {
        for place in &self.shards {
            let shard = place.load();
            let over = |entry: &Entry| entry.expires <= now;
            if !shard.values().flatten().any(over) {
                continue;
            }
            let mut next = Shard::clone(&shard);
            let mut gone = 0;
            next.retain(|_, entries| {
                let before = entries.len();
                entries.retain(|entry| !over(entry));
                gone += before - entries.len();
                !entries.is_empty()
            });
            place.store(Arc::new(next));
            self.entries.fetch_sub(gone, Ordering::AcqRel);
        }
    }

    fn change(&self, mark: &Mark, change: impl FnOnce(&mut Vec<Entry>)) {
        let Some(place) = self.shard(mark) else {
            return;
        };
        let mut next = Shard::clone(&place.load());
        let entries = next.entry(*mark).or_default();
        let before = entries.len();
        change(entries);
        let after = entries.len();
        if after == 0 {
            next.remove(mark);
        }
        place.store(Arc::new(next));
        if before <= after {
            self.entries.fetch_add(after - before, Ordering::AcqRel);
        } else {
            self.entries.fetch_sub(before - after, Ordering::AcqRel);
        }
    }

    fn raise(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn shard(&self, mark: &Mark) -> Option<&ArcSwap<Shard>> {
        let place = usize::from(u16::from_be_bytes(mark.first_bytes()));
        self.shards.get(place % SHARDS)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("entries", &self.len())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

/// Marks are digests already. The first two bytes chose the shard; eight others are as good as any hash.
#[derive(Debug, Default)]
pub(super) struct MarkHasher(u64);

impl std::hash::Hasher for MarkHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some((_, rest)) = bytes.split_first_chunk::<2>()
            && let Some(eight) = rest.first_chunk()
        {
            self.0 = u64::from_le_bytes(*eight);
        }
    }

    // `[u8; 32]` hashes its length first; the digest that follows is what counts.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    fn entry(id: u8, not_before: u64, expires: u64) -> Entry {
        Entry {
            id: RevocationId::from_bytes([id; 16]),
            not_before: at(not_before),
            undated: false,
            expires: at(expires),
            merges: true,
            bars: false,
        }
    }

    #[test]
    fn what_began_before_is_denied_until_the_entry_ends() {
        let index = Index::new();
        let (one, other) = (Mark::sid("i", "1"), Mark::sid("i", "2"));
        index.add(&[one], entry(1, 10, 100)).unwrap();
        assert!(index.denies(&[other, one], Some(at(10)), at(50)));
        assert!(!index.denies(&[one], Some(at(11)), at(50)));
        assert!(!index.denies(&[one], Some(at(10)), at(100)));
        assert!(!index.denies(&[one], None, at(50)));
        assert!(!index.denies(&[other], Some(at(1)), at(50)));
        let undated = Entry {
            undated: true,
            ..entry(2, 10, 100)
        };
        index.add(&[one], undated).unwrap();
        assert!(index.denies(&[one], None, at(50)));
    }

    #[test]
    fn every_change_is_seen_in_the_epoch() {
        let index = Index::new();
        let mark = Mark::sid("i", "1");
        let first = index.epoch();
        index.add(&[mark], entry(1, 10, 100)).unwrap();
        let second = index.epoch();
        assert_ne!(first, second);
        index.remove(&[mark], RevocationId::from_bytes([1; 16]));
        assert_ne!(index.epoch(), second);
        assert!(!index.denies(&[mark], Some(at(10)), at(50)));
        assert_eq!(index.len(), 0);
    }

    /// Each one that is added copies what stands beside it, so of many none may stand beside many.
    #[test]
    fn many_are_spread_evenly() {
        let index = Index::new();
        for n in 0..SHARDS {
            let mark = Mark::sid("i", &n.to_string());
            index.add(&[mark], entry(1, 10, 100)).unwrap();
        }
        assert_eq!(index.len(), SHARDS);
        let shards = index.shards.iter().map(|shard| shard.load().len());
        assert!(shards.max().unwrap() <= 10);
    }

    #[test]
    fn many_logouts_of_one_person_are_one_entry_and_deny_all_they_denied() {
        let index = Index::new();
        let mark = Mark::sid("i", "1");
        for n in 0..50 {
            index
                .add(&[mark], entry(n, u64::from(n), 100 + u64::from(n)))
                .unwrap();
        }
        assert_eq!(index.len(), 1);
        assert!(index.denies(&[mark], Some(at(49)), at(148)));
        // One that ends later but began earlier stays beside it.
        index.add(&[mark], entry(60, 5, 500)).unwrap();
        assert_eq!(index.len(), 2);
        assert!(index.denies(&[mark], Some(at(5)), at(400)));
        assert!(!index.denies(&[mark], Some(at(6)), at(400)));
    }

    #[test]
    fn what_an_operator_can_lift_never_gives_way() {
        let index = Index::new();
        let mark = Mark::sid("i", "1");
        let lasting = Entry {
            merges: false,
            ..entry(1, 10, 100)
        };
        index.add(&[mark], lasting).unwrap();
        index.add(&[mark], entry(2, 20, 200)).unwrap();
        index.remove(&[mark], RevocationId::from_bytes([2; 16]));
        assert!(index.denies(&[mark], Some(at(10)), at(50)));
    }

    #[test]
    fn entries_that_are_over_are_forgotten() {
        let index = Index::new();
        let marks = [Mark::sid("i", "1"), Mark::sid("i", "2")];
        index.add(&marks, entry(1, 10, 100)).unwrap();
        index.add(&marks[..1], entry(2, 10, 200)).unwrap();
        assert_eq!(
            index.len(),
            2,
            "the longer one took the place of the shorter"
        );
        index.sweep(at(100));
        assert_eq!(index.len(), 1);
        assert!(index.denies(&marks[..1], Some(at(10)), at(150)));
    }
}
