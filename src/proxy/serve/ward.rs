//! The sweep: once a tick every connection of a worker is looked at, and what stood still for too long is ended.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::proxy::serve::vitals::Cut;
use crate::proxy::serve::vitals::Phase;
use crate::proxy::serve::vitals::Taken;
use crate::proxy::serve::vitals::Verdict;
use crate::proxy::serve::vitals::Vitals;
use crate::proxy::settings::Limits;

/// How long, in ticks, a connection may stay in a phase.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    handshake: u32,
    first_byte: u32,
    head: u32,
    idle_h1: u32,
    idle_h2: u32,
    write: u32,
    closing: u32,
}

/// How much a client takes of what waits for it, in [`WRITE_STALL`]: as much as it must send of a body, 1 KiB/s.
pub(crate) const WRITE_LEAST: u64 = 60 * 1024;

/// How long a client may let us wait before that counts: nobody reads in one pace.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(60);

/// How long we wait for the client to close after our goodbye, when it has nothing under way.
pub(crate) const CLOSING: Duration = Duration::from_secs(5);

/// How long an HTTP/1.1 connection without a request is left open once a drain has begun: a request that is on its way when
/// the drain begins is still answered.
pub(crate) const DRAIN_IDLE: Duration = Duration::from_secs(2);

/// How long a connection that does nothing is left open where there is room for nobody else: who rests gives way to who comes.
const FULL_IDLE: Duration = Duration::from_secs(2);

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

/// Rounded up, plus the tick in which the phase began: nobody is cut early.
fn ticks(span: Duration, tick: Duration) -> u32 {
    u32::try_from(span.as_nanos().div_ceil(tick.as_nanos().max(1)))
        .unwrap_or(u32::MAX - 1)
        .saturating_add(1)
}

/// Whether there is room for whoever comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum House {
    /// There is.
    Open,
    /// As many as there may be are in: nobody is accepted until somebody leaves.
    Full,
    /// Everybody is to leave.
    Draining,
}

