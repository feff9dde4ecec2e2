//! Several instances: whoever leads drives, the others follow, and hold when nobody leads.

use std::sync::Arc;

use tracing::info;
use tracing::warn;

use crate::clock::UnixTime;
use crate::control::conductor::Conductor;
use crate::control::conductor::beside::MAX_DRILLS;
use crate::control::conductor::refused;
use crate::control::keeper::Kept;
use crate::control::record;
use crate::control::shared::Role;
use crate::control::shared::Seen;
use crate::control::shared::Shared;
use crate::rollout::Control;
use crate::rollout::Course;
use crate::rollout::Gap;
use crate::rollout::Obstacle;
use crate::rollout::Progress;
use crate::rollout::RolloutId;
use crate::rollout::State;
use crate::store::Expect;

/// Why the others do not stand where this one would go.
pub(super) enum Disagreed {
    /// Somebody else moved it meanwhile.
    Overtaken(String),
    /// The store does not answer.
    Away(String),
}

/// Asks for a start, before it gives up.
const TRIES: u32 = 10;

impl Conductor {
    /// Fetches where rollouts stand that were never seen here, before anything is built from it.
    ///
    /// # Errors
    ///
    /// When the store does not say, and nothing is known here: guessing would move people.
    pub(crate) async fn learn(&self, courses: &[Course]) -> Result<(), String> {
        let Some(shared) = &self.parts.shared else {
            return Ok(());
        };
        for course in courses.iter().filter(|course| is_driven(course)) {
            if self.runs().contains_key(&course.id) {
                continue;
            }
            let found = self.found(course).map_err(|error| error.to_string())?;
            let kept = found.kept;
            let mut tries = 0;
            let found = loop {
                match shared.load(&course.id, self.parts.clock.now()).await {
                    Ok(found) => break found,
                    Err(error) if kept.is_some() => {
                        warn!(rollout = %course.id, %error, "The rollout stands where it last stood here.");
                        break None;
                    }
                    Err(error) if TRIES <= tries => {
                        return Err(format!(
                            "rollouts.{}: nobody says where it stands: {error}",
                            course.id
                        ));
                    }
                    Err(_) => {
                        tries += 1;
                        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                    }
                }
            };
            let Some(found) = found else { continue };
            let newer = kept
                .as_ref()
                .is_none_or(|kept| kept.progress.version <= found.progress.version);
            if newer && kept.as_ref().map(|kept| &kept.progress) != Some(&found.progress) {
                let kept = Kept {
                    progress: found.progress,
                    // Nobody else ends what this instance was about to.
                    owes_revocation: kept.is_some_and(|kept| kept.owes_revocation),
                    ..Kept::default()
                };
                let saved = self.keeper.save(&course.id, &kept);
                saved.map_err(|error| error.to_string())?;
            }
        }
        self.learn_epochs(courses).await
    }

