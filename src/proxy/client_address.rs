//! The address of the client behind trusted proxies. Nobody else is believed.

use std::net::IpAddr;
use std::net::SocketAddr;

use http::HeaderMap;
use http::HeaderName;
use http::header;
use ipnet::IpNet;

use crate::proxy::canonical::BadRequest;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address a request came from: the peer's, or, if that is trusted, the last one in `X-Forwarded-For` or `Forwarded`
/// (RFC 7239) that is not. IPv4-mapped addresses are IPv4.
///
/// Counted from the right, because everything left of the first stranger was written by the stranger.
///
/// # Errors
///
/// [`BadRequest::Forwarding`] when a trusted peer sends a list whose deciding part is not an address, or two lists that
/// do not agree: whichever we chose, the client might have written it.
pub(crate) fn client_address(
    peer: SocketAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Result<IpAddr, BadRequest> {
    let peer = peer.ip().to_canonical();
    if !is_trusted(peer, trusted) {
        return Ok(peer);
    }
    let x_forwarded_for = walk(headers, &X_FORWARDED_FOR, list, plain, trusted)?;
    let forwarded = walk(
        headers,
        &header::FORWARDED,
        quoting_list,
        forwarded_for,
        trusted,
    )?;
    match (x_forwarded_for, forwarded) {
        (None, None) => Ok(peer),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (Some(one), Some(other)) if one == other => Ok(one),
        (Some(_), Some(_)) => Err(BadRequest::Forwarding),
    }
}

/// Whether `address` is one of the trusted peers.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// `None`: the header is absent. Otherwise the first stranger from the right, or the leftmost when all are trusted.
fn walk(
    headers: &HeaderMap,
    name: &HeaderName,
    elements: fn(&str) -> Option<Vec<&str>>,
    read: fn(&str) -> Option<IpAddr>,
    trusted: &[IpNet],
) -> Result<Option<IpAddr>, BadRequest> {
    let mut farthest = None;
    for value in headers.get_all(name).iter().rev() {
        let value = value.to_str().ok().ok_or(BadRequest::Forwarding)?;
        for element in elements(value)
            .ok_or(BadRequest::Forwarding)?
            .into_iter()
            .rev()
        {
            let address = read(element.trim_matches([' ', '\t'])).ok_or(BadRequest::Forwarding)?;
            if !is_trusted(address, trusted) {
                return Ok(Some(address));
            }
            farthest = Some(address);
        }
    }
    Ok(farthest)
}

/// Elements between commas.
#[expect(clippy::unnecessary_wraps, reason = "stands beside `quoting_list`")]
fn list(value: &str) -> Option<Vec<&str>> {
    Some(value.split(',').collect())
}

/// Elements between commas that are not inside quotes. `None` when a quote stays open or something is escaped: then a
/// client could swallow what a proxy appended.
fn quoting_list(value: &str) -> Option<Vec<&str>> {
    let mut quoted = false;
    let elements = value
        .split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .collect();
    if quoted || value.contains('\\') {
        None
    } else {
        Some(elements)
    }
}

/// An address, in brackets or not, with a port or not.
fn plain(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner
            .parse::<IpAddr>()
            .ok()
            .map(|address| address.to_canonical());
    }
    text.parse::<SocketAddr>()
        .ok()
        .map(|address| address.ip().to_canonical())
}

