//! Protocols other than WebSocket that a route names (RFC 9110 §7.8): judged by their name on both sides, then left alone.

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;

use crate::proxy::upgrade::handshake::AcceptError;
use crate::proxy::upgrade::handshake::HandshakeError;
use crate::proxy::upgrade::handshake::has_content;
use crate::proxy::upgrade::handshake::is_only;
use crate::proxy::upgrade::handshake::once;
use crate::proxy::upgrade::handshake::says_upgrade;
use crate::proxy::upstream_head::fields::Fields;

const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");
const NO_CONTENT: HeaderValue = HeaderValue::from_static("0");

/// A client's request for a protocol that its route names, checked.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// As the configuration spells it: both sides read that.
    token: HeaderValue,
    /// Whether the request says that it has no content.
    says_no_content: bool,
}

impl Named {
    /// Reads a client's request. `Ok(None)`: none of `named` is asked for, so the request is plain HTTP and the field is not
    /// forwarded. That goes for HTTP/1.0 and HTTP/2 as well, which have no such field (RFC 9110 §7.8, RFC 9113 §8.2.2).
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Malformed`] for what a program behind us could take for the beginning of another request: content,
    /// or no `Connection: upgrade`.
    pub(crate) fn read(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
        named: &[Box<str>],
    ) -> Result<Option<Self>, HandshakeError> {
        if version != Version::HTTP_11 || !matches!(*method, Method::GET | Method::POST) {
            return Ok(None);
        }
        let Some(token) = Self::asked(headers, named) else {
            return Ok(None);
        };
        if has_content(headers) || !says_upgrade(headers) {
            return Err(HandshakeError::Malformed);
        }
        Ok(Some(Self {
            token: HeaderValue::from_str(token).or(Err(HandshakeError::Malformed))?,
            says_no_content: *method == Method::POST,
        }))
    }

    /// Which of `named` the client asks for: that one, and no other beside it.
    pub(crate) fn asked<'a>(headers: &HeaderMap, named: &'a [Box<str>]) -> Option<&'a str> {
        let asked = once(headers, &header::UPGRADE)?.as_bytes().trim_ascii();
        let mut named = named.iter().map(|token| &**token);
        named.find(|token| token.as_bytes().eq_ignore_ascii_case(asked))
    }

    /// Adds the request to the upstream head.
    pub(super) fn write(&self, into: &mut Fields) {
        into.insert(header::CONNECTION, UPGRADE);
        into.insert(header::UPGRADE, self.token.clone());
        if self.says_no_content {
            into.insert(header::CONTENT_LENGTH, NO_CONTENT);
        }
    }

    /// Judges the head of the upstream's 101: it names what was asked for, and nothing else.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Protocol`]: nothing of it reaches the client.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Result<(), AcceptError> {
        if is_only(headers, &header::UPGRADE, self.token.as_bytes()) && says_upgrade(headers) {
            Ok(())
        } else {
            Err(AcceptError::Protocol)
        }
    }

    /// Completes the judged head for the client.
    pub(super) fn answer_fields(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, self.token.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const NAMED: [&str; 2] = ["tcp", "SPDY/3.1"];

    fn read_as(
        (method, version): (Method, Version),
        fields: &[(&'static str, &'static str)],
    ) -> Result<Option<Named>, HandshakeError> {
        Named::read(&method, version, &map(fields), &NAMED.map(Into::into))
    }

    fn read(
        fields: &[(&'static str, &'static str)],
    ) -> Result<Option<HeaderValue>, HandshakeError> {
        let read = read_as((Method::GET, Version::HTTP_11), fields)?;
        Ok(read.map(|named| named.token))
    }

    const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");

    #[test]
    fn what_is_named_is_forwarded_in_one_spelling() {
        for (asked, token) in [("tcp", "tcp"), (" TCP ", "tcp"), ("spdy/3.1", "SPDY/3.1")] {
            let read = read(&[CONNECTION, ("upgrade", asked)]).unwrap().unwrap();
            assert_eq!(read, token);
        }
        let post = (Method::POST, Version::HTTP_11);
        let fields = [CONNECTION, ("upgrade", "tcp"), ("content-length", "0")];
        let named = read_as(post, &fields).unwrap().unwrap();
        let mut forwarded = Fields::default();
        named.write(&mut forwarded);
        let forwarded = forwarded.into_map().unwrap();
        assert_eq!(forwarded["upgrade"], "tcp");
        assert_eq!(forwarded["connection"], "Upgrade");
        assert_eq!(forwarded["content-length"], "0");
    }

    #[test]
    fn what_is_not_named_alone_is_plain_http() {
        for asked in [
            "spdy",
            "SPDY/3",
            "tcp/1",
            "tcp, tcp",
            "tcp, h2c",
            "h2c",
            "websocket",
            "",
            ",tcp",
        ] {
            assert_eq!(read(&[CONNECTION, ("upgrade", asked)]), Ok(None), "{asked}");
        }
        let twice = [CONNECTION, ("upgrade", "tcp"), ("upgrade", "tcp")];
        assert_eq!(read(&twice), Ok(None));
        assert_eq!(read(&[CONNECTION]), Ok(None));
        for other in [
            (Method::GET, Version::HTTP_10),
            (Method::GET, Version::HTTP_2),
            (Method::PUT, Version::HTTP_11),
        ] {
            let read = read_as(other, &[CONNECTION, ("upgrade", "tcp")]);
            assert!(read.unwrap().is_none());
        }
    }

    #[test]
    fn a_request_that_could_be_two_is_refused() {
        let malformed = Err(HandshakeError::Malformed);
        assert_eq!(read(&[("upgrade", "tcp")]), malformed);
        assert_eq!(
            read(&[("connection", "keep-alive"), ("upgrade", "tcp")]),
            malformed
        );
        for content in [
            ("content-length", "1"),
            ("content-length", "00"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(read(&[CONNECTION, ("upgrade", "tcp"), content]), malformed);
        }
    }

    #[test]
    fn a_101_to_anything_else_is_noticed() {
        let named = read_as(
            (Method::GET, Version::HTTP_11),
            &[CONNECTION, ("upgrade", "tcp")],
        );
        let named = named.unwrap().unwrap();
        let judge = |fields: &[(&'static str, &'static str)]| named.judge(&map(fields));
        assert_eq!(judge(&[CONNECTION, ("upgrade", "TCP")]), Ok(()));
        let wrong = Err(AcceptError::Protocol);
        for upgrade in ["SPDY/3.1", "websocket", "h2c", "tcp, h2c", ""] {
            assert_eq!(judge(&[CONNECTION, ("upgrade", upgrade)]), wrong);
        }
        assert_eq!(
            judge(&[CONNECTION, ("upgrade", "tcp"), ("upgrade", "h2c")]),
            wrong
        );
        assert_eq!(judge(&[("upgrade", "tcp")]), wrong);
        assert_eq!(judge(&[CONNECTION]), wrong);
    }
}
