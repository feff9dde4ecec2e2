//! The signing keys of several instances: what one of them does about those in the store that they share.

use std::sync::Arc;

use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::keys::RingError;
use crate::exchange::keys::RingKey;
use crate::exchange::keys::is_due;
use crate::exchange::keys::published;
use crate::exchange::keys::with_next;
use crate::exchange::ring::KeyRing;
use crate::exchange::settings;
use crate::exchange::shelf::Found;
use crate::exchange::shelf::Shelf;
use crate::store::Expect;
use crate::token::SigningKey;

impl KeyRing {
    /// Reads what the instances have together; makes the next key if somebody wants it or it is due, unless another has done so.
    pub(super) async fn turn_shared(
        self: &Arc<Self>,
        shelf: &Shelf,
        settings: &settings::Ring,
        wanted: Option<String>,
        now: UnixTime,
    ) -> Result<(), RingError> {
        let _one_at_a_time = self.turning.lock().await;
        for _ in 0..8 {
            let found = shelf.read(now).await?;
            let (before, expect, again) = match found {
                Some(Found {
                    keys,
                    expect,
                    again,
                }) => (keys, expect, again),
                // Nobody has put one there, or the store was emptied: what is published stays so.
                None => (self.before(settings, now)?, Expect::Absent, true),
            };
            let next = wanted.is_some() || is_due(&before, settings, now);
            let after = if next {
                with_next(&before, settings, now)?
            } else {
                published(&before, now)
            };
            let same = !next && !again && after.len() == before.len();
            if next {
                // Before anybody else can find it: without a record there is no such key. Where another instance is first,
                // the record names one that never comes.
                self.record(after.clone(), wanted.clone()).await?;
            }
            if same || shelf.write(&after, expect, now).await? {
                let left = self.put(after.clone(), now);
                self.leave_behind(left, after).await;
                return Ok(());
            }
        }
        Err(RingError::Busy)
    }

    /// What another instance has withdrawn is not what this one begins with when it is alone again.
    async fn leave_behind(self: &Arc<Self>, left: Vec<String>, after: Vec<RingKey>) {
        if left.is_empty() {
            return;
        }
        let ring = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            left.iter()
                .try_for_each(|kid| ring.forget_alone(kid, &after))
        });
        if let Ok(Err(error)) = done.await {
            warn!(%error, "A signing key that was withdrawn elsewhere is still in a file of this instance.");
        }
    }

    /// What an instance puts where there is nothing: what it has, what it had alone, or a first key.
    pub(super) fn before(
        &self,
        settings: &settings::Ring,
        now: UnixTime,
    ) -> Result<Vec<RingKey>, RingError> {
        // Keys of a module cannot be written down.
        let present = self.keys.load();
        let present = present.iter().filter(|key| !key.key.to_pem().is_empty());
        let present: Vec<RingKey> = present.cloned().collect();
        if !present.is_empty() {
            return Ok(present);
        }
        match self.drawer.kept() {
            Ok(Some(kept)) => return Ok(kept.keys),
            Ok(None) => {}
            // They are this instance's alone, and it has others' now.
            Err(error @ RingError::Sealed { .. }) => {
                warn!(%error, "The signing keys that this instance had alone are left behind.");
            }
            Err(error) => return Err(error),
        }
        let key = Arc::new(SigningKey::generate_for(settings.algorithm)?);
        Ok(vec![RingKey {
            key,
            from: now,
            until: None,
        }])
    }

    /// Tells of the next key off the runtime: a record is written to a disk.
    async fn record(
        self: &Arc<Self>,
        keys: Vec<RingKey>,
        actor: Option<String>,
    ) -> Result<(), RingError> {
        let ring = Arc::clone(self);
        let told = tokio::task::spawn_blocking(move || ring.tell(&keys, actor.as_deref()));
        told.await.unwrap_or(Err(RingError::Busy))
    }
}
