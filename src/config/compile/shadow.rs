//! `shadow`: from the file to who is asked for a second opinion.

use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::membership::Membership;
use crate::config::compile::oracles;
use crate::config::compile::providers::Provider;
use crate::config::compile::providers::whole;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::problem::did_you_mean;
use crate::config::raw::ModeWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawShadow;
use crate::config::raw::RawShadowIgnore;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::rollout::AppId;
use crate::rollout::Percent;
use crate::shadow::Class;
use crate::shadow::settings::Breaker;
use crate::shadow::settings::Ignore;
use crate::shadow::settings::Settings;

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

fn block(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawShadow,
    providers: &[Provider],
    membership: &Membership,
) -> Settings {
    let mut settings = Settings {
        app: AppId::new(&name.value),
        sample: raw.sample_percent.or(Percent::ALL),
        per_subject: raw.per_subject.or(Span(Duration::from_hours(6))).0,
        rps: 20,
        inflight: 16,
        timeout: 2 * SECOND,
        breaker: Breaker {
            failures: 20,
            open_for: 60 * SECOND,
        },
        dual_verify: Vec::new(),
        directory: Vec::new(),
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
    }
    if let Some(raw) = raw.breaker.get() {
        span(context, &raw.open_for, SECOND, DAY, "from `1s` to `1d`");
        settings.breaker.open_for = raw.open_for.or(Span(settings.breaker.open_for)).0;
        settings.breaker.failures = whole(context, &raw.failures, (1, 10_000), 20);
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

fn ignored(context: &mut Context<'_>, raw: &RawShadowIgnore) -> Option<Ignore> {
    let until = raw.until.required(raw.mark, "until", &mut context.report);
    let until = until.map(|at| at.value.0);
    let at = raw.class.required(raw.mark, "class", &mut context.report)?;
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
            own.any(|block| {
                !block.dual_verify.is_empty()
                    || !block.directory.is_empty()
                    || block.sweep.is_some()
            })
        };
        let gates = stages
            .iter()
            .filter_map(|stage| stage.promote.get()?.require.get());
        for gate in gates {
            let nobody = gate
                .compared_subjects
                .get()
                .is_none_or(|people| people.value.0 == 0);
            // Differences are remembered by the process alone: after a restart none were found, by nobody who was looked at.
            if let Some(at) = gate.critical.get().filter(|_| nobody) {
                context
                    .report
                    .error(at.mark, "`critical` without `compared_subjects` is met when nobody was looked at")
                    .hint("say how many people must have been looked at twice, such as `compared_subjects: 200`");
            }
            let asked = gate.compared_subjects.get().or(gate.critical.get());
            if let Some(at) = asked.filter(|_| !apps.iter().any(compares)) {
                context
                    .report
                    .error(at.mark, "nobody is looked at twice: no application of the rollout has an oracle `dual_verify`, `directory` or `sweep`")
                    .hint("`shadow: { APP: { oracles: [{ method: directory, … }] } }`");
            }
        }
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
