//! The head of the request to the upstream: built from empty, never edited.

pub(crate) mod connection;
pub(crate) mod cookies;
pub(in crate::proxy) mod fields;

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Uri;
use http::Version;
use http::header;
use http::uri::Authority;
use http::uri::PathAndQuery;
use http::uri::Scheme;

use crate::proxy::forwarded::Hop;
use crate::proxy::identity_headers::IdentityHeaders;
use crate::proxy::protected::Protected;
use crate::proxy::protected::Steering;
use crate::proxy::upgrade::Upgrade;
use crate::proxy::upstream;
use crate::proxy::upstream::Framing;
use crate::proxy::upstream_head::connection::Nominated;
use crate::proxy::upstream_head::cookies::CookieNames;
use crate::proxy::upstream_head::fields::Fields;

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What one application lets through, compiled once per configuration.
#[derive(Clone, Debug)]
pub(crate) struct HeadPolicy {
    /// Names that no client may say, over all applications.
    pub(crate) protected: Arc<Protected>,
    /// Names that steer a login, if any do: from their peers only.
    pub(crate) steering: Option<Arc<Steering>>,
    /// Cookies of ours: never forwarded.
    pub(crate) own_cookies: Arc<CookieNames>,
    /// Cookies that are credentials at a provider: forwarded with `forward_credentials` only.
    pub(crate) credential_cookies: CookieNames,
    /// Header fields that carry credentials beside `Authorization`, such as an API key.
    pub(crate) credential_headers: Vec<HeaderName>,
    /// Whether the client's `Authorization` and credential cookies reach the upstream.
    pub(crate) forward_credentials: bool,
    /// Fixed headers. The configuration has made sure that no identity header has the same name.
    pub(crate) static_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The client's request, as it was judged.
#[derive(Clone, Copy)]
pub(crate) struct ClientHead<'a> {
    /// The canonical method.
    pub(crate) method: &'a Method,
    /// The canonical target.
    pub(crate) target: &'a PathAndQuery,
    /// The canonical host, and the port if the client said one.
    pub(crate) authority: &'a HeaderValue,
    /// The fields as they came.
    pub(crate) headers: &'a HeaderMap,
    /// Who sent it: the peer of the socket.
    pub(crate) peer: IpAddr,
    /// Our end of the connection.
    pub(crate) hop: &'a Hop,
    /// Whether the peer is a listed proxy, whose forwarding headers are continued.
    pub(crate) trusted: bool,
    /// Request id and trace context: replace what the client said.
    pub(crate) given: &'a [(HeaderName, HeaderValue)],
    /// What the client asks to switch to, checked, on routes that allow it.
    pub(crate) upgrade: Option<&'a Upgrade>,
}

/// The head of the upstream request. Starts empty; client fields whose folded name is protected are not copied.
///
/// There is no accessor to the map, so nothing can be added after the fact.
pub(crate) struct UpstreamHead {
    method: Method,
    target: PathAndQuery,
    headers: Fields,
    /// Whether the client sent exactly `TE: trailers`.
    takes_trailers: bool,
    /// Whether the credential that is forwarded authenticates the connection (NTLM, Negotiate).
    binds_connection: bool,
}

/// Why a head cannot be built: 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HeadError {
    /// `Connection` names more than 32 fields.
    #[error("Connection names too many fields")]
    TooManyNominated,
    /// More fields than a map can hold.
    #[error("too many fields")]
    TooManyFields,
    /// The host cannot stand in a URI; canonical hosts can.
    #[error("host")]
    Host,
}

