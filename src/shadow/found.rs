//! What was found: who was looked at, and the last differences of each application, without anybody's name.
//!
//! It is kept in parts, a row of the store each, so that it outlives a restart and instances know of each other's findings.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::entropy::Entropy as _;
use crate::entropy::SystemEntropy;
use crate::rollout::AppId;
use crate::rollout::Looked;
use crate::shadow::compare::Difference;
use crate::shadow::kind::Class;
use crate::shadow::looks::Looks;
use crate::shadow::looks::looked;
use crate::shadow::sampled::Counts;
use crate::shadow::sampled::Samples;
use crate::store::Notes;
use crate::telemetry::Pseudonym;
use crate::telemetry::Pseudonyms;

/// The table of the store that it is kept in.
pub(crate) const TABLE: &str = "shadow";
/// Differences that are kept of one application; the oldest goes first.
const MAX_KEPT: usize = 2_000;
/// For so long, unless something else is said.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// The same difference of the same person is told once in this time.
const TELL: Duration = Duration::from_hours(24);

/// One difference that is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Kept {
    /// When.
    pub(crate) at: UnixTime,
    /// Which kind.
    pub(crate) class: Class,
    /// In which field.
    pub(crate) field: Box<str>,
    /// About whom.
    pub(crate) person: Pseudonym,
    /// Names of groups and scopes of which only one side speaks.
    pub(crate) values: Vec<Box<str>>,
    /// What the deciding side says: a keyed hash.
    pub(crate) control: String,
    /// What the other side says: a keyed hash.
    pub(crate) candidate: String,
}

/// The people of a part: those whose pseudonym begins so.
type Part = [u8; 2];

/// No pseudonym begins so: what instances have counted, without anybody.
const COUNTS: Part = [0xff, 0xff];

/// One part of what was found about the people of an application.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Page {
    #[serde(default)]
    people: Looks,
    /// Who was looked at twice at one side.
    #[serde(default)]
    noise: Looks,
    #[serde(default)]
    kept: Vec<Kept>,
    /// What instances have counted: in a part of its own.
    #[serde(default, skip_serializing_if = "Samples::is_empty")]
    samples: Samples,
}

/// Everything that was found.
pub(crate) struct Found {
    /// Equal values are seen to be equal, and nobody without the key can try values out.
    pseudonyms: Pseudonyms,
    keep: Duration,
    /// By which this instance is told from others.
    instance: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    apps: HashMap<AppId, OfApp>,
    /// What is to be written.
    changed: BTreeSet<(AppId, Part)>,
    /// Whether what was found before is known.
    known: bool,
}

#[derive(Default)]
struct OfApp {
    kept: VecDeque<Kept>,
    people: Looks,
    noise: Looks,
    samples: Samples,
    told: HashMap<(Class, Box<str>, Pseudonym), UnixTime>,
}

impl Found {
    /// Nothing yet, and it is not known what was found before.
    pub(crate) fn new(pseudonyms: Pseudonyms) -> Self {
        let mut instance = [0; 8];
        SystemEntropy.fill(&mut instance);
        Self {
            pseudonyms,
            keep: KEEP,
            instance: u64::from_be_bytes(instance),
            state: Mutex::default(),
        }
    }

