//! The closing of an old side: whether it may be, what is told of it, and how it comes to hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::warn;

use crate::admin::CONFIRM_ABOVE;
use crate::admin::LegacyRequest;
use crate::admin::LegacyView;
use crate::admin::RevokeFailure;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Account;
use crate::control::NotOrdered;
use crate::control::Order;
use crate::control::Side;
use crate::identity::ProviderId;
use crate::providers::Provider;
use crate::revocation::Target;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::Mode;
use crate::rollout::RolloutId;

/// Where nothing is said: so many sessions a minute.
const PER_MINUTE: u32 = 200;
/// More than these is no pace.
const FASTEST: u32 = 60_000;

/// The running program, as the closing sees it.
#[derive(Debug)]
struct Running {
    process: Arc<Process>,
    reloader: Arc<Reloader>,
}

impl Side for Running {
    fn provider(&self, id: &ProviderId) -> Option<Arc<dyn Provider>> {
        self.reloader.providers().named(id).map(Arc::clone)
    }

    fn may_close(&self, id: &ProviderId) -> Result<(), String> {
        let kill = self.process.kill.current();
        may_close(&self.reloader.settings(), &kill, id)
    }

    fn quarantine(&self, ids: &BTreeSet<ProviderId>) -> Result<(), String> {
        self.process.conductor.close(ids);
        self.reloader.replan()
    }
}

/// What is closed is known before anything is decided. A store that is away does not stop a start: it is learnt later, and until
/// then the stage refuses what the closing would refuse.
pub(super) async fn learn(process: &Process) {
    match process.closing.closed().await {
        Ok(closed) => process.conductor.close(&closed),
        Err(error) => warn!(%error, "Which old sides are closed is not known yet."),
    }
}

/// Closes what was ordered, for as long as the process lives.
pub(super) fn work(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let side = Arc::new(Running {
        process: Arc::clone(process),
        reloader: Arc::clone(reloader),
    });
    let closing = Arc::clone(&process.closing);
    process.background.spawn(closing.run(side));
}

/// Closes, stops, or only says what would end.
pub(super) async fn close(
    process: &Process,
    settings: &Settings,
    wanted: LegacyRequest,
    actor: &str,
) -> Result<LegacyView, RevokeFailure> {
    let provider = match &wanted.provider {
        Some(name) => ProviderId::new(name),
        None => only(settings).map_err(RevokeFailure::Request)?,
    };
    if !wanted.plan && wanted.reason.trim().is_empty() {
        let what = "a reason is needed; it is recorded";
        return Err(RevokeFailure::Request(what.to_owned()));
    }
    let account = match (wanted.command.as_str(), wanted.plan) {
        ("stop", false) => {
            let stopped = process.closing.stop(&provider, actor, &wanted.reason).await;
            stopped.map_err(not_ordered)?
        }
        ("close", plan) => {
            may_close(settings, &process.kill.current(), &provider)
                .map_err(RevokeFailure::Request)?;
            let per_minute = wanted.per_minute.unwrap_or(PER_MINUTE);
            if !(1..=FASTEST).contains(&per_minute) {
                let what = format!("the pace is 1 to {FASTEST} sessions a minute");
                return Err(RevokeFailure::Request(what));
            }
            let sessions = count(process, &provider).await?;
            if plan {
                let target = Target::Provider {
                    provider: provider.to_string(),
                };
                let list = &process.revocations;
                let (client_tokens, _more) = list
                    .refresh_tokens(&target)
                    .await
                    .map_err(|error| RevokeFailure::Store(error.to_string()))?;
                return Ok(LegacyView {
                    provider: provider.to_string(),
                    state: "plan".to_owned(),
                    remaining: sessions,
                    client_tokens,
                    per_minute,
                    provider_told: !wanted.untold,
                    durable: process.store.is_durable(),
                    ..LegacyView::default()
                });
            }
            if CONFIRM_ABOVE < sessions && wanted.confirm.is_none_or(|most| most < sessions) {
                return Err(RevokeFailure::Confirm {
                    sessions,
                    tokens: 0,
                    access: 0,
                    more: false,
                });
            }
            let order = Order {
                provider: provider.clone(),
                per_minute,
                told: !wanted.untold,
                actor: actor.to_owned(),
                reason: wanted.reason,
            };
            let ordered = process.closing.order(order).await;
            ordered.map_err(not_ordered)?
        }
        (other, _) => {
            let what = format!("`{other}` is no order: `close` or `stop`");
            return Err(RevokeFailure::Request(what));
        }
    };
    view(process, &provider, &account).await
}

