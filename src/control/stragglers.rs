//! Who still comes with credentials of the provider that people leave: by pseudonym, over restarts and instances.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
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
use crate::rollout::CohortId;
use crate::rollout::StillSeen;
use crate::store::Notes;
use crate::telemetry::Pseudonym;

/// The table of the store that it is kept in.
pub(crate) const STRAGGLERS: &str = "stragglers";
/// For so long, unless something else is said: nobody asks about more.
const KEEP: Duration = Duration::from_hours(91 * 24);
/// People of one application and provider that are counted apart; with more, the answer is that it is not known.
const MAX_PEOPLE: usize = 100_000;

/// An application, and the provider whose credentials are counted there.
type Side = (AppId, ProviderId);
/// The people whose pseudonym begins so; `--` is the row that says since when it is counted.
type Part = [u8; 2];
const BEGAN: Part = *b"--";

/// Everybody who came so.
pub(crate) struct Stragglers {
    keep: Duration,
    state: Mutex<State>,
}

impl Default for Stragglers {
    fn default() -> Self {
        Self::kept_for(KEEP)
    }
}

#[derive(Default)]
struct State {
    sides: HashMap<Side, OfSide>,
    changed: BTreeSet<(Side, Part)>,
    /// Whether what was counted before is known.
    known: bool,
}

#[derive(Default)]
struct OfSide {
    /// How often it was left off. What was counted in an earlier round says nothing about the time since.
    round: u32,
    /// Since when it is counted in this round.
    began: Option<UnixTime>,
    /// When somebody could not be counted last.
    lost: Option<UnixTime>,
    people: HashMap<Pseudonym, Came>,
}

/// One person.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Came {
    at: UnixTime,
    /// Cohorts that a stage excepts, and that the person was in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    of: BTreeSet<Box<str>>,
}

/// How many people came to one application with credentials of one provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Counted {
    /// How many.
    pub(crate) people: u64,
    /// When the last of them came.
    pub(crate) last: Option<UnixTime>,
    /// Since when they are counted without a gap.
    pub(crate) since: UnixTime,
    /// Whether there were more than can be kept apart.
    pub(crate) more: bool,
}

/// A row.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Page {
    #[serde(default)]
    round: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<UnixTime>,
    #[serde(default)]
    people: HashMap<Pseudonym, Came>,
}

impl Stragglers {
    /// Nobody yet; each is kept for so long.
    pub(crate) fn kept_for(keep: Duration) -> Self {
        Self {
            keep,
            state: Mutex::default(),
        }
    }

    /// For how long somebody is kept.
    pub(crate) const fn keep(&self) -> Duration {
        self.keep
    }

    /// It is counted from now on, unless it was before.
    pub(crate) fn count(&self, app: &AppId, provider: &ProviderId, now: UnixTime) {
        let mut state = self.state();
        let side = (app.clone(), provider.clone());
        // A count that begins before what was counted is read would look younger than it is: the older one wins then.
        let began = &mut state.sides.entry(side.clone()).or_default().began;
        if began.is_none() {
            *began = Some(now);
            state.changed.insert((side, BEGAN));
        }
    }

    /// Only these are counted from now on.
    pub(crate) fn only(&self, watched: &HashSet<Side>) {
        let mut state = self.state();
        let State { sides, changed, .. } = &mut *state;
        let left = sides.iter_mut().filter(|(side, _)| !watched.contains(side));
        for (side, own) in left {
            if own.began.take().is_some() {
                own.round = own.round.saturating_add(1);
                changed.insert((side.clone(), BEGAN));
            }
        }
    }

    /// Somebody came, who is in these of the cohorts that a stage excepts.
    pub(crate) fn came(
        &self,
        (app, provider): (&AppId, &ProviderId),
        person: Pseudonym,
        of: impl Iterator<Item = CohortId>,
        now: UnixTime,
    ) {
        let mut state = self.state();
        let side = (app.clone(), provider.clone());
        let own = state.sides.entry(side.clone()).or_default();
        let came = Came {
            at: now,
            of: of.map(|cohort| cohort.as_str().into()).collect(),
        };
        let part = if own.lay(person, came, now) {
            part(&person)
        } else {
            BEGAN
        };
        state.changed.insert((side, part));
    }

