//! A stage of a rollout: its rules, and its exceptions from what the mode accepts.

use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::rollouts::Pair;
use crate::config::compile::tokens::span;
use crate::config::names::did_you_mean;
use crate::config::raw::BasicWord;
use crate::config::raw::LoginWord;
use crate::config::raw::ModeWord;
use crate::config::raw::OtherArmWord;
use crate::config::raw::RawAccept;
use crate::config::raw::RawAssign;
use crate::config::raw::SessionWord;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::List;
use crate::config::shape::Named;
use crate::identity::ProviderId;
use crate::rollout::AcceptOverride;
use crate::rollout::Arm;
use crate::rollout::AssignRule;
use crate::rollout::BasicPolicy;
use crate::rollout::CohortId;
use crate::rollout::Cohorts;
use crate::rollout::LoginPolicy;
use crate::rollout::Mode;
use crate::rollout::OtherArm;
use crate::rollout::Passwords;
use crate::rollout::Percent;
use crate::rollout::SessionPolicy;
use crate::rollout::Shadowed;
use crate::rollout::Share;
use crate::rollout::Stage;

/// The parts of a stage in either form.
pub(super) struct Parts<'a> {
    /// What it does.
    pub(super) mode: Mode,
    /// The short form's percent.
    pub(super) percent: Option<&'a At<Percent>>,
    /// Its rules.
    pub(super) assign: &'a Field<List<RawAssign>>,
    /// Its exceptions.
    pub(super) accept: &'a Field<Named<RawAccept>>,
    /// API credentials of the other arm.
    pub(super) other_arm: &'a Field<At<OtherArmWord>>,
}

/// A mode by its word.
pub(super) const fn mode(word: ModeWord) -> Mode {
    match word {
        ModeWord::LegacyOnly => Mode::LegacyOnly,
        ModeWord::Shadow => Mode::Shadow,
        ModeWord::Canary => Mode::Canary,
        ModeWord::ModernPrimary => Mode::ModernPrimary,
        ModeWord::ModernOnly => Mode::ModernOnly,
    }
}

/// A stage, without its name and place.
pub(super) fn compile(
    context: &mut Context<'_>,
    parts: &Parts<'_>,
    pair: &Pair<'_>,
    cohorts: &Cohorts,
) -> Stage {
    let mut assign = Vec::new();
    if let Some(at) = parts.percent {
        assign.push(AssignRule {
            cohort: None,
            share: Share::Percent(at.value),
            to: Arm::To,
            until: None,
        });
    }
    let mut everybody = None;
    for raw in parts.assign.get().map_or(&[][..], |list| &list.items) {
        if let Some(line) = everybody {
            context
                .report
                .error(
                    raw.mark,
                    format!("this rule is never reached: the one on line {line} matches everybody"),
                )
                .hint("the first match wins: put it earlier");
        }
        let rule = rule(context, parts.mode, raw, pair);
        let unreadable =
            matches!(raw.cohort, Field::Broken) || matches!(raw.percent, Field::Broken);
        let whole = raw.cohort.is_absent() && raw.percent.is_absent() && raw.ramp.is_absent();
        if whole && raw.until.is_absent() && !unreadable {
            everybody = Some(raw.mark.line);
        }
        assign.extend(rule);
    }
    percents(context, parts);
    Stage {
        id: "".into(),
        index: 0,
        mode: parts.mode,
        assign: assign.into(),
        accept: accept(context, parts.accept, pair, cohorts),
        other_arm: match parts.other_arm.or(OtherArmWord::Accept) {
            OtherArmWord::Accept => OtherArm::Accept,
            OtherArmWord::Exchange => OtherArm::Exchange,
            OtherArmWord::Reject => OtherArm::Reject,
        },
        brownouts: Vec::new(),
        warning: None,
        passwords: Passwords::AtFrom,
        shadow: Shadowed::All,
    }
}

