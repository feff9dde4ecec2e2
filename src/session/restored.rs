//! Proof that a session was restored from its cookie.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::session::body::Content;
use crate::session::came_by::CameBy;
use crate::session::handle::Before;
use crate::session::id::SessionId;
use crate::session::live::Found;
use crate::session::live::Live;
use crate::session::renewal::Standing;
use crate::session::rows::Opened;
use crate::session::seal::SealedUnder;
use crate::session::sessions::Active;
use crate::session::sessions::Sessions;
use crate::store::StoreError;

/// How often a row is read whose changes are told while it is read.
const LOOKS: u32 = 3;

/// Proof that a session was restored from its cookie. Only this module makes one.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    pub(super) live: Arc<Live>,
    pub(super) content: Arc<Content>,
}

impl Restored {
    /// Who it is.
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.content.identity
    }

    /// Who it is across providers, as found at the login.
    pub(crate) fn canonical(&self) -> &CanonicalSubject {
        &self.content.canonical
    }

    /// The host it holds on.
    pub(crate) fn host(&self) -> &str {
        &self.content.host
    }

    /// The rule that assigned its login.
    pub(crate) fn rule(&self) -> &Arc<str> {
        &self.content.rule
    }

    /// When it ends at the latest.
    pub(crate) fn ends(&self) -> UnixTime {
        self.content.ends
    }

    /// By what it can be revoked, and when it began.
    pub(crate) fn grounds(&self) -> &Grounds {
        &self.content.grounds
    }

    /// Whether it counts only together with the session of an old system, and then with which: see
    /// [`crate::session::OldSession::digest`].
    pub(crate) fn stands_for(&self) -> Option<&[u8; 32]> {
        self.content.stands_for.as_ref()
    }

    /// The session of the old side for which it was given.
    pub(crate) fn came_by(&self) -> Option<&CameBy> {
        self.content.came_by.as_ref()
    }

    /// The session of the other side where its person is still signed in.
    pub(crate) fn left_behind(&self) -> Option<&Before> {
        self.content.left_behind.as_ref()
    }

    /// What it was given for, the first time that somebody asks in this process.
    pub(crate) fn first_use(&self) -> Option<&CameBy> {
        let came_by = self.content.came_by.as_ref()?;
        let used = self.content.used.swap(true, Ordering::AcqRel);
        (!used).then_some(came_by)
    }

    /// What was to be done with its first use could not be done: the next one counts as the first.
    pub(crate) fn was_not_used(&self) {
        self.content.used.store(false, Ordering::Release);
    }

    /// The key of its row: names the session, opens nothing.
    pub(crate) fn row(&self) -> &[u8; 32] {
        &self.live.row
    }

    /// The handle that dies with it.
    pub(crate) const fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Where it stands in its period.
    pub(crate) fn standing(&self, now: UnixTime) -> Standing {
        let renewal = self.content.renewal;
        renewal.map_or(Standing::Fresh, |renewal| {
            renewal.standing(self.live.retry(), now)
        })
    }

    /// Takes over the one renewal behind requests of this second; `false`: somebody else did.
    pub(crate) fn claim_renewal(&self, now: UnixTime) -> bool {
        self.live.claim_renewal(now)
    }
}

impl Sessions {
    /// The session of a cookie; `None`: there is none, or it has ended. Counts as a use.
    ///
    /// # Errors
    ///
    /// An outage of the store: not a logout. A session that was read a moment ago counts without it.
    pub(crate) async fn restore(
        &self,
        id: SessionId<'_>,
        now: UnixTime,
    ) -> Result<Option<Restored>, StoreError> {
        let active = self.active.load_full();
        let row = id.row();
        let mut looks = 0;
        loop {
            let Some(live) = self.look_up(&active, id, &row, now).await? else {
                return Ok(None);
            };
            looks += 1;
            // It may have ended while it was read.
            if live.is_outdated() && looks < LOOKS {
                continue;
            }
            let content = live.content().map(Arc::clone);
            if let Some(content) = content
                && live.count_use(now)
            {
                return Ok(Some(Restored { live, content }));
            }
            if !live.is_superseded() {
                return Ok(None);
            }
            // It was renewed this moment, which is not its end.
        }
    }

    /// What is known of a session, read again unless it is known well enough; `None`: there is none.
    async fn look_up(
        &self,
        active: &Active,
        id: SessionId<'_>,
        row: &[u8; 32],
        now: UnixTime,
    ) -> Result<Option<Arc<Live>>, StoreError> {
        let live = self.registry.entry(row);
        if live.is_of(active.generation) && live.is_fresh(now) {
            // Only to be remembered as used.
            drop(self.kept.get(row));
            return Ok(Some(live));
        }
        match self.read(active, id.bytes(), row, now).await {
            Ok(Some(opened)) => {
                let live = self.take_in(active, id.bytes(), row, &opened, now)?;
                match opened.under {
                    SealedUnder::CurrentKey => {}
                    SealedUnder::OlderKey => live.ask_for_touch(),
                }
                Ok(Some(live))
            }
            Ok(None) => {
                live.has_gone();
                Ok(None)
            }
            Err(error) => {
                let may_do_without = live.is_of(active.generation) && live.may_do_without(now);
                if may_do_without {
                    Ok(Some(live))
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The value in use of a row that was read: the one that is there, if it says the same, or another one in its place.
    pub(super) fn take_in(
        &self,
        active: &Active,
        bytes: &[u8; 32],
        row: &[u8; 32],
        opened: &Opened,
        read: UnixTime,
    ) -> Result<Arc<Live>, StoreError> {
        let found = Found {
            seen: UnixTime::from_millis(opened.handle.seen),
            idle: active.idle,
            generation: active.generation,
            read,
            told: opened.told,
            missed: opened.missed,
            retry: UnixTime::from_millis(opened.body.retry),
        };
        if let Some(live) = self.registry.find(row)
            && let Some(known) = live.content()
            && opened.body.revision <= known.revision
        {
            live.confirm(&found);
            // As in `Registry::take_in`: what was told since the row was read was told to somebody else.
            if !Arc::ptr_eq(&live, &opened.heard_by) {
                live.has_changed();
            }
            return Ok(live);
        }
        let renewable = opened.handle.refresh_token.is_some()
            || opened.body.stands_for.is_some()
            || opened.body.came_by.is_some();
        let content = opened
            .body
            .content(
                &opened.handle,
                bytes,
                renewable.then_some(active.revalidate),
            )
            .ok_or_else(|| StoreError::Damaged(String::from("a session row")))?;
        let live = self
            .registry
            .take_in(row, (content, &opened.heard_by), &found);
        self.kept.insert(*row, Arc::clone(&live));
        Ok(live)
    }
}
