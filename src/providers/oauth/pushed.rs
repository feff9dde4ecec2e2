//! An authorization request that is pushed to a provider (RFC 9126): where, and what it answers.

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use tracing::warn;

use crate::identity::Outage;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Endpoint;
use crate::providers::oauth::discovery::Metadata;
use crate::providers::oauth::form::Form;
use crate::providers::settings::Par;
use crate::secret::Secret;

/// The longest name of a pushed request, in bytes: it stands in an address.
const MAX_REQUEST_URI: usize = 1024;

/// Where a request is pushed to; `None`: its parameters stand in the address.
///
/// # Errors
///
/// Metadata that require it and do not say where are no metadata of a provider that has logins.
pub(in crate::providers) fn endpoint(
    par: Par,
    metadata: &Metadata,
) -> Result<Option<&Endpoint>, ProviderError> {
    let endpoint = metadata.pushed_authorization_request_endpoint.as_ref();
    match par {
        Par::Required if metadata.requires_pushed => {
            endpoint.map(Some).ok_or_else(|| Outage::Malformed.into())
        }
        Par::Required | Par::Never => Ok(None),
        Par::Offered => Ok(endpoint),
    }
}

/// The request that stands for a pushed one (RFC 9126 §4).
pub(in crate::providers) fn named(client: &str, request_uri: &Secret<String>) -> Form {
    Form::default()
        .with("client_id", client)
        .with("request_uri", request_uri.expose())
}

/// RFC 9126 §2.2, §2.3. A provider that does not take the request is none that a login can begin at.
pub(in crate::providers) fn read(answer: &Answer) -> Result<Secret<String>, ProviderError> {
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
