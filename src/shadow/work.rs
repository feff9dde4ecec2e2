//! Who asks for the second opinion: within a budget, once for each person and span, and not while the other side is in trouble.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Providers;
use crate::rollout::AppId;
use crate::shadow::compare::Difference;
use crate::shadow::compare::Side;
use crate::shadow::compare::compare;
use crate::shadow::desk::Desk;
use crate::shadow::found::Found;
use crate::shadow::kind::Class;
use crate::shadow::settings::Settings;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::metrics::Compared;
use crate::telemetry::metrics::Oracle;
use crate::telemetry::metrics::Skipped;

/// Credentials that wait: more are not looked at twice.
const MAX_QUEUE: usize = 512;
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
}

/// The block of one application, live.
pub(super) struct Block {
    pub(super) settings: Settings,
    oracles: Vec<(CredentialClass, Arc<dyn Provider>)>,
    reader: Arc<dyn Reader>,
    slots: Arc<Semaphore>,
    /// Calls in a row without an answer, and until when nobody is asked.
    failures: AtomicU32,
    shut: Mutex<UnixTime>,
    /// The calls of the present second.
    second: Mutex<(u64, u32)>,
}

impl Block {
    pub(super) fn oracle(&self, class: CredentialClass) -> Option<&Arc<dyn Provider>> {
        let found = self.oracles.iter().find(|(of, _)| *of == class);
        found.map(|(_, oracle)| oracle)
    }
}

/// One credential to be looked at twice. Its secret is cleared when the job is dropped.
pub(super) struct Job {
    pub(super) block: Arc<Block>,
    pub(super) oracle: Arc<dyn Provider>,
    pub(super) app: AppId,
    pub(super) credential: Credential,
    pub(super) identity: Arc<Identity>,
    pub(super) canonical: CanonicalSubject,
    pub(super) at: UnixTime,
}

/// Asks, for as long as the process lives.
pub(crate) struct Shadow {
    queue: Sender<Job>,
    parts: ShadowParts,
}

impl Shadow {
    /// Begins to work on the background runtime.
    pub(crate) fn start(parts: ShadowParts, background: &Handle) -> Self {
        let (queue, jobs) = mpsc::channel(MAX_QUEUE);
        background.spawn(work(parts.clone(), jobs));
        Self { queue, parts }
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
        blocks: &[Settings],
        providers: &Providers,
        reader: &Arc<dyn Reader>,
    ) -> Desk {
        let block = |settings: &Settings| {
            let oracles = settings.dual_verify.iter();
            let oracles =
                oracles.filter_map(|(class, id)| Some((*class, Arc::clone(providers.named(id)?))));
            let block = Block {
                oracles: oracles.collect(),
                reader: Arc::clone(reader),
                slots: Arc::new(Semaphore::new(settings.inflight)),
                failures: AtomicU32::new(0),
                shut: Mutex::default(),
                second: Mutex::default(),
                settings: settings.clone(),
            };
            (settings.app.clone(), Arc::new(block))
        };
        let blocks: HashMap<_, _> = blocks.iter().map(block).collect();
        Desk::new(
            blocks,
            Some(self.queue.clone()),
            Arc::clone(&self.parts.metrics),
        )
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shadow")
    }
}

/// By oracle, whichever application: tries at one account are bounded, or a provider locks it.
type Asked = Cache<(ProviderId, CredentialClass, CanonicalSubject), UnixTime>;

async fn work(parts: ShadowParts, mut jobs: Receiver<Job>) {
    let asked: Asked = Cache::new(MAX_ASKED);
    while let Some(job) = jobs.recv().await {
        let now = parts.clock.now();
        if let Err(why) = may(&asked, &job, now) {
            parts.metrics.shadow_skipped(&job.app, why);
            continue;
        }
        let Ok(slot) = Arc::clone(&job.block.slots).try_acquire_owned() else {
            parts.metrics.shadow_skipped(&job.app, Skipped::Budget);
            continue;
        };
        let about = (
            job.oracle.id().clone(),
            job.credential.class(),
            job.canonical.clone(),
        );
        asked.insert(about, now);
        let parts = parts.clone();
        tokio::spawn(async move {
            look(&parts, &job, now).await;
            drop(slot);
        });
    }
}

