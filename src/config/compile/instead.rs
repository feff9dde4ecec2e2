//! Which exchange an application uses where, and whether a stage's `other_arm: exchange` has what it needs.

use std::collections::HashMap;

use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::raw::OtherArmWord;
use crate::config::raw::RawApp;
use crate::config::raw::RawConfig;
use crate::config::shape::At;
use crate::config::tree::Mark;
use crate::exchange::settings::Settings;
use crate::exchange::settings::Way;
use crate::proxy::settings::App;
use crate::rollout::Plan;

/// What an application says about exchanges.
#[derive(Debug, Default)]
pub(super) struct Instead {
    /// For routes that name none.
    pub(super) always: Option<Box<str>>,
    /// For `other_arm: exchange`.
    pub(super) other_arm: Vec<Box<str>>,
}

/// What is known beside an application.
pub(super) struct Parts<'a> {
    /// All exchanges.
    pub(super) all: &'a [Settings],
    /// The providers that vouch for its people.
    pub(super) speakers: &'a [String],
    /// Whether people are joined across providers.
    pub(super) joined: bool,
    /// Headers that it is told, folded, with the line each stands on.
    pub(super) written: &'a HashMap<String, u32>,
}

/// The exchanges of one application.
pub(super) fn of_app(context: &mut Context<'_>, raw: &RawApp, parts: &Parts<'_>) -> Instead {
    let all = parts.all;
    let mut instead = Instead::default();
    let mut used = Vec::new();
    if let Some(exchange) = raw.exchange.get() {
        if let Some(at) = exchange.always.get()
            && let Some(found) = named(context, at, all)
        {
            instead.always = Some(found.name.clone());
            used.push((at.mark, found));
        }
        let mut taken: HashMap<&str, u32> = HashMap::new();
        for at in exchange.other_arm.get().map_or(&[][..], |list| &list.items) {
            let Some(found) = named(context, at, all) else {
                continue;
            };
            let Some(yields) = &found.yields else {
                context
                    .report
                    .error(
                        at.mark,
                        format!("`{}` does not say whose tokens it stands in for", at.value),
                    )
                    .value(&at.value)
                    .hint("say `yields: PROVIDER`");
                continue;
            };
            if let Some(line) = taken.insert(yields.as_str(), at.mark.line) {
                context
                    .report
                    .error(
                        at.mark,
                        format!("the exchange on line {line} gives tokens of `{yields}` already"),
                    )
                    .value(&at.value);
                continue;
            }
            instead.other_arm.push(found.name.clone());
            used.push((at.mark, found));
        }
    }
    for route in raw.routes.get().map_or(&[][..], |list| &list.items) {
        if let Some(at) = route.exchange.get()
            && let Some(found) = named(context, at, all)
        {
            used.push((at.mark, found));
        }
    }
    for (mark, exchange) in used {
        sound(context, raw, mark, exchange, parts);
    }
    instead
}

pub(super) fn named<'a>(
    context: &mut Context<'_>,
    at: &At<String>,
    all: &'a [Settings],
) -> Option<&'a Settings> {
    let found = all.iter().find(|exchange| *exchange.name == *at.value);
    if found.is_none() && !context.knows_exchange(&at.value) {
        let names = || all.iter().map(|exchange| &*exchange.name);
        let said = context
            .report
            .error(at.mark, format!("no exchange is called `{}`", at.value))
            .value(&at.value);
        if let Some(close) = did_you_mean(&at.value, names()) {
            said.hint(format!("did you mean `{close}`?"));
        } else if !all.is_empty() {
            said.hint(format!("there is {}", one_of(names())));
        }
    }
    found
}

fn sound(
    context: &mut Context<'_>,
    raw: &RawApp,
    mark: Mark,
    exchange: &Settings,
    parts: &Parts<'_>,
) {
    if let Some(line) = parts
        .written
        .get(&headers::folded(exchange.header.as_str()))
    {
        context.report.error(
            mark,
            format!("`{}` is written on line {line} already", exchange.header),
        );
    }
    if let Some(at) = raw.forward_credentials.get()
        && at.value
    {
        context
            .report
            .error(
                at.mark,
                "an exchange and `forward_credentials` contradict each other",
            )
            .hint("the upstream would see the credential that the exchange replaces");
    }
    let remote = match &exchange.way {
        Way::TokenExchange(remote) | Way::Assertion(remote, _) => remote,
        Way::Mint(_) => return,
    };
    let elsewhere = parts
        .speakers
        .iter()
        .any(|speaker| speaker != remote.provider.as_str());
    if elsewhere && !parts.joined {
        context
            .report
            .error(
                mark,
                format!(
                    "nobody can say that a token of `{}` is about the same person",
                    remote.provider
                ),
            )
            .hint("say in `identity.canonical` who is one person across providers");
    }
}

/// Whether every application of a stage with `other_arm: exchange` has the exchanges that it needs.
pub(super) fn stages(
    context: &mut Context<'_>,
    raw: &RawConfig,
    plans: &[Plan],
    apps: &[App],
    all: &[Settings],
) {
    let asks = |word: Option<&At<OtherArmWord>>| {
        word.filter(|at| at.value == OtherArmWord::Exchange)
            .map(|at| at.mark)
    };
    let mut marks: Vec<(String, Mark)> = Vec::new();
    if let Some(mark) = raw
        .rollout
        .get()
        .and_then(|short| asks(short.other_arm.get()))
    {
        marks.push(("default".to_owned(), mark));
    }
    for (name, staged) in raw
        .rollouts
        .get()
        .into_iter()
        .flat_map(|named| named.readable())
    {
        for stage in staged.stages.get().map_or(&[][..], |list| &list.items) {
            marks.extend(asks(stage.other_arm.get()).map(|mark| (name.value.clone(), mark)));
        }
    }
    for (name, mark) in marks {
        let Some(plan) = plans.iter().find(|plan| plan.id.as_str() == name) else {
            continue;
        };
        for app in apps.iter().filter(|app| plan.covers(&app.id)) {
            let has = |provider| {
                let found = |name: &str| {
                    let exchange = all.iter().find(|exchange| *exchange.name == *name);
                    exchange.and_then(|exchange| exchange.yields.as_ref()) == Some(provider)
                };
                app.other_arm_exchanges.iter().any(|name| found(name))
            };
            if !has(&plan.to) {
                context
                    .report
                    .error(
                        mark,
                        format!(
                            "application `{}` has no exchange that gives tokens of `{}`",
                            app.id, plan.to
                        ),
                    )
                    .hint(format!("list one in `apps.{}.exchange.other_arm`", app.id));
            } else if !has(&plan.from) {
                context.report.warning(
                    mark,
                    format!(
                        "application `{}` has no exchange that gives tokens of `{}`: credentials of `{}` are refused where the person has not moved",
                        app.id, plan.from, plan.to
                    ),
                );
            }
        }
    }
}
