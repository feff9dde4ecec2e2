//! What is kept of links in memory beside the store, and when it is asked for anew.

use std::hash::Hash;
use std::sync::atomic::Ordering;

use quick_cache::sync::Cache;

use crate::links::table::Links;
use crate::store::Sight;

impl Links {
    /// Before something is read that may be kept.
    pub(super) fn reading(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// Keeps what was read, unless it may have changed since.
    pub(super) fn keep<K, V>(&self, kept: &Cache<K, V>, key: K, value: V, reading: u64)
    where
        K: Clone + Eq + Hash,
        V: Clone,
    {
        kept.insert(key.clone(), value);
        // Whoever raises this forgets afterwards: one of the two sees the other.
        if self.told.load(Ordering::SeqCst) != reading {
            kept.remove(&key);
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
    pub(super) fn forget_what_is_kept(&self) {
        self.told.fetch_add(1, Ordering::SeqCst);
        self.kept.clear();
        self.subjects.clear();
        self.sights.clear();
    }
}
