//! Whom a switch back would hurt now: people who have moved, by what is known of them at the provider they came from.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::clock::UnixTime;
use crate::links::Links;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::session::MAX_MOVED;
use crate::session::Pins;
use crate::telemetry::Metrics;

/// People of whom the store is asked at once.
const AT_ONCE: usize = 64;

/// People of one rollout whom a switch back would hurt.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Exposed {
    /// They have moved, and no account of theirs at `from` is known.
    pub(crate) modern_born: u64,
    /// They have moved, and would sign in at `from` again.
    pub(crate) signs_in_again: u64,
    /// They had moved before a step back.
    pub(crate) recalled: u64,
}

/// What is known of all rollouts.
pub(crate) struct Exposure {
    pins: Arc<Pins>,
    links: Arc<Links>,
    metrics: Arc<Metrics>,
    /// `None`: more people have moved than are counted.
    found: Mutex<HashMap<RolloutId, Option<Exposed>>>,
}

impl Exposure {
    /// Nothing is known yet.
    pub(crate) fn new(pins: Arc<Pins>, links: Arc<Links>, metrics: Arc<Metrics>) -> Self {
        Self {
            pins,
            links,
            metrics,
            found: Mutex::default(),
        }
    }

    /// Looks at everybody who has moved.
    ///
    /// # Errors
    ///
    /// When the store gives no answer: what was known stays.
    pub(crate) async fn look(
        &self,
        plans: impl Iterator<Item = &Plan>,
        now: UnixTime,
    ) -> Result<(), String> {
        let mut fresh = HashMap::new();
        for plan in plans {
            let moved = self.pins.all_moved(&plan.id, now).await;
            let moved = moved.map_err(|error| error.to_string())?;
            if MAX_MOVED <= moved.len() {
                // A part of them says nothing of all, and a gate that rests on it would be open.
                fresh.insert(plan.id.clone(), None);
                continue;
            }
            let here = || moved.iter().filter(|row| row.epoch == plan.epoch);
            let asked: Vec<_> = here()
                .map(|row| self.links.has_account(&row.account, now))
                .collect();
            let known = stream::iter(asked).buffer_unordered(AT_ONCE);
            let known: Vec<_> = known.collect().await;
            let mut exposed = Exposed {
                recalled: (moved.len() - here().count()) as u64,
                ..Exposed::default()
            };
            for known in known {
                match known.map_err(|error| error.to_string())? {
                    true => exposed.signs_in_again += 1,
                    false => exposed.modern_born += 1,
                }
            }
            fresh.insert(plan.id.clone(), Some(exposed));
        }
        let known = || {
            let all = fresh.iter();
            all.filter_map(|(id, exposed)| exposed.as_ref().map(|exposed| (id, exposed)))
        };
        let rows = known().flat_map(|(id, exposed)| {
            let (born, again) = (exposed.modern_born, exposed.signs_in_again);
            [("modern_born", born), ("signs_in_again", again)]
                .map(|(why, people)| (id.as_str(), why, people))
        });
        self.metrics.rollback_exposure(rows);
        let rows = known().flat_map(|(id, exposed)| {
            let states = [
                ("modern", exposed.signs_in_again),
                ("modern_born", exposed.modern_born),
                ("recalled", exposed.recalled),
            ];
            states.map(|(state, people)| (id.as_str(), state, people))
        });
        self.metrics.subjects(rows);
        *self.found() = fresh;
        Ok(())
    }

    /// What was found of a rollout the last time; `None`: nobody has looked yet, or more have moved than are counted.
    pub(crate) fn of(&self, rollout: &RolloutId) -> Option<Exposed> {
        self.found().get(rollout).copied().flatten()
    }

    /// Whether more people have moved than are counted.
    pub(crate) fn is_too_much(&self, rollout: &RolloutId) -> bool {
        self.found().get(rollout).is_some_and(Option::is_none)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<RolloutId, Option<Exposed>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposure")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::identity::CanonicalSubject;
    use crate::rollout::Mode;
    use crate::rollout::testing::plan;
    use crate::store::MemoryStore;

    /// A gate that rests on it closes: `None` is "not known".
    #[tokio::test]
    async fn of_more_people_than_are_counted_nothing_is_said() {
        let store = Arc::new(MemoryStore::default());
        let pins = Arc::new(Pins::new(Arc::clone(&store) as _));
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let links = Arc::new(Links::new(store));
        let exposure = Exposure::new(Arc::clone(&pins), links, Arc::clone(&metrics));
        let (plan, now) = (plan(Mode::Canary, Vec::new()), UnixTime::from_secs(1));
        let moves = async |n: usize| {
            let person = CanonicalSubject::named(&format!("hr:{n}")).unwrap();
            let moved = pins.moved(&plan.id, (&person, &[7; 32]), plan.epoch, now);
            moved.await.unwrap();
        };
        moves(0).await;
        exposure.look([&plan].into_iter(), now).await.unwrap();
        assert_eq!(exposure.of(&plan.id).unwrap().modern_born, 1);
        assert!(!exposure.is_too_much(&plan.id));
        for n in 1..MAX_MOVED {
            moves(n).await;
        }
        exposure.look([&plan].into_iter(), now).await.unwrap();
        assert_eq!(exposure.of(&plan.id), None);
        assert!(exposure.is_too_much(&plan.id));
        let shown = metrics.render().unwrap();
        assert!(
            !shown.contains("authferry_rollback_exposure_subjects{"),
            "{shown}"
        );
    }
}
