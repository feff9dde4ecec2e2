//! All cohorts, by name, and which edition of them it is.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::rollout::cohort::Cohort;
use crate::rollout::cohort::CohortId;

/// All cohorts, by name.
#[derive(Clone, Debug, Default)]
pub struct Cohorts {
    all: HashMap<CohortId, Cohort>,
    /// Another one for every content: what was derived from an edition counts for that one only.
    edition: Edition,
}

/// A name for one content of [`Cohorts`]. Whoever keeps it keeps it from being given to another.
#[derive(Clone, Debug, Default)]
pub(super) struct Edition(Arc<()>);

impl Edition {
    /// Whether two are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Cohorts {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one.
    pub fn insert(&mut self, id: CohortId, cohort: Cohort) {
        self.all.insert(id, cohort);
        self.edition = Edition::default();
    }

    /// Which edition it is.
    pub(super) const fn edition(&self) -> &Edition {
        &self.edition
    }
}

impl Deref for Cohorts {
    type Target = HashMap<CohortId, Cohort>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl FromIterator<(CohortId, Cohort)> for Cohorts {
    fn from_iter<I: IntoIterator<Item = (CohortId, Cohort)>>(all: I) -> Self {
        Self {
            all: all.into_iter().collect(),
            edition: Edition::default(),
        }
    }
}

impl<const N: usize> From<[(CohortId, Cohort); N]> for Cohorts {
    fn from(all: [(CohortId, Cohort); N]) -> Self {
        all.into_iter().collect()
    }
}
