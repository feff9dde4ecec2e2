//! The one request that is judged, logged and forwarded.
//!
//! Everything hyper lets through that two programs could read differently ends here: either it gets one spelling, or it is
//! refused. What hyper settles by itself, before anybody can see it, is settled soundly: a `Content-Length` beside a
//! chunked body is dropped, the body is read by its chunks alone and the connection closes after the answer; repeated
//! equal lengths become one, differing ones are refused; a fragment is cut off before the request is judged, so it is
//! neither judged nor forwarded. On HTTP/1.1 the connection has seen it, and it is refused.

mod authority;
mod fields;
mod path;
mod restated;

use bytes::Bytes;
use http::Method;
use http::Version;
use http::header;
use http::request::Parts;
use http::uri::PathAndQuery;
use hyper::ext::Protocol;

pub(crate) use crate::proxy::canonical::authority::Authority;
use crate::proxy::canonical::fields::fields;
pub(crate) use crate::proxy::canonical::fields::largest_list;
pub(crate) use crate::proxy::canonical::path::EncodedSlash;
pub(crate) use crate::proxy::canonical::path::PathFault;
use crate::proxy::canonical::path::scan;
use crate::proxy::canonical::path::spell;
pub(crate) use crate::proxy::canonical::path::with_slashes;
pub(crate) use crate::proxy::canonical::path::without_parameters;
pub(crate) use crate::proxy::canonical::restated::Restated;
pub(crate) use crate::proxy::canonical::restated::restated;
use crate::proxy::conn::Conn;
use crate::proxy::settings::Limits;

/// A request in its one spelling. Only [`canonicalise`], and [`restated`] for one that another proxy has, make it.
#[derive(Clone, Debug)]
pub(crate) struct CanonicalRequest {
    method: Method,
    authority: Authority,
    target: PathAndQuery,
    secure: bool,
    extended_connect: bool,
    parameters: bool,
    slashes: bool,
}

impl CanonicalRequest {
    /// The method. `GET` for a WebSocket on HTTP/2, as it would be on HTTP/1.1: both get the same verdict.
    pub(crate) const fn method(&self) -> &Method {
        &self.method
    }

    /// The host, lower case, without port and trailing dot.
    pub(crate) fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port, when the client said one.
    pub(crate) const fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    /// Host and port.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The path in its one spelling; begins with `/`.
    pub(crate) fn path(&self) -> &str {
        self.target.path()
    }

    /// The query as the client sent it, without `?`.
    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// Path and query, for forwarding.
    pub(crate) const fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// Whether TLS ends here; what trusted proxies say about theirs is not in this.
    pub(crate) const fn secure(&self) -> bool {
        self.secure
    }

    /// Whether this is a WebSocket on HTTP/2 (RFC 8441): the stream becomes the tunnel when it is answered 200.
    pub(crate) const fn extended_connect(&self) -> bool {
        self.extended_connect
    }

    /// Whether programs could read another path: with `;parameters` dropped, or `%2F` decoded.
    pub(crate) const fn is_ambiguous(&self) -> bool {
        self.parameters || self.slashes
    }
}

/// Why a request has no canonical form. The client learns the status only.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadRequest {
    /// `CONNECT`, `TRACE`, or not up to 32 upper-case letters and hyphens.
    #[error("method not allowed here")]
    Method,
    /// Neither HTTP/1.0, 1.1 nor 2.
    #[error("unknown version")]
    Version,
    /// The target is not a path, or an absolute URI of another scheme.
    #[error("target form")]
    Target,
    /// The target is longer than `target_bytes`.
    #[error("target too long")]
    TargetTooLong,
    /// No host, two hosts, or not a host.
    #[error("host")]
    Host,
    /// The target names one host and `Host` another.
    #[error("two hosts")]
    TwoHosts,
    /// See [`PathFault`].
    #[error("path: {0}")]
    Path(PathFault),
    /// The query contains something that cannot be forwarded as it is.
    #[error("query")]
    Query,
    /// The end of the body is in doubt.
    #[error("framing")]
    Framing,
    /// More than `head_fields` fields.
    #[error("too many fields")]
    TooManyFields,
    /// More than `head_bytes`, in HTTP/2.
    #[error("head too long")]
    HeadTooLong,
    /// More than 16 KiB or 100 pairs of cookies.
    #[error("too many cookies")]
    TooManyCookies,
    /// What listed peers say about the client contradicts itself or cannot be read.
    #[error("forwarding headers")]
    Forwarding,
}

