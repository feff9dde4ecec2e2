//! Who may ask the admin listener for what: judged before anything else is looked at.
//!
//! Three doors lead in: the unix socket, whose peers the kernel names, a bearer token over TCP, and a client certificate. A web page has neither,
//! but its visitor's browser may reach a loopback port; so the host must be ours, and whatever a browser says about
//! another site refuses the request (CVE-2022-41924, CVE-2026-27589).
//!
//! The console is the one page of ours. Its visitor's browser sends the token as a password, by itself and with whatever
//! another site makes it send; so a form counts only from our own origin, and with a proof that was on our page.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::HeaderName;
use http::header;
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::entropy::Entropy as _;
use crate::entropy::SystemEntropy;
use crate::secret::Secret;

/// Wrong tokens that one address may send at once; after that, one each [`REFILL`].
const BURST: u64 = 10;

/// How long it takes until one more wrong token may be sent.
const REFILL: Duration = Duration::from_secs(1);

/// Addresses that are remembered apart; further ones share one allowance.
const ADDRESSES: usize = 1_024;

/// Where a connection comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    /// Through the unix socket, as this user.
    Unix {
        /// The user id, by the kernel.
        uid: Option<u32>,
    },
    /// Over TCP.
    Tcp {
        /// Who connected.
        from: SocketAddr,
        /// To which of our addresses.
        to: SocketAddr,
    },
    /// Over TLS, with a certificate of an operator: only who holds its key gets this far.
    Certificate {
        /// Whose.
        subject: Arc<str>,
        /// To which of our addresses.
        to: SocketAddr,
        /// The names in our own certificates.
        names: Arc<[Box<str>]>,
    },
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Denial {
    /// The host is a name or an address that is not ours.
    Host,
    /// A browser asks on behalf of a page.
    Page,
    /// No token, or not exactly one.
    TokenMissing,
    /// Not the token.
    TokenWrong,
    /// No password, or not exactly one.
    PasswordMissing,
    /// The password is not the token.
    PasswordWrong,
    /// There is no token: the unix socket is the only door.
    SocketOnly,
    /// Too many wrong tokens from this address; one more may come after this time.
    Throttled(Duration),
}

/// The rules of one listener.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Secret<String>>,
    throttle: Throttle,
    /// Vouches for the forms of this process.
    forms: hmac::Key,
}

impl Guard {
    pub(super) fn new(token: Option<Secret<String>>) -> Self {
        let mut key = [0; 32];
        SystemEntropy.fill(&mut key);
        Self {
            token,
            throttle: Throttle::default(),
            forms: hmac::Key::new(hmac::HMAC_SHA256, &key),
        }
    }

