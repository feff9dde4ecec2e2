//! From a changed file to a new snapshot: validate, then one swap. The last good one stays on any problem.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::admin::PlanView;
use crate::admin::ReloadAnswer;
use crate::admin::ReloadOutcome;
use crate::app::aftermath;
use crate::app::build;
use crate::app::build::Built;
use crate::app::catalog::expiring;
use crate::app::life::longest_life;
use crate::app::plan;
use crate::app::process::Process;
use crate::app::reshuffle;
use crate::app::revision;
use crate::app::unchangeable;
use crate::config;
use crate::config::Environment;
use crate::config::Source;
use crate::config::settings::Settings;
use crate::providers::Providers;
use crate::proxy::Snapshot;
use crate::proxy::serve::Limiter;
use crate::proxy::settings::Drain;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::Reload as TlsReload;
use crate::telemetry::metrics::Reload;

/// Settings that were read and checked, and the files they came from.
pub(super) struct Read {
    pub(super) settings: Settings,
    files: Vec<PathBuf>,
    /// What it does to people; nothing is known of a start.
    plan: PlanView,
}

/// Settings with what was built of them, and its generation.
type Prepared = (Settings, Snapshot, Built, u64);

/// Reads and checks a configuration file; every problem, in words.
pub(super) fn read(path: &Path, environment: &Arc<dyn Environment>) -> Result<Read, String> {
    let source = Source::read(path, Arc::clone(environment)).map_err(|error| error.to_string())?;
    let compiled = config::load(&source).map_err(|problems| problems.to_string())?;
    if !compiled.warnings.list.is_empty() {
        warn!(warnings = %compiled.warnings, "The configuration is good, but somebody should look at it.");
    }
    let (settings, made) = compiled.draft.ensure().map_err(|error| error.to_string())?;
    for name in made {
        info!(
            key = name.as_str(),
            "A key was made, because the configuration names none."
        );
    }
    Ok(Read {
        settings,
        files: compiled.files,
        plan: PlanView::default(),
    })
}

/// Keeps the running snapshot, and replaces it.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) process: Arc<Process>,
    /// What the process was made with: some of it no reload can change.
    pub(super) started: Arc<Settings>,
    pub(super) path: PathBuf,
    snapshots: Arc<ArcSwap<Snapshot>>,
    certificates: Vec<Arc<Certificates>>,
    state: Mutex<State>,
    /// Held by the reload that is under way.
    turn: Mutex<()>,
    /// Held by whoever keeps what the next start compares: the last one keeps what runs.
    keeping: Mutex<()>,
    pub(super) look: Notify,
    limiter: OnceLock<Limiter>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    generation: u64,
    /// What lives, for the next build.
    built: Built,
    /// What was wrong with the last file, if it was refused.
    refused: Option<String>,
    pub(super) files: BTreeSet<PathBuf>,
}

impl Reloader {
    /// Watches the file, and what it names, from here on.
    pub(super) fn start(
        process: Arc<Process>,
        path: PathBuf,
        read: Read,
        (snapshot, built): (Snapshot, Built),
        certificates: Vec<Arc<Certificates>>,
    ) -> Arc<Self> {
        let Read {
            settings, files, ..
        } = read;
        revision::started(&process.ledger, &settings);
        let settings = Arc::new(settings);
        let reloader = Arc::new(Self {
            process,
            started: Arc::clone(&settings),
            path,
            snapshots: Arc::new(ArcSwap::from_pointee(snapshot)),
            certificates,
            state: Mutex::new(State {
                settings,
                generation: 1,
                built,
                refused: None,
                files: files.into_iter().collect(),
            }),
            turn: Mutex::default(),
            keeping: Mutex::default(),
            look: Notify::new(),
            limiter: OnceLock::new(),
        });
        reloader.adopt();
        reloader.applied(Reload::Success);
        reloader.keep_buckets();
        reloader.expiries();
        let watching = Arc::clone(&reloader);
        reloader.process.background.spawn(watching.watch());
        reloader
    }

    /// Lets reloads change the limits of running workers.
    pub(super) fn limit(&self, limiter: Limiter) {
        limiter.set(&self.settings().server.limits);
        self.limiter.get_or_init(|| limiter);
    }

