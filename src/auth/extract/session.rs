//! Sessions among the cookies of a request: ours, and those of old systems.

use std::sync::Arc;

use http::HeaderMap;

use crate::auth::cookies;
use crate::auth::cookies::Sent;
use crate::auth::error::AuthError;
use crate::auth::extract::AMBIGUOUS;
use crate::auth::extract::Kind;
use crate::auth::extract::MAX_VALUE;
use crate::auth::extract::Presented;
use crate::auth::owners::Owners;
use crate::identity::CredentialClass;
use crate::identity::Refusal;
use crate::providers::Provider;
use crate::session::SessionId;

/// The session of an old system.
#[derive(Clone, Copy)]
pub(super) struct Theirs<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    pub(super) owner: &'a Arc<dyn Provider>,
}

/// The session that a browser sends: ours before any other.
///
/// # Errors
///
/// Where two of other systems are sent, or one that cannot be any.
pub(super) fn session<'a>(
    headers: &'a HeaderMap,
    owners: &'a Owners,
) -> Result<Option<Kind<'a>>, AuthError> {
    let ours = cookies::named(headers, &owners.session_cookie).text();
    if let Some(id) = ours.and_then(SessionId::parse) {
        // What could be two is none: then ours does not stand for it.
        let beside = theirs(headers, owners).ok().flatten();
        return Ok(Some(Kind::Ours { id, beside }));
    }
    let found = theirs(headers, owners)?;
    Ok(found.map(|Theirs { name, value, owner }| Kind::Cookie { name, value, owner }))
}

/// The one session of an old system among the cookies.
fn theirs<'a>(headers: &'a HeaderMap, owners: &'a Owners) -> Result<Option<Theirs<'a>>, AuthError> {
    let mut found: Option<(&'a str, &'a [u8], &'a Arc<dyn Provider>)> = None;
    for (name, owner) in &owners.cookies {
        let value = match cookies::named(headers, name) {
            Sent::None => continue,
            Sent::Once(value) => value,
            Sent::Several => return Err(AMBIGUOUS),
        };
        match found {
            None => found = Some((name, value, owner)),
            // Of two cookies of one provider, the one that its settings name first.
            Some((_, _, first)) if first.id() == owner.id() => {}
            Some(_) => return Err(AMBIGUOUS),
        }
    }
    let Some((name, value, owner)) = found else {
        return Ok(None);
    };
    let value = Some(value)
        .filter(|value| !value.is_empty() && value.len() <= MAX_VALUE)
        .and_then(cookies::visible)
        .ok_or_else(|| {
            AuthError::refused(
                Refusal::BadCredentials,
                owner.id(),
                CredentialClass::Session,
            )
        })?;
    Ok(Some(Theirs { name, value, owner }))
}

impl<'a> Presented<'a> {
    /// The session of an old system beside ours, as if it had come alone.
    pub(in crate::auth) fn without_ours(&self) -> Option<Self> {
        let Kind::Ours { beside, .. } = self.kind else {
            return None;
        };
        let Theirs { name, value, owner } = beside?;
        let kind = Kind::Cookie { name, value, owner };
        Some(Self { kind, ..*self })
    }

    /// The same with another session of ours, which stands in the place of the one that was presented; `None`: none was.
    pub(crate) fn with_session(self, cookie: &'a str) -> Option<Self> {
        let Kind::Ours { beside, .. } = self.kind else {
            return None;
        };
        let id = SessionId::parse(cookie)?;
        let kind = Kind::Ours { id, beside };
        Some(Self { kind, ..self })
    }
}