/// How far each has come.
pub(super) async fn accounts(process: &Process) -> Result<Vec<LegacyView>, RevokeFailure> {
    let all = process.closing.accounts().await;
    let all = all.map_err(|error| RevokeFailure::Store(error.to_string()))?;
    let mut views = Vec::new();
    for (provider, account) in &all {
        views.push(view(process, provider, account).await?);
    }
    Ok(views)
}

/// Why nobody can be sent back: the old side of this rollout is closed, or those of all.
pub(super) fn no_way_back(settings: &Settings, rollout: Option<&RolloutId>) -> Option<String> {
    let mut meant = settings
        .rollouts
        .iter()
        .filter(|plan| rollout.is_none_or(|id| plan.id == *id))
        .peekable();
    let from = meant.peek()?.from.clone();
    meant
        .all(|plan| plan.closed)
        .then(|| format!("`{from}` is closed for good: there is no way back"))
}

/// Nobody may sign in there any more: neither where a rollout leaves it, nor elsewhere.
fn may_close(settings: &Settings, kill: &KillState, id: &ProviderId) -> Result<(), String> {
    if !settings.providers.iter().any(|provider| provider.id == *id) {
        return Err(format!("there is no provider `{id}`"));
    }
    if let Some((app, _)) = settings.single.iter().find(|(_, own)| own == id) {
        return Err(format!(
            "`{app}` takes no part in a rollout: its people sign in at `{id}`"
        ));
    }
    if let Some(plan) = settings.rollouts.iter().find(|plan| plan.to == *id) {
        return Err(format!("the rollout `{}` moves people to `{id}`", plan.id));
    }
    let mut leaving = settings
        .rollouts
        .iter()
        .filter(|plan| plan.from == *id)
        .peekable();
    if leaving.peek().is_none() {
        return Err(format!("no rollout leaves `{id}`"));
    }
    for plan in leaving {
        if plan.stage.mode != Mode::ModernOnly {
            let (stage, mode) = (&plan.stage.id, plan.stage.mode.as_str());
            return Err(format!(
                "the rollout `{}` is in stage `{stage}` ({mode}): it must have come to `modern-only`",
                plan.id
            ));
        }
        let position = kill.position(&plan.id);
        if position == KillPosition::Legacy && !plan.closed {
            return Err(format!(
                "the kill switch of `{}` stands at `legacy`",
                plan.id
            ));
        }
    }
    Ok(())
}

/// The only provider that rollouts leave.
fn only(settings: &Settings) -> Result<ProviderId, String> {
    let left: BTreeSet<_> = settings.rollouts.iter().map(|plan| &plan.from).collect();
    let mut left = left.into_iter();
    match (left.next(), left.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => Err(String::from("there is no rollout")),
        (Some(_), Some(_)) => Err(String::from(
            "rollouts leave several providers: say which is to be closed",
        )),
    }
}

async fn count(process: &Process, provider: &ProviderId) -> Result<usize, RevokeFailure> {
    let counted = process.closing.count(provider).await;
    counted.map_err(|error| RevokeFailure::Store(error.to_string()))
}

async fn view(
    process: &Process,
    provider: &ProviderId,
    account: &Account,
) -> Result<LegacyView, RevokeFailure> {
    let closed = account.closed.map(UnixTime::from_millis);
    Ok(LegacyView {
        provider: provider.to_string(),
        state: account.phase.as_str().to_owned(),
        remaining: count(process, provider).await?,
        sessions: account.sessions,
        tokens_revoked: account.revoked,
        tokens_left: account.left,
        sessions_unread: account.unread,
        client_tokens: 0,
        per_minute: account.per_minute,
        provider_told: account.told,
        waits: account.waits.clone(),
        closed: closed.map(UnixTime::as_secs),
        durable: process.store.is_durable(),
    })
}

fn not_ordered(why: NotOrdered) -> RevokeFailure {
    match why {
        NotOrdered::Refused(what) => RevokeFailure::Request(what),
        NotOrdered::Away(what) => RevokeFailure::Store(what),
    }
}
