//! The keys that make an issuer's signatures: written down, in a file, or fetched and kept fresh.
//!
//! Answers two questions: which keys count now, and whether asking the issuer again could change that. It must never let
//! a token decide where keys come from, or how often they are fetched.

mod copied;
mod disk;
mod gate;
mod remote;
mod source;

pub(crate) use copied::copied;
pub(super) use remote::Remote;
pub(super) use source::Source;

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::identity::KeyPrint;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::OwnKeys;
use crate::providers::ProviderError;
use crate::providers::watched::Watched;
use crate::token::Algorithm;
use crate::token::KeySet;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) enum Keys {
    /// Written in the configuration.
    Inline(KeySet),
    /// In a file that is read again when it changes.
    File(Watched<KeySet>),
    /// Fetched.
    Remote(Remote),
    /// Those that we sign with ourselves.
    Own(Arc<dyn OwnKeys>),
}

impl Keys {
    /// The keys that count at `now`; `None`: there are none, or they are too old to be believed.
    pub(super) fn current(&self, now: UnixTime) -> Option<KeySet> {
        match self {
            Self::Inline(keys) => Some(keys.clone()),
            Self::File(file) => file.content().map(|keys| KeySet::clone(&keys)),
            Self::Remote(remote) => remote.current(now),
            Self::Own(own) => Some(own.current()),
        }
    }

    /// When those that count now are too old, unless they are fetched again.
    pub(super) fn believed_until(&self) -> UnixTime {
        match self {
            Self::Remote(remote) => remote.believed_until(),
            Self::Inline(_) | Self::File(_) | Self::Own(_) => UnixTime::NEVER,
        }
    }

    /// The verdict on a token that [`Self::current`] cannot judge, if fetching would not change it now.
    pub(super) fn settled(&self) -> Option<ProviderError> {
        match self {
            Self::Inline(_) => Some(Refusal::BadSignature.into()),
            Self::File(file) if file.content().is_some() => Some(Refusal::BadSignature.into()),
            Self::File(_) => Some(Outage::KeysUnavailable.into()),
            Self::Remote(remote) => remote.settled(),
            // Another instance may have a new one.
            Self::Own(_) => None,
        }
    }

    /// Has them fetched, if a fetch is due; nobody waits for it.
    pub(super) fn look(&self) {
        match self {
            Self::Remote(remote) => remote.look(),
            Self::Inline(_) | Self::File(_) | Self::Own(_) => {}
        }
    }

    /// Waits for one fetch, and says how it went: the verdict on a token that [`Self::current`] cannot judge after it.
    pub(super) async fn fetch(&self) -> ProviderError {
        match self {
            Self::Remote(remote) => remote.fetch().await,
            Self::Own(own) if own.look().await => Refusal::BadSignature.into(),
            Self::Own(_) => Outage::KeysUnavailable.into(),
            Self::Inline(_) | Self::File(_) => self
                .settled()
                .unwrap_or_else(|| Outage::KeysUnavailable.into()),
        }
    }

    /// Until when a key counts for what it signs by one of these algorithms, or the verdict on a token that it has signed; `None`: a
    /// fetch might change it.
    pub(super) fn has(
        &self,
        key: &KeyPrint,
        taken: &[Algorithm],
        now: UnixTime,
    ) -> Option<Result<UnixTime, ProviderError>> {
        if let Some(until) = self.believes(key, taken, now) {
            return Some(Ok(until));
        }
        let otherwise = self.settled()?;
        // A fetch may have ended between the first look at the keys and the question whether one is due.
        Some(self.believes(key, taken, now).ok_or(otherwise))
    }

    /// The same once they were fetched, where that may help.
    pub(super) async fn look_for(
        &self,
        key: &KeyPrint,
        taken: &[Algorithm],
        now: UnixTime,
    ) -> Result<UnixTime, ProviderError> {
        if let Some(said) = self.has(key, taken, now) {
            return said;
        }
        let otherwise = self.fetch().await;
        self.believes(key, taken, now).ok_or(otherwise)
    }

    fn believes(&self, key: &KeyPrint, taken: &[Algorithm], now: UnixTime) -> Option<UnixTime> {
        let keys = self.current(now)?;
        keys.has(key, taken).then(|| self.believed_until())
    }

    /// Whether there are keys to judge by.
    pub(super) fn usable(&self, now: UnixTime) -> bool {
        match self {
            Self::Inline(_) | Self::Own(_) => true,
            Self::File(file) => file.usable(),
            Self::Remote(_) => self.current(now).is_some(),
        }
    }

    /// Whether those are what their file says now; `None`: they are in no file.
    pub(super) fn file_is_good(&self) -> Option<bool> {
        match self {
            Self::File(file) => Some(file.is_good()),
            Self::Inline(_) | Self::Remote(_) | Self::Own(_) => None,
        }
    }

    /// What is wrong, in words for `/-/ready`.
    pub(super) fn problem(&self, now: UnixTime) -> Option<String> {
        match self {
            Self::Inline(_) | Self::Own(_) => None,
            Self::File(file) => file.problem(),
            Self::Remote(_) => self
                .current(now)
                .is_none()
                .then(|| "no key set that is young enough".to_owned()),
        }
    }
}

/// Reads a key file: a key set in JSON, or one public key or certificate in PEM.
pub(super) fn parse_file(text: &str) -> Result<KeySet, String> {
    let read = if text.trim_ascii_start().starts_with('{') {
        KeySet::from_inline(text.as_bytes())
    } else {
        KeySet::from_pem(text.as_bytes())
    };
    read.map_err(|cause| cause.to_string())
}
