//! The kill switch: outside the configuration, so that it works when nothing else does.
//!
//! Three inputs are combined, and the most restrictive wins: a file that a thread of its own reads when the file system says
//! that something happened to it, and several times a second in any case; a position set by an operator that survives
//! restarts; and the environment at start. What cannot be read never loosens anything.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::Guard;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::clock::Clock;
use crate::control::kill_files;
use crate::control::kill_files::FileError;
use crate::control::kill_files::Persisted;
use crate::control::kill_told::Told;
use crate::control::kill_told::Witness;
use crate::control::kill_watch::KillWatch;
use crate::control::kill_watch::unbroken;
use crate::ledger::Ledger;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::RolloutId;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;

/// The longest reason and actor kept, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// How long a file has to say the same before that loosens anything. One that says nothing has longer: it may be about to be
/// written.
const STEADY: Duration = Duration::from_millis(50);

/// How long one that says nothing, or is gone, has to stay so; or a poll, where that is less.
const SILENT: Duration = Duration::from_millis(500);

/// Where the inputs are.
#[derive(Clone, Debug)]
pub(crate) struct KillSettings {
    /// The file. A missing one is `off`.
    pub(crate) file: PathBuf,
    /// How often it is read at least. Default 200 ms; at most 500 ms, so that a change takes effect within a second also
    /// where the file system tells nothing.
    pub(crate) poll: Duration,
    /// Where the operator's position is kept: `state_dir/kill.json`.
    pub(crate) state: PathBuf,
    /// `AUTHFERRY_KILL` at start, in the language of the file.
    pub(crate) environment: Option<String>,
}

/// Why the switch cannot be used, or was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KillError {
    /// At start, a file that exists but says nothing: nobody knows which position is meant.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: FileError,
    },
    /// The environment says nothing that can be understood.
    #[error("AUTHFERRY_KILL: line {line}: {problem}")]
    Environment {
        /// Which line.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The thread that reads the file cannot be started.
    #[error("the thread of the kill switch: {0}")]
    Thread(#[from] io::Error),
    /// Loosening needs a reason, which is recorded.
    #[error("a reason is needed to loosen the kill switch")]
    ReasonMissing,
    /// There is no such rollout.
    #[error("there is no rollout called `{0}`")]
    UnknownRollout(RolloutId),
}

/// What moving the switch led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Moved {
    /// What holds now, all inputs combined: not less than what the file and the environment say.
    pub(crate) effective: KillState,
    /// Whether the position survives a restart. `false`: it holds, but could not be written.
    pub(crate) persisted: bool,
}

/// The switch.
#[derive(Debug)]
pub(crate) struct KillSwitch {
    inner: Arc<Inner>,
}

struct Inner {
    settings: KillSettings,
    current: ArcSwap<KillState>,
    inputs: Mutex<Inputs>,
    /// Held while the operator's position is written, one after the other.
    writing: Mutex<()>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    told: Told,
    moves: watch::Sender<Arc<KillState>>,
}

#[derive(Debug)]
struct Inputs {
    file: KillState,
    /// What the file has been saying since then, if it is something looser than `file`.
    unconfirmed: Option<(KillState, Instant)>,
    /// The trouble that has been reported, so that it is reported once.
    trouble: Option<String>,
    operator: KillState,
    environment: KillState,
    /// The rollouts that exist; `None` until the first configuration runs.
    known: Option<Vec<RolloutId>>,
}

impl Inputs {
    fn combined(&self) -> KillState {
        self.file.combine(&self.operator).combine(&self.environment)
    }
}

impl KillSwitch {
    /// Reads all inputs once, and keeps reading the file on a thread of its own.
    ///
    /// # Errors
    ///
    /// An input that exists but cannot be understood: a start must not guess what an emergency was about.
    pub(crate) fn start(
        settings: KillSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        log: DecisionLog,
    ) -> Result<Self, KillError> {
        let inner = Inner::new(settings, clock, metrics, log)?;
        let weak = Arc::downgrade(&inner);
        let file = inner.settings.file.clone();
        let poll = inner.settings.poll;
        thread::Builder::new().name("kill".into()).spawn(move || {
            keep_looking(&weak, KillWatch::new(&file, thread::current()), poll);
        })?;
        Ok(Self { inner })
    }

