//! Exercises: for a while a provider counts as away for the people of one cohort, and for nobody else. It ends by itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::CohortId;
use crate::rollout::Cohorts;
use crate::rollout::Facts;

/// The exercise that is under way, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Drills(ArcSwapOption<Away>);

/// A provider that counts as away.
#[derive(Debug)]
pub(crate) struct Away {
    provider: ProviderId,
    cohort: CohortId,
    until: UnixTime,
    met: AtomicU64,
}

impl Drills {
    /// Begins; `None`: another one is under way.
    pub(crate) fn begin(
        &self,
        provider: ProviderId,
        cohort: CohortId,
        (now, until): (UnixTime, UnixTime),
    ) -> Option<Arc<Away>> {
        let before = self.0.load();
        if before.as_ref().is_some_and(|before| now < before.until) {
            return None;
        }
        let away = Arc::new(Away {
            provider,
            cohort,
            until,
            met: AtomicU64::new(0),
        });
        self.0.store(Some(Arc::clone(&away)));
        Some(away)
    }

    /// Ends whatever is under way.
    pub(crate) fn end(&self) {
        self.0.store(None);
    }

    /// Whether somebody whom this provider vouches for meets the exercise: one pointer load where there is none.
    pub(crate) fn meets(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) -> bool {
        let away = self.0.load();
        let Some(away) = away.as_ref().filter(|away| away.is_of(provider, now)) else {
            return false;
        };
        let cohort = cohorts.get(&away.cohort);
        let meets = cohort.is_some_and(|cohort| cohort.contains(facts) == Some(true));
        away.met.fetch_add(u64::from(meets), Ordering::Relaxed);
        meets
    }

    /// Whether this provider counts as away for anybody: what happens then is no evidence.
    pub(crate) fn is_on(&self, provider: &ProviderId, now: UnixTime) -> bool {
        let away = self.0.load();
        away.as_ref().is_some_and(|away| away.is_of(provider, now))
    }
}

impl Away {
    fn is_of(&self, provider: &ProviderId, now: UnixTime) -> bool {
        self.provider == *provider && now < self.until
    }

    /// How often somebody met it.
    pub(crate) fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::AppId;
    use crate::rollout::Cohort;

    #[test]
    fn one_cohort_meets_it_and_it_ends_by_itself() {
        let (app, other) = (AppId::new("crm"), AppId::new("hr"));
        let cohorts = Cohorts::from([(CohortId::new("staff"), Cohort::App(vec!["crm".into()]))]);
        let facts = |app| Facts {
            app,
            host: "crm.test",
            path: "/",
            method: "GET",
            client_ip: None,
            peer: None,
            fields: None,
            device: None,
            person: None,
        };
        let (new, old) = (ProviderId::new("new"), ProviderId::new("old"));
        let at = UnixTime::from_secs;
        let drills = Drills::default();
        let meets = |provider, app, now| drills.meets(provider, &cohorts, &facts(app), at(now));
        assert!(!meets(&new, &app, 1));
        let begin = || drills.begin(new.clone(), CohortId::new("staff"), (at(1), at(10)));
        let away = begin().unwrap();
        assert!(begin().is_none(), "one at a time");
        assert!(meets(&new, &app, 9) && !meets(&new, &other, 9) && !meets(&old, &app, 9));
        assert!(!meets(&new, &app, 10));
        assert_eq!(away.met(), 1);
        assert!(drills.is_on(&new, at(9)) && !drills.is_on(&new, at(10)));
        drills.end();
        assert!(!drills.is_on(&new, at(9)));
    }
}
