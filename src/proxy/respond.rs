//! The one place where a fault becomes a status code and a page.
//!
//! The client learns a status, a challenge and a reference; the reason goes to the log under the same reference.

#![deny(clippy::wildcard_enum_match_arm)]

mod form;
mod issuer;

pub(crate) use issuer::issuer;

use std::borrow::Cow;
use std::error::Error;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use crate::auth::Forms;
use crate::auth::Look;
use crate::auth::Standing;
use crate::proxy::client_body::ClientBodyError;
use crate::proxy::respond::form::Form;
use crate::proxy::upgrade::HandshakeError;
use crate::proxy::upstream::BoxError;
use crate::proxy::upstream::SendError;
use crate::proxy::upstream_head::HeadError;

/// Everything that ends a request without an answer of the upstream. A closed set: it is a label too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// What was sent is not one unambiguous request.
    BadRequest,
    /// More than one credential; with the values of `WWW-Authenticate` (RFC 6750 §3.1).
    Several(Vec<HeaderValue>),
    /// The target is too long.
    TargetTooLong,
    /// The head is too large, or has too many fields or cookies.
    HeadTooLarge,
    /// A version of HTTP that is not spoken here.
    Version,
    /// The body did not come fast enough.
    BodyTooSlow,
    /// A WebSocket of another version than 13.
    WebSocketVersion,
    /// No application has this host.
    UnknownHost,
    /// The connection was made for a host with another policy for client certificates (RFC 9110 §15.5.20).
    Misdirected,
    /// Nobody was admitted; with the values of `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3).
    Unauthorized(Vec<HeaderValue>),
    /// Somebody was, and may not; or no route matches.
    Forbidden,
    /// Somebody was, and the token does not reach so far; with the value of `WWW-Authenticate` (RFC 6750 §3.1).
    InsufficientScope(HeaderValue),
    /// Too many requests of this kind from one address in this minute.
    TooMany(Standing),
    /// No judgement was reached, or we are closed; with `Retry-After` in seconds.
    Unavailable(u64),
    /// There is no room for the request now; with `Retry-After` in seconds.
    Shed(u64),
    /// The upstream cannot be reached, or what it sent is not an answer.
    BadGateway,
    /// The upstream did not answer in time.
    GatewayTimeout,
    /// We are broken.
    Internal,
}

impl Fault {
    /// The status code.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest | Self::Several(_) => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::UnknownHost => StatusCode::NOT_FOUND,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) | Self::Shed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A heading and a sentence for people. Says what to do, never why.
    const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest | Self::Several(_) => {
                ("Bad request", "The request could not be understood.")
            }
            Self::TargetTooLong => (
                "Address too long",
                "The address of the request is too long.",
            ),
            Self::HeadTooLarge => (
                "Request too large",
                "The request has too many or too large header fields or cookies.",
            ),
            Self::Version => (
                "Version not supported",
                "This version of HTTP is not supported.",
            ),
            Self::BodyTooSlow => (
                "Request timeout",
                "The request was not sent in time. Please try again.",
            ),
            Self::WebSocketVersion => (
                "Upgrade required",
                "Only version 13 of the WebSocket protocol is supported.",
            ),
            Self::Misdirected => (
                "Misdirected request",
                "This site needs a connection of its own.",
            ),
            Self::UnknownHost => ("Not found", "There is no such site here."),
            Self::Unauthorized(_) => ("Sign-in required", "Please sign in and try again."),
            Self::Forbidden | Self::InsufficientScope(_) => {
                ("Access denied", "You do not have access to this page.")
            }
            Self::TooMany(_) => ("Too many requests", "Please wait a minute and try again."),
            Self::Unavailable(_) => (
                "Temporarily unavailable",
                "Your access cannot be checked right now. Please try again in a moment.",
            ),
            Self::Shed(_) => (
                "Temporarily unavailable",
                "There are too many requests right now. Please try again in a moment.",
            ),
            Self::BadGateway => (
                "Application not reachable",
                "The application did not answer properly. Please try again in a moment.",
            ),
            Self::GatewayTimeout => (
                "Application too slow",
                "The application did not answer in time. Please try again in a moment.",
            ),
            Self::Internal => (
                "Something went wrong",
                "The request could not be completed. Please try again in a moment.",
            ),
        }
    }

    /// A word for programs: the member `error` of the JSON body, and the label of `authferry_upstream_errors_total` and
    /// the access log.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::BadRequest | Self::Several(_) => "bad_request",
            Self::TargetTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::Version => "version_not_supported",
            Self::BodyTooSlow => "request_timeout",
            Self::WebSocketVersion => "upgrade_required",
            Self::UnknownHost => "not_found",
            Self::Misdirected => "misdirected_request",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::TooMany(_) => "too_many_requests",
            Self::Unavailable(_) => "unavailable",
            Self::Shed(_) => "overloaded",
            Self::BadGateway => "bad_gateway",
            Self::GatewayTimeout => "gateway_timeout",
            Self::Internal => "internal",
        }
    }

    /// Whether the connection of an HTTP/1.1 client is closed after this answer, because where its request ends is in doubt.
    pub(crate) const fn closes(&self) -> bool {
        match self {
            Self::BadRequest
            | Self::Several(_)
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::Version
            | Self::BodyTooSlow
            | Self::WebSocketVersion
            | Self::Internal => true,
            Self::UnknownHost
            | Self::Misdirected
            | Self::Unauthorized(_)
            | Self::Forbidden
            | Self::InsufficientScope(_)
            | Self::TooMany(_)
            | Self::Unavailable(_)
            | Self::Shed(_)
            | Self::BadGateway
            | Self::GatewayTimeout => false,
        }
    }
}