    /// More came than were looked at.
    pub(crate) fn lost(&self, app: &AppId, provider: &ProviderId, now: UnixTime) {
        let mut state = self.state();
        let side = (app.clone(), provider.clone());
        state.sides.entry(side.clone()).or_default().lost = Some(now);
        state.changed.insert((side, BEGAN));
    }

    /// How many people came to these applications with credentials of a provider.
    ///
    /// # Errors
    ///
    /// Why that is not known, in words.
    pub(crate) fn since(
        &self,
        (apps, provider): (&[AppId], &ProviderId),
        asked: &StillSeen,
        now: UnixTime,
    ) -> Result<u64, String> {
        let state = self.state();
        if !state.known {
            return Err(String::from(
                "who still comes with old credentials is not known",
            ));
        }
        let mut people = BTreeSet::new();
        for app in apps {
            let side = state.sides.get(&(app.clone(), provider.clone()));
            let counted = side.and_then(|side| side.began);
            let counted = counted.map_or(Duration::ZERO, |began| now.since(began));
            if counted < asked.within {
                return Err(format!(
                    "credentials of `{provider}` at {app} were counted for {} of {} hours",
                    counted.as_secs() / 3_600,
                    asked.within.as_secs() / 3_600
                ));
            }
            let Some(side) = side else { continue };
            let recent = |at: UnixTime| now.since(at) < asked.within;
            if side.lost.is_some_and(recent) {
                return Err(format!(
                    "more people came to {app} with credentials of `{provider}` than are counted"
                ));
            }
            let came = side.people.iter().filter(|(_, came)| {
                let excepted = |id: &CohortId| came.of.contains(id.as_str());
                recent(came.at) && !asked.except.iter().any(excepted)
            });
            people.extend(came.map(|(person, _)| person.as_str()));
        }
        Ok(people.len() as u64)
    }

