//! What follows: a revocation, at the providers; the kill switch where `kill_switch.modern_sessions` says `revoke`: nobody whom
//! the new provider let in stays in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::error;
use tracing::warn;

use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::revocation::Asked;
use crate::revocation::ListError;
use crate::revocation::Named;
use crate::revocation::Source;
use crate::revocation::Target;
use crate::rollout::KillPosition;
use crate::rollout::KillState;
use crate::rollout::RolloutId;

/// Between two tries, while the store is away.
const AGAIN: Duration = Duration::from_secs(1);

/// Has providers told what revocations end.
pub(super) fn fan_out(process: &Process, reloader: &Arc<Reloader>) {
    let reloader = Arc::clone(reloader);
    let named: Named = Box::new(move |id| reloader.providers().named(id).map(Arc::clone));
    process.revocations.fan_out(named, &process.background);
    let seen = Arc::clone(&process.seen);
    let forgotten = Box::new(move |person: &CanonicalSubject| seen.forget(person));
    process.revocations.when_forgotten(forgotten);
}

/// Finds out since when the store has forgotten nothing, before anybody rests on it.
pub(super) fn remember(process: &Process) {
    let (replays, now) = (Arc::clone(&process.replays), process.clock.now());
    process
        .background
        .spawn(async move { replays.begin(now).await });
}

/// Follows the switch, from where it stands now: an instance that starts in position `legacy` ends sessions, too.
pub(super) fn follow(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (process, reloader) = (Arc::clone(process), Arc::clone(reloader));
    process.background.clone().spawn(async move {
        let mut moves = process.kill.moves();
        let mut before = KillState::default();
        loop {
            let after = KillState::clone(&moves.borrow_and_update());
            let settings = reloader.settings();
            for provider in struck(&settings, &before, &after) {
                end_at_last(&process, provider).await;
            }
            before = after;
            if moves.changed().await.is_err() {
                return;
            }
        }
    });
}

/// The rollouts whose sessions at the new provider end when the switch comes to `legacy`.
pub(super) fn ends(settings: &Settings) -> BTreeSet<RolloutId> {
    let struck = settings
        .rollouts
        .iter()
        // Where the old side is closed nobody can go back to it.
        .filter(|plan| settings.kill_switch.revokes && !plan.closed);
    struck.map(|plan| plan.id.clone()).collect()
}

/// The new providers of the rollouts that have come to `legacy`.
fn struck(settings: &Settings, before: &KillState, after: &KillState) -> BTreeSet<ProviderId> {
    let is = |state: &KillState, rollout| state.position(rollout) == KillPosition::Legacy;
    let ends = ends(settings);
    let moved = settings
        .rollouts
        .iter()
        .filter(|plan| ends.contains(&plan.id) && is(after, &plan.id) && !is(before, &plan.id));
    moved.map(|plan| plan.to.clone()).collect()
}

/// Ends everything that a provider has vouched for until now; not given up while the store is away.
async fn end_at_last(process: &Process, provider: ProviderId) {
    let why = "kill_switch.modern_sessions: revoke";
    while let Err(error) = end(process, &provider, "kill switch", why).await {
        error!(%provider, %error, "The kill switch could not end what this provider vouched for; it is tried again.");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Ends everything that a provider has vouched for until now.
///
/// # Errors
///
/// The store's: nothing ends then.
pub(super) async fn end(
    process: &Process,
    provider: &ProviderId,
    actor: &str,
    why: &str,
) -> Result<(), ListError> {
    let asked = Asked {
        target: Target::Provider {
            provider: provider.to_string(),
        },
        source: Source::Operator,
        actor: actor.to_owned(),
        reason: why.to_owned(),
        provider: Some(provider.clone()),
        keep: None,
    };
    let record = process.revocations.revoke(asked).await?;
    warn!(%provider, actor, why, revocation = %record.id, "What this provider vouched for was ended.");
    Ok(())
}