impl From<&SendError> for Fault {
    fn from(error: &SendError) -> Self {
        match error {
            SendError::Head(error) => Self::from(*error),
            SendError::Busy => Self::Shed(1),
            SendError::Connect(_) | SendError::Broken(_) | SendError::BadAnswer(_) => {
                Self::BadGateway
            }
            SendError::ConnectTimeout | SendError::Timeout => Self::GatewayTimeout,
            SendError::ClientBody(error) if is_too_slow(error) => Self::BodyTooSlow,
            SendError::ClientBody(_) => Self::BadRequest,
        }
    }
}

/// Whatever a page of ours is to a browser: to another proxy that asks, a 2xx would be an admission.
pub(crate) fn turn_away<B>(response: &mut Response<B>) {
    if response.status().is_success() {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    }
}

/// Whether the client's body was given up because it made no progress.
fn is_too_slow(error: &BoxError) -> bool {
    let mut cause: Option<&dyn Error> = Some(&**error);
    while let Some(next) = cause {
        if let Some(ClientBodyError::TooSlow) = next.downcast_ref() {
            return true;
        }
        cause = next.source();
    }
    false
}

impl From<HeadError> for Fault {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooManyNominated | HeadError::Host => Self::BadRequest,
            HeadError::TooManyFields => Self::HeadTooLarge,
        }
    }
}

impl From<HandshakeError> for Fault {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Malformed => Self::BadRequest,
            HandshakeError::Version => Self::WebSocketVersion,
        }
    }
}

/// What is no page needs nothing, and nobody frames it.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The longest reference on a page.
const MAX_REFERENCE: usize = 64;

/// As many fields as the answer to a fault has, or more: the map need not grow.
const USUAL_FIELDS: usize = 10;

