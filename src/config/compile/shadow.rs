//! `shadow`: from the file to who is asked for a second opinion.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::guardrails;
use crate::config::compile::guardrails::class;
use crate::config::compile::membership::Membership;
use crate::config::compile::oracles;
use crate::config::compile::providers::Provider;
use crate::config::compile::providers::whole;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::names::did_you_mean;
use crate::config::raw::ModeWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawRollout;
use crate::config::raw::RawShadow;
use crate::config::raw::RawShadowBreaker;
use crate::config::raw::RawShadowIgnore;
use crate::config::raw::RawStage;
use crate::config::scalar::Decimal;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::rollout::Percent;
use crate::rollout::Shadowed;
use crate::shadow;
use crate::shadow::MAX_QUEUE;
use crate::shadow::settings::Breaker;
use crate::shadow::settings::Ignore;
use crate::shadow::settings::Settings;
use crate::shadow::settings::Trips;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// The blocks, by application.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    membership: &Membership,
) -> Vec<Settings> {
    let mut blocks = Vec::new();
    let named = raw.shadow.get().into_iter();
    for (name, raw) in named.flat_map(|named| named.readable()) {
        if !context.knows_app(name) {
            continue;
        }
        if !membership.pairs.contains_key(&name.value) {
            context
                .report
                .error(
                    name.mark,
                    format!(
                        "no rollout moves `{}`: there is nothing to compare",
                        name.value
                    ),
                )
                .value(&name.value);
        }
        blocks.push(block(context, name, raw, providers, membership));
    }
    missing(context, raw, &blocks);
    blocks
}

/// Where a stage has people looked at a second time.
pub(super) fn looks(context: &mut Context<'_>, rollout: &RawRollout, stage: &RawStage) -> Shadowed {
    let stages = rollout.stages.get().map_or(&[][..], |list| &list.items);
    let Some(at) = stage.shadow.get().or(rollout.shadow.get()) else {
        let elsewhere = stages.iter().any(|stage| !stage.shadow.is_absent());
        return match stage.mode.get() {
            _ if !elsewhere => Shadowed::All,
            Some(at) if at.value == ModeWord::Shadow => {
                context
                    .report
                    .error(
                        at.mark,
                        "other stages say where people are looked at: this one does nothing",
                    )
                    .hint("`shadow: APP`");
                Shadowed::Nowhere
            }
            Some(_) | None => Shadowed::Nowhere,
        };
    };
    let apps = rollout.apps.get().map_or(&[][..], |list| &list.items);
    if !apps.iter().any(|app| app.value == at.value) {
        context
            .report
            .error(at.mark, format!("the rollout does not move `{}`", at.value))
            .value(&at.value)
            .hint("an application of the rollout that has an entry under `shadow`");
    }
    Shadowed::Only(AppId::new(&at.value))
}

fn block(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawShadow,
    providers: &[Provider],
    membership: &Membership,
) -> Settings {
    let pair = membership.pairs.get(&name.value);
    let mut settings = Settings {
        app: AppId::new(&name.value),
        decides: ProviderId::new(pair.map_or("", |(from, _)| from)),
        sample: sample(context, raw),
        noise: share(context, &raw.noise_sample).unwrap_or(Percent::NONE),
        compare: compared(context, raw),
        per_subject: raw.per_subject.or(Span(Duration::from_hours(6))).0,
        rps: 20,
        inflight: 16,
        queue: 512,
        timeout: 2 * SECOND,
        breaker: Breaker {
            trips: Trips::InARow(20),
            open_for: 60 * SECOND,
        },
        dual_verify: Vec::new(),
        exchange: Vec::new(),
        dual_token: None,
        directory: Vec::new(),
        back: Vec::new(),
        sweep: None,
        upstream_status: false,
        ignore: Vec::new(),
    };
    span(
        context,
        &raw.per_subject,
        SECOND,
        30 * DAY,
        "from `1s` to `30d`",
    );
    if let Some(raw) = raw.budget.get() {
        span(
            context,
            &raw.timeout,
            SECOND / 100,
            30 * SECOND,
            "from `10ms` to `30s`",
        );
        settings.timeout = raw.timeout.or(Span(settings.timeout)).0;
        settings.rps = whole(context, &raw.rps, (1, 10_000), 20);
        settings.inflight = whole(context, &raw.inflight, (1, 1_000), 16);
        settings.queue = whole(context, &raw.queue, (1, MAX_QUEUE as u64), 512);
    }
    if let Some(raw) = raw.breaker.get() {
        span(context, &raw.open_for, SECOND, DAY, "from `1s` to `1d`");
        settings.breaker.open_for = raw.open_for.or(Span(settings.breaker.open_for)).0;
        settings.breaker.trips = trips(context, raw);
    }
    let oracles = raw
        .oracles
        .required(raw.mark, "oracles", &mut context.report);
    for raw in oracles.map_or(&[][..], |list| &list.items) {
        oracles::compile(context, raw, (providers, membership), &mut settings);
    }
    for raw in raw.ignore.get().map_or(&[][..], |list| &list.items) {
        settings.ignore.extend(ignored(context, raw));
    }
    settings
}

