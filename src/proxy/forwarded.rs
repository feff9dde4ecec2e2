//! Where a request came from, told to the upstream: `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239).
//!
//! What a client says about itself is dropped in every spelling (see `protected`). Only a listed peer is believed, and its
//! chain is continued, never replaced.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

use crate::proxy::upstream_head::fields::Fields;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// Our end of a client connection. Made once per connection; what it renders is kept for the next request.
#[derive(Debug)]
pub(crate) struct Hop {
    secure: bool,
    peer: HeaderValue,
    address: IpAddr,
    /// The last host, and its `Forwarded` element.
    element: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Hop {
    /// `peer` is the other end of the connection; `secure` says whether TLS ends here.
    pub(crate) fn new(peer: IpAddr, secure: bool) -> Self {
        let address = peer.to_canonical();
        Self {
            secure,
            peer: text(address.to_string()),
            address,
            element: RefCell::new(None),
        }
    }

    /// Adds the forwarding fields for a request to `host`. `client` is looked at only when its peer is `trusted`.
    pub(super) fn write(
        &self,
        host: &HeaderValue,
        trusted: bool,
        client: &HeaderMap,
        into: &mut Fields,
    ) {
        let element = self.element(host);
        if !trusted {
            into.insert(X_FORWARDED_FOR, self.peer.clone());
            into.insert(X_FORWARDED_PROTO, self.proto());
            into.insert(X_FORWARDED_HOST, host.clone());
            into.insert(header::FORWARDED, element);
            return;
        }
        into.insert(
            X_FORWARDED_FOR,
            appended(client, &X_FORWARDED_FOR, &self.peer),
        );
        into.insert(
            header::FORWARDED,
            appended(client, &header::FORWARDED, &element),
        );
        let proto = said_once(client, &X_FORWARDED_PROTO)
            .filter(|v| matches!(v.as_bytes(), b"http" | b"https"));
        into.insert(
            X_FORWARDED_PROTO,
            proto.cloned().unwrap_or_else(|| self.proto()),
        );
        let named = said_once(client, &X_FORWARDED_HOST).filter(|v| is_authority(v.as_bytes()));
        into.insert(X_FORWARDED_HOST, named.unwrap_or(host).clone());
        if let Some(port) = said_once(client, &X_FORWARDED_PORT)
            && port.len() <= 5
            && port.as_bytes().iter().all(u8::is_ascii_digit)
        {
            into.insert(X_FORWARDED_PORT, port.clone());
        }
        if let Some(prefix) = said_once(client, &X_FORWARDED_PREFIX)
            && prefix.as_bytes().starts_with(b"/")
            && !prefix.as_bytes().starts_with(b"//")
            && prefix.as_bytes().iter().all(u8::is_ascii_graphic)
        {
            into.insert(X_FORWARDED_PREFIX, prefix.clone());
        }
    }

    const fn proto(&self) -> HeaderValue {
        if self.secure { HTTPS } else { HTTP }
    }

    fn element(&self, host: &HeaderValue) -> HeaderValue {
        if let Some((known, element)) = &*self.element.borrow()
            && known == host
        {
            return element.clone();
        }
        let element = text(self.render(host));
        *self.element.borrow_mut() = Some((host.clone(), element.clone()));
        element
    }

    fn render(&self, host: &HeaderValue) -> String {
        let mut element = String::with_capacity(64 + host.len());
        let proto = if self.secure { "https" } else { "http" };
        // Writing to a String does not fail.
        let _written = match self.address {
            IpAddr::V4(address) => write!(element, "for={address};proto={proto}"),
            IpAddr::V6(address) => write!(element, "for=\"[{address}]\";proto={proto}"),
        };
        if is_authority(host.as_bytes())
            && let Ok(host) = host.to_str()
        {
            let _written = write!(element, ";host=\"{host}\"");
        }
        element
    }
}

/// Whether the client speaks TLS: with us, or with a listed peer that says so.
pub(super) fn speaks_tls(secure: bool, trusted: bool, client: &HeaderMap) -> bool {
    let said = || said_once(client, &X_FORWARDED_PROTO);
    match trusted.then(said).flatten().map(HeaderValue::as_bytes) {
        Some(b"https") => true,
        Some(b"http") => false,
        Some(_) | None => secure,
    }
}

/// The only value of a field, if it was said exactly once.
pub(super) fn said_once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only),
        (Some(_) | None, _) => None,
    }
}

/// All lines of a list in order, and one element more.
fn appended(headers: &HeaderMap, name: &HeaderName, element: &HeaderValue) -> HeaderValue {
    if !headers.contains_key(name) {
        return element.clone();
    }
    let mut list = Vec::new();
    for value in headers.get_all(name) {
        if !value.as_bytes().trim_ascii().is_empty() {
            list.extend_from_slice(value.as_bytes());
            list.extend_from_slice(b", ");
        }
    }
    list.extend_from_slice(element.as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(list)).unwrap_or_else(|_| element.clone())
}

/// Whether bytes can only be a host and a port, with nothing that would have to be quoted.
fn is_authority(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

/// Addresses and hosts are visible ASCII; anything else would be nobody's address.
fn text(value: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(value))
        .unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn written(hop: &Hop, trusted: bool, client: &HeaderMap, expected: &[(&str, &str)]) {
        let mut into = Fields::default();
        hop.write(
            &HeaderValue::from_static("app.test"),
            trusted,
            client,
            &mut into,
        );
        let into = into.into_map().unwrap();
        let mut seen: Vec<_> = into
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_stranger_is_described_by_its_connection_alone() {
        let hop = Hop::new("203.0.113.9".parse().unwrap(), true);
        let client = fields(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-prefix", "/evil"),
        ]);
        for _ in 0..2 {
            written(
                &hop,
                false,
                &client,
                &[
                    ("forwarded", "for=203.0.113.9;proto=https;host=\"app.test\""),
                    ("x-forwarded-for", "203.0.113.9"),
                    ("x-forwarded-host", "app.test"),
                    ("x-forwarded-proto", "https"),
                ],
            );
        }
    }

    #[test]
    fn the_chain_of_a_listed_peer_is_continued() {
        let hop = Hop::new("::ffff:10.0.0.2".parse().unwrap(), false);
        let client = fields(&[
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "10.0.0.3"),
            ("forwarded", "for=198.51.100.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "www.test"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-prefix", "/app"),
        ]);
        written(
            &hop,
            true,
            &client,
            &[
                (
                    "forwarded",
                    "for=198.51.100.7, for=10.0.0.2;proto=http;host=\"app.test\"",
                ),
                ("x-forwarded-for", "198.51.100.7, 10.0.0.3, 10.0.0.2"),
                ("x-forwarded-host", "www.test"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-prefix", "/app"),
                ("x-forwarded-proto", "https"),
            ],
        );
    }

    #[test]
    fn what_a_listed_peer_says_twice_or_wrongly_is_not_believed() {
        let hop = Hop::new("2001:db8::1".parse().unwrap(), false);
        let client = fields(&[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a b"),
            ("x-forwarded-port", "4x"),
            ("x-forwarded-prefix", "//evil.test"),
        ]);
        written(
            &hop,
            true,
            &client,
            &[
                (
                    "forwarded",
                    "for=\"[2001:db8::1]\";proto=http;host=\"app.test\"",
                ),
                ("x-forwarded-for", "2001:db8::1"),
                ("x-forwarded-host", "app.test"),
                ("x-forwarded-proto", "http"),
            ],
        );
    }
}