/// The page for a fault. `reference` is the request id: letters, digits, `-` and `_`; anything else is left out.
/// `headers` are the client's, for `Accept`.
pub(crate) fn page(
    fault: &Fault,
    headers: &HeaderMap,
    reference: &str,
    look: &Look,
) -> Response<Bytes> {
    let form = Form::wanted(headers);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let reference = if reference.len() <= MAX_REFERENCE && reference.chars().all(good) {
        Cow::Borrowed(reference)
    } else {
        let good = reference.chars().filter(|c| good(*c));
        good.take(MAX_REFERENCE).collect()
    };
    let mut response = Response::new(form.render(fault, &reference, look));
    *response.status_mut() = fault.status();
    let fields = response.headers_mut();
    fields.reserve(USUAL_FIELDS);
    fields.insert(header::CONTENT_TYPE, form.content_type());
    secure(fields);
    if form == Form::Html {
        fields.insert(header::CONTENT_SECURITY_POLICY, look.policy(Forms::None));
    }
    match fault {
        Fault::Unauthorized(challenges) | Fault::Several(challenges) => {
            for challenge in challenges {
                fields.append(header::WWW_AUTHENTICATE, challenge.clone());
            }
        }
        Fault::InsufficientScope(challenge) => {
            fields.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        Fault::TooMany(standing) => {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(standing.resets));
            issuer::limits(fields, *standing);
        }
        Fault::Unavailable(seconds) | Fault::Shed(seconds) => {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        Fault::WebSocketVersion => {
            fields.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
        }
        Fault::BadRequest
        | Fault::TargetTooLong
        | Fault::HeadTooLarge
        | Fault::Version
        | Fault::BodyTooSlow
        | Fault::UnknownHost
        | Fault::Misdirected
        | Fault::Forbidden
        | Fault::BadGateway
        | Fault::GatewayTimeout
        | Fault::Internal => {}
    }
    response
}

/// The fields of every answer that is ours: not stored, not sniffed, not framed, not a referrer.
pub(crate) fn secure(fields: &mut HeaderMap) {
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    fields.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    fields.insert(header::VARY, HeaderValue::from_static("Accept"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(value));
        headers
    }

    fn all() -> Vec<Fault> {
        vec![
            Fault::BadRequest,
            Fault::Several(vec![HeaderValue::from_static(
                "Bearer error=\"invalid_request\"",
            )]),
            Fault::TargetTooLong,
            Fault::HeadTooLarge,
            Fault::Version,
            Fault::BodyTooSlow,
            Fault::WebSocketVersion,
            Fault::UnknownHost,
            Fault::Misdirected,
            Fault::Unauthorized(vec![HeaderValue::from_static(
                "Bearer error=\"invalid_token\"",
            )]),
            Fault::Forbidden,
            Fault::InsufficientScope(HeaderValue::from_static("Bearer")),
            Fault::Unavailable(5),
            Fault::Shed(1),
            Fault::BadGateway,
            Fault::GatewayTimeout,
            Fault::Internal,
        ]
    }

    #[test]
    fn the_form_follows_accept() {
        let form = |value| Form::wanted(&accepting(value));
        assert_eq!(
            form("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            Form::Html
        );
        assert_eq!(form("application/json, text/plain, */*"), Form::Json);
        assert_eq!(form("application/problem+json"), Form::Json);
        assert_eq!(form("*/*"), Form::Plain);
        assert_eq!(form("text/html;q=0, application/json"), Form::Json);
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Plain);
    }

    #[test]
    fn every_page_is_whole_in_every_form() {
        for fault in all() {
            for accept in ["text/html", "application/json", "*/*"] {
                let page = page(&fault, &accepting(accept), "req-1", &Look::default());
                let body = String::from_utf8(page.body().to_vec()).unwrap();
                assert!(body.contains("req-1") && !body.contains("  "), "{body}");
                if accept == "application/json" {
                    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
                    assert_eq!(json["error"], fault.as_str());
                }
                assert_eq!(page.headers()["cache-control"], "no-store");
                assert_eq!(page.headers()["x-content-type-options"], "nosniff");
                assert!(
                    page.headers()["content-security-policy"]
                        .to_str()
                        .unwrap()
                        .contains("frame-ancestors 'none'")
                );
            }
        }
    }

    #[test]
    fn a_401_carries_its_challenges_and_a_503_when_to_come_back() {
        let page_of = |fault: &Fault| page(fault, &HeaderMap::new(), "r", &Look::default());
        let challenged = page_of(&Fault::Unauthorized(vec![
            HeaderValue::from_static("Bearer"),
            HeaderValue::from_static("Basic realm=\"a\""),
        ]));
        assert_eq!(
            challenged
                .headers()
                .get_all("www-authenticate")
                .iter()
                .count(),
            2
        );
        assert_eq!(
            page_of(&Fault::Unavailable(7)).headers()["retry-after"],
            "7"
        );
        assert_eq!(
            page_of(&Fault::WebSocketVersion).headers()["sec-websocket-version"],
            "13"
        );
    }

    #[test]
    fn a_reference_cannot_carry_markup() {
        let page = page(
            &Fault::Forbidden,
            &accepting("text/html"),
            "a\"<script>alert(1)</script>",
            &Look::default(),
        );
        let body = String::from_utf8(page.body().to_vec()).unwrap();
        assert!(body.contains("ascriptalert1script") && !body.contains("<script"));
    }
}
