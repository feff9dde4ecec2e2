//! Who asks for the second opinion: within a budget, once for each person and span, and not while the other side is in trouble.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::Sender;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::ProviderError;
use crate::providers::Providers;
use crate::rollout::AppId;
use crate::rollout::Arm;
use crate::rollout::BucketKey;
use crate::rollout::Looked;
use crate::shadow::asked::ask;
use crate::shadow::asked::lifetime;
use crate::shadow::chosen;
use crate::shadow::compare::Side;
use crate::shadow::desk::Desk;
use crate::shadow::found::Found;
use crate::shadow::job::How;
use crate::shadow::job::Job;
use crate::shadow::job::Question;
use crate::shadow::job::Source;
use crate::shadow::kind::Field;
use crate::shadow::pace::Pace;
use crate::shadow::quiet;
use crate::shadow::sampled::Sampled;
use crate::shadow::settings::Settings;
use crate::shadow::weigh;
use crate::shadow::weigh::Opinion;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::metrics::Compared;
use crate::telemetry::metrics::Oracle;
use crate::telemetry::metrics::Skipped;

/// Credentials that wait, of all applications: more are not looked at twice.
pub(crate) const MAX_QUEUE: usize = 4_096;
/// What has waited longer is not asked about any more.
const STALE: Duration = Duration::from_secs(5);
/// People of whom it is known when they were asked about last.
const MAX_ASKED: usize = 100_000;

/// Makes of an identity what is compared: names, roles and headers as a request would get them.
pub(crate) trait Reader: fmt::Debug + Send + Sync {
    /// What this side makes of somebody at an application. `known` is who it is, where that was decided already.
    fn read(&self, app: &AppId, identity: &Arc<Identity>, known: Option<&CanonicalSubject>)
    -> Side;
}

/// What it works with.
#[derive(Clone)]
pub(crate) struct ShadowParts {
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Who hides names.
    pub(crate) pseudonyms: Pseudonyms,
    /// Where it is kept.
    pub(crate) found: Arc<Found>,
    /// Where a provider is asked whose connections and questions are those of requests, too.
    pub(crate) background: Handle,
}

/// The block of one application, live.
pub(super) struct Block {
    pub(super) settings: Settings,
    /// By which people are in a share.
    pub(super) key: BucketKey,
    sources: Vec<(CredentialClass, Arc<Source>)>,
    /// Who is asked about people of the provider that they move to.
    back: Vec<(CredentialClass, Arc<Source>)>,
    /// Who judges a token that comes beside the credential.
    pub(super) beside: Option<Arc<Source>>,
    pub(super) reader: Arc<dyn Reader>,
    /// The side that decides, asked again about few.
    pub(super) control: Option<Arc<Source>>,
    /// Places of people who wait: half of them for anybody, whose turn will tell whether they are in the sample.
    pub(super) anybody: Arc<Semaphore>,
    /// The other half for those who are: told before, where the first half is taken.
    pub(super) chosen: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    pace: Arc<Pace>,
}

impl Block {
    /// Who is asked about somebody who has presented a credential of this class at one side.
    pub(super) fn source(&self, arm: Arm, class: CredentialClass) -> Option<&Arc<Source>> {
        let sources = match arm {
            Arm::From => &self.sources,
            Arm::To => &self.back,
        };
        let found = sources.iter().find(|(of, _)| *of == class);
        found.map(|(_, source)| source)
    }
}

/// Asks, for as long as the process lives.
pub(crate) struct Shadow {
    queue: Sender<Job>,
    parts: ShadowParts,
    paces: Mutex<HashMap<AppId, Arc<Pace>>>,
    sampled: Sampled,
}

impl Shadow {
    /// Begins to work, on a thread of its own.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub(crate) fn start(parts: ShadowParts) -> io::Result<Self> {
        let (shadow, work) = Self::new(parts);
        quiet::start(work)?;
        Ok(shadow)
    }

    /// And what is to be done for it.
    pub(super) fn new(parts: ShadowParts) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, jobs) = mpsc::channel(MAX_QUEUE);
        let work = work(parts.clone(), jobs);
        let shadow = Self {
            queue,
            parts,
            paces: Mutex::default(),
            sampled: Sampled::default(),
        };
        (shadow, work)
    }

    pub(super) const fn parts(&self) -> &ShadowParts {
        &self.parts
    }

    /// How fast others are asked about the people of an application, whatever its settings were before.
    pub(super) fn pace(&self, app: &AppId) -> Arc<Pace> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(paces.entry(app.clone()).or_default())
    }

    /// What was found about the people of some applications since a step began, and how many could not be asked about;
    /// `None`: it is not known.
    pub(crate) fn since(&self, apps: &[AppId], moment: UnixTime) -> Option<Looked> {
        let (found, metrics) = (&self.parts.found, &self.parts.metrics);
        for app in apps {
            found.sampled(app, moment, self.sampled.count(app, moment, metrics));
        }
        found.since(apps, moment)
    }

    /// What was found.
    pub(crate) const fn found(&self) -> &Arc<Found> {
        &self.parts.found
    }

    /// How many wait, for the metrics.
    pub(crate) fn depth(&self) -> usize {
        MAX_QUEUE.saturating_sub(self.queue.capacity())
    }

    /// The desk of a snapshot.
    pub(crate) fn desk(
        &self,
        (blocks, key): (&[Settings], &BucketKey),
        providers: &Providers,
        reader: &Arc<dyn Reader>,
    ) -> Desk {
        let block = |settings: &Settings| {
            let of_side = |of, id: &ProviderId, how| {
                let provider = Arc::clone(providers.named(id)?);
                Some(Arc::new(Source { of, provider, how }))
            };
            let source = |id: &ProviderId, how| of_side(Arm::From, id, how);
            let mut sources = Vec::new();
            for (class, id) in &settings.dual_verify {
                sources.extend(source(id, How::Present).map(|source| (*class, source)));
            }
            for (class, own) in &settings.exchange {
                let how = How::Exchange(Arc::clone(&own.audiences));
                sources.extend(source(&own.provider, how).map(|source| (*class, source)));
            }
            for (class, own) in &settings.directory {
                let how = How::LookUp(own.by.clone());
                sources.extend(source(&own.provider, how).map(|source| (*class, source)));
            }
            let mut back = Vec::new();
            for (class, own) in &settings.back {
                let how = How::LookUp(own.by.clone());
                let source = of_side(Arm::To, &own.provider, how);
                back.extend(source.map(|source| (*class, source)));
            }
            let beside = settings.dual_token.as_ref();
            let block = Block {
                sources,
                back,
                beside: beside.and_then(|id| source(id, How::Present)),
                reader: Arc::clone(reader),
                control: source(&settings.decides, How::Present),
                anybody: Arc::new(Semaphore::new(settings.queue / 2)),
                chosen: Arc::new(Semaphore::new(settings.queue.div_ceil(2))),
                slots: Arc::new(Semaphore::new(settings.inflight)),
                pace: self.pace(&settings.app),
                settings: settings.clone(),
                key: key.clone(),
            };
            (settings.app.clone(), Arc::new(block))
        };
        let blocks: HashMap<_, _> = blocks.iter().map(block).collect();
        Desk::new(
            blocks,
            Some(self.queue.clone()),
            Arc::clone(&self.parts.metrics),
        )
        .keeping(&self.parts)
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shadow")
    }
}