    /// Who came to an application with credentials of a provider, as far back as is asked; `None`: what was counted before is
    /// not known, or nobody counts.
    pub(crate) fn told(
        &self,
        app: &AppId,
        provider: &ProviderId,
        span: Duration,
        now: UnixTime,
    ) -> Option<Counted> {
        let state = self.state();
        let side = state.sides.get(&(app.clone(), provider.clone()))?;
        let since = side.began.filter(|_| state.known)?;
        let recent = |at: &UnixTime| now.since(*at) < span.min(self.keep);
        let came = side.people.values().map(|came| came.at).filter(recent);
        let (people, last) = came.fold((0, None), |(n, last), at| (n + 1, last.max(Some(at))));
        Some(Counted {
            people,
            last,
            since,
            more: side.lost.as_ref().is_some_and(recent),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfSide {
    /// `false`: there was no room.
    fn lay(&mut self, person: Pseudonym, came: Came, now: UnixTime) -> bool {
        if MAX_PEOPLE <= self.people.len() && !self.people.contains_key(&person) {
            self.lost = Some(now);
            return false;
        }
        let own = self.people.entry(person).or_default();
        // As they were when they came last: who has left a cohort is no exception any more.
        if own.at <= came.at {
            *own = came;
        }
        true
    }
}

impl Notes for Stragglers {
    fn changed(&self) -> BTreeSet<Vec<u8>> {
        let changed = std::mem::take(&mut self.state().changed);
        let key = |((app, provider), part): (Side, Part)| {
            let (app, provider) = (app.as_str().as_bytes(), provider.as_str().as_bytes());
            [app, &[0], provider, &[0], &part].concat()
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
        if let Some((side, of)) = place(key) {
            let own = state.sides.entry(side).or_default();
            let people = own.people.iter();
            let people =
                people.filter(|(who, came)| part(who) == of && now.since(came.at) < self.keep);
            page.people = people.map(|(who, came)| (*who, came.clone())).collect();
            if of == BEGAN {
                (page.round, page.began, page.lost) = (own.round, own.began, own.lost);
            }
        }
        serde_json::to_vec(&page)
    }

    fn take_in(&self, key: &[u8], value: &[u8]) -> Result<(), serde_json::Error> {
        let page: Page = serde_json::from_slice(value)?;
        let mut state = self.state();
        if let Some((side, _)) = place(key) {
            let own = state.sides.entry(side).or_default();
            // A count that was left off since, here or at another instance, is none.
            match own.round.cmp(&page.round) {
                Ordering::Less => (own.round, own.began) = (page.round, page.began),
                Ordering::Equal => {
                    let began = [own.began, page.began].into_iter().flatten();
                    own.began = began.min();
                }
                Ordering::Greater => {}
            }
            own.lost = own.lost.max(page.lost);
            for (person, came) in page.people {
                let at = came.at;
                own.lay(person, came, at);
            }
        }
        Ok(())
    }

    fn is_known(&self) {
        self.state().known = true;
    }

    fn sweep(&self, now: UnixTime) {
        for side in self.state().sides.values_mut() {
            side.people.retain(|_, came| now.since(came.at) < self.keep);
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
fn place(key: &[u8]) -> Option<(Side, Part)> {
    let mut words = key.splitn(3, |byte| *byte == 0);
    let mut name = || std::str::from_utf8(words.next()?).ok();
    let (app, provider) = (name()?, name()?);
    let part = words.next()?.try_into().ok()?;
    Some(((AppId::new(app), ProviderId::new(provider)), part))
}

impl fmt::Debug for Stragglers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stragglers")
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

    const WEEK: Duration = Duration::from_hours(7 * 24);

    fn day(n: u64) -> UnixTime {
        UnixTime::from_secs(100_000_000 + 86_400 * n)
    }

    fn person(n: u32) -> Pseudonym {
        Pseudonym::try_from(format!("p:{n:016x}")).unwrap()
    }

    struct World {
        store: Arc<dyn Store>,
        clock: ManualClock,
    }

    impl World {
        async fn instance(&self) -> (Arc<Stragglers>, Together) {
            let stragglers = Arc::new(Stragglers::default());
            let (store, notes) = (Arc::clone(&self.store), Arc::clone(&stragglers));
            let clock = Arc::new(self.clock.clone());
            let mut keep = Together::new(store, clock, notes, (STRAGGLERS, KEEP));
            keep.turn().await;
            (stragglers, keep)
        }
    }

    fn seen(stragglers: &Stragglers, now: UnixTime) -> Result<u64, String> {
        let asked = StillSeen {
            within: WEEK,
            max: 0,
            except: vec![CohortId::new("break-glass")],
        };
        let apps = [AppId::new("crm"), AppId::new("hr")];
        stragglers.since((&apps, &ProviderId::new("old")), &asked, now)
    }

    #[tokio::test]
    async fn who_came_is_known_over_restarts_and_only_when_it_was_counted_long_enough() {
        let world = World {
            store: Arc::new(MemoryStore::default()),
            clock: ManualClock::at(day(0)),
        };
        let unread = Stragglers::default();
        assert!(seen(&unread, day(9)).is_err_and(|why| why.contains("not known")));
        let (one, mut keep) = world.instance().await;
        let (crm, hr, old) = (AppId::new("crm"), AppId::new("hr"), ProviderId::new("old"));
        let came = |who, app, of: &[&str], now| {
            let of = of.iter().copied().map(CohortId::new);
            one.came((app, &old), person(who), of, now);
        };
        one.count(&crm, &old, day(0));
        one.count(&hr, &old, day(1));
        came(1, &crm, &[], day(2));
        came(2, &hr, &["break-glass"], day(6));
        let why = seen(&one, day(7)).unwrap_err();
        assert!(
            why.contains("at hr were counted for 144 of 168 hours"),
            "{why}"
        );
        assert_eq!(seen(&one, day(8)), Ok(1));
        keep.turn().await;
        let (again, _) = world.instance().await;
        again.count(&crm, &old, day(8));
        assert_eq!(seen(&again, day(8)), Ok(1));
        assert_eq!(seen(&again, day(9)), Ok(0), "that was more than a week ago");
        // For the report: who came at all, since when it is counted, and not what nobody counts.
        let told = |span| again.told(&crm, &old, span, day(9));
        let counted = |people, last| Counted {
            people,
            last,
            since: day(0),
            more: false,
        };
        assert_eq!(told(Duration::MAX), Some(counted(1, Some(day(2)))));
        assert_eq!(told(WEEK), Some(counted(0, None)));
        assert_eq!(unread.told(&crm, &old, WEEK, day(9)), None);
        // Who has left the cohort counts.
        came(2, &hr, &[], day(8));
        keep.turn().await;
        let (again, _) = world.instance().await;
        assert_eq!(seen(&again, day(9)), Ok(1));
        one.lost(&hr, &old, day(9));
        assert!(seen(&one, day(10)).is_err_and(|why| why.contains("than are counted")));
    }

    #[tokio::test]
    async fn nobody_looks_across_a_time_in_which_nothing_was_counted() {
        let world = World {
            store: Arc::new(MemoryStore::default()),
            clock: ManualClock::at(day(0)),
        };
        let (crm, hr, old) = (AppId::new("crm"), AppId::new("hr"), ProviderId::new("old"));
        let both = HashSet::from([(crm.clone(), old.clone()), (hr.clone(), old.clone())]);
        let (one, mut keep) = world.instance().await;
        let (other, mut keep_other) = world.instance().await;
        let count = |stragglers: &Stragglers, now| {
            stragglers.only(&both);
            for app in [&crm, &hr] {
                stragglers.count(app, &old, now);
            }
        };
        count(&one, day(0));
        count(&other, day(0));
        for keep in [&mut keep, &mut keep_other] {
            keep.turn().await;
        }
        assert_eq!(seen(&one, day(7)), Ok(0));
        one.only(&HashSet::new());
        keep.turn().await;
        assert!(seen(&one, day(40)).is_err());
        count(&one, day(40));
        keep.turn().await;
        // Neither what is written nor what another instance still holds brings the gap back.
        let (again, _) = world.instance().await;
        for stragglers in [&one, &again] {
            assert!(seen(stragglers, day(46)).is_err());
            assert_eq!(seen(stragglers, day(47)), Ok(0));
        }
    }

    #[test]
    fn with_too_many_people_it_is_not_known() {
        let stragglers = Stragglers::default();
        stragglers.is_known();
        let (crm, hr, old) = (AppId::new("crm"), AppId::new("hr"), ProviderId::new("old"));
        stragglers.count(&crm, &old, day(0));
        stragglers.count(&hr, &old, day(0));
        let most = u32::try_from(MAX_PEOPLE).unwrap();
        for n in 0..=most {
            if n == most {
                assert_eq!(seen(&stragglers, day(7)), Ok(u64::from(most)));
            }
            stragglers.came((&crm, &old), person(n), std::iter::empty(), day(7));
        }
        assert!(seen(&stragglers, day(7)).is_err());
    }

    #[test]
    fn who_came_is_kept_for_as_long_as_is_said() {
        let (app, old) = (AppId::new("crm"), ProviderId::new("old"));
        let one = Stragglers::kept_for(10 * Duration::from_hours(24));
        one.came((&app, &old), person(1), std::iter::empty(), day(0));
        one.came((&app, &old), person(2), std::iter::empty(), day(5));
        let row = [&b"crm\0old\0"[..], &part(&person(1))].concat();
        let written = |now| {
            let page = one.page(&row, now).unwrap();
            serde_json::from_slice::<Page>(&page).unwrap().people.len()
        };
        assert_eq!(
            [written(day(9)), written(day(10)), written(day(15))],
            [2, 1, 0]
        );
        one.sweep(day(15));
        assert_eq!(written(day(5)), 0);
    }
}
