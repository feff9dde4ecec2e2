//! Which key signs, which are published, and when the next one is due.

use std::fmt;
use std::io;
use std::sync::Arc;

use tracing::info;

use crate::clock::UnixTime;
use crate::exchange::settings;
use crate::store::StoreError;
use crate::token::MintError;
use crate::token::SigningKey;

/// The most keys that are published at once.
pub(super) const MAX_KEYS: usize = 16;

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
    /// The store that several instances share.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other instances write all the time, or the thread of ours ended.
    #[error("the signing keys change all the time")]
    Busy,
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
    /// They are sealed under a key that is gone.
    #[error(
        "{path} was sealed under another session key: name that one in `secrets.session_keys` again, or remove the file; tokens that were minted are not believed then"
    )]
    Sealed {
        /// The file.
        path: String,
    },
    /// There is no such key.
    #[error("no key that we make is called `{0}`; `authferry keys list` shows them")]
    Unknown(String),
    /// The record of a key that comes or leaves could not be written.
    #[error("the change of keys could not be recorded: {0}")]
    NotRecorded(String),
    /// Many rotations within the overlap.
    #[error("{MAX_KEYS} keys are published already; the oldest ends at {0}")]
    Full(u64),
}

/// Who records which key comes next.
pub(crate) trait Witness: fmt::Debug + Send + Sync {
    /// A key is about to be published, and signs from then on. `actor`: who asked for it; without one it was time.
    ///
    /// # Errors
    ///
    /// In words, when somebody asked and it cannot be recorded: then there is no such key.
    fn next_key(&self, kid: &str, from: UnixTime, actor: Option<&str>) -> Result<(), String>;

    /// A key is about to leave before its time, and another one signs at once.
    ///
    /// # Errors
    ///
    /// In words, when it cannot be recorded: then it stays.
    fn withdrawn(&self, kid: &str, signs: &str, actor: &str) -> Result<(), String>;
}

/// A key, and when.
#[derive(Clone, Debug)]
pub(super) struct RingKey {
    pub(super) key: Arc<SigningKey>,
    pub(super) from: UnixTime,
    pub(super) until: Option<UnixTime>,
}

/// The key that signs: the one that began last.
pub(super) fn signing(keys: &[RingKey], now: UnixTime) -> Option<&RingKey> {
    keys.iter()
        .filter(|key| key.from <= now)
        .max_by_key(|key| key.from)
        .or_else(|| keys.first())
}

/// Whether the keys are those that we make: no files of the operator, and no module.
pub(super) const fn is_ours(settings: &settings::Ring) -> bool {
    settings.files.is_empty() && settings.module.is_none()
}

/// Whether it is time for the next key.
pub(super) fn is_due(keys: &[RingKey], settings: &settings::Ring, now: UnixTime) -> bool {
    let newest = keys.iter().max_by_key(|key| key.from);
    newest.is_none_or(|newest| {
        newest.until.is_some()
            || newest.key.algorithm() != settings.algorithm && newest.from <= now
            || newest.from + settings.rotate_every <= now + settings.announce
    })
}

/// The keys with the next one, which signs after `announce`; the present ones leave after `overlap`.
pub(super) fn with_next(
    keys: &[RingKey],
    settings: &settings::Ring,
    now: UnixTime,
) -> Result<Vec<RingKey>, RingError> {
    let mut keys = published(keys, now);
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
    Ok(keys)
}

/// The keys without one that counts no more. Where it signed, the next one does so at once, or one that is made now; where it was the
/// next one, the present one goes on as if there had been none.
pub(super) fn without(
    keys: &[RingKey],
    kid: &str,
    settings: &settings::Ring,
    now: UnixTime,
) -> Result<Vec<RingKey>, RingError> {
    let signed = signing(keys, now).is_some_and(|key| key.key.kid() == kid);
    let mut left = published(keys, now);
    let before = left.len();
    left.retain(|key| key.key.kid() != kid);
    if left.len() == before {
        return Err(RingError::Unknown(kid.to_owned()));
    }
    let newest = left.iter_mut().max_by_key(|key| key.from);
    match newest.filter(|newest| !signed || now < newest.from) {
        Some(newest) => newest.until = None,
        None => left.push(RingKey {
            key: Arc::new(SigningKey::generate_for(settings.algorithm)?),
            from: now,
            until: None,
        }),
    }
    if signed {
        // Of several that wait the last one signs: it was put behind the others.
        for key in left.iter_mut().filter(|key| now < key.from) {
            key.from = now;
        }
    }
    Ok(left)
}

pub(super) fn published(keys: &[RingKey], now: UnixTime) -> Vec<RingKey> {
    let stays = |key: &&RingKey| key.until.is_none_or(|until| now < until);
    keys.iter().filter(stays).cloned().collect()
}
