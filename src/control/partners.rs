//! Who came lately, and whether they have a partner at the other provider: by pseudonym, over restarts and instances.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::identity::ProviderId;
use crate::rollout::AppId;
use crate::store::Notes;
use crate::telemetry::Pseudonym;

/// The table of the store that it is kept in.
pub(crate) const PARTNERS: &str = "partners";
/// Who came within so long counts.
pub(crate) const KEEP: Duration = Duration::from_hours(24);
/// People of one application that are counted; with more, the answer is that it is not known.
const MAX_PEOPLE: usize = 100_000;
/// That somebody came again is written no more often.
const AGAIN: Duration = Duration::from_mins(10);

/// An application, and the two providers of its rollout.
type Pair = (AppId, ProviderId, ProviderId);
/// The people whose pseudonym begins so; `--` is the row that says when somebody could not be counted.
type Part = [u8; 2];
const LOST: Part = *b"--";

/// Everybody who came lately.
#[derive(Default)]
pub(crate) struct Partners(Mutex<State>);

#[derive(Default)]
struct State {
    pairs: HashMap<Pair, OfPair>,
    changed: BTreeSet<(Pair, Part)>,
    /// Whether what was counted before is known.
    known: bool,
}

#[derive(Default)]
struct OfPair {
    people: HashMap<Pseudonym, One>,
    /// When somebody could not be counted last.
    lost: Option<UnixTime>,
}

/// One person.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct One {
    /// When they came last.
    came: UnixTime,
    /// When it was looked whether they have a partner.
    looked: UnixTime,
    /// Whether they have.
    linked: bool,
}

/// A row.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Page {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<UnixTime>,
    #[serde(default)]
    people: HashMap<Pseudonym, One>,
}

impl Partners {
    /// Somebody came then; whether they have a partner was looked up now.
    pub(crate) fn note(
        &self,
        (app, from, to): (&AppId, &ProviderId, &ProviderId),
        person: Pseudonym,
        (came, linked): (UnixTime, bool),
        now: UnixTime,
    ) {
        let mut state = self.state();
        let pair = (app.clone(), from.clone(), to.clone());
        let own = state.pairs.entry(pair.clone()).or_default();
        let one = One {
            came,
            looked: now,
            linked,
        };
        let before = own.people.get(&person);
        let is_news =
            before.is_none_or(|before| before.linked != linked || AGAIN <= came.since(before.came));
        if is_news {
            let part = if own.lay(person, one, now) {
                part(&person)
            } else {
                LOST
            };
            state.changed.insert((pair, part));
        }
    }

    /// More came than were looked at.
    pub(crate) fn lost(&self, (app, from, to): (&AppId, &ProviderId, &ProviderId), now: UnixTime) {
        let mut state = self.state();
        let pair = (app.clone(), from.clone(), to.clone());
        let own = state.pairs.entry(pair.clone()).or_default();
        if own.lost.is_none_or(|lost| AGAIN <= now.since(lost)) {
            own.lost = Some(now);
            state.changed.insert((pair, LOST));
        }
    }