/// A share, or a percent: one of them.
fn sample(context: &mut Context<'_>, raw: &RawShadow) -> Percent {
    if let (Some(at), Some(_)) = (raw.sample.get(), raw.sample_percent.get()) {
        let why = "`sample` and `sample_percent` say the same: one of them";
        context.report.error(at.mark, why);
    }
    let share = share(context, &raw.sample);
    share.unwrap_or_else(|| raw.sample_percent.or(Percent::ALL))
}

/// A share of people, in steps of a millionth.
fn share(context: &mut Context<'_>, field: &Field<At<Decimal>>) -> Option<Percent> {
    let at = field.get()?;
    let share = at.value.0;
    if !(0.0..=1.0).contains(&share) {
        context
            .report
            .error(at.mark, "a share lies between 0 and 1")
            .hint("`0.25` is a quarter of the people");
        return None;
    }
    let millionths = (share * f64::from(Percent::ALL.millionths())).round();
    Percent::parse(&format!("{:.4}", millionths / 10_000.0)).ok()
}

/// What is compared, by its words.
fn compared(context: &mut Context<'_>, raw: &RawShadow) -> BTreeSet<shadow::Field> {
    let Some(list) = raw.compare.get() else {
        return shadow::Field::ALL.into_iter().collect();
    };
    let mut fields = BTreeSet::new();
    for at in &list.items {
        let mut all = shadow::Field::ALL.into_iter();
        match all.find(|field| field.as_str() == at.value) {
            Some(field) => {
                fields.insert(field);
            }
            None => {
                let words = shadow::Field::ALL.map(shadow::Field::as_str);
                let hint = did_you_mean(&at.value, words.iter().copied());
                context
                    .report
                    .error(
                        at.mark,
                        format!("`{}` is nothing that is compared", at.value),
                    )
                    .value(&at.value)
                    .hint(hint.map_or_else(
                        || words.join(", "),
                        |close| format!("did you mean `{close}`?"),
                    ));
            }
        }
    }
    fields
}

fn trips(context: &mut Context<'_>, raw: &RawShadowBreaker) -> Trips {
    let Some(at) = raw.error_rate.get() else {
        if let Some(mark) = raw.min.mark() {
            let why = "`min` goes with `error_rate`: of so many calls, that share";
            context.report.error(mark, why);
        }
        return Trips::InARow(whole(context, &raw.failures, (1, 10_000), 20));
    };
    if let Some(mark) = raw.failures.mark() {
        let why = "`failures` or `error_rate`: a row, or a share";
        context.report.error(mark, why);
    }
    let rate = guardrails::share(context, &raw.error_rate, at.value.0);
    Trips::Share(rate, whole(context, &raw.min, (1, 10_000), 20))
}

fn ignored(context: &mut Context<'_>, raw: &RawShadowIgnore) -> Option<Ignore> {
    let until = raw.until.required(raw.mark, "until", &mut context.report);
    let until = until.map(|at| at.value.0);
    let at = raw.class.required(raw.mark, "class", &mut context.report)?;
    let found = class(context, at);
    Some(Ignore {
        class: found?,
        values: texts(raw.values.get()),
        until: until?,
    })
}