/// The one spelling of a path, or why it has none. For what is compared with the paths of requests. Whether `%2F` may
/// stand in it is the route's to say.
///
/// # Errors
///
/// See [`PathFault`].
pub(crate) fn canonical_path(path: &str) -> Result<String, PathFault> {
    let spelt = spell(path.as_bytes(), EncodedSlash::Opaque)?;
    String::from_utf8(spelt.path).ok().ok_or(PathFault::NotUtf8)
}

/// The longest method.
const MAX_METHOD: usize = 32;

/// Brings the head of a request that came over `conn` into its one spelling. Nothing is allocated when it already has it
/// and the connection has seen the host before.
///
/// After an error on HTTP/1.1 the connection is closed: [`Conn::close_after_answer`] has been called.
///
/// # Errors
///
/// See [`BadRequest`].
pub(crate) fn canonicalise(
    parts: &Parts,
    conn: &Conn,
    limits: &Limits,
) -> Result<CanonicalRequest, BadRequest> {
    judge(parts, conn, limits).inspect_err(|_| conn.close_after_answer())
}

fn judge(parts: &Parts, conn: &Conn, limits: &Limits) -> Result<CanonicalRequest, BadRequest> {
    let h2 = match parts.version {
        Version::HTTP_10 | Version::HTTP_11 => false,
        Version::HTTP_2 => true,
        _ => return Err(BadRequest::Version),
    };
    let content = fields(parts, h2, limits)?;
    // Content has no meaning there, programs disagree about its end, and nobody is obliged to read it (RFC 9110 §9.3.1).
    if content && matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(BadRequest::Framing);
    }
    let extended_connect = h2 && parts.method == Method::CONNECT && is_websocket(parts);
    let method = if extended_connect {
        Method::GET
    } else {
        method(&parts.method)?
    };
    let authority = authority(parts, h2, conn)?;
    if conn.vitals().has_fragment() {
        return Err(BadRequest::Target);
    }
    let raw = parts.uri.path_and_query().ok_or(BadRequest::Target)?;
    if limits.target_bytes < raw.as_str().len() {
        return Err(BadRequest::TargetTooLong);
    }
    let (target, parameters, slashes) = target(raw, limits.encoded_slash)?;
    Ok(CanonicalRequest {
        method,
        authority,
        target,
        secure: conn.secure(),
        extended_connect,
        parameters,
        slashes,
    })
}

fn is_websocket(parts: &Parts) -> bool {
    parts
        .extensions
        .get::<Protocol>()
        .is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

fn method(method: &Method) -> Result<Method, BadRequest> {
    let token = method.as_str();
    let refused = matches!(token, "CONNECT" | "TRACE" | "TRACK" | "PRI");
    let well_formed =
        token.len() <= MAX_METHOD && token.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if refused || !well_formed {
        return Err(BadRequest::Method);
    }
    Ok(method.clone())
}

fn authority(parts: &Parts, h2: bool, conn: &Conn) -> Result<Authority, BadRequest> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(BadRequest::Host),
        (Some(raw), None) => Some(known(raw.as_bytes(), conn)?),
        (None, None) => None,
    };
    let named = match (parts.uri.scheme_str(), parts.uri.authority()) {
        (None, None) => None,
        // The authority-form belongs to CONNECT (RFC 9112 §3.2.3).
        (None, Some(_)) if !h2 => return Err(BadRequest::Target),
        (Some(scheme), _)
            if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") =>
        {
            return Err(BadRequest::Target);
        }
        (_, Some(named)) if h2 => Some(known(named.as_str().as_bytes(), conn)?),
        (_, Some(named)) => {
            Some(Authority::parse(named.as_str().as_bytes()).ok_or(BadRequest::Host)?)
        }
        (Some(_), None) => None,
    };
    match (host, named) {
        (Some(host), Some(named)) => {
            let default = if conn.secure() { 443 } else { 80 };
            if host.is_same(&named, default) {
                Ok(host)
            } else {
                Err(BadRequest::TwoHosts)
            }
        }
        (Some(host), None) => Ok(host),
        (None, Some(named)) if h2 => Ok(named),
        // HTTP/1.x asks for `Host` even beside an absolute target (RFC 9112 §3.2).
        (None, _) => Err(BadRequest::Host),
    }
}

