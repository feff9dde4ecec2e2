//! The keys that sign what we mint: the next one is published before it signs, the last one while its tokens live.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::settings;
use crate::token::MintError;
use crate::token::SigningKey;
use crate::token::public_jwks;

/// The file of the ring, and the file of the one key that earlier versions had.
const FILE: &str = "signing.json";
const FIRST: &str = "assertion.pem";

/// The most keys that are published at once.
const MAX_KEYS: usize = 16;

/// Why keys could not be read, made or kept. Says nothing about a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    /// A file.
    #[error("{path}: {cause}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// What it holds.
    #[error("{path}: {cause}")]
    Content {
        /// Which.
        path: String,
        /// Why.
        cause: String,
    },
    /// The crypto library failed.
    #[error(transparent)]
    Key(#[from] MintError),
    /// Keys of the operator's files are rotated by the operator.
    #[error("the keys are files of the configuration: change the files, they are read again")]
    OperatorsKeys,
    /// Many rotations within the overlap.
    #[error("{MAX_KEYS} keys are published already; the oldest ends at {0}")]
    Full(u64),
}

/// One key, as an operator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RingKeyView {
    /// Its name in key sets.
    pub(crate) kid: String,
    /// What it signs with.
    pub(crate) algorithm: String,
    /// `next`, `signing` or `leaving`.
    pub(crate) state: &'static str,
    /// From when it signs, in seconds since 1970.
    pub(crate) from: u64,
    /// When it leaves the published set, in seconds since 1970.
    pub(crate) until: Option<u64>,
}

#[derive(Clone, Debug)]
struct RingKey {
    key: Arc<SigningKey>,
    from: UnixTime,
    until: Option<UnixTime>,
}

/// A key as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept {
    pem: String,
    from: u64,
    until: Option<u64>,
}

/// The keys of a process. Reading is one pointer; changing is rare and goes one after another.
#[derive(Debug)]
pub(crate) struct KeyRing {
    directory: PathBuf,
    settings: ArcSwap<settings::Ring>,
    keys: ArcSwap<Vec<RingKey>>,
    changing: Mutex<()>,
}

