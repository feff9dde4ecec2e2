//! What lives as long as the process: a reload changes settings, never these.

mod upkeep;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use crate::app::StartError;
use crate::app::drill::Board;
use crate::app::keeping;
use crate::app::life::longest_life;
use crate::app::signing;
use crate::app::store;
use crate::auth::Assertions;
use crate::auth::AtOnce;
use crate::auth::FallbacksTaken;
use crate::auth::Limits;
use crate::auth::Replays;
use crate::auth::Unmatched;
use crate::clock::Clock;
use crate::clock::ManualClock;
use crate::config::Environment;
use crate::config::System;
use crate::config::settings::Settings;
use crate::control::Closing;
use crate::control::ClosingParts;
use crate::control::Conductor;
use crate::control::Drills;
use crate::control::Exposure;
use crate::control::Journeys;
use crate::control::KillSettings;
use crate::control::KillSwitch;
use crate::control::Partners;
use crate::control::Parts;
use crate::control::Seen;
use crate::control::Stragglers;
use crate::control::Surface;
use crate::entropy::Entropy;
use crate::entropy::SystemEntropy;
use crate::exchange::KeyRing;
use crate::issuer::Habits;
use crate::ledger::Ledger;
use crate::ledger::LedgerSettings;
use crate::links::Homes;
use crate::links::Links;
use crate::proxy::Resolver;
use crate::proxy::Snapshot;
use crate::proxy::WorkerParts;
use crate::revocation;
use crate::revocation::Notices;
use crate::revocation::Revocations;
use crate::session::Pins;
use crate::session::Sessions;
use crate::shadow::Found;
use crate::shadow::Shadow;
use crate::shadow::ShadowParts;
use crate::store::Store;
use crate::telemetry::Logs;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::Traces;

/// The position of the kill switch at start, in the language of the kill file.
const KILL_VARIABLE: &str = "AUTHFERRY_KILL";

/// Everything that outlives a reload.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) clock: Arc<dyn Clock>,
    /// Set by a ticker, so that a request costs no call to the system.
    pub(super) coarse: ManualClock,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) environment: Arc<dyn Environment>,
    pub(super) background: Handle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) logs: Logs,
    pub(super) pseudonyms: Pseudonyms,
    pub(super) kill: Arc<KillSwitch>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) journeys: Arc<Journeys>,
    pub(super) seen: Arc<Seen>,
    pub(super) exposure: Arc<Exposure>,
    pub(super) stragglers: Arc<Stragglers>,
    pub(super) partners: Arc<Partners>,
    pub(super) away: Arc<Drills>,
    pub(super) drills: Board,
    pub(super) shadow: Arc<Shadow>,
    pub(super) surface: Arc<Surface>,
    pub(super) conductor: Arc<Conductor>,
    pub(super) closing: Arc<Closing>,
    pub(super) store: Arc<dyn Store>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) pins: Arc<Pins>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) links: Arc<Links>,
    pub(super) homes: Arc<Homes>,
    pub(super) forms: Arc<AtOnce>,
    pub(super) taken: Arc<FallbacksTaken>,
    pub(super) notices: Arc<Notices>,
    pub(super) replays: Arc<Replays>,
    pub(super) limits: Arc<Limits>,
    pub(super) unmatched: Arc<Unmatched>,
    pub(super) habits: Arc<Habits>,
    resolver: Arc<Resolver>,
    pub(super) assertions: Assertions,
    pub(super) ring: Arc<KeyRing>,
    verdict_key: [u8; 32],
    pub(super) traces: Option<Traces>,
    trace_permille: u32,
    serving: AtomicBool,
    leaving: AtomicBool,
}

