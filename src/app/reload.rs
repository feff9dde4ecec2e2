//! From a changed file to a new snapshot: validate, then one swap. The last good one stays on any problem.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::RecursiveMode;
use notify::Watcher as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::admin::ReloadAnswer;
use crate::admin::ReloadOutcome;
use crate::app::build;
use crate::app::process::Process;
use crate::config;
use crate::config::Source;
use crate::config::System;
use crate::config::settings::Settings;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::ledger::LedgerError;
use crate::providers::Providers;
use crate::proxy::Snapshot;
use crate::proxy::serve::Limiter;
use crate::proxy::settings::Drain;
use crate::proxy::tls::Certificates;
use crate::proxy::tls::Reload as TlsReload;
use crate::telemetry::metrics::Reload;

/// An editor or a Kubernetes symlink swap makes several events; they are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// How much of a refusal stands in its record.
const MAX_WHY_CHARS: usize = 2_000;

/// Where the file system tells nothing (some network mounts), the files are looked at this often.
const POLL: Duration = Duration::from_secs(30);

/// Settings that were read and checked, and the files they came from.
pub(super) struct Read {
    pub(super) settings: Settings,
    files: Vec<PathBuf>,
    /// The file itself, for the ledger.
    text: String,
}

/// Reads and checks a configuration file; every problem, in words.
pub(super) fn read(path: &Path) -> Result<Read, String> {
    let source = Source::read(path, Arc::new(System)).map_err(|error| error.to_string())?;
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
        text: source.text,
    })
}

/// Keeps the running snapshot, and replaces it.
#[derive(Debug)]
pub(super) struct Reloader {
    process: Arc<Process>,
    path: PathBuf,
    snapshots: Arc<ArcSwap<Snapshot>>,
    certificates: Vec<Arc<Certificates>>,
    state: Mutex<State>,
    look: Notify,
    limiter: OnceLock<Limiter>,
}

#[derive(Debug)]
struct State {
    settings: Arc<Settings>,
    generation: u64,
    /// The live providers, for the next build.
    built: Arc<Providers>,
    /// What was wrong with the last file, if it was refused.
    refused: Option<String>,
    files: BTreeSet<PathBuf>,
}

impl Reloader {
    /// Watches the file, and what it names, from here on.
    pub(super) fn start(
        process: Arc<Process>,
        path: PathBuf,
        read: Read,
        (snapshot, built): (Snapshot, Arc<Providers>),
        certificates: Vec<Arc<Certificates>>,
    ) -> Arc<Self> {
        let Read {
            settings,
            files,
            text,
        } = read;
        started(&process, &settings, &text);
        let reloader = Arc::new(Self {
            process,
            path,
            snapshots: Arc::new(ArcSwap::from_pointee(snapshot)),
            certificates,
            state: Mutex::new(State {
                settings: Arc::new(settings),
                generation: 1,
                built,
                refused: None,
                files: files.into_iter().collect(),
            }),
            look: Notify::new(),
            limiter: OnceLock::new(),
        });
        reloader.applied(Reload::Success);
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
        Arc::clone(&self.state().built)
    }

    /// What was wrong with the last file, if it was refused.
    pub(super) fn refused(&self) -> Option<String> {
        self.state().refused.clone()
    }