/// The side that a provider's name means.
pub(super) fn arm(context: &mut Context<'_>, pair: &Pair<'_>, at: &At<String>) -> Option<Arm> {
    if at.value == pair.from.value {
        return Some(Arm::From);
    }
    if at.value == pair.to.value {
        return Some(Arm::To);
    }
    let (from, to) = (pair.from.value.as_str(), pair.to.value.as_str());
    let hint = match at.value.as_str() {
        "legacy" | "from" => format!("the provider that people leave is called `{from}`"),
        "modern" | "to" => format!("the provider that people move to is called `{to}`"),
        other => did_you_mean(other, [from, to]).map_or_else(
            || format!("`{from}` or `{to}`"),
            |close| format!("did you mean `{close}`?"),
        ),
    };
    context
        .report
        .error(
            at.mark,
            format!("`{}` takes no part in this rollout", at.value),
        )
        .value(&at.value)
        .hint(hint);
    None
}

fn rule(
    context: &mut Context<'_>,
    mode: Mode,
    raw: &RawAssign,
    pair: &Pair<'_>,
) -> Option<AssignRule> {
    let cohort = match raw.cohort.get() {
        Some(at) => Some(context.knows_cohort(at).then(|| CohortId::new(&at.value))?),
        None => None,
    };
    let to = match raw.to.get() {
        Some(at) => Some(arm(context, pair, at)?),
        None => None,
    };
    if raw.choose.or(false) {
        return chosen(context, mode, raw, cohort);
    }
    let climbs = raw.ramp.or(false);
    if let (Some(at), Some(_)) = (raw.ramp.get(), raw.percent.get()) {
        context.report.error(
            at.mark,
            "the steps of the ramp say how many: no `percent` beside it",
        );
    }
    if raw.to.is_absent() && raw.percent.is_absent() && !climbs {
        context
            .report
            .error(raw.mark, "`to` is missing: where do they go?");
    }
    let share = raw
        .percent
        .get()
        .map(|at| at.value)
        // What a ramp rule sends is the percent of its step; before the first, nobody.
        .or(climbs.then_some(Percent::NONE))
        .map_or(Share::All, Share::Percent);
    let to = match (to, share) {
        (Some(to), _) => to,
        (None, Share::Percent(_) | Share::Chosen) => Arm::To,
        (None, Share::All) => return None,
    };
    if let (Arm::From, Some(at)) = (to, raw.ramp.get()) {
        context.report.error(
            at.mark,
            "a ramp moves people: it cannot send them to `from`",
        );
    }
    if let (Arm::From, Some(at)) = (to, raw.percent.get()) {
        context
            .report
            .error(
                at.mark,
                "a percent says how many move: it cannot send people to `from`",
            )
            .hint("name them by a cohort, or leave the rule out: no match is `from`");
    }
    if let (Arm::To, Some(at)) = (to, raw.until.get()) {
        context
            .report
            .error(at.mark, "people who moved would go back when the rule ends")
            .hint("an exclusion (`to` the old provider) may end; a move may not");
    }
    let mark = raw.to.get().map_or(raw.mark, |at| at.mark);
    match (mode, to) {
        (Mode::LegacyOnly | Mode::Shadow, _) => {
            context
                .report
                .error(
                    raw.mark,
                    "this mode sends everybody to `from`: a rule has no effect",
                )
                .hint("rules need `mode: canary`");
        }
        (Mode::ModernOnly, Arm::From) => {
            context
                .report
                .error(
                    mark,
                    "this mode refuses the credentials of `from`: nobody can be sent there",
                )
                .hint("`mode: modern-primary` still has exceptions");
        }
        (Mode::ModernPrimary | Mode::ModernOnly, Arm::To)
        | (Mode::Canary | Mode::ModernPrimary, _) => {}
    }
    if let (Mode::ModernPrimary | Mode::ModernOnly, Some(at)) = (mode, raw.percent.get()) {
        context.report.error(
            at.mark,
            "this mode sends everybody to `to`: a percent has no effect",
        );
    }
    Some(AssignRule {
        cohort,
        share,
        to,
        until: raw.until.get().map(|at| at.value.0),
    })
}

