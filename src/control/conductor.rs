//! Drives rollouts: asks the pure controller what follows, records it, lets it hold.
//!
//! A transition is in the ledger before it takes effect; going back takes effect in any case, and is recorded as soon as the
//! disk takes it. Of several instances that share a store one drives; the others stand where it stands.

mod adopt;
mod beside;
mod commit;
mod epochs;
mod found;
mod order;
mod probe;
mod refused;
mod run;
#[cfg(test)]
mod tests;
mod together;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::Clock;
use crate::control::KillSwitch;
use crate::control::conductor::run::Memory;
use crate::control::conductor::run::Run;
use crate::control::journeys::Journeys;
use crate::control::journeys::Rules;
use crate::control::keeper::Keeper;
use crate::control::shared::Role;
use crate::control::shared::Shared;
use crate::identity::ProviderId;
use crate::ledger::Ledger;
use crate::rollout;
use crate::rollout::Course;
use crate::rollout::Findings;
use crate::rollout::Gap;
use crate::rollout::Obstacle;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Shown;
use async_trait::async_trait;

/// How long a step that could not be taken is not tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the conductor needs of the program around it.
#[async_trait]
pub(crate) trait Stage: fmt::Debug + Send + Sync {
    /// Lets the plans of [`Conductor::plans`] decide from here on. Builds a snapshot: not for a worker.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    fn rebuild(&self) -> Result<(), String>;

    /// Whether a provider is there and knows us, before people are moved to it.
    ///
    /// # Errors
    ///
    /// What is wrong there.
    async fn is_ready(&self, provider: &ProviderId) -> Result<(), String>;

    /// Whether a step may begin, by what it does to people who are here: `meant` of them may start at the old provider again,
    /// where more may not anyway.
    ///
    /// # Errors
    ///
    /// How many it would take back, and how to say that it is meant.
    async fn may_begin(
        &self,
        rollout: &RolloutId,
        step: &str,
        meant: Option<u64>,
    ) -> Result<(), String>;

    /// Ends whatever a provider has vouched for until now.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    async fn revoke(&self, provider: &ProviderId, why: &str) -> Result<(), String>;
}

/// What the conductor works with.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Where progress is kept.
    pub(crate) directory: PathBuf,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where transitions are recorded.
    pub(crate) ledger: Arc<Ledger>,
    /// Who has come and gone.
    pub(crate) journeys: Arc<Journeys>,
    /// What stands above it.
    pub(crate) kill: Arc<KillSwitch>,
    /// What operators see.
    pub(crate) metrics: Arc<Metrics>,
    /// Where instances agree, if there may be several.
    pub(crate) shared: Option<Arc<Shared>>,
}

/// Drives all rollouts of one instance.
pub(crate) struct Conductor {
    parts: Parts,
    keeper: Keeper,
    runs: Mutex<BTreeMap<RolloutId, Run>>,
    /// One transition at a time.
    turn: tokio::sync::Mutex<()>,
    stage: OnceLock<Arc<dyn Stage>>,
    /// Who drives instead of this instance, in words.
    led: Mutex<Option<String>>,
    /// Old sides that are closed for good.
    closed: Mutex<BTreeSet<ProviderId>>,
}

/// Where a rollout stands, for reports.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The rollout.
    pub(crate) course: Arc<Course>,
    /// Where it stands.
    pub(crate) progress: Progress,
    /// What the guards say.
    pub(crate) findings: Findings,
    /// What keeps it from going on.
    pub(crate) missing: Vec<String>,
    /// What of that is more than time: what a step that has baked waits for, and why one that was due is not taken.
    pub(crate) blocked: Vec<Gap>,
    /// Whether a restart would know where it stands.
    pub(crate) kept: bool,
}

