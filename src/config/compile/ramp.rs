//! What a stage has beside its rules: the rule that climbs, and how people learn that the old side goes.

use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::url;
use crate::config::compile::context::Context;
use crate::config::raw::RawStage;
use crate::config::shape::At;
use crate::rollout::Brownout;
use crate::rollout::Percent;
use crate::rollout::Share;
use crate::rollout::Stage;
use crate::rollout::Warning;

/// The place of the rule that climbs, if there is one, with the percent of its first step.
pub(super) fn ramp(context: &mut Context<'_>, raw: &RawStage, stage: &mut Stage) -> Option<usize> {
    let rules = raw.assign.get().map_or(&[][..], |list| &list.items);
    let climbing: Vec<_> = rules.iter().filter(|rule| rule.ramp.or(false)).collect();
    let steps = raw.ramp.get();
    match (climbing.as_slice(), steps) {
        ([], None) => return None,
        ([], Some(list)) => {
            context
                .report
                .error(list.mark, "nobody climbs: no rule says `ramp: true`")
                .hint("`assign: [{ ramp: true, to: … }]` as the last rule");
            return None;
        }
        ([rule, ..], None) => {
            context
                .report
                .error(rule.mark, "`ramp` is missing: which steps does it climb?")
                .hint("`ramp: [{ percent: 1, bake: 24h }, …]` in the stage");
            return None;
        }
        ([_, second, ..], Some(_)) => {
            context.report.error(
                second.mark,
                "a stage has one ramp, and this is the second rule that climbs it",
            );
        }
        ([_], Some(_)) => {}
    }
    // A ramp rule starts with nobody, which no other rule does.
    let none = Share::Percent(Percent::NONE);
    let place = stage.assign.iter().position(|rule| rule.share == none)?;
    let first = steps.and_then(|list| list.items.first()?.percent.get());
    if let (Some(rule), Some(at)) = (stage.assign.get_mut(place), first) {
        rule.share = Share::Percent(at.value);
    }
    Some(place)
}

/// How people who still need `from` learn that it goes: warnings, and brownouts.
pub(super) fn farewell(context: &mut Context<'_>, raw: &RawStage, stage: &mut Stage) {
    for raw in raw.brownouts.get().map_or(&[][..], |list| &list.items) {
        let at = raw.at.required(raw.mark, "at", &mut context.report);
        let span = raw.r#for.required(raw.mark, "for", &mut context.report);
        if let (Some(at), Some(span)) = (at, span) {
            let day = Duration::from_secs(86_400);
            context.range(
                span.mark,
                &span.value.0,
                (Duration::from_secs(1), day),
                "from `1s` to `1d`",
            );
            stage.brownouts.push(Brownout {
                at: at.value.0,
                span: span.value.0,
            });
        }
    }
    let Some(raw) = raw.warn.get() else {
        return;
    };
    let notice = raw.notice.get().and_then(|at| notice(context, at));
    stage.warning = raw.headers.or(true).then(|| Warning {
        deprecated: raw.deprecated.get().map(|at| at.value.0),
        sunset: raw.sunset.get().map(|at| at.value.0),
        notice,
    });
}

/// What can stand in a `Link` field.
fn notice(context: &mut Context<'_>, at: &At<String>) -> Option<Box<str>> {
    let good = url(context, at, Peer::Other).is_some();
    let text = at.value.as_str();
    if good && text.contains(['<', '>']) {
        context
            .report
            .error(at.mark, format!("`{text}` cannot stand in a header"))
            .value(text)
            .hint("write `<` and `>` as `%3C` and `%3E`");
        return None;
    }
    good.then(|| text.into())
}
