//! Where accepted credentials are offered for a second look: a look-up and a try, never a wait.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::rollout::AppId;
use crate::rollout::Bucket;
use crate::rollout::BucketKey;
use crate::rollout::Mode;
use crate::rollout::Plan;
use crate::rollout::UnitKind;
use crate::shadow::work::Block;
use crate::shadow::work::Job;
use crate::shadow::work::Question;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Skipped;

/// The salt of the sample: another share of people than any canary's.
const SALT: &str = "authferry/shadow/v1";

/// A credential that its owner vouched for and that was accepted.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    /// The rollout, in its stage.
    pub(crate) plan: &'a Plan,
    /// Where.
    pub(crate) app: &'a AppId,
    /// What was presented.
    pub(crate) credential: &'a Credential,
    /// What its owner says.
    pub(crate) identity: &'a Arc<Identity>,
    /// Who it is.
    pub(crate) canonical: &'a CanonicalSubject,
    /// Whether it is used with a proof that nobody else may see.
    pub(crate) bound: bool,
    /// Now.
    pub(crate) now: UnixTime,
}

/// What one snapshot offers.
#[derive(Clone)]
pub(crate) struct Desk {
    blocks: Arc<HashMap<AppId, Arc<Block>>>,
    queue: Option<Sender<Job>>,
    metrics: Arc<Metrics>,
}

impl Desk {
    pub(super) fn new(
        blocks: HashMap<AppId, Arc<Block>>,
        queue: Option<Sender<Job>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            blocks: Arc::new(blocks),
            queue,
            metrics,
        }
    }

    /// A desk that takes nothing.
    #[cfg(test)]
    pub(crate) fn closed(metrics: Arc<Metrics>) -> Self {
        Self::new(HashMap::new(), None, metrics)
    }

    /// Offers an accepted credential. Only what the provider that people leave has vouched for is looked at twice.
    pub(crate) fn offer(&self, offer: &Offer<'_>, key: &BucketKey) {
        let Some(block) = self.blocks.get(offer.app) else {
            return;
        };
        let looks = match offer.plan.stage.mode {
            Mode::Shadow | Mode::Canary | Mode::ModernPrimary => true,
            Mode::LegacyOnly | Mode::ModernOnly => false,
        };
        if !looks || offer.identity.provider != offer.plan.from {
            return;
        }
        let skip = |why| self.metrics.shadow_skipped(offer.app, why);
        let class = offer.credential.class();
        let Some(source) = block.source(class) else {
            return skip(Skipped::NoOracle);
        };
        // Whoever is looked up presents nothing there.
        if offer.bound && source.by.is_none() {
            return skip(Skipped::SingleUse);
        }
        let person = offer.canonical.as_str();
        let bucket = Bucket::of(key, SALT, UnitKind::Subject, person);
        if !bucket.is_within(block.settings.sample) {
            return skip(Skipped::SampledOut);
        }
        let Some(queue) = &self.queue else {
            return;
        };
        let place = match queue.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Full(()) | TrySendError::Closed(())) => {
                return skip(Skipped::QueueFull);
            }
        };
        let question = match &source.by {
            None => Question::Credential(offer.credential.clone()),
            Some(by) => match known_by(offer.identity, by) {
                Some(value) => Question::Person(value.into()),
                None => return skip(Skipped::NoOracle),
            },
        };
        place.send(Job {
            block: Arc::clone(block),
            source: source.clone(),
            question,
            class,
            app: offer.app.clone(),
            identity: Arc::clone(offer.identity),
            canonical: offer.canonical.clone(),
            at: offer.now,
        });
    }
}

/// By what somebody is looked up.
fn known_by<'a>(identity: &'a Identity, by: &str) -> Option<&'a str> {
    let said = identity.attributes.text(by);
    said.or_else(|| (by == "subject").then(|| identity.key.subject.as_str()))
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("apps", &self.blocks.len())
            .finish_non_exhaustive()
    }
}