fn known(raw: &[u8], conn: &Conn) -> Result<Authority, BadRequest> {
    if let Some(authority) = conn.known_authority(raw) {
        return Ok(authority);
    }
    let authority = Authority::parse(raw).ok_or(BadRequest::Host)?;
    conn.remember_authority(raw, &authority);
    Ok(authority)
}

/// The target in its one spelling; whether it has `;parameters`, and whether `%2F`.
fn target(
    raw: &PathAndQuery,
    slashes: EncodedSlash,
) -> Result<(PathAndQuery, bool, bool), BadRequest> {
    if raw
        .query()
        .is_some_and(|query| !query.bytes().all(may_stand_in_a_query))
    {
        return Err(BadRequest::Query);
    }
    // `http` answers `/` for an empty path; the spelling must show it.
    let scanned = scan(raw.path().as_bytes());
    if scanned.canonical && raw.as_str().starts_with('/') {
        return Ok((raw.clone(), scanned.parameters, false));
    }
    let mut spelt = spell(raw.path().as_bytes(), slashes).map_err(BadRequest::Path)?;
    if let Some(query) = raw.query() {
        spelt.path.push(b'?');
        spelt.path.extend_from_slice(query.as_bytes());
    }
    match PathAndQuery::from_maybe_shared(Bytes::from(spelt.path)) {
        Ok(target) => Ok((target, spelt.parameters, spelt.slashes)),
        Err(_) => Err(BadRequest::Target),
    }
}

