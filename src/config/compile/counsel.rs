//! Whom rollouts ask beside what they see themselves: a Prometheus about figures of others, a hook about the last word.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::compile::address::Peer;
use crate::config::compile::address::url;
use crate::config::compile::context::Context;
use crate::config::compile::tokens::span;
use crate::config::raw::RawConfig;
use crate::config::scalar::Span;
use crate::rollout::RolloutId;
use crate::telemetry::promql;
use crate::telemetry::webhook;

const SECOND: Duration = Duration::from_secs(1);

/// Which Prometheus guards ask, by guardrails.
pub(super) fn asked(
    context: &mut Context<'_>,
    raw: &RawConfig,
) -> BTreeMap<Box<str>, promql::Source> {
    let named = raw.guardrails.get().into_iter();
    let mut all = BTreeMap::new();
    for (name, rails) in named.flat_map(|named| named.readable()) {
        let guards = rails.guards.get().map_or(&[][..], |list| &list.items);
        let asks = guards.iter().any(|guard| guard.promql.get().is_some());
        let raw = rails.prometheus.get();
        if let (Some(raw), false) = (raw, asks) {
            let why = "nobody asks it: no guard has a `promql`";
            context.report.error(raw.mark, why);
        }
        if !asks {
            continue;
        }
        let mut source = promql::Source {
            url: String::from("http://127.0.0.1:9090"),
            token: None,
            timeout: 5 * SECOND,
        };
        if let Some(raw) = raw {
            if let Some(at) = raw.url.get()
                && url(context, at, Peer::Other).is_some()
            {
                at.value.trim_end_matches('/').clone_into(&mut source.url);
            }
            source.token = context.secret_text(&raw.token, "the token of a Prometheus");
            let range = "from `100ms` to `30s`";
            span(context, &raw.timeout, SECOND / 10, 30 * SECOND, range);
            source.timeout = raw.timeout.or(Span(source.timeout)).0;
        }
        all.insert(name.value.as_str().into(), source);
    }
    all
}

/// The hooks that stages ask, by rollout and stage.
pub(super) fn hooks(
    context: &mut Context<'_>,
    raw: &RawConfig,
) -> BTreeMap<(RolloutId, Box<str>), webhook::Source> {
    let mut all = BTreeMap::new();
    let rollouts = raw.rollouts.get().into_iter();
    for (name, rollout) in rollouts.flat_map(|named| named.readable()) {
        for stage in rollout.stages.get().map_or(&[][..], |list| &list.items) {
            let require = stage.promote.get().and_then(|raw| raw.require.get());
            let (Some(hook), Some(id)) =
                (require.and_then(|raw| raw.webhook.get()), stage.id.get())
            else {
                continue;
            };
            let at = hook.url.required(hook.mark, "url", &mut context.report);
            // Whoever can answer in its place lets people be moved.
            let good = at.filter(|at| url(context, at, Peer::Provider).is_some());
            let range = "from `100ms` to `30s`";
            span(context, &hook.timeout, SECOND / 10, 30 * SECOND, range);
            let token = context.secret_text(&hook.token, "the token of a hook");
            if let Some(at) = good {
                let source = webhook::Source {
                    url: at.value.clone(),
                    token,
                    timeout: hook.timeout.or(Span(5 * SECOND)).0,
                };
                all.insert(
                    (RolloutId::new(&name.value), id.value.as_str().into()),
                    source,
                );
            }
        }
    }
    all
}
