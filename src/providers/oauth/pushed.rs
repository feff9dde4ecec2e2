//! What a provider answers to an authorization request that is pushed to it (RFC 9126).

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use tracing::warn;

use crate::identity::Outage;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::secret::Secret;

/// The longest name of a pushed request, in bytes: it stands in an address.
const MAX_REQUEST_URI: usize = 1024;

/// RFC 9126 §2.2, §2.3. A provider that does not take the request is none that a login can begin at.
pub(super) fn read(answer: &Answer) -> Result<Secret<String>, ProviderError> {
    let document: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    let name = document.get("request_uri").and_then(Value::as_str);
    match name.filter(|name| !name.is_empty() && name.len() <= MAX_REQUEST_URI) {
        Some(name) if answer.status == StatusCode::CREATED => Ok(Secret::new(name.to_owned())),
        _ => {
            let error = document.get("error").and_then(Value::as_str);
            let known = [
                "invalid_request",
                "invalid_client",
                "unauthorized_client",
                "invalid_scope",
                "invalid_redirect_uri",
            ];
            let error = known.into_iter().find(|known| error == Some(known));
            warn!(
                status = answer.status.as_u16(),
                error = error.unwrap_or("-"),
                "A pushed authorization request was not taken."
            );
            Err(Outage::Malformed.into())
        }
    }
}
