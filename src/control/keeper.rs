//! Where the progress of rollouts is kept over restarts: a file of one instance.

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
use crate::rollout::Tally;

/// The largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// What is kept of one rollout.
#[derive(Debug, Deserialize, Serialize)]
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
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Names of rollouts are letters, digits, `-`, `_` and `.`: `check` refuses others.
    fn path(&self, rollout: &RolloutId) -> PathBuf {
        self.directory.join(format!("{rollout}.json"))
    }
}
