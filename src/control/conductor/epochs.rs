//! The epoch of rollouts, whoever says where they stand: where their file does, it is all that instances share of them.
//!
//! Each instance follows its own file, and its own kill switch. Where one raises the epoch the others do too: a pin that is void
//! here and good there would send people to and fro, and a login that began here could not end there.

use tracing::debug;
use tracing::warn;

use crate::control::conductor::Conductor;
use crate::control::conductor::refused;
use crate::control::conductor::together::is_driven;
use crate::control::record;
use crate::rollout::Course;
use crate::rollout::Gap;
use crate::rollout::Progress;
use crate::rollout::RolloutId;

impl Conductor {
    /// Fetches the epoch of rollouts that were never seen here, also of those that are driven: a file may have said where they stood,
    /// and no row says more. A start waits for no store: [`Self::share_epoch`] and [`Self::catch_up`] go on.
    pub(super) async fn learn_epochs(&self, courses: &[Course]) -> Result<(), String> {
        let Some(shared) = &self.parts.shared else {
            return Ok(());
        };
        for course in courses {
            if self.runs().contains_key(&course.id) {
                continue;
            }
            let theirs = match shared.epoch(&course.id, self.parts.clock.now()).await {
                Ok((theirs, _)) => theirs,
                Err(error) => {
                    warn!(rollout = %course.id, %error, "Whether pins were voided elsewhere is not known yet.");
                    continue;
                }
            };
            let found = self.found(course).map_err(|error| error.to_string())?;
            let kept = found.kept;
            if kept.as_ref().map_or(0, |kept| kept.progress.epoch) < theirs {
                let mut kept = kept.unwrap_or_default();
                kept.progress.epoch = theirs;
                let saved = self.keeper.save(&course.id, &kept);
                saved.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Raises the epoch here to that of the others, or theirs to that of this one. A store that is away is asked again.
    pub(super) async fn share_epoch(&self, id: &RolloutId) -> Result<(), Gap> {
        let Some(shared) = &self.parts.shared else {
            return Ok(());
        };
        let Some((course, own)) = ({
            let runs = self.runs();
            let run = runs.get(id).filter(|run| !is_driven(&run.course));
            run.map(|run| (run.course.clone(), run.progress.clone()))
        }) else {
            return Ok(());
        };
        let now = self.parts.clock.now();
        let told = match shared.epoch(id, now).await {
            Ok((theirs, _)) if own.epoch < theirs => {
                let next = Progress {
                    epoch: theirs,
                    version: own.version + 1,
                    ..own.clone()
                };
                let followed = record::followed(&course, &own, &next);
                let recorded = self.record(followed, true).await;
                recorded.map_err(refused::ledger)?;
                // The file may say something else by now.
                let stands = self.runs().get(id).map(|run| run.progress.clone());
                if let Some(stands) = stands.filter(|stands| stands.epoch < theirs) {
                    let next = Progress {
                        epoch: theirs,
                        version: stands.version + 1,
                        ..stands
                    };
                    self.hold(id, next, "another instance").await;
                }
                return Ok(());
            }
            Ok((theirs, expect)) if theirs < own.epoch => {
                let raised = shared.raise_epoch(id, expect, own.epoch, now).await;
                raised.map(|_| ())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            debug!(rollout = %id, %error, "Whether pins were voided elsewhere is not known now.");
        }
        Ok(())
    }
}
