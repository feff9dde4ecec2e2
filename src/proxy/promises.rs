//! What holds for requests, whatever a stranger sends. See `crate::promises`.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Version;
use http::header;
use http::request::Parts;
use http::uri::PathAndQuery;
use http_body_util::Empty;

use crate::proxy::CookieNames;
use crate::proxy::HeadPolicy;
use crate::proxy::Protected;
use crate::proxy::canonical::Restated;
use crate::proxy::canonical::canonicalise;
use crate::proxy::canonical::restated as restate;
use crate::proxy::conn::Conn;
use crate::proxy::forwarded::Hop;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::protected::fold;
use crate::proxy::settings::Limits;
use crate::proxy::upgrade::Frames;
use crate::proxy::upstream_head::ClientHead;
use crate::proxy::upstream_head::UpstreamHead;
use crate::proxy::upstream_head::cookies;

pub(crate) use crate::proxy::client_certificate::promise as client_certificate;
pub(crate) use crate::proxy::serve::first_bytes;
pub(crate) use crate::proxy::serve::proxy_header::promise as proxy_header;
pub(crate) use crate::proxy::upstream::answer;

/// Fields, one a line; lines that are none are left out.
pub(super) fn fields(lines: &mut dyn Iterator<Item = &[u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take(200) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// Method, target, version, and then fields, one a line.
fn parts(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let method = Method::from_bytes(lines.next()?).ok()?;
    let target = lines.next()?;
    let h2 = lines.next()? == b"2";
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .version(if h2 {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        })
        .body(())
        .ok()?;
    *request.headers_mut() = fields(&mut lines);
    Some(request.into_parts().0)
}

/// What is accepted has one reading: its spelling is accepted again, stays as it is, and hides nothing.
pub(crate) fn canonical_request(bytes: &[u8]) {
    let Some(parts) = parts(bytes) else { return };
    let (conn, limits) = (Conn::for_test(true), Limits::usual());
    let Ok(request) = canonicalise(&parts, &conn, &limits) else {
        assert!(conn.must_close() || parts.version == Version::HTTP_2);
        return;
    };
    let path = request.path();
    assert!(path.starts_with('/') || path == "*", "{path}");
    let lower = path.to_ascii_lowercase();
    for two_readings in ["//", "\\", "%2f", "%5c", "%00", "/./", "/../", "#"] {
        assert!(!lower.contains(two_readings), "{path}");
    }
    assert!(!lower.ends_with("/.") && !lower.ends_with("/.."), "{path}");
    let host = request.host();
    assert!(
        !host.is_empty() && !host.ends_with('.') && host == host.to_ascii_lowercase(),
        "{host}"
    );
    assert!(!matches!(
        *request.method(),
        Method::TRACE | Method::CONNECT
    ));
    let again = Request::builder()
        .method(request.method().clone())
        .uri(request.target().as_str())
        .header(header::HOST, host)
        .body(());
    if path != "*"
        && let Ok(again) = again
    {
        let (parts, ()) = again.into_parts();
        let again = canonicalise(&parts, &Conn::for_test(true), &limits);
        // As it is written: an empty path is spelt `/`, and equal to itself alone.
        let again = again.map(|again| again.target().as_str().to_owned());
        assert_eq!(again.as_deref(), Ok(request.target().as_str()));
    }
}

/// A request that another proxy has is judged in the spelling that it forwards. Method, host and target, one a line.
pub(crate) fn restated(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (Some(method), Some(host), Some(target)) = (lines.next(), lines.next(), lines.next())
    else {
        return;
    };
    let limits = Limits::usual();
    let of = |target| {
        let secure = true;
        let said = Restated {
            method,
            host,
            target,
            secure,
        };
        restate(&said, &limits)
    };
    let Ok(request) = of(target) else { return };
    assert!(request.path().starts_with('/'));
    assert!(!target.contains(&b'#') && !request.path().contains("//"));
    let spelt = request.target().as_str();
    let again = of(spelt.as_bytes());
    assert_eq!(
        again.map(|again| again.target().as_str().to_owned()).ok(),
        Some(spelt.to_owned())
    );
    // The same request, had it come here itself, is judged by the same words.
    let own = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, host)
        .body(());
    if let Ok(own) = own {
        let (parts, ()) = own.into_parts();
        if let Ok(own) = canonicalise(&parts, &Conn::for_test(true), &limits) {
            assert_eq!(own.target(), request.target());
            assert_eq!((own.host(), own.port()), (request.host(), request.port()));
            assert_eq!(own.method(), request.method());
        }
    }
}

/// However a name is written, it is protected if its folded spelling is.
pub(crate) fn header_fold(bytes: &[u8]) {
    let Ok(name) = HeaderName::from_bytes(bytes) else {
        return;
    };
    let ours = HeaderName::from_static("x-crm-login");
    let protected = Protected::new([&ours]);
    let folded = fold(name.as_str());
    assert_eq!(fold(&folded), folded);
    if let Ok(plain) = HeaderName::from_bytes(folded.as_bytes()) {
        // A plain name of the standards passes without a look, in its own spelling alone.
        if protected.contains(&plain) {
            assert!(protected.contains(&name), "{name}");
        }
    }
    if folded == "x-crm-login" || folded == "x-forwarded-for" || folded == "transfer-encoding" {
        assert!(protected.contains(&name), "{name}");
    }
}

fn policy() -> HeadPolicy {
    let login = HeaderName::from_static("x-crm-login");
    HeadPolicy {
        protected: Arc::new(Protected::new([&login])),
        own_cookies: Arc::new(CookieNames::new(
            ["__Host-authferry"],
            ["__Host-authferry-"],
        )),
        credential_cookies: CookieNames::new(["LEGACYSID"], []),
        steering: None,
        credential_headers: vec![HeaderName::from_static("x-api-key")],
        forward_credentials: false,
        static_headers: Vec::new(),
    }
}

/// Nothing of a client's head arrives that an application may take for identity, framing, a credential or a hop of ours.
pub(crate) fn upstream_head(bytes: &[u8]) {
    let client = fields(&mut bytes.split(|byte| *byte == b'\n'));
    let policy = policy();
    let host = HeaderValue::from_static("app.test");
    let head = ClientHead {
        method: &Method::GET,
        target: &PathAndQuery::from_static("/a?b"),
        authority: &host,
        headers: &client,
        peer: IpAddr::from([203, 0, 113, 9]),
        hop: &Hop::new(IpAddr::from([203, 0, 113, 9]), true),
        trusted: false,
        given: &[],
        upgrade: None,
    };
    let Ok(head) = UpstreamHead::new(&head, &IdentityHeaders::none(), &policy) else {
        return;
    };
    let Ok(request) = head.into_h1(None, Empty::<Bytes>::new()) else {
        return;
    };
    for (name, value) in request.headers() {
        let ours = match name.as_str() {
            "host" => value == "app.test",
            "x-forwarded-for" => value == "203.0.113.9",
            "x-forwarded-proto" => value == "https",
            "x-forwarded-host" => value == "app.test",
            "forwarded" => value == "for=203.0.113.9;proto=https;host=\"app.test\"",
            "te" => value == "trailers",
            "cookie" => !has_pair_of_ours(value.as_bytes()),
            _ => !policy.protected.contains(name) && !policy.credential_headers.contains(name),
        };
        assert!(ours, "{name}: {value:?}");
    }
    for once in [
        "host",
        "cookie",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
    ] {
        assert!(
            request.headers().get_all(once).iter().count() <= 1,
            "{once}"
        );
    }
    assert!(!request.headers().contains_key(header::AUTHORIZATION));
    assert!(!request.headers().contains_key(header::CONNECTION));
    let own: &CookieNames = &policy.own_cookies;
    if let Some(cookie) = cookies::without(&[own, &policy.credential_cookies], &client) {
        assert!(!has_pair_of_ours(cookie.as_bytes()));
    }
}

fn has_pair_of_ours(cookie: &[u8]) -> bool {
    cookie.split(|byte| *byte == b';').any(|pair| {
        let pair: Vec<u8> = pair
            .iter()
            .copied()
            .skip_while(|b| b" \t".contains(b))
            .collect();
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name = name.trim_ascii_end();
        name.starts_with(b"__Host-authferry-")
            || name == b"__Host-authferry"
            || name == b"LEGACYSID"
    })
}

/// Nobody but a listed peer has a say in who the client is.
pub(crate) fn client_address(bytes: &[u8]) {
    let headers = fields(&mut bytes.split(|byte| *byte == b'\n'));
    let peer = SocketAddr::from(([203, 0, 113, 7], 4_000));
    let of = |trusted: &str| {
        let trusted: Vec<_> = trusted.parse().into_iter().collect();
        crate::proxy::client_address::client_address(peer, &headers, &trusted)
    };
    assert_eq!(of("10.0.0.0/8"), Ok(peer.ip()));
    if let Ok(address) = of("203.0.113.0/24") {
        assert_eq!(address, address.to_canonical());
        let said =
            headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
        assert!(said || address == peer.ip());
    }
}

/// Frames end where they end, in however many pieces they come. The first byte says how the rest is cut.
pub(crate) fn websocket_frames(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    for masked in [true, false] {
        let mut whole = Frames::new(masked);
        let at_once = whole.pass(bytes);
        let mut pieces = Frames::new(masked);
        let mut good = 0;
        let mut end = Ok(());
        for piece in bytes.chunks(usize::from(*cut).max(1)) {
            match pieces.pass(piece) {
                Ok(used) => good += used,
                Err(used) => {
                    good += used;
                    end = Err(());
                    break;
                }
            }
        }
        match at_once {
            Ok(all) => {
                assert_eq!((all, good, end), (bytes.len(), bytes.len(), Ok(())));
                assert_eq!(whole.at_boundary(), pieces.at_boundary());
            }
            Err(_) => assert_eq!(end, Err(())),
        }
    }
}
