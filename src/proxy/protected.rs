//! Header names that no client may send upstream: whatever could be read there as identity.

use std::collections::HashSet;

use http::HeaderName;

/// Names that applications are known to believe. Folded: lower case, words joined by one `-`.
const WELL_KNOWN: &[&str] = &[
    "remote-user", "remote-name", "remote-email", "remote-groups", "remote-group", "remote-ident", "auth-user", "auth-type", "authenticated-user",
    "user", "username", "logon-user", "http-user", "sm-user", "sm-userdn", "sm-serversessionid", "sm-groups", "sm-universalid", "sm-authtype",
    "iv-user", "iv-groups", "iv-creds", "x-user", "x-username", "x-user-id", "x-user-name", "x-user-email", "x-user-groups", "x-email", "x-groups",
    "x-group", "x-roles", "x-role", "x-subject", "x-identity", "x-principal", "x-webauth-user", "x-webauth-email", "x-webauth-name",
    "x-webauth-role", "x-webauth-groups", "x-proxy-user", "x-proxy-role", "x-authenticated-user", "x-authenticated-userid",
    "x-authenticated-groups", "x-authenticated-scope", "x-consumer-id", "x-consumer-username", "x-consumer-custom-id", "x-credential-identifier",
    "x-credential-username", "x-anonymous-consumer", "x-token-subject", "x-vouch-user", "x-id-token", "x-access-token", "x-userinfo",
    "x-endpoint-api-userinfo", "x-jwt-assertion", "x-jwt-payload", "x-ms-client-principal", "x-ms-client-principal-id",
    "x-ms-client-principal-name", "x-ms-client-principal-idp", "cf-access-authenticated-user-email", "cf-access-jwt-assertion",
    "tailscale-user-login", "tailscale-user-name", "x-client-cert", "x-client-certificate", "client-cert", "client-cert-chain", "x-client-verify",
    "x-client-dn", "x-ssl-cert", "ssl-cert", "proxy-authorization", "proxy-authenticate", "proxy", "x-original-user", "x-original-url",
    "x-rewrite-url", "x-original-uri", "x-original-method", "x-http-method-override", "x-http-method", "x-method-override",
];

/// Families of such names.
const FAMILIES: &[&str] = &[
    "x-remote-", "x-auth-", "x-authferry-", "authferry-", "x-forwarded-", "x-oidc-", "oidc-", "x-amzn-oidc-", "x-goog-authenticated-user-",
    "x-goog-iap-", "ssl-client-", "x-ssl-client-", "x-ssl-", "x-pomerium-", "x-authentik-", "x-authelia-", "x-okta-", "shib-", "mellon-", "cas-",
    "x-tls-client-", "x-webauth-", "x-ms-token-", "redirect-",
];

/// The names that are never copied from a client.
#[derive(Debug)]
pub(crate) struct Protected {
    folded: HashSet<Box<str>>,
}

impl Protected {
    /// The well-known ones, and whatever any application of this configuration can emit.
    pub(crate) fn new<'a>(emitted: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let own = emitted.into_iter().map(|name| fold(name.as_str()).into());
        Self { folded: WELL_KNOWN.iter().map(|&name| name.into()).chain(own).collect() }
    }

    /// Whether a client's header of this name stays here. `name` is lower case, as [`HeaderName`] has it.
    pub(crate) fn covers(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        if is_plain(name) {
            return self.covers_folded(name);
        }
        self.covers_folded(&fold(name))
    }

    fn covers_folded(&self, folded: &str) -> bool {
        self.folded.contains(folded) || FAMILIES.iter().any(|family| folded.starts_with(family))
    }
}

/// Whether a name is its own folded form.
fn is_plain(name: &str) -> bool {
    let mut last = b'-';
    for byte in name.bytes() {
        if !byte.is_ascii_alphanumeric() && (byte != b'-' || last == b'-') {
            return false;
        }
        last = byte;
    }
    last != b'-'
}

/// What programs read that put headers into variables (RFC 3875 §4.1.18): lower case, each run of other characters one
/// `-`, none at the ends.
pub(crate) fn fold(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut folded = words.collect::<Vec<_>>().join("-");
    folded.make_ascii_lowercase();
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_of_a_protected_name_is_covered() {
        let protected = Protected::new([&name("x-crm-user")]);
        for spelling in ["X-Crm-User", "x_crm_user", "x.crm.user", "X-Crm_User", "x--crm--user", "x-crm-user-", "x'crm~user", "_x-crm-user"] {
            assert!(protected.covers(&name(spelling)), "{spelling}");
        }
        for spelling in ["REMOTE_USER", "X-Forwarded-Email", "X_AUTH_REQUEST_USER", "SSL_CLIENT_S_DN"] {
            assert!(protected.covers(&name(spelling)), "{spelling}");
        }
        for innocent in ["accept", "x-crm-users", "user-agent", "x-request-id", "content-type", "x-requested-with"] {
            assert!(!protected.covers(&name(innocent)), "{innocent}");
        }
    }

    proptest! {
        #[test]
        fn folding_is_idempotent_and_agrees_with_the_fast_way(text in "[a-z0-9_.~'-]{1,24}") {
            let folded = fold(&text);
            prop_assert_eq!(fold(&folded), folded.clone());
            prop_assert_eq!(is_plain(&text), text == folded && !text.is_empty());
        }
    }
}
