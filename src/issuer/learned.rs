//! The secret of a client that nobody here was told: learned once, when the client comes with it and its old provider takes it.

use aws_lc_rs::digest;
use tracing::error;
use tracing::info;

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
use crate::store::Expect;
use crate::store::Key;
use crate::store::StoreError;

/// The table of hashes of secrets, by client.
const TABLE: &str = "client_secret";

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
        let row = row(&client.settings.id);
        let place = Key {
            table: TABLE,
            key: &row,
        };
        let found = self.deps.store.get(place, call.now).await.map_err(store)?;
        if let Some(found) = found {
            let known = found.value.first_chunk().copied();
            let right = known.is_some_and(|known| is_one_of(secret, &[known]));
            return if right { Ok(()) } else { Err(WRONG) };
        }
        let (owner, given, now) = (owner.clone(), Secret::new(secret.to_owned()), call.now);
        let task = self
            .deps
            .background
            .spawn(async move { owner.takes(given, now).await });
        let taken = task.await.unwrap_or_else(|error| {
            error!(client = &*client.settings.id, %error, "A question about a client broke off.");
            Err(Outage::Shed.into())
        });
        match taken {
            Ok(()) => {}
            Err(ProviderError::Rejected(_)) => return Err(WRONG),
            Err(ProviderError::Unavailable {
                outage,
                retry_after,
            }) => {
                let after = retry_after.map_or(5, |after| after.as_secs().max(1));
                return Err(Not::Later(after, outage.as_str()));
            }
        }
        let value = hash(secret.as_bytes());
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
        let known = found.and_then(|found| found.value.first_chunk().copied());
        match known {
            Some(known) if is_one_of(secret, &[known]) => Ok(()),
            Some(_) | None => Err(WRONG),
        }
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
        };
        let at = self.provider.token_client(Some(&registration));
        // What cannot be sent is no secret.
        let at = at.and_then(Result::ok).ok_or(Refusal::BadCredentials)?;
        at.is_known(now).await
    }
}
