//! The rollouts of a configuration: taken over, each in the step where it stands.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::control::conductor::Conductor;
use crate::control::conductor::run;
use crate::control::conductor::run::Memory;
use crate::control::conductor::run::Run;
use crate::control::conductor::run::place_of;
use crate::control::conductor::run::settled;
use crate::control::keeper::Kept;
use crate::rollout::Course;
use crate::rollout::Findings;
use crate::rollout::Plan;
use crate::rollout::Progress;
use crate::rollout::Tally;

impl Conductor {
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
            plan.closed = self.is_closed(&plan.from);
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
            let known = self.runs().get(&id).map(|run| {
                let kept = Kept {
                    progress: run.progress.clone(),
                    tally: run.tally.clone(),
                    drills: run.drills.clone(),
                    owes_revocation: run.owes_revocation,
                };
                (kept, run.memory, run.exposed, run.answers.clone())
            });
            let (kept, memory, exposed, answers) = match known {
                Some(known) => known,
                None => {
                    let found = self.found(&course).map_err(|error| error.to_string())?;
                    if let Some(entry) = found.told {
                        self.parts.ledger.append_or_owe(entry);
                    }
                    let memory = if found.is_behind {
                        Memory::Nothing
                    } else {
                        Memory::Whole
                    };
                    (
                        found.kept.unwrap_or_default(),
                        memory,
                        None,
                        BTreeMap::new(),
                    )
                }
            };
            let Kept {
                progress,
                tally,
                drills,
                owes_revocation,
            } = kept;
            let before = progress.name(&course);
            let progress = settled(&course, progress, now);
            let same = before == progress.name(&course);
            let rails = progress
                .place(&course)
                .and_then(|place| course.guardrails(place));
            let tally = rails.map(|rails| {
                let kept = tally.filter(|tally| same && tally.is_of(rails));
                kept.unwrap_or_else(|| Tally::new(rails, now))
            });
            let run = Run {
                course: Arc::new(course),
                progress,
                tally,
                findings: Findings::none(now),
                drills,
                exposed,
                // It is counted from the moment the step began, which may be another now.
                looked: None,
                came: Err(String::from(run::NOT_COUNTED)),
                answers,
                owes_revocation,
                unlinked: None,
                hook: None,
                evaluated: now,
                refused: None,
                behind: None,
                asking: None,
                memory,
                row: None,
            };
            fresh.insert(id, run);
        }
        *self.runs() = fresh;
        self.configure();
        Ok(())
    }

    fn progress(&self, course: &Course) -> io::Result<Progress> {
        let known = self.runs().get(&course.id).map(|run| run.progress.clone());
        let progress = match known {
            Some(progress) => progress,
            None => self
                .found(course)?
                .kept
                .map_or_else(Progress::default, |kept| kept.progress),
        };
        Ok(settled(course, progress, self.parts.clock.now()))
    }
}
