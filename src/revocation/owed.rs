//! Sessions whose places others have taken, and that nobody has ended: the process broke off that was about to, or the store was away
//! for longer than it had patience.

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::clock::UnixTime;
use crate::revocation::fanout::Named;
use crate::revocation::list::Revocations;
use crate::revocation::notice::Notice;
use crate::revocation::notice::Notices;
use crate::revocation::notice::Spent;
use crate::session::Owed;
use crate::store::StoreError;

/// How often is looked for them, for as long as the process runs: 15 s.
const LOOK: Duration = Duration::from_secs(15);

/// Whoever has given the session in the place of another ends that one within 65 s, and knows more of it. After 90 s nobody will.
const BY_THEN: Duration = Duration::from_secs(90);

/// At a start most of those are gone who knew more.
const AT_START: Duration = Duration::from_secs(10);

impl Revocations {
    /// Ends all that have been owed for `least`.
    pub(super) async fn end_owed(
        &self,
        least: Duration,
        named: &Named,
        (notices, background): (&Notices, &Handle),
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut first = Ok(());
        for owed in self.sessions.owed_ends(now - least, now).await? {
            let ended = self.end_one_owed(&owed, named, (notices, background), now);
            match ended.await {
                Err(error) if error.is_of_the_link() => return Err(error),
                // One that cannot be ended keeps no other.
                ended => first = first.and(ended),
            }
        }
        first
    }

    async fn end_one_owed(
        &self,
        owed: &Owed,
        named: &Named,
        (notices, background): (&Notices, &Handle),
        now: UnixTime,
    ) -> Result<(), StoreError> {
        if let Some(farewell) = self.sessions.end_replaced(&owed.before, now).await? {
            self.takes_over(&owed.before, &owed.new, now).await?;
            if let (Some(token), Some(provider)) =
                (farewell.refresh_token, named(&farewell.provider))
            {
                let spent = Spent::Token(provider, token);
                let notice = Notice::new(&farewell.provider, spent, &self.metrics, now);
                notices.send_in_turn(notice, background).await;
            }
        }
        self.sessions.owes_nothing(&owed.before).await
    }
}

/// Looks for them, again and again.
pub(super) async fn settle(list: Weak<Revocations>, named: Arc<Named>, background: Handle) {
    let notices = Notices::default();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut least = AT_START;
    loop {
        tick.tick().await;
        let Some(list) = list.upgrade() else {
            return;
        };
        let ended = list.end_owed(least, &named, (&notices, &background));
        match ended.await {
            Ok(()) => least = BY_THEN,
            Err(error) => {
                // One that cannot be ended does not make the others look as if this were a start.
                if !error.is_of_the_link() {
                    least = BY_THEN;
                }
                debug!(%error, "Sessions whose place others have taken are looked for again.");
            }
        }
    }
}
