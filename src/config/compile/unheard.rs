//! Keys that nothing would heed where they stand: a setting without effect would promise what does not happen.

use crate::config::compile::context::Context;
use crate::config::raw::AccessLogTo;
use crate::config::raw::RawConfig;
use crate::config::raw::RawJwt;
use crate::config::raw::RawProvider;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::tree::Mark;

/// Reports keys about calls where none are made.
pub(super) fn of_provider(context: &mut Context<'_>, raw: &RawProvider) {
    if let Some(raw) = raw.jwt.get() {
        of_keys_at_hand(context, raw);
    }
    if let Some(raw) = raw.ldap.get() {
        of_cleartext(context, (&raw.url, &raw.starttls), raw.ca.mark());
    }
}

/// Keys from a file, or in the configuration itself: nobody is called for them.
fn of_keys_at_hand(context: &mut Context<'_>, raw: &RawJwt) {
    if raw.jwks.get().is_none_or(|keys| !keys.url.is_absent()) {
        return;
    }
    let verify = raw.verify.get();
    for (key, given) in [
        ("limits", raw.limits.mark()),
        ("breaker", raw.breaker.mark()),
        ("ca", raw.ca.mark()),
        (
            "jwks_refresh",
            verify.and_then(|verify| verify.jwks_refresh.mark()),
        ),
        (
            "jwks_max_stale",
            verify.and_then(|verify| verify.jwks_max_stale.mark()),
        ),
    ] {
        if let Some(mark) = given {
            context
                .report
                .error(
                    mark,
                    format!("`{key}` is for keys that are fetched, and these are not"),
                )
                .hint("leave it out: it is for `jwks: { url: … }`");
        }
    }
}

fn of_cleartext(
    context: &mut Context<'_>,
    (url, starttls): (&Field<At<String>>, &Field<At<bool>>),
    ca: Option<Mark>,
) {
    let clear = url.get().is_some_and(|at| at.value.starts_with("ldap://"));
    if let Some(mark) = ca.filter(|_| clear && !starttls.or(false)) {
        context
            .report
            .error(mark, "`ca` is for TLS, and this connection has none")
            .hint("`ldaps://`, or `starttls: true`");
    }
}

/// Reports shares of what is not written at all.
pub(super) fn of_telemetry(context: &mut Context<'_>, raw: &RawConfig) {
    let Some(raw) = raw.telemetry.get() else {
        return;
    };
    let nowhere = raw.access_log.get().is_some_and(|log| {
        log.file.is_absent() && log.to.or(AccessLogTo::Stdout) == AccessLogTo::Nowhere
    });
    let share = raw.log.get().and_then(|log| log.sample_success.mark());
    if let Some(mark) = share.filter(|_| nowhere) {
        context
            .report
            .error(mark, "a share of lines that are not written")
            .hint("`access_log` says where they go");
    }
    let sampled = raw
        .traces
        .get()
        .filter(|traces| traces.otlp.is_absent())
        .and_then(|traces| traces.sample_percent.mark());
    if let Some(mark) = sampled {
        context
            .report
            .error(mark, "a share of traces that nobody gets")
            .hint("`otlp` says who collects them");
    }
}
