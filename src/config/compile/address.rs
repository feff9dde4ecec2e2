//! Addresses in the configuration: URLs, hosts, networks, and how far each may be trusted.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use crate::config::compile::context::Context;
use crate::config::scalar::Network;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;

/// Who is at the other end of a URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    /// A judge of identities: cleartext on loopback only.
    Provider,
    /// Anything else.
    Other,
}

/// Checks an `http` or `https` URL without user, password or fragment.
pub(super) fn url(context: &mut Context<'_>, at: &At<String>, peer: Peer) -> Option<Uri> {
    let text = at.value.as_str();
    let report = &mut context.report;
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        report.blot(at.mark);
        report
            .error(at.mark, "a URL with a user name or password in it")
            .hint("a secret belongs into a file or an environment variable");
        return None;
    }
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    });
    let Some(uri) = uri else {
        report
            .error(at.mark, format!("`{text}` is not an http or https URL"))
            .value(text)
            .hint("scheme, host and path, such as `https://id.corp.example/realms/corp`");
        return None;
    };
    if text.contains('#') {
        report
            .error(at.mark, format!("`{text}` has a fragment"))
            .value(text);
        return None;
    }
    if uri.port().is_some() && uri.port_u16().is_none_or(|port| port == 0) {
        report
            .error(at.mark, format!("`{text}` has no usable port"))
            .value(text);
        return None;
    }
    if peer == Peer::Provider && uri.scheme_str() == Some("http") && !is_loopback(&uri) {
        report
            .error(at.mark, format!("`{text}` is cleartext over a network"))
            .value(text)
            .hint("use https; cleartext to a provider is for loopback only");
        return None;
    }
    Some(uri)
}

/// Whether a URL stays on this machine.
pub(super) fn is_loopback(uri: &Uri) -> bool {
    uri.host().is_some_and(is_loopback_host)
}

/// Whether a host stays on this machine: an address or `localhost`, never another name.
pub(super) fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Networks whose word is believed: nobody may believe everybody.
pub(super) fn trusted(
    context: &mut Context<'_>,
    list: &Field<List<At<Network>>>,
    what: &str,
) -> Vec<IpNet> {
    let Some(list) = list.get() else {
        return Vec::new();
    };
    for network in &list.items {
        let net = network.value.0;
        let least = match net {
            IpNet::V4(_) => 8,
            IpNet::V6(_) => 16,
        };
        if net.prefix_len() < least {
            context
                .report
                .error(network.mark, format!("`{net}` is too wide for {what}"))
                .value(net)
                .hint(format!(
                    "whoever is listed here can say where a request comes from; name the real peers, /{least} at the widest"
                ));
        }
    }
    networks(list)
}

/// Networks that are compared, not believed.
pub(super) fn networks(list: &List<At<Network>>) -> Vec<IpNet> {
    list.items.iter().map(|network| network.value.0).collect()
}

/// Checks a host name as it is compared: canonical, lower case, no port; `*.` in front for one label if `wildcard`.
pub(super) fn host(context: &mut Context<'_>, at: &At<String>, wildcard: bool) -> Option<Box<str>> {
    let text = at.value.as_str();
    let problem = host_problem(text, wildcard);
    if let Some((problem, hint)) = problem {
        context
            .report
            .error(
                at.mark,
                format!("`{text}` is not a host as it is compared: {problem}"),
            )
            .value(text)
            .hint(hint);
        return None;
    }
    Some(text.into())
}

fn host_problem(text: &str, wildcard: bool) -> Option<(&'static str, String)> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(address) if address.to_string() == inner => None,
            Ok(address) => Some((
                "the address is not in its short form",
                format!("write `[{address}]`"),
            )),
            Err(_) => Some((
                "what stands in brackets is no IPv6 address",
                "write `[::1]`".into(),
            )),
        };
    }
    if text.contains("://") || text.contains('/') {
        return Some(("it is a URL", "write the host alone".into()));
    }
    if let Some((name, _)) = text.rsplit_once(':') {
        return Some((
            "it has a port",
            format!("write `{name}`: every port of the host is meant"),
        ));
    }
    if let Some(name) = text.strip_suffix('.') {
        return Some(("it ends with a dot", format!("write `{name}`")));
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some((
            "it has capital letters",
            format!("write `{}`", text.to_ascii_lowercase()),
        ));
    }
    let labels = match text.strip_prefix("*.") {
        Some(rest) if wildcard && rest.contains('.') => rest,
        Some(_) if wildcard => {
            return Some((
                "the wildcard stands for a whole top-level domain",
                "write `*.corp.example`".into(),
            ));
        }
        Some(_) | None => text,
    };
    if labels.contains('*') {
        return Some((
            "a wildcard stands for one whole first label",
            "write `*.corp.example`".into(),
        ));
    }
    if !text.is_ascii() {
        return Some((
            "it has letters outside of ASCII",
            "write its A-label, `xn--…`".into(),
        ));
    }
    let good_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if 253 < labels.len() || !labels.split('.').all(good_label) {
        return Some((
            "a label is empty, too long or has a strange character",
            "letters, digits and `-` between dots".into(),
        ));
    }
    None
}