    /// Where workers find the running snapshot.
    pub(super) const fn snapshots(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.snapshots
    }

    /// The running settings.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.state().settings)
    }

    /// The live providers.
    pub(super) fn providers(&self) -> Arc<Providers> {
        Arc::clone(&self.state().built.providers)
    }

    /// What was wrong with the last file, if it was refused.
    pub(super) fn refused(&self) -> Option<String> {
        self.state().refused.clone()
    }

    /// How to drain.
    pub(super) fn drain(&self) -> Drain {
        self.state().settings.server.drain
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again and lets it run, or says why not. Blocks on files: for the blocking pool.
    pub(super) fn reload(&self) -> ReloadAnswer {
        // One after the other, or an older reading of the file could follow a newer one. What waits for the store waits
        // here, where nobody else does.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read(&self.path, &self.process.environment)
            .and_then(|read| self.learnt(read))
            .and_then(|read| self.planned(read));
        let mut state = self.state();
        let answer = |outcome, settings: &Settings, problem: Option<String>| ReloadAnswer {
            outcome,
            revision: settings.revision.to_string(),
            problems: problem.into_iter().collect(),
            waiting: Vec::new(),
        };
        let outcome = read.and_then(|read| self.prepared(&mut state, read));
        match outcome {
            Ok((settings, snapshot, built, generation)) => {
                let longest = longest_life(&settings);
                self.process.revocations.keep_at_least(longest);
                let waiting = unchangeable::waiting(&self.started, &settings);
                for key in &waiting {
                    warn!(key, "This key takes effect at the next start only.");
                }
                let now = self.process.clock.now();
                self.process.ring.configure(settings.signing.clone(), now);
                if let Err(error) = self.process.sessions.reload(&settings.sessions) {
                    return self.refuse(&mut state, error.to_string());
                }
                let same = state.settings.sha256 == settings.sha256;
                self.snapshots.store(Arc::new(snapshot));
                state.settings = Arc::new(settings);
                state.generation = generation;
                state.built = built;
                state.refused = None;
                let outcome = if same {
                    ReloadOutcome::Unchanged
                } else {
                    ReloadOutcome::Applied
                };
                let mut said = answer(outcome, &state.settings, None);
                said.waiting = waiting.into_iter().map(str::to_owned).collect();
                info!(
                    revision = said.revision,
                    generation, "The configuration was reloaded."
                );
                drop(state);
                self.keep_buckets();
                self.adopt();
                self.applied(Reload::Success);
                said
            }
            Err(problem) => self.refuse(&mut state, problem),
        }
    }

    /// Of rollouts that are new here the store says where they stand.
    fn learnt(&self, read: Read) -> Result<Read, String> {
        let (conductor, background) = (&self.process.conductor, &self.process.background);
        background.block_on(conductor.learn(&read.settings.courses))?;
        Ok(read)
    }

    /// What it would do to people: more than may be must be meant.
    fn planned(&self, mut read: Read) -> Result<Read, String> {
        let running = self.settings();
        let new = &mut read.settings;
        new.rollouts = self.process.conductor.plans(&new.courses)?;
        reshuffle::check(&running, new)?;
        let asked = plan::of_reload(&self.process, &running, new);
        read.plan = self.process.background.block_on(asked);
        plan::check(&read.plan)?;
        Ok(read)
    }

    /// What would run, recorded: first what a file may not do, then what costs.
    fn prepared(&self, state: &mut State, read: Read) -> Result<Prepared, String> {
        let Read {
            mut settings,
            files,
            plan,
        } = read;
        state.files = files.into_iter().collect();
        settings.rollouts = self.process.conductor.plans(&settings.courses)?;
        reshuffle::check(&state.settings, &settings)?;
        if settings.sessions.secure != self.started.sessions.secure {
            let why = "server.tls: whether listeners have TLS decides what cookies say, and the listeners stay as they are: restart with this file";
            return Err(why.to_owned());
        }
        let (generation, running) = (state.generation + 1, self.snapshots.load());
        let before = Some((&state.built, &**running));
        let (snapshot, built) = build::snapshot(&self.process, &settings, before, generation)?;
        // First the record, then the change: without the one there is not the other.
        let ledger = &self.process.ledger;
        revision::applied(ledger, &state.settings, &settings, &plan)
            .map_err(|error| error.to_string())?;
        Ok((settings, snapshot, built, generation))
    }

    /// The rollouts of the running settings are driven from here on.
    fn adopt(&self) {
        let courses = self.settings().courses.clone();
        if let Err(error) = self.process.conductor.adopt(courses) {
            error!(error, "The rollouts stay as they are.");
        }
    }

    /// Lets rollouts decide as they stand now: a new snapshot of the running settings. Builds: for the blocking pool.
    ///
    /// # Errors
    ///
    /// Why not, in words; the running snapshot stays.
    pub(super) fn replan(&self) -> Result<(), String> {
        let mut state = self.state();
        let mut settings = Settings::clone(&state.settings);
        settings.rollouts = self.process.conductor.plans(&settings.courses)?;
        let (generation, running) = (state.generation + 1, self.snapshots.load());
        let (snapshot, built) = build::snapshot(
            &self.process,
            &settings,
            Some((&state.built, &**running)),
            generation,
        )?;
        self.process.metrics.rollouts(&settings.rollouts);
        self.process.kill.ends(aftermath::ends(&settings));
        self.snapshots.store(Arc::new(snapshot));
        state.settings = Arc::new(settings);
        state.generation = generation;
        state.built = built;
        drop(state);
        self.keep_buckets();
        Ok(())
    }

    /// Not while the state is held: whoever asks what runs does not wait for the disk. Where that is kept no reload changes.
    fn keep_buckets(&self) {
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        reshuffle::keep(&self.started.state_dir, &self.settings());
    }

    fn refuse(&self, state: &mut State, problem: String) -> ReloadAnswer {
        error!(
            problems = problem,
            "The configuration was refused; the running one stays."
        );
        self.process.metrics.reload(Reload::Refused);
        if state.refused.as_ref() != Some(&problem) {
            revision::refused(&self.process.ledger, &state.settings, &problem);
        }
        let revision = state.settings.revision.to_string();
        state.refused = Some(problem.clone());
        ReloadAnswer {
            outcome: ReloadOutcome::Refused,
            revision,
            problems: vec![problem],
            waiting: Vec::new(),
        }
    }

    /// Tells those who show what runs.
    fn applied(&self, outcome: Reload) {
        let settings = self.settings();
        if let Some(limiter) = self.limiter.get() {
            limiter.set(&settings.server.limits);
        }
        self.process.metrics.reload(outcome);
        self.process
            .metrics
            .configuration(&settings.revision, &settings.sha256);
        self.process.metrics.rollouts(&settings.rollouts);
        let ids = settings.rollouts.iter().map(|plan| plan.id.clone());
        self.process.kill.rollouts(ids.collect());
        self.process.kill.ends(aftermath::ends(&settings));
    }

    /// Looks at certificates; a pair that does not fit is refused and the old one stays.
    pub(super) fn certificates(&self) {
        let now = self.process.clock.now();
        for certificates in &self.certificates {
            match certificates.reload(now) {
                TlsReload::Unchanged => {}
                TlsReload::Replaced => info!("Certificates were replaced."),
                TlsReload::Refused(error) => {
                    error!(%error, "New certificates were refused; the old ones stay.")
                }
            }
        }
        self.expiries();
    }

    fn expiries(&self) {
        let all = self.certificates.iter().flat_map(|c| c.expiry());
        self.process
            .metrics
            .certificates(all.map(|(path, expires)| (path.display().to_string(), expires)));
        let found = self.expiring();
        let rows = found.iter().filter_map(|one| {
            let renewed = if one.kind.renews_itself() {
                "itself"
            } else {
                "operator"
            };
            let words = [
                one.kind.as_str(),
                one.used.as_str(),
                one.name.as_str(),
                renewed,
            ];
            Some((words, *one.ends.as_ref().ok()?))
        });
        // Those of listeners have a family of their own.
        let rows = rows.filter(|([_, used, ..], _)| !used.starts_with("listener "));
        self.process.metrics.expiries(rows);
    }

    /// What of the running configuration ends, with the keys that instances have together.
    pub(super) fn expiring(&self) -> Vec<expiring::Expiring> {
        let mut found = expiring::all(&self.settings(), self.process.clock.now());
        found.extend(expiring::ours(self.process.ring.together()));
        found
    }
}
