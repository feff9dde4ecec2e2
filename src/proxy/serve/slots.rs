//! How many connections there may be: one count for all workers, so that descriptors are left for upstreams, the store,
//! logs and the admin listener.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

/// Descriptors that are never used for clients.
const KEPT_BACK: usize = 64;

/// The fewest connections ever allowed, however small the descriptor limit is.
const FEWEST: usize = 16;

/// Connections that are served however short memory is.
const ALWAYS: usize = 64;

/// What Linux gives a process when nobody says otherwise; assumed when the limit cannot be read.
const USUAL_LIMIT: usize = 1_024;

/// The count of open connections and its bound.
#[derive(Debug)]
pub(crate) struct Slots {
    open: AtomicUsize,
    max: AtomicUsize,
    freed: Notify,
    /// Memory is short.
    short: AtomicBool,
}

impl Slots {
    /// At most `max` connections.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            freed: Notify::new(),
            short: AtomicBool::new(false),
        })
    }

    /// Connections open now, tunnels included.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// The bound.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Changes the bound. Connections beyond it stay.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
        self.freed.notify_waiters();
    }

    /// Whether another connection may come.
    pub(crate) fn free(&self) -> bool {
        self.open() < self.max()
    }

    /// Memory is short, or it is not any more.
    pub(crate) fn set_short(&self, short: bool) {
        self.short.store(short, Relaxed);
    }

    /// Whether new connections and requests are turned away, because memory is short and it is connections that hold it.
    /// A few are always served: an allocator that keeps what was freed must not shut the house for ever.
    pub(crate) fn sheds(&self) -> bool {
        self.short.load(Relaxed) && ALWAYS < self.open()
    }

    /// Waits until another connection may come. Cheap when it may already.
    pub(crate) async fn wait_free(&self) {
        while !self.free() {
            let freed = self.freed.notified();
            if self.free() {
                return;
            }
            freed.await;
        }
    }

    /// Counts a connection, of the process and of its worker. Workers may overshoot the bound by one each.
    pub(crate) fn take(self: &Arc<Self>, worker: &Arc<AtomicUsize>) -> Slot {
        self.open.fetch_add(1, Relaxed);
        worker.fetch_add(1, Relaxed);
        Slot {
            slots: self.clone(),
            worker: worker.clone(),
        }
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    worker: Arc<AtomicUsize>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker.fetch_sub(1, Relaxed);
        let before = self.slots.open.fetch_sub(1, Relaxed);
        if self.slots.max() <= before {
            self.slots.freed.notify_waiters();
        }
    }
}

/// The bound for connections: what is configured, at most four fifths of the descriptor limit less [`KEPT_BACK`].
pub(crate) fn bound(configured: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    bound_under(configured, open_files(&limits).unwrap_or(USUAL_LIMIT))
}

fn bound_under(configured: usize, descriptors: usize) -> usize {
    let most = (descriptors / 5)
        .saturating_mul(4)
        .saturating_sub(KEPT_BACK);
    configured.min(most.max(FEWEST))
}

/// The soft limit of open files in the text of `/proc/self/limits` (proc(5)).
fn open_files(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_descriptor_limit_bounds_the_connections() {
        assert_eq!(bound_under(50_000, 256), 140);
        assert_eq!(bound_under(50_000, 1_048_576), 50_000);
        assert_eq!(bound_under(100, 1_048_576), 100);
        assert_eq!(bound_under(50_000, 32), FEWEST);
    }

    #[test]
    fn the_descriptor_limit_is_read_from_the_system() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            20480                1048576              files     \n";
        assert_eq!(open_files(text), Some(20_480));
        assert_eq!(open_files(""), None);
        assert!(open_files(&fs::read_to_string("/proc/self/limits").unwrap()).is_some());
    }

    #[test]
    fn who_is_among_the_first_is_served_however_short_memory_is() {
        let slots = Slots::new(1_000);
        let worker = Arc::new(AtomicUsize::new(0));
        let mut taken: Vec<_> = (0..=ALWAYS).map(|_| slots.take(&worker)).collect();
        assert!(!slots.sheds());
        slots.set_short(true);
        assert!(slots.sheds());
        taken.pop();
        assert!(!slots.sheds());
        taken.push(slots.take(&worker));
        slots.set_short(false);
        assert!(!slots.sheds());
    }

    #[tokio::test]
    async fn a_full_house_waits_until_somebody_leaves() {
        let slots = Slots::new(1);
        let worker = Arc::new(AtomicUsize::new(0));
        let slot = slots.take(&worker);
        assert!(!slots.free());
        let waiting = slots.wait_free();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(slot);
        waiting.await;
        assert_eq!(slots.open(), 0);
        assert_eq!(worker.load(Relaxed), 0);
    }
}