    /// How many of those who came to these applications have no partner, and how many came; `None`: it is not known.
    pub(crate) fn count(
        &self,
        (apps, from, to): (&[AppId], &ProviderId, &ProviderId),
        now: UnixTime,
    ) -> Option<(u64, u64)> {
        let state = self.state();
        if !state.known {
            return None;
        }
        let mut people: HashMap<&str, bool> = HashMap::new();
        for app in apps {
            let pair = (app.clone(), from.clone(), to.clone());
            let Some(own) = state.pairs.get(&pair) else {
                continue;
            };
            if own.lost.is_some_and(|lost| now.since(lost) < KEEP) {
                return None;
            }
            let recent = own.people.iter();
            for (person, one) in recent.filter(|(_, one)| now.since(one.came) < KEEP) {
                *people.entry(person.as_str()).or_default() |= one.linked;
            }
        }
        let alone = people.values().filter(|linked| !**linked).count();
        Some((alone as u64, people.len() as u64))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfPair {
    /// `false`: there was no room.
    fn lay(&mut self, person: Pseudonym, one: One, now: UnixTime) -> bool {
        if MAX_PEOPLE <= self.people.len() && !self.people.contains_key(&person) {
            self.lost = Some(now);
            return false;
        }
        let own = self.people.entry(person).or_insert(one);
        own.came = own.came.max(one.came);
        // Where two looked at the same moment, whoever found nothing may have looked too early.
        if own.looked < one.looked || own.looked == one.looked && one.linked {
            (own.looked, own.linked) = (one.looked, one.linked);
        }
        true
    }
}

impl Notes for Partners {
    fn changed(&self) -> BTreeSet<Vec<u8>> {
        let changed = std::mem::take(&mut self.state().changed);
        let key = |((app, from, to), part): (Pair, Part)| {
            let names = [app.as_str(), from.as_str(), to.as_str()];
            let mut key = Vec::new();
            for name in names {
                key.extend_from_slice(name.as_bytes());
                key.push(0);
            }
            key.extend_from_slice(&part);
            key
        };
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
        if let Some((pair, of)) = place(key) {
            let own = state.pairs.entry(pair).or_default();
            let people = own.people.iter();
            let people = people.filter(|(who, one)| part(who) == of && now.since(one.came) < KEEP);
            page.people = people.map(|(who, one)| (*who, *one)).collect();
            page.lost = own.lost.filter(|_| of == LOST);
        }
        serde_json::to_vec(&page)
    }

    fn take_in(&self, key: &[u8], value: &[u8]) -> Result<(), serde_json::Error> {
        let page: Page = serde_json::from_slice(value)?;
        let mut state = self.state();
        if let Some((pair, _)) = place(key) {
            let own = state.pairs.entry(pair).or_default();
            own.lost = own.lost.max(page.lost);
            for (person, one) in page.people {
                own.lay(person, one, one.looked);
            }
        }
        Ok(())
    }

    fn is_known(&self) {
        self.state().known = true;
    }

    fn sweep(&self, now: UnixTime) {
        for own in self.state().pairs.values_mut() {
            own.people.retain(|_, one| now.since(one.came) < KEEP);
        }
    }
}

fn part(person: &Pseudonym) -> Part {
    match person.as_str().as_bytes() {
        [b'p', b':', first, second, ..] => [*first, *second],
        _ => [0, 0],
    }
}

/// What a row is about. No name has a zero byte.
fn place(key: &[u8]) -> Option<(Pair, Part)> {
    let mut words = key.splitn(4, |byte| *byte == 0);
    let mut name = || std::str::from_utf8(words.next()?).ok();
    let (app, from, to) = (name()?, name()?, name()?);
    let part = words.next()?.try_into().ok()?;
    let pair = (AppId::new(app), ProviderId::new(from), ProviderId::new(to));
    Some((pair, part))
}

impl fmt::Debug for Partners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partners")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::store::MemoryStore;
    use crate::store::Store;
    use crate::store::Together;

    fn hour(n: u64) -> UnixTime {
        UnixTime::from_secs(100_000_000 + 3_600 * n)
    }

    fn person(n: u32) -> Pseudonym {
        Pseudonym::try_from(format!("p:{n:016x}")).unwrap()
    }

    struct World {
        store: Arc<dyn Store>,
        clock: ManualClock,
    }

    impl World {
        async fn instance(&self) -> (Arc<Partners>, Together) {
            let partners = Arc::new(Partners::default());
            let (store, notes) = (Arc::clone(&self.store), Arc::clone(&partners));
            let clock = Arc::new(self.clock.clone());
            let mut keep = Together::new(store, clock, notes, (PARTNERS, KEEP));
            keep.turn().await;
            (partners, keep)
        }
    }

    const APPS: [&str; 2] = ["crm", "hr"];

    fn note(partners: &Partners, app: &str, n: u32, linked: bool, now: UnixTime) {
        let (old, new) = (ProviderId::new("old"), ProviderId::new("new"));
        let app = AppId::new(app);
        partners.note((&app, &old, &new), person(n), (now, linked), now);
    }

    fn count(partners: &Partners, now: UnixTime) -> Option<(u64, u64)> {
        let (old, new) = (ProviderId::new("old"), ProviderId::new("new"));
        partners.count((&APPS.map(AppId::new), &old, &new), now)
    }

    #[tokio::test]
    async fn who_came_counts_over_restarts_and_instances_for_a_day() {
        let world = World {
            store: Arc::new(MemoryStore::default()),
            clock: ManualClock::at(hour(0)),
        };
        assert_eq!(count(&Partners::default(), hour(0)), None);
        let (one, mut keep) = world.instance().await;
        let (two, mut keep_two) = world.instance().await;
        note(&one, "crm", 1, true, hour(0));
        note(&one, "crm", 2, false, hour(0));
        note(&two, "crm", 3, false, hour(1));
        // One person at two applications is one person, who has a partner if that is known anywhere.
        note(&two, "hr", 2, true, hour(1));
        keep.turn().await;
        keep_two.turn().await;
        let (again, _) = world.instance().await;
        assert_eq!(count(&again, hour(2)), Some((1, 3)));
        assert_eq!(count(&again, hour(24)), Some((1, 2)));
        assert_eq!(count(&again, hour(25)), Some((0, 0)));
        // What was found last counts.
        note(&one, "crm", 3, true, hour(2));
        keep.turn().await;
        let (again, _) = world.instance().await;
        assert_eq!(count(&again, hour(3)), Some((0, 3)));
    }

    #[tokio::test]
    async fn with_too_many_people_it_is_not_known_anywhere() {
        let world = World {
            store: Arc::new(MemoryStore::default()),
            clock: ManualClock::at(hour(0)),
        };
        let (one, mut keep) = world.instance().await;
        note(&one, "crm", 1, true, hour(0));
        let (crm, old, new) = (
            AppId::new("crm"),
            ProviderId::new("old"),
            ProviderId::new("new"),
        );
        one.lost((&crm, &old, &new), hour(0));
        keep.turn().await;
        let (again, _) = world.instance().await;
        assert_eq!((count(&one, hour(1)), count(&again, hour(1))), (None, None));
        assert_eq!(count(&again, hour(24)), Some((0, 0)));
        let full = Partners::default();
        full.is_known();
        for n in 0..=u32::try_from(MAX_PEOPLE).unwrap() {
            note(&full, "crm", n, true, hour(0));
        }
        assert_eq!(count(&full, hour(0)), None);
    }
}
