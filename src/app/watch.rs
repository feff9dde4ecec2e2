//! When the configuration is read again: the file system, SIGHUP, and now and then the clock.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use notify::EventKind;
use notify::RecursiveMode;
use notify::Watcher as _;
use notify::event::ModifyKind;
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
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let ours = Arc::clone(&names);
        let tell = move |event: notify::Result<notify::Event>| {
            let ours = || ours.lock().unwrap_or_else(PoisonError::into_inner);
            let touches = event.is_ok_and(|event| concerns(&event, &ours()));
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
            let files = self.followed();
            let directories = directories(&files);
            *names.lock().unwrap_or_else(PoisonError::into_inner) = files
                .iter()
                .filter_map(|file| file.file_name().map(ToOwned::to_owned))
                .collect();
            if let Some(watcher) = &mut watcher {
                for directory in directories.difference(&watched) {
                    // The directory, because editors and Kubernetes replace the file itself.
                    if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                        warn!(directory = %directory.display(), %error, "A directory is polled only.");
                    }
                }
                watched = directories;
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

    /// The file and what it names; of symbolic links, themselves and what they lead to.
    fn followed(&self) -> BTreeSet<PathBuf> {
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

/// The directories that files stand in.
fn directories(files: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let parents = files.iter().filter_map(|file| file.parent());
    parents
        .map(|parent| match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        })
        .collect()
}

/// Whether a file of ours may say something else now. A log beside them is written to all the time; whatever is made, removed
/// or renamed may be a link on the way to one.
fn concerns(event: &notify::Event, names: &BTreeSet<OsString>) -> bool {
    let named = |path: &PathBuf| path.file_name().is_none_or(|name| names.contains(name));
    match event.kind {
        EventKind::Access(_) => false,
        // Without a path, events were lost.
        EventKind::Modify(ModifyKind::Data(_)) => {
            event.paths.is_empty() || event.paths.iter().any(named)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::AccessKind;
    use notify::event::DataChange;
    use notify::event::RenameMode;

    use super::*;

    #[test]
    fn what_is_written_beside_the_files_is_no_change_of_them() {
        let names = BTreeSet::from([OsString::from("authferry.yaml"), OsString::from("tls.crt")]);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let told = |kind, path: Option<&str>| {
            let event = Event::new(kind);
            let event = match path {
                Some(path) => event.add_path(PathBuf::from(path)),
                None => event,
            };
            concerns(&event, &names)
        };
        assert!(told(written, Some("/etc/authferry/authferry.yaml")));
        assert!(told(written, Some("tls.crt")));
        assert!(!told(written, Some("/etc/authferry/access.log")));
        assert!(told(written, None));
        // As Kubernetes does it.
        assert!(told(renamed, Some("/etc/authferry/..data")));
        assert!(!told(EventKind::Access(AccessKind::Any), Some("tls.crt")));
    }
}