    /// Records every move from here on.
    pub(crate) fn record_in(&self, ledger: Arc<Ledger>) {
        self.inner.told.record_in(ledger);
    }

    /// Who knows what the guards say; it is written beside every move.
    pub(crate) fn witnessed_by(&self, witness: Witness) {
        self.inner.told.witnessed_by(witness);
    }

    /// The rollouts whose sessions at the new provider end when the switch comes to `legacy`, after every reload.
    pub(crate) fn ends(&self, rollouts: BTreeSet<RolloutId>) {
        self.inner.told.ends(rollouts);
    }

    /// What holds now. For every request: one pointer load.
    pub(crate) fn current(&self) -> Guard<Arc<KillState>> {
        self.inner.current.load()
    }

    /// What holds, and whatever holds next.
    pub(crate) fn moves(&self) -> watch::Receiver<Arc<KillState>> {
        self.inner.moves.subscribe()
    }

    /// Which rollouts exist, after every reload: positions for others are warned about, or refused.
    pub(crate) fn rollouts(&self, known: Vec<RolloutId>) {
        let mut inputs = self.inner.lock();
        inputs.known = Some(known);
        self.inner.warn_of_strangers(&inputs);
    }

    /// Moves the operator's position, of one rollout or of all. It holds before this returns.
    ///
    /// Writes a file: not for a worker.
    ///
    /// # Errors
    ///
    /// When the rollout does not exist, or the switch is loosened without a reason.
    pub(crate) fn set(
        &self,
        position: KillPosition,
        scope: Option<&RolloutId>,
        actor: &str,
        reason: &str,
    ) -> Result<Moved, KillError> {
        let (actor, reason) = (shortened(actor), shortened(reason.trim()));
        let mut inputs = self.inner.lock();
        if let Some(scope) = scope
            && position != KillPosition::Off
            && inputs.known.as_ref().is_some_and(|k| !k.contains(scope))
        {
            return Err(KillError::UnknownRollout(scope.clone()));
        }
        let mut operator = inputs.operator.clone();
        match scope {
            None => operator.global = position,
            Some(scope) if position == KillPosition::Off => {
                operator.rollouts.remove(scope);
            }
            Some(scope) => {
                operator.rollouts.insert(scope.clone(), position);
            }
        }
        if !tightens(&inputs.operator, &operator) && reason.is_empty() {
            return Err(KillError::ReasonMissing);
        }
        inputs.operator = operator;
        // First it holds, then it is written: a full disk must not keep anybody from pulling the switch.
        self.inner.publish(&inputs, actor, reason);
        let effective = inputs.combined();
        drop(inputs);
        let written = self.inner.keep(actor, reason);
        if let Err(error) = &written {
            warn!(%error, "The position of the kill switch holds, but would not survive a restart.");
        }
        Ok(Moved {
            effective,
            persisted: written.is_ok(),
        })
    }
}

