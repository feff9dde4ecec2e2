//! The file system tells when the kill file may have changed, so that nobody waits for the next poll.
//!
//! It only ever makes a look come sooner: what the file says is decided where it is read, and who is told nothing polls. A
//! watcher that breaks off, whatever it does then, ends nothing but itself.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::Thread;

use notify::EventKind;
use notify::RecursiveMode;
use notify::Watcher;
use notify::event::ModifyKind;
use tracing::warn;

/// The most symbolic links that are followed; the kernel follows as many.
const MAX_LINKS: usize = 40;

/// How often in a row it is looked whether the way to the file has changed while it was being watched.
const MAX_TURNS: usize = 4;

/// Which directory a path led to: its device and its number there.
type Place = (u64, u64);

/// Wakes the thread that reads the file.
pub(super) struct KillWatch {
    file: PathBuf,
    watcher: Option<Box<dyn Watcher + Send>>,
    watched: BTreeMap<PathBuf, Place>,
    told: Arc<Told>,
}

/// What the watcher's thread and ours both know.
#[derive(Debug, Default)]
struct Told {
    /// What has to happen to one of these names; a state directory is written to all the time.
    names: Mutex<BTreeSet<OsString>>,
    /// Something was removed or renamed, perhaps a directory that is watched.
    moved: AtomicBool,
}

impl KillWatch {
    /// Tells `reader` of what happens to `file`, once it is [followed](Self::follow).
    pub(super) fn new(file: &Path, reader: Thread) -> Self {
        let told = Arc::new(Told::default());
        let hears = Arc::clone(&told);
        let tell = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| hears.concerns(&event)) {
                reader.unpark();
            }
        };
        let watcher = unbroken(|| notify::recommended_watcher(tell)).and_then(|watcher| {
            watcher
                .inspect_err(|error| warn!(%error, "The kill file is polled only."))
                .ok()
        });
        Self {
            file: file.to_owned(),
            watcher: watcher.map(|watcher| Box::new(watcher) as Box<dyn Watcher + Send>),
            watched: BTreeMap::new(),
            told,
        }
    }

    /// With a watcher of a test.
    #[cfg(test)]
    pub(super) fn by(file: &Path, watcher: Box<dyn Watcher + Send>) -> Self {
        Self {
            file: file.to_owned(),
            watcher: Some(watcher),
            watched: BTreeMap::new(),
            told: Arc::default(),
        }
    }

    /// Watches what leads to the file now. What happened before is not told: the file is read after this.
    pub(super) fn follow(&mut self) {
        let followed = unbroken(|| {
            for _ in 0..MAX_TURNS {
                // What led somewhere else meanwhile is not watched yet.
                if !self.turn() {
                    return;
                }
            }
        });
        if followed.is_none() {
            self.give_up();
        }
    }

    /// From now on the file is polled only.
    fn give_up(&mut self) {
        let watcher = self.watcher.take();
        // One that has broken off may do so again.
        unbroken(|| drop(watcher));
    }

    /// Whether something is watched that was not.
    fn turn(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let (directories, names) = leads(&self.file);
        *self
            .told
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = names;
        // The kernel forgets a directory that is removed, and the next one may get its number.
        let moved = self.told.moved.swap(false, Ordering::AcqRel);
        let stale = |path: &PathBuf, place: &Place| moved || directories.get(path) != Some(place);
        let gone: Vec<PathBuf> = self
            .watched
            .extract_if(.., |path, place| stale(path, place))
            .map(|(path, _)| path)
            .collect();
        for path in gone {
            // One that is gone was forgotten already.
            drop(watcher.unwatch(&path));
        }
        let mut more = false;
        for (path, place) in directories {
            if self.watched.contains_key(&path) {
                continue;
            }
            if let Err(error) = watcher.watch(&path, RecursiveMode::NonRecursive) {
                warn!(directory = %path.display(), %error, "The kill file is polled only.");
            }
            // Also if it failed: that is said once, and tried again when another directory is there.
            self.watched.insert(path, place);
            more = true;
        }
        more
    }
}

impl Drop for KillWatch {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A step of the thread that must not end; `None`: it broke off. The library that watches takes for granted that a thread of
/// its own lives, which nobody here can.
pub(super) fn unbroken<T>(step: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(step));
    if done.is_err() {
        warn!(
            "A look at the kill file, or what tells of it, broke off: it is read again at the next poll."
        );
    }
    done.ok()
}

