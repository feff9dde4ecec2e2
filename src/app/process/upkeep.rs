//! What is looked after as long as the process lives: time, keys, counts, what has expired.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::app::process::Process;
use crate::control::KEEP_PARTNERS;
use crate::control::PARTNERS;
use crate::control::STRAGGLERS;
use crate::control::agreed;
use crate::proxy::serve::counts::Counts;
use crate::rollout::AppId;
use crate::shadow;
use crate::shadow::Class;
use crate::store::Notes;
use crate::store::Together;
use crate::telemetry::metrics::Compared;
use crate::telemetry::metrics::Oracle;

/// How often the coarse clock is set. Nothing that is decided by it is finer than a second.
const TICK: Duration = Duration::from_millis(10);

/// How often connections that were turned away reach the metrics.
const COUNT: Duration = Duration::from_secs(1);

/// How often the signing keys are looked after: their files, and whether the next one is due.
const TURN: Duration = Duration::from_secs(5);

/// How often sessions in use are counted.
const COUNT_SESSIONS: Duration = Duration::from_secs(5);

/// How often expired rows are removed.
const SWEEP: Duration = Duration::from_secs(30);

impl Process {
    /// Tells the metrics what happens to connections, for as long as the process lives.
    pub(in crate::app) fn count(&self, counts: Arc<Counts>) {
        let metrics = Arc::clone(&self.metrics);
        self.background.spawn(async move {
            let mut tick = tokio::time::interval(COUNT);
            loop {
                tick.tick().await;
                for (reason, count) in counts.take() {
                    metrics.shed(reason, count);
                }
            }
        });
    }

    pub(super) fn keep_time(&self) -> io::Result<()> {
        self.coarse.follow(Arc::clone(&self.clock), TICK)
    }

    /// Looks after the signing keys.
    pub(super) fn turn_keys(&self) {
        let (clock, ring) = (Arc::clone(&self.clock), Arc::clone(&self.ring));
        self.background.spawn(async move {
            let mut tick = tokio::time::interval(TURN);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                ring.keep(clock.now()).await;
            }
        });
    }

    pub(super) fn count_sessions(&self) {
        let (clock, sessions) = (Arc::clone(&self.clock), Arc::clone(&self.sessions));
        let (metrics, shadow) = (Arc::clone(&self.metrics), Arc::clone(&self.shadow));
        self.background.spawn(async move {
            let mut tick = tokio::time::interval(COUNT_SESSIONS);
            loop {
                tick.tick().await;
                metrics.shadow_queue(shadow.depth());
                let tally = sessions.in_use(clock.now());
                let rows = tally.iter();
                metrics.sessions(
                    rows.map(|((app, side, origin), count)| ([&**app, *side, *origin], *count)),
                );
            }
        });
    }

    /// Tells the metrics what applications answer themselves.
    pub(super) fn count_answers(&self) {
        let (metrics, surface) = (Arc::clone(&self.metrics), Arc::clone(&self.surface));
        self.background.spawn(async move {
            let mut told: BTreeMap<AppId, [u64; 2]> = BTreeMap::new();
            let mut tick = tokio::time::interval(COUNT_SESSIONS);
            loop {
                tick.tick().await;
                for (app, [same, different]) in agreed(&surface.all()) {
                    let before = told.insert(app.clone(), [same, different]);
                    let [a, b] = before.unwrap_or_default();
                    let (same, different) = (same.saturating_sub(a), different.saturating_sub(b));
                    let oracle = Oracle::UpstreamStatus;
                    metrics.shadow_compared_by(&app, oracle, Compared::Same, same);
                    metrics.shadow_compared_by(&app, oracle, Compared::Different, different);
                    let class = Class::AcceptReject;
                    let words = (class.as_str(), class.severity());
                    metrics.shadow_divergence(&app, words, different);
                }
            }
        });
    }

    /// Keeps what second opinions found, who still comes with old credentials, and who has no partner.
    pub(super) fn keep_notes(&self) {
        let found: Arc<dyn Notes> = Arc::clone(self.shadow.found()) as _;
        let stragglers: Arc<dyn Notes> = Arc::clone(&self.stragglers) as _;
        let partners: Arc<dyn Notes> = Arc::clone(&self.partners) as _;
        let [of_found, of_stragglers] = [self.shadow.found().keep(), self.stragglers.keep()];
        for (notes, table, keep) in [
            (found, shadow::TABLE, of_found),
            (stragglers, STRAGGLERS, of_stragglers),
            (partners, PARTNERS, KEEP_PARTNERS),
        ] {
            let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
            let together = Together::new(store, clock, notes, (table, keep));
            self.background.spawn(together.run());
        }
    }

    /// Gives what was kept under another configuration the time that this one says.
    pub(super) fn introduce_retention(&self) {
        let (clock, links) = (Arc::clone(&self.clock), Arc::clone(&self.links));
        let homes = Arc::clone(&self.homes);
        self.background.spawn(async move {
            loop {
                let now = clock.now();
                let done = match links.introduce(now).await {
                    Ok(()) => homes.introduce(now).await,
                    Err(error) => Err(error),
                };
                let Err(error) = done else { return };
                tracing::warn!(%error, "Links and homes of passwords are kept as before until the store answers.");
                tokio::time::sleep(SWEEP).await;
            }
        });
    }

    pub(super) fn sweep(&self) {
        let (clock, store) = (Arc::clone(&self.clock), Arc::clone(&self.store));
        let (ledger, seen) = (Arc::clone(&self.ledger), Arc::clone(&self.seen));
        self.background.spawn(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                seen.sweep(clock.now());
                let owing = Arc::clone(&ledger);
                // Waits for the disk.
                drop(tokio::task::spawn_blocking(move || owing.retry()).await);
                if let Err(error) = store.sweep(clock.now()).await {
                    tracing::warn!(%error, "Expired rows stay for now.");
                }
            }
        });
    }
}
