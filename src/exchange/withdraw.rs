//! A signing key that counts no more: out of what is published at once, and the next one signs.

use std::sync::Arc;
use std::sync::PoisonError;

use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::keys::RingError;
use crate::exchange::keys::RingKey;
use crate::exchange::keys::is_ours;
use crate::exchange::keys::signing;
use crate::exchange::keys::without;
use crate::exchange::ring::KeyRing;
use crate::exchange::ring::RingKeyView;
use crate::exchange::settings;
use crate::exchange::shelf::Shelf;
use crate::store::Expect;

impl KeyRing {
    /// What a key does now (`next`, `signing` or `leaving`), if it can be withdrawn.
    ///
    /// # Errors
    ///
    /// Where the keys are the operator's, who takes it out where they are, or there is no such key.
    pub(crate) fn may_withdraw(&self, kid: &str, now: UnixTime) -> Result<&'static str, RingError> {
        let settings = self.settings.load();
        if !settings.files.is_empty() {
            return Err(RingError::OperatorsKeys);
        }
        if settings.module.is_some() {
            return Err(RingError::ModulesKeys);
        }
        let keys = self.list(now);
        let found = keys.into_iter().find(|key| *key.kid == *kid);
        let found = found.ok_or_else(|| RingError::Unknown(kid.to_owned()))?;
        Ok(found.state)
    }

    /// Takes a key out, wherever the keys are; other instances follow when they look next.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub(crate) async fn withdraw(
        self: &Arc<Self>,
        kid: &str,
        actor: &str,
        now: UnixTime,
    ) -> Result<Vec<RingKeyView>, RingError> {
        let settings = self.settings.load_full();
        if let Some(shelf) = self.shelf.as_ref().filter(|_| is_ours(&settings)) {
            self.withdraw_shared(shelf, &settings, (kid, actor), now)
                .await?;
            return Ok(self.list(now));
        }
        let (ring, kid, actor) = (Arc::clone(self), kid.to_owned(), actor.to_owned());
        // Files are written.
        let done = tokio::task::spawn_blocking(move || ring.withdraw_own(&kid, &actor, now));
        done.await.unwrap_or(Err(RingError::Busy))?;
        Ok(self.list(now))
    }

    fn withdraw_own(&self, kid: &str, actor: &str, now: UnixTime) -> Result<(), RingError> {
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_withdraw(kid, now)?;
        let after = without(&self.keys.load(), kid, &self.settings.load(), now)?;
        self.tell_withdrawn(kid, &after, actor, now)?;
        self.drawer.write(&after)?;
        let _left = self.put(after, now);
        drop(guard);
        Ok(())
    }

    async fn withdraw_shared(
        self: &Arc<Self>,
        shelf: &Shelf,
        settings: &settings::Ring,
        (kid, actor): (&str, &str),
        now: UnixTime,
    ) -> Result<(), RingError> {
        let _one_at_a_time = self.turning.lock().await;
        for _ in 0..8 {
            let (before, expect) = match shelf.read(now).await? {
                Some(found) => (found.keys, found.expect),
                None => (self.before(settings, now)?, Expect::Absent),
            };
            let after = without(&before, kid, settings, now)?;
            let (ring, keys) = (Arc::clone(self), after.clone());
            let (named, by) = (kid.to_owned(), actor.to_owned());
            // A record is written to a disk.
            let told = tokio::task::spawn_blocking(move || {
                ring.tell_withdrawn(&named, &keys, &by, now)?;
                ring.forget_alone(&named, &keys)
            });
            told.await.unwrap_or(Err(RingError::Busy))?;
            if shelf.write(&after, expect, now).await? {
                let _left = self.put(after, now);
                return Ok(());
            }
        }
        Err(RingError::Busy)
    }

    fn tell_withdrawn(
        &self,
        kid: &str,
        after: &[RingKey],
        actor: &str,
        now: UnixTime,
    ) -> Result<(), RingError> {
        let signs = signing(after, now).map_or("", |key| key.key.kid());
        warn!(kid, signs, "A signing key is withdrawn.");
        let Some(witness) = self.witness.get() else {
            return Ok(());
        };
        let told = witness.withdrawn(kid, signs, actor);
        told.map_err(RingError::NotRecorded)
    }

    /// What this instance had alone once is put where there is nothing: not with the key that was withdrawn.
    pub(super) fn forget_alone(&self, kid: &str, after: &[RingKey]) -> Result<(), RingError> {
        // What does not open is never put there.
        let kept = self.drawer.kept().ok().flatten();
        let has = kept.is_some_and(|kept| kept.keys.iter().any(|key| key.key.kid() == kid));
        if has {
            self.drawer.write(after)?;
        }
        Ok(())
    }
}
