//! The token of another provider that a client shows beside its credential, to have it judged on the side. It is no credential: nobody
//! is let in by it.

use http::HeaderName;

use crate::auth::cookies;
use crate::auth::extract::Presented;

/// Where it stands. What begins with `x-authferry` never reaches an upstream.
const CANDIDATE: HeaderName = HeaderName::from_static("x-authferry-candidate");
/// A longer one is none.
const MAX_TOKEN: usize = 16 * 1024;

impl<'a> Presented<'a> {
    /// The token beside it, if there is exactly one.
    pub(in crate::auth) fn candidate(&self) -> Option<&'a str> {
        let mut values = self.headers.get_all(CANDIDATE).iter();
        let (Some(only), None) = (values.next(), values.next()) else {
            return None;
        };
        let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
        let is_token =
            scheme.eq_ignore_ascii_case("bearer") && (1..=MAX_TOKEN).contains(&token.len());
        cookies::visible(token.as_bytes()).filter(|_| is_token)
    }
}
