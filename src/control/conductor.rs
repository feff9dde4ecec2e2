//! Drives rollouts: asks the pure controller what follows, records it, lets it hold.
//!
//! A transition is in the ledger before it takes effect; going back takes effect in any case, and is recorded as soon as the
//! disk takes it.

mod commit;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::control::KillSwitch;
use crate::control::conductor::run::Run;
use crate::control::conductor::run::place_of;
use crate::control::conductor::run::settled;
use crate::control::journeys::Journeys;
use crate::control::journeys::Rules;
use crate::control::keeper::Keeper;
use crate::identity::ProviderId;
use crate::ledger::Ledger;
use crate::rollout;
use crate::rollout::Command;
use crate::rollout::Course;
use crate::rollout::Findings;
use crate::rollout::Plan;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::Tally;
use crate::telemetry::Metrics;

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
}

/// Drives all rollouts of one instance.
pub(crate) struct Conductor {
    parts: Parts,
    keeper: Keeper,
    runs: Mutex<BTreeMap<RolloutId, Run>>,
    /// One transition at a time.
    turn: tokio::sync::Mutex<()>,
    stage: OnceLock<Arc<dyn Stage>>,
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
}

impl Conductor {
    /// Drives nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            keeper: Keeper::new(parts.directory.clone()),
            parts,
            runs: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            stage: OnceLock::new(),
        }
    }

    /// Says who rebuilds, and who asks providers.
    pub(crate) fn on(&self, stage: Arc<dyn Stage>) {
        self.stage.get_or_init(|| stage);
    }

    /// The rollouts of a configuration as they decide now, each in its step.
    ///
    /// # Errors
    ///
    /// When it cannot be known where one stands: its file is damaged, or the stage it is in is gone.
    pub(crate) fn plans(&self, courses: &[Course]) -> Result<Vec<Plan>, String> {
        let one = |course: &Course| {
            let progress = self.progress(course).map_err(|error| error.to_string())?;
            let place = place_of(course, &progress)?;
            let mut plan = course.plan(place, progress.at_from, progress.epoch);
            if let Some(warning) = &mut plan.stage.warning {
                warning.deprecated.get_or_insert(progress.entered);
            }
            Ok(plan)
        };
        courses.iter().map(one).collect()
    }

    /// These rollouts run from here on.
    ///
    /// # Errors
    ///
    /// As [`Self::plans`], which is asked first.
    pub(crate) fn adopt(&self, courses: Vec<Course>) -> Result<(), String> {
        let now = self.parts.clock.now();
        let mut fresh = BTreeMap::new();
        for course in courses {
            let id = course.id.clone();
            let (progress, tally, drills) = {
                let runs = self.runs();
                match runs.get(&id) {
                    Some(run) => (run.progress.clone(), run.tally.clone(), run.drills.clone()),
                    None => {
                        drop(runs);
                        let kept = self.keeper.load(&id).map_err(|error| error.to_string())?;
                        kept.map_or_else(Default::default, |kept| {
                            (kept.progress, kept.tally, kept.drills)
                        })
                    }
                }
            };
            let before = progress.name(&course);
            let progress = settled(&course, progress, now);
            let same = before == progress.name(&course);
            let rails = progress
                .place(&course)
                .and_then(|place| course.guardrails(place));
            let tally = rails.map(|rails| {
                let kept = tally.filter(|tally| same && tally.is_of(rails));
                kept.unwrap_or_else(|| Tally::new(rails))
            });
            let run = Run {
                course: Arc::new(course),
                progress,
                tally,
                findings: Findings::none(now),
                drills,
                evaluated: now,
                blocked: None,
            };
            fresh.insert(id, run);
        }
        *self.runs() = fresh;
        self.configure();
        Ok(())
    }

    /// Looks at every rollout once.
    pub(crate) async fn tick(&self) {
        let _turn = self.turn.lock().await;
        let ids: Vec<RolloutId> = self.runs().keys().cloned().collect();
        for id in ids {
            let now = self.parts.clock.now();
            let outcomes = self.parts.journeys.take(&id, now);
            let found = {
                let mut runs = self.runs();
                let Some(run) = runs.get_mut(&id) else {
                    continue;
                };
                let looked = run.look(&outcomes, self.parts.journeys.fires(&id), now);
                let kill = self.parts.kill.current().position(&id);
                let transition = rollout::tick(&run.progress, &run.view(kill, now));
                (looked, transition)
            };
            let (looked, transition) = found;
            match transition {
                Some(transition) if !transition.urgent && self.waits(&id, now) => {}
                Some(transition) => {
                    if let Err(why) = self.commit(&id, transition, "controller", None).await {
                        self.blocked(&id, why);
                    }
                }
                None if looked => self.keep(&id).await,
                None => {}
            }
        }
        self.show();
    }

    /// What a person orders.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub(crate) async fn order(
        &self,
        rollout: &RolloutId,
        command: &Command,
        actor: &str,
        reason: &str,
    ) -> Result<Standing, String> {
        let _turn = self.turn.lock().await;
        let transition = {
            let runs = self.runs();
            let run = runs
                .get(rollout)
                .ok_or_else(|| format!("there is no rollout called `{rollout}`"))?;
            let kill = self.parts.kill.current().position(rollout);
            let view = run.view(kill, self.parts.clock.now());
            command.apply(&run.progress, &view, reason)?
        };
        self.commit(rollout, transition, actor, Some(command))
            .await?;
        self.show();
        let standing = self
            .standings()
            .into_iter()
            .find(|s| s.course.id == *rollout);
        standing.ok_or_else(|| format!("there is no rollout called `{rollout}`"))
    }

    /// Where every rollout stands.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let now = self.parts.clock.now();
        let kill = self.parts.kill.current();
        let runs = self.runs();
        let one = |run: &Run| {
            let mut missing =
                rollout::missing(&run.progress, &run.view(kill.position(&run.course.id), now));
            missing.extend(run.blocked.iter().map(|(why, _)| why.clone()));
            Standing {
                course: Arc::clone(&run.course),
                progress: run.progress.clone(),
                findings: run.findings.clone(),
                missing,
            }
        };
        runs.values().map(one).collect()
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<RolloutId, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, course: &Course) -> io::Result<Progress> {
        let known = self.runs().get(&course.id).map(|run| run.progress.clone());
        let progress = match known {
            Some(progress) => progress,
            None => self
                .keeper
                .load(&course.id)?
                .map_or_else(Progress::default, |kept| kept.progress),
        };
        Ok(settled(course, progress, self.parts.clock.now()))
    }

    /// Whether what failed a moment ago is not tried again yet.
    fn waits(&self, id: &RolloutId, now: UnixTime) -> bool {
        let runs = self.runs();
        let blocked = runs.get(id).and_then(|run| run.blocked.as_ref());
        blocked.is_some_and(|(_, since)| now.since(*since) < PATIENCE)
    }

    fn blocked(&self, id: &RolloutId, why: String) {
        let now = self.parts.clock.now();
        if let Some(run) = self.runs().get_mut(id) {
            let before = run.blocked.as_ref();
            if before.is_none_or(|(before, _)| *before != why) {
                warn!(rollout = %id, why, "A rollout cannot go on.");
            }
            run.blocked = Some((why, now));
        }
    }

    /// Tells the journeys which step each rollout is in.
    fn configure(&self) {
        let runs = self.runs();
        let rules = runs.values().filter_map(|run| {
            let place = run.progress.place(&run.course)?;
            Some(Rules {
                rollout: run.course.id.clone(),
                rails: Arc::clone(run.course.guardrails(place)?),
                step: run.progress.entered.as_millis() ^ u64::from(run.progress.at_from),
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
            let progress = &standing.progress;
            let guards = standing.findings.guards.as_slice();
            (
                &standing.course.id,
                progress.state,
                progress.entered,
                observed,
                guards,
            )
        });
        self.parts.metrics.rollout_standings(shown);
    }
}

impl fmt::Debug for Conductor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conductor")
    }
}
