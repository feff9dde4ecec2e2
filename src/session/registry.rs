//! The sessions in use in this process: one value each, found by row, held by nobody here.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::UnixTime;
use crate::session::body::Content;
use crate::session::live::Found;
use crate::session::live::Live;
use crate::store::Sight;
use crate::store::Store;

/// What was read from the store holds this long while changes are told: 5 s.
const TOLD: Duration = Duration::from_secs(5);
/// And this long while they may not be told: 1 s.
const DEAF: Duration = Duration::from_secs(1);
/// And this long while the store is away: 30 s.
pub(super) const AWAY: Duration = Duration::from_secs(30);

/// Sessions by application, side of the rollout and origin.
pub(crate) type Tally = BTreeMap<(Box<str>, &'static str, &'static str), u64>;

/// Finds the one value of a session, as long as anybody holds it. It holds nothing itself: its size is bounded by the
/// caches that do.
pub(super) struct Registry {
    shards: [Mutex<HashMap<[u8; 32], Weak<Live>>>; 16],
    store: Arc<dyn Store>,
    touches: mpsc::Sender<Arc<Live>>,
    /// Raised when changes were missed: what was read before is read again.
    missed: AtomicU64,
}

impl Registry {
    pub(super) fn new(store: Arc<dyn Store>, touches: mpsc::Sender<Arc<Live>>) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            store,
            touches,
            missed: AtomicU64::new(0),
        })
    }

    /// The value of a row: the one in use, or a new, empty one.
    ///
    /// It is registered *before* the store is read: whoever ends the session meanwhile finds it here.
    pub(super) fn entry(self: &Arc<Self>, row: &[u8; 32]) -> Arc<Live> {
        let mut shard = self.shard(row);
        if let Some(live) = shard.get(row).and_then(Weak::upgrade) {
            return live;
        }
        let live = Live::new(*row, Arc::clone(self), self.touches.clone());
        shard.insert(*row, Arc::downgrade(&live));
        live
    }

    /// The value of a row, if it is in use.
    pub(super) fn find(&self, row: &[u8; 32]) -> Option<Arc<Live>> {
        self.shard(row).get(row).and_then(Weak::upgrade)
    }

    /// A change of a row was told. Whoever takes the place of its value meanwhile hears of it as well.
    pub(super) fn tell(&self, row: &[u8; 32]) {
        let shard = self.shard(row);
        let live = shard.get(row).and_then(Weak::upgrade);
        if let Some(live) = &live {
            live.has_changed();
        }
        // Before `live`, as in `take_in`.
        drop(shard);
    }

    /// The value of a row that was read as `content`: the one in use, unless it is of an earlier revision; then another one
    /// takes its place, and whoever holds the old one asks again. One that has ended is never replaced.
    ///
    /// `heard_by` hears what is told of the row since it was read.
    ///
    /// In one step: whoever reads the same row meanwhile gets the same value, and nobody sees an empty one in the place of a
    /// full one.
    pub(super) fn take_in(
        self: &Arc<Self>,
        row: &[u8; 32],
        (content, heard_by): (Content, &Arc<Live>),
        found: &Found,
    ) -> Arc<Live> {
        let mut shard = self.shard(row);
        let before = shard.get(row).and_then(Weak::upgrade);
        let live = match &before {
            Some(before) if before.has_ended() || before.is_no_older_than(&content) => {
                Arc::clone(before)
            }
            Some(_) | None => {
                let live = Live::new(*row, Arc::clone(self), self.touches.clone());
                shard.insert(*row, Arc::downgrade(&live));
                live
            }
        };
        live.fill(content, found);
        if let Some(before) = before.as_ref().filter(|before| !Arc::ptr_eq(before, &live)) {
            before.supersede_by(&live);
        }
        // What was told since the row was read was told to somebody else, who may be gone with it: it is read again.
        if !before
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, heard_by))
        {
            live.has_changed();
        }
        // Before `before`: the last holder of a value takes the lock to have it forgotten.
        drop(shard);
        live
    }

    /// Only the value that is registered takes its entry with it: a successor may already stand there.
    pub(super) fn forget(&self, row: &[u8; 32], gone: *const Live) {
        let mut shard = self.shard(row);
        if shard
            .get(row)
            .is_some_and(|live| std::ptr::eq(live.as_ptr(), gone))
        {
            shard.remove(row);
        }
    }

    fn shard(&self, row: &[u8; 32]) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Weak<Live>>> {
        let [first, ..] = row;
        let [fallback, ..] = &self.shards;
        let shard = self.shards.get(usize::from(first % 16)).unwrap_or(fallback);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes were missed: everything is read again before it counts.
    pub(super) fn has_missed(&self) {
        self.missed.fetch_add(1, Ordering::AcqRel);
    }

    /// How often changes were missed.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Acquire)
    }

    /// Until when what was read at `read` holds. Atomics only.
    pub(super) fn holds_until(&self, read: UnixTime) -> UnixTime {
        match self.store.sight() {
            Sight::Alone => UnixTime::NEVER,
            Sight::Told => read + TOLD,
            Sight::Deaf => read + DEAF,
            Sight::Away => read + AWAY,
        }
    }

    /// How many there are that live, and the rows of those that nobody has used for so long that the store has let them go,
    /// too. What has come to its own end is ended: also for a clock that is put back.
    pub(super) fn count(&self, now: UnixTime) -> (Tally, Vec<[u8; 32]>) {
        let (mut tally, mut unused) = (Tally::new(), Vec::new());
        for shard in &self.shards {
            // Counted outside of the lock: the last holder of a value takes it to be forgotten.
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let values: Vec<_> = shard.values().filter_map(Weak::upgrade).collect();
            drop(shard);
            for live in values.iter().filter(|live| live.is_over(now)) {
                live.end();
            }
            let gone = values.iter().filter(|live| live.is_gone(now));
            unused.extend(gone.map(|live| live.row));
            for live in values.iter().filter(|live| live.is_live(now)) {
                if let Some(content) = live.content() {
                    let backing = content.backing.as_ref();
                    let backing = backing.map_or("none", |backing| backing.arm.as_str());
                    let key = (content.app.clone(), backing, content.origin.as_str());
                    *tally.entry(key).or_default() += 1;
                }
            }
        }
        (tally, unused)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sessions in use]")
    }
}
