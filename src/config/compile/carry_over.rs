//! `sessions.carry_over` and `sessions.silent`: how sessions of the old side come over to the new one.

use std::time::Duration;

use crate::auth::settings::Silent;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::span;
use crate::config::raw::CarryOverWord;
use crate::config::raw::RawConfig;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::providers::settings::KindSettings;
use crate::rollout::Course;

/// How often people are asked after without a page; `None`: never.
pub(super) fn silent(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    courses: &[Course],
) -> Option<Silent> {
    let raw = raw.sessions.get()?;
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    let words = raw.carry_over.get();
    let at = words.and_then(|list| {
        let mut all = list.items.iter();
        all.find(|word| matches!(word.value, CarryOverWord::Silent))
    });
    let (mut retry_after, mut per_day) = (Span(day), Whole(2));
    if let Some(silent) = raw.silent.get() {
        span(
            context,
            &silent.retry_after,
            hour,
            30 * day,
            "from `1h` to `30d`",
        );
        if let Some(most) = silent.max_per_subject_per_day.get() {
            context.range(most.mark, &most.value.0, (1, 24), "from 1 to 24");
        }
        retry_after = silent.retry_after.or(retry_after);
        per_day = silent.max_per_subject_per_day.or(per_day);
        if at.is_none() {
            context.report.warning(
                silent.mark,
                "without `carry_over: [silent]` this has no effect",
            );
        }
    }
    let at = at?;
    for course in courses {
        let to = providers.iter().find(|p| p.words.provider == course.to);
        let kind = to.and_then(|to| to.settings.as_ref()).map(|s| &s.kind);
        if !matches!(kind, Some(KindSettings::Oidc(oidc)) if oidc.client.is_some()) {
            context
                .report
                .error(
                    at.mark,
                    format!(
                        "`{}` has no login: nobody can be asked after there",
                        course.to
                    ),
                )
                .hint("a login is an `oidc` provider with a `client`");
        }
    }
    Some(Silent {
        retry_after: retry_after.0,
        per_day: u8::try_from(per_day.0).unwrap_or(u8::MAX),
    })
}
