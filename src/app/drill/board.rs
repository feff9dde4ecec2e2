//! The exercises of this instance that are remembered, the last one last.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::admin::DrillView;
use crate::rollout::Exercise;

/// Exercises that are remembered.
const MAX_KEPT: usize = 20;

/// The exercises of this instance, the last one last.
#[derive(Debug, Default)]
pub(in crate::app) struct Board(Mutex<VecDeque<DrillView>>);

impl Board {
    fn all(&self) -> MutexGuard<'_, VecDeque<DrillView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(in crate::app) fn shown(&self) -> Vec<DrillView> {
        self.all().iter().cloned().collect()
    }

    /// One begins.
    pub(super) fn begin(&self, exercise: Exercise, rollout: &str) -> DrillView {
        let mut all = self.all();
        let view = DrillView {
            number: all.back().map_or(1, |last| last.number + 1),
            name: exercise.to_string(),
            rollout: rollout.to_owned(),
            state: String::from("running"),
            seen: Vec::new(),
            load: None,
        };
        if all.len() == MAX_KEPT {
            all.pop_front();
        }
        all.push_back(view.clone());
        view
    }

    /// One is over.
    pub(super) fn end(&self, view: DrillView) {
        let mut all = self.all();
        if let Some(own) = all.iter_mut().find(|one| one.number == view.number) {
            *own = view;
        }
    }
}