impl UpstreamHead {
    /// Builds the head. The order is the security argument: what `Connection` names goes first, then protected names,
    /// cookies and credentials; then what we know about the connection is written, and identity last.
    ///
    /// # Errors
    ///
    /// See [`HeadError`].
    pub(crate) fn new(
        client: &ClientHead<'_>,
        identity: &IdentityHeaders,
        policy: &HeadPolicy,
    ) -> Result<Self, HeadError> {
        let nominated = Nominated::read(client.headers).or(Err(HeadError::TooManyNominated))?;
        let room = client.headers.len()
            + policy.static_headers.len()
            + identity.len()
            + client.given.len()
            + 8;
        let mut headers = Fields::with_capacity(room);
        headers.append(header::HOST, client.authority.clone());
        let mut cookies = false;
        let (mut takes_trailers, mut binds_connection) = (false, false);
        for (name, value) in client.headers {
            match *name {
                header::COOKIE => {
                    cookies = !nominated.contains(name);
                    continue;
                }
                header::AUTHORIZATION if policy.forward_credentials => {
                    binds_connection |= upstream::binds_connection(value)
                }
                // A proof of possession belongs to the token: the application gets both or neither.
                _ if policy.forward_credentials && *name == DPOP => {}
                header::TE => {
                    takes_trailers = value == "trailers" && !takes_trailers;
                    continue;
                }
                _ if policy.protected.contains(name) => continue,
                _ => {}
            }
            if let Some(steering) = &policy.steering
                && steering.hides(name, client.peer)
            {
                continue;
            }
            if !nominated.is_empty() && nominated.contains(name) {
                continue;
            }
            if !policy.forward_credentials && policy.credential_headers.contains(name) {
                continue;
            }
            headers.append(name.clone(), value.clone());
        }
        if cookies && let Some(value) = client_cookies(client.headers, policy) {
            headers.insert(header::COOKIE, value);
        }
        client.hop.write(
            client.authority,
            client.trusted,
            client.headers,
            &mut headers,
        );
        if let Some(upgrade) = client.upgrade {
            upgrade.write(&mut headers);
        }
        for (name, value) in client.given.iter().chain(&policy.static_headers) {
            headers.insert(name.clone(), value.clone());
        }
        // Last, and replacing: whatever else was written under these names, identity wins.
        for (name, value) in identity.iter() {
            headers.insert(name.clone(), value.clone());
        }
        Ok(Self {
            method: client.method.clone(),
            target: client.target.clone(),
            headers,
            takes_trailers,
            binds_connection,
        })
    }

    /// The method.
    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    /// Whether nobody else may use the connection that this was sent over.
    pub(super) const fn binds_connection(&self) -> bool {
        self.binds_connection
    }

