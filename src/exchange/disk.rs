//! Signing keys in files: our own, which are kept in `state_dir/keys`, and those of the operator.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::exchange::keys::RingError;
use crate::exchange::keys::RingKey;
use crate::exchange::settings;
use crate::exchange::shelf::Seal;
use crate::secret::Secret;
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

/// What an instance keeps for itself: `state_dir/keys`, whose file is sealed where there is something to seal it with.
#[derive(Debug)]
pub(super) struct Drawer {
    directory: PathBuf,
    seal: Option<Arc<dyn Seal>>,
}

/// What was found in it.
pub(super) struct Found {
    pub(super) keys: Vec<RingKey>,
    /// Whether it is to be written again: it is not sealed, or under a key that goes.
    pub(super) again: bool,
}

/// The file. What is said of the keys beside them is for those who look, and nothing rests on it.
#[derive(Deserialize, Serialize)]
struct Sealed {
    keys: Vec<Named>,
    sealed: String,
}

/// A key by its name.
#[derive(Deserialize, Serialize)]
struct Named {
    kid: String,
    from: u64,
    until: Option<u64>,
}

impl Drawer {
    pub(super) fn new(directory: &Path, seal: Option<Arc<dyn Seal>>) -> Self {
        Self {
            directory: directory.to_owned(),
            seal,
        }
    }

    /// Our own keys: those of the directory, or a first one.
    pub(super) fn own(
        &self,
        settings: &settings::Ring,
        now: UnixTime,
    ) -> Result<Vec<RingKey>, RingError> {
        if let Some(found) = self.kept()? {
            if found.again {
                self.write(&found.keys)?;
            }
            return Ok(found.keys);
        }
        let first = self.directory.join(FIRST);
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
        self.write(&keys)?;
        Ok(keys)
    }

    /// The keys of the file of the ring, if there is one.
    pub(super) fn kept(&self) -> Result<Option<Found>, RingError> {
        let path = self.directory.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(io_error(&path, cause)),
        };
        // Earlier versions wrote a list, in the clear.
        if bytes.first() == Some(&b'[') {
            let (keys, again) = (read(&path, &bytes)?, self.seal.is_some());
            return Ok(Some(Found { keys, again }));
        }
        let whole: Sealed =
            serde_json::from_slice(&bytes).map_err(|cause| content(&path, &cause))?;
        let sealed = URL_SAFE_NO_PAD.decode(&whole.sealed);
        let sealed = sealed.map_err(|cause| content(&path, &cause))?;
        let opened = self.seal.as_ref().and_then(|seal| seal.open(&sealed));
        let opened = opened.ok_or_else(|| RingError::Sealed {
            path: path.display().to_string(),
        })?;
        Ok(Some(Found {
            keys: read(&path, &opened.plain)?,
            again: opened.again,
        }))
    }

    /// Whether what is there is sealed under a key that goes.
    pub(super) fn is_to_be_sealed_again(&self) -> bool {
        matches!(self.kept(), Ok(Some(Found { again: true, .. })))
    }

    /// Whole or not at all, and only for us.
    pub(super) fn write(&self, keys: &[RingKey]) -> Result<(), RingError> {
        let directory = &self.directory;
        let (path, draft) = (directory.join(FILE), directory.join("signing.json.new"));
        let plain = Secret::new(encoded(&path, keys)?);
        let bytes = match &self.seal {
            None => plain.expose().clone(),
            Some(seal) => {
                let whole = Sealed {
                    keys: keys.iter().map(named).collect(),
                    sealed: URL_SAFE_NO_PAD.encode(seal.seal(plain.expose())),
                };
                serde_json::to_vec(&whole).map_err(|cause| content(&path, &cause))?
            }
        };
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
}

fn named(key: &RingKey) -> Named {
    Named {
        kid: key.key.kid().to_owned(),
        from: key.from.as_secs(),
        until: key.until.map(UnixTime::as_secs),
    }
}

/// The name of each key of the file, from when it signs, and when it leaves: for those who look, with no key to open it.
pub(super) fn names(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<(String, UnixTime, Option<UnixTime>)>, RingError> {
    let all = if bytes.first() == Some(&b'[') {
        read(path, bytes)?.iter().map(named).collect()
    } else {
        let whole: Result<Sealed, _> = serde_json::from_slice(bytes);
        whole.map_err(|cause| content(path, &cause))?.keys
    };
    let one = |key: Named| {
        let until = key.until.map(UnixTime::from_secs);
        (key.kid, UnixTime::from_secs(key.from), until)
    };
    Ok(all.into_iter().map(one).collect())
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
