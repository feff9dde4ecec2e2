//! What one worker keeps for one upstream: idle connections, what is under way, and how its origins fare.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::upstream::h1::H1;
use crate::proxy::upstream::link::H2;
use crate::proxy::upstream::rests::Rests;
use crate::proxy::upstream::target::Target;

/// Requests under way to one upstream in one worker; more are answered 503.
const MAX_IN_FLIGHT: usize = 16_384;

/// Idle connections per origin and worker; the ones idle for longest are closed first.
const MAX_IDLE: usize = 256;

/// Streams on one HTTP/2 connection; more open another.
const MAX_STREAMS: usize = 100;

/// After this long no request begins on a connection to a *name*, so that a name that moves is followed.
const MAX_AGE: Duration = Duration::from_secs(60);

/// A connection that rested shorter is used without asking the kernel, if the reactor has not reported anything.
const RESTED: Duration = Duration::from_millis(1);

/// How long an origin is left alone after a failed connect; doubled with each further one, up to [`MAX_EJECTION`].
const EJECTION: Duration = Duration::from_secs(5);
const MAX_EJECTION: Duration = Duration::from_secs(60);

/// Thousandths of a retry that each request earns, that a retry costs, and that can be saved: 10 % and a burst of ten.
const EARNED: u32 = 100;
const COST: u32 = 1_000;
const SAVED: u32 = 10_000;

/// One upstream in one worker.
pub(super) struct Group<B> {
    target: Weak<Target>,
    slots: Box<[Slot<B>]>,
    in_flight: Cell<usize>,
    turn: Cell<usize>,
    retries: Cell<u32>,
}

/// One origin in one worker.
pub(super) struct Slot<B> {
    idle: RefCell<VecDeque<Resting>>,
    pub(super) rests: Rests,
    shared: RefCell<Vec<Rc<H2<B>>>>,
    /// One HTTP/2 connection is opened at a time; those who wait share it.
    pub(super) opening: tokio::sync::Mutex<()>,
    in_flight: Cell<usize>,
    failures: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
}

struct Resting {
    link: Box<H1>,
    since: Instant,
}

/// A connection that can take a request.
pub(super) enum Ready<B> {
    /// Alone on its connection. In a box: it is handed on with every request.
    H1(Box<H1>),
    /// One stream of many.
    H2(Rc<H2<B>>),
}

impl<B> Group<B> {
    pub(super) fn new(target: &Arc<Target>) -> Rc<Self> {
        Rc::new(Self {
            target: Arc::downgrade(target),
            slots: target.sites().iter().map(|_| Slot::new()).collect(),
            in_flight: Cell::new(0),
            turn: Cell::new(0),
            retries: Cell::new(COST),
        })
    }

    /// Whether the configuration has forgotten this upstream and nothing is under way.
    pub(super) fn is_orphan(&self) -> bool {
        self.target.strong_count() == 0 && self.in_flight.get() == 0
    }

    /// Counts an attempt in; `false` when there is no room.
    pub(super) fn enter(&self) -> bool {
        let room = self.in_flight.get() < MAX_IN_FLIGHT;
        if room {
            self.in_flight.set(self.in_flight.get() + 1);
        }
        room
    }

    /// A request of a client, which earns its share of a retry. Its further attempts earn nothing.
    pub(super) fn earn(&self) {
        self.retries.set((self.retries.get() + EARNED).min(SAVED));
    }

    /// Counts an attempt out.
    pub(super) fn leave(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// Takes a retry out of the budget, if one is left.
    pub(super) fn may_retry(&self) -> bool {
        let left = self.retries.get().checked_sub(COST);
        self.retries.set(left.unwrap_or(self.retries.get()));
        left.is_some()
    }

    /// The origin for the next request: least under way, in turn where equal; `tried` is a bit set of those that did not
    /// connect. Ejected and unwell ones come last, never nobody: with all of them down, trying is all that is left.
    pub(super) fn choose(&self, target: &Target, tried: u64, now: Instant) -> Option<usize> {
        let count = self.slots.len();
        if count == 1 {
            return (tried == 0).then_some(0);
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        (0..count)
            .map(|step| turn.wrapping_add(step) % count)
            .filter(|index| tried & bit(*index) == 0)
            .filter_map(|index| {
                let slot = self.slots.get(index)?;
                let well = target.sites().get(index)?.is_well();
                let out = slot.ejected_until.get().is_some_and(|until| now < until);
                Some(((!well || out, slot.in_flight.get()), index))
            })
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, index)| index)
    }