/// By oracle, whichever application: tries at one account are bounded, or a provider locks it.
type About = (ProviderId, Oracle, CredentialClass, CanonicalSubject);
type Asked = Cache<About, UnixTime>;

async fn work(parts: ShadowParts, mut jobs: Receiver<Job>) {
    let asked: Asked = Cache::new(MAX_ASKED);
    while let Some(mut job) = jobs.recv().await {
        drop(job.waiting.take());
        let now = parts.clock.now();
        // Who is asked again for the noise alone is no sample of anything.
        let skipped = |why| match job.question {
            Question::Credential(_)
            | Question::Person
            | Question::Exchange(..)
            | Question::Beside(_) => {
                parts.metrics.shadow_skipped(job.app(), why);
            }
            Question::Again(_) => {}
        };
        if let Err(why) = may(&asked, &job, now) {
            skipped(why);
            continue;
        }
        let Ok(slot) = Arc::clone(&job.block.slots).try_acquire_owned() else {
            skipped(Skipped::Budget);
            continue;
        };
        asked.insert(about(&job), now);
        let parts = parts.clone();
        tokio::spawn(async move {
            look(&parts, &job, now).await;
            drop(slot);
        });
    }
}

fn about(job: &Job) -> About {
    let (provider, oracle) = (job.source.provider.id().clone(), job.question.oracle());
    (provider, oracle, job.class, job.canonical.clone())
}

/// Whether somebody may be asked about now.
fn may(asked: &Asked, job: &Job, now: UnixTime) -> Result<(), Skipped> {
    let block = &job.block;
    if matches!(job.question, Question::Person) && job.known_by().is_none() {
        return Err(Skipped::NoOracle);
    }
    if !chosen::is(job) {
        return Err(Skipped::SampledOut);
    }
    if STALE < now.since(job.at) {
        return Err(Skipped::Stale);
    }
    let about = about(job);
    let last = asked.get(&about);
    if last.is_some_and(|last| now.since(last) < block.settings.per_subject) {
        return Err(Skipped::PerSubject);
    }
    block.pace.take(block.settings.rps, now)
}

/// Asks, and compares.
async fn look(parts: &ShadowParts, job: &Job, now: UnixTime) {
    let settings = &job.block.settings;
    let oracle = job.question.oracle();
    let read = |identity, known| job.block.reader.read(job.app(), identity, known);
    let mut control = read(&job.identity, Some(&job.canonical));
    control.lifetime = lifetime(job.class, job.ends, now);
    let began = tokio::time::Instant::now();
    let answer = tokio::time::timeout(
        settings.timeout,
        ask((job, &parts.background), &control, now),
    )
    .await;
    let took = began.elapsed();
    let opinion = match answer.unwrap_or(Err(Outage::Timeout.into())) {
        Ok(opinion) => opinion,
        Err(ProviderError::Rejected(refusal)) => Opinion::Refused(refusal.as_str()),
        Err(ProviderError::Unavailable { outage, .. }) => {
            job.block
                .pace
                .failed(settings.breaker, outage, settings.rps, now);
            if !matches!(job.question, Question::Again(_)) {
                let metrics = &parts.metrics;
                metrics.shadow_compared(job.app(), oracle, Compared::Unavailable);
            }
            return;
        }
    };
    job.block.pace.answered(settings.breaker, now);
    let person = parts.pseudonyms.of(&job.canonical);
    let differences = match job.source.of {
        Arm::From => weigh::of_welcome(&control, &opinion),
        Arm::To => weigh::of_moved(&control, &opinion),
    };
    if matches!(job.question, Question::Again(_)) {
        return weigh::noise(parts, settings, person, &differences, now);
    }
    if settings.compare.contains(&Field::Latency) {
        let metrics = &parts.metrics;
        metrics.shadow_delta(job.app(), oracle, took, job.took);
    }
    weigh::record(parts, settings, (oracle, person), differences, now);
}

#[cfg(test)]
mod tests;