impl Told {
    /// Whether the file may say something else now.
    fn concerns(&self, event: &notify::Event) -> bool {
        // Reading the file is an event, too.
        if event.kind.is_access() {
            return false;
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |path: &PathBuf| path.file_name().is_none_or(|name| names.contains(name));
        // Without a path, events were lost.
        let concerns = event.paths.is_empty() || event.paths.iter().any(named);
        if concerns
            && matches!(
                event.kind,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
            )
        {
            self.moved.store(true, Ordering::Release);
        }
        concerns
    }
}

/// The directories that stand between the path and the file: those of each symbolic link on the way, as in Kubernetes, and
/// the one of the file itself, or of the first directory that is missing. And the names in them that count.
fn leads(file: &Path) -> (BTreeMap<PathBuf, Place>, BTreeSet<OsString>) {
    let (mut directories, mut names) = (BTreeMap::new(), BTreeSet::new());
    let mut look_in = |directory: &Path, name: OsString| {
        if let Ok(metadata) = std::fs::metadata(directory) {
            directories.insert(directory.to_owned(), (metadata.dev(), metadata.ino()));
        }
        names.insert(name);
        names.extend(directory.file_name().map(ToOwned::to_owned));
    };
    let backwards = |path: &Path| -> Vec<OsString> {
        let named = path.components().filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        });
        named.rev().collect()
    };
    let mut rest = std::path::absolute(file).map_or_else(|_| Vec::new(), |path| backwards(&path));
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        if let Ok(target) = std::fs::read_link(&next)
            && links < MAX_LINKS
        {
            links += 1;
            look_in(&at, name);
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(backwards(&target));
            continue;
        }
        if rest.is_empty() || !next.is_dir() {
            look_in(&at, name);
            break;
        }
        at = next;
    }
    (directories, names)
}

/// A watcher that breaks off whatever is asked of it, its end included.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Broken;

#[cfg(test)]
impl Watcher for Broken {
    fn new<F: notify::EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        Ok(Self)
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        panic!("its thread is gone");
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        panic!("its thread is gone");
    }

    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::NullWatcher
    }
}

#[cfg(test)]
impl Drop for Broken {
    fn drop(&mut self) {
        panic!("its thread is gone");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(file: &Path) -> Vec<PathBuf> {
        leads(file).0.into_keys().collect()
    }

    #[test]
    fn every_link_on_the_way_is_watched_and_what_is_missing_where_it_will_be() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let file = root.join("mount/kill");
        assert_eq!(paths(&file), std::slice::from_ref(&root));

        fs::create_dir_all(root.join("mount/..1")).unwrap();
        assert_eq!(paths(&file), [root.join("mount")]);

        symlink("..1", root.join("mount/..data")).unwrap();
        symlink("..data/kill", &file).unwrap();
        let (directories, names) = leads(&file);
        let directories: Vec<_> = directories.into_keys().collect();
        assert_eq!(directories, [root.join("mount"), root.join("mount/..1")]);
        for name in ["kill", "..data", "..1", "mount"] {
            assert!(names.contains(&OsString::from(name)), "{name}");
        }

        symlink(&root, root.join("around")).unwrap();
        let around = paths(&root.join("around/mount/../around/mount/kill"));
        assert_eq!(
            around,
            [root.clone(), root.join("mount"), root.join("mount/..1")]
        );
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(paths(&root.join("loop")), [root]);
    }

    #[test]
    fn what_happens_to_other_files_and_our_own_reading_wake_nobody() {
        let told = Told::default();
        told.names.lock().unwrap().insert("kill".into());
        let event = |kind, path: &str| notify::Event::new(kind).add_path(path.into());
        let write = EventKind::Modify(ModifyKind::Any);
        let read = EventKind::Access(notify::event::AccessKind::Any);
        assert!(told.concerns(&event(write, "/state/kill")));
        assert!(!told.concerns(&event(write, "/state/ledger.jsonl")));
        assert!(!told.concerns(&event(read, "/state/kill")));
        assert!(told.concerns(&notify::Event::new(EventKind::Other)));
        assert!(!told.moved.load(Ordering::Acquire));
        let removed = EventKind::Remove(notify::event::RemoveKind::Any);
        assert!(!told.concerns(&event(removed, "/state/kill.json.new")));
        assert!(!told.moved.load(Ordering::Acquire));
        assert!(told.concerns(&event(removed, "/state/kill")));
        assert!(told.moved.load(Ordering::Acquire));
    }
}