    /// Whether `peer` may do what changes or reveals something. Names the actor for the record.
    pub(super) fn admit(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<String, Denial> {
        if headers.contains_key(header::ORIGIN) || !fetch_site(headers, &["none"]) {
            return Err(Denial::Page);
        }
        let (from, to) = match peer {
            Peer::Unix { uid: Some(uid) } => return Ok(format!("unix:uid={uid}")),
            Peer::Unix { uid: None } => return Ok("unix".into()),
            Peer::Certificate { subject, to, names } => {
                return by_certificate(&subject, (to, &names), headers);
            }
            Peer::Tcp { from, to } => (from, to),
        };
        if !host_is_ours(headers, Some(to)) {
            return Err(Denial::Host);
        }
        let Some(token) = &self.token else {
            return Err(Denial::SocketOnly);
        };
        // A throttled address is turned away before its token is looked at: guessing must not go on at full speed.
        self.throttle.check(from.ip(), now)?;
        match bearer(headers) {
            None => Err(Denial::TokenMissing),
            Some(presented) if token.matches(presented) => Ok("token".into()),
            Some(_) => {
                self.throttle.count(from.ip(), now);
                Err(Denial::TokenWrong)
            }
        }
    }

    /// Whether a person may see the console, or send a form of it (`sends`). Names the actor for the record.
    pub(super) fn admit_page(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        sends: bool,
        now: UnixTime,
    ) -> Result<String, Denial> {
        let site = if sends {
            origin_is_ours(headers) && fetch_site(headers, &["same-origin"])
        } else {
            (!headers.contains_key(header::ORIGIN) || origin_is_ours(headers))
                && fetch_site(headers, &["none", "same-origin"])
        };
        if !site {
            return Err(Denial::Page);
        }
        let (from, to) = match peer {
            // Forwarded to a port of the visitor's machine: there, too, a name must not stand for somebody else.
            Peer::Unix { uid } => {
                if !host_is_ours(headers, None) {
                    return Err(Denial::Host);
                }
                return Ok(uid.map_or_else(|| "unix".into(), |uid| format!("unix:uid={uid}")));
            }
            Peer::Certificate { subject, to, names } => {
                return by_certificate(&subject, (to, &names), headers);
            }
            Peer::Tcp { from, to } => (from, to),
        };
        if !host_is_ours(headers, Some(to)) {
            return Err(Denial::Host);
        }
        let Some(token) = &self.token else {
            return Err(Denial::SocketOnly);
        };
        self.throttle.check(from.ip(), now)?;
        match password(headers) {
            None => Err(Denial::PasswordMissing),
            Some(presented) if token.matches(&presented) => Ok("console".into()),
            Some(_) => {
                self.throttle.count(from.ip(), now);
                Err(Denial::PasswordWrong)
            }
        }
    }

    /// What a form carries to show that it was on a page of ours, made for this actor by this process.
    pub(super) fn form_proof(&self, actor: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.forms, actor.as_bytes()))
    }

    /// Whether a form was on a page of ours.
    pub(super) fn form_is_ours(&self, actor: &str, proof: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(proof)
            .is_ok_and(|tag| hmac::verify(&self.forms, actor.as_bytes(), &tag).is_ok())
    }

    /// Whether health and metrics may be read: by anybody but a page of another site.
    pub(super) fn admit_reader(headers: &HeaderMap) -> Result<(), Denial> {
        if headers.contains_key(header::ORIGIN) || !fetch_site(headers, &["none", "same-origin"]) {
            return Err(Denial::Page);
        }
        Ok(())
    }
}

/// What a browser says about where a request begins (W3C Fetch Metadata): absent, or one of `allowed`.
fn fetch_site(headers: &HeaderMap, allowed: &[&str]) -> bool {
    headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|value| allowed.iter().any(|word| value == word))
}

/// Exactly one `Host`, which is a loopback address, `localhost`, or the address that was connected to. A name that
/// somebody else resolves to us is none of them: that is how a page of another origin would come in (DNS rebinding).
fn host_is_ours(headers: &HeaderMap, to: Option<SocketAddr>) -> bool {
    let Some(host) = only(headers, header::HOST) else {
        return false;
    };
    let address = host
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| host.parse::<IpAddr>())
        .or_else(|_| {
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            bare.unwrap_or_default().parse::<Ipv6Addr>().map(IpAddr::V6)
        });
    match address {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || to.is_some_and(|to| address == to.ip().to_canonical())
        }
        Err(_) => {
            let name = match host.rsplit_once(':') {
                Some((name, port)) if port.parse::<u16>().is_ok() => name,
                Some(_) | None => host,
            };
            name.eq_ignore_ascii_case("localhost")
        }
    }
}

/// An operator is known by a certificate; a browser sends it by itself, so the host must be ours as well: by address, or by
/// a name that our own certificate has.
fn by_certificate(
    subject: &str,
    (to, names): (SocketAddr, &[Box<str>]),
    headers: &HeaderMap,
) -> Result<String, Denial> {
    let host = only(headers, header::HOST).unwrap_or_default();
    if host_is_ours(headers, Some(to)) || names.iter().any(|name| is_called(host, name)) {
        return Ok(format!("cert:{subject}"));
    }
    Err(Denial::Host)
}

/// Whether a host, with a port or without, is what a certificate is for (RFC 9525 §6.3).
fn is_called(host: &str, name: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.parse::<u16>().is_ok() => bare,
        Some(_) | None => host,
    };
    match name.strip_prefix("*.") {
        Some(suffix) => bare
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(suffix)),
        None => !bare.is_empty() && bare.eq_ignore_ascii_case(name),
    }
}

/// The value of a field that is there exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut fields = headers.get_all(name).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    field.to_str().ok()
}

/// Exactly one `Origin`, which is the host that the request is for (RFC 6454 §7); a proxy in front may have ended TLS.
fn origin_is_ours(headers: &HeaderMap) -> bool {
    let origin = only(headers, header::ORIGIN);
    let host = only(headers, header::HOST);
    let (Some(origin), Some(host)) = (origin, host) else {
        return false;
    };
    let place = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    place.is_some_and(|place| place.eq_ignore_ascii_case(host))
}