impl KeyRing {
    /// Reads the keys of `directory` (`state_dir/keys`), and makes the first one where there is none.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) fn open(
        directory: &Path,
        settings: settings::Ring,
        now: UnixTime,
    ) -> Result<Self, RingError> {
        let keys = if settings.files.is_empty() {
            own(directory, &settings, now)?
        } else {
            from_files(&settings.files)?
        };
        let ring = Self {
            directory: directory.to_owned(),
            settings: ArcSwap::from_pointee(settings),
            keys: ArcSwap::from_pointee(keys),
            changing: Mutex::new(()),
        };
        Ok(ring)
    }

    /// Signs claims with the present key.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub(crate) fn sign(
        &self,
        typ: &str,
        claims: &Map<String, Value>,
        now: UnixTime,
    ) -> Result<String, MintError> {
        let keys = self.keys.load();
        let key = signing(&keys, now).ok_or_else(|| MintError("there is no key".to_owned()))?;
        key.key.sign(typ, claims)
    }

    /// Every published key (RFC 7517 §5): the next one, the present one, and those whose tokens may still live.
    pub(crate) fn jwks(&self) -> Value {
        let keys = self.keys.load();
        let all: Vec<&SigningKey> = keys.iter().map(|key| &*key.key).collect();
        public_jwks(&all)
    }

    /// The keys, as an operator sees them.
    pub(crate) fn list(&self, now: UnixTime) -> Vec<RingKeyView> {
        let keys = self.keys.load();
        let present = signing(&keys, now).map(|key| Arc::clone(&key.key));
        let view = |key: &RingKey| RingKeyView {
            kid: key.key.kid().to_owned(),
            algorithm: key.key.algorithm().as_str().to_owned(),
            state: match &present {
                Some(present) if Arc::ptr_eq(present, &key.key) => "signing",
                Some(_) | None if now < key.from => "next",
                Some(_) | None => "leaving",
            },
            from: key.from.as_secs(),
            until: key.until.map(UnixTime::as_secs),
        };
        keys.iter().map(view).collect()
    }

    /// Makes the next key now. It is published at once and signs after `announce`; the present one leaves after `overlap`.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) fn rotate(&self, now: UnixTime) -> Result<Vec<RingKeyView>, RingError> {
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = self.settings.load();
        if !settings.files.is_empty() {
            return Err(RingError::OperatorsKeys);
        }
        let mut keys = published(&self.keys.load(), now);
        if MAX_KEYS <= keys.len() {
            let first = keys.iter().filter_map(|key| key.until).min();
            return Err(RingError::Full(first.map_or(0, UnixTime::as_secs)));
        }
        let key = Arc::new(SigningKey::generate_for(settings.algorithm)?);
        let from = now + settings.announce;
        for older in &mut keys {
            let end = from + settings.overlap;
            older.until = Some(older.until.map_or(end, |until| until.min(end)));
        }
        info!(
            kid = key.kid(),
            "A new signing key was made; it is published and signs later."
        );
        keys.push(RingKey {
            key,
            from,
            until: None,
        });
        write(&self.directory, &keys)?;
        self.keys.store(Arc::new(keys));
        drop(guard);
        Ok(self.list(now))
    }

    /// What time asks for: the next key in time, keys that have left, files that have changed.
    pub(crate) fn tick(&self, now: UnixTime) {
        let settings = self.settings.load_full();
        if let Err(error) = self.turn(&settings, now) {
            warn!(%error, "The signing keys stay as they are.");
        }
    }

    /// Another configuration.
    pub(crate) fn configure(&self, settings: settings::Ring, now: UnixTime) {
        self.settings.store(Arc::new(settings));
        self.tick(now);
    }

    fn turn(&self, settings: &settings::Ring, now: UnixTime) -> Result<(), RingError> {
        if !settings.files.is_empty() {
            return self.read_again(&settings.files);
        }
        let keys = self.keys.load();
        let newest = keys.iter().max_by_key(|key| key.from);
        let due = newest.is_none_or(|newest| {
            newest.until.is_some()
                || newest.key.algorithm() != settings.algorithm && newest.from <= now
                || newest.from + settings.rotate_every <= now + settings.announce
        });
        if due {
            self.rotate(now)?;
        }
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keys.load();
        let after = published(&before, now);
        if after.len() != before.len() {
            write(&self.directory, &after)?;
            self.keys.store(Arc::new(after));
        }
        drop(guard);
        Ok(())
    }

    fn read_again(&self, files: &[PathBuf]) -> Result<(), RingError> {
        let fresh = from_files(files)?;
        let kids = |keys: &[RingKey]| -> Vec<String> {
            keys.iter().map(|key| key.key.kid().to_owned()).collect()
        };
        if kids(&fresh) != kids(&self.keys.load()) {
            info!("The files of the signing keys have changed and were read again.");
            self.keys.store(Arc::new(fresh));
        }
        Ok(())
    }
}

/// The key that signs: the one that began last.
fn signing(keys: &[RingKey], now: UnixTime) -> Option<&RingKey> {
    keys.iter()
        .filter(|key| key.from <= now)
        .max_by_key(|key| key.from)
        .or_else(|| keys.first())
}

fn published(keys: &[RingKey], now: UnixTime) -> Vec<RingKey> {
    let stays = |key: &&RingKey| key.until.is_none_or(|until| now < until);
    keys.iter().filter(stays).cloned().collect()
}

/// Keys of the operator: the first signs, all are published.
fn from_files(files: &[PathBuf]) -> Result<Vec<RingKey>, RingError> {
    let last = files.len() as u64;
    let one = |(place, path): (usize, &PathBuf)| {
        let pem = fs::read(path).map_err(|cause| io_error(path, cause))?;
        let key = SigningKey::from_pem(&pem).map_err(|cause| content(path, &cause))?;
        Ok(RingKey {
            key: Arc::new(key),
            // The first has begun last.
            from: UnixTime::from_secs(last - place as u64),
            until: None,
        })
    };
    files.iter().enumerate().map(one).collect()
}

