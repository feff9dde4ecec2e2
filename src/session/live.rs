//! Sessions in use: one value per session in the process, so that its end is seen by everybody who holds it.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::mpsc;

use crate::clock::UnixTime;
use crate::session::body::Content;
use crate::session::registry::AWAY;
use crate::session::registry::Registry;
use crate::session::sessions::SLACK;

/// The use of a session is written to the store at most this often: 60 s.
pub(super) const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A session in use. All who hold it share one value: once it has ended it has ended for all of them.
pub(crate) struct Live {
    pub(super) row: [u8; 32],
    ended: AtomicBool,
    /// Another session has taken its place, or may have: what is open looks for that one when this one has ended.
    replaced: AtomicBool,
    /// Another value has taken its place: whoever holds this one asks again.
    superseded: AtomicBool,
    idle: AtomicU64,
    seen: AtomicU64,
    written: AtomicU64,
    generation: AtomicU64,
    /// When the store said so.
    read: AtomicU64,
    /// How often changes had been missed then.
    missed: AtomicU64,
    /// How many changes of the row have been told.
    told: AtomicU64,
    /// How many of them it has taken in.
    taken_in: AtomicU64,
    /// The gate looks at it again then: its renewal is due.
    look: AtomicU64,
    /// Its owner asked not to be asked before.
    retry: AtomicU64,
    content: OnceLock<Arc<Content>>,
    registry: Arc<Registry>,
    touches: mpsc::Sender<Arc<Self>>,
    this: Weak<Self>,
    /// One renewal at a time in this process.
    pub(super) renewing: Mutex<()>,
}

