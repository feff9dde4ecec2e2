//! Whether what was judged good has been taken back meanwhile.

use std::sync::Arc;

use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Ability;
use crate::providers::Provider;
use crate::revocation::Marks;
use crate::revocation::Notice;
use crate::revocation::Spent;
use crate::revocation::Standing;
use crate::session::Restored;
use crate::store::StoreError;

/// Whether nothing of it has been revoked since it was looked up: asked again once others were asked for what is handed on,
/// which would look younger than the revocation.
pub(super) fn still_stands(
    standing: &Standing,
    (provider, class): (&ProviderId, CredentialClass),
    now: UnixTime,
) -> Result<(), AuthError> {
    if standing.holds(now) {
        Ok(())
    } else if standing.is_barred(now) {
        // Whoever signs in again does not get further, at whichever provider.
        Err(AuthError::Forbidden {
            refusal: Refusal::Disabled,
            provider: provider.clone(),
            class,
        })
    } else {
        Err(AuthError::refused(Refusal::Revoked, provider, class))
    }
}

/// By what a session of ours can be revoked.
pub(in crate::auth) fn marks_of(session: &Restored) -> Marks {
    let (identity, person) = (session.identity(), session.canonical());
    let marks = Marks::of(identity, person, session.grounds()).and_session(session.row());
    // What ends the session that it followed, or what that was given for, ends it, too; and what ends the one that it stands
    // for.
    let marks = match session.came_by() {
        Some(came_by) => marks.and_came_by(came_by, person),
        None => marks,
    };
    // Whoever signs out where they were before is out.
    let marks = match session.left_behind() {
        Some(before) => marks.and_before(before, person),
        None => marks,
    };
    match session.stands_for() {
        Some(old) => marks.and_session(old),
        None => marks,
    }
}

impl Gate {
    /// Whether nothing of it is revoked. Looked up after the judgement: what was revoked while it was made counts.
    pub(super) fn stands(
        &self,
        asked: &Asked<'_>,
        provider: &ProviderId,
        class: CredentialClass,
        marks: Marks,
    ) -> Result<Standing, AuthError> {
        let index = self.deps.revocations.index();
        if !index.is_ready() {
            let unknown = StoreError::Unavailable(String::from("revocations are not known yet"));
            return Err(AuthError::store(&unknown, class));
        }
        let standing = Standing::new(index, marks);
        still_stands(&standing, (provider, class), asked.now)?;
        Ok(standing)
    }

    /// The same of a credential that its owner is asked about: what is revoked here is over there as well, as soon as it shows.
    pub(super) fn stands_there(
        &self,
        asked: &Asked<'_>,
        owner: &Arc<dyn Provider>,
        credential: &Credential,
        marks: Marks,
    ) -> Result<Standing, AuthError> {
        let standing = self.stands(asked, owner.id(), credential.class(), marks);
        let revoked = matches!(
            standing,
            Err(AuthError::Refused {
                refusal: Refusal::Revoked,
                ..
            })
        );
        let asks = matches!(
            credential,
            Credential::Session { .. } | Credential::Opaque(_)
        );
        if revoked && asks && owner.abilities().contains(&Ability::Revoke) {
            let spent = Spent::Session(Arc::clone(owner), credential.clone());
            let metrics = &self.deps.reports.metrics;
            let notice = Notice::new(owner.id(), spent, metrics, asked.now);
            self.deps.notices.send_once(notice, &self.deps.background);
        }
        standing
    }
}