    /// Lets another instance lead.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.parts.shared {
            shared.leave().await;
        }
    }

    /// What this instance is to the others now.
    pub(super) async fn role(&self) -> (Role, bool) {
        let Some(shared) = &self.parts.shared else {
            return (Role::Drives, false);
        };
        let now = self.parts.clock.now();
        let role = shared.role(now).await;
        let leader = match role {
            Role::Drives => None,
            Role::Follows => {
                let named = shared.leader(now).await;
                Some(named.map_or_else(
                    || String::from("nobody leads: it holds"),
                    |node| format!("led by {node}"),
                ))
            }
            Role::Unknown => Some(String::from("the store does not answer: it holds")),
        };
        let before = self.led();
        let fresh = before.is_some() && leader.is_none();
        if before != leader {
            let led = leader.as_deref().unwrap_or("here");
            info!(led, "Who leads the rollouts has changed.");
            self.set_led(leader);
        }
        self.parts.metrics.leads(role == Role::Drives);
        (role, fresh)
    }

    /// Goes where the others are, or tells them where it is.
    pub(super) async fn catch_up(&self, id: &RolloutId, role: Role) -> Result<(), Gap> {
        let Some(shared) = self.shared_for(id) else {
            return self.share_epoch(id).await;
        };
        let now = self.parts.clock.now();
        let found = shared
            .load(id, now)
            .await
            .map_err(|error| refused::store(error.to_string()))?;
        let (expect, own) = {
            let mut runs = self.runs();
            let Some(run) = runs.get_mut(id) else {
                return Ok(());
            };
            run.row = found.as_ref().map(|found| found.version);
            (run.expect(), run.progress.clone())
        };
        match found {
            Some(found) if found.progress == own => Ok(()),
            Some(found) if own.version <= found.progress.version => {
                self.follow(id, found.progress).await
            }
            None if own == Progress::default() => Ok(()),
            // The store has lost what was seen here, or never had it.
            Some(_) | None if role == Role::Drives => {
                let swapped = shared.swap(id, expect, &own, now).await;
                swapped
                    .map(|_| ())
                    .map_err(|error| refused::store(error.to_string()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Stands where another instance has moved the rollout to.
    async fn follow(&self, id: &RolloutId, next: Progress) -> Result<(), Gap> {
        let (entry, back) = {
            let runs = self.runs();
            let Some(run) = runs.get(id) else {
                return Ok(());
            };
            if next.state != State::Draft && next.place(&run.course).is_none() {
                return Err(Obstacle::File.because(format!(
                    "the other instances are in stage `{}`, which this file does not have",
                    next.stage
                )));
            }
            let back = run.progress.epoch < next.epoch;
            (record::followed(&run.course, &run.progress, &next), back)
        };
        let recorded = self.record(entry, back).await;
        recorded.map_err(refused::ledger)?;
        self.hold(id, next, "another instance").await;
        Ok(())
    }

    /// Hands over what was seen here to whoever leads.
    pub(super) async fn report(&self, id: &RolloutId) {
        let Some(shared) = self.shared_for(id) else {
            return;
        };
        let now = self.parts.clock.now();
        let Some(step) = self.runs().get(id).map(|run| run.step()) else {
            return;
        };
        let journeys = &self.parts.journeys;
        let seen = Seen {
            step,
            outcomes: journeys.take(id, now).await,
            fires: journeys.fires(id, now).await,
        };
        if let Err(error) = shared.hand_over(id, seen, now).await {
            warn!(rollout = %id, %error, "What was seen here is not counted.");
        }
    }

    /// What the others have seen.
    pub(super) async fn reported(&self, id: &RolloutId, now: UnixTime) -> Seen {
        let step = self.runs().get(id).map(|run| run.step());
        let (Some(shared), Some(step)) = (self.shared_for(id), step) else {
            return Seen::default();
        };
        shared.fetch(id, step, now).await.unwrap_or_else(|error| {
            warn!(rollout = %id, %error, "What other instances have seen is not counted.");
            Seen::default()
        })
    }

    /// Tells the others which exercises have passed in the present stage, for whoever leads next.
    ///
    /// # Errors
    ///
    /// When they could not be told.
    pub(super) async fn share_drills(&self, id: &RolloutId) -> Result<(), String> {
        let passed = {
            let runs = self.runs();
            let run = runs.get(id);
            run.map(|run| (run.progress.stage.clone(), run.drills.clone()))
        };
        let (Some(shared), Some((stage, drills))) = (self.shared_for(id), passed) else {
            return Ok(());
        };
        let kept = shared.keep_drills(id, &stage, &drills).await;
        kept.map_err(|error| format!("the other instances do not know of it: {error}"))
    }

    /// Before a stage is entered nothing has passed in it.
    pub(super) async fn forget_drills(&self, id: &RolloutId, next: &Progress) {
        let changes = {
            let runs = self.runs();
            let run = runs.get(id);
            run.is_some_and(|run| run.progress.stage != next.stage)
        };
        if let (Some(shared), true) = (self.shared_for(id), changes)
            && let Err(error) = shared.keep_drills(id, &next.stage, &[]).await
        {
            warn!(rollout = %id, %error, "Exercises of an earlier stay in this stage may still count.");
        }
    }

    /// Goes on with the people that whoever led before has counted, and the exercises that have passed there.
    pub(super) async fn take_over(&self, id: &RolloutId) {
        self.take_over_drills(id).await;
        let step = self.runs().get(id).map(|run| run.step());
        let (Some(shared), Some(step)) = (self.shared_for(id), step) else {
            return;
        };
        let now = self.parts.clock.now();
        match shared.tally(id, step, now).await {
            Ok(Some(tally)) => {
                if let Some(run) = self.runs().get_mut(id) {
                    run.go_on_with(tally);
                }
            }
            Ok(None) => self.begin_anew(id, now),
            Err(error) => {
                warn!(rollout = %id, %error, "The evidence of whoever led before is not known; it begins anew.");
                self.begin_anew(id, now);
            }
        }
    }

    fn begin_anew(&self, id: &RolloutId, now: UnixTime) {
        let mut runs = self.runs();
        let tally = runs.get_mut(id).and_then(|run| run.tally.as_mut());
        if let Some(tally) = tally {
            tally.begins_at(now);
        }
    }

    async fn take_over_drills(&self, id: &RolloutId) {
        let Some(shared) = self.shared_for(id) else {
            return;
        };
        match shared.drills(id, self.parts.clock.now()).await {
            Ok(Some((stage, drills))) => {
                if let Some(run) = self
                    .runs()
                    .get_mut(id)
                    .filter(|run| run.progress.stage == stage)
                {
                    for drill in drills.into_iter().take(MAX_DRILLS) {
                        if !run.drills.contains(&drill) {
                            run.drills.push(drill);
                        }
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                warn!(rollout = %id, %error, "Which exercises have passed where another instance led is not known.");
            }
        }
    }

    /// Keeps what was counted for whoever leads next.
    pub(super) async fn share_tally(&self, id: &RolloutId) {
        let counted = {
            let runs = self.runs();
            let run = runs.get(id);
            run.and_then(|run| Some((run.step(), run.tally.clone()?)))
        };
        if let (Some(shared), None, Some((step, tally))) =
            (self.shared_for(id), self.led(), counted)
            && let Err(error) = shared.keep_tally(id, step, &tally).await
        {
            warn!(rollout = %id, %error, "Whoever leads next begins the evidence anew.");
        }
    }

    /// Lets the others stand where this one goes, before it goes there.
    pub(super) async fn agree(&self, id: &RolloutId, next: &Progress) -> Result<(), Disagreed> {
        let Some(shared) = self.shared_for(id) else {
            return Ok(());
        };
        let Some(expect) = self.runs().get(id).map(|run| run.expect()) else {
            return Err(Disagreed::Overtaken(String::from("it is gone")));
        };
        let swapped = shared.swap(id, expect, next, self.parts.clock.now()).await;
        match swapped {
            Ok(true) => Ok(()),
            Ok(false) => Err(Disagreed::Overtaken(String::from(
                "another instance has moved it meanwhile",
            ))),
            Err(error) => Err(Disagreed::Away(error.to_string())),
        }
    }

    /// The rows of a rollout that is not driven by a file.
    fn shared_for(&self, id: &RolloutId) -> Option<Arc<Shared>> {
        let shared = self.parts.shared.as_ref()?;
        let driven = self
            .runs()
            .get(id)
            .is_some_and(|run| is_driven(&run.course));
        driven.then(|| Arc::clone(shared))
    }
}

pub(super) fn is_driven(course: &Course) -> bool {
    match course.control {
        Control::Pinned => false,
        Control::Controller | Control::Schedule => true,
    }
}

impl super::Run {
    /// What the row must be when it is changed.
    fn expect(&self) -> Expect {
        self.row.map_or(Expect::Absent, Expect::Version)
    }
}