    /// How to drain.
    pub(super) fn drain(&self) -> Drain {
        self.state().settings.server.drain
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again and lets it run, or says why not. Blocks on files: for the blocking pool.
    pub(super) fn reload(&self) -> ReloadAnswer {
        let mut state = self.state();
        let answer = |outcome, settings: &Settings, problem: Option<String>| ReloadAnswer {
            outcome,
            revision: settings.revision.to_string(),
            problems: problem.into_iter().collect(),
        };
        let outcome = match read(&self.path) {
            Ok(read) => {
                state.files = read.files.iter().cloned().collect();
                let (generation, running) = (state.generation + 1, self.snapshots.load());
                let built = build::snapshot(
                    &self.process,
                    &read.settings,
                    (Some(&*state.built), Some(&**running)),
                    generation,
                );
                built.and_then(|(snapshot, built)| {
                    // First the record, then the change: without the one there is not the other.
                    self.record(&state.settings, &read)
                        .map_err(|error| error.to_string())?;
                    Ok((read.settings, snapshot, built, generation))
                })
            }
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok((settings, snapshot, built, generation)) => {
                unchangeable(&state.settings, &settings);
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
                let said = answer(outcome, &state.settings, None);
                info!(
                    revision = said.revision,
                    generation, "The configuration was reloaded."
                );
                drop(state);
                self.applied(Reload::Success);
                said
            }
            Err(problem) => self.refuse(&mut state, problem),
        }
    }

    /// Records a configuration that is about to run; one that runs already is no change.
    fn record(&self, before: &Settings, read: &Read) -> Result<(), LedgerError> {
        let after = &read.settings;
        if before.sha256 == after.sha256 {
            return Ok(());
        }
        self.process.ledger.keep(&after.sha256, &read.text)?;
        let entry = Entry::new(Kind::ConfigApplied, actor(after))
            .with("config_sha256", &*after.sha256)
            .with("parent_sha256", &*before.sha256)
            .with("revision", &*after.revision)
            .with("via", "file")
            .maybe("ticket", after.change.ticket.as_deref())
            .maybe("reason", after.change.reason.as_deref());
        self.process.ledger.append(entry).map(|_| ())
    }

    fn refuse(&self, state: &mut State, problem: String) -> ReloadAnswer {
        error!(
            problems = problem,
            "The configuration was refused; the running one stays."
        );
        self.process.metrics.reload(Reload::Refused);
        if state.refused.as_ref() != Some(&problem) {
            let why: String = problem.chars().take(MAX_WHY_CHARS).collect();
            let entry = Entry::new(Kind::ConfigRefused, "file")
                .with("running_sha256", &*state.settings.sha256)
                .with("why", why);
            self.process.ledger.append_or_owe(entry);
        }
        let revision = state.settings.revision.to_string();
        state.refused = Some(problem.clone());
        ReloadAnswer {
            outcome: ReloadOutcome::Refused,
            revision,
            problems: vec![problem],
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
        self.process.kill.rollouts(
            settings
                .rollouts
                .iter()
                .map(|plan| plan.id.clone())
                .collect(),
        );
    }

    /// Looks at certificates; a pair that does not fit is refused and the old one stays.
    fn certificates(&self) {
        for certificates in &self.certificates {
            match certificates.reload() {
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
    }

    /// Waits for the file system, SIGHUP and the clock; SIGUSR1 reopens the log.
    async fn watch(self: Arc<Self>) {
        let notified = Arc::downgrade(&self);
        let tell = move |event: notify::Result<notify::Event>| {
            let touches = event.is_ok_and(|e| !e.kind.is_access());
            if let Some(reloader) = notified.upgrade().filter(|_| touches) {
                reloader.look.notify_one();
            }
        };
        // Without events the poll below still finds changes.
        let mut watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| warn!(%error, "Files are polled only."))
            .ok();
        let mut watched = BTreeSet::new();
        let (Ok(mut hangup), Ok(mut user)) = (
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined1()),
        ) else {
            error!("Signals cannot be received; changes are found by looking.");
            return;
        };
        let mut poll = tokio::time::interval(POLL);
        let mut seen = self.fingerprint();
        loop {
            if let Some(watcher) = &mut watcher {
                for directory in self.directories().difference(&watched) {
                    // The directory, because editors and Kubernetes replace the file itself.
                    if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                        warn!(directory = %directory.display(), %error, "A directory is polled only.");
                    }
                }
                watched = self.directories();
            }
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                _ = user.recv() => {
                    self.process.logs.reopen();
                    continue;
                }
                () = self.look.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    false
                }
                _ = poll.tick() => false,
            };
            let reloader = Arc::clone(&self);
            let before = seen;
            let after = tokio::task::spawn_blocking(move || {
                let now = reloader.fingerprint();
                if asked || now != before {
                    reloader.reload();
                }
                reloader.certificates();
                now
            });
            seen = after.await.unwrap_or(before);
        }
    }

    /// Directories of the file and of what it names; through symbolic links, the ones they stand in and lead to.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let state = self.state();
        let files = state.files.iter().chain([&self.path]);
        let pairs = state
            .settings
            .server
            .listeners
            .iter()
            .filter_map(|l| l.tls.as_ref())
            .flat_map(|t| &t.certificates);
        let files = files.chain(pairs.flat_map(|(chain, key)| [chain, key]));
        files
            .flat_map(|file| [Some(file.clone()), file.canonicalize().ok()])
            .flatten()
            .filter_map(|file| match file.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
                Some(parent) => Some(parent.to_owned()),
                None => None,
            })
            .collect()
    }

    /// What the files say now: their contents, so that a touch is no change.
    fn fingerprint(&self) -> [u8; 32] {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let files: Vec<PathBuf> = self
            .state()
            .files
            .iter()
            .chain([&self.path])
            .cloned()
            .collect();
        for file in files {
            let content = std::fs::read(&file).unwrap_or_default();
            context.update(&content.len().to_be_bytes());
            context.update(&content);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

/// Who made a revision, as far as it says.
fn actor(settings: &Settings) -> &str {
    settings.change.actor.as_deref().unwrap_or("file")
}

/// Records the start and the configuration that runs. A full disk does not keep people from signing in.
fn started(process: &Process, settings: &Settings, text: &str) {
    if let Err(error) = process.ledger.keep(&settings.sha256, text) {
        error!(%error, "The configuration could not be kept beside the ledger.");
    }
    let entry = Entry::new(Kind::NodeStart, actor(settings))
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("config_sha256", &*settings.sha256)
        .with("revision", &*settings.revision);
    process.ledger.append_or_owe(entry);
}

/// Says what a reload cannot change.
fn unchangeable(old: &Settings, new: &Settings) {
    let listeners = |s: &Settings| {
        s.server
            .listeners
            .iter()
            .map(|l| l.address)
            .collect::<Vec<_>>()
    };
    for (what, changed) in [
        ("server.listen", listeners(old) != listeners(new)),
        ("server.workers", old.server.workers != new.server.workers),
        ("server.state_dir", old.state_dir != new.state_dir),
        ("audit.file", old.audit.file != new.audit.file),
        ("server.admin.listen", old.admin.listen != new.admin.listen),
    ] {
        if changed {
            warn!(key = what, "This key takes effect at the next start only.");
        }
    }
}
