//! The names and attributes of our cookies.

use http::HeaderValue;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::login::return_to::OURS;
use crate::session::settings::SameSite;

/// All named after the session cookie: `NAME`, `NAME_flow_0` to `NAME_flow_4`, `NAME_dev`, `NAME_place`, `NAME_form`,
/// `NAME_leave`.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) session: Box<str>,
    pub(super) device: Box<str>,
    secure: bool,
    same_site: SameSite,
}

impl Names {
    pub(super) fn new(session: &str, secure: bool, same_site: SameSite) -> Self {
        Self {
            session: session.into(),
            device: format!("{session}_dev").into(),
            secure,
            same_site,
        }
    }

    /// Whether the session is not sent with a request that another site began, such as the end of a login.
    pub(super) fn is_strict(&self) -> bool {
        self.same_site == SameSite::Strict
    }

    /// The cookie of one login under way.
    pub(super) fn flow(&self, slot: u8) -> String {
        format!("{}_flow_{slot}", self.session)
    }

    /// The cookie of a form that is kept.
    pub(super) fn form(&self) -> String {
        format!("{}_form", self.session)
    }

    /// The cookie of somebody who signs out at one provider after the other.
    pub(super) fn leave(&self) -> String {
        format!("{}_leave", self.session)
    }

    /// The cookie of the address that a script has seen: see [`super::fragment`].
    pub(super) fn place(&self) -> String {
        format!("{}_place", self.session)
    }

    /// The script that sets it, or expires that of somebody who did not come back from a sign-in, and goes on to the login.
    /// Nothing that a client sent is part of it.
    pub(super) fn remember_place(&self) -> String {
        let secure = if self.secure { ";secure" } else { "" };
        format!(
            "var l=location,p=l.pathname+l.search,e=encodeURIComponent,k=l.hash.length>1&&l.hash.length<=1025;\
             document.cookie=\"{}=\"+(k?e(p+l.hash):\"\")+\";path=/;max-age=\"+(k?600:0)+\";samesite=lax{secure}\";\
             l.replace(\"{OURS}/login?rd=\"+e(p))",
            self.place()
        )
    }

    /// The same without its last step: the page waits for whoever reads it.
    pub(super) fn keep_place(&self) -> String {
        let whole = self.remember_place();
        let (keeps, _goes_on) = whole.rsplit_once(';').unwrap_or_default();
        keeps.to_owned()
    }

    pub(super) fn set(&self, name: &str, value: &str, keep: Keep) -> Option<HeaderValue> {
        // Logins come back from another site: what they need must come along.
        let same_site = if name == &*self.session {
            self.same_site
        } else {
            SameSite::Lax
        };
        cookies::set(name, value, keep, (same_site, self.secure))
    }

    /// The origin of an authority (RFC 6454 §4), as browsers write it.
    pub(super) fn origin(&self, authority: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{authority}")
    }
}
