//! Whom a switch back would hurt now: people who have moved, by what is known of them at the provider they came from.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::StreamExt as _;
use futures_util::stream;

use crate::clock::UnixTime;
use crate::identity::CanonicalSubject;
use crate::links::Links;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::session::MAX_MOVED;
use crate::session::Pins;
use crate::session::Stay;
use crate::store::StoreError;
use crate::telemetry::Metrics;

/// People of whom the store is asked at once.
const AT_ONCE: usize = 64;

/// People of one rollout whom a switch back would hurt. Whoever has several reasons counts by each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Exposed {
    /// They have moved, and no account of theirs at `from` is known.
    pub(crate) modern_born: u64,
    /// They have moved, and would sign in at `from` again.
    pub(crate) signs_in_again: u64,
    /// They have moved, and `from` has barred them.
    pub(crate) legacy_disabled: u64,
    /// They have moved, and their password at `to` was changed since.
    pub(crate) password_changed_since: u64,
    /// They have moved, and have signed in at `to` with more than `from` can tell of anybody.
    pub(crate) factor_only_at_modern: u64,
    /// They have moved, and had agreed at `to` that others act for them when they came last; `None`: `to` does not say.
    pub(crate) consent_only_at_modern: Option<u64>,
    /// Where `to` says so: they have moved, and it was not known when they came last.
    pub(crate) consent_not_known: u64,
    /// How many of these a switch back would lock out of something, each once: everybody but those who sign in again. Of whom it
    /// is not known whether they have agreed to anything, that is taken for yes.
    pub(crate) locked_out: u64,
    /// They had moved before a step back.
    pub(crate) recalled: u64,
    /// Accounts of which it is in doubt whose they are, at either side.
    pub(crate) conflict: u64,
}

impl Exposed {
    /// How many there are by why, as labels say it; `None`: that is not known.
    pub(crate) const fn by_why(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("modern_born", Some(self.modern_born)),
            ("signs_in_again", Some(self.signs_in_again)),
            ("legacy_disabled", Some(self.legacy_disabled)),
            ("password_changed_since", Some(self.password_changed_since)),
            ("factor_only_at_modern", Some(self.factor_only_at_modern)),
            ("consent_only_at_modern", self.consent_only_at_modern),
        ]
    }
}

