//! Whom providers have barred: asked of their directories every so often, by one instance for all, and written where every
//! use of a session or a token looks.
//!
//! It must never take silence for a word: a directory that does not answer, or an account that is gone, changes nothing.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;

use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::clock::UnixTime;
use crate::config::settings::Denials;
use crate::config::settings::Settings;
use crate::identity::ProviderId;
use crate::providers::Directory;
use crate::providers::Known;
use crate::providers::ProviderError;
use crate::revocation::Barred;
use crate::revocation::Denial;
use crate::revocation::RevocationId;
use crate::rollout::Mode;

/// How often it is looked whether it is time, or nobody asks any more.
const LOOK: Duration = Duration::from_millis(500);
/// Barred accounts of one provider: 100 000. Of one that has more nothing is learnt.
const MOST: usize = 100_000;
/// What asks is trusted to do so again within twice the time between; at least so long.
const LEASE: Duration = Duration::from_secs(20);
const NAME: &str = "denials";

/// From here on, for as long as the process lives.
pub(super) fn start(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let asker = Asker {
        process: Arc::clone(process),
        reloader: Arc::clone(reloader),
        holder: process.entropy.token(),
        read: BTreeMap::new(),
        silent: HashSet::new(),
        none: None,
        tried: None,
    };
    process.background.clone().spawn(asker.run());
}

/// Who asks.
struct Asker {
    process: Arc<Process>,
    reloader: Arc<Reloader>,
    holder: String,
    /// When each provider last said all; first, when this instance began.
    read: BTreeMap<ProviderId, UnixTime>,
    /// Who does not answer, as far as that has been said.
    silent: HashSet<ProviderId>,
    /// The configuration under which it was made sure that nobody is denied.
    none: Option<Box<str>>,
    /// When that was tried last.
    tried: Option<Instant>,
}

/// Why nothing is learnt of a provider; what is known stays.
type Unknown = String;

