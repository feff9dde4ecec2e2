//! The names and attributes of our cookies.

use http::HeaderValue;

use crate::auth::cookies;
use crate::auth::cookies::Keep;

/// All named after the session cookie: `NAME`, `NAME_flow_0` to `NAME_flow_4`, `NAME_dev`.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) session: Box<str>,
    pub(super) device: Box<str>,
    secure: bool,
}

impl Names {
    pub(super) fn new(session: &str, secure: bool) -> Self {
        Self {
            session: session.into(),
            device: format!("{session}_dev").into(),
            secure,
        }
    }

    /// The cookie of one login under way.
    pub(super) fn flow(&self, slot: u8) -> String {
        format!("{}_flow_{slot}", self.session)
    }

    pub(super) fn set(&self, name: &str, value: &str, keep: Keep) -> Option<HeaderValue> {
        cookies::set(name, value, keep, self.secure)
    }

    /// The origin of an authority (RFC 6454 §4), as browsers write it.
    pub(super) fn origin(&self, authority: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{authority}")
    }
}
