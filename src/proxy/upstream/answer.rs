//! The upstream's answer, cleaned: what belongs to its connection stays here, and so does what is ours to say.

use std::sync::Arc;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header;
use http::response::Parts;

use crate::proxy::body::OnEnd;
use crate::proxy::body::ResponseBody;
use crate::proxy::protected::Protected;
use crate::proxy::upstream::link::Lease;
use crate::proxy::upstream::link::Received;
use crate::proxy::upstream_head::HeadPolicy;
use crate::proxy::upstream_head::connection::Nominated;

/// The head of an answer, and the connection its body comes over.
pub(crate) struct Answer<B> {
    parts: Parts,
    received: Received,
    lease: Lease<B>,
    trailers: Option<Arc<Protected>>,
}

/// Why what an upstream sent is not an answer: 502, and the connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum AnswerFault {
    /// Two ways to say where the body ends, or a coding that we do not speak (RFC 9112 §6).
    #[error("ambiguous framing")]
    Framing,
    /// 101 without being asked.
    #[error("unasked upgrade")]
    Unasked,
    /// Not HTTP, or a head that is too large.
    #[error("malformed answer")]
    Malformed,
    /// Connections are closed as soon as they are opened.
    #[error("connections are closed without an answer")]
    Closed,
    /// A 101 that does not fit the handshake.
    #[error("wrong handshake")]
    Handshake,
}

/// Judges and cleans an answer.
pub(super) fn accept<B>(
    response: Response<Received>,
    mut lease: Lease<B>,
    policy: &HeadPolicy,
) -> Result<Answer<B>, AnswerFault> {
    let (mut parts, received) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(AnswerFault::Unasked);
    }
    let seen = clean(&mut parts, policy)?;
    if seen.binds_connection {
        lease.never_keep();
    }
    let may_have_trailers = lease.is_h2() || seen.announces_trailers;
    Ok(Answer {
        parts,
        received,
        lease,
        trailers: may_have_trailers.then(|| policy.protected.clone()),
    })
}

impl<B> Answer<B> {
    /// The status.
    pub(crate) const fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The cookies that it sets, none of ours.
    pub(crate) fn cookies(&self) -> Vec<HeaderValue> {
        let all = self.parts.headers.get_all(header::SET_COOKIE).iter();
        all.cloned().collect()
    }

    /// Which origin of the target answered.
    pub(crate) const fn origin(&self) -> usize {
        self.lease.slot()
    }

    /// The answer for the client; `end` learns how its body ends.
    pub(crate) fn into_response<E: OnEnd>(self, end: E) -> Response<ResponseBody<B, E>> {
        let kind = self.parts.headers.get(header::CONTENT_TYPE);
        let events = kind.is_some_and(|kind| is_event_stream(kind.as_bytes()));
        let body = ResponseBody::upstream(self.received, self.lease, self.trailers, events, end);
        Response::from_parts(self.parts, body)
    }
}

/// `text/event-stream`, with or without parameters.
fn is_event_stream(kind: &[u8]) -> bool {
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}

/// What was seen on the way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// The upstream authenticates connections, not requests (NTLM, Negotiate).
    pub(super) binds_connection: bool,
    announces_trailers: bool,
}

/// Removes what belongs to the connection, and what only we say.
pub(super) fn clean(parts: &mut Parts, policy: &HeadPolicy) -> Result<Seen, AnswerFault> {
    let mut seen = Seen::default();
    let mut doomed: Vec<HeaderName> = Vec::new();
    let (mut nominates, mut cookies) = (false, false);
    for name in parts.headers.keys() {
        match *name {
            header::CONNECTION => {
                nominates = true;
                doomed.push(header::CONNECTION);
            }
            header::TRANSFER_ENCODING => {
                let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
                let chunked = codings
                    .next()
                    .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked"))
                    && codings.next().is_none();
                if !chunked || parts.headers.contains_key(header::CONTENT_LENGTH) {
                    return Err(AnswerFault::Framing);
                }
                doomed.push(header::TRANSFER_ENCODING);
            }
            header::CONTENT_LENGTH
                if parts
                    .headers
                    .get_all(header::CONTENT_LENGTH)
                    .iter()
                    .nth(1)
                    .is_some() =>
            {
                return Err(AnswerFault::Framing);
            }
            header::TRAILER => seen.announces_trailers = true,
            header::SET_COOKIE => cookies = true,
            header::UPGRADE
            | header::TE
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION => doomed.push(name.clone()),
            header::WWW_AUTHENTICATE => {
                seen.binds_connection = parts
                    .headers
                    .get_all(header::WWW_AUTHENTICATE)
                    .iter()
                    .any(binds_connection);
            }
            _ if is_ours_or_hop_by_hop(name.as_str()) => doomed.push(name.clone()),
            _ => {}
        }
    }
    if nominates {
        let nominated = Nominated::read(&parts.headers).or(Err(AnswerFault::Malformed))?;
        if !nominated.is_empty() {
            doomed.extend(
                parts
                    .headers
                    .keys()
                    .filter(|name| nominated.contains(name))
                    .cloned(),
            );
        }
    }
    for name in &doomed {
        parts.headers.remove(name);
    }
    if cookies {
        drop_our_cookies(&mut parts.headers, policy);
    }
    // Of the upstream's connection: reason phrases, and hyper's own notes.
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    Ok(seen)
}

fn is_ours_or_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "keep-alive" | "proxy-connection" | "proxy-authentication-info" | "http2-settings"
    ) || name.starts_with("x-authferry")
}

/// Whether a scheme authenticates the connection (MS-NTHT, RFC 4559 §6).
pub(crate) fn binds_connection(value: &HeaderValue) -> bool {
    let scheme = value
        .as_bytes()
        .split(|b| matches!(b, b' ' | b','))
        .next()
        .unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}

/// An upstream must not set a cookie that we would take for ours.
fn drop_our_cookies(headers: &mut HeaderMap, policy: &HeadPolicy) {
    let is_ours = |value: &HeaderValue| {
        let pair = value
            .as_bytes()
            .split(|b| *b == b';')
            .next()
            .unwrap_or_default();
        let mut parts = pair.splitn(2, |b| *b == b'=').map(<[u8]>::trim_ascii);
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        // One without a name comes back as its value alone, which reads as `NAME=VALUE` then (RFC 6265bis §5.7).
        let name = match (name, value) {
            (b"", Some(value)) => value.split(|b| *b == b'=').next().unwrap_or_default(),
            (name, _) => name,
        };
        policy.own_cookies.contains(name.trim_ascii())
    };
    if headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        let kept: Vec<_> = headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter(|v| !is_ours(v))
            .cloned()
            .collect();
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value);
        }
        tracing::warn!("An upstream tried to set a cookie of ours; it was dropped.");
    }
}
