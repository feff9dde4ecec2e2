//! The answers of our token endpoint.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::auth::Standing;
use crate::issuer::Answered;
use crate::issuer::Denied;
use crate::issuer::Reply;
use crate::proxy::respond::secure;

/// The answer of our token endpoint (RFC 6749 §5).
pub(crate) fn issuer(answered: &Answered) -> Response<Bytes> {
    let reply = &answered.reply;
    let (status, object) = match reply {
        Reply::Said(object) => (StatusCode::OK, Some(object.clone())),
        Reply::Denied(denied @ Denied::InvalidClient) => {
            (StatusCode::UNAUTHORIZED, Some(denied.object()))
        }
        Reply::Denied(
            denied @ (Denied::InvalidRequest
            | Denied::InvalidGrant
            | Denied::UnauthorizedClient
            | Denied::UnsupportedGrantType
            | Denied::InvalidScope
            | Denied::InvalidTarget
            | Denied::AuthorizationPending
            | Denied::SlowDown
            | Denied::NotAllowed
            | Denied::ExpiredToken
            | Denied::InvalidDpopProof
            | Denied::UseDpopNonce
            | Denied::UnsupportedTokenType),
        ) => (StatusCode::BAD_REQUEST, Some(denied.object())),
        Reply::Later(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Some(serde_json::json!({ "error": "temporarily_unavailable" })),
        ),
        Reply::Limited(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            Some(serde_json::json!({ "error": "temporarily_unavailable" })),
        ),
        Reply::Only(_) => (StatusCode::METHOD_NOT_ALLOWED, None),
    };
    let body = object.map(|object| object.to_string()).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    secure(fields);
    fields.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    match reply {
        Reply::Denied(Denied::InvalidClient) => {
            fields.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"oauth2\", charset=\"UTF-8\""),
            );
        }
        Reply::Later(seconds) => {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        Reply::Limited(standing) => {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(standing.resets));
        }
        Reply::Only(method) => {
            fields.insert(header::ALLOW, HeaderValue::from_static(method));
        }
        Reply::Said(_) | Reply::Denied(_) => {}
    }
    if let Some(nonce) = &answered.nonce {
        fields.insert("dpop-nonce", nonce.clone());
    }
    if let Some(standing) = answered.standing {
        limits(fields, standing);
    }
    response
}

/// draft-ietf-httpapi-ratelimit-headers §3, §4.
pub(super) fn limits(fields: &mut HeaderMap, standing: Standing) {
    let Standing {
        policy,
        most,
        left,
        resets,
        over: _,
    } = standing;
    let policy_is = format!("\"{policy}\";q={most};w=60");
    let left_is = format!("\"{policy}\";r={left};t={resets}");
    for (name, value) in [("ratelimit-policy", policy_is), ("ratelimit", left_is)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            fields.insert(name, value);
        }
    }
}
