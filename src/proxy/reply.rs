//! Answers of ours on their way to the client: faults, pages, answers without a body.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::auth::Answer;
use crate::auth::PageName;
use crate::auth::Told;
use crate::control::Departure;
use crate::proxy::body::ResponseBody;
use crate::proxy::canonical::BadRequest;
use crate::proxy::client_body::ClientBody;
use crate::proxy::conn::Conn;
use crate::proxy::record::Record;
use crate::proxy::respond;
use crate::proxy::respond::Fault;

/// The nonce for the client's next proofs of possession (RFC 9449 §8.2).
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The answer that hyper gets.
pub(super) type Reply = Response<ResponseBody<ClientBody, Box<Record>>>;

impl From<BadRequest> for Fault {
    fn from(bad: BadRequest) -> Self {
        match bad {
            BadRequest::Method
            | BadRequest::Target
            | BadRequest::Host
            | BadRequest::TwoHosts
            | BadRequest::Path(_)
            | BadRequest::Query
            | BadRequest::Framing
            | BadRequest::Forwarding => Self::BadRequest,
            BadRequest::TargetTooLong => Self::TargetTooLong,
            BadRequest::TooManyFields | BadRequest::HeadTooLong | BadRequest::TooManyCookies => {
                Self::HeadTooLarge
            }
            BadRequest::Version => Self::Version,
        }
    }
}

impl From<Answer> for Fault {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Several(challenges) => Self::Several(challenges),
            Answer::Unauthorized(challenges) => Self::Unauthorized(challenges),
            Answer::Forbidden => Self::Forbidden,
            Answer::InsufficientScope(challenge) => Self::InsufficientScope(challenge),
            Answer::Limited(standing) => Self::TooMany(standing),
            Answer::Unavailable(seconds) => Self::Unavailable(seconds),
        }
    }
}

/// An answer of ours about a fault.
pub(super) fn fault(
    why: &Fault,
    headers: &HeaderMap,
    conn: &Conn,
    mut record: Box<Record>,
) -> Reply {
    if why.closes() {
        conn.close_after_answer();
    }
    record.error.get_or_insert(why.as_str());
    let look = &record.view.snapshot.look;
    let response = respond::page(why, headers, record.request_id.as_str(), look);
    page(response, conn, record)
}

/// An answer without a body.
pub(super) fn empty(response: Response<Bytes>, record: Box<Record>) -> Reply {
    let (parts, _) = response.into_parts();
    Response::from_parts(parts, ResponseBody::empty(record))
}

/// A page of ours.
pub(super) fn page(response: Response<Bytes>, conn: &Conn, mut record: Box<Record>) -> Reply {
    let (mut parts, body) = response.into_parts();
    record.status = parts.status.as_u16();
    if let Some(about) = parts.extensions.remove::<PageName>() {
        record.error.get_or_insert(about.0);
    }
    if let Some(told) = parts.extensions.remove::<Told>() {
        record.told.get_or_insert_with(|| Box::new(told));
    }
    record.departure = parts.extensions.remove::<Departure>();
    if conn.must_close() {
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(nonce) = record.nonce.take() {
        parts.headers.insert(DPOP_NONCE, nonce);
    }
    if parts.status == StatusCode::UNAUTHORIZED {
        parts.headers.extend(std::mem::take(&mut record.beside));
    }
    if let Ok(id) = HeaderValue::from_str(record.request_id.as_str()) {
        parts.headers.insert("x-request-id", id);
    }
    Response::from_parts(parts, ResponseBody::full(body, record))
}
