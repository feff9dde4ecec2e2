//! Where log lines go: a buffer for each writer, and one thread that empties them into a file or standard output.
//!
//! A worker appends to its own buffer under a lock that only the thread ever contends for, for the time of a pointer
//! swap; it never waits for a disk. A full buffer drops the line, and says so in a metric.

use std::fmt;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::thread::Thread;
use std::time::Duration;

use tracing::warn;

use crate::clock::UnixTime;
use crate::telemetry::line::Line;
use crate::telemetry::line::Stamp;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::Shed;

/// Bytes that may wait in each buffer; what comes on top is dropped and counted.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// Memory that an emptied buffer may keep.
const KEPT_BYTES: usize = 256 * 1024;

/// How long the thread lets lines gather after the first one.
const GATHER: Duration = Duration::from_millis(10);

/// Lines from all workers, on their way out.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    shared: Arc<Shared>,
    /// Ends the thread when the last clone goes.
    _owner: Arc<Owner>,
}

/// The place of one writer in the sink.
#[derive(Clone, Debug)]
pub(super) struct Inlet {
    shared: Arc<Shared>,
    index: usize,
}

#[derive(Debug)]
struct Shared {
    buffers: Box<[Mutex<Buffer>]>,
    /// `None` only while the thread starts.
    thread: OnceLock<Thread>,
    reopen: AtomicBool,
    stop: AtomicBool,
    flushes: Mutex<Vec<SyncSender<()>>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    stamp: Stamp,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes.len())
    }
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.wake();
    }
}

impl Sink {
    /// Starts the thread. `writers` is the number of inlets.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub(super) fn start(
        output: Box<dyn Output>,
        writers: usize,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: (0..writers).map(|_| Mutex::default()).collect(),
            thread: OnceLock::new(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            flushes: Mutex::default(),
            metrics,
        });
        let theirs = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("log".into())
            .spawn(move || theirs.run(output))?;
        shared.thread.get_or_init(|| handle.thread().clone());
        // Lines that came before the line above had nobody to wake.
        shared.wake();
        Ok(Self {
            _owner: Arc::new(Owner(Arc::clone(&shared))),
            shared,
        })
    }

    /// The inlet of one writer; numbers beyond the last share the last.
    pub(super) fn inlet(&self, index: usize) -> Inlet {
        Inlet {
            index: index.min(self.shared.buffers.len().saturating_sub(1)),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Opens the file again before the next line.
    pub(super) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// Waits until what was written before has left, at most `patience`. Blocks: not for a worker.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = mpsc::sync_channel(1);
        lock(&self.shared.flushes).push(done);
        self.shared.wake();
        wait.recv_timeout(patience).is_ok()
    }
}

