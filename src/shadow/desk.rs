//! Where accepted credentials are offered for a second look: a look-up and a try, never a wait.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::Mode;
use crate::rollout::Percent;
use crate::rollout::Plan;
use crate::secret::Secret;
use crate::shadow::chosen;
use crate::shadow::job::How;
use crate::shadow::job::Job;
use crate::shadow::job::Question;
use crate::shadow::job::Source;
use crate::shadow::weigh;
use crate::shadow::work::Block;
use crate::shadow::work::ShadowParts;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonym;
use crate::telemetry::metrics::Skipped;

/// Losses that are remembered, so that they are not found again at once.
const MAX_LOST: usize = 10_000;
/// How soon the same one is found again.
const TELL: Duration = Duration::from_secs(60);

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
    /// The token of another provider that a client shows beside it, to have it judged; it lets nobody in.
    pub(crate) candidate: Option<&'a str>,
    /// Whether it is used with a proof that nobody else may see.
    pub(crate) bound: bool,
    /// When it ends.
    pub(crate) ends: UnixTime,
    /// How long its owner took.
    pub(crate) took: Duration,
    /// Now.
    pub(crate) now: UnixTime,
}

/// What one snapshot offers.
#[derive(Clone)]
pub(crate) struct Desk {
    blocks: Arc<HashMap<AppId, Arc<Block>>>,
    queue: Option<Sender<Job>>,
    metrics: Arc<Metrics>,
    /// Where it is kept what requests show by themselves.
    parts: Option<ShadowParts>,
    /// When it was told last that somebody's binding was lost.
    lost: Arc<Cache<Lost, UnixTime>>,
}

