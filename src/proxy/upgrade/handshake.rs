//! The opening handshake (RFC 6455 §4, RFC 8441), judged on both sides.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;

use crate::entropy::Entropy;
use crate::proxy::upstream_head::fields::Fields;

/// Appended to the key before it is hashed (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// A client's request for a WebSocket, checked. The upstream is asked with the same key, or with a new one for a client
/// that speaks HTTP/2 and has none.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    key: HeaderValue,
    protocols: Vec<HeaderValue>,
    extensions: Vec<HeaderValue>,
    multiplexed: bool,
}

/// Why a request for another protocol is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// Not a GET, with a body, over HTTP/1.0, without `Connection: upgrade`, or with a key that is none: 400.
    #[error("malformed handshake")]
    Malformed,
    /// Another version than 13: 426 with `Sec-WebSocket-Version: 13` (RFC 6455 §4.2.2).
    #[error("WebSocket version")]
    Version,
}

/// Why the upstream's 101 is not one: 502.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum AcceptError {
    /// `Upgrade` or `Connection` is missing, or names something else.
    #[error("101 to something else than what was asked for")]
    Protocol,
    /// `Sec-WebSocket-Accept` is missing, doubled or wrong.
    #[error("wrong Sec-WebSocket-Accept")]
    Accept,
    /// A subprotocol that the client did not offer.
    #[error("subprotocol was not offered")]
    Subprotocol,
    /// An extension that the client did not offer.
    #[error("extension was not offered")]
    Extension,
}

