//! Sessions that nobody came back to: what they held goes back to its provider, and of each only whose it was is left, until it
//! would have ended.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::revocation::fanout::Named;
use crate::revocation::fanout::give_back;
use crate::revocation::list::Revocations;
use crate::revocation::notice::Notices;
use crate::store::StoreError;

/// How often a 256th part of all people is looked at, so that everybody is within an hour: 14 s.
const LOOK: Duration = Duration::from_secs(14);
/// Who looks at the sessions of a store that is shared.
const LEASE: &str = "rested";

impl Revocations {
    /// Lets go of what sessions held that have rested for too long, of the people whose places begin so.
    pub(super) async fn let_go(
        &self,
        first: u8,
        named: &Named,
        (notices, background): (&Notices, &Handle),
    ) -> Result<(), StoreError> {
        for login in self.logins_at(&[first], &|login| login.rests()).await? {
            let Some(row) = login.row() else {
                continue;
            };
            let now = self.clock.now();
            if let Some(farewell) = self.sessions.end_rested(&row, now).await? {
                let metrics = &self.metrics;
                give_back(farewell, named, (metrics, now), (notices, background)).await;
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
pub(super) async fn look(list: Weak<Revocations>, named: Arc<Named>, background: Handle) {
    let notices = Notices::default();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Some(holder) = list.upgrade().map(|list| list.entropy.token()) else {
        return;
    };
    let mut first = 0_u8;
    loop {
        tick.tick().await;
        let Some(list) = list.upgrade() else {
            return;
        };
        let looked = match list.looks(&holder).await {
            Ok(true) => list.let_go(first, &named, (&notices, &background)).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        match looked {
            Ok(()) => first = first.wrapping_add(1),
            Err(error) => {
                debug!(%error, "Sessions that have rested for too long are looked for again.")
            }
        }
    }
}
