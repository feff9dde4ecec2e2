//! Names of fields that never travel from a client to an upstream, in any spelling.
//!
//! Upstreams of the CGI family read `X-Auth-User`, `x_auth_user` and `X.Auth.User` as one variable (RFC 3875 §4.1.18), so
//! names are folded before they are compared.

use std::net::IpAddr;

use http::HeaderName;
use http::header;
use ipnet::IpNet;

use crate::rollout::Cohort;

/// Folded names are compared on the stack up to this length; no built-in name is longer.
const INLINE: usize = 64;

/// Identity, forwarding, framing and hop-by-hop names, folded. Sorted by what they are for.
const NAMES: &[&str] = &[
    // Framing and hop-by-hop (RFC 9110 §7.6.1): written by us or by nobody. Look-alikes fold to them.
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    // Handled by name in `upstream_head`; here for their look-alikes.
    "authorization",
    "cookie",
    "cookie2",
    "dpop",
    "host",
    // A WebSocket handshake is written by `upgrade` only.
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    // Where a request came from and went to: written by `forwarded`.
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "http-client-ip",
    "remote-addr",
    "remote-host",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    // The rules judge the method of the request line; a framework that heeds one of these would run another.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-override-url",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-script-name",
    // What identity-aware proxies and single sign-on agents write.
    "auth-type",
    "auth-user",
    "client-cert",
    "client-cert-chain",
    "ct-remote-user",
    "eppn",
    "http-remote-user",
    "proxy-user",
    "remote-email",
    "remote-group",
    "remote-groups",
    "remote-name",
    "remote-user",
    "smuser",
    "smserversessionid",
    "teleport-jwt-assertion",
    "x-access-token-subject",
    "x-anonymous-consumer",
    "x-apigateway-api-userinfo",
    "x-arr-clientcert",
    "x-auth",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-email",
    "x-endpoint-api-userinfo",
    "x-goog-iap-jwt-assertion",
    "x-group",
    "x-groups",
    "x-id-token",
    "x-logged-in-user",
    "x-proxy-remote-user",
    "x-proxy-user",
    "x-remote",
    "x-role",
    "x-roles",
    "x-token-subject",
    "x-trusted-user",
    "x-user",
    "x-user-email",
    "x-user-groups",
    "x-user-id",
    "x-user-name",
    "x-user-roles",
    "x-userinfo",
    "x-username",
    // The WebSphere plug-in's names; the leading `$` is folded away.
    "wsat",
    "wscc",
    "wsis",
    "wspc",
    "wsra",
    "wsrh",
    "wsru",
    "wssc",
    "wssn",
    "wssp",
    "wsst",
];

/// Beginnings of folded names: every name that begins so is protected.
const PREFIXES: &[&str] = &[
    "authferry-",
    "cf-access-",
    "iv-",
    "oam-",
    "oidc-",
    "osso-",
    "remote-user-",
    "shib-",
    "sm-",
    "ssl-client-",
    "tailscale-",
    "wl-proxy-",
    "x-amzn-oidc-",
    "x-auth-",
    "x-authentik-",
    "x-authenticated-",
    "x-authferry",
    "x-client-cert",
    "x-envoy-",
    "x-forwarded-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-original-",
    "x-pomerium-",
    "x-remote-",
    "x-ssl-",
    "x-tls-client-",
    "x-token-user-",
    "x-vouch-",
    "x-webauth-",
];

/// The names that no client may say: a built-in list, and every name that any loaded application can be sent.
#[derive(Clone, Debug)]
pub(crate) struct Protected {
    /// Open addressing, a power of two, at most half full: the folded names.
    table: Box<[Option<Box<str>>]>,
    /// Whether a rule emits a name that [`is_plain`] would let pass without a look.
    shadows_plain: bool,
}

impl Protected {
    /// The built-in list and `emitted`: identity, static and assertion headers of all applications.
    pub(crate) fn new<'a>(emitted: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let mut shadows_plain = false;
        let mut names: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
        for name in emitted {
            shadows_plain |= PLAIN
                .iter()
                .any(|plain| fold(plain.as_str()) == fold(name.as_str()));
            names.push(fold(name.as_str()));
        }
        let size = (names.len() * 2).next_power_of_two();
        let mut table: Vec<Option<Box<str>>> = vec![None; size];
        for name in names {
            let mut at = position(hash(name.as_bytes()), size);
            while let Some(slot) = table.get_mut(at) {
                match slot {
                    Some(taken) if **taken == *name => break,
                    Some(_) => at = (at + 1) & (size - 1),
                    None => {
                        *slot = Some(name.into());
                        break;
                    }
                }
            }
        }
        Self {
            table: table.into(),
            shadows_plain,
        }
    }

    /// Whether `name` must not come from a client. Does not allocate for names of up to 64 bytes.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        if !self.shadows_plain && is_plain(name) {
            return false;
        }
        folded(name, |folded| self.has_folded(folded))
    }

    fn has_folded(&self, folded: &[u8]) -> bool {
        let mut at = position(hash(folded), self.table.len());
        while let Some(Some(taken)) = self.table.get(at) {
            if taken.as_bytes() == folded {
                return true;
            }
            at = (at + 1) & (self.table.len() - 1);
        }
        begins_protected(folded)
    }
}