impl Live {
    /// Empty; for the registry.
    pub(super) fn new(
        row: [u8; 32],
        registry: Arc<Registry>,
        touches: mpsc::Sender<Arc<Self>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            row,
            ended: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            idle: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            written: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            read: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            told: AtomicU64::new(0),
            taken_in: AtomicU64::new(0),
            look: AtomicU64::new(u64::MAX),
            retry: AtomicU64::new(0),
            content: OnceLock::new(),
            registry,
            touches,
            this: Weak::clone(this),
            renewing: Mutex::new(()),
        })
    }

    /// Counts a use of something that was derived from it; `false`: the gate must be asked again, because the session has
    /// ended, was renewed or is due, or because what is known of it is too old. Atomics only.
    pub(crate) fn use_at(&self, now: UnixTime) -> bool {
        let look = UnixTime::from_millis(self.look.load(Ordering::Acquire));
        now < look && self.is_fresh(now) && self.count_use(now)
    }

    /// Counts a use; `false`: it is over.
    pub(super) fn count_use(&self, now: UnixTime) -> bool {
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

    /// Whether it is neither ended, nor replaced, nor idle for too long, nor over.
    pub(super) fn is_live(&self, now: UnixTime) -> bool {
        let Some(content) = self.content.get() else {
            return false;
        };
        let seen = UnixTime::from_millis(self.seen.load(Ordering::Acquire));
        let idle = Duration::from_millis(self.idle.load(Ordering::Acquire));
        let over = self.ended.load(Ordering::Acquire) || self.superseded.load(Ordering::Acquire);
        !over && now < content.ends && now < seen + idle
    }

    /// Whether what is known of it is known well enough.
    pub(super) fn is_fresh(&self, now: UnixTime) -> bool {
        let read = UnixTime::from_millis(self.read.load(Ordering::Acquire));
        !self.is_outdated()
            && self.missed.load(Ordering::Acquire) == self.registry.missed()
            && now < self.registry.holds_until(read)
    }

    /// Whether it counts although the store does not answer.
    pub(super) fn may_do_without(&self, now: UnixTime) -> bool {
        let read = UnixTime::from_millis(self.read.load(Ordering::Acquire));
        !self.is_outdated() && now < read + AWAY
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

    /// It was ended elsewhere: nobody knows here whether another session has taken its place.
    pub(super) fn has_gone(&self) {
        if !self.has_ended() {
            self.replace();
        }
        self.end();
    }

    /// Whether it was ended. One that was renewed has not: another value stands in its place.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Another session of the same person stands in its place from now on.
    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// Whether it was ended here, and for good: not because another session of the same person has taken its place.
    pub(crate) fn has_ended_for_good(&self) -> bool {
        self.has_ended() && !self.replaced.load(Ordering::Acquire)
    }

    /// Whether it has come to its own end, or was idle for too long.
    pub(crate) fn has_run_out(&self, now: UnixTime) -> bool {
        let seen = UnixTime::from_millis(self.seen.load(Ordering::Acquire));
        let idle = Duration::from_millis(self.idle.load(Ordering::Acquire));
        seen + idle <= now || self.is_over(now)
    }

    /// Whether it was idle for so long that its row is gone as well. One that was ended is not among these: that it was
    /// must be known to a clock that is put back.
    pub(super) fn is_gone(&self, now: UnixTime) -> bool {
        let idle = Duration::from_millis(self.idle.load(Ordering::Acquire));
        self.content.get().is_some() && !self.has_ended() && self.seen() + idle + SLACK <= now
    }

    /// Whether it has come to its own end.
    pub(super) fn is_over(&self, now: UnixTime) -> bool {
        let content = self.content.get();
        content.is_some_and(|content| content.ends <= now)
    }

    /// Whether another value stands in its place: whoever holds this one asks for that one.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Whether `content` says nothing that it does not know: it has none yet, or one that is at least as new.
    pub(super) fn is_no_older_than(&self, content: &Content) -> bool {
        let known = self.content.get();
        known.is_none_or(|known| content.revision <= known.revision)
    }

    /// `successor` stands in its place, has heard what this one has heard, and was used when this one was: the row may not say so
    /// yet.
    pub(super) fn supersede_by(&self, successor: &Self) {
        let told = self.told.load(Ordering::Acquire);
        successor.told.fetch_max(told, Ordering::AcqRel);
        let seen = self.seen.load(Ordering::Acquire);
        successor.seen.fetch_max(seen, Ordering::AcqRel);
        let replaced = self.replaced.load(Ordering::Acquire);
        successor.replaced.fetch_or(replaced, Ordering::AcqRel);
        self.superseded.store(true, Ordering::Release);
    }

    /// The row was written or removed by somebody.
    pub(super) fn has_changed(&self) {
        self.told.fetch_add(1, Ordering::AcqRel);
    }

    /// How many changes have been told: what is read from here on has all of these.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// A change was told that it has not taken in.
    pub(super) fn is_outdated(&self) -> bool {
        self.taken_in.load(Ordering::Acquire) < self.told()
    }

    pub(super) fn content(&self) -> Option<&Arc<Content>> {
        self.content.get()
    }

    pub(super) fn seen(&self) -> UnixTime {
        UnixTime::from_millis(self.seen.load(Ordering::Acquire))
    }

    /// Before this its owner is not asked.
    pub(super) fn retry(&self) -> UnixTime {
        UnixTime::from_millis(self.retry.load(Ordering::Acquire))
    }

    /// When its owner may be asked again, and the gate looks again.
    pub(super) fn wait(&self, until: UnixTime) {
        self.retry.fetch_max(until.as_millis(), Ordering::AcqRel);
        self.look_at(until);
    }

    /// Takes over the one renewal behind requests of this second; `false`: somebody else did.
    pub(super) fn claim_renewal(&self, now: UnixTime) -> bool {
        let look = self.look.load(Ordering::Acquire);
        let next = (now + Duration::from_secs(1)).as_millis();
        look <= now.as_millis()
            && self
                .look
                .compare_exchange(look, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    fn look_at(&self, at: UnixTime) {
        let renewal = self.content.get().and_then(|content| content.renewal);
        let lapses = renewal.map_or(UnixTime::NEVER, |renewal| renewal.lapses());
        let at = at.min(lapses);
        self.look.store(at.as_millis(), Ordering::Release);
    }

    /// Takes in what the store says, opened under the keys of `generation`. The first reader's content stays; every
    /// reader's `seen` counts.
    pub(super) fn fill(&self, content: Content, found: &Found) {
        self.written
            .fetch_max(found.seen.as_millis(), Ordering::AcqRel);
        let fresh = Arc::new(content);
        let content = self.content.get_or_init(|| fresh);
        let due = content
            .renewal
            .map_or(UnixTime::NEVER, |renewal| renewal.due());
        if self.look.load(Ordering::Acquire) == u64::MAX {
            self.look_at(due);
        }
        self.confirm(found);
    }

    /// The store says the same as before.
    pub(super) fn confirm(&self, found: &Found) {
        self.idle.store(millis(found.idle), Ordering::Release);
        self.generation
            .fetch_max(found.generation, Ordering::AcqRel);
        let retry = found.retry.as_millis();
        if self.retry.fetch_max(retry, Ordering::AcqRel) < retry {
            self.look_at(found.retry);
        }
        self.seen
            .fetch_max(found.seen.as_millis(), Ordering::AcqRel);
        self.missed.fetch_max(found.missed, Ordering::AcqRel);
        // What an earlier value in its place has heard is less than what it hears from now on.
        self.told.fetch_max(found.told, Ordering::AcqRel);
        self.taken_in.fetch_max(found.told, Ordering::AcqRel);
        self.read
            .fetch_max(found.read.as_millis(), Ordering::AcqRel);
    }

    /// Whether it was opened under the keys of `generation`.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        self.content.get().is_some() && self.generation.load(Ordering::Acquire) == generation
    }
}

/// What goes with a row that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The last use that was written.
    pub(super) seen: UnixTime,
    /// The idle time that holds now.
    pub(super) idle: Duration,
    /// The keys it was opened under.
    pub(super) generation: u64,
    /// When it was read.
    pub(super) read: UnixTime,
    /// How many changes of the row had been told before.
    pub(super) told: u64,
    /// How often changes had been missed before.
    pub(super) missed: u64,
    /// Its owner is not asked before this.
    pub(super) retry: UnixTime,
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
