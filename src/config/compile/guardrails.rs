//! `guardrails`: from the file to what the arithmetic of the guards takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::courses::UNWATCHED;
use crate::config::compile::tokens::span;
use crate::config::names::did_you_mean;
use crate::config::raw::GuardUnitWord;
use crate::config::raw::NoDataWord;
use crate::config::raw::OnTripWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawGuard;
use crate::config::raw::RawGuardrails;
use crate::config::raw::ResumeWord;
use crate::config::scalar::Decimal;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::tree::Mark;
use crate::rollout::BadOutcome;
use crate::rollout::Guard;
use crate::rollout::Guardrails;
use crate::rollout::Limit;
use crate::rollout::NoData;
use crate::rollout::OnTrip;
use crate::rollout::Watched;
use crate::shadow::Class;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// The words that a guard may call bad, beside `slower_than_…`.
const BAD: [(&str, BadOutcome); 4] = [
    ("failed", BadOutcome::Failed),
    ("abandoned", BadOutcome::Abandoned),
    ("rejected", BadOutcome::Rejected),
    ("error", BadOutcome::Error),
];

/// All guardrails by name.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
) -> BTreeMap<String, Arc<Guardrails>> {
    let named = raw.guardrails.get().into_iter();
    let mut all = BTreeMap::new();
    for (name, raw) in named.flat_map(|named| named.readable()) {
        context.name("guardrails", name);
        if name.value == UNWATCHED {
            let why = "a stage that names these is not watched at all";
            context.report.error(name.mark, why).value(&name.value);
        }
        let rails = rails(context, &name.value, raw);
        all.insert(name.value.clone(), Arc::new(rails));
    }
    all
}

fn rails(context: &mut Context<'_>, name: &str, raw: &RawGuardrails) -> Guardrails {
    // The one word there is.
    let GuardUnitWord::Bucket = raw.unit.or(GuardUnitWord::Bucket);
    let mut rails = Guardrails {
        id: name.into(),
        ..Guardrails::default()
    };
    let range = "from `10s` to `1d`";
    span(context, &raw.window, 10 * SECOND, DAY, range);
    span(context, &raw.retry, Duration::ZERO, DAY, "at most `1d`");
    span(
        context,
        &raw.evaluate_every,
        SECOND,
        DAY,
        "from `1s` to `1d`",
    );
    rails.window = raw.window.or(Span(rails.window)).0;
    rails.retry = raw.retry.or(Span(rails.retry)).0.min(rails.window);
    rails.evaluate_every = raw.evaluate_every.or(Span(rails.evaluate_every)).0;
    rails.alpha_budget = share(context, &raw.alpha_budget, rails.alpha_budget);
    rails.no_data = no_data(raw.no_data.or(NoDataWord::Hold));
    for guard in &mut rails.guards {
        guard.no_data = rails.no_data;
    }
    if let Some(list) = raw.guards.get() {
        rails.guards.clear();
        for raw in &list.items {
            let known = rails.guards.iter().map(|guard| &*guard.id);
            let mut known = known.chain(rails.limits.iter().map(|limit| &*limit.id));
            if let Some(at) = raw.id.get()
                && known.any(|known| known == at.value)
            {
                context
                    .report
                    .error(at.mark, format!("two guards are called `{}`", at.value))
                    .value(&at.value);
            }
            match (raw.divergences.get(), raw.promql.get()) {
                (Some(list), _) => rails.limits.extend(limit(context, raw, list)),
                (None, Some(at)) => rails.limits.extend(query(context, raw, at)),
                (None, None) => rails.guards.extend(guard(context, raw, rails.no_data)),
            }
        }
    }
    if let (Some(raw), Some(rule)) = (raw.breaker.get(), &mut rails.breaker) {
        span(context, &raw.window, SECOND, DAY, "from `1s` to `1d`");
        rule.window = raw.window.or(Span(rule.window)).0;
        rule.min_units = count(context, &raw.min_units, rule.min_units, 1);
        rule.bad_rate = share(context, &raw.bad_rate, rule.bad_rate);
        rule.on_trip = on_trip(raw.on_trip.or(OnTripWord::Rollback));
    }
    if let (Some(raw), Some(rule)) = (raw.srm.get(), &mut rails.split) {
        rule.alpha = share(context, &raw.alpha, rule.alpha);
        rule.on_trip = on_trip(raw.on_trip.or(OnTripWord::Hold));
    }
    if let Some(raw) = raw.after_rollback.get() {
        let ResumeWord::Manual = raw.resume.or(ResumeWord::Manual);
        let after = &mut rails.after_rollback;
        after.cooldown = raw.cooldown.or(Span(after.cooldown)).0;
        after.max_auto = count(context, &raw.max_auto, after.max_auto, 0);
    }
    if let Some(raw) = raw.first_logins.get() {
        let first = &mut rails.first_logins;
        first.unfinished = count(context, &raw.unfinished, first.unfinished, 1);
        first.until_succeeded = count(context, &raw.until_succeeded, first.until_succeeded, 0);
    }
    rails
}

