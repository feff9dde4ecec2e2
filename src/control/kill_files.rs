//! The two files of the kill switch: the one an operator writes by hand, and the one that keeps what an operator set.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::RolloutId;

/// The largest file that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A directory, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// More than 64 KiB.
    #[error("is larger than 64 KiB")]
    TooLarge,
    /// A line that makes no sense.
    #[error("line {line}: {problem}")]
    Line {
        /// Which one, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Not what was written before.
    #[error("is damaged: {0}")]
    Damaged(String),
}

/// What the kill file says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) state: KillState,
    /// It says nothing, or is not there, as a file that is about to be written.
    pub(super) silent: bool,
}

/// Reads the kill file. A missing file is `off`.
pub(super) fn read(path: &Path) -> Result<Said, FileError> {
    let text = content(path)?;
    let silent = text.as_deref().is_none_or(|text| text.trim().is_empty());
    let state = KillState::parse(text.as_deref().unwrap_or_default())
        .map_err(|(line, problem)| FileError::Line { line, problem })?;
    Ok(Said { state, silent })
}

/// Whoever owns the kill file, or its directory once it is gone: the actor in the record.
pub(super) fn owner(path: &Path) -> String {
    let metadata = std::fs::metadata(path)
        .or_else(|_| std::fs::metadata(path.parent().unwrap_or(Path::new("."))));
    metadata.map_or_else(|_| "file".into(), |m| format!("file:uid={}", m.uid()))
}

/// What an operator set, with who and why.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Persisted {
    version: u32,
    global: String,
    rollouts: BTreeMap<String, String>,
    actor: String,
    reason: String,
    /// Milliseconds since 1970.
    at: u64,
}

impl Persisted {
    pub(super) fn new(state: &KillState, actor: &str, reason: &str, now: UnixTime) -> Self {
        let rollouts = state.rollouts.iter();
        Self {
            version: 1,
            global: state.global.as_str().into(),
            rollouts: rollouts
                .map(|(id, position)| (id.as_str().into(), position.as_str().into()))
                .collect(),
            actor: actor.into(),
            reason: reason.into(),
            at: now.as_millis(),
        }
    }

    fn state(&self) -> Result<KillState, FileError> {
        if self.version != 1 {
            let version = self.version;
            return Err(FileError::Damaged(format!("version {version} is unknown")));
        }
        let position = |word: &str| {
            KillPosition::parse(word)
                .ok_or_else(|| FileError::Damaged(format!("`{word}` is not a position")))
        };
        let rollouts = self.rollouts.iter();
        Ok(KillState {
            global: position(&self.global)?,
            rollouts: rollouts
                .map(|(id, word)| Ok((RolloutId::new(id), position(word)?)))
                .collect::<Result<_, FileError>>()?,
        })
    }
}

/// Reads what was kept. A missing file is `off`.
pub(super) fn load(path: &Path) -> Result<KillState, FileError> {
    let Some(text) = content(path)? else {
        return Ok(KillState::default());
    };
    let persisted: Persisted =
        serde_json::from_str(&text).map_err(|error| FileError::Damaged(error.to_string()))?;
    persisted.state()
}

/// Keeps it: written beside, made durable, and renamed over, so that there is always a whole file.
pub(super) fn store(path: &Path, record: &Persisted) -> io::Result<()> {
    let text = serde_json::to_vec(record)?;
    let beside = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

/// The whole file; `None` if there is none.
fn content(path: &Path) -> Result<Option<String>, FileError> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if MAX_BYTES < read as u64 {
        return Err(FileError::TooLarge);
    }
    Ok(Some(text))
}
