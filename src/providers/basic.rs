//! A password file: who may come in, as hashes.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::available_parallelism;

use argon2::Argon2;
use argon2::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::entries;
use crate::providers::entries::Entry;
use crate::providers::settings::Basic;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::providers::watched::Watched;

/// A bcrypt hash of nothing that anybody knows: an unknown name costs as much time as a wrong password.
const NOBODY: &str = "$2b$10$7EqJtq98hPqEX7fNZaFWoOa5gKp0kG0e6u4rR1m5y0m2m5m5m5m5m";

/// The longest password that is hashed, in bytes; a longer one is wrong.
const MAX_PASSWORD: usize = 1_024;

type People = HashMap<Box<str>, Entry>;

/// A provider that knows its people from a file of password hashes.
#[derive(Debug)]
pub(super) struct BasicProvider {
    settings: Settings,
    basic: Basic,
    epoch: Epoch,
    voucher: Voucher,
    file: Watched<People>,
    /// Hashing is slow on purpose; so many at once, and who finds no room is turned away.
    room: Arc<Semaphore>,
}

impl BasicProvider {
    /// Reads the file and goes on watching it.
    pub(super) fn new(settings: Settings, basic: Basic, background: &Handle) -> Self {
        let epoch = Epoch::default();
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            voucher: Voucher::new(&settings, &basic.issuer),
            file: Watched::start(&basic.file, |text| entries::parse(text, check), epoch.clone(), background),
            room: Arc::new(Semaphore::new(cores * 4)),
            settings,
            basic,
            epoch,
        }
    }
}

/// Whether the hash is of a scheme that still holds.
fn check(hash: &str) -> Result<(), &'static str> {
    if hash.starts_with("$argon2") {
        PasswordHash::new(hash).map(drop).map_err(|_| "the argon2 hash is not in PHC form")
    } else if ["$2a$", "$2b$", "$2y$"].iter().any(|p| hash.starts_with(p)) {
        // The scheme's own parser is asked, so that a truncated hash shows now and not at a sign-in.
        bcrypt::verify("", hash).map(drop).map_err(|_| "the bcrypt hash is not one")
    } else {
        Err("the hash is neither argon2 nor bcrypt")
    }
}

/// Whether `password` made `hash`. Slow on purpose: called on a blocking thread.
fn matches(password: &str, hash: &str) -> bool {
    if hash.starts_with("$argon2") {
        PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    } else {
        bcrypt::verify(password, hash).unwrap_or(false)
    }
}

#[async_trait]
impl Provider for BasicProvider {
    fn id(&self) -> &ProviderId {
        &self.settings.id
    }

    fn owns(&self) -> &Owns {
        &self.settings.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(&self, credential: &Credential, now: UnixTime) -> Result<Authenticated, ProviderError> {
        let Credential::Basic { username, password } = credential else {
            return Err(Refusal::Unsupported.into());
        };
        let people = self.file.content().ok_or(Outage::KeysUnavailable)?;
        if MAX_PASSWORD < password.expose().len() {
            return Err(Refusal::BadCredentials.into());
        }
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Outage::Shed)?;
        let entry = people.get(username).cloned();
        let hash: Box<str> = entry.as_ref().map_or_else(|| NOBODY.into(), |e| e.hash.clone());
        let password = password.clone();
        let good = tokio::task::spawn_blocking(move || {
            let _room = permit;
            matches(password.expose(), &hash)
        })
        .await
        .map_err(|_| Outage::Shed)?;
        match entry {
            Some(entry) if good => Ok(self.voucher.listed(username, &entry.groups, now + self.basic.cache)?),
            Some(_) | None => Err(Refusal::BadCredentials.into()),
        }
    }

    fn health(&self) -> Health {
        let problem = self.file.problem();
        Health { usable: problem.is_none(), down_since: None, problem }
    }
}
