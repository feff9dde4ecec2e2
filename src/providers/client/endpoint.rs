//! An address of a provider: absolute, `https` (or `http` to this very machine), without user, password or fragment.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;

/// An address of a provider.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::providers) struct Endpoint {
    uri: Uri,
    loopback: bool,
}

/// Why a text is not an address of a provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::providers) enum InvalidEndpoint {
    /// Not of the form `https://host/path`.
    #[error("it is not an absolute http or https URL")]
    NotAbsolute,
    /// `http` to another machine: whoever sits between could answer for the provider.
    #[error("it must begin with https:// unless the host is this machine")]
    NotSecure,
    /// A secret in an address ends up in logs.
    #[error("it must not contain a user name or password")]
    UserInfo,
    /// A fragment is never sent, so it means something else than it says.
    #[error("it must not contain a fragment")]
    Fragment,
}

impl Endpoint {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// See [`InvalidEndpoint`].
    pub(in crate::providers) fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        if text.contains('#') {
            return Err(InvalidEndpoint::Fragment);
        }
        let Ok(uri) = text.parse::<Uri>() else {
            return Err(InvalidEndpoint::NotAbsolute);
        };
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(InvalidEndpoint::NotAbsolute);
        };
        if authority.as_str().contains('@') {
            return Err(InvalidEndpoint::UserInfo);
        }
        if authority.host().is_empty() {
            return Err(InvalidEndpoint::NotAbsolute);
        }
        let loopback = is_loopback(authority.host());
        if *scheme == Scheme::HTTPS || (*scheme == Scheme::HTTP && loopback) {
            Ok(Self { uri, loopback })
        } else if *scheme == Scheme::HTTP {
            Err(InvalidEndpoint::NotSecure)
        } else {
            Err(InvalidEndpoint::NotAbsolute)
        }
    }

    /// The address as a request takes it.
    pub(in crate::providers) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it lies on this machine.
    pub(in crate::providers) const fn is_loopback(&self) -> bool {
        self.loopback
    }
}

/// `localhost` and the addresses of RFC 1122 §3.2.1.3 (g) and RFC 4291 §2.5.3.
fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_reaches_this_machine_only() {
        for text in [
            "https://id.example/x",
            "http://127.0.0.1:80/x",
            "http://[::1]/x",
            "http://LOCALHOST:8080/x?y=z",
        ] {
            assert!(Endpoint::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://id.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://0.0.0.0/",
        ] {
            assert_eq!(
                Endpoint::parse(text),
                Err(InvalidEndpoint::NotSecure),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, why) in [
            ("/relative", InvalidEndpoint::NotAbsolute),
            ("id.example", InvalidEndpoint::NotAbsolute),
            ("ldap://id.example/", InvalidEndpoint::NotAbsolute),
            ("https:///x", InvalidEndpoint::NotAbsolute),
            ("", InvalidEndpoint::NotAbsolute),
            ("https://a:b@id.example/", InvalidEndpoint::UserInfo),
            ("http://localhost@id.example/", InvalidEndpoint::UserInfo),
            ("https://id.example/#x", InvalidEndpoint::Fragment),
        ] {
            assert_eq!(Endpoint::parse(text), Err(why), "{text}");
        }
    }
}
