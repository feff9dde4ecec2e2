//! The browser: what it sent in the place of a session, what it remembers of itself, what it is to forget.

use std::sync::Arc;

use http::HeaderValue;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::error::AuthError;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::device::Device;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::session::KeyRing;
use crate::session::Restored;
use crate::session::SessionId;

/// What a browser sent in the place of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SessionSent {
    Nothing,
    /// Of ours or of an old system, and such that a route that looks at sessions finds it.
    Readable,
    /// Of ours by name, but none: planted beside another, or cut.
    Unreadable,
}

impl Logins {
    /// The browser as it remembers itself, or a new one.
    pub(super) fn device(&self, ask: &Ask<'_>) -> Device {
        cookies::named(ask.request.headers, &self.names.device)
            .text()
            .and_then(|cookie| Device::open(&self.ring(), ask.request.authority, cookie))
            .unwrap_or_else(|| Device::new(&*self.deps.entropy))
    }

    pub(super) fn keep_device(&self, ask: &Ask<'_>, device: &Device) -> Option<HeaderValue> {
        let sealed = device.seal(&self.ring(), ask.request.authority, &*self.deps.entropy)?;
        self.names
            .set(&self.names.device, &sealed, Keep::For(self.kept.browsers))
    }

    /// Has the browser forget our session, if it sent one.
    pub(super) fn forget_session(&self, ask: &Ask<'_>) -> Option<HeaderValue> {
        match cookies::named(ask.request.headers, &self.names.session) {
            cookies::Sent::None => None,
            cookies::Sent::Once(_) | cookies::Sent::Several => {
                self.names.set(&self.names.session, "", Keep::Forget)
            }
        }
    }

    /// Whether another session has taken the place of the one that the browser sent, a moment ago.
    pub(super) async fn has_moved_on(&self, ask: &Ask<'_>) -> bool {
        match self.session_id(ask) {
            Some(id) => {
                let successor = self.deps.sessions.successor(id, ask.now).await;
                successor.map_or(true, |successor| successor.is_some())
            }
            None => false,
        }
    }

    pub(super) fn sent(&self, ask: &Ask<'_>) -> SessionSent {
        let headers = ask.request.headers;
        let theirs = &ask.policy.owners().cookies;
        let old = theirs
            .iter()
            .any(|(name, _)| cookies::named(headers, name) != cookies::Sent::None);
        match cookies::named(headers, &self.names.session) {
            _ if old || self.session_id(ask).is_some() => SessionSent::Readable,
            cookies::Sent::None => SessionSent::Nothing,
            cookies::Sent::Once(_) | cookies::Sent::Several => SessionSent::Unreadable,
        }
    }

    /// Whether the session of this browser's last login, which is over, was ended with everything that the new provider had
    /// vouched for: by a rollback, the switch, or an operator. Then the person is told, for they did nothing. Of any other
    /// session nobody knows whether that is why.
    pub(super) fn ended_for_safety(
        &self,
        ask: &Ask<'_>,
        device: &Device,
        why: Option<&AuthError>,
    ) -> bool {
        let over = matches!(
            why,
            Some(AuthError::Refused {
                refusal: Refusal::Inactive | Refusal::Revoked,
                class: Some(CredentialClass::Session),
                ..
            })
        );
        let (Some(plan), Some(session), true) = (ask.policy.plan(), self.session_id(ask), over)
        else {
            return false;
        };
        let began = device.signed_in_at(&plan.to, &session.row());
        began.is_some_and(|began| self.deps.revocations.voids(&plan.to, began))
    }

    /// Our session that the browser sent, if it lives here.
    pub(super) async fn session(&self, ask: &Ask<'_>) -> Option<Restored> {
        let id = self.session_id(ask)?;
        let restored = self.deps.sessions.restore(id, ask.now).await.ok()??;
        (restored.host() == ask.request.facts.host).then_some(restored)
    }

    pub(super) fn session_id<'a>(&self, ask: &Ask<'a>) -> Option<SessionId<'a>> {
        cookies::named(ask.request.headers, &self.names.session)
            .text()
            .and_then(SessionId::parse)
    }

    pub(super) fn ring(&self) -> Arc<KeyRing> {
        self.deps.sessions.ring()
    }
}
