//! Keys that the configuration does not name: made once, kept in `state_dir/keys`, never logged.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::settings::Settings;
use crate::entropy::Entropy;
use crate::rollout::BucketKey;
use crate::secret::Secret;

/// How long a key is.
pub(crate) const KEY_BYTES: usize = 32;

/// A key that can be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyName {
    /// `secrets.bucket_key`.
    Bucket,
    /// `secrets.session_keys`.
    Session,
    /// `secrets.pseudonym_key`.
    Pseudonym,
}

impl KeyName {
    /// Its file in `state_dir/keys`, which is also how it is called in logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Session => "session",
            Self::Pseudonym => "pseudonym",
        }
    }
}

/// Keys that the configuration names.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// `secrets.bucket_key`.
    pub(super) bucket: Option<Secret<Vec<u8>>>,
    /// `secrets.session_keys`.
    pub(super) session: Option<Vec<Secret<Vec<u8>>>>,
    /// `secrets.pseudonym_key`.
    pub(super) pseudonym: Option<Secret<Vec<u8>>>,
}

/// Settings whose keys are not all known: nobody gets them before [`Draft::ensure`] has filled the gaps.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    settings: Settings,
    given: Given,
}

/// Why a key could neither be read nor made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The file or its directory cannot be used.
    #[error("cannot use {path}: {cause}")]
    Io {
        /// Which path.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} does not hold a key of 32 bytes; remove it only if everybody may be signed out and reshuffled"
    )]
    NotAKey {
        /// Which file.
        path: String,
    },
    /// The file can be read by others.
    #[error("{path} can be read by others (mode {mode:o}); set it to 600")]
    Exposed {
        /// Which file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// No randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl Draft {
    pub(super) const fn new(settings: Settings, given: Given) -> Self {
        Self { settings, given }
    }

    /// The settings as far as they are known.
    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many keys of sessions the configuration names.
    pub(super) fn session_keys(&self) -> usize {
        self.given.session.as_ref().map_or(0, Vec::len)
    }

    /// The settings, with keys from `state_dir/keys` where the configuration names none. Those that did not exist yet
    /// are made now, readable by the owner alone. Answers also which were made.
    ///
    /// # Errors
    ///
    /// When a key can neither be read nor made.
    pub(crate) fn ensure(self) -> Result<(Settings, Vec<KeyName>), KeysError> {
        let directory = self.settings.state_dir.join("keys");
        let mut made = Vec::new();
        self.complete(|name| {
            let (key, new) = ensure(&directory, name)?;
            made.extend(new.then_some(name));
            Ok(key)
        })
        .map(|settings| (settings, made))
    }

    /// The settings, with keys of the moment where the configuration names none: for a look that seals and buckets
    /// nothing. Nothing is read from the state directory or written to it.
    pub(crate) fn for_a_look(self, entropy: &dyn Entropy) -> Result<Settings, KeysError> {
        self.complete(|_| {
            let mut key = vec![0; KEY_BYTES];
            entropy.fill(&mut key);
            Ok(Secret::new(key))
        })
    }

    /// The settings, with the keys of what runs where the configuration names none: as after a reload. Nothing is read.
    pub(crate) fn beside(self, running: &Settings) -> Result<Settings, KeysError> {
        self.complete(|name| {
            let sessions = running.sessions.keys.first();
            let key = match name {
                KeyName::Bucket => Some(running.bucket_key.secret()),
                KeyName::Session => sessions,
                KeyName::Pseudonym => Some(&running.telemetry.pseudonym_key),
            };
            key.cloned().ok_or(KeysError::NoRandomness)
        })
    }

    /// The settings, with the keys of `state_dir/keys` where the configuration names none, and keys of the moment where
    /// there is none yet: nothing is written. Answers also whether the bucket key is the one that would decide.
    ///
    /// # Errors
    ///
    /// When a key cannot be read.
    pub(crate) fn at_a_start(self, entropy: &dyn Entropy) -> Result<(Settings, bool), KeysError> {
        let directory = self.settings.state_dir.join("keys");
        let mut known = true;
        let settings = self.complete(|name| {
            if let Some(key) = read(&directory.join(name.as_str()))? {
                return Ok(key);
            }
            known &= name != KeyName::Bucket;
            let mut key = vec![0; KEY_BYTES];
            entropy.fill(&mut key);
            Ok(Secret::new(key))
        })?;
        Ok((settings, known))
    }

    /// The settings, with keys from `make` where the configuration names none.
    fn complete(
        self,
        mut make: impl FnMut(KeyName) -> Result<Secret<Vec<u8>>, KeysError>,
    ) -> Result<Settings, KeysError> {
        let Self {
            mut settings,
            given,
        } = self;
        settings.bucket_key = BucketKey::new(match given.bucket {
            Some(key) => key,
            None => make(KeyName::Bucket)?,
        });
        settings.sessions.keys = match given.session {
            Some(keys) => keys,
            None => vec![make(KeyName::Session)?],
        };
        settings.telemetry.pseudonym_key = match given.pseudonym {
            Some(key) => key,
            None => make(KeyName::Pseudonym)?,
        };
        Ok(settings)
    }

    /// The settings with keys that everybody knows.
    #[cfg(test)]
    pub(crate) fn with_test_keys(self) -> Settings {
        self.complete(|name| Ok(Secret::new(vec![name.as_str().len() as u8; KEY_BYTES])))
            .unwrap()
    }
}

