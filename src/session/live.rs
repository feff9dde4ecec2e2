//! Sessions in use: one value per session in the process, so that its end is seen by everybody who holds it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::UnixTime;
use crate::session::body::Content;

/// The use of a session is written to the store at most this often: 60 s.
pub(super) const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A session in use. All who hold it share one value: once it has ended it has ended for all of them.
pub(crate) struct Live {
    pub(super) row: [u8; 32],
    ended: AtomicBool,
    idle: AtomicU64,
    seen: AtomicU64,
    written: AtomicU64,
    generation: AtomicU64,
    content: OnceLock<Arc<Content>>,
    registry: Arc<Registry>,
    touches: mpsc::Sender<Arc<Self>>,
    this: Weak<Self>,
}

impl Live {
    /// Counts a use; `false`: the session has ended, one way or another. Atomics only.
    pub(crate) fn use_at(&self, now: UnixTime) -> bool {
        if !self.is_live(now) {
            return false;
        }
        self.seen.fetch_max(now.as_millis(), Ordering::AcqRel);
        let written = self.written.load(Ordering::Acquire);
        let due = written.saturating_add(millis(TOUCH_EVERY)) <= now.as_millis();
        if due
            && self
                .written
                .compare_exchange(
                    written,
                    now.as_millis(),
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .is_ok()
        {
            self.ask_for_touch();
        }
        true
    }

    /// Whether it is neither ended, nor idle for too long, nor over.
    pub(super) fn is_live(&self, now: UnixTime) -> bool {
        let Some(content) = self.content.get() else {
            return false;
        };
        let seen = UnixTime::from_millis(self.seen.load(Ordering::Acquire));
        let idle = Duration::from_millis(self.idle.load(Ordering::Acquire));
        !self.ended.load(Ordering::Acquire) && now < content.ends && now < seen + idle
    }

    /// Has the row written again soon. A full queue forgets it: the next use asks again in a minute.
    pub(super) fn ask_for_touch(&self) {
        if let Some(this) = self.this.upgrade() {
            drop(self.touches.try_send(this));
        }
    }

    /// Ends it for everybody who holds it.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn content(&self) -> Option<&Arc<Content>> {
        self.content.get()
    }

    pub(super) fn seen(&self) -> UnixTime {
        UnixTime::from_millis(self.seen.load(Ordering::Acquire))
    }

    /// Takes in what the store says, opened under the keys of `generation`. The first reader's content stays; every
    /// reader's `seen` counts.
    pub(super) fn fill(&self, content: Content, seen: UnixTime, idle: Duration, generation: u64) {
        self.idle.store(millis(idle), Ordering::Release);
        self.seen.fetch_max(seen.as_millis(), Ordering::AcqRel);
        self.written.fetch_max(seen.as_millis(), Ordering::AcqRel);
        self.content.get_or_init(|| Arc::new(content));
        self.generation.fetch_max(generation, Ordering::AcqRel);
    }

    /// Whether it was opened under the keys of `generation`.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        self.content.get().is_some() && self.generation.load(Ordering::Acquire) == generation
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[session]")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.registry.forget(&self.row, self);
    }
}

/// Finds the one value of a session, as long as anybody holds it. It holds nothing itself: its size is bounded by the
/// caches that do.
pub(super) struct Registry {
    shards: [Mutex<HashMap<[u8; 32], Weak<Live>>>; 16],
}

impl Registry {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// The value of a row: the one in use, or a new, empty one.
    ///
    /// It is registered *before* the store is read: whoever ends the session meanwhile finds it here.
    pub(super) fn entry(
        self: &Arc<Self>,
        row: &[u8; 32],
        touches: &mpsc::Sender<Arc<Live>>,
    ) -> Arc<Live> {
        let mut shard = self
            .shard(row)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = shard.get(row).and_then(Weak::upgrade) {
            return live;
        }
        let live = Arc::new_cyclic(|this| Live {
            row: *row,
            ended: AtomicBool::new(false),
            idle: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            written: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            content: OnceLock::new(),
            registry: Arc::clone(self),
            touches: touches.clone(),
            this: Weak::clone(this),
        });
        shard.insert(*row, Arc::downgrade(&live));
        live
    }

    /// Only the value that is registered takes its entry with it: a successor may already stand there.
    fn forget(&self, row: &[u8; 32], gone: *const Live) {
        let mut shard = self
            .shard(row)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if shard
            .get(row)
            .is_some_and(|live| std::ptr::eq(live.as_ptr(), gone))
        {
            shard.remove(row);
        }
    }

    fn shard(&self, row: &[u8; 32]) -> &Mutex<HashMap<[u8; 32], Weak<Live>>> {
        let [first, ..] = row;
        let [fallback, ..] = &self.shards;
        self.shards.get(usize::from(first % 16)).unwrap_or(fallback)
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