impl Handshake {
    /// Reads a client's handshake. `Ok(None)`: no WebSocket is asked for, whatever else `Upgrade` says; the request is
    /// plain HTTP then and the field is not forwarded. `extended_connect`: RFC 8441, HTTP/2.
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`].
    pub(crate) fn read(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
        extended_connect: bool,
        entropy: &dyn Entropy,
    ) -> Result<Option<Self>, HandshakeError> {
        if !extended_connect && !is_only(headers, &header::UPGRADE, b"websocket") {
            return Ok(None);
        }
        let key = if extended_connect {
            new_key(entropy)
        } else {
            if *method != Method::GET
                || version != Version::HTTP_11
                || has_content(headers)
                || !says_upgrade(headers)
            {
                return Err(HandshakeError::Malformed);
            }
            let key = once(headers, &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Malformed)?;
            let decoded = STANDARD
                .decode(key.as_bytes())
                .or(Err(HandshakeError::Malformed))?;
            if decoded.len() != 16 {
                return Err(HandshakeError::Malformed);
            }
            key.clone()
        };
        match once(headers, &header::SEC_WEBSOCKET_VERSION) {
            Some(version) if version == "13" => {}
            Some(_) | None => return Err(HandshakeError::Version),
        }
        let all = |name| headers.get_all(name).iter().cloned().collect();
        Ok(Some(Self {
            key,
            protocols: all(header::SEC_WEBSOCKET_PROTOCOL),
            extensions: all(header::SEC_WEBSOCKET_EXTENSIONS),
            multiplexed: extended_connect,
        }))
    }

    /// Whether the client is answered 200 on a stream instead of 101 on a connection.
    pub(super) const fn multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// Adds the handshake to the upstream head.
    pub(super) fn write(&self, into: &mut Fields) {
        into.insert(header::CONNECTION, UPGRADE);
        into.insert(header::UPGRADE, WEBSOCKET);
        into.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        into.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        for protocol in &self.protocols {
            into.append(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        for extension in &self.extensions {
            into.append(header::SEC_WEBSOCKET_EXTENSIONS, extension.clone());
        }
    }

    /// Judges the head of the upstream's 101 (RFC 6455 §4.1).
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]: nothing of it reaches the client.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Result<(), AcceptError> {
        if !is_only(headers, &header::UPGRADE, b"websocket") || !says_upgrade(headers) {
            return Err(AcceptError::Protocol);
        }
        let expected = accept(self.key.as_bytes());
        match once(headers, &header::SEC_WEBSOCKET_ACCEPT) {
            Some(value) if value.as_bytes().trim_ascii() == expected.as_bytes() => {}
            Some(_) | None => return Err(AcceptError::Accept),
        }
        let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        match (chosen.next(), chosen.next()) {
            (None, None) => {}
            (Some(only), None)
                if tokens(&self.protocols)
                    .any(|offered| offered == only.as_bytes().trim_ascii()) => {}
            (Some(_) | None, _) => return Err(AcceptError::Subprotocol),
        }
        let name = |extension: &[u8]| {
            extension
                .split(|b| *b == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii()
                .to_ascii_lowercase()
        };
        let offered: Vec<_> = tokens(&self.extensions).map(name).collect();
        let chosen: Vec<_> = headers
            .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .cloned()
            .collect();
        if !tokens(&chosen).all(|extension| offered.contains(&name(extension))) {
            return Err(AcceptError::Extension);
        }
        Ok(())
    }

    /// Turns the judged head of the upstream into the one for this client: 101 keeps its handshake fields, 200 on HTTP/2
    /// has none of its own.
    pub(super) fn answer_fields(&self, headers: &mut HeaderMap) {
        if self.multiplexed {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            return;
        }
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
    }
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
fn accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

fn new_key(entropy: &dyn Entropy) -> HeaderValue {
    let mut nonce = [0; 16];
    entropy.fill(&mut nonce);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(STANDARD.encode(nonce)))
        .unwrap_or(HeaderValue::from_static(""))
}

/// Whether bytes after the head may belong to the request.
pub(super) fn has_content(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0")
}

pub(super) fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only),
        (Some(_) | None, _) => None,
    }
}

pub(super) fn is_only(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    once(headers, name)
        .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(token))
}

pub(super) fn says_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

fn tokens(values: &[HeaderValue]) -> impl Iterator<Item = &[u8]> {
    values
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    const GOOD: &[(&str, &str)] = &[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat, superchat"),
        (
            "sec-websocket-extensions",
            "permessage-deflate; client_max_window_bits",
        ),
    ];

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn with(name: &'static str, value: Option<&'static str>) -> HeaderMap {
        let mut headers = map(GOOD);
        headers.remove(name);
        if let Some(value) = value {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn read(headers: &HeaderMap) -> Result<Option<Handshake>, HandshakeError> {
        Handshake::read(
            &Method::GET,
            Version::HTTP_11,
            headers,
            false,
            &SystemEntropy,
        )
    }

    #[test]
    fn a_handshake_of_the_standard_is_forwarded_and_answered() {
        let handshake = read(&map(GOOD)).unwrap().unwrap();
        let mut forwarded = Fields::default();
        handshake.write(&mut forwarded);
        let forwarded = forwarded.into_map().unwrap();
        assert_eq!(forwarded["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(forwarded["upgrade"], "websocket");
        let answer = map(&[
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-extensions", "permessage-deflate"),
        ]);
        assert_eq!(handshake.judge(&answer), Ok(()));
    }

    #[test]
    fn other_protocols_are_plain_http() {
        for upgrade in ["h2c", "TLS/1.0", "websocket, h2c", ""] {
            assert!(
                read(&with("upgrade", Some(upgrade))).unwrap().is_none(),
                "{upgrade}"
            );
        }
        assert!(read(&with("upgrade", None)).unwrap().is_none());
    }

    #[test]
    fn malformed_handshakes_are_refused() {
        let malformed = Err(HandshakeError::Malformed);
        let outcome = |headers| read(&headers).map(|_| ());
        assert_eq!(outcome(with("connection", Some("keep-alive"))), malformed);
        assert_eq!(outcome(with("connection", None)), malformed);
        assert_eq!(outcome(with("sec-websocket-key", None)), malformed);
        assert_eq!(
            outcome(with("sec-websocket-key", Some("c2hvcnQ="))),
            malformed
        );
        assert_eq!(
            outcome(with("sec-websocket-key", Some("not base64 at all!!!"))),
            malformed
        );
        assert_eq!(outcome(with("content-length", Some("1"))), malformed);
        assert_eq!(
            outcome(with("transfer-encoding", Some("chunked"))),
            malformed
        );
        assert_eq!(
            outcome(with("sec-websocket-version", Some("12"))),
            Err(HandshakeError::Version)
        );
        assert_eq!(
            outcome(with("sec-websocket-version", None)),
            Err(HandshakeError::Version)
        );
        let mut twice = map(GOOD);
        twice.append(
            "sec-websocket-key",
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        assert_eq!(outcome(twice), malformed);
        let post = Handshake::read(
            &Method::POST,
            Version::HTTP_11,
            &map(GOOD),
            false,
            &SystemEntropy,
        );
        assert_eq!(post.map(|_| ()), malformed);
        let old = Handshake::read(
            &Method::GET,
            Version::HTTP_10,
            &map(GOOD),
            false,
            &SystemEntropy,
        );
        assert_eq!(old.map(|_| ()), malformed);
    }

    #[test]
    fn a_wrong_101_is_noticed() {
        let handshake = read(&map(GOOD)).unwrap().unwrap();
        let good = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        let changed = |name: &'static str, value: &'static str| {
            let mut headers = map(&good);
            headers.insert(name, HeaderValue::from_static(value));
            handshake.judge(&headers)
        };
        assert_eq!(changed("upgrade", "h2c"), Err(AcceptError::Protocol));
        assert_eq!(changed("connection", "close"), Err(AcceptError::Protocol));
        assert_eq!(
            changed("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            Err(AcceptError::Accept)
        );
        assert_eq!(
            changed("sec-websocket-protocol", "other"),
            Err(AcceptError::Subprotocol)
        );
        assert_eq!(
            changed("sec-websocket-extensions", "x-other"),
            Err(AcceptError::Extension)
        );
        assert_eq!(changed("sec-websocket-protocol", "superchat"), Ok(()));
    }

    #[test]
    fn a_stream_of_http2_gets_a_key_of_its_own() {
        let headers = map(&[("sec-websocket-version", "13")]);
        let read = || {
            Handshake::read(
                &Method::CONNECT,
                Version::HTTP_2,
                &headers,
                true,
                &SystemEntropy,
            )
            .unwrap()
            .unwrap()
        };
        let (one, other) = (read(), read());
        assert!(one.multiplexed());
        assert_eq!(STANDARD.decode(one.key.as_bytes()).unwrap().len(), 16);
        assert_ne!(one.key, other.key);
    }
}
