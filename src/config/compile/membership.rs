//! Which rollout or provider each application belongs to: exactly one.

use std::collections::HashMap;

use crate::config::compile::context::Context;
use crate::config::compile::rollouts::all;
use crate::config::compile::rollouts::apps_of;
use crate::config::raw::RawConfig;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::identity::ProviderId;
use crate::rollout::AppId;

/// Who moves which application: for what an application sees, and for what moves it.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// By application: the providers whose people it sees.
    pub(super) speakers: HashMap<String, Vec<String>>,
    /// Applications without a rollout, with their provider.
    pub(super) single: Vec<(AppId, ProviderId)>,
    /// By application: the two sides of its rollout.
    pub(super) pairs: HashMap<String, (String, String)>,
}

/// Finds out which rollout or provider each application belongs to: exactly one.
pub(super) fn membership(context: &mut Context<'_>, raw: &RawConfig) -> Membership {
    if let (Some(short), Some(_)) = (raw.rollout.get(), raw.rollouts.get()) {
        context
            .report
            .error(short.mark, "either `rollout` or `rollouts`, not both")
            .hint("the short form is one entry of `rollouts` called `default`");
    }
    let mut membership = Membership::default();
    let mut moved: HashMap<String, String> = HashMap::new();
    for rollout in all(raw) {
        for (name, mark) in apps_of(raw, &rollout) {
            if let Some(mark) = mark {
                let at = At {
                    value: name.clone(),
                    mark,
                };
                if !context.knows_app(&at) {
                    continue;
                }
            }
            if let Some(other) = moved.insert(name.clone(), rollout.name.to_owned()) {
                let twice = mark.unwrap_or(rollout.mark);
                let message = if other == rollout.name {
                    format!("`{name}` stands here twice")
                } else {
                    format!("`{name}` is moved by the rollout `{other}` already")
                };
                context.report.error(twice, message).value(&name);
                continue;
            }
            if let (Some(from), Some(to)) = (rollout.from.get(), rollout.to.get()) {
                let pair = (from.value.clone(), to.value.clone());
                membership
                    .speakers
                    .insert(name.clone(), vec![pair.0.clone(), pair.1.clone()]);
                membership.pairs.insert(name, pair);
            }
        }
    }
    let broken = matches!(raw.rollout, Field::Broken)
        || matches!(raw.rollouts, Field::Broken)
        || raw
            .rollouts
            .get()
            .is_some_and(|named| named.entries.iter().any(|(_, entry)| entry.is_none()));
    for (name, app) in raw
        .apps
        .get()
        .into_iter()
        .flat_map(|named| named.readable())
    {
        match (app.provider.get(), moved.get(&name.value)) {
            (Some(at), Some(rollout)) => {
                context
                    .report
                    .error(at.mark, format!("`{}` is moved by the rollout `{rollout}`: it has no provider of its own", name.value))
                    .value(&at.value)
                    .hint("remove `provider`, or take the application out of the rollout");
            }
            (Some(at), None) => {
                if context.knows_provider(at) {
                    membership
                        .speakers
                        .insert(name.value.clone(), vec![at.value.clone()]);
                    membership
                        .single
                        .push((AppId::new(&name.value), ProviderId::new(&at.value)));
                }
            }
            (None, None) if app.provider.is_absent() && !broken => {
                context
                    .report
                    .error(name.mark, format!("nobody can sign in to `{}`", name.value))
                    .value(&name.value)
                    .hint("name its `provider`, or list it in the `apps` of a rollout");
            }
            (None, _) => {}
        }
    }
    membership
}