    /// Keeps what was found for so long.
    #[must_use]
    pub(crate) const fn kept_for(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// For how long what was found is kept.
    pub(crate) const fn keep(&self) -> Duration {
        self.keep
    }

    const fn long_ago(&self, now: UnixTime) -> UnixTime {
        UnixTime::from_secs(now.as_secs().saturating_sub(self.keep.as_secs()))
    }

    /// Somebody was looked at, and differs so; the places of the differences that are new today, so that somebody should
    /// hear of them.
    pub(super) fn looked_at(
        &self,
        app: &AppId,
        person: Pseudonym,
        differences: Vec<Difference>,
        now: UnixTime,
    ) -> Vec<bool> {
        let mut state = self.state();
        state.changed.insert((app.clone(), part(&person)));
        let own = state.apps.entry(app.clone()).or_default();
        let classes = differences.iter().map(|difference| difference.class);
        own.people.saw(person, classes, now);
        own.told.retain(|_, at| now.since(*at) < TELL);
        let one = |difference: Difference| {
            let about = (difference.class, difference.field.clone(), person);
            // Whoever reads the log needs no more of them in a day; what is critical has room of its own.
            let room = if difference.class.is_critical() {
                2 * MAX_KEPT
            } else {
                MAX_KEPT
            };
            let new = own.told.len() < room && !own.told.contains_key(&about);
            if new {
                own.told.insert(about, now);
            }
            let kept = Kept {
                at: now,
                class: difference.class,
                field: difference.field,
                person,
                values: difference.values,
                control: self.hashed(&difference.said.0),
                candidate: self.hashed(&difference.said.1),
            };
            keep(&mut own.kept, kept);
            new
        };
        differences.into_iter().map(one).collect()
    }

    /// Somebody was looked at twice at one side, which differs from itself in these classes.
    pub(super) fn noise(
        &self,
        app: &AppId,
        person: Pseudonym,
        classes: impl Iterator<Item = Class>,
        now: UnixTime,
    ) {
        let mut state = self.state();
        state.changed.insert((app.clone(), part(&person)));
        let own = state.apps.entry(app.clone()).or_default();
        own.noise.saw(person, classes, now);
    }

    /// The differences that are kept, the oldest first.
    pub(crate) fn all(&self, now: UnixTime) -> Vec<(AppId, Kept)> {
        let state = self.state();
        let mut all: Vec<(AppId, Kept)> = state
            .apps
            .iter()
            .flat_map(|(app, own)| own.kept.iter().map(|kept| (app.clone(), kept.clone())))
            .filter(|(_, kept)| now.since(kept.at) < self.keep)
            .collect();
        all.sort_by_key(|(_, kept)| kept.at);
        all
    }

    /// How many people of an application were compared.
    pub(crate) fn people(&self, app: &AppId) -> usize {
        self.state().apps.get(app).map_or(0, |own| own.people.len())
    }

    /// What was found about the people of some applications since a moment; `None`: it is not known.
    pub(crate) fn since(&self, wanted: &[AppId], moment: UnixTime) -> Option<Looked> {
        let state = self.state();
        let own = || wanted.iter().filter_map(|app| state.apps.get(app));
        let people: Vec<&Looks> = own().map(|own| &own.people).collect();
        let noise: Vec<&Looks> = own().map(|own| &own.noise).collect();
        state.known.then(|| {
            let mut looked = looked(&people, &noise, moment);
            for own in own() {
                let (asked, lost) = own.samples.since(moment);
                looked.asked += asked;
                looked.lost += lost;
            }
            looked
        })
    }

    /// So many were asked about at this instance since a step began, and so many could not be.
    pub(super) fn sampled(&self, app: &AppId, moment: UnixTime, counts: Counts) {
        let mut state = self.state();
        let own = state.apps.entry(app.clone()).or_default();
        if own.samples.note(self.instance, moment, counts) {
            state.changed.insert((app.clone(), COUNTS));
        }
    }

    fn hashed(&self, value: &[u8]) -> String {
        format!("h:{}", self.pseudonyms.of_value(value))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one more, in the order of time.
fn keep(all: &mut VecDeque<Kept>, kept: Kept) {
    if all.len() == MAX_KEPT {
        // A crowd of small differences does not push out the one that matters.
        let oldest = all.iter().position(|kept| !kept.class.is_critical());
        all.remove(oldest.unwrap_or_default());
    }
    let place = all.partition_point(|before| before.at <= kept.at);
    all.insert(place, kept);
}

fn part(person: &Pseudonym) -> Part {
    match person.as_str().as_bytes() {
        [b'p', b':', first, second, ..] => [*first, *second],
        _ => [0, 0],
    }
}

impl Notes for Found {
    fn changed(&self) -> BTreeSet<Vec<u8>> {
        let changed = std::mem::take(&mut self.state().changed);
        let key = |(app, part): (AppId, Part)| [app.as_str().as_bytes(), &[0], &part].concat();
        changed.into_iter().map(key).collect()
    }

    fn not_written(&self, key: Vec<u8>) {
        if let Some(place) = place(&key) {
            self.state().changed.insert(place);
        }
    }

    fn page(&self, key: &[u8], now: UnixTime) -> Result<Vec<u8>, serde_json::Error> {
        let mut page = Page::default();
        let mut state = self.state();
        if let Some((app, of)) = place(key) {
            let own = state.apps.entry(app).or_default();
            let is_in = |person: &Pseudonym| part(person) == of;
            page.people = own.people.part(is_in);
            page.noise = own.noise.part(is_in);
            let kept = own.kept.iter().filter(|kept| is_in(&kept.person));
            page.kept = kept
                .filter(|kept| self.long_ago(now) < kept.at)
                .cloned()
                .collect();
            page.people.forget_before(self.long_ago(now));
            page.noise.forget_before(self.long_ago(now));
            if of == COUNTS {
                page.samples = own.samples.clone();
            }
        }
        serde_json::to_vec(&page)
    }

    fn take_in(&self, key: &[u8], value: &[u8]) -> Result<(), serde_json::Error> {
        let page: Page = serde_json::from_slice(value)?;
        let mut state = self.state();
        if let Some((app, _)) = place(key) {
            let own = state.apps.entry(app).or_default();
            own.people.merge(page.people);
            own.noise.merge(page.noise);
            own.samples.merge(page.samples);
            for kept in page.kept {
                if !own.kept.contains(&kept) {
                    keep(&mut own.kept, kept);
                }
            }
        }
        Ok(())
    }

    fn is_known(&self) {
        self.state().known = true;
    }

    fn sweep(&self, now: UnixTime) {
        for own in self.state().apps.values_mut() {
            own.people.forget_before(self.long_ago(now));
            own.noise.forget_before(self.long_ago(now));
            own.kept.retain(|kept| self.long_ago(now) < kept.at);
        }
    }
}

/// The application and the part of a row. No name has a zero byte.
fn place(key: &[u8]) -> Option<(AppId, Part)> {
    let (app, part) = key.split_at_checked(key.len().checked_sub(3)?)?;
    match part {
        [0, first, second] => {
            let app = std::str::from_utf8(app).ok()?;
            Some((AppId::new(app), [*first, *second]))
        }
        _ => None,
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::clock::ManualClock;
    use crate::secret::Secret;
    use crate::store::FakeStore;
    use crate::store::MemoryStore;
    use crate::store::Store;
    use crate::store::Together;
    use crate::store::Watch;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    struct Instance {
        found: Arc<Found>,
        keep: Together,
        watch: Watch,
    }

    impl Instance {
        fn on(store: &Arc<dyn Store>) -> Self {
            let pseudonyms = Pseudonyms::new(&Secret::new(vec![1; 32]));
            let clock = Arc::new(ManualClock::at(NOW));
            let found = Arc::new(Found::new(pseudonyms));
            let notes = Arc::clone(&found);
            Self {
                found,
                watch: store.watch(TABLE),
                keep: Together::new(Arc::clone(store), clock, notes, (TABLE, KEEP)),
            }
        }

        fn looks(&self, person: &str, class: Option<Class>) {
            let person = Pseudonym::try_from(person.to_owned()).unwrap();
            let difference = |class| Difference {
                class,
                field: "groups".into(),
                values: vec!["boss".into()],
                said: (b"a".to_vec(), b"b".to_vec()),
            };
            let differences = class.map(difference).into_iter().collect();
            let app = AppId::new("crm");
            self.found.looked_at(&app, person, differences, NOW);
        }

        fn counted(&self) -> Option<(u64, u64)> {
            let found = self.found.since(&[AppId::new("crm")], NOW)?;
            Some((found.people, found.critical))
        }
    }

    const ANN: &str = "p:0011223344556677";
    const BOB: &str = "p:00aa223344556677";
    const CID: &str = "p:7711223344556677";

    #[tokio::test]
    async fn findings_outlive_a_restart_and_are_not_known_before_they_are_read() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut one = Instance::on(&store);
        one.keep.turn().await;
        one.looks(ANN, Some(Class::GroupsExtra));
        one.looks(BOB, None);
        one.keep.turn().await;
        drop(one);
        let mut again = Instance::on(&store);
        assert_eq!(again.counted(), None);
        again.keep.turn().await;
        assert_eq!(again.counted(), Some((2, 1)));
        let (app, kept) = again.found.all(NOW).remove(0);
        assert_eq!((app.as_str(), kept.person.as_str()), ("crm", ANN));
        // Nobody's value is there, and equal values look equal.
        assert_ne!(kept.control, kept.candidate);
        for (_, row) in store.scan(TABLE, &[], 10, NOW).await.unwrap() {
            assert!(!String::from_utf8(row.value).unwrap().contains("uid:"));
        }
    }

    #[tokio::test]
    async fn what_two_instances_find_is_laid_together() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (mut one, mut two) = (Instance::on(&store), Instance::on(&store));
        one.keep.turn().await;
        two.keep.turn().await;
        // The first two stand in one row.
        one.looks(ANN, Some(Class::GroupsExtra));
        two.looks(BOB, Some(Class::SubjectMismatch));
        two.looks(CID, None);
        one.keep.turn().await;
        two.keep.turn().await;
        assert_eq!(two.counted(), Some((3, 2)), "it has read before it wrote");
        assert_eq!(one.counted(), Some((1, 1)));
        one.keep.hear(&mut one.watch, 2).await;
        one.keep.turn().await;
        assert_eq!(one.counted(), Some((3, 2)));
        assert_eq!(one.found.all(NOW).len(), 2);
    }

    /// Whoever leads judges by what all could not ask, and a restart of it forgets nothing.
    #[tokio::test]
    async fn what_could_not_be_asked_is_counted_by_all_instances() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (mut one, mut two) = (Instance::on(&store), Instance::on(&store));
        let app = AppId::new("crm");
        for (instance, counts) in [(&mut one, (90, 0)), (&mut two, (5, 10))] {
            instance.keep.turn().await;
            instance.found.sampled(&app, NOW, counts);
            instance.keep.turn().await;
        }
        let lost = |instance: &Instance, moment| {
            let looked = instance.found.since(&[AppId::new("crm")], moment).unwrap();
            (looked.asked, looked.lost)
        };
        one.keep.hear(&mut one.watch, 1).await;
        one.keep.turn().await;
        assert_eq!((lost(&one, NOW), lost(&two, NOW)), ((95, 10), (95, 10)));
        drop(two);
        let mut again = Instance::on(&store);
        again.keep.turn().await;
        again.found.sampled(&app, NOW, (1, 1));
        assert_eq!(lost(&again, NOW), (96, 11));
        let next = NOW + Duration::from_secs(60);
        assert_eq!(lost(&again, next), (0, 0), "another step");
    }

    #[tokio::test]
    async fn without_the_store_nothing_is_known_and_nothing_is_lost() {
        let fake = Arc::new(FakeStore::default());
        let store: Arc<dyn Store> = fake.clone();
        let mut one = Instance::on(&store);
        one.looks(ANN, Some(Class::GroupsExtra));
        fake.away.store(true, Ordering::Release);
        one.keep.turn().await;
        assert_eq!(one.counted(), None);
        fake.away.store(false, Ordering::Release);
        one.keep.turn().await;
        assert_eq!(one.counted(), Some((1, 1)));
        let mut two = Instance::on(&store);
        two.keep.turn().await;
        assert_eq!(two.counted(), Some((1, 1)));
    }

    #[tokio::test]
    async fn findings_are_kept_for_as_long_as_is_said() {
        let pseudonyms = Pseudonyms::new(&Secret::new(vec![1; 32]));
        let found = Found::new(pseudonyms).kept_for(Duration::from_hours(24 * 2));
        let day = |days: u64| NOW + Duration::from_hours(24 * days);
        let person = Pseudonym::try_from(ANN.to_owned()).unwrap();
        let difference = Difference {
            class: Class::GroupsExtra,
            field: "groups".into(),
            values: Vec::new(),
            said: (b"a".to_vec(), b"b".to_vec()),
        };
        let app = AppId::new("crm");
        found.looked_at(&app, person, vec![difference], day(0));
        assert_eq!(found.all(day(1)).len(), 1);
        assert_eq!(found.all(day(2)).len(), 0);
        let row = [&b"crm\0"[..], &part(&person)].concat();
        let written = |now| {
            let page: Page = serde_json::from_slice(&found.page(&row, now).unwrap()).unwrap();
            page.kept.len()
        };
        assert_eq!([written(day(1)), written(day(2))], [1, 0]);
        found.sweep(day(3));
        assert_eq!((found.all(day(0)).len(), found.people(&app)), (0, 0));
    }
}
