//! Where the progress of rollouts is kept over restarts: a file of one instance, and where the disk takes no more, its name.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::State;
use crate::rollout::Tally;

/// The largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// Stands between the parts of a mark. No name of a rollout or a stage has it.
const APART: char = '@';
/// What a mark is called that says nothing.
const RESERVED: &str = "reserved";

/// What is kept of one rollout.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Kept {
    pub(super) progress: Progress,
    pub(super) tally: Option<Tally>,
    /// Drills that have passed in the present stage.
    #[serde(default)]
    pub(super) drills: Vec<Box<str>>,
    /// Whether what the new provider has vouched for is still to be ended.
    #[serde(default)]
    pub(super) owes_revocation: bool,
}

/// The step of a rollout as the name of an empty file says it: a file gets another name also where the disk takes no byte more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Mark {
    pub(super) version: u64,
    pub(super) epoch: u64,
    pub(super) state: State,
    pub(super) stage: String,
    pub(super) step: usize,
    pub(super) at_from: bool,
    pub(super) owes_revocation: bool,
}

impl Mark {
    fn of(kept: &Kept) -> Self {
        let progress = &kept.progress;
        Self {
            version: progress.version,
            epoch: progress.epoch,
            state: progress.state,
            stage: progress.stage.clone(),
            step: progress.step,
            at_from: progress.at_from,
            owes_revocation: kept.owes_revocation,
        }
    }

    /// What stands in the name behind that of the rollout; at most 150 bytes.
    fn text(&self) -> String {
        let side = if self.at_from { "from" } else { "step" };
        let sessions = if self.owes_revocation {
            "revoke"
        } else {
            "keep"
        };
        let Self {
            version,
            epoch,
            state,
            stage,
            step,
            ..
        } = self;
        format!("{version}@{epoch}@{state}@{stage}@{step}@{side}@{sessions}")
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(APART);
        let mut next = || parts.next();
        let (version, epoch) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let state = next()?;
        let state = State::ALL.into_iter().find(|one| one.as_str() == state)?;
        let (stage, step) = (next()?.to_owned(), next()?.parse().ok()?);
        let (side, sessions) = (next()?, next()?);
        next().is_none().then_some(Self {
            version,
            epoch,
            state,
            stage,
            step,
            at_from: side == "from",
            owes_revocation: sessions == "revoke",
        })
    }
}

/// A directory with a file for each rollout.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
}

impl Keeper {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What was kept. A file that cannot be read is no reason to begin anew: that would move people.
    pub(super) fn load(&self, rollout: &RolloutId) -> io::Result<Option<Kept>> {
        let path = self.path(rollout);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = io::read_to_string(io::Read::take(file, MAX_BYTES))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| io::Error::other(format!("{} is damaged: {error}", path.display())))
    }

    /// Keeps it: written beside, made durable, and renamed over, so that there is always a whole file.
    pub(super) fn save(&self, rollout: &RolloutId, kept: &Kept) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let path = self.path(rollout);
        let beside = path.with_extension("new");
        let mut file = new_file(&beside)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        // Behind the file: as long as the mark says more than it, the mark counts.
        self.reserve(rollout)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Keeps the step alone, where [`Self::save`] finds no room.
    pub(super) fn mark(&self, rollout: &RolloutId, kept: &Kept) -> io::Result<()> {
        let name = self.marked(rollout, &Mark::of(kept).text());
        let reserved = self.marked(rollout, RESERVED);
        let before = self.marks(rollout)?.into_iter().next();
        fs::rename(before.map_or(reserved, |(path, _)| path), name)?;
        File::open(&self.directory)?.sync_all()
    }

    /// The step that was kept last by [`Self::mark`]. It counts where it says more than the file does.
    pub(super) fn read_mark(&self, rollout: &RolloutId) -> io::Result<Option<Mark>> {
        let marks = self.marks(rollout)?.into_iter();
        Ok(marks
            .map(|(_, mark)| mark)
            .max_by_key(|mark| (mark.epoch, mark.version)))
    }

    /// A mark that says nothing is there from now on, and no other.
    fn reserve(&self, rollout: &RolloutId) -> io::Result<()> {
        let reserved = self.marked(rollout, RESERVED);
        for (path, _) in self.marks(rollout)? {
            fs::rename(path, &reserved)?;
        }
        if !reserved.try_exists()? {
            new_file(&reserved)?.sync_all()?;
        }
        Ok(())
    }

    fn marks(&self, rollout: &RolloutId) -> io::Result<Vec<(PathBuf, Mark)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut marks = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let said = name.to_str().and_then(|name| name.split_once(APART));
            let said = said.filter(|(id, _)| *id == rollout.as_str());
            if let Some(mark) = said.and_then(|(_, text)| Mark::read(text)) {
                marks.push((entry.path(), mark));
            }
        }
        Ok(marks)
    }

    /// Names of rollouts are letters, digits, `-`, `_` and `.`: `check` refuses others.
    fn path(&self, rollout: &RolloutId) -> PathBuf {
        self.directory.join(format!("{rollout}.json"))
    }

    fn marked(&self, rollout: &RolloutId, text: &str) -> PathBuf {
        self.directory.join(format!("{rollout}{APART}{text}"))
    }
}

fn new_file(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: u64, epoch: u64) -> Kept {
        let progress = Progress {
            state: State::RolledBack,
            stage: "4-ramp.eu".into(),
            step: 2,
            version,
            epoch,
            ..Progress::default()
        };
        Kept {
            progress,
            owes_revocation: true,
            ..Kept::default()
        }
    }

    #[test]
    fn a_mark_says_the_step_until_the_file_does() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(directory.path().join("rollouts"));
        let rollout = RolloutId::new("crm");
        assert!(
            keeper.mark(&rollout, &kept(1, 1)).is_err(),
            "nothing is reserved before anything was kept"
        );
        keeper.save(&rollout, &kept(3, 1)).unwrap();
        assert_eq!(keeper.read_mark(&rollout).unwrap(), None);
        keeper.mark(&rollout, &kept(4, 2)).unwrap();
        keeper.mark(&rollout, &kept(5, 3)).unwrap();
        let mark = keeper.read_mark(&rollout).unwrap().unwrap();
        assert_eq!(mark, Mark::of(&kept(5, 3)));
        assert_eq!((mark.step, &*mark.stage), (2, "4-ramp.eu"));
        // One of another rollout, whose name begins alike, is its own.
        let other = RolloutId::new("crm.eu");
        assert_eq!(keeper.read_mark(&other).unwrap(), None);
        keeper.save(&rollout, &kept(6, 3)).unwrap();
        assert_eq!(keeper.read_mark(&rollout).unwrap(), None);
        keeper.mark(&rollout, &kept(7, 4)).unwrap();
    }

    #[test]
    fn what_is_no_mark_says_nothing() {
        for text in ["", "reserved", "1@2@held@s@0@from", "1@2@up@s@0@from@keep"] {
            assert_eq!(Mark::read(text), None, "{text}");
        }
        assert_eq!(Mark::read("1@2@held@s@0@from@keep@x"), None);
        assert!(Mark::read("1@2@held@s@0@from@keep").unwrap().at_from);
    }
}
