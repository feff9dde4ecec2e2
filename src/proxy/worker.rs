//! What one worker has to itself: verdicts, pools, counters, logs. Nothing here is shared with another worker's path.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::Cache;

use crate::auth::Assertions;
use crate::clock::Clock as _;
use crate::clock::ManualClock;
use crate::clock::UnixTime;
use crate::control::KillSwitch;
use crate::entropy::Entropy;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::upstream::Pools;
use crate::proxy::verdicts::Verdicts;
use crate::telemetry::AccessLog;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::Tracer;
use crate::telemetry::Traces;
use crate::telemetry::WorkerMetrics;

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct WorkerParts {
    /// Its number.
    pub(crate) index: usize,
    /// Where the running snapshot is.
    pub(crate) snapshots: Arc<ArcSwap<Snapshot>>,
    /// The coarse clock: set by a ticker, a few milliseconds late at most.
    pub(crate) clock: ManualClock,
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
    /// Where connections to upstreams are resolved and checked.
    pub(crate) background: tokio::runtime::Handle,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(super) clock: ManualClock,
    pub(super) kill: Arc<KillSwitch>,
    pub(super) access: AccessLog,
    pub(super) decisions: DecisionLog,
    pub(super) pseudonyms: Pseudonyms,
    pub(super) traces: Option<Traces>,
    pub(super) tracer: Tracer<Arc<dyn Entropy>>,
    pub(super) assertions: Assertions,
    pub(super) verdicts: Verdicts,
    index: usize,
    metrics: Arc<Metrics>,
    pools: Pools,
    snapshots: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
}

/// One snapshot, with this worker's counters and pools for it. A request keeps the one it began with.
#[derive(Debug)]
pub(crate) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) metrics: WorkerMetrics,
    /// By application: the pool of the application, and of each route that has its own.
    pub(super) pools: Vec<AppPools>,
}

/// The pools of one application.
#[derive(Debug)]
pub(crate) struct AppPools {
    pub(super) own: Rc<crate::proxy::upstream::Pool>,
    pub(super) routes: Vec<Option<Rc<crate::proxy::upstream::Pool>>>,
}

impl Worker {
    /// A worker on the present thread and runtime.
    pub(crate) fn new(parts: WorkerParts) -> Self {
        let mut snapshots = Cache::new(parts.snapshots);
        let snapshot = Arc::clone(snapshots.load());
        let pools = Pools::new(parts.background);
        let view = View::new(parts.index, &parts.metrics, &pools, snapshot);
        Self {
            clock: parts.clock,
            kill: parts.kill,
            access: parts.access,
            decisions: parts.decisions,
            pseudonyms: parts.pseudonyms,
            traces: parts.traces,
            tracer: Tracer::new(parts.entropy, parts.trace_permille),
            assertions: parts.assertions,
            verdicts: Verdicts::new(parts.verdict_entries, parts.verdict_key),
            index: parts.index,
            metrics: parts.metrics,
            pools,
            snapshots: RefCell::new(snapshots),
            view: RefCell::new(Rc::new(view)),
        }
    }

    /// The present moment, a few milliseconds late at most.
    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// The running snapshot as this worker sees it: one pointer is compared.
    pub(super) fn view(&self) -> Rc<View> {
        let mut snapshots = self.snapshots.borrow_mut();
        let running = snapshots.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&view.snapshot, running) {
            *view = Rc::new(View::new(self.index, &self.metrics, &self.pools, Arc::clone(running)));
            self.pools.forget_unused();
        }
        Rc::clone(&view)
    }
}

impl View {
    fn new(index: usize, metrics: &Arc<Metrics>, pools: &Pools, snapshot: Arc<Snapshot>) -> Self {
        let of_app = |app: &crate::proxy::snapshot::AppEntry| AppPools {
            own: pools.pool(&app.settings.upstream),
            routes: app.settings.routes.iter().map(|route| route.upstream.as_ref().map(|upstream| pools.pool(upstream))).collect(),
        };
        Self {
            metrics: metrics.worker(index, &snapshot.names),
            pools: snapshot.apps.iter().map(of_app).collect(),
            snapshot,
        }
    }
}