/// The password of the one `Authorization` header (RFC 7617 §2); whatever name stands before it.
fn password(headers: &HeaderMap) -> Option<Zeroizing<Vec<u8>>> {
    let field = only(headers, header::AUTHORIZATION)?;
    let (scheme, pair) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case("basic ") {
        return None;
    }
    let pair = Zeroizing::new(STANDARD.decode(pair.trim_ascii()).ok()?);
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(Zeroizing::new(pair.get(colon + 1..)?.to_vec()))
}

/// The token of the one `Authorization` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// How many wrong tokens each address has sent lately: a moment for each, which moves by [`REFILL`] per wrong token and
/// is in the past for whoever has a full allowance.
#[derive(Debug, Default)]
struct Throttle(Mutex<HashMap<IpAddr, UnixTime>>);

impl Throttle {
    fn check(&self, address: IpAddr, now: UnixTime) -> Result<(), Denial> {
        let moments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Self::key(&moments, address);
        let owed = moments.get(&key).map_or(Duration::ZERO, |m| m.since(now));
        let allowance = REFILL * (BURST as u32 - 1);
        if owed <= allowance {
            return Ok(());
        }
        Err(Denial::Throttled(owed - allowance))
    }

    fn count(&self, address: IpAddr, now: UnixTime) {
        let mut moments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ADDRESSES <= moments.len() {
            moments.retain(|_, moment| now < *moment);
        }
        let key = Self::key(&moments, address);
        let moment = moments.entry(key).or_default();
        *moment = (*moment).max(now) + REFILL;
    }