impl Bounds {
    fn of(limits: &Limits, tick: Duration) -> Self {
        let ticks = |span| ticks(span, tick);
        Self {
            handshake: ticks(limits.handshake),
            first_byte: ticks(limits.head),
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
    /// Since something waits for the client, or since it last took enough: what it had taken then, and the ticks.
    taken: Taken,
    write_age: u32,
    /// The head that is owed on HTTP/2, and the ticks since it was seen.
    head: u32,
    head_age: u32,
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
            taken: Taken::Bytes(0),
            write_age: 0,
            head: 0,
            head_age: 0,
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
    pub(crate) fn sweep(&self, limits: &Limits, house: House, mut cut: impl FnMut(Cut)) {
        let ticks = |span| ticks(span, self.tick);
        let mut bounds = Bounds::of(limits, self.tick);
        match house {
            House::Open => {}
            House::Full => {
                bounds.idle_h1 = bounds.idle_h1.min(ticks(FULL_IDLE));
                bounds.idle_h2 = bounds.idle_h2.min(ticks(FULL_IDLE));
                bounds.first_byte = bounds.first_byte.min(ticks(FULL_IDLE));
            }
            House::Draining => {
                bounds.idle_h1 = bounds.idle_h1.min(ticks(DRAIN_IDLE));
                bounds.first_byte = bounds.first_byte.min(bounds.idle_h1);
            }
        }
        for entry in self.entries.borrow_mut().iter_mut().flatten() {
            if let Some((verdict, reason)) = entry.judge(&bounds) {
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

/// Whether a client went on well between two looks.
const fn enough(then: Taken, now: Taken) -> bool {
    match (then, now) {
        (Taken::Bytes(then), Taken::Bytes(now)) => WRITE_LEAST <= now.wrapping_sub(then),
        // A stream that rests, such as a film that is paused, says nothing against the others of its connection.
        (Taken::Turns(then), Taken::Turns(now)) => then != now,
        // The socket took what there was, or what there is fills it: that is more than the least.
        (Taken::Bytes(_), Taken::Turns(_)) | (Taken::Turns(_), Taken::Bytes(_)) => true,
    }
}

impl Entry {
    fn judge(&mut self, bounds: &Bounds) -> Option<(Verdict, Cut)> {
        let moves = self.vitals.moves();
        if moves == self.moves {
            self.age = self.age.saturating_add(1);
        } else {
            self.moves = moves;
            self.age = 0;
        }
        match self.vitals.taken() {
            // How much it took before it kept us waiting says nothing: it begins anew.
            Some(taken) if self.write_age == 0 || enough(self.taken, taken) => {
                self.taken = taken;
                self.write_age = 1;
            }
            Some(_) if bounds.write <= self.write_age => {
                self.vitals.forget_the_rest();
                return Some((Verdict::End, Cut::Write));
            }
            Some(_) => self.write_age = self.write_age.saturating_add(1),
            None => self.write_age = 0,
        }
        match self.vitals.head_owed() {
            // It does not begin anew for whoever reads slowly meanwhile.
            None => {}
            Some(0) => self.head = 0,
            Some(owed) if owed != self.head => (self.head, self.head_age) = (owed, 0),
            Some(_) if bounds.head <= self.head_age => return Some((Verdict::End, Cut::Head)),
            Some(_) => self.head_age = self.head_age.saturating_add(1),
        }
        let (bound, verdict, reason) = match self.vitals.phase() {
            Phase::ProxyHeader => (bounds.head, Verdict::End, Cut::ProxyHeader),
            Phase::Handshake => (bounds.handshake, Verdict::End, Cut::Handshake),
            Phase::FirstByte => (bounds.first_byte, Verdict::End, Cut::FirstByte),
            Phase::Head => (bounds.head, Verdict::End, Cut::Head),
            Phase::Serving => return None,
            Phase::Idle => (bounds.idle_h1, Verdict::Finish, Cut::Idle),
            Phase::Quiet => (bounds.idle_h2, Verdict::Finish, Cut::Idle),
            Phase::Closing => (bounds.closing, Verdict::End, Cut::Closing),
        };
        (bound < self.age).then_some((verdict, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::serve::testing::limits;

    const TICK: Duration = Duration::from_millis(500);

    /// A ward with one connection, and after how many sweeps it is asked something.
    #[track_caller]
    fn ends(vitals: &Arc<Vitals>, house: House, expected: Option<(u32, Verdict, Cut)>) {
        let ward = Ward::new(TICK);
        let key = ward.admit(vitals.clone());
        // The first sweep may come at once.
        let found = (0..2_000).find_map(|n| {
            let mut cut = None;
            ward.sweep(&limits(), house, |reason| cut = Some(reason));
            cut.map(|reason| (n, vitals.verdict(), reason))
        });
        assert_eq!(found, expected);
        ward.discharge(key);
        assert_eq!(ward.open(), 0);
    }

    #[test]
    fn every_phase_has_its_limit_and_nobody_is_cut_early() {
        let at = |phase| {
            let vitals = Vitals::new(phase);
            vitals.enter(phase);
            vitals
        };
        // 10 s are 20 ticks, and one for the tick it began in, and one more to be past it.
        ends(
            &at(Phase::ProxyHeader),
            House::Open,
            Some((22, Verdict::End, Cut::ProxyHeader)),
        );
        ends(
            &at(Phase::Handshake),
            House::Open,
            Some((22, Verdict::End, Cut::Handshake)),
        );
        ends(
            &at(Phase::FirstByte),
            House::Open,
            Some((22, Verdict::End, Cut::FirstByte)),
        );
        ends(
            &at(Phase::Head),
            House::Open,
            Some((22, Verdict::End, Cut::Head)),
        );
        ends(
            &at(Phase::Idle),
            House::Open,
            Some((122, Verdict::Finish, Cut::Idle)),
        );
        ends(
            &at(Phase::Quiet),
            House::Open,
            Some((602, Verdict::Finish, Cut::Idle)),
        );
        ends(
            &at(Phase::Closing),
            House::Open,
            Some((12, Verdict::End, Cut::Closing)),
        );
        ends(&at(Phase::Serving), House::Open, None);
        ends(
            &at(Phase::Idle),
            House::Draining,
            Some((6, Verdict::Finish, Cut::Idle)),
        );
        ends(
            &at(Phase::FirstByte),
            House::Draining,
            Some((6, Verdict::End, Cut::FirstByte)),
        );
        ends(&at(Phase::Serving), House::Draining, None);
    }

    #[test]
    fn who_rests_gives_way_where_there_is_no_room_and_who_is_at_work_does_not() {
        let at = |phase| {
            let vitals = Vitals::new(phase);
            vitals.enter(phase);
            vitals
        };
        for (phase, verdict, reason) in [
            (Phase::FirstByte, Verdict::End, Cut::FirstByte),
            (Phase::Idle, Verdict::Finish, Cut::Idle),
            (Phase::Quiet, Verdict::Finish, Cut::Idle),
        ] {
            ends(&at(phase), House::Full, Some((6, verdict, reason)));
        }
        ends(
            &at(Phase::Head),
            House::Full,
            Some((22, Verdict::End, Cut::Head)),
        );
        ends(&at(Phase::Serving), House::Full, None);
    }

    #[test]
    fn a_client_that_takes_nothing_is_cut() {
        let blocked = Vitals::new(Phase::Serving);
        blocked.write_blocked();
        ends(&blocked, House::Open, Some((121, Verdict::End, Cut::Write)));
        let shut = Vitals::new(Phase::Serving);
        shut.owe();
        ends(&shut, House::Open, Some((121, Verdict::End, Cut::Write)));
        shut.pay();
        let fresh = Vitals::new(Phase::Serving);
        fresh.owe();
        fresh.pay();
        ends(&fresh, House::Open, None);
    }

    /// After how many sweeps a client is cut that takes so much between two of them while something always waits.
    fn sipping(bytes: usize, open: impl Fn(&Vitals), take: impl Fn(&Vitals, usize)) -> Option<u32> {
        let ward = Ward::new(TICK);
        let vitals = Vitals::new(Phase::Serving);
        ward.admit(vitals.clone());
        open(&vitals);
        (0..2_000).find(|_| {
            take(&vitals, bytes);
            let mut cut = false;
            ward.sweep(&limits(), House::Open, |_| cut = true);
            assert_eq!(cut, vitals.forgets_the_rest());
            cut
        })
    }

    #[test]
    fn a_client_that_takes_a_little_now_and_then_is_cut_and_one_that_is_slow_is_not() {
        // The socket: what is written, and the rest waits.
        let socket = |vitals: &Vitals, bytes| {
            vitals.wrote(bytes);
            vitals.write_blocked();
        };
        assert_eq!(sipping(6, Vitals::write_blocked, socket), Some(121));
        assert_eq!(sipping(500, Vitals::write_blocked, socket), Some(121));
        assert_eq!(sipping(513, Vitals::write_blocked, socket), None);
        // HTTP/2 windows: answers to PINGs are no room for anything.
        assert_eq!(sipping(10_000, Vitals::owe, Vitals::wrote), Some(121));
        let another = |vitals: &Vitals, _| {
            vitals.owe();
            vitals.pay();
        };
        assert_eq!(sipping(0, Vitals::owe, another), None);
        // Enough at last counts for a minute, not for ever.
        let ward = Ward::new(TICK);
        let vitals = Vitals::new(Phase::Serving);
        ward.admit(vitals.clone());
        vitals.write_blocked();
        let sweeps = (0..1_000).find(|n| {
            if *n == 100 {
                socket(&vitals, 70_000);
            }
            let mut cut = false;
            ward.sweep(&limits(), House::Open, |_| cut = true);
            cut
        });
        assert_eq!(sweeps, Some(221));
    }

    #[test]
    fn a_head_that_does_not_end_is_cut_whatever_else_goes_on() {
        for phase in [Phase::Quiet, Phase::Serving] {
            let vitals = Vitals::new(phase);
            vitals.owes_head(3);
            ends(&vitals, House::Open, Some((22, Verdict::End, Cut::Head)));
        }
        // One after the other is not one that does not end; nor is one that we do not read because the client reads nothing.
        let (busy, ward) = (Vitals::new(Phase::Serving), Ward::new(TICK));
        ward.admit(busy.clone());
        for which in 1..100 {
            busy.owes_head(which);
            ward.sweep(&limits(), House::Open, |reason| unreachable!("{reason:?}"));
        }
        let blocked = Vitals::new(Phase::Serving);
        blocked.owes_head(1);
        blocked.write_blocked();
        ends(&blocked, House::Open, Some((121, Verdict::End, Cut::Write)));
        // Whoever keeps us waiting every second time has twice the time, and not all of it.
        let (sips, ward) = (Vitals::new(Phase::Serving), Ward::new(TICK));
        ward.admit(sips.clone());
        sips.owes_head(1);
        let cut = (0..2_000).find(|n| {
            sips.wrote(100);
            if n % 2 == 1 {
                sips.write_blocked();
            }
            let mut cut = None;
            ward.sweep(&limits(), House::Open, |reason| cut = Some(reason));
            cut == Some(Cut::Head)
        });
        assert_eq!(cut, Some(44));
    }

    #[test]
    fn what_moves_is_left_alone() {
        let ward = Ward::new(TICK);
        let vitals = Vitals::new(Phase::FirstByte);
        ward.admit(vitals.clone());
        for _ in 0..500 {
            vitals.begin();
            vitals.owe();
            ward.sweep(&limits(), House::Open, |reason| unreachable!("{reason:?}"));
            vitals.pay();
            vitals.end();
            ward.sweep(&limits(), House::Open, |reason| unreachable!("{reason:?}"));
        }
        assert_eq!(vitals.verdict(), Verdict::Go);
    }

    #[test]
    fn places_are_used_again() {
        let ward = Ward::new(TICK);
        let keys: Vec<_> = (0..3)
            .map(|_| ward.admit(Vitals::new(Phase::Idle)))
            .collect();
        ward.discharge(keys[1]);
        ward.discharge(keys[1]);
        assert_eq!(ward.open(), 2);
        assert_eq!(ward.admit(Vitals::new(Phase::Idle)), keys[1]);
        assert_eq!(ward.open(), 3);
    }
}