/// Whether somebody may be asked about now.
fn may(asked: &Asked, job: &Job, now: UnixTime) -> Result<(), Skipped> {
    let (block, class) = (&job.block, job.credential.class());
    if STALE < now.since(job.at) {
        return Err(Skipped::Stale);
    }
    let about = (job.oracle.id().clone(), class, job.canonical.clone());
    let last = asked.get(&about);
    if last.is_some_and(|last| now.since(last) < block.settings.per_subject) {
        return Err(Skipped::PerSubject);
    }
    let shut = *block.shut.lock().unwrap_or_else(PoisonError::into_inner);
    if now < shut {
        return Err(Skipped::Breaker);
    }
    let mut second = block.second.lock().unwrap_or_else(PoisonError::into_inner);
    if second.0 != now.as_secs() {
        *second = (now.as_secs(), 0);
    }
    if block.settings.rps <= second.1 {
        return Err(Skipped::Budget);
    }
    second.1 += 1;
    Ok(())
}

/// Asks, and compares.
async fn look(parts: &ShadowParts, job: &Job, now: UnixTime) {
    let settings = &job.block.settings;
    let answer = job.oracle.authenticate(&job.credential, now);
    let answer = tokio::time::timeout(settings.timeout, answer).await;
    let told = |result| {
        let metrics = &parts.metrics;
        metrics.shadow_compared(&job.app, Oracle::DualVerify, result);
    };
    let differences = match answer {
        Ok(Ok(proof)) => {
            let read = |identity, known| job.block.reader.read(&job.app, identity, known);
            let control = read(&job.identity, Some(&job.canonical));
            compare(&control, &read(proof.identity(), None))
        }
        Ok(Err(ProviderError::Rejected(refusal))) => vec![Difference {
            class: Class::AcceptReject,
            field: refusal.as_str().into(),
            values: Vec::new(),
            said: (b"accepted".to_vec(), refusal.as_str().into()),
        }],
        Ok(Err(ProviderError::Unavailable { .. })) | Err(_) => {
            failed(&job.block, now);
            return told(Compared::Unavailable);
        }
    };
    job.block.failures.store(0, Ordering::Relaxed);
    let person = parts.pseudonyms.of(&job.canonical);
    parts.found.compared(&job.app, person, now);
    let before = differences.len();
    let counted: Vec<Difference> = differences
        .into_iter()
        .filter_map(|difference| unknown(settings, difference, now))
        .collect();
    told(match (before, counted.len()) {
        (0, _) => Compared::Same,
        (_, 0) => Compared::Ignored,
        _ => Compared::Different,
    });
    for difference in counted {
        let (class, field) = (difference.class, difference.field.clone());
        let severity = class.severity();
        let words = (class.as_str(), severity);
        parts.metrics.shadow_divergence(&job.app, words, 1);
        if parts.found.differs(&job.app, person, difference, now) {
            let (app, class) = (job.app.as_str(), class.as_str());
            warn!(app, class, severity, %field, subject = %person, "Two providers differ about somebody.");
        }
    }
}

/// So many without an answer: it is left alone for a while.
fn failed(block: &Block, now: UnixTime) {
    let breaker = block.settings.breaker;
    if breaker.failures <= block.failures.fetch_add(1, Ordering::Relaxed) + 1 {
        block.failures.store(0, Ordering::Relaxed);
        let mut shut = block.shut.lock().unwrap_or_else(PoisonError::into_inner);
        *shut = now + breaker.open_for;
    }
}

/// What of a difference is not known already.
fn unknown(settings: &Settings, mut difference: Difference, now: UnixTime) -> Option<Difference> {
    let rules = settings
        .ignore
        .iter()
        .filter(|rule| rule.class == difference.class && now < rule.until);
    for rule in rules {
        if rule.values.is_empty() {
            return None;
        }
        let before = difference.values.len();
        difference
            .values
            .retain(|value| !rule.values.contains(value));
        if difference.values.is_empty() && 0 < before {
            return None;
        }
    }
    Some(difference)
}

#[cfg(test)]
mod tests;
