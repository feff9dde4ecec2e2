//! Proofs of possession that come with a request (RFC 9449 §4.1).

use http::HeaderMap;
use http::HeaderName;

use crate::auth::cookies;

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The proofs that came with a request.
#[derive(Clone, Copy)]
pub(crate) enum Proofs<'a> {
    /// None.
    None,
    /// One.
    One(&'a str),
    /// Several, or one that cannot be a text: none of them counts (RFC 9449 §4.3).
    Unfit,
}

/// The proofs of a request.
pub(crate) fn proofs_of(headers: &HeaderMap) -> Proofs<'_> {
    let mut values = headers.get_all(DPOP).iter();
    match (values.next(), values.next()) {
        (None, _) => Proofs::None,
        (Some(only), None) => cookies::visible(only.as_bytes()).map_or(Proofs::Unfit, Proofs::One),
        (Some(_), Some(_)) => Proofs::Unfit,
    }
}