/// Our own keys: those of the directory, or a first one.
fn own(
    directory: &Path,
    settings: &settings::Ring,
    now: UnixTime,
) -> Result<Vec<RingKey>, RingError> {
    let path = directory.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => return read(&path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(io_error(&path, cause)),
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

fn read(path: &Path, bytes: &[u8]) -> Result<Vec<RingKey>, RingError> {
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
fn write(directory: &Path, keys: &[RingKey]) -> Result<(), RingError> {
    let kept: Vec<Kept> = keys
        .iter()
        .map(|key| Kept {
            pem: key.key.to_pem(),
            from: key.from.as_secs(),
            until: key.until.map(UnixTime::as_secs),
        })
        .collect();
    let (path, draft) = (directory.join(FILE), directory.join("signing.json.new"));
    let bytes = serde_json::to_vec(&kept).map_err(|cause| content(&path, &cause))?;
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

fn io_error(path: &Path, cause: io::Error) -> RingError {
    RingError::Io {
        path: path.display().to_string(),
        cause,
    }
}

fn content(path: &Path, cause: &dyn std::fmt::Display) -> RingError {
    RingError::Content {
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::Algorithm;
    use crate::token::KeySet;
    use crate::token::verify_signature_only;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn at(days: u32) -> UnixTime {
        UnixTime::from_secs(1_000_000) + DAY * days
    }

    fn settings() -> settings::Ring {
        settings::Ring {
            announce: DAY,
            overlap: 2 * DAY,
            ..settings::Ring::default()
        }
    }

    fn states(ring: &KeyRing, now: UnixTime) -> Vec<&'static str> {
        ring.list(now).into_iter().map(|key| key.state).collect()
    }

    fn signed(ring: &KeyRing, now: UnixTime) -> String {
        ring.sign("JWT", &Map::new(), now).unwrap()
    }

    fn is_published(ring: &KeyRing, token: &str) -> bool {
        let set = KeySet::from_remote(ring.jwks().to_string().as_bytes())
            .unwrap()
            .0;
        verify_signature_only(token, &set).is_ok()
    }

    #[test]
    fn keys_turn_without_a_token_that_nobody_can_check() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), at(0)).unwrap();
        let first = signed(&ring, at(0));
        ring.tick(at(28));
        assert_eq!(states(&ring, at(28)), ["signing"]);
        ring.tick(at(29));
        assert_eq!(states(&ring, at(29)), ["signing", "next"]);
        ring.tick(at(29));
        assert_eq!(ring.list(at(29)).len(), 2, "once is enough");
        assert!(is_published(&ring, &signed(&ring, at(29))));
        assert_eq!(states(&ring, at(30)), ["leaving", "signing"]);
        let second = signed(&ring, at(30));
        assert!(is_published(&ring, &first) && is_published(&ring, &second));
        ring.tick(at(32));
        assert_eq!(states(&ring, at(32)), ["signing"]);
        assert!(!is_published(&ring, &first) && is_published(&ring, &second));
    }

    #[test]
    fn the_ring_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), at(0)).unwrap();
        ring.rotate(at(1)).unwrap();
        let again = KeyRing::open(dir.path(), settings(), at(1)).unwrap();
        assert_eq!(again.list(at(1)), ring.list(at(1)));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
    }

    #[test]
    fn the_key_of_an_earlier_version_is_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let old = SigningKey::generate().unwrap();
        fs::write(dir.path().join(FIRST), old.to_pem()).unwrap();
        let ring = KeyRing::open(dir.path(), settings(), at(0)).unwrap();
        assert_eq!(ring.list(at(0))[0].kid, old.kid());
    }

    #[test]
    fn a_changed_algorithm_takes_effect_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), at(0)).unwrap();
        for (day, algorithm) in [(1, Algorithm::EdDsa), (3, Algorithm::Rs256)] {
            let changed = settings::Ring {
                algorithm,
                ..settings()
            };
            ring.configure(changed, at(day));
            let keys = ring.list(at(day));
            let next = keys.iter().find(|key| key.state == "next").unwrap();
            assert_eq!(next.algorithm, algorithm.as_str());
            assert!(is_published(&ring, &signed(&ring, at(day + 1))));
        }
    }

    #[test]
    fn files_are_read_again_and_not_rotated_by_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let (first, second) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        fs::write(&path, first.to_pem()).unwrap();
        let files = settings::Ring {
            files: vec![path.clone()],
            ..settings()
        };
        let ring = KeyRing::open(dir.path(), files, at(0)).unwrap();
        assert!(matches!(ring.rotate(at(0)), Err(RingError::OperatorsKeys)));
        fs::write(&path, "half a fi").unwrap();
        ring.tick(at(1));
        assert_eq!(ring.list(at(1))[0].kid, first.kid());
        fs::write(&path, second.to_pem()).unwrap();
        ring.tick(at(1));
        assert_eq!(ring.list(at(1))[0].kid, second.kid());
    }

    #[test]
    fn the_set_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path(), settings(), at(0)).unwrap();
        for _ in 1..MAX_KEYS {
            ring.rotate(at(0)).unwrap();
        }
        assert!(matches!(ring.rotate(at(0)), Err(RingError::Full(_))));
        ring.rotate(at(40)).unwrap();
    }
}
