//! Our signing keys as those of an issuer whose tokens come back here: what an application takes that we have minted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tracing::warn;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::exchange::keys::RingKey;
use crate::exchange::keys::is_ours;
use crate::exchange::ring::KeyRing;
use crate::providers::Epoch;
use crate::providers::OwnKeys;
use crate::token::KeySet;
use crate::token::SigningKey;
use crate::token::public_jwks;

/// Whoever makes up names of keys puts no more questions to the store than one in this time.
const AGAIN: Duration = Duration::from_secs(1);

/// The keys of the process, for whoever judges what they have signed.
#[derive(Debug)]
struct OwnRing {
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    /// When they were looked for last, and whether that could be done.
    looked: Mutex<Option<(UnixTime, bool)>>,
}

#[async_trait]
impl OwnKeys for OwnRing {
    fn current(&self) -> KeySet {
        KeySet::clone(&self.ring.public.load())
    }

    fn epoch(&self) -> &Epoch {
        self.ring.epoch()
    }

    async fn look(&self) -> bool {
        let mut looked = self.looked.lock().await;
        let now = self.clock.now();
        if let Some((at, said)) = *looked
            && now.since(at) < AGAIN
        {
            return said;
        }
        let said = self.ring.look(now).await;
        *looked = Some((now, said));
        said
    }
}

impl KeyRing {
    /// For whoever judges what comes back of what it has signed.
    pub(crate) fn judges(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Arc<dyn OwnKeys> {
        Arc::new(OwnRing {
            ring: Arc::clone(self),
            clock: Arc::clone(clock),
            looked: Mutex::new(None),
        })
    }

    /// Reads what the instances have together; `false`: the store does not answer.
    async fn look(self: &Arc<Self>, now: UnixTime) -> bool {
        let settings = self.settings.load_full();
        let Some(shelf) = self.shelf.as_ref().filter(|_| is_ours(&settings)) else {
            return true;
        };
        let turned = self.turn_shared(shelf, &settings, None, now).await;
        if let Err(error) = &turned {
            warn!(%error, "Whether there is another signing key is not known.");
        }
        turned.is_ok()
    }
}

/// What checks signatures of `keys`.
pub(super) fn public(keys: &[RingKey]) -> KeySet {
    let all: Vec<&SigningKey> = keys.iter().map(|key| &*key.key).collect();
    let read = KeySet::from_remote(public_jwks(&all).to_string().as_bytes());
    match read {
        Ok((set, _unusable)) => set,
        Err(error) => {
            warn!(%error, "No token of ours can be checked.");
            KeySet::default()
        }
    }
}
