//! When the configuration is read again: the file system, SIGHUP, and now and then the clock.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::RecursiveMode;
use notify::Watcher as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::error;
use tracing::warn;

use crate::app::reload::Reloader;

/// An editor or a Kubernetes symlink swap makes several events; they are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// Where the file system tells nothing (some network mounts), the files are looked at this often.
const POLL: Duration = Duration::from_secs(30);

impl Reloader {
    /// Waits for the file system, SIGHUP and the clock; SIGUSR1 reopens the log.
    pub(super) async fn watch(self: Arc<Self>) {
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
        if !self.is_as_read() {
            // It was edited since it was read, and nothing tells of that any more.
            seen = [0; 32];
        }
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

    /// Whether the file is still the one that runs.
    fn is_as_read(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|text| text == *self.settings().text)
    }

    /// Directories of the file and of what it names; through symbolic links, the ones they stand in and lead to.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let state = self.state();
        let files = state.files.iter().chain([&self.path]);
        let pairs = self
            .started
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
