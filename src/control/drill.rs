//! Exercises that people meet: for a while something is wrong with a provider for those of one cohort, and for nobody else. It
//! ends by itself.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::rollout::CohortId;
use crate::rollout::Cohorts;
use crate::rollout::Facts;

/// The exercise that is under way, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Drills(ArcSwapOption<UnderWay>);

/// What is wrong meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Upset {
    /// Whoever asks the provider gets no answer, in this way.
    Away(Outage),
    /// Its answers come so much later.
    Slow(Duration),
    /// Nothing, but nobody signs in there: people begin at the other side.
    Back,
}

/// One exercise.
#[derive(Debug)]
pub(crate) struct UnderWay {
    provider: ProviderId,
    cohort: CohortId,
    upset: Upset,
    since: UnixTime,
    until: UnixTime,
    met: AtomicU64,
    logins: AtomicU64,
    elsewhere: AtomicU64,
}

impl Drills {
    /// Begins; `None`: another one is under way.
    pub(crate) fn begin(
        &self,
        (provider, upset): (ProviderId, Upset),
        cohort: CohortId,
        (now, until): (UnixTime, UnixTime),
    ) -> Option<Arc<UnderWay>> {
        let before = self.0.load();
        if before.as_ref().is_some_and(|before| now < before.until) {
            return None;
        }
        let own = Arc::new(UnderWay {
            provider,
            cohort,
            upset,
            since: now,
            until,
            met: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
        });
        self.0.store(Some(Arc::clone(&own)));
        Some(own)
    }

    /// Ends whatever is under way.
    pub(crate) fn end(&self) {
        self.0.store(None);
    }

    /// What somebody meets for whom this provider vouches: one pointer load where there is nothing.
    pub(crate) fn meets(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) -> Option<Upset> {
        let own = self.0.load();
        let own = own.as_ref()?;
        let upset = Some(own.upset).filter(|upset| *upset != Upset::Back)?;
        own.is_for(provider, cohorts, facts, now).then(|| {
            own.met.fetch_add(1, Ordering::Relaxed);
            upset
        })
    }

    /// What a sign-in meets that would begin at this provider. Who it is, is not known yet: only a cohort that is known before can
    /// meet it.
    pub(crate) fn login_meets(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) -> Option<Upset> {
        let own = self.0.load();
        let own = own.as_ref().filter(|own| own.upset != Upset::Back)?;
        own.is_for(provider, cohorts, facts, now).then(|| {
            own.logins.fetch_add(1, Ordering::Relaxed);
            own.upset
        })
    }

    /// Whether a sign-in begins on the other side of this provider.
    pub(crate) fn sends_back(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) -> bool {
        let own = self.0.load();
        let own = own.as_ref().filter(|own| own.upset == Upset::Back);
        let own = own.filter(|own| own.is_for(provider, cohorts, facts, now));
        own.is_some_and(|own| {
            own.logins.fetch_add(1, Ordering::Relaxed);
            own.elsewhere.fetch_add(1, Ordering::Relaxed);
            true
        })
    }

    /// Since when a provider counts as away for whoever signs in, if it does.
    pub(crate) fn away_since(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) -> Option<UnixTime> {
        let own = self.0.load();
        let own = own.as_ref()?;
        let is_away = matches!(own.upset, Upset::Away(_));
        (is_away && own.is_for(provider, cohorts, facts, now)).then_some(own.since)
    }

    /// A sign-in that met it began at the other provider.
    pub(crate) fn went_elsewhere(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) {
        let own = self.0.load();
        if let Some(own) = own.as_ref()
            && own.is_for(provider, cohorts, facts, now)
        {
            own.elsewhere.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether something is wrong with this provider for anybody: what happens then is no evidence.
    pub(crate) fn is_on(&self, provider: &ProviderId, now: UnixTime) -> bool {
        let own = self.0.load();
        own.as_ref()
            .is_some_and(|own| own.upset != Upset::Back && own.is_of(provider, now))
    }
}

impl UnderWay {
    fn is_of(&self, provider: &ProviderId, now: UnixTime) -> bool {
        self.provider == *provider && now < self.until
    }

    fn is_for(
        &self,
        provider: &ProviderId,
        cohorts: &Cohorts,
        facts: &Facts<'_>,
        now: UnixTime,
    ) -> bool {
        let cohort = || cohorts.get(&self.cohort);
        self.is_of(provider, now)
            && cohort().is_some_and(|cohort| cohort.contains(facts) == Some(true))
    }

    /// How often somebody met it with a credential.
    pub(crate) fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    /// How many sign-ins met it, and how many of them began at the other provider.
    pub(crate) fn logins(&self) -> (u64, u64) {
        let logins = self.logins.load(Ordering::Relaxed);
        (logins, self.elsewhere.load(Ordering::Relaxed))
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
            hearsay: crate::rollout::Hearsay::default(),
            person: None,
        };
        let (new, old) = (ProviderId::new("new"), ProviderId::new("old"));
        let at = UnixTime::from_secs;
        let drills = Drills::default();
        let gone = Upset::Away(Outage::Connect);
        let meets = |provider, app, now| {
            let met = drills.meets(provider, &cohorts, &facts(app), at(now));
            assert!(met.is_none_or(|met| met == gone));
            met.is_some()
        };
        assert!(!meets(&new, &app, 1));
        let begin = |upset| {
            let span = (at(1), at(10));
            drills.begin((new.clone(), upset), CohortId::new("staff"), span)
        };
        let away = begin(gone).unwrap();
        assert!(begin(gone).is_none(), "one at a time");
        assert!(meets(&new, &app, 9) && !meets(&new, &other, 9) && !meets(&old, &app, 9));
        assert!(!meets(&new, &app, 10));
        assert_eq!(away.met(), 1);
        assert!(drills.is_on(&new, at(9)) && !drills.is_on(&new, at(10)));
        let since = |app| drills.away_since(&new, &cohorts, &facts(app), at(9));
        assert_eq!((since(&app), since(&other)), (Some(at(1)), None));
        let login = |app| drills.login_meets(&new, &cohorts, &facts(app), at(9));
        assert_eq!((login(&app), login(&other)), (Some(gone), None));
        drills.went_elsewhere(&new, &cohorts, &facts(&app), at(9));
        assert_eq!((away.met(), away.logins()), (1, (1, 1)));
        drills.end();
        assert!(!drills.is_on(&new, at(9)));
        // Nobody's credential is worse because new sign-ins begin elsewhere.
        begin(Upset::Back).unwrap();
        assert!(!meets(&new, &app, 9) && !drills.is_on(&new, at(9)) && since(&app).is_none());
        let back = |app| drills.sends_back(&new, &cohorts, &facts(app), at(9));
        assert_eq!((login(&app), back(&app), back(&other)), (None, true, false));
    }
}