impl Inlet {
    /// Writes one line. `compose` gets it begun and ends it.
    pub(super) fn write(
        &self,
        now: UnixTime,
        event: &'static str,
        kind: Shed,
        compose: impl FnOnce(Line<'_>),
    ) {
        self.put(kind, |bytes, stamp| {
            compose(Line::begin(bytes, stamp, now, event));
        });
    }

    /// Writes one line that is whole already.
    pub(super) fn copy(&self, line: &[u8], kind: Shed) {
        self.put(kind, |bytes, _| bytes.extend_from_slice(line));
    }

    fn put(&self, kind: Shed, write: impl FnOnce(&mut Vec<u8>, &mut Stamp)) {
        let Some(buffer) = self.shared.buffers.get(self.index) else {
            return;
        };
        let mut guard = lock(buffer);
        let Buffer { bytes, stamp } = &mut *guard;
        if BUFFER_BYTES <= bytes.len() {
            drop(guard);
            self.shared.metrics.shed(kind, 1);
            return;
        }
        let first = bytes.is_empty();
        write(bytes, stamp);
        drop(guard);
        // Whoever finds the buffer empty wakes the thread; the others know that somebody did.
        if first {
            self.shared.wake();
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, mut output: Box<dyn Output>) {
        let mut spare = Vec::new();
        let mut trouble = false;
        loop {
            thread::park();
            let stopping = self.stop.load(Ordering::Acquire);
            let mut flushes = std::mem::take(&mut *lock(&self.flushes));
            if !stopping && flushes.is_empty() && !self.reopen.load(Ordering::Acquire) {
                thread::park_timeout(GATHER);
                flushes = std::mem::take(&mut *lock(&self.flushes));
            }
            if let Err(error) = output.refresh(self.reopen.swap(false, Ordering::AcqRel)) {
                warn!(%error, "The log file cannot be opened again; lines go to the old one.");
            }
            for buffer in &self.buffers {
                std::mem::swap(&mut lock(buffer).bytes, &mut spare);
                if !spare.is_empty() {
                    self.put(&mut *output, &spare, &mut trouble);
                }
                spare.clear();
                spare.shrink_to(KEPT_BYTES);
            }
            for done in flushes {
                // An error says that nobody waits any more: then nobody needs to know.
                let _told = done.try_send(());
            }
            if stopping {
                return;
            }
        }
    }

    fn put(&self, output: &mut dyn Output, lines: &[u8], trouble: &mut bool) {
        match output.write(lines) {
            Ok(()) => *trouble = false,
            Err(Unwritten { error, bytes }) => {
                let rest = lines.len().saturating_sub(bytes);
                let lost = lines.iter().skip(rest).filter(|byte| **byte == b'\n');
                self.metrics.shed(Shed::AccessLog, lost.count() as u64);
                if !*trouble {
                    warn!(%error, "Log lines cannot be written and are dropped.");
                }
                *trouble = true;
            }
        }
    }
}

/// What was not written, and why.
#[derive(Debug)]
pub(super) struct Unwritten {
    error: io::Error,
    /// How many bytes at the end are missing.
    bytes: usize,
}

/// A place for lines. Only the thread of the sink calls it, so it may block.
pub(super) trait Output: fmt::Debug + Send {
    /// Writes whole lines.
    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten>;

    /// Looks whether the file is still the one that the name means; opens it again if not, or if `forced`.
    fn refresh(&mut self, forced: bool) -> io::Result<()>;
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Stdout;

impl Output for Stdout {
    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(lines)
            .and_then(|()| stdout.flush())
            .map_err(|error| Unwritten {
                error,
                bytes: lines.len(),
            })
    }

    fn refresh(&mut self, _forced: bool) -> io::Result<()> {
        Ok(())
    }
}

/// A file that others may rename or truncate at any time.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// The last write ended inside a line.
    torn: bool,
}

impl LogFile {
    /// Opens the file for appending; made with mode 0640 if it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or is a pipe.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        // Looked at before it is opened: opening a pipe would wait for its other end.
        if std::fs::metadata(&path).is_ok_and(|file| file.file_type().is_fifo()) {
            let why = "it is a pipe, and opening it would wait for whoever reads it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        // Appending is what makes `copytruncate` safe: the next write goes to the new end.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)?;
        Ok(Self {
            path,
            file,
            torn: false,
        })
    }

    /// Whether the name still means the open file.
    fn is_current(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            _ => false,
        }
    }
}

