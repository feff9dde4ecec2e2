//! How long what the store has said of links counts in memory.

use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::UnixTime;
use crate::links::table::Links;
use crate::store::Sight;

/// A minute without asking, as long as this instance is told what others decide.
const FRESH: Duration = Duration::from_mins(1);
/// What was true a minute ago counts for so long more while the store gives no answer: who was let in by a signed token
/// comes in without it. As long as keys count that nobody can fetch anew.
const AWAY: Duration = Duration::from_hours(24);

/// When the store said something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Until then it counts unasked,
    until: UnixTime,
    /// unless everything had to be asked anew since.
    missed: u64,
}

impl Said {
    /// Whether it still counts where the store gives no answer.
    pub(super) fn holds(self, now: UnixTime) -> bool {
        now < self.until + AWAY
    }
}

impl Links {
    /// Of what the store is about to be asked for: what is missed meanwhile counts.
    pub(super) fn asking(&self, now: UnixTime) -> Said {
        Said {
            until: now + FRESH,
            missed: self.missed.load(Ordering::Acquire),
        }
    }

    /// Whether something counts without asking again.
    pub(super) fn is_fresh(&self, said: Said, now: UnixTime) -> bool {
        now < said.until && said.missed == self.missed.load(Ordering::Acquire) && self.hears()
    }

    /// News may have been missed: everything is asked anew, and counts on only while there is no answer. A store that goes
    /// away twice finds the same people known.
    pub(super) fn ask_anew(&self) {
        self.missed.fetch_add(1, Ordering::AcqRel);
    }

    /// Before something is read that may be kept.
    pub(super) fn reading(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// Keeps what was read, unless it may have changed since.
    pub(super) fn keep<K, V>(&self, kept: &Cache<K, V>, key: &K, value: V, reading: u64)
    where
        K: Clone + Eq + Hash,
        V: Clone,
    {
        kept.insert(key.clone(), value);
        // Whoever raises this forgets afterwards: one of the two sees the other.
        if self.told.load(Ordering::SeqCst) != reading {
            kept.remove(key);
        }
    }

    /// Whether this instance would have been told of what others decide.
    pub(super) fn hears(&self) -> bool {
        match self.store.sight() {
            Sight::Alone | Sight::Told => true,
            // While nobody answers, the store is asked, and what was true counts: see `held`.
            Sight::Deaf | Sight::Away => false,
        }
    }

    /// What is kept in memory is asked for anew.
    pub(crate) fn forget_what_is_kept(&self) {
        self.told.fetch_add(1, Ordering::SeqCst);
        self.kept.clear();
        self.subjects.clear();
        self.sights.clear();
        self.noted.clear();
    }
}
