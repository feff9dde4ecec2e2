//! `retention`: how long what is known of people is kept.

use std::time::Duration;

use crate::auth::settings::KeptByLogins;
use crate::config::compile::context::Context;
use crate::config::raw::RawConfig;
use crate::config::scalar::Span;
use crate::config::settings::Retention;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::links::CONFLICTS_KEPT;
use crate::rollout::Course;

const DAY: Duration = Duration::from_hours(24);
/// Longer is for good.
const CENTURY: Duration = Duration::from_hours(24 * 36_500);

/// Compiles it. `courses`: what their stages ask about the past.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawConfig, courses: &[Course]) -> Retention {
    let none = Retention {
        links: None,
        passwords: None,
        pins: 400 * DAY,
        findings: 30 * DAY,
        legacy_usage: 91 * DAY,
        conflicts: CONFLICTS_KEPT,
        logins: KeptByLogins::default(),
        facts: DAY,
        revocations: Duration::ZERO,
    };
    let Some(raw) = raw.retention.get() else {
        return none;
    };
    let mut span = |field: &Field<At<Span>>, range, words: &str| {
        let at = field.get()?;
        context.range(at.mark, &at.value.0, range, words);
        Some(at.value.0)
    };
    let year = (DAY, 400 * DAY);
    let between = "from `1d` to `400d`";
    let settings = Retention {
        links: span(&raw.links, (30 * DAY, CENTURY), "from `30d`"),
        passwords: span(&raw.passwords, (90 * DAY, CENTURY), "from `90d`"),
        pins: span(&raw.pins, year, between).unwrap_or(none.pins),
        findings: span(&raw.findings, year, between).unwrap_or(none.findings),
        legacy_usage: span(&raw.legacy_usage, year, between).unwrap_or(none.legacy_usage),
        conflicts: span(&raw.conflicts, year, between).unwrap_or(none.conflicts),
        logins: KeptByLogins {
            browsers: span(&raw.browsers, year, between).unwrap_or(none.logins.browsers),
            forms: span(
                &raw.forms,
                (Duration::from_mins(1), Duration::from_hours(1)),
                "from `1m` to `1h`",
            )
            .unwrap_or(none.logins.forms),
        },
        facts: span(
            &raw.facts,
            (Duration::from_hours(1), DAY),
            "from `1h` to `24h`",
        )
        .unwrap_or(none.facts),
        revocations: span(&raw.revocations, (Duration::ZERO, 400 * DAY), "to `400d`")
            .unwrap_or(none.revocations),
    };
    if let (Some(at), Some(links)) = (raw.links.get(), settings.links)
        && settings.passwords.is_none_or(|passwords| links < passwords)
    {
        context
            .report
            .error(at.mark, "links would go before `passwords` that moved")
            .hint("`passwords` as long as `links`, or shorter: a moved password is known by the link of its account");
    }
    let legs = courses.iter().flat_map(|course| &course.legs);
    let asked = legs.filter_map(|leg| leg.require.legacy_credentials_seen.as_ref());
    let longest = asked.map(|asked| asked.within).max().unwrap_or_default();
    if let Some(at) = raw.legacy_usage.get()
        && settings.legacy_usage < longest
    {
        context
            .report
            .error(
                at.mark,
                "shorter than a stage asks about (`legacy_credentials_seen.within`): it would never be left",
            )
            .hint(format!("at least `{}h`", longest.as_secs().div_ceil(3_600)));
    }
    settings
}
