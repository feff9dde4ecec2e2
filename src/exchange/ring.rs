//! The keys that sign what we mint: the next one is published before it signs, the last one while its tokens live.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use serde_json::Map;
use serde_json::Value;
use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::disk::from_files;
use crate::exchange::disk::own;
use crate::exchange::disk::write;
use crate::exchange::settings;
use crate::telemetry::KeyUses;
use crate::telemetry::metrics::KeyUse;
use crate::token::MintError;
use crate::token::SigningKey;
use crate::token::public_jwks;

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
    /// Keys of a module are made where they are.
    #[error(
        "the keys are those of a PKCS#11 module: make the next one there, and name it first in `secrets.signing.pkcs11.keys`"
    )]
    ModulesKeys,
    /// A PKCS#11 module.
    #[error("PKCS#11: {0}")]
    Module(String),
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
pub(super) struct RingKey {
    pub(super) key: Arc<SigningKey>,
    pub(super) from: UnixTime,
    pub(super) until: Option<UnixTime>,
}

/// The keys of a process. Reading is one pointer; changing is rare and goes one after another.
#[derive(Debug)]
pub(crate) struct KeyRing {
    directory: PathBuf,
    settings: ArcSwap<settings::Ring>,
    keys: ArcSwap<Vec<RingKey>>,
    changing: Mutex<()>,
    uses: KeyUses,
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
        let keys = given(directory, &settings, now)?;
        let ring = Self {
            directory: directory.to_owned(),
            settings: ArcSwap::from_pointee(settings),
            keys: ArcSwap::from_pointee(keys),
            changing: Mutex::new(()),
            uses: KeyUses::default(),
        };
        Ok(ring)
    }

    /// Who counts the uses of keys: of those of the ring, and of others that sign for the same ends.
    pub(crate) const fn uses(&self) -> &KeyUses {
        &self.uses
    }

    /// Signs claims with the present key, for `purpose`.
    ///
    /// # Errors
    ///
    /// When the crypto library fails.
    pub(crate) fn sign(
        &self,
        purpose: &'static str,
        typ: &str,
        claims: &Map<String, Value>,
        now: UnixTime,
    ) -> Result<String, MintError> {
        let keys = self.keys.load();
        let key = signing(&keys, now).ok_or_else(|| MintError("there is no key".to_owned()))?;
        self.uses.used(key.key.kid(), KeyUse::Sign, purpose);
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
        if settings.module.is_some() {
            return Err(RingError::ModulesKeys);
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
        let before = self.settings.swap(Arc::new(settings));
        let settings = self.settings.load();
        if settings.module != before.module {
            match given(&self.directory, &settings, now) {
                Ok(keys) => self.keys.store(Arc::new(keys)),
                Err(error) => warn!(%error, "The signing keys stay as they are."),
            }
        }
        self.tick(now);
    }

    fn turn(&self, settings: &settings::Ring, now: UnixTime) -> Result<(), RingError> {
        if !settings.files.is_empty() {
            return self.read_again(&settings.files);
        }
        if settings.module.is_some() {
            return Ok(());
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

/// The keys that the configuration speaks of.
fn given(
    directory: &Path,
    settings: &settings::Ring,
    now: UnixTime,
) -> Result<Vec<RingKey>, RingError> {
    match &settings.module {
        Some(module) => in_module(module).map_err(RingError::Module),
        None if settings.files.is_empty() => own(directory, settings, now),
        None => from_files(&settings.files),
    }
}

#[cfg(feature = "pkcs11")]
fn in_module(module: &settings::Module) -> Result<Vec<RingKey>, String> {
    let keys = crate::exchange::module::open(module)?;
    Ok(crate::exchange::disk::in_order(keys))
}

#[cfg(not(feature = "pkcs11"))]
fn in_module(_module: &settings::Module) -> Result<Vec<RingKey>, String> {
    Err("it is not in this build".to_owned())
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::exchange::disk::FILE;
    use crate::exchange::disk::FIRST;
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
        ring.sign("mint", "JWT", &Map::new(), now).unwrap()
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