/// A bound of people about whom second opinions differ.
fn limit(context: &mut Context<'_>, raw: &RawGuard, list: &List<At<String>>) -> Option<Limit> {
    let id = raw.id.required(raw.mark, "id", &mut context.report)?;
    context.name("a guard", id);
    alone(context, raw, raw.promql.mark());
    let mut classes = Vec::new();
    for at in &list.items {
        if let Some(class) = class(context, at) {
            classes.push(class.as_str().into());
        }
    }
    if let Some(at) = raw.max.get()
        && (at.value.0 < 0.0 || at.value.0.fract() != 0.0)
    {
        context
            .report
            .error(at.mark, "people are counted: a whole number");
    }
    Some(Limit {
        id: id.value.as_str().into(),
        of: Watched::Divergences(classes),
        max: decimal(&raw.max, 0.0),
        on_trip: on_trip(raw.on_trip.or(OnTripWord::Rollback)),
    })
}

/// A bound of what another system counts.
fn query(context: &mut Context<'_>, raw: &RawGuard, at: &At<String>) -> Option<Limit> {
    let id = raw.id.required(raw.mark, "id", &mut context.report)?;
    context.name("a guard", id);
    alone(context, raw, None);
    let max = raw.max.required(raw.mark, "max", &mut context.report)?;
    if at.value.trim().is_empty() {
        context.report.error(at.mark, "nothing is asked");
    }
    Some(Limit {
        id: id.value.as_str().into(),
        of: Watched::Query(at.value.trim().into()),
        max: max.value.0,
        on_trip: on_trip(raw.on_trip.or(OnTripWord::Rollback)),
    })
}

/// A bound has nothing to compare.
fn alone(context: &mut Context<'_>, raw: &RawGuard, other: Option<Mark>) {
    let beside = [
        raw.bad.mark(),
        raw.max_ratio.mark(),
        raw.min_effect.mark(),
        raw.min_bad_units.mark(),
        raw.no_data.mark(),
        other,
    ];
    for mark in beside.into_iter().flatten() {
        let why =
            "this is counted, and not compared: `divergences` or `promql` goes with `max` alone";
        context.report.error(mark, why);
    }
}

/// A class of differences by its word.
pub(super) fn class(context: &mut Context<'_>, at: &At<String>) -> Option<Class> {
    let found = Class::ALL
        .into_iter()
        .find(|class| class.as_str() == at.value);
    if found.is_none() {
        let words = Class::ALL.map(Class::as_str);
        let hint = did_you_mean(&at.value, words.iter().copied());
        context
            .report
            .error(
                at.mark,
                format!("`{}` is no class of differences", at.value),
            )
            .value(&at.value)
            .hint(hint.map_or_else(
                || words.join(", "),
                |close| format!("did you mean `{close}`?"),
            ));
    }
    found
}

