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

/// What a file says now. A file that cannot be read or understood changes nothing; until it was understood once there is
/// nothing to judge by, which is an outage and not a refusal.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    content: Arc<ArcSwapOption<T>>,
    task: AbortHandle,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads `path` and goes on watching it. `epoch` is raised at every change, because somebody may have gone.
    pub(super) fn start(
        path: &Path,
        parse: fn(&str) -> Result<T, String>,
        epoch: Epoch,
        background: &Handle,
    ) -> Self {
        let content = Arc::new(ArcSwapOption::empty());
        let mut file = File {
            path: path.to_owned(),
            parse,
            seen: None,
        };
        file.look(&content);
        let shared = Arc::clone(&content);
        let task = background.spawn(async move {
            let mut tick = tokio::time::interval(POLL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let into = Arc::clone(&shared);
                // Reading blocks, and a slow disk must not hold up the runtime.
                let Ok((next, changed)) = tokio::task::spawn_blocking(move || {
                    let changed = file.look(&into);
                    (file, changed)
                })
                .await
                else {
                    return;
                };
                file = next;
                if changed {
                    epoch.raise();
                    info!(file = %file.path.display(), "The file changed and was read again.");
                }
            }
        });
        Self {
            path: path.to_owned(),
            content,
            task: task.abort_handle(),
        }
    }

    /// The content, if the file was ever understood.
    pub(super) fn content(&self) -> Option<Arc<T>> {
        self.content.load_full()
    }

    /// What is wrong, in words for `/-/ready`.
    pub(super) fn problem(&self) -> Option<String> {
        self.content
            .load()
            .is_none()
            .then(|| format!("{} was never readable", self.path.display()))
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
    /// Whether there was something new and good.
    fn look(&mut self, into: &ArcSwapOption<T>) -> bool {
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(reason) => {
                if self.seen.take().is_some() || into.load().is_none() {
                    warn!(file = %self.path.display(), reason, "A file cannot be read; what it said last stays.");
                }
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
                into.store(Some(Arc::new(content)));
                true
            }
            Err(reason) => {
                warn!(file = %self.path.display(), reason, "A file is not understood; what it said last stays.");
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
        let content = ArcSwapOption::empty();
        let mut file = File {
            path: path.clone(),
            parse: number,
            seen: None,
        };
        assert!(!file.look(&content), "there is no file yet");
        std::fs::write(&path, "1").unwrap();
        assert!(file.look(&content));
        assert!(!file.look(&content), "nothing is new");
        std::fs::write(&path, "one").unwrap();
        assert!(!file.look(&content));
        assert_eq!(content.load_full().as_deref(), Some(&1));
        std::fs::remove_file(&path).unwrap();
        assert!(!file.look(&content));
        assert_eq!(content.load_full().as_deref(), Some(&1));
        std::fs::write(&path, "2").unwrap();
        assert!(file.look(&content));
        assert_eq!(content.load_full().as_deref(), Some(&2));
    }
}
