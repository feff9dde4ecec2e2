//! The secret of a client that nobody here was told: learned once, when the client comes with it and its old provider takes it.

use aws_lc_rs::digest;
use tracing::debug;
use tracing::error;
use tracing::info;

use crate::auth::Of;
use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::issuer::Call;
use crate::issuer::answer::Denied;
use crate::issuer::answer::Not;
use crate::issuer::build::Client;
use crate::issuer::build::Issuer;
use crate::issuer::client::is_one_of;
use crate::providers::ProviderError;
use crate::secret::Secret;
use crate::session::Purpose;
use crate::session::SealedUnder;
use crate::store::Expect;
use crate::store::Key;
use crate::store::Row;
use crate::store::StoreError;

/// The table of hashes of secrets, by client.
const TABLE: &str = "client_secret";

/// How many secrets of a client may be asked about at its provider in a minute, from one address.
pub(super) const GUESSES: u32 = 10;

/// And from all of them.
const ALL_GUESSES: u32 = 100;

const WRONG: Not = Not::Denied(Denied::InvalidClient, "bad_credentials");

fn store(_: StoreError) -> Not {
    Not::Later(5, "store")
}

/// Of fixed length.
fn row(client: &str) -> [u8; 32] {
    hash(&[b"authferry/client-secret/v1", client.as_bytes()].concat())
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

impl Issuer {
    /// Whether it is the secret that was learned, or is to be learned now. What was learned stays: a provider that would take
    /// another one later is not asked again.
    pub(super) async fn is_learned(
        &self,
        call: &Call<'_>,
        client: &Client,
        secret: &str,
    ) -> Result<(), Not> {
        let owner = client.learns_at.as_ref().ok_or(WRONG)?;
        if secret.is_empty() {
            return Err(WRONG);
        }
        let row = row(&client.settings.id);
        let place = Key {
            table: TABLE,
            key: &row,
        };
        let found = self.deps.store.get(place, call.now).await.map_err(store)?;
        if let Some(found) = found {
            return self.is_the_one(call, client, secret, &found).await;
        }
        // Nobody has proved anything yet: whoever guesses here does not guess at the provider.
        for (address, most) in [(call.facts.client_ip, GUESSES), (None, ALL_GUESSES)] {
            let guesses = Of::Learning(&client.settings.id, address);
            if self.deps.limits.take(guesses, most, call.now).await.over {
                return Err(WRONG);
            }
        }
        let (owner, given, now) = (owner.clone(), Secret::new(secret.to_owned()), call.now);
        let made_up = Secret::new(self.deps.entropy.token());
        let task = self.deps.background.spawn(async move {
            owner.takes(given, now).await?;
            // One that takes any secret says nothing about this one.
            match owner.takes(made_up, now).await {
                Err(ProviderError::Rejected(_)) => Ok(true),
                Err(unavailable @ ProviderError::Unavailable { .. }) => Err(unavailable),
                Ok(()) => Ok(false),
            }
        });
        let taken = task.await.unwrap_or_else(|error| {
            error!(client = &*client.settings.id, %error, "A question about a client broke off.");
            Err(Outage::Shed.into())
        });
        match taken {
            Ok(true) => {}
            Ok(false) => {
                error!(
                    client = &*client.settings.id,
                    "A provider takes any secret of a client; none is learned there."
                );
                return Err(WRONG);
            }
            Err(ProviderError::Rejected(_)) => return Err(WRONG),
            Err(ProviderError::Unavailable {
                outage,
                retry_after,
            }) => {
                let after = retry_after.map_or(5, |after| after.as_secs().max(1));
                return Err(Not::Later(after, outage.as_str()));
            }
        }
        let value = self.sealed(client, &row, &hash(secret.as_bytes()));
        let written = self
            .deps
            .store
            .compare_and_swap(place, Expect::Absent, &value, UnixTime::NEVER, call.now)
            .await;
        if written.map_err(store)? {
            info!(
                client = &*client.settings.id,
                "The secret of a client is known now: its old provider took it."
            );
            return Ok(());
        }
        // Somebody else was first: what they learned counts.
        let found = self.deps.store.get(place, call.now).await.map_err(store)?;
        match found {
            Some(found) => self.is_the_one(call, client, secret, &found).await,
            None => Err(WRONG),
        }
    }

    /// Whether it is the secret of a row. A row that does not open is not ours, and nothing is learned in its place: whoever
    /// can write into the store could choose the secret.
    async fn is_the_one(
        &self,
        call: &Call<'_>,
        client: &Client,
        secret: &str,
        found: &Row,
    ) -> Result<(), Not> {
        let row = row(&client.settings.id);
        let id = client.settings.id.as_bytes();
        let ring = self.deps.sessions.ring();
        let Some(opened) = ring.open(Purpose::ClientSecret, b"", &[&row, id], &found.value) else {
            error!(
                client = &*client.settings.id,
                "The learned secret of a client cannot be read; the client needs `secret_hashes`."
            );
            return Err(WRONG);
        };
        let known = opened.plain.first_chunk().copied().ok_or(WRONG)?;
        if !is_one_of(secret, &[known]) {
            return Err(WRONG);
        }
        if opened.under == SealedUnder::OlderKey {
            let place = Key {
                table: TABLE,
                key: &row,
            };
            let (value, expect) = (
                self.sealed(client, &row, &known),
                Expect::Version(found.version),
            );
            // If it is not written now, it is tried with the next request.
            let store = &self.deps.store;
            let again = store.compare_and_swap(place, expect, &value, UnixTime::NEVER, call.now);
            if let Err(error) = again.await {
                debug!(%error, "A learned secret stays sealed under an older key.");
            }
        }
        Ok(())
    }

    fn sealed(&self, client: &Client, row: &[u8; 32], hash: &[u8; 32]) -> Vec<u8> {
        let id = client.settings.id.as_bytes();
        let ring = self.deps.sessions.ring();
        let entropy = &*self.deps.entropy;
        ring.seal(Purpose::ClientSecret, b"", &[row, id], hash, entropy)
    }
}

/// Where a secret is learned.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) provider: std::sync::Arc<dyn crate::providers::Provider>,
    /// The client's name there.
    pub(super) id: Box<str>,
}

impl Owner {
    async fn takes(&self, secret: Secret<String>, now: UnixTime) -> Result<(), ProviderError> {
        let registration = crate::providers::settings::OAuthClient {
            id: self.id.clone(),
            auth: crate::providers::settings::ClientAuth::SecretBasic(secret),
            expires: None,
        };
        let at = self.provider.token_client(Some(&registration));
        // What cannot be sent is no secret.
        let at = at.and_then(Result::ok).ok_or(Refusal::BadCredentials)?;
        at.is_known(now).await
    }
}