impl Inner {
    /// Reads all inputs once.
    fn new(
        settings: KillSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        log: DecisionLog,
    ) -> Result<Arc<Self>, KillError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |error| KillError::Unreadable { path, error }
        };
        let file = kill_files::read(&settings.file)
            .map_err(unreadable(&settings.file))?
            .state;
        let operator = kill_files::load(&settings.state).map_err(unreadable(&settings.state))?;
        let environment = settings.environment.as_deref().unwrap_or_default();
        let environment = KillState::parse(environment)
            .map_err(|(line, problem)| KillError::Environment { line, problem })?;
        let inputs = Inputs {
            file,
            unconfirmed: None,
            trouble: None,
            operator,
            environment,
            known: None,
        };
        let current = Arc::new(inputs.combined());
        let inner = Arc::new(Self {
            moves: watch::Sender::new(Arc::clone(&current)),
            current: ArcSwap::new(current),
            inputs: Mutex::new(inputs),
            writing: Mutex::new(()),
            settings,
            told: Told::new(Arc::clone(&clock), log),
            clock,
            metrics,
        });
        inner.metrics.kill_switch(&inner.current.load());
        Ok(inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the operator's position. A disk that hangs here keeps neither the file nor a request waiting.
    fn keep(&self, actor: &str, reason: &str) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Persisted::new(&self.lock().operator, actor, reason, self.clock.now());
        kill_files::store(&self.settings.state, &record)
    }

    /// Reads the file once more. A tighter position holds at once; a looser one when the file has said so for a while,
    /// because one that is being rewritten is empty for a moment. Then it says when to read it again.
    fn look(&self, now: Instant) -> Option<Duration> {
        let read = kill_files::read(&self.settings.file);
        let mut inputs = self.lock();
        let said = match read {
            Ok(said) => said,
            Err(error) => {
                let trouble = error.to_string();
                if inputs.trouble.as_ref() != Some(&trouble) {
                    warn!(%error, "The kill file cannot be understood; its last good content holds.");
                }
                inputs.trouble = Some(trouble);
                inputs.unconfirmed = None;
                return None;
            }
        };
        inputs.trouble = None;
        let unconfirmed = inputs.unconfirmed.take();
        if said.state == inputs.file {
            self.publish(&inputs, "file", "what was to make the file hold broke off");
            return None;
        }
        if !tightens(&inputs.file, &said.state) {
            let poll = self.settings.poll;
            let steady = if said.silent { SILENT } else { STEADY };
            let steady = steady.min(poll);
            let since = unconfirmed
                .filter(|(state, _)| *state == said.state)
                .map_or(now, |(_, since)| since);
            let still = steady.saturating_sub(now.saturating_duration_since(since));
            if !still.is_zero() {
                inputs.unconfirmed = Some((said.state, since));
                return Some(still);
            }
        }
        inputs.file = said.state;
        self.warn_of_strangers(&inputs);
        let actor = kill_files::owner(&self.settings.file);
        self.publish(&inputs, &actor, "the kill file changed");
        None
    }

    /// Lets the inputs hold, and says so.
    fn publish(&self, inputs: &Inputs, actor: &str, reason: &str) {
        let before = self.current.load_full();
        let after = Arc::new(inputs.combined());
        if before == after {
            return;
        }
        self.current.store(Arc::clone(&after));
        self.moves.send_replace(Arc::clone(&after));
        self.metrics.kill_switch(&after);
        self.told.moved((&before, &after), actor, reason);
    }

    fn warn_of_strangers(&self, inputs: &Inputs) {
        let Some(known) = &inputs.known else {
            return;
        };
        for rollout in inputs.combined().rollouts.keys() {
            if !known.contains(rollout) {
                warn!(%rollout, "The kill switch names a rollout that does not exist.");
            }
        }
    }
}

