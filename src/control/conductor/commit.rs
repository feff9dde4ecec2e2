//! A transition: recorded, let hold, kept.

use std::sync::Arc;

use tracing::info;
use tracing::warn;

use crate::control::conductor::Conductor;
use crate::control::conductor::refused;
use crate::control::conductor::run::Memory;
use crate::control::conductor::run::NOT_COUNTED;
use crate::control::conductor::together::Disagreed;
use crate::control::keeper::Kept;
use crate::control::record;
use crate::ledger::Entry;
use crate::rollout::Command;
use crate::rollout::Direction;
use crate::rollout::Findings;
use crate::rollout::Gap;
use crate::rollout::Obstacle;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::Tally;
use crate::rollout::Transition;

impl Conductor {
    /// Records a transition, keeps it, lets it hold. Whether the provider is there was asked before. `command`: what was ordered, and how many people may go back by it.
    pub(super) async fn commit(
        &self,
        id: &RolloutId,
        transition: Transition,
        actor: &str,
        (command, recall): (Option<&Command>, Option<u64>),
    ) -> Result<(), Gap> {
        let (entry, step, tripped) = {
            let runs = self.runs();
            let gone = || Obstacle::File.because("it is gone");
            let run = runs.get(id).ok_or_else(gone)?;
            let entry = record::entry(
                &run.course,
                &run.progress,
                &transition,
                &run.findings,
                actor,
                command,
            );
            let forward = transition.direction == Direction::Forward;
            let entry = match recall.filter(|_| forward) {
                Some(people) => entry.with("recall", people),
                None => entry,
            };
            let step = transition.next.name(&run.course);
            let tripped = run.findings.tripped();
            (entry, step, tripped)
        };
        // Forward is never back: a step whose cohorts have gone, or that has no rule for whom the last one had, says so.
        if let (Direction::Forward, Some(stage)) = (transition.direction, self.stage.get()) {
            stage
                .may_begin(id, &step, recall)
                .await
                .map_err(|why| Obstacle::Recall.because(why))?;
        }
        let recorded = self.record(entry, transition.urgent).await;
        recorded.map_err(refused::ledger)?;
        self.forget_drills(id, &transition.next).await;
        match self.agree(id, &transition.next).await {
            Ok(()) => {}
            // Going back by itself waits for nobody; the others are told as soon as the store answers.
            Err(Disagreed::Away(why)) if transition.urgent && command.is_none() => {
                warn!(rollout = %id, why, "The other instances do not know of this step yet.");
            }
            Err(Disagreed::Away(why) | Disagreed::Overtaken(why)) => {
                let void = record::void(id, &transition, &why, actor);
                let recorded = self.record(void, true).await;
                recorded.map_err(refused::ledger)?;
                return Err(refused::store(why));
            }
        }
        let (direction, trigger) = (transition.direction, transition.trigger);
        for (guard, action) in tripped {
            self.parts.metrics.guard_trip(id, &guard, action);
        }
        self.parts
            .metrics
            .rollout_transition(id, direction, trigger);
        if transition.revokes
            && let Some(run) = self.runs().get_mut(id)
        {
            run.owes_revocation = true;
        }
        self.hold(id, transition.next, actor).await;
        self.revoke(id).await;
        self.share_tally(id).await;
        Ok(())
    }

    /// Ends what the new provider has vouched for, where a step back owes that; it is owed until it is done.
    pub(super) async fn revoke(&self, id: &RolloutId) {
        let owed = {
            let runs = self.runs();
            let run = runs.get(id).filter(|run| run.owes_revocation);
            run.map(|run| (run.course.to.clone(), run.progress.why.clone()))
        };
        let (Some((to, why)), Some(stage)) = (owed, self.stage.get()) else {
            return;
        };
        match stage.revoke(&to, &format!("rollout {id}: {why}")).await {
            Ok(()) => {
                if let Some(run) = self.runs().get_mut(id) {
                    run.owes_revocation = false;
                }
                self.keep(id).await;
            }
            Err(why) => {
                warn!(rollout = %id, provider = %to, why, "What this provider vouched for could not be ended; it is tried again.");
            }
        }
    }