impl Conductor {
    /// Drives nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let unknown = parts.shared.as_ref();
        let unknown = unknown.map(|_| String::from("nobody leads yet"));
        Self {
            led: Mutex::new(unknown),
            keeper: Keeper::new(parts.directory.clone()),
            parts,
            runs: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            stage: OnceLock::new(),
            closed: Mutex::default(),
        }
    }

    /// Says who rebuilds, and who asks providers.
    pub(crate) fn on(&self, stage: Arc<dyn Stage>) {
        self.stage.get_or_init(|| stage);
    }

    /// These are closed for good, beside those before: the next plans say so. A store that has lost a row opens nothing.
    pub(crate) fn close(&self, providers: &BTreeSet<ProviderId>) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.extend(providers.iter().cloned());
    }

    fn is_closed(&self, provider: &ProviderId) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.contains(provider)
    }

    /// Looks at every rollout once.
    pub(crate) async fn tick(&self) {
        let _turn = self.turn.lock().await;
        let (role, fresh) = self.role().await;
        let ids: Vec<(RolloutId, bool)> = {
            let runs = self.runs();
            let one = |run: &Run| (run.course.id.clone(), together::is_driven(&run.course));
            runs.values().map(one).collect()
        };
        for (id, driven) in ids {
            self.keep_again(&id).await;
            match role {
                Role::Unknown if driven => {
                    let gap = Obstacle::Store.because("the store does not answer: it holds");
                    self.behind(&id, Some(gap));
                    continue;
                }
                Role::Drives | Role::Follows | Role::Unknown => {}
            }
            let caught_up = self.catch_up(&id, role).await;
            let known = caught_up.is_ok();
            self.behind(&id, caught_up.err());
            if !known {
                continue;
            }
            match role {
                Role::Follows if driven => self.report(&id).await,
                Role::Drives | Role::Follows | Role::Unknown => {
                    if fresh {
                        self.take_over(&id).await;
                    }
                    self.drive(&id).await;
                }
            }
        }
        self.show();
    }

    /// Looks at a rollout, and lets it go where it should.
    async fn drive(&self, id: &RolloutId) {
        let now = self.parts.clock.now();
        let mut outcomes = self.parts.journeys.take(id, now).await;
        let seen = self.reported(id, now).await;
        outcomes.extend(seen.outcomes);
        let fires = seen.fires || self.parts.journeys.fires(id, now).await;
        self.revoke(id).await;
        let (looked, transition) = {
            let mut runs = self.runs();
            let Some(run) = runs.get_mut(id) else {
                return;
            };
            let looked = run.look(&outcomes, fires, now);
            let kill = self.parts.kill.current().position(id);
            (looked, rollout::tick(&run.progress, &run.view(kill, now)))
        };
        match transition {
            Some(transition) if !transition.urgent && self.waits(id, now) => {}
            Some(transition) => {
                let ready = if transition.promotes {
                    self.asked(id)
                } else {
                    Some(Ok(()))
                };
                let done = match ready {
                    // It is looked at again with the next tick.
                    None => return,
                    Some(Ok(())) => {
                        let commit = self.commit(id, transition, "controller", (None, None));
                        commit.await
                    }
                    Some(Err(why)) => Err(Obstacle::Provider.because(why)),
                };
                if let Err(gap) = done {
                    self.refused(id, gap);
                }
            }
            None => {
                self.nothing_is_due(id);
                if looked {
                    self.keep(id).await;
                    self.share_tally(id).await;
                }
            }
        }
    }

    /// Where every rollout stands.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let now = self.parts.clock.now();
        let kill = self.parts.kill.current();
        let led = self.led();
        let runs = self.runs();
        let one = |run: &Run| {
            let view = run.view(kill.position(&run.course.id), now);
            let refused = run.refused.iter().map(|refused| &refused.gap);
            let refused: Vec<Gap> = refused.chain(&run.behind).cloned().collect();
            let (missing, blocked) = match &led {
                // What is missing is known where the evidence is.
                Some(led) if together::is_driven(&run.course) => {
                    (vec![led.clone()], run.behind.iter().cloned().collect())
                }
                Some(_) | None => {
                    let gaps = rollout::missing(&run.progress, &view);
                    let missing = gaps.iter().chain(&refused).map(ToString::to_string);
                    let mut blocked = run.progress.waits_for(&view);
                    blocked.extend(refused.iter().cloned());
                    (missing.collect(), blocked)
                }
            };
            Standing {
                course: Arc::clone(&run.course),
                progress: run.progress.clone(),
                findings: run.findings.clone(),
                missing,
                blocked,
                kept: run.memory != Memory::Nothing,
            }
        };
        runs.values().map(one).collect()
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<RolloutId, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who drives instead of this instance, in words.
    fn led(&self) -> Option<String> {
        let led = self.led.lock();
        led.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_led(&self, leader: Option<String>) {
        *self.led.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// Tells the journeys which step each rollout is in.
    fn configure(&self) {
        let runs = self.runs();
        let rules = runs.values().filter_map(|run| {
            let place = run.progress.place(&run.course)?;
            Some(Rules {
                rollout: run.course.id.clone(),
                rails: Arc::clone(run.course.guardrails(place)?),
                step: run.step(),
                together: together::is_driven(&run.course),
            })
        });
        self.parts.journeys.configure(rules.collect());
    }

    fn show(&self) {
        let standings = self.standings();
        let shown = standings.iter().map(|standing| {
            let split = standing.findings.split.as_ref().map(|split| split.seen);
            let observed = split
                .filter(|seen| 0 < seen.to + seen.from)
                .map(|seen| seen.to as f64 / (seen.to + seen.from) as f64);
            Shown {
                id: &standing.course.id,
                progress: &standing.progress,
                observed,
                blocked: &standing.blocked,
                findings: &standing.findings,
            }
        });
        self.parts.metrics.rollout_standings(shown);
    }
}

impl fmt::Debug for Conductor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conductor")
    }
}