/// Where, by which exchange, and whose.
type Lost = (AppId, Box<str>, Pseudonym);

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
            parts: None,
            lost: Arc::new(Cache::new(MAX_LOST)),
        }
    }

    /// Keeps what requests show by themselves there.
    #[must_use]
    pub(super) fn keeping(mut self, parts: &ShadowParts) -> Self {
        self.parts = Some(parts.clone());
        self
    }

    /// Somebody's bound token became one that anybody can use: found like a difference, whether or not anybody is looked at
    /// twice there.
    pub(crate) fn binding_lost(
        &self,
        app: &AppId,
        exchange: &str,
        person: &CanonicalSubject,
        now: UnixTime,
    ) {
        let Some(parts) = &self.parts else {
            return;
        };
        let person = parts.pseudonyms.of(person);
        let about = (app.clone(), Box::from(exchange), person);
        // Gates ask since when, and not how often.
        if self
            .lost
            .get(&about)
            .is_some_and(|last| now.since(last) < TELL)
        {
            return;
        }
        self.lost.insert(about, now);
        let block = self.blocks.get(app);
        let settings = block.map(|block| &block.settings);
        weigh::binding_lost(parts, (app, settings), (exchange, person), now);
    }

    /// A desk that takes nothing.
    #[cfg(test)]
    pub(crate) fn closed(metrics: Arc<Metrics>) -> Self {
        Self::new(HashMap::new(), None, metrics)
    }

    /// Offers an accepted credential. What the provider that people leave has vouched for is looked at twice; of the other one
    /// only when it decides, and then by who is in the directory of the former. Who is in the sample is for whoever asks to say.
    pub(crate) fn offer(&self, offer: &Offer<'_>) {
        let Some(block) = self.blocks.get(offer.app) else {
            return;
        };
        let looks = match offer.plan.stage.mode {
            Mode::Shadow | Mode::Canary | Mode::ModernPrimary => true,
            Mode::LegacyOnly | Mode::ModernOnly => false,
        };
        let looks = looks && offer.plan.stage.shadow.covers(offer.app);
        let Some(arm) = offer.plan.arm(&offer.identity.provider).filter(|_| looks) else {
            return;
        };
        let skip = |why| self.metrics.shadow_skipped(offer.app, why);
        let source = block.source(arm, offer.credential.class());
        match arm {
            // First: of whoever was asked about a moment ago nothing more is asked.
            Arm::From => self.beside(block, offer),
            // Nobody asked for that, so nothing is missing.
            Arm::To if offer.plan.stage.mode != Mode::ModernPrimary || source.is_none() => return,
            Arm::To => {}
        }
        if let Err(why) = self.other(block, offer, source) {
            skip(why);
        }
        // Last: what the noise is learnt from takes the place of nobody who is looked at.
        match arm {
            Arm::From => self.noise(block, offer),
            Arm::To => {}
        }
    }

    /// What the other side says of somebody.
    fn other(
        &self,
        block: &Arc<Block>,
        offer: &Offer<'_>,
        source: Option<&Arc<Source>>,
    ) -> Result<(), Skipped> {
        let source = source.ok_or(Skipped::NoOracle)?;
        // Whoever is looked up presents nothing there.
        if offer.bound && !matches!(source.how, How::LookUp(_)) {
            return Err(Skipped::SingleUse);
        }
        let question = match &source.how {
            How::Present => Some(Question::Credential(offer.credential.clone())),
            // By what somebody is looked up is found when their turn comes: a request does not wait for that.
            How::LookUp(_) => Some(Question::Person),
            How::Exchange(audiences) => token_of(offer.credential)
                .map(|token| Question::Exchange(token.clone(), Arc::clone(audiences))),
        };
        self.send(block, offer, (source, question.ok_or(Skipped::NoOracle)?))
    }

    /// Few are looked at twice at the side that decides, to learn how it differs from itself.
    fn noise(&self, block: &Arc<Block>, offer: &Offer<'_>) {
        let nobody = block.settings.noise == Percent::NONE;
        if let (Some(control), false) = (&block.control, offer.bound || nobody) {
            let question = Question::Again(offer.credential.clone());
            // Whether there was room for it changes nothing that is counted.
            let _sent = self.send(block, offer, (control, question));
        }
    }

    /// A client that shows the token of the other side, too, wants it compared, whoever is in the sample.
    fn beside(&self, block: &Arc<Block>, offer: &Offer<'_>) {
        if let (Some(source), Some(token)) = (&block.beside, offer.candidate) {
            let token = Credential::Bearer(Secret::new(token.to_owned()));
            let sent = self.send(block, offer, (source, Question::Beside(token)));
            if let Err(why) = sent {
                self.metrics.shadow_skipped(offer.app, why);
            }
        }
    }

    fn send(
        &self,
        block: &Arc<Block>,
        offer: &Offer<'_>,
        (source, question): (&Arc<Source>, Question),
    ) -> Result<(), Skipped> {
        let queue = self.queue.as_ref().ok_or(Skipped::QueueFull)?;
        let mut job = Job {
            block: Arc::clone(block),
            source: Arc::clone(source),
            question,
            class: offer.credential.class(),
            identity: Arc::clone(offer.identity),
            canonical: offer.canonical.clone(),
            ends: offer.ends,
            took: offer.took,
            at: offer.now,
            waiting: Arc::clone(&block.anybody).try_acquire_owned().ok(),
        };
        if job.waiting.is_none() {
            // Whoever is not in the sample has lost nothing, and takes no place of those who are.
            if !chosen::is(&job) {
                return Err(Skipped::SampledOut);
            }
            job.waiting = Arc::clone(&block.chosen).try_acquire_owned().ok();
            if job.waiting.is_none() {
                return Err(Skipped::QueueFull);
            }
        }
        match queue.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Closed(job)) if chosen::is(&job) => {
                Err(Skipped::QueueFull)
            }
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Err(Skipped::SampledOut),
        }
    }
}

const fn token_of(credential: &Credential) -> Option<&Secret<String>> {
    match credential {
        Credential::Bearer(token) | Credential::Opaque(token) => Some(token),
        Credential::Session { .. }
        | Credential::Basic { .. }
        | Credential::ApiKey(_)
        | Credential::ClientCert(_) => None,
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("apps", &self.blocks.len())
            .finish_non_exhaustive()
    }
}