/// Headers that steer a login where listed peers set them. From anybody else they would tell the application what nobody
/// vouches for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steering {
    /// Folded names, and who may set each.
    names: Vec<(Box<str>, Box<[IpNet]>)>,
}

impl Steering {
    /// The names that `cohorts` look at; `None`: no name.
    pub(crate) fn of<'a>(cohorts: impl IntoIterator<Item = &'a Cohort>) -> Option<Self> {
        let mut names = Vec::new();
        for cohort in cohorts {
            cohort.headers(&mut |name, peers| names.push((fold(name).into(), peers.into())));
        }
        (!names.is_empty()).then_some(Self { names })
    }

    /// Whether `name` does not travel when `peer` sent it: some cohort looks at it and does not list this peer.
    pub(crate) fn hides(&self, name: &HeaderName, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        folded(name, |folded| {
            self.names.iter().any(|(steering, peers)| {
                steering.as_bytes() == folded
                    && !peers.iter().any(|network| network.contains(&peer))
            })
        })
    }
}

fn begins_protected(folded: &[u8]) -> bool {
    // Most names of clients begin with another letter than any prefix, or are `sec-…`.
    let may = matches!(
        folded.first(),
        Some(b'a' | b'c' | b'i' | b'o' | b'r' | b's' | b't' | b'w' | b'x')
    );
    may && !folded.starts_with(b"sec-")
        && PREFIXES
            .iter()
            .any(|prefix| folded.starts_with(prefix.as_bytes()))
}

/// The spelling in which names are compared: lower case, each run of non-alphanumerics one `-`, outer `-` cut.
pub(crate) fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            folded.push(char::from(byte.to_ascii_lowercase()));
        } else if !folded.is_empty() && !folded.ends_with('-') {
            folded.push('-');
        }
    }
    if folded.ends_with('-') {
        folded.pop();
    }
    folded
}

/// What `look` says of the folded spelling. Does not allocate for names of up to 64 bytes.
fn folded(name: &HeaderName, look: impl Fn(&[u8]) -> bool) -> bool {
    let mut buffer = [0_u8; INLINE];
    match fold_into(name.as_str(), &mut buffer) {
        Some(folded) => look(folded),
        None => look(fold(name.as_str()).as_bytes()),
    }
}

/// [`fold`] without an allocation; `None` when the result does not fit.
fn fold_into<'a>(name: &str, buffer: &'a mut [u8; INLINE]) -> Option<&'a [u8]> {
    let mut length = 0;
    let mut gap = false;
    for byte in name.bytes() {
        if !byte.is_ascii_alphanumeric() {
            gap = true;
            continue;
        }
        if gap && length != 0 {
            *buffer.get_mut(length)? = b'-';
            length += 1;
        }
        gap = false;
        *buffer.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    buffer.get(..length)
}