/// What is asked about a rollout.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// As it decides now.
    pub(crate) plan: &'a Plan,
    /// People whom `from` has barred.
    pub(crate) barred: Vec<CanonicalSubject>,
    /// Classes of assurance that are more than any of `from`.
    pub(crate) above: Vec<Box<str>>,
    /// Whether some route of its applications takes no class of `from`.
    pub(crate) demanded: bool,
    /// Whether `to` says what people have agreed to.
    pub(crate) consents: bool,
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
    pub(crate) async fn look(&self, asked: &[Asked<'_>], now: UnixTime) -> Result<(), String> {
        let mut fresh = HashMap::new();
        for asked in asked {
            let exposed = self.look_at(asked, now).await;
            let exposed = exposed.map_err(|error| error.to_string())?;
            fresh.insert(asked.plan.id.clone(), exposed);
        }
        let known = || {
            let all = fresh.iter();
            all.filter_map(|(id, exposed)| exposed.as_ref().map(|exposed| (id, exposed)))
        };
        let rows = known().flat_map(|(id, exposed)| {
            let whys = exposed.by_why().into_iter();
            whys.filter_map(|(why, people)| Some((id.as_str(), why, people?)))
        });
        self.metrics.rollback_exposure(rows);
        let rows = known().flat_map(|(id, exposed)| {
            let states = [
                ("modern", exposed.signs_in_again),
                ("modern_born", exposed.modern_born),
                ("recalled", exposed.recalled),
                ("conflict", exposed.conflict),
            ];
            states.map(|(state, people)| (id.as_str(), state, people))
        });
        self.metrics.subjects(rows);
        *self.found() = fresh;
        Ok(())
    }

    /// The same of one rollout; `None`: more people have moved than are counted.
    async fn look_at(
        &self,
        asked: &Asked<'_>,
        now: UnixTime,
    ) -> Result<Option<Exposed>, StoreError> {
        let plan = asked.plan;
        let moved = self.pins.all_moved(&plan.id, now).await?;
        if MAX_MOVED <= moved.len() {
            // A part of them says nothing of all, and a gate that rests on it would be open.
            return Ok(None);
        }
        let stays = self.pins.all_stays(&plan.id, now).await?;
        let barred = asked.barred.iter();
        let barred: HashSet<[u8; 32]> = barred
            .map(|person| self.pins.person_row(&plan.id, person))
            .collect();
        let here = || moved.iter().filter(|row| row.epoch == plan.epoch);
        let questions: Vec<_> = here()
            .map(|row| self.links.has_account(&row.account, now))
            .collect();
        let known = stream::iter(questions).buffered(AT_ONCE);
        let known: Vec<_> = known.collect().await;
        let mut exposed = Exposed {
            recalled: (moved.len() - here().count()) as u64,
            consent_only_at_modern: asked.consents.then_some(0),
            ..Exposed::default()
        };
        for (row, known) in here().zip(known) {
            let born = !known?;
            let barred = barred.contains(&row.person);
            // Of an earlier epoch it says nothing: they were called back, and moved again.
            let stay = stays.get(&row.person);
            let stay = stay.filter(|stay| stay.epoch == plan.epoch);
            let changed = stay.is_some_and(|stay| stay.password_changed);
            let above = |stay: &Stay| asked.above.iter().any(|class| stay.classes.contains(class));
            let factor = stay.is_some_and(above);
            exposed.modern_born += u64::from(born);
            exposed.signs_in_again += u64::from(!born);
            exposed.legacy_disabled += u64::from(barred);
            exposed.password_changed_since += u64::from(changed);
            exposed.factor_only_at_modern += u64::from(factor);
            let consented = stay.and_then(|stay| stay.consented);
            if let Some(consents) = &mut exposed.consent_only_at_modern {
                *consents += u64::from(consented == Some(true));
                exposed.consent_not_known += u64::from(consented.is_none());
            }
            let consented = asked.consents && consented != Some(false);
            let out = born || barred || changed || (factor && asked.demanded) || consented;
            exposed.locked_out += u64::from(out);
        }
        for provider in [&plan.from, &plan.to] {
            exposed.conflict += self.links.conflicts(provider, now).await?.len() as u64;
        }
        Ok(Some(exposed))
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
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::identity::ClaimMap;
    use crate::identity::Delegation;
    use crate::identity::Identity;
    use crate::identity::Issuer;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::rollout::Mode;
    use crate::rollout::testing::plan;
    use crate::store::MemoryStore;

    const NOW: UnixTime = UnixTime::from_secs(1);

    struct World {
        pins: Arc<Pins>,
        links: Arc<Links>,
        metrics: Arc<Metrics>,
        exposure: Exposure,
        plan: Plan,
    }

    impl World {
        fn new() -> Self {
            let store = Arc::new(MemoryStore::default());
            let pins = Arc::new(Pins::new(Arc::clone(&store) as _));
            let metrics = Metrics::new(Arc::new(SystemClock), 100);
            let links = Arc::new(Links::new(store));
            let (p, l, m) = (Arc::clone(&pins), Arc::clone(&links), Arc::clone(&metrics));
            Self {
                exposure: Exposure::new(p, l, m),
                pins,
                links,
                metrics,
                plan: plan(Mode::Canary, Vec::new()),
            }
        }

        async fn moves(&self, person: &CanonicalSubject) {
            let account = self.links.account_row(person, &self.plan.from);
            let moved = (person, &account);
            let moved = self.pins.moved(&self.plan.id, moved, self.plan.epoch, NOW);
            moved.await.unwrap();
        }

        async fn looks(&self, barred: &[&CanonicalSubject], demanded: bool) -> Option<Exposed> {
            let asked = Asked {
                plan: &self.plan,
                barred: barred.iter().map(|person| (*person).clone()).collect(),
                above: vec!["mfa".into()],
                demanded,
                consents: false,
            };
            self.exposure.look(&[asked], NOW).await.unwrap();
            self.exposure.of(&self.plan.id)
        }
    }

    fn person(n: usize) -> CanonicalSubject {
        CanonicalSubject::named(&format!("hr:{n}")).unwrap()
    }

    fn account(provider: &ProviderId, n: usize) -> SubjectKey {
        SubjectKey {
            issuer: Issuer::new(&format!("https://{provider}")),
            subject: Subject::try_from(format!("uid-{n}").as_str()).unwrap(),
        }
    }

    /// What the new side says of somebody.
    fn says(to: &ProviderId, n: usize, changed: u64, class: &str) -> Identity {
        let mut attributes = ClaimMap::default();
        attributes.insert("password_changed", json!(changed));
        Identity {
            provider: to.clone(),
            key: account(to, n),
            attributes: Arc::new(attributes),
            client_id: None,
            acr: Some(class.into()),
            scopes: Box::default(),
            delegation: Delegation::default(),
        }
    }

    /// A gate that rests on it closes: `None` is "not known".
    #[tokio::test]
    async fn of_more_people_than_are_counted_nothing_is_said() {
        let world = World::new();
        world.moves(&person(0)).await;
        assert_eq!(world.looks(&[], false).await.unwrap().modern_born, 1);
        assert!(!world.exposure.is_too_much(&world.plan.id));
        for n in 1..MAX_MOVED {
            world.moves(&person(n)).await;
        }
        assert_eq!(world.looks(&[], false).await, None);
        assert!(world.exposure.is_too_much(&world.plan.id));
        let shown = world.metrics.render().unwrap();
        assert!(
            !shown.contains("authferry_rollback_exposure_subjects{"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn each_reason_is_counted_and_nobody_is_locked_out_twice() {
        let world = World::new();
        let (plan, pins, links) = (&world.plan, &world.pins, &world.links);
        for n in 0..6 {
            let person = person(n);
            // The first of them has no account at the old side.
            if 0 < n {
                let account = account(&plan.from, n);
                let claimed = links.claim(&person, &plan.from, &account, NOW);
                claimed.await.unwrap();
            }
            world.moves(&person).await;
        }
        // What the new side says of two of them: a password of later, and more than one factor.
        for (n, changed, class) in [(1, 500, "pwd"), (2, 0, "mfa"), (3, 500, "mfa")] {
            let identity = says(&plan.to, n, changed, class);
            let told = (&person(n), &identity);
            let stays = pins.stays((&plan.id, plan.epoch), told, NOW).await;
            stays.unwrap();
        }
        let (zero, barred) = (person(0), person(4));
        let found = world.looks(&[&zero, &barred], false).await.unwrap();
        let people = found.by_why().map(|(_, people)| people);
        let known = [1, 5, 2, 2, 2].map(Some);
        assert_eq!(people.as_slice(), [known.as_slice(), &[None]].concat());
        // 0, who is barred as well, 1, 3, and 4; where something asks for more than one factor, 2 as well.
        assert_eq!(found.locked_out, 4);
        let found = world.looks(&[&zero, &barred], true).await.unwrap();
        assert_eq!(found.locked_out, 5);
        let shown = world.metrics.render().unwrap();
        assert!(!shown.contains("consent_only_at_modern"), "it is not known");
        for (why, people) in found.by_why() {
            let Some(people) = people else { continue };
            let row = format!(
                "authferry_rollback_exposure_subjects{{rollout=\"{}\",why=\"{why}\"}} {people}\n",
                plan.id
            );
            assert!(shown.contains(&row), "{row}: {shown}");
        }
        // Who was called back is hurt no more.
        let mut later = World::new().plan;
        later.id = plan.id.clone();
        later.epoch = plan.epoch + 1;
        let asked = Asked {
            plan: &later,
            barred: vec![zero],
            above: vec!["mfa".into()],
            demanded: true,
            consents: true,
        };
        world.exposure.look(&[asked], NOW).await.unwrap();
        let found = world.exposure.of(&plan.id).unwrap();
        assert_eq!((found.locked_out, found.recalled), (0, 6));
    }

    /// What is not known is no zero: not where nobody says it, and not for the gate where somebody could.
    #[tokio::test]
    async fn what_people_have_agreed_to_counts_where_the_new_side_says_it() {
        let world = World::new();
        let (plan, pins, links) = (&world.plan, &world.pins, &world.links);
        for n in 1..5 {
            let (person, hers) = (person(n), account(&plan.from, n));
            links.claim(&person, &plan.from, &hers, NOW).await.unwrap();
            world.moves(&person).await;
        }
        for (n, given) in [(1, true), (2, false), (3, true)] {
            let (person, at) = (person(n), (&plan.id, plan.epoch));
            let identity = says(&plan.to, n, 0, "pwd");
            pins.stays(at, (&person, &identity), NOW).await.unwrap();
            pins.consents(at, &person, given, NOW).await.unwrap();
        }
        let looks = async |consents| {
            let asked = Asked {
                plan,
                barred: Vec::new(),
                above: Vec::new(),
                demanded: false,
                consents,
            };
            world.exposure.look(&[asked], NOW).await.unwrap();
            world.exposure.of(&plan.id).unwrap()
        };
        let row = format!(
            "authferry_rollback_exposure_subjects{{rollout=\"{}\",why=\"consent_only_at_modern\"}} 2\n",
            plan.id
        );
        let found = looks(false).await;
        let of = |found: &Exposed| (found.consent_only_at_modern, found.consent_not_known);
        assert_eq!((of(&found), found.locked_out), ((None, 0), 0));
        assert!(!world.metrics.render().unwrap().contains(&row));
        let found = looks(true).await;
        assert_eq!((of(&found), found.locked_out), ((Some(2), 1), 3));
        assert!(world.metrics.render().unwrap().contains(&row));
    }

    #[tokio::test]
    async fn accounts_in_conflict_are_counted_until_they_are_somebodys() {
        let world = World::new();
        let (links, to) = (&world.links, &world.plan.to);
        let hers = account(to, 1);
        for _ in 0..3 {
            links.in_conflict(&person(1), (to, &hers), NOW).await;
        }
        links
            .in_conflict(&person(1), (to, &account(to, 2)), NOW)
            .await;
        let rows = links.conflicts(to, NOW).await.unwrap();
        assert_eq!(rows, [links.account_row(&person(1), to); 2]);
        assert_eq!(world.looks(&[], false).await.unwrap().conflict, 2);
        let shown = world.metrics.render().unwrap();
        let row = format!(
            "authferry_subjects{{rollout=\"{}\",state=\"conflict\"}} 2\n",
            world.plan.id
        );
        assert!(shown.contains(&row), "{shown}");
        // One of them turns out to be somebody else's, by what its provider says meanwhile.
        links.claim(&person(9), to, &hers, NOW).await.unwrap();
        assert_eq!(links.conflicts(to, NOW).await.unwrap().len(), 1);
        let month = NOW + Duration::from_hours(30 * 24);
        assert_eq!(links.conflicts(to, month).await.unwrap().len(), 0);
        // Whoever is decided about, or forgotten, is in none.
        let changes = crate::links::Decided::default();
        let decided = (&changes, NOW);
        links
            .decide(&person(1), to, &account(to, 3), decided)
            .await
            .unwrap();
        assert!(links.conflicts(to, NOW).await.unwrap().is_empty());
        links
            .in_conflict(&person(5), (to, &account(to, 5)), NOW)
            .await;
        let gone = links
            .forget(&person(5), std::slice::from_ref(to), NOW)
            .await;
        assert_eq!(gone.unwrap(), 0);
        assert!(links.conflicts(to, NOW).await.unwrap().is_empty());
    }
}