    /// Writes a record; one that must not wait is owed where the disk takes nothing.
    pub(super) async fn record(&self, entry: Entry, urgent: bool) -> Result<(), String> {
        let ledger = Arc::clone(&self.parts.ledger);
        // The disk may take its time.
        let written = tokio::task::spawn_blocking(move || {
            if urgent {
                ledger.append_or_owe(entry);
                Ok(())
            } else {
                ledger.append(entry).map(|_| ())
            }
        });
        let written = written.await.map_err(|error| error.to_string())?;
        written.map_err(|error| error.to_string())
    }

    /// Lets a step hold here, and keeps it.
    pub(super) async fn hold(&self, id: &RolloutId, next: Progress, actor: &str) {
        let now = self.parts.clock.now();
        {
            let mut runs = self.runs();
            let Some(run) = runs.get_mut(id) else {
                return;
            };
            let course = Arc::clone(&run.course);
            let step =
                |progress: &Progress| (progress.place(&course), progress.at_from, progress.order());
            if step(&run.progress) != step(&next) {
                let place = next.place(&course);
                if place.map(|place| place.stage)
                    != run.progress.place(&course).map(|place| place.stage)
                {
                    run.drills.clear();
                }
                let rails = place.and_then(|place| course.guardrails(place));
                run.tally = rails.map(|rails| Tally::new(rails, now));
                run.findings = Findings::none(now);
                run.looked = None;
                run.came = Err(String::from(NOT_COUNTED));
                run.evaluated = now;
            }
            let (step, state) = (next.name(&course), next.state.as_str());
            info!(rollout = %id, step, state, why = next.why, actor, "A rollout moved.");
            run.progress = next;
            run.refused = None;
        }
        self.configure();
        // A restart in between would be where people are not any more.
        self.keep(id).await;
        if let Some(stage) = self.stage.get().cloned() {
            let rebuilt = tokio::task::spawn_blocking(move || stage.rebuild()).await;
            match rebuilt {
                Ok(Ok(())) => {}
                Ok(Err(why)) => warn!(rollout = %id, why, "The step could not take effect."),
                Err(error) => warn!(rollout = %id, %error, "The step could not take effect."),
            }
        }
    }

    /// Keeps the progress over a restart; where there is no room for it, the step alone. It is recorded already, or owed, and
    /// whoever goes back waits for no disk: [`Self::keep_again`] goes on.
    pub(super) async fn keep(&self, id: &RolloutId) {
        let kept = self.runs().get(id).map(|run| Kept {
            progress: run.progress.clone(),
            tally: run.tally.clone(),
            drills: run.drills.clone(),
            owes_revocation: run.owes_revocation,
        });
        let Some(kept) = kept else {
            return;
        };
        let (keeper, rollout) = (self.keeper.clone(), id.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let Err(error) = keeper.save(&rollout, &kept) else {
                return (Memory::Whole, None);
            };
            match keeper.mark(&rollout, &kept) {
                Ok(()) => (Memory::Step, Some(error)),
                Err(_) => (Memory::Nothing, Some(error)),
            }
        });
        let (memory, error) = match kept.await {
            Ok((memory, error)) => (memory, error.map(|error| error.to_string())),
            Err(error) => (Memory::Nothing, Some(error.to_string())),
        };
        let mut runs = self.runs();
        let Some(run) = runs.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut run.memory, memory);
        let error = error.filter(|_| before != memory);
        match (memory, error) {
            (Memory::Step, Some(error)) => {
                warn!(rollout = %id, error, "Of the progress the step alone is kept; the rest is as soon as there is room.");
            }
            (Memory::Nothing, Some(error)) => {
                warn!(rollout = %id, error, "The progress is not kept: a restart would forget it. It is tried again.");
            }
            (Memory::Whole, _) | (_, None) => {}
        }
    }

    /// Keeps what could not be kept so far.
    pub(super) async fn keep_again(&self, id: &RolloutId) {
        let memory = self.runs().get(id).map(|run| run.memory);
        if memory.is_some_and(|memory| memory != Memory::Whole) {
            self.keep(id).await;
        }
    }
}
