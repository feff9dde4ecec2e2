//! How a directory is reached: where it is, and which connections to it are kept.

use std::time::Duration;

use crate::config::compile::address::is_loopback_host;
use crate::config::compile::context::Context;
use crate::config::compile::providers::whole;
use crate::config::compile::tokens::span;
use crate::config::raw::RawLdapPool;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::providers::settings;

/// `ldaps://host[:port]`, or `ldap://` with StartTLS or on loopback.
pub(super) fn server(context: &mut Context<'_>, at: &At<String>, starttls: bool) -> Option<String> {
    let text = at.value.as_str();
    let authority = |rest: &str| rest.trim_end_matches('/').to_owned();
    let (tls, authority) = match text.split_once("://") {
        Some(("ldaps", rest)) => (true, authority(rest)),
        Some(("ldap", rest)) => (false, authority(rest)),
        Some(_) | None => {
            context
                .report
                .error(at.mark, format!("`{text}` is not an LDAP URL"))
                .value(text)
                .hint("such as `ldaps://ad.corp.example:636`");
            return None;
        }
    };
    if authority.contains('@') {
        context.report.blot(at.mark);
        context
            .report
            .error(at.mark, "a URL with a user name or password in it");
        return None;
    }
    let parsed = authority.parse::<http::uri::Authority>().ok();
    let Some(parsed) = parsed.filter(|parsed| !parsed.host().is_empty()) else {
        context
            .report
            .error(at.mark, format!("`{text}` is not an LDAP URL"))
            .value(text)
            .hint(
                "a host and a port, without path or query, such as `ldaps://ad.corp.example:636`",
            );
        return None;
    };
    if tls && starttls {
        context
            .report
            .error(
                at.mark,
                "`ldaps://` has TLS already: `starttls` is for `ldap://`",
            )
            .value(text);
        return None;
    }
    if !tls && !starttls && !is_loopback_host(parsed.host()) {
        context
            .report
            .error(
                at.mark,
                format!("`{text}` sends passwords in cleartext over a network"),
            )
            .value(text)
            .hint("use `ldaps://`, or add `starttls: true`");
        return None;
    }
    Some(text.to_owned())
}

/// Which connections are kept.
pub(super) fn pool(context: &mut Context<'_>, raw: &Field<RawLdapPool>) -> settings::LdapPool {
    let mut pool = settings::LdapPool::default();
    if let Some(raw) = raw.get() {
        let (second, longest) = (Duration::from_secs(1), Duration::from_secs(600));
        span(
            context,
            &raw.idle_for,
            second,
            longest,
            "from `1s` to `10m`",
        );
        pool.idle = whole(context, &raw.idle, (0, 256), pool.idle);
        pool.idle_for = raw.idle_for.or(Span(pool.idle_for)).0;
    }
    pool
}
