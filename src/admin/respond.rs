//! Answers of the admin listener: JSON, with a reason whenever something was not done.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;
use serde::Serialize;

use crate::admin::backend::RevokeFailure;
use crate::admin::guard::Denial;
use crate::control::KillError;

/// What the listener sends.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// Whoever asks may not.
    Denied(Denial),
    /// There is nothing at this path.
    NoPath,
    /// The path takes another method, this one.
    Method(&'static str),
    /// The request cannot be understood; says what about it.
    BadRequest(String),
    /// The body is not declared as of this kind.
    BodyKind(&'static str),
    /// A form that was on no page of this process.
    ForeignForm,
    /// The configuration on disk has problems.
    Refused(Vec<String>),
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The body did not come in time.
    TooSlow,
    /// The kill switch did not move.
    Kill(KillError),
    /// Nothing was revoked, or lifted.
    Revoke(RevokeFailure),
    /// Something of ours broke.
    Internal(String),
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            answer(status, "application/json", body.into())
        }
        Err(error) => failure(&Failure::Internal(error.to_string())),
    }
}

/// An answer with any body.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The status of a failure, and the reason in words, for a page.
pub(super) fn told(failure: &Failure) -> (StatusCode, String) {
    let (status, _, reason) = words(failure);
    (status, reason)
}

/// The one place where a failure becomes a status: with its word for programs and its reason for people.
fn words(failure: &Failure) -> (StatusCode, &'static str, String) {
    match failure {
        Failure::Denied(denial) => {
            let (status, error, reason) = denied(*denial);
            (status, error, reason.to_owned())
        }
        Failure::NoPath => (
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path".to_owned(),
        ),
        Failure::Method(allowed) => (
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this path takes {allowed}"),
        ),
        Failure::BadRequest(reason) => (StatusCode::BAD_REQUEST, "bad_request", reason.clone()),
        Failure::BodyKind(kind) => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "body_kind",
            format!("the body must be declared as {kind}"),
        ),
        Failure::ForeignForm => (
            StatusCode::FORBIDDEN,
            "foreign_form",
            "the page is from before this instance was started, or from somewhere else; try again from here".to_owned(),
        ),
        Failure::Refused(problems) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "refused",
            format!("the configuration was refused: {}", problems.join("; ")),
        ),
        Failure::TooLarge(limit) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than {limit} bytes"),
        ),
        Failure::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "the body did not come in time".to_owned(),
        ),
        Failure::Kill(error) => match error {
            KillError::ReasonMissing => {
                (StatusCode::BAD_REQUEST, "reason_missing", error.to_string())
            }
            KillError::UnknownRollout(_) => {
                (StatusCode::NOT_FOUND, "unknown_rollout", error.to_string())
            }
            KillError::Unreadable { .. } | KillError::Environment { .. } | KillError::Thread(_) => {
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    error.to_string(),
                )
            }
        },
        Failure::Revoke(error) => {
            let (status, word) = match error {
                RevokeFailure::Request(_) => (StatusCode::BAD_REQUEST, "bad_request"),
                RevokeFailure::Unknown => (StatusCode::NOT_FOUND, "unknown_revocation"),
                RevokeFailure::Confirm { .. } => (StatusCode::CONFLICT, "confirm"),
                RevokeFailure::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
            };
            (status, word, error.to_string())
        }
        Failure::Internal(reason) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            reason.clone(),
        ),
    }
}

/// The answer for a failure.
pub(super) fn failure(failure: &Failure) -> Answer {
    let (status, error, reason) = words(failure);
    let mut answer = problem(status, error, &reason);
    let headers = answer.headers_mut();
    match failure {
        Failure::Method(allowed) => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        Failure::Denied(Denial::TokenMissing | Denial::TokenWrong) => {
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        Failure::Denied(Denial::PasswordMissing | Denial::PasswordWrong) => {
            let challenge = HeaderValue::from_static(
                "Basic realm=\"authferry: the admin token as password\", charset=\"UTF-8\"",
            );
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        Failure::Denied(Denial::Throttled(wait)) => {
            headers.insert(header::RETRY_AFTER, seconds(*wait).into());
        }
        Failure::Denied(Denial::Host | Denial::Page | Denial::SocketOnly)
        | Failure::NoPath
        | Failure::BadRequest(_)
        | Failure::BodyKind(_)
        | Failure::ForeignForm
        | Failure::Refused(_)
        | Failure::TooLarge(_)
        | Failure::TooSlow
        | Failure::Kill(_)
        | Failure::Revoke(_)
        | Failure::Internal(_) => {}
    }
    answer
}

const fn denied(denial: Denial) -> (StatusCode, &'static str, &'static str) {
    match denial {
        Denial::Host => (
            StatusCode::FORBIDDEN,
            "host",
            "the Host is neither a loopback address nor the address connected to, nor a name in our certificate",
        ),
        Denial::Page => (
            StatusCode::FORBIDDEN,
            "page",
            "requests on behalf of a web page are refused",
        ),
        Denial::TokenMissing => (
            StatusCode::UNAUTHORIZED,
            "token_missing",
            "exactly one bearer token is needed, or the unix socket",
        ),
        Denial::TokenWrong => (
            StatusCode::UNAUTHORIZED,
            "token_wrong",
            "this is not the admin token",
        ),
        Denial::PasswordMissing => (
            StatusCode::UNAUTHORIZED,
            "password_missing",
            "the admin token is asked for as the password; any name will do",
        ),
        Denial::PasswordWrong => (
            StatusCode::UNAUTHORIZED,
            "password_wrong",
            "this is not the admin token",
        ),
        Denial::SocketOnly => (
            StatusCode::FORBIDDEN,
            "socket_only",
            "no admin token is configured; use the unix socket",
        ),
        Denial::Throttled(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "throttled",
            "too many wrong tokens from this address",
        ),
    }
}

/// Whole seconds, rounded up.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(0 < wait.subsec_nanos())
}

fn problem(status: StatusCode, error: &str, reason: &str) -> Answer {
    json(
        status,
        &serde_json::json!({ "error": error, "reason": reason }),
    )
}
