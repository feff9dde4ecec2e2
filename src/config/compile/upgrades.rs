//! `routes[].upgrades`: what a connection may be switched to, and what it never is.

use crate::config::compile::context::Context;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;

/// A tunnel of these is a way for requests around every check of requests: HTTP itself, and TLS, in which it would be next.
const NEVER: [&str; 7] = ["h2c", "h2", "h3", "http", "https", "tls", "ssl"];

/// Protocols besides WebSocket that a connection may be switched to.
pub(super) fn upgrades(context: &mut Context<'_>, raw: &Field<List<At<String>>>) -> Vec<Box<str>> {
    let mut named: Vec<Box<str>> = Vec::new();
    for at in raw.get().map_or(&[][..], |list| &list.items) {
        let token = at.value.as_str();
        let (name, version) = token.split_once('/').unwrap_or((token, "1"));
        let is = |other: &&str| name.eq_ignore_ascii_case(other);
        let wrong = if !is_token(name) || !is_token(version) {
            Some((
                "is not the name of a protocol",
                "a name, or a name and a version: `tcp`, `SPDY/3.1` (RFC 9110 §7.8)",
            ))
        } else if is(&"websocket") {
            Some((
                "is checked as a WebSocket, not by its name",
                "say `websocket: true`",
            ))
        } else if NEVER.iter().any(is) {
            Some((
                "is never switched to",
                "requests would pass through it that nobody judges",
            ))
        } else if named.iter().any(|other| other.eq_ignore_ascii_case(token)) {
            Some((
                "is named twice",
                "small and large letters are the same here",
            ))
        } else {
            None
        };
        match wrong {
            Some((wrong, hint)) => {
                let message = format!("`{token}` {wrong}");
                let report = &mut context.report;
                report.error(at.mark, message).value(token).hint(hint);
            }
            None => named.push(token.into()),
        }
    }
    named
}

/// A token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let may_stand = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(may_stand)
}
