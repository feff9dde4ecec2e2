//! What one worker has to itself: verdicts, pools, counters, logs. Nothing here is shared with another worker's path.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::Cache;

use crate::auth::Assertions;
use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::clock::UnixTime;
use crate::control::KillSwitch;
use crate::control::SurfaceShard;
use crate::entropy::Entropy;
use crate::proxy::client_body::ClientBody;
use crate::proxy::patrol::Patrol;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::upstream::Pool;
use crate::proxy::upstream::Resolver;
use crate::proxy::verdicts::Verdicts;
use crate::telemetry::AccessLog;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::Tracer;
use crate::telemetry::Traces;
use crate::telemetry::WorkerMetrics;

/// What a worker is made of.
pub(crate) struct WorkerParts {
    /// Its number.
    pub(crate) index: usize,
    /// Where the running snapshot is.
    pub(crate) snapshots: Arc<ArcSwap<Snapshot>>,
    /// The coarse clock: set by a ticker, a few milliseconds late at most.
    pub(crate) clock: ManualClock,
    /// The one that it follows.
    pub(crate) exact: Arc<dyn Clock>,
    /// Where identifiers come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The kill switch.
    pub(crate) kill: Arc<KillSwitch>,
    /// All counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The access log of this worker.
    pub(crate) access: AccessLog,
    /// The decision log of this worker.
    pub(crate) decisions: DecisionLog,
    /// Who hides names.
    pub(crate) pseudonyms: Pseudonyms,
    /// Where spans go; `None`: nowhere.
    pub(crate) traces: Option<Traces>,
    /// The share of traces that begin here and are followed, in thousandths.
    pub(crate) trace_permille: u32,
    /// Who signs assertions.
    pub(crate) assertions: Assertions,
    /// The key of the verdicts' digests.
    pub(crate) verdict_key: [u8; 32],
    /// How many verdicts are kept.
    pub(crate) verdict_entries: usize,
    /// Where it is counted what applications answer themselves.
    pub(crate) surface: Arc<SurfaceShard>,
    /// Who looks up the names of upstreams.
    pub(crate) resolver: Arc<Resolver>,
}

/// One worker.
pub(crate) struct Worker {
    pub(super) clock: ManualClock,
    exact: Arc<dyn Clock>,
    pub(super) kill: Arc<KillSwitch>,
    pub(super) access: AccessLog,
    pub(super) decisions: DecisionLog,
    pub(super) pseudonyms: Pseudonyms,
    pub(super) traces: Option<Traces>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) tracer: Tracer<Arc<dyn Entropy>>,
    pub(super) assertions: Assertions,
    pub(super) verdicts: Verdicts,
    pub(super) patrol: Rc<Patrol>,
    pub(super) surface: Arc<SurfaceShard>,
    index: usize,
    metrics: Arc<Metrics>,
    pub(super) pool: Pool<ClientBody>,
    snapshots: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
}

/// One snapshot, with this worker's counters and pools for it. A request keeps the one it began with.
#[derive(Debug)]
pub(crate) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) metrics: WorkerMetrics,
}

impl Worker {
    /// A worker on the present thread and runtime.
    pub(crate) fn new(parts: WorkerParts) -> Self {
        let mut snapshots = Cache::new(parts.snapshots);
        let snapshot = Arc::clone(snapshots.load());
        let view = View::new(parts.index, &parts.metrics, snapshot);
        Self {
            clock: parts.clock,
            exact: parts.exact,
            kill: parts.kill,
            access: parts.access,
            decisions: parts.decisions,
            pseudonyms: parts.pseudonyms,
            traces: parts.traces,
            entropy: Arc::clone(&parts.entropy),
            tracer: Tracer::new(parts.entropy, parts.trace_permille),
            assertions: parts.assertions,
            verdicts: Verdicts::new(parts.verdict_entries, parts.verdict_key),
            patrol: Rc::default(),
            surface: parts.surface,
            index: parts.index,
            metrics: parts.metrics,
            pool: Pool::new(parts.resolver),
            snapshots: RefCell::new(snapshots),
            view: RefCell::new(Rc::new(view)),
        }
    }

    /// The present moment, a few milliseconds late at most.
    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The present moment, for what somebody begins with us.
    pub(super) fn now_exactly(&self) -> UnixTime {
        self.exact.now()
    }

    /// The running snapshot as this worker sees it: one pointer is compared.
    pub(super) fn view(&self) -> Rc<View> {
        let mut snapshots = self.snapshots.borrow_mut();
        let running = snapshots.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&view.snapshot, running) {
            *view = Rc::new(View::new(self.index, &self.metrics, Arc::clone(running)));
        }
        Rc::clone(&view)
    }
}

impl View {
    fn new(index: usize, metrics: &Arc<Metrics>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            metrics: metrics.worker(index, &snapshot.names),
            snapshot,
        }
    }
}
