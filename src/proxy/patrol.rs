//! Answers that last: looked after as long as they are open, and ended when their reader may no longer have them.
//!
//! An answer that comes at once never gets here. One whose next bytes are waited for is registered with its worker, which
//! looks at all of them twice a second.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::rc::Weak;
use std::task::Waker;
use std::time::Duration;

use tokio::task::spawn_local;

use crate::telemetry::metrics::TunnelEnd;

/// How often. Two seconds are promised.
const LOOK: Duration = Duration::from_millis(500);

/// Says why an answer must end; `None`: it may go on.
pub(super) type Over = Box<dyn Fn() -> Option<TunnelEnd>>;

/// The open answers of one worker.
#[derive(Default)]
pub(crate) struct Patrol {
    open: RefCell<HashMap<u64, Watched>>,
    next: Cell<u64>,
    walking: Cell<bool>,
}

struct Watched {
    over: Over,
    waker: Waker,
    cut: Rc<Cell<Option<TunnelEnd>>>,
}

/// An answer that is looked after, as long as this lives.
pub(crate) struct Ticket {
    patrol: Rc<Patrol>,
    number: u64,
    cut: Rc<Cell<Option<TunnelEnd>>>,
}

impl Patrol {
    /// Looks after an answer from now on; whoever waits for its next bytes is woken when it must end.
    pub(super) fn watch(self: &Rc<Self>, over: Over, waker: &Waker) -> Ticket {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let cut = Rc::new(Cell::new(None));
        let watched = Watched {
            over,
            waker: waker.clone(),
            cut: Rc::clone(&cut),
        };
        self.open.borrow_mut().insert(number, watched);
        if !self.walking.replace(true) {
            spawn_local(walk(Rc::downgrade(self)));
        }
        Ticket {
            patrol: Rc::clone(self),
            number,
            cut,
        }
    }

    /// `false`: nothing is left to look after.
    fn look(&self) -> bool {
        let open = self.open.borrow();
        for watched in open.values() {
            if watched.cut.get().is_none()
                && let Some(end) = (watched.over)()
            {
                watched.cut.set(Some(end));
                watched.waker.wake_by_ref();
            }
        }
        !open.is_empty()
    }
}

async fn walk(patrol: Weak<Patrol>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(patrol) = patrol.upgrade() else {
            return;
        };
        if !patrol.look() {
            patrol.walking.set(false);
            return;
        }
    }
}

impl Ticket {
    /// Why the answer must end, once it must.
    pub(super) fn cut(&self) -> Option<TunnelEnd> {
        self.cut.get()
    }

    /// Somebody else may wait for the next bytes now.
    pub(super) fn wakes(&self, waker: &Waker) {
        if let Some(watched) = self.patrol.open.borrow_mut().get_mut(&self.number)
            && !watched.waker.will_wake(waker)
        {
            watched.waker = waker.clone();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Dropped by a waker that `look` called: the entry goes with the next look, which finds nobody to wake.
        if let Ok(mut open) = self.patrol.open.try_borrow_mut() {
            open.remove(&self.number);
        }
    }
}

impl fmt::Debug for Patrol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[patrol]")
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[ticket]")
    }
}