/// FNV-1a, 32 bits: names are short, and an attacker gains nothing from collisions in a table he cannot add to.
fn hash(folded: &[u8]) -> u32 {
    folded.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Where a hash begins to look. `size` is a power of two.
fn position(hash: u32, size: usize) -> usize {
    usize::try_from(hash ^ (hash >> 15)).unwrap_or(0) & (size - 1)
}

macro_rules! plain {
    ($($name:ident)*) => {
        /// Standard names that say nothing about who asks: let through without folding.
        const PLAIN: &[HeaderName] = &[$(header::$name),*];

        /// Whether `name` is one of [`PLAIN`]; compares one discriminant.
        const fn is_plain(name: &HeaderName) -> bool {
            matches!(*name, $(header::$name)|*)
        }
    };
}

plain! {
    ACCEPT ACCEPT_ENCODING ACCEPT_LANGUAGE ACCESS_CONTROL_REQUEST_HEADERS ACCESS_CONTROL_REQUEST_METHOD CACHE_CONTROL
    CONTENT_DISPOSITION CONTENT_ENCODING CONTENT_LANGUAGE CONTENT_TYPE DATE DNT IF_MATCH IF_MODIFIED_SINCE IF_NONE_MATCH IF_RANGE
    IF_UNMODIFIED_SINCE ORIGIN PRAGMA RANGE REFERER UPGRADE_INSECURE_REQUESTS USER_AGENT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_of_an_identity_header_is_protected() {
        let protected = Protected::new([&name("x-crm-login")]);
        for spelling in [
            "X-Remote-User",
            "x_remote_user",
            "X.Remote.User",
            "X-Remote_User",
            "X~Remote~User",
            "X'Remote'User",
            "X-Remote-User-",
            "-X-Remote-User",
            "X--Remote--User",
            "REMOTE_USER",
            "Remote-User",
            "SM_USER",
            "X-WEBAUTH-USER",
            "X-Forwarded-User",
            "X_Forwarded_Email",
            "X-Forwarded-Preferred-Username",
            "OIDC_CLAIM_sub",
            "SSL_CLIENT_S_DN",
            "X-Auth-Request-User",
            "X-Auth-Subject",
            "X-Authferry-Debug",
            "X-User",
            "X-Email",
            "X-Groups",
            "X-Amzn-Oidc-Data",
            "X-Goog-Authenticated-User-Email",
            "X-MS-CLIENT-PRINCIPAL",
            "X-MS-CLIENT-PRINCIPAL-NAME",
            "Cf-Access-Jwt-Assertion",
            "X-SSL-Client-CN",
            "X-Client-Cert",
            "X-Forwarded-Client-Cert",
            "Proxy-Authorization",
            "$WSRU",
            "iv-user",
            "X-CRM-Login",
            "x_crm_login",
            "x.crm-login_",
        ] {
            assert!(protected.contains(&name(spelling)), "{spelling}");
        }
    }

    #[test]
    fn framing_and_forwarding_are_protected_in_disguise_too() {
        let protected = Protected::new([]);
        for spelling in [
            "content_length",
            "Transfer.Encoding",
            "transfer-encoding_",
            "Keep_Alive",
            "Expect",
            "TE",
            "Upgrade",
            "Host_",
            "Cookie_",
            "Author-ization-",
            "X-Forwarded-Prefix",
            "x_forwarded_proto",
            "X-Real-IP",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "x_http_method_override",
            "X.Http.Method",
            "X-Method-Override-",
            "X-Envoy-Original-Path",
            "Forwarded",
            "Sec-WebSocket-Key",
        ] {
            let expected = spelling != "Author-ization-";
            assert_eq!(protected.contains(&name(spelling)), expected, "{spelling}");
        }
    }

    #[test]
    fn what_browsers_and_programs_send_passes() {
        let protected = Protected::new([]);
        for spelling in [
            "accept",
            "user-agent",
            "sec-fetch-mode",
            "sec-ch-ua-platform",
            "x-requested-with",
            "x-csrf-token",
            "traceparent",
            "grpc-timeout",
            "priority",
            "x-api-version",
            "if-none-match",
            "range",
            "origin",
            "soapaction",
            "x-authorize-me",
        ] {
            assert!(!protected.contains(&name(spelling)), "{spelling}");
        }
    }

    #[test]
    fn a_rule_may_take_a_plain_standard_name() {
        let protected = Protected::new([&header::USER_AGENT]);
        assert!(protected.contains(&header::USER_AGENT));
        assert!(protected.contains(&name("user_agent")));
        assert!(!protected.contains(&header::ACCEPT));
    }

    #[test]
    fn a_long_name_of_a_rule_is_protected() {
        let long = "x-".to_owned() + &"a".repeat(200);
        let protected = Protected::new([&name(&long)]);
        assert!(protected.contains(&name(&long)));
        assert!(protected.contains(&name(&long.replace('-', "_"))));
        assert!(!protected.contains(&name(&(long + "b"))));
    }

    #[test]
    fn the_lists_are_written_as_they_fold() {
        for listed in NAMES {
            assert_eq!(fold(listed), *listed);
        }
        for prefix in PREFIXES {
            assert_eq!(fold(prefix), prefix.trim_end_matches('-'));
            assert!(
                begins_protected(format!("{prefix}x").as_bytes()),
                "{prefix}"
            );
        }
    }

    proptest! {
        /// Folding is idempotent, and both ways to fold agree.
        #[test]
        fn folding_is_idempotent(text in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}") {
            let folded = fold(&text);
            prop_assert_eq!(&fold(&folded), &folded);
            let mut buffer = [0; INLINE];
            if let Some(inline) = fold_into(&text, &mut buffer) {
                prop_assert_eq!(inline, folded.as_bytes());
            } else {
                prop_assert!(INLINE < folded.len());
            }
        }

        /// However separators and case are chosen, a name that a rule emits stays protected.
        #[test]
        fn no_spelling_escapes(words in proptest::collection::vec("[a-z0-9]{1,6}", 1..6), separators in "[!#$%&'*+.^_`|~-]{8}", upper in any::<u64>()) {
            let protected = Protected::new([&name(&words.join("-"))]);
            let mut spelt = String::new();
            for (word, separator) in words.iter().zip(separators.chars()) {
                spelt.push_str(word);
                spelt.push(separator);
            }
            let spelt: String = spelt.chars().enumerate().map(|(i, c)| if upper >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
            prop_assert!(protected.contains(&name(&spelt)));
        }
    }
}
