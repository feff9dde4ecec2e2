//! Bodies of requests: of one declared kind, small, and in time.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header;
use http_body_util::BodyExt;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use serde::de::DeserializeOwned;

use crate::admin::respond::Failure;

/// The largest body that is read.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The largest body where a configuration and people are sent.
const MAX_LARGE_BODY_BYTES: usize = 8 * 1024 * 1024;

/// How long a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// Reads a JSON body.
pub(super) async fn json<T, B>(request: Request<B>) -> Result<T, Failure>
where
    T: DeserializeOwned,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = bytes(request, "application/json").await?;
    serde_json::from_slice(&body).map_err(|error| Failure::BadRequest(format!("the body: {error}")))
}

/// As [`json`], of a body that may be large.
pub(super) async fn large_json<T, B>(request: Request<B>) -> Result<T, Failure>
where
    T: DeserializeOwned,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = within(request, "application/json", MAX_LARGE_BODY_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| Failure::BadRequest(format!("the body: {error}")))
}

/// Reads a body of this kind. What is declared is looked at, because a page may send other kinds without being asked.
pub(super) async fn bytes<B>(request: Request<B>, kind: &'static str) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    within(request, kind, MAX_BODY_BYTES).await
}

async fn within<B>(request: Request<B>, kind: &'static str, most: usize) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let declared = request.headers().get(header::CONTENT_TYPE);
    let essence = declared
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    if !essence.trim_ascii().eq_ignore_ascii_case(kind) {
        return Err(Failure::BodyKind(kind));
    }
    let body = Limited::new(request.into_body(), most).collect();
    let body = tokio::time::timeout(BODY_PATIENCE, Box::pin(body))
        .await
        .map_err(|_elapsed| Failure::TooSlow)?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLarge(most)
            } else {
                Failure::BadRequest("the body broke off".into())
            }
        })?;
    Ok(body.to_bytes())
}