/// Reads the file for as long as there is a switch: whatever breaks off, it is read again after `poll`.
fn keep_looking(switch: &Weak<Inner>, mut watch: KillWatch, poll: Duration) {
    loop {
        watch.follow();
        let Some(inner) = switch.upgrade() else {
            return;
        };
        let again = unbroken(|| inner.look(Instant::now())).flatten();
        drop(inner);
        thread::park_timeout(again.unwrap_or(poll));
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

/// Whether nothing becomes looser from `before` to `after`.
fn tightens(before: &KillState, after: &KillState) -> bool {
    before.combine(after) == *after
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::clock::SystemClock;
    use crate::control::kill_watch::Broken;

    /// Longer than any of these tests should take, shorter than anybody's patience.
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Bench {
        directory: TempDir,
        metrics: Arc<Metrics>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                metrics: Metrics::new(Arc::new(SystemClock), 100),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, text: &str) {
            // In one step, as deployment tools do: the file is never seen half written.
            std::fs::write(self.path("kill.new"), text).unwrap();
            std::fs::rename(self.path("kill.new"), self.path("kill")).unwrap();
        }

        fn settings(&self, file: &Path, poll: Duration) -> KillSettings {
            KillSettings {
                file: file.to_owned(),
                poll,
                state: self.path("kill.json"),
                environment: None,
            }
        }

        fn start_of(&self, settings: KillSettings) -> Result<KillSwitch, KillError> {
            let metrics = Arc::clone(&self.metrics);
            KillSwitch::start(settings, Arc::new(SystemClock), metrics, DecisionLog::off())
        }

        fn start_at(&self, file: &Path, poll: Duration) -> KillSwitch {
            self.start_of(self.settings(file, poll)).unwrap()
        }

        fn start_with(&self, environment: Option<&str>) -> Result<KillSwitch, KillError> {
            let settings = self.settings(&self.path("kill"), Duration::from_millis(5));
            self.start_of(KillSettings {
                environment: environment.map(Into::into),
                ..settings
            })
        }

        /// A switch whose file is read by nobody else.
        fn still(&self, poll: Duration) -> Arc<Inner> {
            let settings = self.settings(&self.path("kill"), poll);
            let metrics = Arc::clone(&self.metrics);
            Inner::new(settings, Arc::new(SystemClock), metrics, DecisionLog::off()).unwrap()
        }

        fn start(&self) -> KillSwitch {
            self.start_with(None).unwrap()
        }
    }

    async fn becomes(switch: &KillSwitch, global: KillPosition) {
        let done = async {
            while switch.current().global != global {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.unwrap();
    }

    #[tokio::test]
    async fn the_file_moves_the_switch_and_its_removal_moves_it_back() {
        let bench = Bench::new();
        let switch = bench.start();
        assert_eq!(switch.current().global, KillPosition::Off);
        bench.write("legacy\n");
        becomes(&switch, KillPosition::Legacy).await;
        bench.write("deny\n");
        becomes(&switch, KillPosition::Deny).await;
        std::fs::remove_file(bench.path("kill")).unwrap();
        becomes(&switch, KillPosition::Off).await;
    }

    #[tokio::test]
    async fn the_metric_follows_the_file() {
        let bench = Bench::new();
        let switch = bench.start();
        bench.write("freeze rollout=crm\nlegacy\n");
        let lines = [
            r#"authferry_kill_switch{scope="global",position="legacy"} 1"#,
            r#"authferry_kill_switch{scope="crm",position="freeze"} 1"#,
        ];
        let shown = async {
            loop {
                let text = bench.metrics.render().unwrap();
                if lines.iter().all(|line| text.contains(line)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap();
        drop(switch);
    }

    #[test]
    fn what_cannot_be_understood_leaves_the_last_good_position() {
        let bench = Bench::new();
        bench.write("deny");
        let inner = bench.still(Duration::ZERO);
        for nonsense in ["denny", "off off", "\u{0}", "legacy rollout="] {
            bench.write(nonsense);
            inner.look(Instant::now());
            inner.look(Instant::now());
            assert_eq!(
                inner.current.load().global,
                KillPosition::Deny,
                "{nonsense}"
            );
        }
        std::fs::remove_file(bench.path("kill")).unwrap();
        std::fs::create_dir(bench.path("kill")).unwrap();
        inner.look(Instant::now());
        inner.look(Instant::now());
        assert_eq!(inner.current.load().global, KillPosition::Deny);
    }

    #[test]
    fn a_file_that_is_being_rewritten_does_not_loosen_for_a_moment() {
        let bench = Bench::new();
        bench.write("deny");
        // Nobody looks but this test, and its clock is its own.
        let inner = bench.still(Duration::from_millis(500));
        let began = Instant::now();
        let look = |millis: u64| {
            let again = inner.look(began + Duration::from_millis(millis));
            (inner.current.load().global, again)
        };
        let in_millis = |millis: u64| Some(Duration::from_millis(millis));
        bench.write("");
        assert_eq!(look(0), (KillPosition::Deny, in_millis(500)));
        assert_eq!(look(60), (KillPosition::Deny, in_millis(440)));
        bench.write("legacy");
        assert_eq!(look(70), (KillPosition::Deny, in_millis(50)));
        // What was said meanwhile counts from when it is said again.
        bench.write("freeze");
        assert_eq!(look(90), (KillPosition::Deny, in_millis(50)));
        bench.write("legacy");
        assert_eq!(look(125), (KillPosition::Deny, in_millis(50)));
        assert_eq!(look(174), (KillPosition::Deny, in_millis(1)));
        assert_eq!(look(175), (KillPosition::Legacy, None));
        bench.write("deny");
        assert_eq!(
            look(175),
            (KillPosition::Deny, None),
            "tighter holds at once"
        );
        bench.write("  \n");
        assert_eq!(look(200), (KillPosition::Deny, in_millis(500)));
        assert_eq!(look(700), (KillPosition::Off, None));
        bench.write("deny");
        look(700);
        std::fs::remove_file(bench.path("kill")).unwrap();
        assert_eq!(look(800), (KillPosition::Deny, in_millis(500)));
        assert_eq!(look(850), (KillPosition::Deny, in_millis(450)));
        assert_eq!(look(1300), (KillPosition::Off, None));
    }

    /// A poll for which no test waits: what moves the switch is the file system.
    const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

    #[tokio::test]
    async fn what_happens_to_the_file_is_seen_without_a_poll() {
        let bench = Bench::new();
        let switch = bench.start_at(&bench.path("kill"), NEVER);
        std::fs::write(bench.path("kill"), "legacy").unwrap();
        becomes(&switch, KillPosition::Legacy).await;
        bench.write("deny");
        becomes(&switch, KillPosition::Deny).await;
        // Looser, and confirmed without a poll, too.
        std::fs::remove_file(bench.path("kill")).unwrap();
        becomes(&switch, KillPosition::Off).await;
        std::fs::write(bench.path("other"), "freeze").unwrap();
        std::os::unix::fs::symlink("other", bench.path("kill")).unwrap();
        becomes(&switch, KillPosition::Freeze).await;
        std::fs::write(bench.path("other"), "deny").unwrap();
        becomes(&switch, KillPosition::Deny).await;
    }

    #[tokio::test]
    async fn a_directory_that_comes_goes_and_comes_again_is_followed_without_a_poll() {
        let bench = Bench::new();
        let file = bench.path("run/authferry/kill");
        let switch = bench.start_at(&file, NEVER);
        for position in ["legacy", "deny"] {
            std::fs::create_dir_all(bench.path("run/authferry")).unwrap();
            std::fs::write(&file, position).unwrap();
            becomes(&switch, KillPosition::parse(position).unwrap()).await;
            std::fs::remove_dir_all(bench.path("run")).unwrap();
            becomes(&switch, KillPosition::Off).await;
        }
        // Renamed into its place, with the file in it.
        std::fs::create_dir_all(bench.path("new/authferry")).unwrap();
        std::fs::write(bench.path("new/authferry/kill"), "freeze").unwrap();
        std::fs::rename(bench.path("new"), bench.path("run")).unwrap();
        becomes(&switch, KillPosition::Freeze).await;
    }

    #[tokio::test]
    async fn a_mounted_map_of_kubernetes_is_followed_without_a_poll() {
        let bench = Bench::new();
        let version = |name: &str, position: &str| {
            std::fs::create_dir_all(bench.path("map").join(name)).unwrap();
            std::fs::write(bench.path("map").join(name).join("kill"), position).unwrap();
            std::os::unix::fs::symlink(name, bench.path("map/..data_tmp")).unwrap();
            std::fs::rename(bench.path("map/..data_tmp"), bench.path("map/..data")).unwrap();
        };
        version("..1", "off");
        std::os::unix::fs::symlink("..data/kill", bench.path("map/kill")).unwrap();
        let switch = bench.start_at(&bench.path("map/kill"), NEVER);
        version("..2", "legacy");
        becomes(&switch, KillPosition::Legacy).await;
        std::fs::remove_dir_all(bench.path("map/..1")).unwrap();
        version("..3", "deny");
        becomes(&switch, KillPosition::Deny).await;
        version("..4", "freeze");
        becomes(&switch, KillPosition::Freeze).await;
    }

    #[tokio::test]
    async fn a_watcher_that_breaks_off_leaves_the_poll() {
        let bench = Bench::new();
        let poll = Duration::from_millis(5);
        let inner = bench.still(poll);
        let weak = Arc::downgrade(&inner);
        let watch = KillWatch::by(&bench.path("kill"), Box::new(Broken));
        let reader = thread::spawn(move || keep_looking(&weak, watch, poll));
        let switch = KillSwitch { inner };
        bench.write("deny");
        becomes(&switch, KillPosition::Deny).await;
        std::fs::remove_file(bench.path("kill")).unwrap();
        becomes(&switch, KillPosition::Off).await;
        drop(switch);
        reader.join().expect("nothing ended it but the switch");
    }

    #[test]
    fn an_operators_position_survives_a_restart() {
        let bench = Bench::new();
        let scope = RolloutId::new("crm");
        let switch = bench.start();
        let moved = switch.set(KillPosition::Legacy, Some(&scope), "unix:0", "drill");
        assert!(moved.unwrap().persisted);
        switch
            .set(KillPosition::Freeze, None, "unix:0", "drill")
            .unwrap();
        drop(switch);
        let again = bench.start();
        assert_eq!(again.current().global, KillPosition::Freeze);
        assert_eq!(again.current().rollouts[&scope], KillPosition::Legacy);
        again
            .set(KillPosition::Off, Some(&scope), "unix:0", "over")
            .unwrap();
        assert!(again.current().rollouts.is_empty());
    }

    #[test]
    fn the_most_restrictive_input_wins_and_the_answer_says_so() {
        let bench = Bench::new();
        bench.write("legacy");
        let switch = bench.start_with(Some("freeze rollout=crm")).unwrap();
        let moved = switch.set(KillPosition::Off, None, "unix:0", "over");
        assert_eq!(moved.unwrap().effective.global, KillPosition::Legacy);
        let moved = switch.set(KillPosition::Modern, None, "unix:0", "");
        assert_eq!(moved.unwrap().effective.global, KillPosition::Deny);
        let rollout = RolloutId::new("crm");
        assert_eq!(switch.current().rollouts[&rollout], KillPosition::Freeze);
    }

    #[test]
    fn loosening_needs_a_reason_and_tightening_does_not() {
        let bench = Bench::new();
        let switch = bench.start();
        switch.set(KillPosition::Deny, None, "unix:0", "").unwrap();
        for looser in [
            KillPosition::Off,
            KillPosition::Freeze,
            KillPosition::Legacy,
        ] {
            let refused = switch.set(looser, None, "unix:0", "  ");
            assert!(
                matches!(refused, Err(KillError::ReasonMissing)),
                "{looser:?}"
            );
        }
        assert_eq!(switch.current().global, KillPosition::Deny);
        switch
            .set(KillPosition::Off, None, "unix:0", "fixed")
            .unwrap();
        assert_eq!(switch.current().global, KillPosition::Off);
    }

    #[test]
    fn a_full_disk_does_not_keep_the_switch_from_being_pulled() {
        let bench = Bench::new();
        let switch = bench.start();
        // The file beside cannot be made where a directory has its name.
        std::fs::create_dir(bench.path("kill.json.new")).unwrap();
        let moved = switch.set(KillPosition::Deny, None, "unix:0", "").unwrap();
        assert!(!moved.persisted);
        assert_eq!(switch.current().global, KillPosition::Deny);
    }

    #[test]
    fn a_rollout_that_does_not_exist_is_refused_once_it_is_known_which_do() {
        let bench = Bench::new();
        let switch = bench.start();
        let typo = RolloutId::new("crm-206");
        switch.rollouts(vec![RolloutId::new("crm-2026")]);
        let refused = switch.set(KillPosition::Legacy, Some(&typo), "unix:0", "");
        assert!(matches!(refused, Err(KillError::UnknownRollout(_))));
    }

    #[test]
    fn a_start_does_not_guess() {
        for (file, content) in [
            ("kill", "denny"),
            ("kill.json", "{}"),
            (
                "kill.json",
                r#"{"version":2,"global":"off","rollouts":{},"actor":"","reason":"","at":0}"#,
            ),
            (
                "kill.json",
                r#"{"version":1,"global":"?","rollouts":{},"actor":"","reason":"","at":0}"#,
            ),
        ] {
            let bench = Bench::new();
            std::fs::write(bench.path(file), content).unwrap();
            let error = bench.start_with(None).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(file), "{error}");
        }
        let bench = Bench::new();
        let error = bench.start_with(Some("denny")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("AUTHFERRY_KILL"), "{error}");
    }

    #[test]
    fn the_thread_ends_with_the_switch() {
        let bench = Bench::new();
        let switch = bench.start();
        let weak = Arc::downgrade(&switch.inner);
        drop(switch);
        // The thread may hold it for the moment of one look; then nobody does.
        while weak.upgrade().is_some() {
            thread::yield_now();
        }
    }
}
