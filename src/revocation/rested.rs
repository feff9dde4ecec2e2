//! Sessions that nobody came back to: what they held is erased, and of each only whose it was is left, until it would have ended.
//!
//! Their providers are told nothing: what they issued ends by itself there, and with it they might end what the same people use
//! elsewhere.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::revocation::list::Revocations;
use crate::store::StoreError;

/// How often a 256th part of all people is looked at, so that everybody is within an hour: 14 s.
const LOOK: Duration = Duration::from_secs(14);
/// Who looks at the sessions of a store that is shared.
const LEASE: &str = "rested";

impl Revocations {
    /// Lets go of what sessions held that have rested for too long, of the people whose places begin so.
    pub(super) async fn let_go(&self, first: u8) -> Result<(), StoreError> {
        for login in self.logins_at(&[first], &|login| login.rests()).await? {
            let Some(row) = login.row() else {
                continue;
            };
            // One that stays as it is keeps no other one.
            if let Err(error) = self.sessions.end_rested(&row, self.clock.now()).await {
                debug!(%error, "What a session held that has rested for too long stays for another hour.");
            }
        }
        Ok(())
    }

    /// Whether it is on this instance to look.
    async fn looks(&self, holder: &str) -> Result<bool, StoreError> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        let now = self.clock.now();
        self.store.lease(LEASE, holder, LOOK * 2, now).await
    }
}

/// Looks at all of them, again and again.
pub(super) async fn look(list: Weak<Revocations>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some(holder) = list.upgrade().map(|list| list.entropy.token()) else {
        return;
    };
    // Whatever becomes of a part, the others have their turn.
    for first in (0..=u8::MAX).cycle() {
        tick.tick().await;
        let Some(list) = list.upgrade() else {
            return;
        };
        let looked = match list.looks(&holder).await {
            Ok(true) => list.let_go(first).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            debug!(%error, "Sessions that have rested for too long are looked for again in an hour.");
        }
    }
}
