//! The other end of the unix socket: how the command line asks a running instance.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// How long an answer may take: a reload builds everything anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens, or we may not connect.
    #[error("{path}: {error}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("the instance did not answer: {0}")]
    Broken(String),
    /// It took too long.
    #[error("the instance did not answer within 30 s")]
    TooSlow,
}

/// Asks the instance behind `socket`. The answer is JSON, or a text.
///
/// # Errors
///
/// When there is no answer; a refusal is one.
pub(crate) async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), ClientError> {
    let conversation = Box::pin(converse(socket, method, path, body));
    tokio::time::timeout(PATIENCE, conversation)
        .await
        .map_err(|_elapsed| ClientError::TooSlow)?
}

async fn converse(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), ClientError> {
    let broken = |error: &dyn std::error::Error| ClientError::Broken(error.to_string());
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| ClientError::Connect {
            path: socket.to_owned(),
            error,
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(String::new, Value::to_string);
    let request = request
        .body(Full::<Bytes>::from(body))
        .map_err(|error| broken(&error))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| broken(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| broken(error.as_ref()))?
        .to_bytes();
    let value = serde_json::from_slice(&body)
        .unwrap_or_else(|_not_json| Value::String(String::from_utf8_lossy(&body).into_owned()));
    Ok((status, value))
}
