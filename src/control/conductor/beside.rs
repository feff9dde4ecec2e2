//! What is known beside logins: whom a switch back would hurt, what second opinions found, what other systems count.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::UnixTime;
use crate::control::conductor::Conductor;
use crate::control::conductor::run::Moment;
use crate::control::conductor::run::Run;
use crate::control::record;
use crate::rollout::Control;
use crate::rollout::Course;
use crate::rollout::Exercise;
use crate::rollout::Looked;
use crate::rollout::RolloutId;
use crate::rollout::State;
use crate::rollout::StillSeen;
use crate::rollout::Watched;

/// Exercises that are known of one stage, sizes apart.
pub(super) const MAX_DRILLS: usize = 100;

/// A hook that is to be asked, and about what.
#[derive(Debug)]
pub(crate) struct Hook {
    /// The rollout.
    pub(crate) rollout: RolloutId,
    /// The stage, whose hook it is.
    pub(crate) stage: Box<str>,
    /// The step that would be left.
    pub(crate) step: String,
    /// The step after; `None`: it would be completed.
    pub(crate) next: Option<String>,
    moment: Moment,
}

impl Conductor {
    /// Has what the guards say written beside every move of the kill switch.
    pub(crate) fn witness(self: &Arc<Self>) {
        let conductor = Arc::downgrade(self);
        self.parts.kill.witnessed_by(Box::new(move || {
            let Some(conductor) = conductor.upgrade() else {
                return BTreeMap::new();
            };
            let runs = conductor.runs();
            let told = |(id, run): (&RolloutId, &Run)| {
                record::all(&run.findings).map(|told| (id.clone(), told))
            };
            runs.iter().filter_map(told).collect()
        }));
    }

    /// How many people a switch back would lock out now; `None`: it is not known any more.
    pub(crate) fn exposed(&self, rollout: &RolloutId, people: Option<u64>) {
        if let Some(run) = self.runs().get_mut(rollout) {
            run.exposed = people;
        }
    }

    /// How many people have no partner, and of how many that is known; `None`: it is not known any more.
    pub(crate) fn unlinked(&self, rollout: &RolloutId, people: Option<(u64, u64)>) {
        if let Some(run) = self.runs().get_mut(rollout) {
            run.unlinked = people;
        }
    }

    /// What second opinions have found since the present step began, and who still came with credentials of `from`.
    pub(crate) fn seen_beside(
        &self,
        looked: impl Fn(&Course, UnixTime) -> Option<Looked>,
        came: impl Fn(&Course, &StillSeen) -> Result<u64, String>,
    ) {
        for run in self.runs().values_mut() {
            run.looked = looked(&run.course, run.progress.entered);
            let leg = run.progress.place(&run.course);
            let leg = leg.and_then(|place| run.course.leg(place));
            let asked = leg.and_then(|leg| leg.require.legacy_credentials_seen.as_ref());
            run.came = asked.map_or(Ok(0), |asked| came(&run.course, asked));
        }
    }

    /// Whether an exercise here counts.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    pub(crate) fn may_drill(&self, rollout: &RolloutId) -> Result<(), String> {
        if let Some(led) = self.led() {
            return Err(format!(
                "what is asked of a stage is known elsewhere: {led}"
            ));
        }
        let runs = self.runs();
        let begun = runs.get(rollout);
        let begun = begun.and_then(|run| run.progress.place(&run.course));
        begun
            .map(|_| ())
            .ok_or_else(|| String::from("it has not begun"))
    }

    /// An exercise has passed in the present stage.
    ///
    /// # Errors
    ///
    /// Why it counts for nothing, in words.
    pub(crate) async fn drilled(
        &self,
        rollout: &RolloutId,
        exercise: Exercise,
    ) -> Result<(), String> {
        self.may_drill(rollout)?;
        let word: Box<str> = exercise.to_string().into();
        let is_new = {
            let mut runs = self.runs();
            let run = runs.get_mut(rollout).ok_or("it is gone")?;
            let is_new = !run.drills.contains(&word);
            if is_new && run.drills.len() < MAX_DRILLS {
                run.drills.push(word.clone());
            }
            is_new
        };
        let shared = self.share_drills(rollout).await;
        if let (true, Err(_), Some(run)) = (is_new, &shared, self.runs().get_mut(rollout)) {
            // What the others do not know of counts nowhere.
            run.drills.retain(|known| *known != word);
        }
        self.keep(rollout).await;
        shared
    }

    /// What is to be asked of other systems for the present steps: rollout, guardrails, guard, query.
    pub(crate) fn queries(&self) -> Vec<(RolloutId, [Box<str>; 3])> {
        let runs = self.runs();
        let rails = runs.values().filter_map(|run| {
            let rails = run.course.guardrails(run.progress.place(&run.course)?)?;
            Some((&run.course.id, rails))
        });
        rails
            .flat_map(|(id, rails)| rails.limits.iter().map(move |limit| (id, rails, limit)))
            .filter_map(|(id, rails, limit)| match &limit.of {
                Watched::Query(query) => Some((
                    id.clone(),
                    [rails.id.clone(), limit.id.clone(), query.clone()],
                )),
                Watched::Divergences(_) => None,
            })
            .collect()
    }

    /// Which hooks are to be asked: where a stage has baked, and is driven from here.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        if self.led().is_some() {
            return Vec::new();
        }
        let now = self.parts.clock.now();
        let runs = self.runs();
        let asked = runs.values().filter_map(|run| {
            let course = &run.course;
            let place = run.progress.place(course)?;
            let (leg, step) = (course.leg(place)?, course.step(place)?);
            let is_due = run.progress.state == State::Baking
                && course.control == Control::Controller
                && course.asks_hook(place)
                && step.bake <= run.progress.baked_at(now);
            is_due.then(|| Hook {
                rollout: course.id.clone(),
                stage: leg.stage.id.clone(),
                step: course.name(place),
                next: course.next(place).map(|next| course.name(next)),
                moment: run.moment(),
            })
        });
        asked.collect()
    }

    /// What a hook has answered.
    pub(crate) fn hook_said(&self, hook: &Hook, said: Result<(), String>) {
        if let Some(run) = self.runs().get_mut(&hook.rollout) {
            run.hook = Some((hook.moment, said));
        }
    }

    /// What was answered; `None`: nothing.
    pub(crate) fn answered(&self, rollout: &RolloutId, guard: &str, answer: Option<f64>) {
        if let Some(run) = self.runs().get_mut(rollout) {
            match answer {
                Some(value) => run.answers.insert(guard.into(), value),
                None => run.answers.remove(guard),
            };
        }
    }
}
