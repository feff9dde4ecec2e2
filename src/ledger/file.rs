//! The file of the ledger: every record is on the disk before anybody acts on it, and what could not be written is owed.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufReader;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tracing::error;
use tracing::warn;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::ledger::chain;
use crate::ledger::chain::Head;
use crate::ledger::chain::verify;
use crate::ledger::entry::Entry;
use crate::telemetry::Metrics;

/// The most records that are kept for later while the disk takes none; the oldest go first, and are counted.
const MAX_OWED: usize = 1_000;

/// Where the ledger is.
#[derive(Clone, Debug)]
pub(crate) struct LedgerSettings {
    /// The file.
    pub(crate) file: PathBuf,
    /// Where every applied configuration is kept, under its hash.
    pub(crate) configurations: PathBuf,
    /// Whether every record is also written to standard output.
    pub(crate) mirror: bool,
    /// The name of this instance.
    pub(crate) node: String,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The disk does not take it.
    #[error("the ledger {file}: {cause}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        cause: io::Error,
    },
    /// More than a megabyte.
    #[error("the record is too long")]
    TooLong,
}

/// The ledger of one instance.
pub(crate) struct Ledger {
    settings: LedgerSettings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

struct State {
    file: File,
    head: Head,
    /// Bytes of all whole records.
    length: u64,
    intact: bool,
    owed: VecDeque<(UnixTime, Entry)>,
}

impl Ledger {
    /// Opens the ledger, or begins one. A last line that was cut short is taken away: its change never took effect. A chain
    /// that does not verify is told and continued, because no evidence may stop a sign-in.
    ///
    /// # Errors
    ///
    /// When the file can neither be read nor made, or is no regular one.
    pub(crate) fn open(
        settings: LedgerSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        // Looked at before it is opened: opening a pipe would wait for its other end.
        if fs::metadata(&settings.file).is_ok_and(|file| !file.is_file()) {
            let why = "it is no regular file, and a ledger is read again as it was written";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&settings.file)?;
        let found = verify(BufReader::new(&file), None)?;
        let mut length = found.whole;
        if let Some((record, flaw)) = &found.broken {
            error!(file = %settings.file.display(), record, %flaw, "The ledger does not verify.");
            length = file.metadata()?.len();
        } else if 0 < found.torn {
            warn!(file = %settings.file.display(), bytes = found.torn, "The last record of the ledger was cut short.");
            if found.unended {
                file.write_all(b"\n")?;
                length = found.whole + found.torn as u64 + 1;
            } else {
                file.set_len(found.whole)?;
            }
            file.sync_all()?;
        }
        metrics.ledger_intact(found.broken.is_none());
        metrics.ledger_owed(0);
        let state = State {
            file,
            head: found.head,
            length,
            intact: found.broken.is_none(),
            owed: VecDeque::new(),
        };
        Ok(Self {
            settings,
            clock,
            metrics,
            state: Mutex::new(state),
        })
    }

    /// Writes a record; it is on the disk when this returns. Whoever gets an error must not act.
    ///
    /// Waits for the disk: not for a worker.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; nothing of it stays then.
    pub(crate) fn append(&self, entry: Entry) -> Result<Head, LedgerError> {
        let now = self.clock.now();
        let mut state = self.state();
        self.pay(&mut state);
        if let Some(first) = state.owed.front() {
            // What is owed comes first, or the order would not be that of the events.
            let (file, since) = (self.name(), first.0.as_millis());
            let cause = io::Error::other(format!("records are owed since {since}"));
            return Err(LedgerError::Io { file, cause });
        }
        self.write(&mut state, now, entry, None)
    }

    /// Writes a record of what happens in any case: a rollback, the kill switch. While the disk takes nothing, the record
    /// is owed and written as soon as it does.
    pub(crate) fn append_or_owe(&self, entry: Entry) {
        let now = self.clock.now();
        let mut state = self.state();
        self.pay(&mut state);
        if state.owed.is_empty() {
            match self.write(&mut state, now, entry.clone(), None) {
                Ok(_) => return,
                Err(error) => {
                    error!(%error, "A record could not be written; it is owed.");
                }
            }
        }
        if MAX_OWED <= state.owed.len() {
            state.owed.pop_front();
        }
        state.owed.push_back((now, entry));
        self.metrics.ledger_owed(state.owed.len());
    }

    /// Writes what is owed, if the disk takes it again. Called now and then.
    pub(crate) fn retry(&self) {
        let mut state = self.state();
        self.pay(&mut state);
    }