    /// The request for a tunnel over HTTP/1.1. `host` replaces the client's.
    ///
    /// # Errors
    ///
    /// [`HeadError::TooManyFields`].
    pub(super) fn into_h1<B>(
        mut self,
        host: Option<&HeaderValue>,
        body: B,
    ) -> Result<Request<B>, HeadError> {
        if let Some(host) = host {
            self.headers.insert(header::HOST, host.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.target);
        *request.headers_mut() = self.headers.into_map()?;
        Ok(request)
    }

    /// Writes the head for HTTP/1.1. `host` replaces the client's.
    ///
    /// Names, values, the method and the target are of types that cannot hold a line end.
    pub(super) fn encode(&self, host: Option<&HeaderValue>, framing: Framing, into: &mut Vec<u8>) {
        let lengths = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4);
        into.reserve(128 + self.target.as_str().len() + lengths.sum::<usize>());
        into.extend_from_slice(self.method.as_str().as_bytes());
        into.push(b' ');
        into.extend_from_slice(self.target.as_str().as_bytes());
        into.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in self.headers.iter() {
            let value = match host {
                Some(host) if *name == header::HOST => host,
                Some(_) | None => value,
            };
            into.extend_from_slice(name.as_str().as_bytes());
            into.extend_from_slice(b": ");
            into.extend_from_slice(value.as_bytes());
            into.extend_from_slice(b"\r\n");
        }
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                // Writing to a Vec does not fail.
                let _written = write!(into, "content-length: {length}\r\n");
            }
            Framing::Chunked => into.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        into.extend_from_slice(b"\r\n");
    }

    /// The request on HTTP/2 (RFC 9113 §8.3.1). `host` replaces the client's.
    ///
    /// # Errors
    ///
    /// When the host cannot stand in a URI, or there are too many fields.
    pub(super) fn into_h2<B>(
        self,
        scheme: Scheme,
        host: Option<&HeaderValue>,
        body: B,
    ) -> Result<Request<B>, HeadError> {
        let mut headers = self.headers.into_map()?;
        let own = headers.remove(header::HOST);
        let authority = host.or(own.as_ref()).ok_or(HeadError::Host)?;
        let authority = Authority::try_from(authority.as_bytes()).or(Err(HeadError::Host))?;
        if self.takes_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
        parts.path_and_query = Some(self.target);
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from_parts(parts).or(Err(HeadError::Host))?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl fmt::Debug for ClientHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHead")
            .field("fields", &self.headers.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UpstreamHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamHead")
            .field("fields", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// The cookies of a client that the application gets.
pub(super) fn client_cookies(headers: &HeaderMap, policy: &HeadPolicy) -> Option<HeaderValue> {
    if policy.forward_credentials {
        cookies::without(&[&policy.own_cookies], headers)
    } else {
        cookies::without(&[&policy.own_cookies, &policy.credential_cookies], headers)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::proxy::upgrade::Handshake;

    const HOST: HeaderValue = HeaderValue::from_static("app.test");

    fn policy() -> HeadPolicy {
        HeadPolicy {
            protected: Arc::new(Protected::new([
                &HeaderName::from_static("x-crm-login"),
                &HeaderName::from_static("x-shared-secret"),
            ])),
            own_cookies: Arc::new(CookieNames::new(["__Host-authferry"], [])),
            credential_cookies: CookieNames::new(["sessionid"], []),
            steering: None,
            credential_headers: vec![HeaderName::from_static("x-api-key")],
            forward_credentials: false,
            static_headers: vec![(
                HeaderName::from_static("x-shared-secret"),
                HeaderValue::from_static("s3"),
            )],
        }
    }

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn alice() -> IdentityHeaders {
        let (name, value) = (
            HeaderName::from_static("x-crm-login"),
            HeaderValue::from_static("alice"),
        );
        IdentityHeaders::none()
            .with_assertion(name, value, 1_000)
            .unwrap()
    }

    fn build(
        client: &HeaderMap,
        identity: &IdentityHeaders,
        policy: &HeadPolicy,
        upgrade: Option<&Upgrade>,
    ) -> Result<UpstreamHead, HeadError> {
        let head = ClientHead {
            method: &Method::GET,
            target: &PathAndQuery::from_static("/a?b"),
            authority: &HOST,
            headers: client,
            peer: IpAddr::from([203, 0, 113, 9]),
            hop: &Hop::new("203.0.113.9".parse().unwrap(), true),
            trusted: false,
            given: &[(
                HeaderName::from_static("x-request-id"),
                HeaderValue::from_static("r1"),
            )],
            upgrade,
        };
        UpstreamHead::new(&head, identity, policy)
    }

    /// The fields that arrive, beside those that are always written.
    fn arriving(
        client: &HeaderMap,
        identity: &IdentityHeaders,
        policy: &HeadPolicy,
    ) -> Vec<String> {
        let request = build(client, identity, policy, None)
            .unwrap()
            .into_h1(None, Empty::<bytes::Bytes>::new())
            .unwrap();
        let always = [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "forwarded",
            "x-request-id",
            "x-shared-secret",
        ];
        let mut seen: Vec<_> = request
            .headers()
            .iter()
            .filter(|(name, _)| !always.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        seen.sort();
        seen
    }

    #[test]
    fn only_what_is_nobodys_identity_credential_or_framing_arrives() {
        let client = fields(&[
            ("accept", "text/html"),
            ("x-custom", "1"),
            ("x-custom", "2"),
            ("authorization", "Bearer secret"),
            ("proxy-authorization", "Basic secret"),
            ("x-api-key", "secret"),
            (
                "cookie",
                "a=1; __Host-authferry=secret; sessionid=secret; b=2",
            ),
            ("x_crm_login", "root"),
            ("x-crm-login", "root"),
            ("remote-user", "root"),
            ("x-shared-secret", "guess"),
            ("x-forwarded-user", "root"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("content_length", "7"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("expect", "100-continue"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQ"),
            ("trailer", "x-crm-login"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("host", "evil.test"),
            ("x-request-id", "forged"),
        ]);
        let seen = arriving(&client, &IdentityHeaders::none(), &policy());
        assert_eq!(
            seen,
            [
                "accept: text/html",
                "cookie: a=1; b=2",
                "x-custom: 1",
                "x-custom: 2"
            ]
        );
        let seen = arriving(&client, &alice(), &policy());
        assert_eq!(
            seen,
            [
                "accept: text/html",
                "cookie: a=1; b=2",
                "x-crm-login: alice",
                "x-custom: 1",
                "x-custom: 2"
            ]
        );
    }

    #[test]
    fn what_we_write_ourselves_replaces_what_was_said() {
        let client = fields(&[
            ("x-request-id", "forged"),
            ("x-forwarded-for", "10.0.0.1"),
            ("host", "evil.test"),
        ]);
        let request = build(&client, &alice(), &policy(), None)
            .unwrap()
            .into_h1(None, Empty::<bytes::Bytes>::new())
            .unwrap();
        let headers = request.headers();
        for (name, value) in [
            ("x-request-id", "r1"),
            ("x-forwarded-for", "203.0.113.9"),
            ("host", "app.test"),
            ("x-shared-secret", "s3"),
        ] {
            assert_eq!(
                headers.get_all(name).iter().collect::<Vec<_>>(),
                [value],
                "{name}"
            );
        }
        assert_eq!(request.uri(), "/a?b");
    }

    #[test]
    fn credentials_arrive_where_the_application_wants_them_but_never_our_cookie() {
        let client = fields(&[
            ("authorization", "Bearer theirs"),
            ("x-api-key", "k"),
            ("cookie", "sessionid=theirs; __Host-authferry=secret"),
        ]);
        let policy = HeadPolicy {
            forward_credentials: true,
            ..policy()
        };
        assert_eq!(
            arriving(&client, &IdentityHeaders::none(), &policy),
            [
                "authorization: Bearer theirs",
                "cookie: sessionid=theirs",
                "x-api-key: k"
            ]
        );
    }

    #[test]
    fn a_field_that_connection_names_is_dropped_and_identity_is_not() {
        let client = fields(&[
            ("connection", "keep-alive, X-Custom"),
            ("connection", "x-crm-login, x-request-id , cookie"),
            ("x-custom", "1"),
            ("cookie", "a=1"),
            ("accept", "*/*"),
        ]);
        assert_eq!(
            arriving(&client, &alice(), &policy()),
            ["accept: */*", "x-crm-login: alice"]
        );
        let request = build(&client, &alice(), &policy(), None)
            .unwrap()
            .into_h1(None, Empty::<bytes::Bytes>::new())
            .unwrap();
        assert_eq!(request.headers()["x-request-id"], "r1");
        let flood = fields(&[("connection", &"a,".repeat(40))]);
        assert_eq!(
            build(&flood, &alice(), &policy(), None).unwrap_err(),
            HeadError::TooManyNominated
        );
    }

    #[test]
    fn identity_wins_over_a_fixed_header_of_the_same_name() {
        let policy = HeadPolicy {
            static_headers: vec![(
                HeaderName::from_static("x-crm-login"),
                HeaderValue::from_static("nobody"),
            )],
            ..policy()
        };
        assert_eq!(
            arriving(&HeaderMap::new(), &alice(), &policy),
            ["x-crm-login: alice"]
        );
    }

    #[test]
    fn an_upgrade_is_written_from_its_handshake_alone() {
        let client = fields(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let handshake = Handshake::read(
            &Method::GET,
            Version::HTTP_11,
            &client,
            false,
            &SystemEntropy,
        )
        .unwrap()
        .map(Upgrade::WebSocket);
        let head = build(&client, &alice(), &policy(), handshake.as_ref()).unwrap();
        let request = head.into_h1(None, Empty::<bytes::Bytes>::new()).unwrap();
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert_eq!(
            request.headers()["sec-websocket-key"],
            "dGhlIHNhbXBsZSBub25jZQ=="
        );
        assert_eq!(
            arriving(&client, &alice(), &policy()),
            ["x-crm-login: alice"]
        );
    }

    #[test]
    fn the_head_on_the_wire_is_what_was_built() {
        let client = fields(&[("x-a", "1"), ("x-a", "2")]);
        let head = build(&client, &alice(), &policy(), None).unwrap();
        let written = |host: Option<&HeaderValue>, framing| {
            let mut text = Vec::new();
            head.encode(host, framing, &mut text);
            String::from_utf8(text).unwrap()
        };
        let text = written(None, Framing::None);
        assert!(
            text.starts_with("GET /a?b HTTP/1.1\r\nhost: app.test\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nx-a: 1\r\nx-a: 2\r\n"), "{text}");
        assert!(text.ends_with("\r\nx-crm-login: alice\r\n\r\n"), "{text}");
        let own = HeaderValue::from_static("own.test");
        let text = written(Some(&own), Framing::Length(7));
        assert!(text.contains("\r\nhost: own.test\r\n"), "{text}");
        assert!(!text.contains("\r\nhost: app.test"), "{text}");
        assert!(text.ends_with("\r\ncontent-length: 7\r\n\r\n"), "{text}");
        let text = written(None, Framing::Chunked);
        assert!(
            text.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_of_a_head_can_be_read_in_a_log() {
        let client = fields(&[("cookie", "a=secret")]);
        assert!(
            !format!("{:?}", build(&client, &alice(), &policy(), None).unwrap()).contains("secret")
        );
    }

    proptest! {
        /// Whatever fields a client sends, in whatever spelling, identity arrives exactly once and is ours.
        #[test]
        fn identity_is_ours_whatever_a_client_sends(
            names in prop::collection::vec("(x|X)[-_.~]{1,2}(crm|CRM|c-rm)[-_.~]{1,2}login[-_.]{0,1}|accept|x-[a-z]{1,6}|connection", 0..12),
            value in "[a-z, -]{0,20}",
        ) {
            let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
            if let Ok(head) = build(&fields(&pairs), &alice(), &policy(), None) {
                let request = head.into_h1(None, Empty::<bytes::Bytes>::new())
            .unwrap();
                let ours: Vec<_> = request
                    .headers()
                    .iter()
                    .filter(|(name, _)| crate::proxy::protected::fold(name.as_str()) == "x-crm-login")
                    .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                    .collect();
                prop_assert_eq!(ours, [("x-crm-login", "alice")]);
                prop_assert!(!request.headers().contains_key("connection"));
            }
        }
    }
}