/// A rule whose people choose for themselves.
fn chosen(
    context: &mut Context<'_>,
    mode: Mode,
    raw: &RawAssign,
    cohort: Option<CohortId>,
) -> Option<AssignRule> {
    for (at, key) in [
        (raw.to.mark(), "to"),
        (raw.percent.mark(), "percent"),
        (raw.ramp.mark(), "ramp"),
        (raw.until.mark(), "until"),
    ] {
        if let Some(at) = at {
            let error = format!("who is asked decides: no `{key}` beside `choose`");
            context.report.error(at, error);
        }
    }
    if mode != Mode::Canary {
        context
            .report
            .error(raw.mark, "in this mode nobody has a choice")
            .hint("`choose` needs `mode: canary`");
        return None;
    }
    Some(AssignRule {
        cohort,
        share: Share::Chosen,
        to: Arm::To,
        until: None,
    })
}

/// All percents of a rollout read the same bucket: a later one that is not greater moves nobody.
fn percents(context: &mut Context<'_>, parts: &Parts<'_>) {
    let raw = parts.assign.get().map_or(&[][..], |list| &list.items);
    let mut highest: Option<Percent> = None;
    for raw in raw {
        let (Some(at), true) = (raw.percent.get(), raw.cohort.is_absent()) else {
            continue;
        };
        if highest.is_some_and(|highest| at.value <= highest) {
            context
                .report
                .error(at.mark, "this percent moves nobody: an earlier one is as high, and all read the same bucket");
        }
        highest = highest.max(Some(at.value));
    }
}

fn accept(
    context: &mut Context<'_>,
    raw: &Field<Named<RawAccept>>,
    pair: &Pair<'_>,
    cohorts: &Cohorts,
) -> Vec<AcceptOverride> {
    let mut overrides = Vec::new();
    let Some(named) = raw.get() else {
        return overrides;
    };
    for (name, raw) in named.readable() {
        if arm(context, pair, name).is_none() {
            continue;
        }
        let except = except(context, raw, cohorts);
        let day = Duration::from_secs(86_400);
        span(
            context,
            &raw.started_logins_grace,
            Duration::ZERO,
            day,
            "at most `1d`",
        );
        let new_logins = raw.new_logins.or(LoginWord::Allow);
        let sessions = raw.sessions.or(SessionWord::UntilExpiry);
        let basic = raw.basic.or(BasicWord::Accept);
        let refuses = new_logins == LoginWord::Refuse
            || sessions == SessionWord::Refuse
            || basic == BasicWord::Refuse
            || !raw.deadline.is_absent();
        if let Some(list) = raw.except.get()
            && !refuses
        {
            context.report.warning(
                list.mark,
                "`except` from nothing: no refusal stands beside it",
            );
        }
        overrides.push(AcceptOverride {
            provider: ProviderId::new(&name.value),
            new_logins: match new_logins {
                LoginWord::Allow => LoginPolicy::Allow,
                LoginWord::Refuse => LoginPolicy::Refuse,
            },
            except,
            started_logins_grace: raw
                .started_logins_grace
                .or(Span(Duration::from_secs(900)))
                .0,
            sessions: match sessions {
                SessionWord::UntilExpiry => SessionPolicy::UntilExpiry,
                SessionWord::Refuse => SessionPolicy::Refuse,
            },
            basic: match basic {
                BasicWord::Accept => BasicPolicy::Accept,
                BasicWord::Migrate => BasicPolicy::Migrate,
                BasicWord::Refuse => BasicPolicy::Refuse,
            },
            deadline: raw.deadline.get().map(|at| at.value.0),
        });
    }
    overrides
}

/// The excepted: verified facts only, or an address would open a closed door.
fn except(context: &mut Context<'_>, raw: &RawAccept, cohorts: &Cohorts) -> Vec<CohortId> {
    let mut except = Vec::new();
    for at in raw.except.get().map_or(&[][..], |list| &list.items) {
        if !context.knows_cohort(at) {
            continue;
        }
        let id = CohortId::new(&at.value);
        if cohorts
            .get(&id)
            .is_some_and(|cohort| cohort.rests_on_unverified())
        {
            context
                .report
                .error(
                    at.mark,
                    format!("cohort `{id}` rests on what a client can choose (address or header)"),
                )
                .value(&id)
                .hint("such a cohort may steer a login; it never widens what is accepted");
        }
        except.push(id);
    }
    except
}