    /// The address; a whole /64 for IPv6, because that is what one sender has; one for all when there are too many.
    fn key(moments: &HashMap<IpAddr, UnixTime>, address: IpAddr) -> IpAddr {
        let key = match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        };
        if moments.contains_key(&key) || moments.len() < ADDRESSES {
            key
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn tcp() -> Peer {
        Peer::Tcp {
            from: "127.0.0.1:50000".parse().unwrap(),
            to: "127.0.0.1:9901".parse().unwrap(),
        }
    }

    fn guard() -> Guard {
        Guard::new(Some(Secret::new("token".into())))
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn with_token(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = headers(fields);
        headers.insert("authorization", HeaderValue::from_static("Bearer token"));
        headers
    }

    #[test]
    fn a_name_that_somebody_else_resolves_is_not_ours() {
        for (host, ours) in [
            ("127.0.0.1:9901", true),
            ("127.0.0.1", true),
            ("127.8.8.8:1", true),
            ("[::1]:9901", true),
            ("[::1]", true),
            ("localhost:9901", true),
            ("LOCALHOST", true),
            ("evil.test:9901", false),
            ("evil.test", false),
            ("localhost.evil.test", false),
            ("127.0.0.1.evil.test", false),
            ("192.0.2.7:9901", false),
            ("0.0.0.0:9901", false),
            ("localhost:9901@evil.test", false),
            ("user@localhost", false),
            ("localhost:99999", false),
            ("", false),
        ] {
            let verdict = guard().admit(tcp(), &with_token(&[("host", host)]), NOW);
            let expected = if ours {
                Ok("token".into())
            } else {
                Err(Denial::Host)
            };
            assert_eq!(verdict, expected, "{host}");
        }
        let twice = with_token(&[("host", "127.0.0.1"), ("host", "127.0.0.1")]);
        assert_eq!(guard().admit(tcp(), &twice, NOW), Err(Denial::Host));
        assert_eq!(
            guard().admit(tcp(), &with_token(&[]), NOW),
            Err(Denial::Host)
        );
    }

    #[test]
    fn the_address_that_was_connected_to_is_ours() {
        let peer = Peer::Tcp {
            from: "192.0.2.9:50000".parse().unwrap(),
            to: "[::ffff:192.0.2.7]:9901".parse().unwrap(),
        };
        let headers = with_token(&[("host", "192.0.2.7:9901")]);
        assert_eq!(guard().admit(peer, &headers, NOW), Ok("token".into()));
    }

    #[test]
    fn an_operator_with_a_certificate_comes_by_no_name_but_ours() {
        let peer = Peer::Certificate {
            subject: "CN=ops".into(),
            to: "192.0.2.7:9901".parse().unwrap(),
            names: ["admin.corp.example".into(), "*.ops.example".into()].into(),
        };
        for (host, ours) in [
            ("admin.corp.example:9901", true),
            ("ADMIN.corp.example", true),
            ("a.ops.example", true),
            ("192.0.2.7:9901", true),
            ("localhost:9901", true),
            ("ops.example", false),
            (".ops.example", false),
            ("a.b.ops.example", false),
            ("evil.test:9901", false),
            ("admin.corp.example.evil.test", false),
            ("", false),
        ] {
            let (asks, sees) = (headers(&[("host", host)]), headers(&[("host", host)]));
            let expected = if ours {
                Ok(String::from("cert:CN=ops"))
            } else {
                Err(Denial::Host)
            };
            assert_eq!(guard().admit(peer.clone(), &asks, NOW), expected, "{host}");
            let page = guard().admit_page(peer.clone(), &sees, false, NOW);
            assert_eq!(page, expected, "{host}");
        }
        let twice = headers(&[("host", "admin.corp.example"), ("host", "evil.test")]);
        assert_eq!(guard().admit(peer, &twice, NOW), Err(Denial::Host));
    }

    #[test]
    fn a_page_is_refused_whatever_it_brings() {
        for field in [
            ("origin", "https://evil.test"),
            ("origin", "http://127.0.0.1:9901"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", ""),
        ] {
            let headers = with_token(&[("host", "127.0.0.1"), field]);
            assert_eq!(
                guard().admit(tcp(), &headers, NOW),
                Err(Denial::Page),
                "{field:?}"
            );
            let unix = Peer::Unix { uid: Some(0) };
            assert_eq!(
                guard().admit(unix, &headers, NOW),
                Err(Denial::Page),
                "{field:?}"
            );
        }
        let typed = with_token(&[("host", "127.0.0.1"), ("sec-fetch-site", "none")]);
        assert_eq!(guard().admit(tcp(), &typed, NOW), Ok("token".into()));
    }

    #[test]
    fn only_the_token_opens_the_tcp_door() {
        let host = ("host", "127.0.0.1");
        for (fields, denial) in [
            (vec![host], Denial::TokenMissing),
            (
                vec![host, ("authorization", "Basic token")],
                Denial::TokenMissing,
            ),
            (
                vec![
                    host,
                    ("authorization", "Bearer token"),
                    ("authorization", "Bearer token"),
                ],
                Denial::TokenMissing,
            ),
            (
                vec![host, ("authorization", "Bearer token2")],
                Denial::TokenWrong,
            ),
            (vec![host, ("authorization", "Bearer ")], Denial::TokenWrong),
            (
                vec![host, ("authorization", "Bearer  token")],
                Denial::TokenWrong,
            ),
        ] {
            let verdict = guard().admit(tcp(), &headers(&fields), NOW);
            assert_eq!(verdict, Err(denial), "{fields:?}");
        }
        let closed = Guard::new(None);
        let verdict = closed.admit(tcp(), &with_token(&[host]), NOW);
        assert_eq!(verdict, Err(Denial::SocketOnly));
    }

    #[test]
    fn the_kernel_names_the_peer_of_the_socket() {
        let verdict = guard().admit(Peer::Unix { uid: Some(7) }, &headers(&[]), NOW);
        assert_eq!(verdict, Ok("unix:uid=7".into()));
    }

    #[test]
    fn guessing_slows_down_to_one_a_second_even_for_the_right_token() {
        let guard = guard();
        let host = ("host", "127.0.0.1");
        let wrong = headers(&[host, ("authorization", "Bearer wrong")]);
        for _ in 0..BURST {
            assert_eq!(guard.admit(tcp(), &wrong, NOW), Err(Denial::TokenWrong));
        }
        let throttled = |verdict| matches!(verdict, Err(Denial::Throttled(_)));
        assert!(throttled(guard.admit(tcp(), &wrong, NOW)));
        assert!(throttled(guard.admit(tcp(), &with_token(&[host]), NOW)));
        let elsewhere = Peer::Tcp {
            from: "192.0.2.9:1".parse().unwrap(),
            to: "127.0.0.1:9901".parse().unwrap(),
        };
        assert!(guard.admit(elsewhere, &with_token(&[host]), NOW).is_ok());
        let later = NOW + REFILL;
        assert_eq!(guard.admit(tcp(), &wrong, later), Err(Denial::TokenWrong));
        assert!(throttled(guard.admit(tcp(), &wrong, later)));
        let much_later = NOW + REFILL * 20;
        assert!(guard.admit(tcp(), &with_token(&[host]), much_later).is_ok());
    }

    #[test]
    fn a_thousand_addresses_do_not_grow_the_memory() {
        let throttle = Throttle::default();
        for n in 0..5_000_u32 {
            throttle.count(IpAddr::V4(n.into()), NOW);
        }
        assert!(throttle.0.lock().unwrap().len() <= ADDRESSES + 1);
    }

    #[test]
    fn a_page_of_another_site_reads_no_metrics() {
        for (fields, allowed) in [
            (vec![], true),
            (vec![("sec-fetch-site", "none")], true),
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("origin", "https://evil.test")], false),
        ] {
            let verdict = Guard::admit_reader(&headers(&fields));
            assert_eq!(verdict.is_ok(), allowed, "{fields:?}");
        }
    }

    fn sent(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut all = headers(&[("host", "127.0.0.1:9901")]);
        all.extend(headers(fields));
        if !all.contains_key("authorization") {
            let password = HeaderValue::from_static("Basic YW55Ym9keTp0b2tlbg==");
            all.insert("authorization", password);
        }
        all
    }

    #[test]
    fn the_page_is_shown_to_whoever_knows_the_token_and_typed_the_address() {
        let guard = guard();
        let seen = |fields: &[_]| guard.admit_page(tcp(), &sent(fields), false, NOW);
        assert_eq!(seen(&[]), Ok("console".into()));
        assert_eq!(seen(&[("sec-fetch-site", "none")]), Ok("console".into()));
        assert_eq!(
            seen(&[("sec-fetch-site", "same-origin")]),
            Ok("console".into())
        );
        for (fields, denial) in [
            (("sec-fetch-site", "cross-site"), Denial::Page),
            (("sec-fetch-site", "same-site"), Denial::Page),
            (("origin", "http://127.0.0.1:9902"), Denial::Page),
            (
                ("authorization", "Basic YW55Ym9keTp3cm9uZw=="),
                Denial::PasswordWrong,
            ),
            (("authorization", "Basic dG9rZW4="), Denial::PasswordMissing),
            (("authorization", "Basic !"), Denial::PasswordMissing),
            (("authorization", "Bearer token"), Denial::PasswordMissing),
        ] {
            assert_eq!(seen(&[fields]), Err(denial), "{fields:?}");
        }
        let foreign = headers(&[
            ("host", "evil.test"),
            ("authorization", "Basic YW55Ym9keTp0b2tlbg=="),
        ]);
        assert_eq!(
            guard.admit_page(tcp(), &foreign, false, NOW),
            Err(Denial::Host)
        );
        let unix = Peer::Unix { uid: Some(7) };
        assert_eq!(
            guard.admit_page(unix.clone(), &foreign, false, NOW),
            Err(Denial::Host)
        );
        let forwarded = headers(&[("host", "localhost:8000")]);
        assert_eq!(
            guard.admit_page(unix, &forwarded, false, NOW),
            Ok("unix:uid=7".into())
        );
    }

    #[test]
    fn a_form_counts_from_our_own_origin_only() {
        let guard = guard();
        let came = |fields: &[_]| guard.admit_page(tcp(), &sent(fields), true, NOW);
        let ours = ("origin", "http://127.0.0.1:9901");
        assert_eq!(came(&[ours]), Ok("console".into()));
        assert_eq!(
            came(&[ours, ("sec-fetch-site", "same-origin")]),
            Ok("console".into())
        );
        for fields in [
            vec![],
            vec![("origin", "null")],
            vec![("origin", "http://evil.test")],
            vec![("origin", "http://127.0.0.1")],
            vec![("origin", "http://127.0.0.1:9902")],
            vec![("origin", "http://127.0.0.1:9901.evil.test")],
            vec![ours, ours],
            vec![ours, ("sec-fetch-site", "same-site")],
            vec![ours, ("sec-fetch-site", "cross-site")],
            vec![ours, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(came(&fields), Err(Denial::Page), "{fields:?}");
        }
    }

    #[test]
    fn a_form_of_another_process_or_actor_is_not_ours() {
        let guard = guard();
        let proof = guard.form_proof("console");
        assert!(guard.form_is_ours("console", &proof));
        assert!(!guard.form_is_ours("unix:uid=0", &proof));
        assert!(!guard.form_is_ours("console", ""));
        assert!(!self::guard().form_is_ours("console", &proof));
    }
}