    /// The end of the chain, for those who keep it elsewhere, and whether the chain verified when it was opened.
    pub(crate) fn head(&self) -> (Head, bool) {
        let state = self.state();
        (state.head.clone(), state.intact)
    }

    /// How many records are owed.
    pub(crate) fn owed(&self) -> usize {
        self.state().owed.len()
    }

    /// Where the records are.
    pub(crate) const fn file(&self) -> &PathBuf {
        &self.settings.file
    }

    /// Keeps the text of a configuration under its hash; a text that is there already is left alone.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub(crate) fn keep(&self, sha256: &str, text: &str) -> Result<(), LedgerError> {
        let directory = &self.settings.configurations;
        let path = directory.join(format!("{sha256}.yaml"));
        let io = |cause| LedgerError::Io {
            file: path.display().to_string(),
            cause,
        };
        if path.exists() {
            return Ok(());
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io)?;
        let beside = directory.join(format!("{sha256}.new"));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(directory)?.sync_all()
        })();
        written.map_err(io)
    }

    fn name(&self) -> String {
        self.settings.file.display().to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pay(&self, state: &mut State) {
        while let Some((happened, entry)) = state.owed.front().cloned() {
            let now = self.clock.now();
            if self.write(state, now, entry, Some(happened)).is_err() {
                return;
            }
            state.owed.pop_front();
            self.metrics.ledger_owed(state.owed.len());
        }
    }

    fn write(
        &self,
        state: &mut State,
        now: UnixTime,
        entry: Entry,
        happened: Option<UnixTime>,
    ) -> Result<Head, LedgerError> {
        let kind = entry.kind;
        let mut fields = entry.fields;
        fields.insert("ts".into(), rfc3339(now).into());
        fields.insert("node".into(), self.settings.node.as_str().into());
        if let Some(happened) = happened {
            fields.insert("happened".into(), rfc3339(happened).into());
        }
        let (mut line, head) = chain::seal(&state.head, fields);
        if chain::MAX_LINE_BYTES <= line.len() {
            return Err(LedgerError::TooLong);
        }
        line.push('\n');
        let written = state
            .file
            .write_all(line.as_bytes())
            .and_then(|()| state.file.sync_data());
        if let Err(cause) = written {
            // Half a record would stand between the last and the next.
            if let Err(error) = state.file.set_len(state.length) {
                error!(%error, "Half a record of the ledger could not be taken away.");
            }
            let file = self.name();
            return Err(LedgerError::Io { file, cause });
        }
        state.length += line.len() as u64;
        state.head = head.clone();
        self.metrics.ledger_record(kind.as_str());
        if self.settings.mirror {
            let mut out = io::stdout().lock();
            if out
                .write_all(line.as_bytes())
                .and_then(|()| out.flush())
                .is_err()
            {
                warn!("A record of the ledger could not be mirrored to standard output.");
            }
        }
        Ok(head)
    }
}

