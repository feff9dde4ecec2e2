//! A password file: who may come in, as hashes.

use std::collections::HashMap;
use std::ops::RangeInclusive;
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

/// The longest password that is hashed, in bytes; a longer one is wrong.
const MAX_PASSWORD: usize = 1_024;
/// What bcrypt can compute.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=31;

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
            file: Watched::start(
                &basic.file,
                |text| entries::parse(text, check),
                epoch.clone(),
                background,
            ),
            room: Arc::new(Semaphore::new(basic.at_once.unwrap_or(cores * 4))),
            settings,
            basic,
            epoch,
        }
    }
}

/// Whether the hash is of a scheme that still holds.
fn check(hash: &str) -> Result<(), &'static str> {
    if hash.starts_with("$argon2") {
        PasswordHash::new(hash)
            .map(drop)
            .or(Err("the argon2 hash is not in PHC form"))
    } else if ["$2a$", "$2b$", "$2y$"].iter().any(|p| hash.starts_with(p)) {
        // The scheme's own parser is asked, so that a truncated hash shows now and not at a sign-in. Nothing is hashed: a
        // file of thousands is read at a start.
        match hash.parse::<bcrypt::HashParts>() {
            Ok(parts) if BCRYPT_COSTS.contains(&parts.get_cost()) => Ok(()),
            Ok(_) => Err("the cost of the bcrypt hash is not from 4 to 31"),
            Err(_) => Err("the bcrypt hash is not one"),
        }
    } else {
        Err("the hash is neither argon2 nor bcrypt")
    }
}

/// Whether `password` made `hash`. Slow on purpose: called on a blocking thread.
fn matches(password: &str, hash: &str) -> bool {
    if hash.starts_with("$argon2") {
        PasswordHash::new(hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
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

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let Credential::Basic { username, password } = credential else {
            return Err(Refusal::Unsupported.into());
        };
        let people = self.file.content().ok_or(Outage::KeysUnavailable)?;
        if MAX_PASSWORD < password.expose().len() {
            return Err(Refusal::BadCredentials.into());
        }
        let permit = Arc::clone(&self.room)
            .try_acquire_owned()
            .or(Err(Outage::Shed))?;
        let entry = people.get(username).cloned();
        // An unknown name costs what a wrong password costs: somebody else's hash is computed, and its answer dropped.
        let Some(hash) = entry
            .as_ref()
            .or_else(|| people.values().next())
            .map(|e| e.hash.clone())
        else {
            return Err(Refusal::BadCredentials.into());
        };
        let password = password.clone();
        let good = tokio::task::spawn_blocking(move || {
            let _room = permit;
            matches(password.expose(), &hash)
        })
        .await
        .or(Err(Outage::Shed))?;
        match entry {
            Some(entry) if good => {
                Ok(self
                    .voucher
                    .listed(username, &entry.groups, now + self.basic.cache)?)
            }
            Some(_) | None => Err(Refusal::BadCredentials.into()),
        }
    }

    fn health(&self) -> Health {
        Health {
            usable: self.file.usable(),
            down_since: None,
            problem: self.file.problem(),
        }
    }

    fn file_is_good(&self) -> Option<bool> {
        Some(self.file.is_good())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::identity::ClaimPath;
    use crate::identity::Issuer;
    use crate::providers::settings::Assurance;
    use crate::providers::settings::KindSettings;
    use crate::secret::Secret;

    fn provider(lines: &str) -> BasicProvider {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        let basic = Basic {
            issuer: Issuer::new("https://old.example"),
            file: file.path().to_owned(),
            realm: "old".into(),
            cache: std::time::Duration::from_secs(30),
            at_once: None,
        };
        let settings = Settings {
            id: ProviderId::new("old"),
            owns: Owns {
                basic: true,
                ..Owns::default()
            },
            claims: vec![
                ("subject".into(), ClaimPath::parse("username").unwrap()),
                ("groups".into(), ClaimPath::parse("groups").unwrap()),
            ],
            email_domains: Vec::new(),
            assurance: Assurance {
                fixed: Some("pwd".into()),
                ..Assurance::default()
            },
            client: crate::providers::settings::Client::for_test(),
            kind: KindSettings::Basic(basic.clone()),
        };
        BasicProvider::new(settings, basic, &Handle::current())
    }

    fn lines() -> String {
        format!("alice:{}:it,hr\n", bcrypt::hash("right", 4).unwrap())
    }

    async fn judge(
        provider: &BasicProvider,
        username: &str,
        password: &str,
    ) -> Result<Authenticated, ProviderError> {
        let credential = Credential::Basic {
            username: username.into(),
            password: Secret::new(password.to_owned()),
        };
        provider
            .authenticate(&credential, UnixTime::from_secs(1_000))
            .await
    }

    #[tokio::test]
    async fn the_right_password_names_the_person_and_the_groups() {
        let proof = judge(&provider(&lines()), "alice", "right").await.unwrap();
        assert_eq!(proof.identity().key.subject.as_str(), "alice");
        assert_eq!(
            proof.identity().attributes.list("groups").unwrap(),
            ["it", "hr"]
        );
        assert_eq!(proof.identity().acr.as_deref(), Some("pwd"));
        assert_eq!(proof.expires(), UnixTime::from_secs(1_030));
    }

    #[tokio::test]
    async fn a_wrong_password_and_an_unknown_name_get_the_same_refusal() {
        let provider = provider(&lines());
        let refused = Err(ProviderError::Rejected(Refusal::BadCredentials));
        assert_eq!(judge(&provider, "alice", "wrong").await.map(drop), refused);
        assert_eq!(judge(&provider, "bob", "right").await.map(drop), refused);
        assert_eq!(
            judge(&provider, "alice", &"x".repeat(2_000))
                .await
                .map(drop),
            refused
        );
        assert_eq!(judge(&provider, "Alice", "right").await.map(drop), refused);
    }

    #[test]
    fn a_file_of_thousands_is_read_without_a_hash_being_computed() {
        // Each of these takes about a second to compute: all of them more than an hour.
        let hash = bcrypt::hash("right", 4)
            .unwrap()
            .replacen("$04$", "$14$", 1);
        let lines: String = (0..5_000).map(|n| format!("p{n}:{hash}\n")).collect();
        let people = entries::parse(&lines, check).unwrap();
        assert_eq!(people.len(), 5_000);
    }

    #[tokio::test]
    async fn a_file_with_a_broken_hash_judges_nobody() {
        for broken in [
            "alice:plain",
            "alice:$2b$04$short",
            "alice:$2b$99$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzabcde",
            "alice:$2b$10$abcdefghijklmnopqrst!uabcdefghijklmnopqrstuvwxyzabcde",
            "alice:$argon2id$nonsense",
            "alice:{SHA}abc",
        ] {
            let provider = provider(broken);
            assert!(!provider.health().usable, "{broken}");
            let outage = Err(Outage::KeysUnavailable.into());
            assert_eq!(
                judge(&provider, "alice", "x").await.map(drop),
                outage,
                "{broken}"
            );
        }
    }
}
