//! Names of headers and cookies: which may be written, and which may carry a credential.

use http::HeaderName;

use crate::config::compile::context::Context;
use crate::config::shape::At;

/// Headers of the connection or of the message itself (RFC 9110 §7.6.1, RFC 9112 §6), and those that the proxy writes.
const NEVER: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "expect",
    "range",
    "cookie",
    "set-cookie",
    "date",
    "via",
    "accept-encoding",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "tracestate",
    "server-timing",
];

/// Small letters; each run of other characters becomes one `-`; none at the ends: how CGI-like programs see names.
pub(super) fn folded(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_ascii_alphanumeric() {
            folded.push(char.to_ascii_lowercase());
        } else if !folded.is_empty() && !folded.ends_with('-') {
            folded.push('-');
        }
    }
    folded.truncate(folded.trim_end_matches('-').len());
    folded
}

/// A header that is written towards an application.
pub(super) fn written(context: &mut Context<'_>, at: &At<String>) -> Option<HeaderName> {
    let name = parse(context, at)?;
    let folded = folded(&at.value);
    if NEVER.contains(&folded.as_str()) {
        context
            .report
            .error(at.mark, format!("`{}` is not a header that a rule may write", at.value))
            .value(&at.value)
            .hint("headers of the connection, of the message and of the proxy itself are not for identity");
        return None;
    }
    Some(name)
}

/// A header that carries a credential.
pub(super) fn credential_header(context: &mut Context<'_>, at: &At<String>) -> Option<HeaderName> {
    let name = parse(context, at)?;
    let folded = folded(&at.value);
    if NEVER.contains(&folded.as_str()) || folded == "authorization" {
        context
            .report
            .error(at.mark, format!("`{}` cannot carry an API key", at.value))
            .value(&at.value)
            .hint("a header of its own, such as `X-Api-Key`");
        return None;
    }
    Some(name)
}

/// A header whose value is compared.
pub(super) fn compared(context: &mut Context<'_>, at: &At<String>) -> Option<HeaderName> {
    parse(context, at)
}

fn parse(context: &mut Context<'_>, at: &At<String>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(at.value.as_bytes()).ok();
    let name = name.filter(|_| at.value.len() <= 128 && !folded(&at.value).is_empty());
    if name.is_none() {
        context
            .report
            .error(
                at.mark,
                format!("`{}` is not the name of a header", at.value),
            )
            .value(&at.value)
            .hint("letters, digits and `-`, such as `X-Remote-User`");
    }
    name
}

/// The name of a cookie (RFC 6265 §4.1.1).
pub(super) fn cookie_name(context: &mut Context<'_>, at: &At<String>) -> bool {
    // A cookie name is a token, as a header name is.
    let good = HeaderName::from_bytes(at.value.as_bytes()).is_ok() && at.value.len() <= 128;
    if !good {
        context
            .report
            .error(
                at.mark,
                format!("`{}` is not the name of a cookie", at.value),
            )
            .value(&at.value);
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_as_cgi_programs_see_them() {
        for name in [
            "X-Remote-User",
            "x_remote_user",
            "X.Remote..User",
            "-X-Remote-User-",
        ] {
            assert_eq!(folded(name), "x-remote-user");
        }
        assert_eq!(folded("---"), "");
    }
}
