//! A request that another proxy has and asks about, in its one spelling.

use http::Method;
use http::uri::PathAndQuery;

use crate::proxy::canonical::Authority;
use crate::proxy::canonical::BadRequest;
use crate::proxy::canonical::CanonicalRequest;
use crate::proxy::canonical::method;
use crate::proxy::canonical::target;
use crate::proxy::settings::Limits;

/// What a listed proxy says about a request that it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restated<'a> {
    /// Its method.
    pub(crate) method: &'a [u8],
    /// Its host, and the port if the client said one.
    pub(crate) host: &'a [u8],
    /// Its path and query, as the client sent them.
    pub(crate) target: &'a [u8],
    /// Whether the client speaks TLS.
    pub(crate) secure: bool,
}

/// The one spelling of a request that somebody else forwards.
///
/// The other proxy forwards what it has, not what is judged here. Decoded letters and the case of hex digits mean the same
/// to whoever reads them later (RFC 3986 §6.2.2); a path that loses empty segments here does not, so it is refused.
///
/// # Errors
///
/// See [`BadRequest`].
pub(crate) fn restated(
    said: &Restated<'_>,
    limits: &Limits,
) -> Result<CanonicalRequest, BadRequest> {
    if limits.target_bytes < said.target.len() {
        return Err(BadRequest::TargetTooLong);
    }
    if !said.target.starts_with(b"/") || said.target.contains(&b'#') {
        return Err(BadRequest::Target);
    }
    let authority = Authority::parse(said.host).ok_or(BadRequest::Host)?;
    let verb = Method::from_bytes(said.method);
    let verb = verb.ok().ok_or(BadRequest::Method)?;
    let raw = PathAndQuery::try_from(said.target);
    let raw = raw.ok().ok_or(BadRequest::Target)?;
    if raw.path().contains("//") {
        return Err(BadRequest::Target);
    }
    let (target, parameters, slashes) = target(&raw, limits.encoded_slash)?;
    Ok(CanonicalRequest {
        method: method(&verb)?,
        authority,
        target,
        secure: said.secure,
        extended_connect: false,
        parameters,
        slashes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::serve::testing::limits;
    use proptest::prelude::*;

    fn said(target: &str) -> Result<CanonicalRequest, BadRequest> {
        let said = Restated {
            method: b"GET",
            host: b"App.test:8443",
            target: target.as_bytes(),
            secure: true,
        };
        restated(&said, &limits())
    }

    #[test]
    fn what_is_judged_is_what_the_other_proxy_forwards() {
        let request = said("/a/%7eb?c=//d").unwrap();
        assert_eq!((request.path(), request.query()), ("/a/~b", Some("c=//d")));
        assert_eq!((request.host(), request.port()), ("app.test", Some(8_443)));
        for target in [
            "",
            "a",
            "//a",
            "/a//b",
            "/a#b",
            "/../a",
            "/a/%2e%2e/b",
            "/a\\b",
            "/a%2fb",
            "/a%00",
            "http://app.test/",
            "*",
            "/a b",
            "/%ff",
        ] {
            assert!(said(target).is_err(), "{target}");
        }
        for method in [&b"CONNECT"[..], b"get", b"", b"G T", b"TRACE"] {
            let said = Restated {
                method,
                host: b"app.test",
                target: b"/",
                secure: true,
            };
            assert!(restated(&said, &limits()).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_passes_has_one_spelling(target in "/[a-z/.%0-9A-F;?]{0,12}") {
            if let Ok(request) = said(&target) {
                prop_assert!(!target.split('?').next().unwrap_or_default().contains("//"));
                let again = said(request.target().as_str()).unwrap();
                prop_assert_eq!(again.target(), request.target());
            }
        }
    }
}
