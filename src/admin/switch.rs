//! The kill switch, moved over the admin interface.

use std::sync::Arc;

use crate::admin::respond::Failure;
use crate::admin::routes::Context;
use crate::admin::routes::KillRequest;
use crate::admin::routes::KillView;
use crate::rollout::KillPosition;
use crate::rollout::RolloutId;

/// Moves the kill switch, and says where it stands then.
pub(super) async fn move_switch(
    context: &Context,
    wanted: KillRequest,
    actor: String,
) -> Result<KillView, Failure> {
    let position = KillPosition::parse(&wanted.position).ok_or_else(|| {
        Failure::BadRequest("the position is off, freeze, legacy, modern or deny".into())
    })?;
    let scope = wanted.rollout.as_deref().map(RolloutId::new);
    if position == KillPosition::Legacy
        && let Some(why) = context.backend.no_way_back(scope.as_ref())
    {
        return Err(Failure::BadRequest(why));
    }
    let kill = Arc::clone(&context.kill);
    // Writing the position down waits for the disk.
    let moved = tokio::task::spawn_blocking(move || {
        kill.set(position, scope.as_ref(), &actor, &wanted.reason)
    });
    let moved = moved
        .await
        .map_err(|error| Failure::Internal(error.to_string()))?
        .map_err(Failure::Kill)?;
    Ok(KillView::of(&moved.effective, Some(moved.persisted)))
}
