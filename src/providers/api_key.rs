//! A file of API keys, as hashes.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_lc_rs::digest;
use tokio::runtime::Handle;

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
use crate::providers::settings::ApiKey;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::providers::watched::Watched;

/// How long a verdict may be kept: the file is watched, and a change raises the epoch.
const KEEP: std::time::Duration = std::time::Duration::from_secs(300);

/// By the hash of the key: the look-up costs the same for a key that exists and one that does not.
type Keys = HashMap<[u8; 32], (Box<str>, Entry)>;

/// A provider that knows its clients from a file of key hashes.
///
/// The hash is plain SHA-256: a key is long and random, unlike a password, so there is nothing to slow down.
#[derive(Debug)]
pub(super) struct ApiKeyProvider {
    settings: Settings,
    epoch: Epoch,
    voucher: Voucher,
    file: Watched<Keys>,
}

impl ApiKeyProvider {
    /// Reads the file and goes on watching it.
    pub(super) fn new(settings: Settings, api_key: &ApiKey, background: &Handle) -> Self {
        let epoch = Epoch::default();
        Self {
            voucher: Voucher::new(&settings, &api_key.issuer),
            file: Watched::start(&api_key.file, keys, epoch.clone(), background),
            settings,
            epoch,
        }
    }
}

fn keys(text: &str) -> Result<Keys, String> {
    let mut all = Keys::new();
    for (name, entry) in entries::parse(text, |hash| {
        hash_of(hash)
            .map(drop)
            .ok_or("the hash is not `sha256:` and 64 hex digits")
    })? {
        let hash = hash_of(&entry.hash).ok_or("a hash was checked and is gone")?;
        let hex = entry.hash.clone();
        if all.insert(hash, (name, entry)).is_some() {
            return Err(same_key(text, &hex));
        }
    }
    Ok(all)
}

/// By number and not by name: whoever may ask whether we are ready reads it.
fn same_key(text: &str, hex: &str) -> String {
    let hex = hex.to_ascii_lowercase();
    let lines = text.lines().enumerate();
    let same = lines.filter(|(_, line)| line.to_ascii_lowercase().contains(&hex));
    let numbers: Vec<String> = same.map(|(index, _)| (index + 1).to_string()).collect();
    format!("lines {} have the same key", numbers.join(" and "))
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:")?.as_bytes();
    let mut hash = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[async_trait]
impl Provider for ApiKeyProvider {
    fn id(&self) -> &ProviderId {
        &self.settings.id
    }

    fn owns(&self) -> &Owns {
        &self.settings.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn judge_locally(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        Some(self.judge(credential, now))
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        self.judge(credential, now)
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

impl ApiKeyProvider {
    fn judge(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let Credential::ApiKey(key) = credential else {
            return Err(Refusal::Unsupported.into());
        };
        let keys = self.file.content().ok_or(Outage::KeysUnavailable)?;
        let hash = digest::digest(&digest::SHA256, key.expose().as_bytes());
        let found = <[u8; 32]>::try_from(hash.as_ref())
            .ok()
            .and_then(|hash| keys.get(&hash));
        let (name, entry) = found.ok_or(Refusal::BadCredentials)?;
        Ok(self.voucher.listed(name, &entry.groups, now + KEEP)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_hash_and_never_stands_in_the_file() {
        let line =
            "job:sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b:batch";
        let keys = keys(line).unwrap();
        let hash: [u8; 32] = digest::digest(&digest::SHA256, b"secret")
            .as_ref()
            .try_into()
            .unwrap();
        assert_eq!(&*keys[&hash].0, "job");
    }

    #[test]
    fn two_names_for_one_key_and_keys_in_clear_text_are_refused() {
        let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert!(
            keys(&format!(
                "a:{hash}\n\nb:{}",
                hash.to_uppercase().replace("SHA", "sha")
            ))
            .unwrap_err()
            .contains("lines 1 and 3 have the same key")
        );
        assert!(keys("a:secret").is_err());
        assert!(keys("a:sha256:00").is_err());
    }
}
