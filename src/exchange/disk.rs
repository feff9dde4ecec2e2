//! Signing keys in files: our own, which are kept in `state_dir/keys`, and those of the operator.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::exchange::keys::RingError;
use crate::exchange::keys::RingKey;
use crate::exchange::settings;
use crate::token::SigningKey;

/// The file of the ring, and the file of the one key that earlier versions had.
pub(super) const FILE: &str = "signing.json";
pub(super) const FIRST: &str = "assertion.pem";

/// A key as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    pem: String,
    from: u64,
    until: Option<u64>,
}

/// Keys of the operator: the first signs, all are published.
pub(super) fn from_files(files: &[PathBuf]) -> Result<Vec<RingKey>, RingError> {
    let one = |path: &PathBuf| {
        let pem = fs::read(path).map_err(|cause| io_error(path, cause))?;
        SigningKey::from_pem(&pem).map_err(|cause| content(path, &cause))
    };
    let keys = files.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(in_order(keys))
}

/// The first signs: it has begun last.
pub(super) fn in_order(keys: Vec<SigningKey>) -> Vec<RingKey> {
    let last = keys.len() as u64;
    let one = |(place, key): (usize, SigningKey)| RingKey {
        key: Arc::new(key),
        from: UnixTime::from_secs(last - place as u64),
        until: None,
    };
    keys.into_iter().enumerate().map(one).collect()
}

/// Our own keys: those of the directory, or a first one.
pub(super) fn own(
    directory: &Path,
    settings: &settings::Ring,
    now: UnixTime,
) -> Result<Vec<RingKey>, RingError> {
    if let Some(keys) = kept(directory)? {
        return Ok(keys);
    }
    let first = directory.join(FIRST);
    let key = match fs::read(&first) {
        Ok(pem) => SigningKey::from_pem(&pem).map_err(|cause| content(&first, &cause))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            SigningKey::generate_for(settings.algorithm)?
        }
        Err(cause) => return Err(io_error(&first, cause)),
    };
    let keys = vec![RingKey {
        key: Arc::new(key),
        from: now,
        until: None,
    }];
    write(directory, &keys)?;
    Ok(keys)
}

/// The keys of the file of the ring, if there is one.
pub(super) fn kept(directory: &Path) -> Result<Option<Vec<RingKey>>, RingError> {
    let path = directory.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => read(&path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(io_error(&path, cause)),
    }
}

/// The keys as they are written, wherever that is.
pub(super) fn encoded(path: &Path, keys: &[RingKey]) -> Result<Vec<u8>, RingError> {
    let kept: Vec<Kept> = keys
        .iter()
        .map(|key| Kept {
            pem: key.key.to_pem(),
            from: key.from.as_secs(),
            until: key.until.map(UnixTime::as_secs),
        })
        .collect();
    serde_json::to_vec(&kept).map_err(|cause| content(path, &cause))
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<RingKey>, RingError> {
    let kept: Vec<Kept> = serde_json::from_slice(bytes).map_err(|cause| content(path, &cause))?;
    if kept.is_empty() {
        return Err(content(path, &"there is no key in it"));
    }
    let one = |kept: &Kept| {
        Ok(RingKey {
            key: Arc::new(
                SigningKey::from_pem(kept.pem.as_bytes()).map_err(|cause| content(path, &cause))?,
            ),
            from: UnixTime::from_secs(kept.from),
            until: kept.until.map(UnixTime::from_secs),
        })
    };
    kept.iter().map(one).collect()
}

/// Whole or not at all, and only for us.
pub(super) fn write(directory: &Path, keys: &[RingKey]) -> Result<(), RingError> {
    let (path, draft) = (directory.join(FILE), directory.join("signing.json.new"));
    let bytes = encoded(&path, keys)?;
    let written = || {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(directory)?.sync_all()
    };
    written().map_err(|cause| io_error(&path, cause))
}

pub(super) fn io_error(path: &Path, cause: io::Error) -> RingError {
    RingError::Io {
        path: path.display().to_string(),
        cause,
    }
}

pub(super) fn content(path: &Path, cause: &dyn std::fmt::Display) -> RingError {
    RingError::Content {
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}