/// The `for` parameter of an element of `Forwarded`; exactly one.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut nodes = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim_matches([' ', '\t'])
            .eq_ignore_ascii_case("for")
            .then_some(value)
    });
    let (node, more) = (nodes.next()?, nodes.next());
    let node = node.trim_matches([' ', '\t']);
    let bare = match node.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => node,
    };
    if more.is_some() { None } else { plain(bare) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets() -> Vec<IpNet> {
        vec![
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8:1::/48".parse().unwrap(),
        ]
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[track_caller]
    fn from(peer: &str, pairs: &[(&'static str, &str)], expected: Result<&str, BadRequest>) {
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        let expected = expected.map(|address| address.parse().unwrap());
        assert_eq!(client_address(peer, &headers(pairs), &nets()), expected);
    }

    #[test]
    fn a_stranger_is_not_believed() {
        from(
            "192.0.2.1",
            &[("x-forwarded-for", "10.0.0.1")],
            Ok("192.0.2.1"),
        );
        from(
            "192.0.2.1",
            &[("x-forwarded-for", "garbage")],
            Ok("192.0.2.1"),
        );
        let peer = "192.0.2.1:1".parse().unwrap();
        let claims = headers(&[("x-forwarded-for", "10.0.0.1")]);
        assert_eq!(
            client_address(peer, &claims, &[]),
            Ok("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn the_last_stranger_from_the_right_is_the_client() {
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "6.6.6.6, 192.0.2.9, 10.0.0.2")],
            Ok("192.0.2.9"),
        );
        from(
            "10.0.0.1",
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-for", "192.0.2.9"),
            ],
            Ok("192.0.2.9"),
        );
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")],
            Ok("10.0.0.3"),
        );
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "unknown, 192.0.2.9")],
            Ok("192.0.2.9"),
        );
        from("10.0.0.1", &[], Ok("10.0.0.1"));
    }

    #[test]
    fn forwarded_is_read_like_it() {
        from(
            "10.0.0.1",
            &[(
                "forwarded",
                "for=6.6.6.6, for=192.0.2.9;proto=https;by=10.0.0.1",
            )],
            Ok("192.0.2.9"),
        );
        from(
            "10.0.0.1",
            &[("forwarded", "For=\"[2001:db8::9]:4711\"")],
            Ok("2001:db8::9"),
        );
        from(
            "10.0.0.1",
            &[("forwarded", "by=\"a,b\";for=192.0.2.9")],
            Ok("192.0.2.9"),
        );
        from(
            "10.0.0.1",
            &[("forwarded", "for=192.0.2.9;for=192.0.2.8")],
            Err(BadRequest::Forwarding),
        );
        from(
            "10.0.0.1",
            &[("forwarded", "proto=https")],
            Err(BadRequest::Forwarding),
        );
    }

    #[test]
    fn doubt_is_refused() {
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "192.0.2.9, unknown")],
            Err(BadRequest::Forwarding),
        );
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "")],
            Err(BadRequest::Forwarding),
        );
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "192.0.2.9,")],
            Err(BadRequest::Forwarding),
        );
        from(
            "10.0.0.1",
            &[
                ("x-forwarded-for", "192.0.2.9"),
                ("forwarded", "for=192.0.2.8"),
            ],
            Err(BadRequest::Forwarding),
        );
        from(
            "10.0.0.1",
            &[
                ("x-forwarded-for", "192.0.2.9"),
                ("forwarded", "for=192.0.2.9"),
            ],
            Ok("192.0.2.9"),
        );
    }

    #[test]
    fn mapped_addresses_are_what_they_map() {
        from(
            "::ffff:10.0.0.1",
            &[("x-forwarded-for", "::ffff:192.0.2.9")],
            Ok("192.0.2.9"),
        );
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "[::ffff:192.0.2.9]:80")],
            Ok("192.0.2.9"),
        );
        from(
            "10.0.0.1",
            &[("x-forwarded-for", "fe80::1%eth0")],
            Err(BadRequest::Forwarding),
        );
    }

    proptest! {
        /// What a client writes to the left of what a trusted proxy wrote never becomes its address.
        #[test]
        fn clients_cannot_choose_their_address(lie in "[ -~]{0,40}|for=6[.]6[.]6[.]6;[x=\"\\\\, ]{0,6}") {
            let peer = "10.0.0.1:1".parse().unwrap();
            let right = Ok("192.0.2.9".parse().unwrap());
            let plain = headers(&[("x-forwarded-for", &format!("{lie}, 192.0.2.9, 10.0.0.2"))]);
            prop_assert_eq!(client_address(peer, &plain, &nets()), right);
            let quoting = headers(&[("forwarded", &format!("{lie}, for=192.0.2.9, for=\"10.0.0.2:80\""))]);
            let answer = client_address(peer, &quoting, &nets());
            prop_assert!(answer == right || answer == Err(BadRequest::Forwarding), "{answer:?}");
        }
    }
}