/// A stage that only compares needs something to compare with.
fn missing(context: &mut Context<'_>, raw: &RawConfig, blocks: &[Settings]) {
    let rollouts = raw.rollouts.get().into_iter();
    for (_, rollout) in rollouts.flat_map(|named| named.readable()) {
        let stages = rollout.stages.get().map_or(&[][..], |list| &list.items);
        let apps = rollout.apps.get().map_or(&[][..], |list| &list.items);
        let compares = |app: &At<String>| {
            let mut own = blocks
                .iter()
                .filter(|block| block.app.as_str() == app.value);
            own.any(Settings::compares)
        };
        let gates = stages
            .iter()
            .filter_map(|stage| stage.promote.get()?.require.get());
        for gate in gates {
            let nobody = gate
                .compared_subjects
                .get()
                .is_none_or(|people| people.value.0 == 0);
            if let Some(at) = gate.critical.get().filter(|_| nobody) {
                context
                    .report
                    .error(at.mark, "`critical` without `compared_subjects` is met when nobody was looked at")
                    .hint("say how many people must have been looked at twice, such as `compared_subjects: 200`");
            }
            let bound = gate.divergence_upper_bound.get().map(|at| at.mark);
            let asked = gate.compared_subjects.get().or(gate.critical.get());
            let asked = asked.map(|at| at.mark).or(bound);
            if let Some(mark) = asked.filter(|_| !apps.iter().any(compares)) {
                context
                    .report
                    .error(mark, "nobody is looked at twice: no application of the rollout has an oracle `dual_verify`, `exchange`, `dual_token`, `directory` or `sweep`")
                    .hint("`shadow: { APP: { oracles: [{ method: directory, … }] } }`");
            }
        }
        let named = stages.iter().filter_map(|stage| stage.shadow.get());
        for at in named.chain(rollout.shadow.get()) {
            let listed = apps.iter().any(|app| app.value == at.value);
            if listed && !blocks.iter().any(|block| block.app.as_str() == at.value) {
                context
                    .report
                    .error(
                        at.mark,
                        format!("`{}` has nobody who gives a second opinion", at.value),
                    )
                    .value(&at.value);
            }
        }
        watched(context, raw, rollout, apps.iter().any(compares));
        let mut modes = stages.iter().filter_map(|stage| stage.mode.get());
        let Some(at) = modes.find(|at| at.value == ModeWord::Shadow) else {
            continue;
        };
        for app in apps {
            if !blocks.iter().any(|block| block.app.as_str() == app.value) {
                context
                    .report
                    .error(
                        at.mark,
                        format!("`{}` has nobody who gives a second opinion", app.value),
                    )
                    .hint(format!(
                        "`shadow: {{ {}: {{ oracles: […] }} }}`, or `mode: legacy-only`",
                        app.value
                    ));
            }
        }
    }
}

/// A guard that counts differences needs somebody who finds them.
fn watched(context: &mut Context<'_>, raw: &RawConfig, rollout: &RawRollout, compares: bool) {
    let stages = rollout.stages.get().map_or(&[][..], |list| &list.items);
    let named = stages
        .iter()
        .filter_map(|stage| stage.guardrails.get().or(rollout.guardrails.get()));
    for at in named.filter(|_| !compares) {
        let rails = raw.guardrails.get();
        let rails = rails.and_then(|all| {
            let mut all = all.readable();
            all.find(|(name, _)| name.value == at.value)
        });
        let guards = rails.and_then(|(_, rails)| rails.guards.get());
        let mut guards = guards.map_or(&[][..], |list| &list.items).iter();
        if let Some(guard) = guards.find(|guard| guard.divergences.get().is_some()) {
            let name = guard.id.get().map_or("?", |at| &at.value);
            context
                .report
                .error(
                    at.mark,
                    format!("guard `{name}` counts differences, and nobody is looked at twice"),
                )
                .hint("`shadow: { APP: { oracles: [{ method: directory, … }] } }`");
        }
    }
}