impl Process {
    /// Sets everything up. Must be called on the background runtime.
    pub(super) fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, StartError> {
        directory(&settings.state_dir).map_err(StartError::state(format!(
            "the state directory {}",
            settings.state_dir.display()
        )))?;
        let background = Handle::current();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let metrics = Metrics::new(Arc::clone(&clock), settings.telemetry.max_series);
        let logs = Logs::open(
            (&settings.telemetry.access_log, settings.telemetry.log),
            settings.server.workers,
            Arc::clone(&metrics),
        )
        .map_err(StartError::state("the access log"))?;
        let kill = KillSwitch::start(
            KillSettings {
                file: settings.kill_switch.file.clone(),
                poll: settings.kill_switch.poll,
                state: settings.state_dir.join("kill.json"),
                environment: environment.variable(KILL_VARIABLE),
            },
            Arc::clone(&clock),
            Arc::clone(&metrics),
            logs.background(),
        )?;
        let ledger = LedgerSettings {
            file: settings.audit.file.clone(),
            configurations: settings.state_dir.join("configurations"),
            mirror: settings.audit.mirror,
            node: node(),
        };
        let ledger = Ledger::open(ledger, Arc::clone(&clock), Arc::clone(&metrics)).map_err(
            StartError::state(format!("the ledger {}", settings.audit.file.display())),
        )?;
        let ledger = Arc::new(ledger);
        kill.record_in(Arc::clone(&ledger));
        let store = store::open(settings, &entropy, &metrics)?;
        let sessions = Sessions::new(
            &settings.sessions,
            Arc::clone(&store),
            Arc::clone(&entropy),
            &background,
        )
        .map_err(|error| StartError::Build(error.to_string()))?;
        sessions.count_keys_by(&metrics);
        let ring = signing::open(
            settings,
            (&store, &sessions),
            (&entropy, &ledger),
            clock.now(),
        )?;
        ring.uses().count_by(&metrics);
        let traces = match &settings.telemetry.otlp {
            Some(endpoint) => {
                let started = Traces::start(endpoint, background.clone(), Arc::clone(&metrics));
                Some(started.map_err(|error| StartError::Build(error.to_string()))?)
            }
            None => None,
        };
        let pseudonyms = Pseudonyms::new(&settings.telemetry.pseudonym_key);
        let kept = &settings.retention;
        let links = Arc::new(keeping::links(settings, &store));
        links.follow(&background);
        let pins = Arc::new(Pins::new(Arc::clone(&store)).kept_for(kept.pins));
        let revocations = Revocations::new(revocation::Parts {
            store: Arc::clone(&store),
            links: Arc::clone(&links),
            sessions: Arc::clone(&sessions),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            metrics: Arc::clone(&metrics),
            decisions: logs.background(),
            pseudonyms: pseudonyms.clone(),
            keep: longest_life(settings),
        });
        let (kill, journeys) = (
            Arc::new(kill),
            Arc::new(Journeys::new(Arc::clone(&metrics)).among(&store)),
        );
        let conductor = Conductor::new(Parts {
            directory: settings.state_dir.join("rollouts"),
            clock: Arc::clone(&clock),
            ledger: Arc::clone(&ledger),
            journeys: Arc::clone(&journeys),
            kill: Arc::clone(&kill),
            metrics: Arc::clone(&metrics),
            shared: store::instances(&store, &node(), &entropy),
        });
        let parts = ShadowParts {
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            pseudonyms: pseudonyms.clone(),
            found: Arc::new(Found::new(pseudonyms.clone()).kept_for(kept.findings)),
            background: background.clone(),
        };
        let shadow = Shadow::start(parts).map_err(StartError::state("starting second opinions"))?;
        let closing = Closing::new(ClosingParts {
            store: Arc::clone(&store),
            sessions: Arc::clone(&sessions),
            revocations: Arc::clone(&revocations),
            ledger: Arc::clone(&ledger),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
        });
        let mut verdict_key = [0; 32];
        entropy.fill(&mut verdict_key);
        let process = Self {
            coarse: ManualClock::at(clock.now()),
            pseudonyms,
            revocations,
            kill,
            ledger,
            journeys,
            seen: Arc::new(Seen::kept_for(kept.facts)),
            stragglers: Arc::new(Stragglers::kept_for(kept.legacy_usage)),
            partners: Arc::default(),
            away: Arc::default(),
            drills: Board::default(),
            shadow: Arc::new(shadow),
            surface: Arc::default(),
            exposure: Arc::new(Exposure::new(
                Arc::clone(&pins),
                Arc::clone(&links),
                Arc::clone(&metrics),
            )),
            conductor: Arc::new(conductor),
            closing,
            pins,
            links,
            homes: Arc::new(Homes::new(Arc::clone(&store)).kept_for(kept.passwords)),
            forms: Arc::default(),
            taken: Arc::default(),
            unmatched: Arc::default(),
            notices: Arc::default(),
            replays: Arc::new(Replays::new(Arc::clone(&store))),
            habits: Arc::new(Habits::new(Arc::clone(&store))),
            limits: Arc::new(Limits::new(Arc::clone(&store), Arc::clone(&sessions))),
            resolver: Resolver::system(background.clone()),
            assertions: Assertions::new(Arc::clone(&ring), Arc::clone(&entropy)),
            ring,
            traces,
            trace_permille: settings.telemetry.trace_permille,
            serving: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            clock,
            entropy,
            environment,
            background,
            metrics,
            logs,
            store,
            sessions,
            verdict_key,
        };
        process.conductor.witness();
        process
            .keep_time()
            .map_err(StartError::state("starting the clock"))?;
        process.sweep();
        process.turn_keys();
        process.count_sessions();
        process.count_answers();
        process.keep_notes();
        process.introduce_retention();
        Ok(process)
    }

    /// What worker `index` needs.
    pub(super) fn worker(
        &self,
        index: usize,
        snapshots: Arc<ArcSwap<Snapshot>>,
        entries: usize,
    ) -> WorkerParts {
        WorkerParts {
            index,
            snapshots,
            clock: self.coarse.clone(),
            exact: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            kill: Arc::clone(&self.kill),
            metrics: Arc::clone(&self.metrics),
            access: self.logs.access(index),
            decisions: self.logs.decisions(index),
            pseudonyms: self.pseudonyms.clone(),
            traces: self.traces.clone(),
            trace_permille: self.trace_permille,
            assertions: self.assertions.clone(),
            verdict_key: self.verdict_key,
            verdict_entries: entries,
            surface: self.surface.shard(),
            resolver: Arc::clone(&self.resolver),
        }
    }

    /// Listeners are open.
    pub(super) fn started(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// We are going away.
    pub(super) fn draining(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether listeners are open, and whether we are going away.
    pub(super) fn phase(&self) -> (bool, bool) {
        (
            self.serving.load(Ordering::Acquire),
            self.leaving.load(Ordering::Acquire),
        )
    }

    /// Writes what is still in memory, for at most `patience`.
    pub(super) fn stop(&self, patience: Duration) {
        if self
            .traces
            .as_ref()
            .is_some_and(|traces| !traces.flush(patience))
        {
            tracing::warn!("Some spans may not have been exported.");
        }
        if !self.logs.flush(patience) {
            tracing::warn!("Some log lines may not have been written.");
        }
    }
}

/// The name of this instance in records: the host's.
fn node() -> String {
    let given = System.variable("HOSTNAME").filter(|name| !name.is_empty());
    given
        .or_else(|| fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| String::from("-"), |name| name.trim().to_owned())
}

/// A directory that only we can read.
fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