fn guard(context: &mut Context<'_>, raw: &RawGuard, shared: NoData) -> Option<Guard> {
    let id = raw.id.required(raw.mark, "id", &mut context.report)?;
    context.name("a guard", id);
    if let Some(mark) = raw.max.mark() {
        context
            .report
            .error(mark, "`max` goes with `divergences` or `promql`");
    }
    let list = raw.bad.required(raw.mark, "bad", &mut context.report)?;
    let mut bad = Vec::new();
    let counts_nothing = |at: &At<String>| outcome(&at.value) == Some(BadOutcome::Rejected);
    let never = list.items.iter().all(counts_nothing);
    if never {
        context
            .report
            .error(
                list.mark,
                "this guard never trips: `rejected` counts nothing in this build",
            )
            .hint("`error` counts sessions whose provider was away; without `guards` there are two that work");
    }
    for at in &list.items {
        match outcome(&at.value) {
            Some(outcome) => {
                if outcome == BadOutcome::Rejected && !never {
                    context
                        .report
                        .warning(at.mark, "`rejected` counts nothing in this build")
                        .value(&at.value)
                        .hint("a provider that refuses a renewal may have signed its person out, or lets sessions rest for less long than the other one: `error` counts sessions whose provider was away");
                }
                bad.push(outcome);
            }
            None => {
                let hint = did_you_mean(&at.value, BAD.iter().map(|(word, _)| *word)).map_or_else(
                    || String::from("failed, abandoned, rejected, error or `slower_than_800ms`"),
                    |close| format!("did you mean `{close}`?"),
                );
                context
                    .report
                    .error(at.mark, format!("`{}` is nothing that is seen", at.value))
                    .value(&at.value)
                    .hint(hint);
            }
        }
    }
    if bad.iter().any(|bad| bad.is_of_logins()) && bad.iter().any(|bad| !bad.is_of_logins()) {
        context
            .report
            .error(list.mark, "logins and sessions are different people: two guards")
            .hint("`failed`, `abandoned` and `slower_than_…` are about logins, `rejected` and `error` about sessions");
    }
    let ratio = decimal(&raw.max_ratio, 1.25);
    if let Some(at) = raw.max_ratio.get()
        && !(1.0..=100.0).contains(&ratio)
    {
        context.report.error(
            at.mark,
            "a ratio from 1 to 100: how many times as bad it may be",
        );
    }
    Some(Guard {
        id: id.value.as_str().into(),
        bad,
        max_ratio: ratio,
        min_effect: share_or_none(context, &raw.min_effect, 0.005),
        min_bad_units: count(context, &raw.min_bad_units, 5, 1),
        on_trip: on_trip(raw.on_trip.or(OnTripWord::Rollback)),
        no_data: raw.no_data.get().map_or(shared, |at| no_data(at.value)),
    })
}

const fn no_data(word: NoDataWord) -> NoData {
    match word {
        NoDataWord::Hold => NoData::Hold,
        NoDataWord::Wait => NoData::Wait,
        NoDataWord::Proceed => NoData::Proceed,
    }
}

fn outcome(word: &str) -> Option<BadOutcome> {
    if let Some(limit) = word.strip_prefix("slower_than_") {
        let (number, unit) = limit.split_at_checked(limit.find(|c: char| !c.is_ascii_digit())?)?;
        let number = number.parse().ok()?;
        return match unit {
            "ms" => Some(BadOutcome::SlowerThan(Duration::from_millis(number))),
            "s" => Some(BadOutcome::SlowerThan(Duration::from_secs(number))),
            _ => None,
        };
    }
    let found = BAD.iter().find(|(known, _)| *known == word);
    found.map(|(_, outcome)| *outcome)
}

const fn on_trip(word: OnTripWord) -> OnTrip {
    match word {
        OnTripWord::Note => OnTrip::Note,
        OnTripWord::Hold => OnTrip::Hold,
        OnTripWord::Rollback => OnTrip::Rollback,
        OnTripWord::RollbackRevoke => OnTrip::RollbackRevoke,
    }
}

fn decimal(field: &Field<At<Decimal>>, default: f64) -> f64 {
    field.get().map_or(default, |at| at.value.0)
}

/// A share above 0 and below 1.
pub(super) fn share(context: &mut Context<'_>, field: &Field<At<Decimal>>, default: f64) -> f64 {
    let share = decimal(field, default);
    if let Some(at) = field.get()
        && (share <= 0.0 || 1.0 <= share)
    {
        context
            .report
            .error(at.mark, "a share lies between 0 and 1")
            .hint("`0.05` is five percent");
    }
    share
}

/// The same, where none at all may be meant.
pub(super) fn share_or_none(
    context: &mut Context<'_>,
    field: &Field<At<Decimal>>,
    default: f64,
) -> f64 {
    match field.get() {
        Some(at) if at.value.0 == 0.0 => 0.0,
        Some(_) | None => share(context, field, default),
    }
}

fn count(context: &mut Context<'_>, field: &Field<At<Whole>>, default: u32, least: u32) -> u32 {
    let Some(at) = field.get() else {
        return default;
    };
    match u32::try_from(at.value.0) {
        Ok(number) if least <= number && number <= 1_000_000 => number,
        Ok(_) | Err(_) => {
            context
                .report
                .error(at.mark, format!("a number from {least} to 1000000"))
                .value(at.value.0);
            default
        }
    }
}
