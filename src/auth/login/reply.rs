//! What every answer of the login has: never kept, in no frame, with the cookies that go along.

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use http::header::CONTENT_SECURITY_POLICY;
use http::header::LOCATION;
use http::header::REFERRER_POLICY;
use http::header::SET_COOKIE;
use http::header::X_CONTENT_TYPE_OPTIONS;

/// `Retry-After` of the page about an outage, in seconds.
pub(super) const RETRY: HeaderValue = HeaderValue::from_static("5");

/// How a browser is sent on. Never 307 or 308: they would send a body, and the password in it, along.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    /// 302: after a GET.
    Found,
    /// 303: after anything else, and at the end of a login.
    SeeOther,
}

/// A redirect; `None`: the address cannot stand in a header.
pub(super) fn redirect(
    sent: Sent,
    location: &str,
    cookies: Vec<HeaderValue>,
) -> Option<Response<Bytes>> {
    let location = HeaderValue::try_from(location).ok()?;
    let status = match sent {
        Sent::Found => StatusCode::FOUND,
        Sent::SeeOther => StatusCode::SEE_OTHER,
    };
    let mut response = with(status, Bytes::new(), cookies);
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

pub(super) fn with(status: StatusCode, body: Bytes, cookies: Vec<HeaderValue>) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    response
}