    pub(super) fn slot(&self, index: usize) -> Option<&Slot<B>> {
        self.slots.get(index)
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        let (idle, named) = match self.target.upgrade() {
            Some(target) => (
                target.settings().idle,
                target.sites().iter().any(|site| site.address.is_none()),
            ),
            None => (Duration::ZERO, false),
        };
        for slot in &self.slots {
            slot.sweep(now, idle, named);
        }
    }
}

/// Origins beyond the sixty-fourth are never marked as tried, so they may be tried twice.
pub(super) const fn bit(index: usize) -> u64 {
    if index < 64 { 1 << index } else { 0 }
}

impl<B> Slot<B> {
    fn new() -> Self {
        Self {
            idle: RefCell::default(),
            rests: Rests::default(),
            shared: RefCell::default(),
            opening: tokio::sync::Mutex::new(()),
            in_flight: Cell::new(0),
            failures: Cell::new(0),
            ejected_until: Cell::new(None),
        }
    }

    /// A request begins here.
    pub(super) fn enter(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// A request has ended here.
    pub(super) fn leave(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// A connection was made.
    pub(super) fn succeed(&self) {
        self.failures.set(0);
        self.ejected_until.set(None);
    }

    /// No connection was made.
    pub(super) fn fail(&self, now: Instant) {
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        let span = EJECTION
            .saturating_mul(1 << failures.min(8))
            .min(MAX_EJECTION);
        self.ejected_until.set(Some(now + span));
    }

    /// A connection that is open and has nothing to say, and how long it has rested. The one used last comes first, so that
    /// the others can go. `once`: what it is for cannot be sent twice.
    pub(super) fn take(
        &self,
        now: Instant,
        (idle, named): (Duration, bool),
        once: bool,
    ) -> Option<(Ready<B>, Duration)> {
        let mut resting = self.idle.borrow_mut();
        while let Some(Resting { link, since }) = resting.pop_back() {
            let rested = now.saturating_duration_since(since);
            if once && !self.rests.is_safe(rested, now) {
                // It waits for one that can, as do the others, which have rested longer still.
                resting.push_back(Resting { link, since });
                break;
            }
            if idle < rested {
                // The others have rested longer still.
                resting.clear();
                break;
            }
            let young = !named || now.saturating_duration_since(link.born) < MAX_AGE;
            let quiet = if rested < RESTED {
                link.seems_quiet()
            } else {
                link.is_quiet()
            };
            if !quiet {
                self.rests.found_ended(rested, now);
            } else if young {
                return Some((Ready::H1(link), rested));
            }
        }
        drop(resting);
        let mut shared = self.shared.borrow_mut();
        shared.retain(|link| !link.is_closed());
        shared
            .iter()
            .find(|link| {
                let young = !named || now.saturating_duration_since(link.born) < MAX_AGE;
                young && !link.retired.get() && link.streams.get() < MAX_STREAMS
            })
            .map(|link| (Ready::H2(link.clone()), Duration::ZERO))
    }

    /// A clean exchange has ended: the connection rests.
    pub(super) fn rest(&self, link: Box<H1>, now: Instant) {
        let mut resting = self.idle.borrow_mut();
        if MAX_IDLE <= resting.len() {
            resting.pop_front();
        }
        resting.push_back(Resting { link, since: now });
    }

    /// Others may use the connection too.
    pub(super) fn share(&self, link: Rc<H2<B>>) {
        self.shared.borrow_mut().push(link);
    }

    fn sweep(&self, now: Instant, idle: Duration, named: bool) {
        let mut resting = self.idle.borrow_mut();
        resting.retain(|one| {
            let rested = now.saturating_duration_since(one.since);
            let quiet = one.link.seems_quiet();
            if !quiet {
                self.rests.found_ended(rested, now);
            }
            rested <= idle && quiet
        });
        self.shared.borrow_mut().retain(|link| {
            let old = named && MAX_AGE <= now.saturating_duration_since(link.born);
            let unused =
                link.streams.get() == 0 && idle < now.saturating_duration_since(link.used.get());
            !link.is_closed() && !old && !unused
        });
    }
}

/// A request that has been counted in and has no lease yet that would count it out.
pub(super) struct Entered<'a, B>(pub(super) Option<&'a Rc<Group<B>>>);

impl<B> Entered<'_, B> {
    pub(super) fn hand_over(mut self) {
        self.0 = None;
    }
}

impl<B> Drop for Entered<'_, B> {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            group.leave();
        }
    }
}
