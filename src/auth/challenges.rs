//! Challenges to somebody who is known and does not have enough.

use std::fmt::Write as _;

use http::HeaderValue;

use crate::auth::gate::Admitted;
use crate::providers::StepUp;
use crate::rollout::AppId;

/// The scheme that the credential came in.
fn scheme(admitted: &Admitted) -> &'static str {
    let bound = admitted
        .confirmation()
        .is_some_and(|bound| bound.key.is_some());
    if bound { "DPoP" } else { "Bearer" }
}

/// RFC 6750 §3.1: the scopes that the request needs.
pub(crate) fn insufficient_scope(
    admitted: &Admitted,
    app: &AppId,
    scopes: &[Box<str>],
) -> HeaderValue {
    let (scheme, realm, scopes) = (scheme(admitted), app.as_str(), scopes.join(" "));
    let text =
        format!("{scheme} realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{scopes}\"");
    // `check` takes scopes only that can stand in quotes (RFC 6749 §3.3).
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// RFC 9470 §3: what the next login must be.
pub(super) fn step_up(admitted: &Admitted, app: &AppId, wanted: &StepUp) -> HeaderValue {
    let (scheme, realm) = (scheme(admitted), app.as_str());
    let mut text =
        format!("{scheme} realm=\"{realm}\", error=\"insufficient_user_authentication\"");
    // Writing to a String does not fail.
    if !wanted.acr_values.is_empty() {
        let _written = write!(text, ", acr_values=\"{}\"", wanted.acr_values.join(" "));
    }
    if let Some(age) = wanted.max_age {
        let _written = write!(text, ", max_age=\"{}\"", age.as_secs());
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}
