//! The host and port a request is for.

use std::net::Ipv6Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

/// A host in its canonical spelling, and a port when the client said one.
///
/// The host is lower case, without a trailing dot; an IPv6 address stands in brackets, in the spelling of RFC 5952.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Authority {
    host: Arc<str>,
    port: Option<u16>,
    /// Both as a field value; kept, because it is the same for every request of a connection.
    field: HeaderValue,
}

/// The longest name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

impl Authority {
    /// Reads a `Host` or `:authority` (RFC 9110 §7.2). `None`: lists, userinfo, paths, white space, empty labels, zone
    /// identifiers, percent-encoding, malformed ports, and everything else that is not one host and at most one port.
    pub(crate) fn parse(raw: &[u8]) -> Option<Self> {
        let raw = std::str::from_utf8(raw).ok()?;
        if let Some(rest) = raw.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let port = match rest {
                "" => None,
                _ => Some(port(rest.strip_prefix(':')?)?),
            };
            return Self::new(format!("[{address}]").into(), port);
        }
        let (name, port) = match raw.split_once(':') {
            Some((name, digits)) => (name, Some(port(digits)?)),
            None => (raw, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let labels_hold = name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
        if MAX_HOST < name.len() || !labels_hold {
            return None;
        }
        let host = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            name.to_ascii_lowercase().into()
        } else {
            name.into()
        };
        Self::new(host, port)
    }

    fn new(host: Arc<str>, port: Option<u16>) -> Option<Self> {
        let text = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let field = HeaderValue::from_maybe_shared(Bytes::from(text)).ok()?;
        Some(Self { host, port, field })
    }

    /// Host and port as a field value.
    pub(crate) const fn as_field(&self) -> &HeaderValue {
        &self.field
    }

    /// The host.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port the client said.
    pub(crate) const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether both name one place, when `default` is the port that need not be said.
    pub(crate) fn is_same(&self, other: &Self, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// 1 to 65535, without signs or leading zeros.
fn port(digits: &str) -> Option<u16> {
    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn reads(raw: &str, host: &str, port: Option<u16>) {
        let authority = Authority::parse(raw.as_bytes()).unwrap();
        assert_eq!((authority.host(), authority.port()), (host, port));
    }

    #[test]
    fn one_host_has_one_spelling() {
        reads("app.test", "app.test", None);
        reads("A.b.EXAMPLE.test", "a.b.example.test", None);
        reads("app.test.", "app.test", None);
        reads("app.test.:8443", "app.test", Some(8_443));
        reads("app_1:80", "app_1", Some(80));
        reads("127.0.0.1:8080", "127.0.0.1", Some(8_080));
        reads("[2001:DB8::1]:443", "[2001:db8::1]", Some(443));
        reads("[0:0:0:0:0:0:0:1]", "[::1]", None);
    }

    #[test]
    fn what_is_not_one_host_is_refused() {
        for raw in [
            "",
            ".",
            "..",
            "app.test..",
            "a..b",
            ".app.test",
            "app.test, evil.test",
            "app.test,evil.test",
            "u@app.test",
            "u:p@app.test",
            "app test",
            " app.test",
            "app.test ",
            "app.test/admin",
            "app.test?x",
            "app.test#x",
            "app%2etest",
            "app.test:",
            "app.test:99999",
            "app.test:0443",
            "app.test:0",
            "app.test:443:1",
            "app.test:+1",
            "app.test:4a",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::1%eth0]",
            "[::1%25eth0]",
            "::1",
            "app.test\\",
            "app.test\t",
            "app.test\0",
            "ÄPP.test",
            "\u{212a}.test",
        ] {
            assert_eq!(Authority::parse(raw.as_bytes()), None, "{raw:?}");
        }
        assert_eq!(Authority::parse(b"\xFF"), None);
        assert_eq!(Authority::parse("a".repeat(254).as_bytes()), None);
    }

    proptest! {
        /// Any bytes get an answer, and what is accepted is its own canonical spelling.
        #[test]
        fn parsing_is_idempotent(raw in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[a-zA-Z0-9._-]{0,20}(:[0-9]{0,6})?".prop_map(String::into_bytes),
            "\\[[0-9a-fA-F:.]{0,20}\\](:[0-9]{0,6})?".prop_map(String::into_bytes),
        ]) {
            if let Some(authority) = Authority::parse(&raw) {
                let spelt = match authority.port() {
                    Some(port) => format!("{}:{port}", authority.host()),
                    None => authority.host().to_owned(),
                };
                prop_assert_eq!(Authority::parse(spelt.as_bytes()), Some(authority.clone()));
                prop_assert!(!authority.host().bytes().any(|b| b.is_ascii_uppercase() || b == b'@' || b == b','));
            }
        }
    }
}
