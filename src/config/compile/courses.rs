//! The stages of a rollout that a controller or the clock drives: steps, windows, what is required.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::civil::Time;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::config::compile::context::Context;
use crate::config::compile::lint::Placed;
use crate::config::compile::requirements;
use crate::config::names::did_you_mean;
use crate::config::raw::ControlWord;
use crate::config::raw::PromoteWord;
use crate::config::raw::RawRollout;
use crate::config::raw::RawStage;
use crate::config::raw::RawWindows;
use crate::config::raw::RollbackSessions;
use crate::config::raw::RollbackWord;
use crate::config::scalar::Span;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::rollout::Guardrails;
use crate::rollout::Leg;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::PromoteWhen;
use crate::rollout::RollbackTo;
use crate::rollout::Share;
use crate::rollout::Step;
use crate::rollout::Windows;

/// The guardrails of the file, by name.
pub(super) type Rails = BTreeMap<String, Arc<Guardrails>>;

/// By this name a stage has no guardrails.
pub(super) const UNWATCHED: &str = "none";

/// The guardrails of a stage: its own, or those of its rollout. One that moves people is watched, unless it says that it is not.
pub(super) fn rails(
    context: &mut Context<'_>,
    (own, shared): (&Field<At<String>>, &Field<At<String>>),
    mode: Mode,
    known: &Rails,
) -> Option<Arc<Guardrails>> {
    let Some(at) = own.get().or(shared.get()) else {
        return match mode {
            Mode::LegacyOnly | Mode::Shadow => None,
            Mode::Canary | Mode::ModernPrimary | Mode::ModernOnly => Some(Arc::default()),
        };
    };
    if at.value == UNWATCHED {
        return None;
    }
    let found = known.get(&at.value).cloned();
    if found.is_none() {
        let hint = did_you_mean(&at.value, known.keys().map(String::as_str));
        context
            .report
            .error(at.mark, format!("no guardrails are called `{}`", at.value))
            .value(&at.value)
            .hint(hint.map_or_else(
                || String::from("they stand under `guardrails`; `none`: nothing watches"),
                |close| format!("did you mean `{close}`?"),
            ));
    }
    found
}

/// The stages, as they are gone through.
pub(super) fn legs(
    context: &mut Context<'_>,
    control: ControlWord,
    staged: &RawRollout,
    placed: &[Placed],
    known: &Rails,
) -> Vec<Leg> {
    let list = staged.stages.get().map_or(&[][..], |list| &list.items);
    if let Some(at) = staged.pinned_stage.get() {
        context
            .report
            .error(at.mark, "`pinned_stage` belongs to `control: pinned`");
    }
    let mut legs = Vec::new();
    for placed in placed {
        let Some(raw) = list.get(placed.stage.index) else {
            continue;
        };
        legs.push(leg(context, control, staged, raw, placed, known));
    }
    legs
}

fn leg(
    context: &mut Context<'_>,
    control: ControlWord,
    staged: &RawRollout,
    raw: &RawStage,
    placed: &Placed,
    known: &Rails,
) -> Leg {
    let promote = raw.promote.get();
    let bake = promote.map_or(Duration::ZERO, |raw| {
        raw.min_bake.or(Span(Duration::ZERO)).0
    });
    let mut steps = Vec::new();
    let mut highest: Option<Percent> = None;
    for raw in raw.ramp.get().map_or(&[][..], |list| &list.items) {
        let Some(at) = raw
            .percent
            .required(raw.mark, "percent", &mut context.report)
        else {
            continue;
        };
        if highest.is_some_and(|highest| at.value <= highest) {
            context
                .report
                .error(
                    at.mark,
                    "a ramp only climbs: this step is not above the one before",
                )
                .hint("going back is an event, not a step");
        }
        if at.value == Percent::ALL {
            context
                .report
                .warning(
                    at.mark,
                    "at 100 % nobody is left to compare with: guards say nothing",
                )
                .hint("98 keeps 2 % as the comparison group until the next stage");
        }
        highest = highest.max(Some(at.value));
        steps.push(Step {
            percent: Some(at.value),
            bake: raw.bake.or(Span(Duration::ZERO)).0,
            min_units: raw.min_units.or(Whole(0)).0,
            at: raw.at.get().map(|at| at.value.0),
        });
    }
    let has_steps = !steps.is_empty();
    if !has_steps {
        steps.push(Step {
            at: raw.at.get().map(|at| at.value.0),
            ..Step::whole(bake)
        });
    }
    scheduled(context, control, raw, &steps);
    let when = match promote.map_or(PromoteWord::Manual, |raw| raw.when.or(PromoteWord::Manual)) {
        PromoteWord::Manual => PromoteWhen::Manual,
        PromoteWord::Auto => PromoteWhen::Auto,
    };
    let chosen = placed
        .stage
        .assign
        .iter()
        .any(|rule| rule.cohort.is_none() && matches!(rule.share, Share::Percent(_)));
    if let (PromoteWhen::Auto, false, Some(at)) = (
        when,
        chosen || has_steps,
        promote.and_then(|raw| raw.when.get()),
    ) && placed.stage.mode == Mode::Canary
    {
        context
            .report
            .error(
                at.mark,
                "people chosen by name prove nothing about the others",
            )
            .hint("`when: manual`, or a stage with a percent");
    }
    let named = (&raw.guardrails, &staged.guardrails);
    let mode = placed.stage.mode;
    let rails = rails(context, named, mode, known);
    if let Some(at) = raw.guardrails.get().or(staged.guardrails.get())
        && mode == Mode::Canary
        && at.value == UNWATCHED
    {
        context
            .report
            .warning(
                at.mark,
                format!("nothing watches stage `{}`", placed.stage.id),
            )
            .hint("nor is there a bound to how many are sent to a new provider that nobody comes back from (`first_logins`); without `guardrails: none` the defaults hold");
    }
    if let (PromoteWhen::Auto, None, Some(at)) =
        (when, &rails, promote.and_then(|raw| raw.when.get()))
    {
        context
            .report
            .error(at.mark, "`auto` needs evidence: nothing watches the stage");
    }
    let rollback = raw.rollback.get().map_or(RollbackTo::PreviousStep, |raw| {
        match raw.to.or(RollbackWord::PreviousStep) {
            RollbackWord::PreviousStep => RollbackTo::PreviousStep,
            RollbackWord::StageStart => RollbackTo::StageStart,
            RollbackWord::From => RollbackTo::From,
        }
    });
    Leg {
        stage: placed.stage.clone(),
        ramp: placed.ramp.filter(|_| has_steps),
        steps,
        when,
        require: requirements::require(context, raw),
        windows: raw
            .windows
            .get()
            .and_then(|raw| windows(context, raw))
            .map(Arc::new),
        rollback,
        rollback_revokes: raw.rollback.get().is_some_and(|raw| {
            raw.modern_sessions.or(RollbackSessions::Keep) == RollbackSessions::Revoke
        }),
        guardrails: rails,
    }
}