/// Checks a path pattern: canonical, `*` at most at its end.
pub(super) fn path_pattern(context: &mut Context<'_>, at: &At<String>) -> Option<Box<str>> {
    let text = at.value.as_str();
    let (exact, wild) = text
        .strip_suffix('*')
        .map_or((text, false), |rest| (rest, true));
    let problem = path_problem(exact);
    if let Some((problem, hint)) = problem {
        context
            .report
            .error(at.mark, format!("`{text}` can never match: {problem}"))
            .value(text)
            .hint(hint);
        return None;
    }
    if wild && !exact.ends_with('/') {
        context
            .report
            .warning(
                at.mark,
                format!("`{text}` also matches what merely begins alike, such as `{exact}x`"),
            )
            .value(text)
            .hint(format!("if a directory is meant, write `{exact}/*`"));
    }
    Some(text.into())
}

/// Why a path is not one that a canonical request can have.
fn path_problem(path: &str) -> Option<(&'static str, String)> {
    if !path.starts_with('/') {
        return Some(("it does not begin with `/`", format!("write `/{path}`")));
    }
    if path.contains('*') {
        return Some((
            "`*` stands at the end only",
            "name the paths one by one, or cut after the first `*`".into(),
        ));
    }
    if path.contains("//") {
        return Some((
            "`//` is merged before paths are compared",
            format!("write `{}`", path.replace("//", "/")),
        ));
    }
    if path.contains(['?', '#']) {
        return Some((
            "the query is not part of a path",
            "write the path alone".into(),
        ));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Some((
            "dot segments are refused before paths are compared",
            "write the path that they lead to".into(),
        ));
    }
    if path
        .bytes()
        .any(|b| b <= b' ' || 0x7f <= b || b"\\\"<>^`{|}".contains(&b))
    {
        return Some((
            "a character in it must be percent-encoded",
            "such as `%20` for a space or `%C3%A9` for é".into(),
        ));
    }
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('%') {
        let hex = after.get(..2).filter(|hex| {
            hex.bytes()
                .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
        });
        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return Some((
                "`%` is followed by two hexadecimal digits in capitals",
                "such as `%C3`".into(),
            ));
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Some((
                "unreserved characters are decoded before paths are compared",
                format!("write `{}`", char::from(byte)),
            ));
        }
        if matches!(byte, b'/' | b'\\' | 0) {
            return Some((
                "an encoded slash, backslash or NUL is refused",
                "leave it out".into(),
            ));
        }
        rest = after.get(2..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_as_they_are_compared_are_taken() {
        for good in [
            "crm.corp.example",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "*.corp.example",
            "a_b.example",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(host_problem(good, true), None, "{good}");
        }
        for bad in [
            "CRM.example",
            "crm.example.",
            "crm.example:443",
            "https://crm.example",
            "*",
            "*.com",
            "a.*.b",
            "bücher.example",
            "-a.b",
            "a..b",
            "",
            "[::0001]",
            "a b",
        ] {
            assert!(host_problem(bad, true).is_some(), "{bad}");
        }
    }

    #[test]
    fn only_paths_that_a_request_can_have_are_taken() {
        for good in ["/", "/a/b", "/a%20b", "/%C3%A9", "/a~b", "/a:b@c"] {
            assert_eq!(path_problem(good), None, "{good}");
        }
        for bad in [
            "", "a", "/a//b", "/a/../b", "/.", "/a?b", "/a b", "/é", "/%2f", "/%2F", "/%5C",
            "/%41", "/%c3%a9", "/%", "/%4", "/a*b/", "/%00",
        ] {
            assert!(path_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn names_are_never_taken_for_loopback() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "localhost.example",
            "127.0.0.1.example",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