/// Reads a key, or makes it.
fn ensure(directory: &Path, name: KeyName) -> Result<(Secret<Vec<u8>>, bool), KeysError> {
    let path = directory.join(name.as_str());
    if let Some(key) = read(&path)? {
        return Ok((key, false));
    }
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |cause| KeysError::Io { path, cause }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed(directory))?;
    let mut fresh = vec![0; KEY_BYTES];
    rand::fill(&mut fresh).map_err(|_unspecified| KeysError::NoRandomness)?;
    let key = Secret::new(fresh);
    // Written beside and linked into place: another process that starts at the same moment never sees half a key, and
    // whoever comes second takes the first one's.
    let beside = directory.join(format!(".{}.{}", name.as_str(), std::process::id()));
    let written = write(&beside, key.expose()).and_then(|()| fs::hard_link(&beside, &path));
    drop(fs::remove_file(&beside));
    match written {
        Ok(()) => Ok((key, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match read(&path)? {
            Some(key) => Ok((key, false)),
            None => Err(KeysError::Io {
                path: path.display().to_string(),
                cause: error,
            }),
        },
        Err(cause) => Err(KeysError::Io {
            path: path.display().to_string(),
            cause,
        }),
    }
}

fn write(path: &PathBuf, key: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key)?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Option<Secret<Vec<u8>>>, KeysError> {
    let failed = |cause| KeysError::Io {
        path: path.display().to_string(),
        cause,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed {
            path: path.display().to_string(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let bytes = Secret::new(bytes);
    if bytes.expose().len() == KEY_BYTES {
        return Ok(Some(bytes));
    }
    Err(KeysError::NotAKey {
        path: path.display().to_string(),
    })
}

/// A key of 32 bytes: as they are, as 64 hexadecimal digits, or in base64.
pub(super) fn decode(bytes: &[u8]) -> Option<Secret<Vec<u8>>> {
    let text = std::str::from_utf8(bytes).map(str::trim).ok();
    let hex = text
        .filter(|text| text.len() == 2 * KEY_BYTES)
        .and_then(|text| {
            let digits: Option<Vec<u8>> = text
                .chars()
                .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
                .collect();
            Some(
                digits?
                    .chunks_exact(2)
                    .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
                    .collect::<Vec<u8>>(),
            )
        });
    let base64 = || text.and_then(|text| STANDARD.decode(text).ok());
    let plain = || (bytes.len() == KEY_BYTES).then(|| bytes.to_vec());
    let key = hex.or_else(plain).or_else(base64)?;
    (key.len() == KEY_BYTES).then(|| Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_three_spellings() {
        let key: Vec<u8> = (0..32).collect();
        let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
        for spelling in [
            key.clone(),
            hex.clone().into_bytes(),
            format!("{hex}\n").into_bytes(),
            STANDARD.encode(&key).into_bytes(),
        ] {
            assert!(decode(&spelling).unwrap().matches(&key));
        }
        for bad in [
            &b""[..],
            b"short",
            &hex.as_bytes()[1..],
            &[0; 31],
            &[0; 33],
            "zz".repeat(32).as_bytes(),
        ] {
            assert!(decode(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("keys");
        let (first, new) = ensure(&directory, KeyName::Bucket).unwrap();
        assert!(new);
        let (second, new) = ensure(&directory, KeyName::Bucket).unwrap();
        assert!(!new && second.matches(first.expose()));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("bucket")), 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let (other, _) = ensure(&directory, KeyName::Session).unwrap();
        assert!(!other.matches(first.expose()));
    }

    #[test]
    fn a_damaged_or_exposed_key_is_refused_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bucket");
        fs::write(&path, b"short").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(
            ensure(dir.path(), KeyName::Bucket),
            Err(KeysError::NotAKey { .. })
        ));
        fs::write(&path, [7; 32]).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(
            ensure(dir.path(), KeyName::Bucket),
            Err(KeysError::Exposed { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), [7; 32]);
    }
}