/// With a schedule every step has its moment, and they follow each other.
fn scheduled(context: &mut Context<'_>, control: ControlWord, raw: &RawStage, steps: &[Step]) {
    let every = steps.iter().all(|step| step.at.is_some());
    let none = steps.iter().all(|step| step.at.is_none());
    match control {
        ControlWord::Schedule if !every => {
            context
                .report
                .error(
                    raw.mark,
                    "`control: schedule` needs to know when: `at` is missing",
                )
                .hint("`at` of the stage, or of every step of its ramp");
        }
        ControlWord::Controller | ControlWord::Pinned if !none => {
            context
                .report
                .error(raw.mark, "`at` belongs to `control: schedule`");
        }
        ControlWord::Schedule | ControlWord::Controller | ControlWord::Pinned => {}
    }
    if !steps.is_sorted_by(|a, b| a.at <= b.at) {
        context
            .report
            .error(raw.mark, "a step begins before the one above it");
    }
}

fn windows(context: &mut Context<'_>, raw: &RawWindows) -> Option<Windows> {
    let at = raw.allow.required(raw.mark, "allow", &mut context.report)?;
    let deny = dates(context, &raw.deny_dates);
    match window(&at.value) {
        Ok((days, hours, zone)) => Some(Windows {
            days,
            hours,
            zone,
            deny,
        }),
        Err(why) => {
            context
                .report
                .error(at.mark, format!("`{}` is no window: {why}", at.value))
                .value(&at.value)
                .hint("days, hours and zone, such as `Mon-Thu 07:00-15:00 Europe/Berlin`");
            None
        }
    }
}

fn dates(
    context: &mut Context<'_>,
    raw: &Field<crate::config::shape::List<At<String>>>,
) -> Vec<Date> {
    let mut dates = Vec::new();
    for at in raw.get().map_or(&[][..], |list| &list.items) {
        match at.value.parse() {
            Ok(date) => dates.push(date),
            Err(_) => {
                context
                    .report
                    .error(at.mark, format!("`{}` is not a date", at.value))
                    .value(&at.value)
                    .hint("year, month and day, such as `2026-03-31`");
            }
        }
    }
    dates
}

type Window = ((Weekday, Weekday), (Time, Time), TimeZone);

/// `Mon-Thu 07:00-15:00 Europe/Berlin`.
fn window(text: &str) -> Result<Window, String> {
    let mut words = text.split_ascii_whitespace();
    let (Some(days), Some(hours), Some(zone), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(String::from("three words are expected"));
    };
    let day = |text: &str| {
        const DAYS: [(&str, Weekday); 7] = [
            ("Mon", Weekday::Monday),
            ("Tue", Weekday::Tuesday),
            ("Wed", Weekday::Wednesday),
            ("Thu", Weekday::Thursday),
            ("Fri", Weekday::Friday),
            ("Sat", Weekday::Saturday),
            ("Sun", Weekday::Sunday),
        ];
        let found = DAYS.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, day)| *day)
            .ok_or_else(|| format!("`{text}` is no day"))
    };
    let time = |text: &str| {
        let time = text.parse::<Time>();
        time.map_err(|error| format!("`{text}` is no time: {error}"))
    };
    let (first, last) = days.split_once('-').unwrap_or((days, days));
    let (from, to) = hours.split_once('-').ok_or("hours are `07:00-15:00`")?;
    let (from, to) = (time(from)?, time(to)?);
    if to <= from {
        return Err(String::from("it ends before it begins"));
    }
    let zone = TimeZone::get(zone).map_err(|error| error.to_string())?;
    Ok(((day(first)?, day(last)?), (from, to), zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_days_hours_and_a_zone() {
        let (days, hours, _) = window("Mon-Thu 07:00-15:00 UTC").unwrap();
        assert_eq!(days, (Weekday::Monday, Weekday::Thursday));
        assert_eq!(hours.0, Time::constant(7, 0, 0, 0));
        assert!(window("Sat 00:00-12:00 UTC").is_ok());
        for bad in [
            "",
            "Mon-Thu 07:00-15:00",
            "Mo-Do 07:00-15:00 UTC",
            "Mon-Thu 15:00-07:00 UTC",
            "Mon-Thu 7-15 UTC",
            "Mon-Thu 07:00-15:00 Middle/Earth",
        ] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }
}