impl Asker {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Instant> = None;
        loop {
            tick.tick().await;
            let settings = self.reloader.settings();
            let Some(denials) = &settings.denials else {
                self.nobody(&settings).await;
                continue;
            };
            (self.none, self.tried) = (None, None);
            let now = self.process.clock.now();
            self.read.retain(|id, _| denials.providers.contains(id));
            for id in &denials.providers {
                self.read.entry(id.clone()).or_insert(now);
            }
            if last.is_some_and(|last| last.elapsed() < denials.every) {
                continue;
            }
            last = Some(Instant::now());
            if self.may_ask(denials.every, now).await {
                self.ask(&settings, denials).await;
            } else {
                self.process.metrics.denied([]);
            }
            self.process
                .metrics
                .denials_read(self.read.iter().map(|(provider, at)| (provider, *at)));
        }
    }

    /// One instance asks for all.
    async fn may_ask(&self, every: Duration, now: UnixTime) -> bool {
        let (store, lease) = (&self.process.store, (every * 2).max(LEASE));
        !store.is_shared() || matches!(store.lease(NAME, &self.holder, lease, now).await, Ok(true))
    }

    /// Nobody is to be asked: nobody's word counts at another provider any more.
    async fn nobody(&mut self, settings: &Settings) {
        if self.none.as_ref() == Some(&settings.sha256) {
            return;
        }
        // As long as another instance still asks, it is tried again and again: all that is revoked is read for it.
        if self.tried.is_some_and(|at| at.elapsed() < LEASE) {
            return;
        }
        self.tried = Some(Instant::now());
        let list = &self.process.revocations;
        let Ok(known) = list.denials().await else {
            return;
        };
        // Whoever still asks, at another instance, holds this: their word counts.
        if !known.is_empty() && !self.may_ask(LEASE, self.process.clock.now()).await {
            return;
        }
        for denial in &known {
            if let Err(error) = list.allow_again(denial, "nobody is asked any more").await {
                warn!(%error, "What a provider had barred stays barred for now.");
                return;
            }
        }
        if !known.is_empty() {
            info!(
                denials = known.len(),
                "`identity.denials` is gone: each provider speaks for its own accounts."
            );
        }
        self.process.metrics.denied([]);
        self.process.metrics.denials_read([]);
        self.none = Some(settings.sha256.clone());
    }

    async fn ask(&mut self, settings: &Arc<Settings>, denials: &Denials) {
        let known = match self.process.revocations.denials().await {
            Ok(known) => known,
            Err(error) => {
                warn!(%error, "It is not known whom providers have barred.");
                return;
            }
        };
        let mut counts = Vec::new();
        for id in &denials.providers {
            let asked = self.ask_one(settings, id, &known).await;
            match asked {
                Ok(count) => {
                    counts.push((id, count));
                    self.read.insert(id.clone(), self.process.clock.now());
                    if self.silent.remove(id) {
                        info!(provider = %id, "A provider says again which accounts it has barred.");
                    }
                }
                Err(why) => {
                    let of = |denial: &&Denial| of(denial, id);
                    counts.push((id, known.iter().filter(of).count()));
                    // It is said once, and again when it has answered meanwhile.
                    if self.silent.insert(id.clone()) {
                        warn!(provider = %id, why, "A provider does not say which accounts it has barred; what it has said before stands.");
                    }
                }
            }
        }
        self.process.metrics.denied(counts);
    }

    /// How many accounts a provider has barred.
    async fn ask_one(
        &self,
        settings: &Arc<Settings>,
        id: &ProviderId,
        known: &[Denial],
    ) -> Result<usize, Unknown> {
        let list = &self.process.revocations;
        if is_unopened(settings, id) {
            for denial in known {
                if of(denial, id) {
                    let lifted = list.allow_again(denial, "its side is not open").await;
                    lifted.map_err(|error| error.to_string())?;
                }
            }
            return Ok(0);
        }
        let providers = self.reloader.providers();
        let provider = providers.named(id).ok_or("there is no such provider")?;
        let directory = provider.directory().ok_or("it has no directory")?;
        let now = self.process.clock.now();
        let shut = directory
            .shut(MOST, now)
            .await
            .map_err(|error| words(&error))?;
        let canonical = settings.canonical.as_ref().ok_or("nobody is joined")?;
        let links = &self.process.links;
        let mut barred: Vec<Barred> = Vec::with_capacity(shut.len());
        for one in shut {
            let person = links.whose(canonical, &one.identity, now).await;
            barred.push(Barred {
                provider: id.clone(),
                account: one.identity.key.clone(),
                person: person.map_err(|error| error.to_string())?,
                key: one.key,
            });
        }
        let count = barred.len();
        // Of accounts that a side has yet to open, or has closed altogether, nothing follows for the other one.
        let both_run = settings.rollouts.iter().any(|plan| {
            plan.arm(id).is_some()
                && !plan.closed
                && match plan.stage.mode {
                    Mode::Canary | Mode::ModernPrimary => true,
                    Mode::LegacyOnly | Mode::Shadow | Mode::ModernOnly => false,
                }
        });
        if both_run {
            for one in &barred {
                list.deny(one).await.map_err(|error| error.to_string())?;
            }
        }
        let ids: HashSet<RevocationId> = barred.iter().map(Barred::id).collect();
        let named: HashMap<_, _> = barred
            .iter()
            .map(|one| (&one.account, one.person.is_some()))
            .collect();
        for denial in known.iter().filter(|denial| of(denial, id)) {
            let Some(said) = &denial.barred else {
                continue;
            };
            if ids.contains(&denial.id) {
                continue;
            }
            let why = if let Some(named) = named.get(&said.account) {
                // Another one stands in its place. That it names nobody any more is no word for the person: only that another
                // account there is theirs by now.
                let other = match &said.person {
                    Some(person) if !*named => {
                        let change = links.would_change(person, id, &said.account, now).await;
                        let change = change.map_err(|error| error.to_string())?;
                        change.displaced.is_some()
                    }
                    Some(_) | None => true,
                };
                (both_run && other).then_some("it is known by now whose account it is")
            } else {
                let free = is_free(directory, said, now).await;
                free.then_some("the account may be used there again")
            };
            if let Some(why) = why {
                let lifted = list.allow_again(denial, why).await;
                lifted.map_err(|error| error.to_string())?;
            }
        }
        Ok(count)
    }
}

/// A side that was closed again speaks for nobody: it may be the one that is broken.
fn is_unopened(settings: &Settings, id: &ProviderId) -> bool {
    let plans = settings.rollouts.iter();
    let mut plans = plans.filter(|plan| plan.arm(id).is_some()).peekable();
    plans.peek().is_some()
        && plans.all(|plan| {
            plan.to == *id
                && match plan.stage.mode {
                    Mode::LegacyOnly | Mode::Shadow => true,
                    Mode::Canary | Mode::ModernPrimary | Mode::ModernOnly => false,
                }
        })
}

fn of(denial: &Denial, id: &ProviderId) -> bool {
    denial
        .barred
        .as_ref()
        .is_some_and(|said| said.provider == *id)
}

/// Whether a provider says of an account that it may be used. One that is gone may have been barred before.
async fn is_free(directory: &dyn Directory, said: &Barred, now: UnixTime) -> bool {
    let Some(key) = &said.key else {
        return false;
    };
    match directory.find(key, now).await {
        Ok(Known::Person { identity, enabled }) => enabled && identity.key == said.account,
        Ok(Known::Nobody | Known::Several) | Err(_) => false,
    }
}

fn words(error: &ProviderError) -> Unknown {
    match error {
        ProviderError::Rejected(_) => format!("it lists more than {MOST}, or cannot list them"),
        ProviderError::Unavailable { outage, .. } => outage.to_string(),
    }
}
