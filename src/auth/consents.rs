//! Whether somebody has agreed at the new provider that others act for them: asked beside their sign-in there, and never waited
//! for. A switch back takes that from them.

use tracing::debug;
use tracing::warn;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Subject;
use crate::providers::Provider;
use crate::rollout::RolloutId;
use crate::session::Pins;

/// Asks the provider where it can say, and takes note of the answer.
pub(super) async fn note(
    to: &dyn Provider,
    pins: &Pins,
    moved: (&RolloutId, u64),
    (person, subject): (&CanonicalSubject, &Subject),
    now: UnixTime,
) {
    let directory = to.directory();
    let Some(consents) = directory.and_then(|directory| directory.consents()) else {
        return;
    };
    let given = match consents.given(subject, now).await {
        Ok(given) => given,
        Err(error) => {
            debug!(provider = %to.id(), %error, "What somebody has agreed to is not known.");
            return;
        }
    };
    if let Err(error) = pins.consents(moved, person, given, now).await {
        warn!(%error, "What a switch back would take from somebody is not noted.");
    }
}
