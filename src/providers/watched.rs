//! A small file that is read again when it changes: passwords, API keys.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;

use crate::providers::Epoch;

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// The largest file accepted, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What a file says now. A file that cannot be read or understood changes nothing, and whoever asks is told; until it was
/// understood once there is nothing to judge by, which is an outage and not a refusal.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    said: Arc<Said<T>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Said<T> {
    /// What it said when it was last understood.
    content: ArcSwapOption<T>,
    /// Why the file as it is says nothing.
    wrong: ArcSwapOption<String>,
}

impl<T> Default for Said<T> {
    fn default() -> Self {
        Self {
            content: ArcSwapOption::empty(),
            wrong: ArcSwapOption::empty(),
        }
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads `path` and goes on watching it. `epoch` is raised at every change, because somebody may have gone.
    pub(super) fn start(
        path: &Path,
        parse: fn(&str) -> Result<T, String>,
        epoch: Epoch,
        background: &Handle,
    ) -> Self {
        let said = Arc::new(Said::default());
        let mut file = File::new(path, parse);
        file.look(&said);
        let (shared, place) = (Arc::clone(&said), path.to_owned());
        let task = background.spawn(async move {
            let mut tick = tokio::time::interval(POLL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let into = Arc::clone(&shared);
                // Reading blocks, and a slow disk must not hold up the runtime.
                let looked = tokio::task::spawn_blocking(move || {
                    let changed = file.look(&into);
                    (file, changed)
                });
                let (next, changed) = looked.await.unwrap_or_else(|_| {
                    // The file is looked at again: whoever put in what ended this look mends it.
                    let reason = String::from("looking at it came to a sudden end");
                    shared.wrong.store(Some(Arc::new(reason)));
                    (File::new(&place, parse), false)
                });
                file = next;
                if changed {
                    epoch.raise();
                    info!(file = %file.path.display(), "The file changed and was read again.");
                }
            }
        });
        Self {
            path: path.to_owned(),
            said,
            task: task.abort_handle(),
        }
    }

    /// The content, if the file was ever understood.
    pub(super) fn content(&self) -> Option<Arc<T>> {
        self.said.content.load_full()
    }

    /// Whether there is something to judge by.
    pub(super) fn usable(&self) -> bool {
        self.said.content.load().is_some()
    }

    /// Whether that is the file as it is now.
    pub(super) fn is_good(&self) -> bool {
        self.said.wrong.load().is_none()
    }

    /// What is wrong with the file, in words for `/-/ready`: where in it, and nothing of what stands there.
    pub(super) fn problem(&self) -> Option<String> {
        let wrong = self.said.wrong.load_full()?;
        let file = self.path.display();
        Some(if self.usable() {
            format!("{file} is not what counts ({wrong}): what it said last stays")
        } else {
            format!("{file} was never readable ({wrong})")
        })
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct File<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    seen: Option<[u8; 32]>,
}

impl<T> File<T> {
    fn new(path: &Path, parse: fn(&str) -> Result<T, String>) -> Self {
        Self {
            path: path.to_owned(),
            parse,
            seen: None,
        }
    }

    /// Whether there was something new and good.
    fn look(&mut self, into: &Said<T>) -> bool {
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(reason) => {
                if self.seen.take().is_some() || into.content.load().is_none() {
                    warn!(file = %self.path.display(), reason, "A file cannot be read; what it said last stays.");
                }
                into.wrong.store(Some(Arc::new(reason)));
                return false;
            }
        };
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        if self.seen.as_ref().is_some_and(|seen| seen == hash.as_ref()) {
            return false;
        }
        self.seen = hash.as_ref().try_into().ok();
        match (self.parse)(&text) {
            Ok(content) => {
                into.content.store(Some(Arc::new(content)));
                into.wrong.store(None);
                true
            }
            Err(reason) => {
                warn!(file = %self.path.display(), reason, "A file is not understood; what it said last stays.");
                into.wrong.store(Some(Arc::new(reason)));
                false
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if MAX_BYTES < size {
        return Err(format!("{size} bytes are more than {MAX_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u32, String> {
        text.trim().parse().or(Err("not a number".to_owned()))
    }

    #[test]
    fn a_broken_file_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let said = Said::<u32>::default();
        let number_is = || said.content.load_full().as_deref().copied();
        let wrong = || said.wrong.load_full().map(|why| why.to_string());
        let mut file = File::new(&path, number);
        assert!(!file.look(&said), "there is no file yet");
        assert!(wrong().is_some());
        std::fs::write(&path, "1").unwrap();
        assert!(file.look(&said));
        assert!(!file.look(&said), "nothing is new");
        assert_eq!(wrong(), None);
        std::fs::write(&path, "one").unwrap();
        for _ in 0..2 {
            assert!(!file.look(&said));
            assert_eq!(number_is(), Some(1));
            assert_eq!(wrong().as_deref(), Some("not a number"));
        }
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            assert!(!file.look(&said));
            assert_eq!(number_is(), Some(1));
            assert!(wrong().is_some_and(|why| why != "not a number"));
        }
        std::fs::write(&path, "1").unwrap();
        assert!(file.look(&said));
        assert_eq!((number_is(), wrong()), (Some(1), None));
        std::fs::write(&path, "2").unwrap();
        assert!(file.look(&said));
        assert_eq!((number_is(), wrong()), (Some(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_ends_suddenly_is_said_and_not_the_last() {
        fn brittle(text: &str) -> Result<u32, String> {
            assert_ne!(text, "!", "what no parser should do");
            number(text)
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::start(&path, brittle, Epoch::default(), &Handle::current());
        for (text, good, says) in [("!", false, 1), ("2", true, 2), ("!", false, 2)] {
            std::fs::write(&path, text).unwrap();
            while watched.is_good() != good || watched.content().as_deref() != Some(&says) {
                tokio::time::sleep(POLL).await;
            }
        }
        assert!(watched.problem().unwrap().contains("a sudden end"));
    }
}
