//! The sweep: once a tick every connection of a worker is looked at, and what stood still for too long is ended.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::proxy::serve::vitals::Cut;
use crate::proxy::serve::vitals::Phase;
use crate::proxy::serve::vitals::Verdict;
use crate::proxy::serve::vitals::Vitals;
use crate::proxy::settings::Limits;

/// How long, in ticks, a connection may stay in a phase.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    handshake: u32,
    head: u32,
    idle_h1: u32,
    idle_h2: u32,
    write: u32,
    closing: u32,
}

/// How long a client may take nothing of what we write.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(60);

/// How long we wait for the client to close after our goodbye.
pub(crate) const CLOSING: Duration = Duration::from_secs(2);

/// How long an HTTP/1.1 connection without a request is left open once a drain has begun: a request that is on its way when
/// the drain begins is still answered.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(2);

/// The longest distance between two sweeps.
const MAX_TICK: Duration = Duration::from_millis(500);

/// The distance between two sweeps: a quarter of the shortest limit, between 10 ms and 500 ms.
pub(crate) fn tick(limits: &Limits) -> Duration {
    [
        limits.handshake,
        limits.head,
        limits.idle_h1,
        limits.idle_h2,
    ]
    .into_iter()
    .min()
    .map_or(MAX_TICK, |shortest| {
        (shortest / 4).clamp(Duration::from_millis(10), MAX_TICK)
    })
}

impl Bounds {
    /// Rounded up, plus the tick in which the phase began: nobody is cut early.
    fn of(limits: &Limits, tick: Duration) -> Self {
        let ticks = |span: Duration| {
            u32::try_from(span.as_nanos().div_ceil(tick.as_nanos().max(1)))
                .unwrap_or(u32::MAX - 1)
                .saturating_add(1)
        };
        Self {
            handshake: ticks(limits.handshake),
            head: ticks(limits.head),
            idle_h1: ticks(limits.idle_h1),
            idle_h2: ticks(limits.idle_h2),
            write: ticks(WRITE_STALL),
            closing: ticks(CLOSING),
        }
    }
}

/// One connection as the sweep sees it.
struct Entry {
    vitals: Arc<Vitals>,
    waker: Option<Waker>,
    moves: u32,
    age: u32,
    write_moves: u32,
    write_age: u32,
}

/// The connections of one worker.
pub(crate) struct Ward {
    entries: RefCell<Vec<Option<Entry>>>,
    free: RefCell<Vec<usize>>,
    tick: Duration,
}

impl fmt::Debug for Ward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ward")
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

impl Ward {
    /// Without connections; swept every `tick`.
    pub(crate) fn new(tick: Duration) -> Self {
        Self {
            entries: RefCell::default(),
            free: RefCell::default(),
            tick,
        }
    }

    /// The distance between two sweeps.
    pub(crate) const fn tick(&self) -> Duration {
        self.tick
    }

    /// How many connections there are; tunnels, which have left HTTP, not counted.
    pub(crate) fn open(&self) -> usize {
        self.entries
            .borrow()
            .len()
            .saturating_sub(self.free.borrow().len())
    }

    /// Takes a connection in. The key is for [`Ward::discharge`] and [`Ward::keep_waker`].
    pub(crate) fn admit(&self, vitals: Arc<Vitals>) -> usize {
        let entry = Entry {
            vitals,
            waker: None,
            moves: 0,
            age: 0,
            write_moves: 0,
            write_age: 0,
        };
        let mut entries = self.entries.borrow_mut();
        let reused = self.free.borrow_mut().pop();
        if let Some(key) = reused
            && let Some(slot) = entries.get_mut(key)
        {
            *slot = Some(entry);
            return key;
        }
        entries.push(Some(entry));
        entries.len().saturating_sub(1)
    }

    /// Remembers whom to wake.
    pub(crate) fn keep_waker(&self, key: usize, waker: &Waker) {
        if let Some(Some(entry)) = self.entries.borrow_mut().get_mut(key) {
            entry.waker = Some(waker.clone());
        }
    }

    /// Forgets a connection.
    pub(crate) fn discharge(&self, key: usize) {
        let gone = self
            .entries
            .borrow_mut()
            .get_mut(key)
            .and_then(Option::take);
        if gone.is_some() {
            self.free.borrow_mut().push(key);
        }
    }

    /// Asks `verdict` of every connection that speaks HTTP/2, or of all.
    pub(crate) fn ask(&self, verdict: Verdict, only_h2: bool) {
        for entry in self.entries.borrow().iter().flatten() {
            if !only_h2 || entry.vitals.multiplexed() {
                entry.vitals.ask(verdict);
                if let Some(waker) = &entry.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Looks at every connection once; `cut` is told whom it ended and why.
    pub(crate) fn sweep(&self, limits: &Limits, draining: bool, mut cut: impl FnMut(Cut)) {
        let mut bounds = Bounds::of(limits, self.tick);
        if draining {
            let short = Bounds::of(
                &Limits {
                    idle_h1: limits.idle_h1.min(DRAIN_IDLE),
                    ..limits.clone()
                },
                self.tick,
            );
            bounds.idle_h1 = short.idle_h1;
        }
        for entry in self.entries.borrow_mut().iter_mut().flatten() {
            if let Some((verdict, reason)) = entry.judge(&bounds, draining) {
                if entry.vitals.verdict() as u8 >= verdict as u8 {
                    continue;
                }
                entry.vitals.ask(verdict);
                cut(reason);
                if let Some(waker) = &entry.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

impl Entry {
    fn judge(&mut self, bounds: &Bounds, draining: bool) -> Option<(Verdict, Cut)> {
        let moves = self.vitals.moves();
        if moves == self.moves {
            self.age = self.age.saturating_add(1);
        } else {
            self.moves = moves;
            self.age = 0;
        }
        if let Some(writes) = self.vitals.blocked_write() {
            if writes == self.write_moves {
                self.write_age = self.write_age.saturating_add(1);
            } else {
                self.write_moves = writes;
                self.write_age = 0;
            }
            if bounds.write < self.write_age {
                return Some((Verdict::End, Cut::Write));
            }
        } else {
            self.write_age = 0;
        }
        let (bound, verdict, reason) = match self.vitals.phase() {
            Phase::ProxyHeader => (bounds.head, Verdict::End, Cut::ProxyHeader),
            Phase::Handshake => (bounds.handshake, Verdict::End, Cut::Handshake),
            Phase::FirstByte if draining => (
                bounds.idle_h1.min(bounds.head),
                Verdict::End,
                Cut::FirstByte,
            ),
            Phase::FirstByte => (bounds.head, Verdict::End, Cut::FirstByte),
            Phase::Head => (bounds.head, Verdict::End, Cut::Head),
            Phase::Serving => return None,
            Phase::Idle => (bounds.idle_h1, Verdict::Finish, Cut::Idle),
            Phase::Quiet => (bounds.idle_h2, Verdict::Finish, Cut::Idle),
            Phase::Closing => (bounds.closing, Verdict::End, Cut::Closing),
        };
        (bound < self.age).then_some((verdict, reason))
    }
}