const fn may_stand_in_a_query(byte: u8) -> bool {
    !matches!(byte, 0..=0x20 | 0x7F | b'#')
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::serve::testing::limits;

    /// The head of an HTTP/1.1 request as hyper hands it on.
    fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Likewise, HTTP/2.
    fn h2(target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut parts = head("GET", target, fields);
        parts.version = Version::HTTP_2;
        parts
    }

    fn judged(parts: &Parts) -> Result<CanonicalRequest, BadRequest> {
        canonicalise(parts, &Conn::for_test(false), &limits())
    }

    const HOST: (&str, &str) = ("host", "app.test");

    #[track_caller]
    fn refused(parts: &Parts, expected: BadRequest) {
        let conn = Conn::for_test(false);
        assert_eq!(canonicalise(parts, &conn, &limits()).unwrap_err(), expected);
        assert!(conn.must_close() || parts.version == Version::HTTP_2);
    }

    #[test]
    fn a_plain_request_is_what_it_says() {
        let request = judged(&head(
            "GET",
            "/a/b?x=%2f..&y=;#frag",
            &[("Host", "App.Test:8080")],
        ))
        .unwrap();
        assert_eq!(request.method(), Method::GET);
        assert_eq!((request.host(), request.port()), ("app.test", Some(8_080)));
        assert_eq!(
            (request.path(), request.query()),
            ("/a/b", Some("x=%2f..&y=;"))
        );
        assert_eq!(request.target().as_str(), "/a/b?x=%2f..&y=;");
        assert!(!request.secure() && !request.extended_connect());
        assert!(!request.is_ambiguous());
    }

    #[test]
    fn a_canonical_target_is_shared_and_not_copied() {
        let parts = head("GET", "/a/b?x", &[HOST]);
        let request = judged(&parts).unwrap();
        assert_eq!(
            request.target().as_str().as_ptr(),
            parts.uri.path_and_query().unwrap().as_str().as_ptr()
        );
    }

    #[test]
    fn the_query_survives_a_rewritten_path() {
        let request = judged(&head("GET", "//%61?b=%61//..", &[HOST])).unwrap();
        assert_eq!(request.target().as_str(), "/a?b=%61//..");
        let request = judged(&head("GET", "/a%3bb/c?", &[HOST])).unwrap();
        assert_eq!(request.target().as_str(), "/a%3Bb/c?");
        assert!(request.is_ambiguous());
    }

    #[test]
    fn a_request_is_for_exactly_one_host() {
        refused(&head("GET", "/", &[]), BadRequest::Host);
        refused(&head("GET", "/", &[HOST, HOST]), BadRequest::Host);
        refused(
            &head("GET", "/", &[("host", "app.test, evil.test")]),
            BadRequest::Host,
        );
        refused(
            &head("GET", "/", &[("host", "u@evil.test")]),
            BadRequest::Host,
        );
        refused(&head("GET", "/", &[("host", "")]), BadRequest::Host);
        refused(&head("GET", "http://app.test/", &[]), BadRequest::Host);
        refused(
            &head("GET", "http://evil.test/", &[HOST]),
            BadRequest::TwoHosts,
        );
        refused(
            &head("GET", "http://app.test:81/", &[HOST]),
            BadRequest::TwoHosts,
        );
        refused(
            &head("GET", "http://u@app.test/", &[HOST]),
            BadRequest::Host,
        );
        assert_eq!(
            judged(&head("GET", "http://APP.test:80/x", &[HOST]))
                .unwrap()
                .target()
                .as_str(),
            "/x"
        );
        assert_eq!(
            judged(&head("GET", "http://app.test?x", &[HOST]))
                .unwrap()
                .target()
                .as_str(),
            "/?x"
        );
        refused(
            &h2("http://app.test/", &[("host", "evil.test")]),
            BadRequest::TwoHosts,
        );
        refused(&h2("http://u@app.test/", &[]), BadRequest::Host);
        refused(&h2("http://app.test,evil.test/", &[]), BadRequest::Host);
        refused(&h2("/x", &[]), BadRequest::Host);
        assert_eq!(
            judged(&h2("http://App.test/", &[])).unwrap().host(),
            "app.test"
        );
        assert_eq!(
            judged(&h2("http://app.test/", &[HOST])).unwrap().host(),
            "app.test"
        );
        assert_eq!(judged(&h2("/x", &[HOST])).unwrap().host(), "app.test");
    }

    #[test]
    fn a_connection_remembers_only_the_same_spelling_of_a_host() {
        let conn = Conn::for_test(false);
        let host = |value| {
            canonicalise(&head("GET", "/", &[("host", value)]), &conn, &limits())
                .map(|r| r.host().to_owned())
        };
        assert_eq!(host("a.test").as_deref(), Ok("a.test"));
        assert_eq!(host("b.test").as_deref(), Ok("b.test"));
        assert_eq!(host("b.test").as_deref(), Ok("b.test"));
        assert_eq!(host("B.test").as_deref(), Ok("b.test"));
        assert_eq!(host("b.test,"), Err(BadRequest::Host));
    }

    #[test]
    fn other_target_forms_are_refused() {
        refused(&head("GET", "admin", &[HOST]), BadRequest::Target);
        refused(
            &head("OPTIONS", "*", &[HOST]),
            BadRequest::Path(PathFault::Relative),
        );
        refused(&head("GET", "ftp://app.test/", &[HOST]), BadRequest::Target);
        refused(
            &head("GET", &format!("/{}", "a".repeat(8_192)), &[HOST]),
            BadRequest::TargetTooLong,
        );
    }

    #[test]
    fn methods_are_upper_case_tokens_without_tunnels_and_echoes() {
        for method in [
            "GET",
            "HEAD",
            "POST",
            "PROPFIND",
            "VERSION-CONTROL",
            "M-SEARCH",
        ] {
            assert!(judged(&head(method, "/", &[HOST])).is_ok(), "{method}");
        }
        let long = "A".repeat(33);
        for method in ["get", "Get", "TRACE", "TRACK", "PRI", "G_T", "GET1", &long] {
            refused(&head(method, "/", &[HOST]), BadRequest::Method);
        }
        refused(
            &head("CONNECT", "http://app.test/", &[HOST]),
            BadRequest::Method,
        );
    }

    #[test]
    fn a_websocket_on_http2_gets_the_verdict_of_one_on_http1() {
        let mut parts = h2("http://app.test/ws", &[]);
        parts.method = Method::CONNECT;
        refused(&parts, BadRequest::Method);
        parts
            .extensions
            .insert(Protocol::from_static("connect-udp"));
        refused(&parts, BadRequest::Method);
        parts.extensions.insert(Protocol::from_static("websocket"));
        let request = judged(&parts).unwrap();
        assert!(request.extended_connect());
        assert_eq!(request.method(), Method::GET);
        parts.version = Version::HTTP_11;
        parts.headers.insert("host", "app.test".parse().unwrap());
        refused(&parts, BadRequest::Method);
    }

    #[test]
    fn only_plain_chunked_or_one_length_frames_a_body() {
        let framed = |fields: &[(&str, &str)]| {
            let fields: Vec<_> = [HOST].iter().chain(fields).copied().collect();
            judged(&head("POST", "/", &fields)).map(drop)
        };
        let (te, cl) = ("transfer-encoding", "content-length");
        for good in [
            &[(te, "chunked")][..],
            &[(te, "Chunked")],
            &[(cl, "0")],
            &[(cl, "007")],
            &[],
        ] {
            assert_eq!(framed(good), Ok(()), "{good:?}");
        }
        for bad in [
            &[(te, "gzip, chunked")][..],
            &[(te, "chunked, chunked")],
            &[(te, "identity"), (te, "chunked")],
            &[(te, "identity")],
            &[(te, "xchunked")],
            &[(te, "\"chunked\"")],
            &[(te, "")],
            &[(te, "chunked"), (cl, "5")],
            &[(cl, "5"), (cl, "5")],
            &[(cl, "5, 5")],
            &[(cl, "+5")],
            &[(cl, "")],
            &[("transfer_encoding", "chunked")],
            &[("transfer.encoding", "chunked")],
            &[("transfer--encoding", "chunked")],
            &[("-transfer-encoding", "chunked")],
            &[("_transfer_encoding_", "chunked")],
            &[("content_length", "5")],
            &[("content-length~", "5")],
        ] {
            assert_eq!(framed(bad), Err(BadRequest::Framing), "{bad:?}");
        }
        for harmless in [
            "content-lengths",
            "content-length-x",
            "xtransfer-encoding",
            "transferencoding",
            "te_",
            "th",
            "c-h",
        ] {
            assert_eq!(framed(&[(harmless, "5")]), Ok(()), "{harmless}");
        }
        refused(
            &h2("http://app.test/", &[(te, "chunked")]),
            BadRequest::Framing,
        );
    }

    #[test]
    fn a_request_for_a_representation_brings_none() {
        for method in ["GET", "HEAD"] {
            refused(
                &head(method, "/", &[HOST, ("content-length", "5")]),
                BadRequest::Framing,
            );
            refused(
                &head(method, "/", &[HOST, ("transfer-encoding", "chunked")]),
                BadRequest::Framing,
            );
            assert!(judged(&head(method, "/", &[HOST, ("content-length", "0")])).is_ok());
        }
        refused(
            &h2("https://app.test/", &[("content-length", "5")]),
            BadRequest::Framing,
        );
        assert!(judged(&head("DELETE", "/", &[HOST, ("content-length", "5")])).is_ok());
    }

    /// `parts` with so many fields more.
    fn with_fields(parts: &Parts, count: usize) -> Parts {
        let mut parts = parts.clone();
        for n in 0..count {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            parts.headers.append(name, "y".parse().unwrap());
        }
        parts
    }

    #[test]
    fn both_protocols_count_fields_and_cookies() {
        for parts in [head("GET", "/", &[HOST]), h2("http://app.test/", &[])] {
            // One is the host.
            assert!(judged(&with_fields(&parts, 99)).is_ok());
            refused(&with_fields(&parts, 100), BadRequest::TooManyFields);
            let mut long = parts.clone();
            long.headers
                .append("cookie", "a".repeat(9_000).parse().unwrap());
            assert!(judged(&long).is_ok());
            long.headers
                .append("cookie", "a".repeat(9_000).parse().unwrap());
            refused(&long, BadRequest::TooManyCookies);
            let mut pairs = parts;
            pairs
                .headers
                .append("cookie", "a=b;".repeat(100).parse().unwrap());
            refused(&pairs, BadRequest::TooManyCookies);
        }
    }

    #[test]
    fn crumbs_of_cookies_are_one_field() {
        let crumbs = |fields, count| {
            let mut parts = with_fields(&h2("http://app.test/", &[]), fields);
            for _ in 0..count {
                parts.headers.append("cookie", "a=b".parse().unwrap());
            }
            parts
        };
        assert!(judged(&crumbs(98, 100)).is_ok());
        refused(&crumbs(99, 1), BadRequest::TooManyFields);
        refused(&crumbs(0, 101), BadRequest::TooManyCookies);
        // Put together: 16,382 bytes and 16,385.
        for (second, good) in [(8_190, true), (8_193, false)] {
            let mut parts = h2("http://app.test/", &[]);
            for size in [8_190, second] {
                parts
                    .headers
                    .append("cookie", "a".repeat(size).parse().unwrap());
            }
            assert_eq!(judged(&parts).is_ok(), good, "{second}");
        }
    }

    /// As HTTP/1.1 would write it: the parser there counts the same bytes.
    #[test]
    fn a_head_of_http2_is_as_long_as_it_would_be_in_http1() {
        let http1 = |value: &str| {
            let cookies = "a=b; c=d";
            format!(
                "GET /a?b HTTP/1.1\r\nhost: app.test:81\r\ncookie: {cookies}\r\nx-long: {value}\r\n\r\n"
            )
        };
        let of = |value: &str| {
            let fields = [("cookie", "a=b"), ("x-long", value), ("cookie", "c=d")];
            h2("http://app.test:81/a?b", &fields)
        };
        let most = limits().head_bytes - http1("").len();
        assert_eq!(http1(&"y".repeat(most)).len(), limits().head_bytes);
        assert!(judged(&of(&"y".repeat(most))).is_ok());
        refused(&of(&"y".repeat(most + 1)), BadRequest::HeadTooLong);
        // What the protocol counts for it is within what it is told.
        let list = [
            32 + 7 + 3,
            32 + 7 + 4,
            32 + 10 + 11,
            32 + 5 + 4,
            2 * (32 + 6 + 3),
            32 + 6 + most,
        ];
        assert!(list.iter().sum::<usize>() < largest_list(&limits()));
    }

    proptest! {
        /// What was accepted once is accepted again and stays as it is.
        #[test]
        fn canonicalising_is_idempotent(target in "/[a-c./;%25~|\\[é]{0,12}(%[0-9a-fA-F]{2}){0,3}(\\?[ -~]{0,8})?") {
            let Ok(request) = Request::builder().uri(target).header("host", "app.test").body(()) else { return Ok(()) };
            if let Ok(once) = judged(&request.into_parts().0) {
                let again = judged(&head("GET", once.target().as_str(), &[HOST])).unwrap();
                prop_assert_eq!(again.target(), once.target());
                prop_assert_eq!(again.is_ambiguous(), once.is_ambiguous());
            }
        }
    }
}
