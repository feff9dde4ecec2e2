//! What is kept of people, where, and for how long: as `retention` and the rest of the configuration have it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::app::catalog::span;
use crate::config::settings::Settings;
use crate::issuer::settings::Grant;
use crate::session::KEPT_FOR;

/// What is noted of tokens, for the counts of revocations.
const OUT: &str = "by what each of them can be revoked: digests of account, person and client";

/// The rows of the table.
pub(super) fn kept(out: &mut String, settings: &Settings) {
    out.push_str("\n| Stored | Of people | For how long |\n|---|---|---|\n");
    let retention = &settings.retention;
    let last = |of: Option<Duration>| of.map_or_else(|| "for good".to_owned(), span);
    let sessions = &settings.sessions;
    let mut rows = vec![
        (
            "sessions",
            "the attributes of the person, sealed",
            format!(
                "until {} without use (gone within an hour), or {} after the login",
                span(sessions.idle),
                span(sessions.absolute)
            ),
        ),
        (
            "sessions that are over",
            "whose they were, as their provider names them, sealed",
            format!("{} after the login", span(sessions.absolute)),
        ),
        (
            "pins",
            "that a pseudonym has moved",
            format!("{} after the last login", span(retention.pins)),
        ),
        (
            "stays",
            "of a pseudonym that has moved: since when, its classes of assurance there, whether its password was changed since, whether it lets others act for it",
            format!(
                "{} after the last login that said more",
                span(retention.pins)
            ),
        ),
        (
            "facts",
            "who was let in lately: the person, groups, address, in memory alone",
            span(retention.facts),
        ),
        (
            "legacy usage",
            "pseudonyms that still come with credentials of an old provider",
            span(retention.legacy_usage),
        ),
        (
            "revocations",
            "what was revoked, sealed; digests of what it speaks about",
            if retention.revocations.is_zero() {
                "as long as what it speaks about may live".to_owned()
            } else {
                format!("{} at least", span(retention.revocations))
            },
        ),
        (
            "browsers",
            "digests of who signed in last and of what they call themselves, sealed, in a cookie of the browser alone",
            format!("{} after the last sign-in", span(retention.logins.browsers)),
        ),
        (
            "ledger",
            "who decided what and why; people as pseudonyms, operators by name",
            format!("for good, in `{}`", settings.audit.file.display()),
        ),
    ];
    if settings.providers.iter().any(signs_in) {
        let what = "the provider's own refresh and ID tokens, by which they are renewed and signed out of, sealed under the cookie";
        rows.push((
            "tokens of sessions",
            what,
            "as long as the sessions".to_owned(),
        ));
        let what = "where somebody goes on to who signs out at two providers, with the ID token for that, sealed with what their browser has";
        rows.push((
            "sign-outs under way",
            what,
            format!("{}, or until they are there", span(KEPT_FOR)),
        ));
    }
    let mut routes = settings.apps.iter().flat_map(|app| &app.routes);
    if routes.any(|route| route.preserve_post.is_some()) {
        let what = "what somebody typed in when their session was over, sealed with what their browser has";
        rows.push((
            "kept forms",
            what,
            format!(
                "{}, or until it is given back",
                span(retention.logins.forms)
            ),
        ));
    }
    if settings.canonical.is_some() {
        let what = "which accounts are one person's, as their providers name them";
        let when = match retention.links {
            Some(links) => format!("{} after the person was seen last", span(links)),
            None => last(None),
        };
        rows.push(("links", what, when));
        let doubts = retention.conflicts;
        let most = retention.links.map_or(doubts, |links| links.min(doubts));
        rows.push((
            "conflicts",
            "digests of accounts of which it is in doubt whose they are, and of whom they would have been",
            format!("{} after they were refused last, or until that is decided", span(most)),
        ));
    }
    if settings.providers.iter().any(provisions) {
        let what = "whose password is judged by the new provider, as digests of names";
        let when = match retention.passwords {
            Some(passwords) => format!("{} after it was used last", span(passwords)),
            None => last(None),
        };
        rows.push(("passwords", what, when));
    }
    if !settings.shadow.is_empty() || !settings.exchanges.is_empty() {
        let what = "in what two sides differ about a pseudonym; values as keyed hashes, names of groups and scopes";
        rows.push(("findings", what, span(retention.findings)));
    }
    if let Some(issuer) = &settings.issuer {
        if !issuer.audiences.is_empty() {
            let what = if issuer.presented.is_empty() {
                "which client got a token for another one, and by what that can be revoked, sealed under the token"
            } else {
                "which client got a token for another one, by what that can be revoked, and, where it is a credential here, whose it is and their attributes, sealed under the token"
            };
            let until = "ten minutes longer than it is good".to_owned();
            rows.push(("tokens that clients got for others", what, until));
            rows.push((
                "tokens for others that are out",
                OUT,
                "as long as they are good".to_owned(),
            ));
        }
        let refresh = issuer.clients.iter();
        let longest = refresh
            .filter(|client| client.grants.contains(&Grant::RefreshToken))
            .map(|client| client.refresh.max)
            .max();
        if let Some(longest) = longest {
            let what =
                "account and person of each refresh token, and the provider's own, sealed under it";
            rows.push(("refresh tokens", what, format!("{} at most", span(longest))));
            rows.push((
                "refresh tokens that are out",
                OUT,
                "as long as they are good".to_owned(),
            ));
        }
    }
    for (name, what, when) in rows {
        let _written = writeln!(out, "| {name} | {what} | {when} |");
    }
}

/// Whether people sign in there, in sessions of ours.
fn signs_in(provider: &crate::providers::settings::Settings) -> bool {
    use crate::providers::settings::KindSettings;
    match &provider.kind {
        KindSettings::Oidc(oidc) => oidc.client.is_some(),
        _ => false,
    }
}

fn provisions(provider: &crate::providers::settings::Settings) -> bool {
    use crate::providers::settings::KindSettings;
    match &provider.kind {
        KindSettings::Oidc(oidc) => oidc.provisioning.is_some(),
        _ => false,
    }
}