impl Output for LogFile {
    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        if self.torn {
            let ended = self.file.write_all(b"\n");
            ended.map_err(|error| Unwritten {
                error,
                bytes: lines.len(),
            })?;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let error = match self.file.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let written = lines.len() - rest.len();
            self.torn = 0 < written && lines.get(written - 1) != Some(&b'\n');
            return Err(Unwritten {
                error,
                bytes: rest.len(),
            });
        }
        Ok(())
    }

    fn refresh(&mut self, forced: bool) -> io::Result<()> {
        if forced || !self.is_current() {
            *self = Self::open(self.path.clone())?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::clock::SystemClock;
    use crate::telemetry::line::field;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn metrics() -> Arc<Metrics> {
        Metrics::new(Arc::new(SystemClock), 100)
    }

    fn write(inlet: &Inlet, number: u64) {
        inlet.write(UnixTime::default(), "test", Shed::AccessLog, |mut line| {
            line.number(field!("n"), number);
            line.end();
        });
    }

    fn numbers(text: &str) -> Vec<u64> {
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["n"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn renaming_the_file_loses_no_line_and_tears_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let file = LogFile::open(path.clone()).unwrap();
        let sink = Sink::start(Box::new(file), 2, metrics()).unwrap();
        for generation in 0..10 {
            for writer in 0..2 {
                for n in 0..50 {
                    write(
                        &sink.inlet(writer),
                        generation * 100 + writer as u64 * 50 + n,
                    );
                }
            }
            assert!(sink.flush(PATIENCE));
            std::fs::rename(&path, directory.path().join(format!("old.{generation}"))).unwrap();
            if generation % 2 == 0 {
                sink.reopen();
            }
        }
        assert!(sink.flush(PATIENCE));
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let lines = numbers(&text);
            // Each file has the lines of one generation: the one after the renaming went to the new file.
            let generations: BTreeSet<_> = lines.iter().map(|number| number / 100).collect();
            assert!(generations.len() <= 1, "{generations:?}");
            seen.extend(lines);
        }
        assert_eq!(seen.len(), 1_000);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 1_000);
    }

    #[test]
    fn a_pipe_is_refused_and_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(LogFile::open(pipe).unwrap_err().to_string()));
        let said = told.recv_timeout(PATIENCE).unwrap();
        assert!(said.starts_with("it is a pipe"), "{said}");
        assert!(LogFile::open(PathBuf::from("/dev/null")).is_ok());
    }

    #[test]
    fn truncating_the_file_in_place_leaves_no_hole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let file = LogFile::open(path.clone()).unwrap();
        let sink = Sink::start(Box::new(file), 1, metrics()).unwrap();
        write(&sink.inlet(0), 1);
        assert!(sink.flush(PATIENCE));
        std::fs::copy(&path, directory.path().join("copy")).unwrap();
        File::options()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        write(&sink.inlet(0), 2);
        assert!(sink.flush(PATIENCE));
        assert_eq!(numbers(&std::fs::read_to_string(&path).unwrap()), [2]);
    }

    /// Takes a line only when told.
    #[derive(Debug)]
    struct Stuck(Receiver<()>);

    impl Output for Stuck {
        fn write(&mut self, _lines: &[u8]) -> Result<(), Unwritten> {
            // An error says that the sender is gone: the test is over.
            let _released = self.0.recv();
            Ok(())
        }

        fn refresh(&mut self, _forced: bool) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_disk_costs_lines_and_never_waits() {
        let (release, gate) = mpsc::channel();
        let metrics = metrics();
        let sink = Sink::start(Box::new(Stuck(gate)), 1, Arc::clone(&metrics)).unwrap();
        let inlet = sink.inlet(0);
        let long = "x".repeat(2_000);
        for _ in 0..4_000 {
            inlet.write(UnixTime::default(), "test", Shed::AccessLog, |mut line| {
                line.text(field!("v"), &long);
                line.end();
            });
        }
        let held = lock(&sink.shared.buffers[0]).bytes.len();
        assert!(held < BUFFER_BYTES + 4_096, "{held}");
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"authferry_shed_total{reason="access_log"}"#),
            "{text}"
        );
        drop(release);
    }

    /// A disk that is full for a while.
    #[derive(Debug)]
    struct Full;

    impl Output for Full {
        fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
            Err(Unwritten {
                error: io::ErrorKind::StorageFull.into(),
                bytes: lines.len(),
            })
        }

        fn refresh(&mut self, _forced: bool) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_no_disk_takes_are_counted() {
        let metrics = metrics();
        let sink = Sink::start(Box::new(Full), 1, Arc::clone(&metrics)).unwrap();
        for n in 0..3 {
            write(&sink.inlet(0), n);
        }
        assert!(sink.flush(PATIENCE));
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"authferry_shed_total{reason="access_log"} 3"#),
            "{text}"
        );
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut file = LogFile::open(path.clone()).unwrap();
        file.file.write_all(b"{\"half\":").unwrap();
        file.torn = true;
        file.write(b"{\"n\":1}\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"half\":\n{\"n\":1}\n"
        );
    }
}