/// A moment as records write it.
fn rfc3339(at: UnixTime) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| at.as_millis().to_string(), |at| format!("{at:.3}"))
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("file", &self.settings.file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::ledger::entry::Kind;

    struct Bench {
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("decisions.jsonl")
        }

        fn settings(&self) -> LedgerSettings {
            LedgerSettings {
                file: self.path(),
                configurations: self.directory.path().join("configurations"),
                mirror: false,
                node: "edge-1".into(),
            }
        }

        fn open(&self) -> Ledger {
            self.open_with(self.settings()).unwrap()
        }

        fn open_with(&self, settings: LedgerSettings) -> io::Result<Ledger> {
            let clock = Arc::new(ManualClock::at(UnixTime::from_millis(1_772_709_631_004)));
            let metrics = Metrics::new(clock.clone(), 100);
            Ledger::open(settings, clock, metrics)
        }

        fn records(&self) -> Vec<serde_json::Value> {
            let text = fs::read_to_string(self.path()).unwrap();
            text.lines()
                .map(|l| serde_json::from_str(l).unwrap())
                .collect()
        }

        fn verified(&self) -> chain::Verified {
            verify(BufReader::new(File::open(self.path()).unwrap()), None).unwrap()
        }
    }

    fn entry(why: &str) -> Entry {
        Entry::new(Kind::KillSwitch, "controller").with("why", why)
    }

    #[test]
    fn records_follow_each_other_over_restarts() {
        let bench = Bench::new();
        bench.open().append(entry("one")).unwrap();
        bench.open().append(entry("two")).unwrap();
        let records = bench.records();
        assert_eq!(records[1]["prev"], records[0]["hash"]);
        assert_eq!(records[1]["seq"], 2);
        assert_eq!(records[0]["ts"], "2026-03-05T11:20:31.004Z");
        assert_eq!(records[0]["node"], "edge-1");
        assert_eq!(bench.verified().broken, None);
    }

    /// Wherever a crash cuts the file, the next start has a chain that verifies and goes on.
    #[test]
    fn a_record_that_was_cut_short_is_taken_away_or_completed() {
        let bench = Bench::new();
        let ledger = bench.open();
        ledger.append(entry("one")).unwrap();
        ledger.append(entry("two")).unwrap();
        drop(ledger);
        let whole = fs::read(bench.path()).unwrap();
        for end in 0..whole.len() {
            fs::write(bench.path(), &whole[..end]).unwrap();
            let ledger = bench.open();
            assert!(ledger.head().1, "{end}");
            ledger.append(entry("next")).unwrap();
            let found = bench.verified();
            assert_eq!((found.broken, found.torn), (None, 0), "{end}");
            let lines = whole[..end].iter().filter(|b| **b == b'\n').count() as u64;
            assert!(
                lines < found.head.seq && found.head.seq <= lines + 2,
                "{end}"
            );
        }
    }

    #[test]
    fn an_edited_chain_is_told_and_does_not_stop_a_start() {
        let bench = Bench::new();
        bench.open().append(entry("one")).unwrap();
        let text = fs::read_to_string(bench.path()).unwrap();
        fs::write(bench.path(), text.replace("one", "two")).unwrap();
        let ledger = bench.open();
        assert!(!ledger.head().1);
        ledger.append(entry("three")).unwrap();
        assert_eq!(bench.verified().broken.unwrap().0, 1);
    }

    /// A pipe would keep the start waiting for whoever reads it, and gives back nothing that was written.
    #[test]
    fn what_is_no_regular_file_is_no_ledger() {
        let bench = Bench::new();
        let pipe = bench.directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for file in [pipe, "/dev/null".into(), bench.directory.path().to_owned()] {
            let settings = LedgerSettings {
                file,
                ..bench.settings()
            };
            let (tell, told) = std::sync::mpsc::channel();
            let clock = Arc::new(ManualClock::at(UnixTime::from_secs(1)));
            let metrics = Metrics::new(clock.clone(), 100);
            std::thread::spawn(move || {
                let opened = Ledger::open(settings, clock, metrics);
                tell.send(opened.map(|_| ()).unwrap_err().to_string())
            });
            let said = told.recv_timeout(std::time::Duration::from_secs(20));
            let said = said.unwrap();
            assert!(said.starts_with("it is no regular file"), "{said}");
        }
    }

    /// `/dev/full` takes the open and refuses every write, as a full disk does.
    #[test]
    fn a_full_disk_refuses_changes_and_owes_rollbacks() {
        let bench = Bench::new();
        let settings = LedgerSettings {
            file: "/dev/full".into(),
            ..bench.settings()
        };
        // Reading it gives zeros for ever, so the file is opened first and swapped for the device.
        let ledger = bench.open();
        ledger.append(entry("before")).unwrap();
        let full = OpenOptions::new().append(true).open(settings.file).unwrap();
        let good = std::mem::replace(&mut ledger.state().file, full);
        let refused = ledger.append(entry("a change"));
        assert!(matches!(refused, Err(LedgerError::Io { .. })));
        ledger.append_or_owe(entry("a rollback"));
        ledger.append_or_owe(entry("the kill switch"));
        assert_eq!(ledger.owed(), 2);
        let shown = |records| {
            let text = ledger.metrics.render().unwrap();
            text.contains(&format!("authferry_decision_log_owed {records}\n"))
        };
        assert!(shown(2));
        assert!(ledger.append(entry("another change")).is_err());
        ledger.state().file = good;
        ledger.retry();
        ledger.append(entry("after")).unwrap();
        let why: Vec<_> = bench
            .records()
            .iter()
            .map(|record| record["why"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(why, ["before", "a rollback", "the kill switch", "after"]);
        assert_eq!(bench.records()[1]["happened"], "2026-03-05T11:20:31.004Z");
        assert_eq!(bench.verified().broken, None);
        assert_eq!(ledger.owed(), 0);
        assert!(shown(0));
    }

    #[test]
    fn applied_configurations_are_kept_under_their_hash() {
        let bench = Bench::new();
        let ledger = bench.open();
        ledger.keep("abc", "version: 1\n").unwrap();
        ledger.keep("abc", "version: 1\n").unwrap();
        let kept = bench.directory.path().join("configurations/abc.yaml");
        assert_eq!(fs::read_to_string(kept).unwrap(), "version: 1\n");
    }
}
