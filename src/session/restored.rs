//! Proof that a session was restored from its cookie.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::session::body::Content;
use crate::session::came_by::CameBy;
use crate::session::live::Live;
use crate::session::renewal::Standing;

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

    /// The same, the first time that somebody asks in this process.
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
