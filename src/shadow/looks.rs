//! When people were looked at, and in what they differed: kept so that the notes of several instances can be laid together,
//! in any order and as often as one likes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::Looked;
use crate::shadow::kind::Class;
use crate::telemetry::Pseudonym;

/// People that are counted apart; of those who come later only they are counted about whom something critical is found.
const MAX_PEOPLE: usize = 100_000;
/// A class counts where it is seen so much more often than between two answers of one side …
const RATIO: f64 = 1.2;
/// … and by so much of all people.
const SHARE: f64 = 0.0003;

/// People of one application.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Looks {
    people: HashMap<Pseudonym, Look>,
}

/// One person.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Look {
    /// When they were looked at last.
    at: UnixTime,
    /// When they differed last, by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    differs: BTreeMap<Class, UnixTime>,
}

impl Looks {
    /// Somebody was looked at, and differs in these classes.
    pub(super) fn saw(
        &mut self,
        person: Pseudonym,
        classes: impl Iterator<Item = Class>,
        now: UnixTime,
    ) {
        let differs: BTreeMap<Class, UnixTime> = classes.map(|class| (class, now)).collect();
        self.lay(person, Look { at: now, differs });
    }

    /// Lays the notes of another instance beside these.
    pub(super) fn merge(&mut self, other: Self) {
        for (person, look) in other.people {
            self.lay(person, look);
        }
    }

    fn lay(&mut self, person: Pseudonym, look: Look) {
        let critical = look.differs.keys().any(|class| class.is_critical());
        let room = if critical { 2 * MAX_PEOPLE } else { MAX_PEOPLE };
        if room <= self.people.len() && !self.people.contains_key(&person) {
            return;
        }
        let own = self.people.entry(person).or_default();
        own.at = own.at.max(look.at);
        for (class, at) in look.differs {
            let last = own.differs.entry(class).or_default();
            *last = (*last).max(at);
        }
    }

    /// Those of them who belong into one part.
    pub(super) fn part(&self, is_in: impl Fn(&Pseudonym) -> bool) -> Self {
        let people = self.people.iter().filter(|(person, _)| is_in(person));
        Self {
            people: people.map(|(who, look)| (*who, look.clone())).collect(),
        }
    }

    /// Forgets whoever was not looked at since.
    pub(super) fn forget_before(&mut self, moment: UnixTime) {
        self.people.retain(|_, look| moment <= look.at);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    fn since(&self, moment: UnixTime) -> impl Iterator<Item = (&Pseudonym, &Look)> {
        let people = self.people.iter();
        people.filter(move |(_, look)| moment <= look.at)
    }

    /// People by class since a moment, and people at all.
    fn by_class(&self, moment: UnixTime) -> (u64, BTreeMap<Class, u64>) {
        let (mut people, mut classes) = (0, BTreeMap::new());
        for (_, look) in self.since(moment) {
            people += 1;
            for (class, _) in look.differs.iter().filter(|(_, at)| moment <= **at) {
                *classes.entry(*class).or_default() += 1;
            }
        }
        (people, classes)
    }
}

/// What was found since a moment, of several applications together: a person counts once. `noise` is how one side differs
/// from itself: a class that is no more frequent than that is none, unless it is critical.
pub(super) fn looked(looks: &[&Looks], noise: &[&Looks], moment: UnixTime) -> Looked {
    let (all, alone) = (together(looks), together(noise));
    let (people, classes) = all.by_class(moment);
    let (others, noise) = alone.by_class(moment);
    let share = |count: u64, of: u64| {
        if of == 0 {
            0.0
        } else {
            count as f64 / of as f64
        }
    };
    let counts = |class: &Class| {
        let seen = share(classes.get(class).copied().unwrap_or(0), people);
        let usual = share(noise.get(class).copied().unwrap_or(0), others);
        // What is only good to know stops nobody.
        let matters = class.severity() != "info";
        class.is_critical() || matters && SHARE < seen - usual && RATIO * usual < seen
    };
    let differ = all.since(moment).filter(|(_, look)| {
        let mut own = look.differs.iter();
        own.any(|(class, at)| moment <= *at && counts(class))
    });
    let critical = classes.iter().filter(|(class, _)| class.is_critical());
    Looked {
        people,
        differ: differ.count() as u64,
        critical: critical.map(|(_, people)| people).sum(),
        classes: classes
            .iter()
            .filter(|(class, _)| counts(class))
            .map(|(class, people)| (class.as_str().into(), *people))
            .collect(),
        ..Looked::default()
    }
}

fn together<'a>(looks: &[&'a Looks]) -> Cow<'a, Looks> {
    match looks {
        [one] => Cow::Borrowed(*one),
        _ => {
            let mut all = Looks::default();
            for one in looks {
                all.merge((*one).clone());
            }
            Cow::Owned(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(n: u32) -> Pseudonym {
        Pseudonym::try_from(format!("p:{n:016x}")).unwrap()
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    #[test]
    fn notes_can_be_laid_together_in_any_order_and_twice() {
        let (mut one, mut two) = (Looks::default(), Looks::default());
        one.saw(person(1), [Class::GroupsExtra].into_iter(), at(10));
        one.saw(person(1), std::iter::empty(), at(20));
        two.saw(person(1), [Class::Headers].into_iter(), at(15));
        two.saw(person(2), std::iter::empty(), at(5));
        let text = serde_json::to_string(&two).unwrap();
        let read: Looks = serde_json::from_str(&text).unwrap();
        assert_eq!(read, two);
        let (mut left, mut right) = (one.clone(), two.clone());
        left.merge(two.clone());
        left.merge(two);
        right.merge(one);
        assert_eq!(left, right);
        let found = looked(&[&left], &[], at(10));
        assert_eq!((found.people, found.differ, found.critical), (1, 1, 1));
        assert_eq!(looked(&[&left], &[], at(16)).differ, 0);
        assert_eq!(looked(&[&left], &[], at(1)).people, 2);
        left.forget_before(at(6));
        assert_eq!(left.len(), 1);
    }

    /// Whoever differs from himself as often is no news; what is critical always is.
    #[test]
    fn what_flaps_by_itself_does_not_count_unless_it_is_critical() {
        let (mut looks, mut noise) = (Looks::default(), Looks::default());
        for n in 0..1_000 {
            let flaps = (n < 110).then_some(Class::GroupsMissing);
            let bad = (n == 500).then_some(Class::GroupsExtra);
            looks.saw(person(n), flaps.into_iter().chain(bad), at(10));
            let flaps = (n < 100).then_some(Class::GroupsMissing);
            noise.saw(person(n), flaps.into_iter().chain(bad), at(10));
        }
        let found = looked(&[&looks], &[&noise], at(0));
        assert_eq!((found.people, found.differ, found.critical), (1_000, 1, 1));
        assert_eq!(found.classes.len(), 1);
        let found = looked(&[&looks], &[], at(0));
        assert_eq!((found.differ, found.classes.len()), (111, 2));
        // The same person at two applications is one person.
        assert_eq!(looked(&[&looks, &looks], &[], at(0)).people, 1_000);
    }

    #[test]
    fn when_there_is_no_room_what_is_critical_still_counts() {
        let mut looks = Looks::default();
        for n in 0..u32::try_from(MAX_PEOPLE).unwrap() {
            looks.saw(person(n), std::iter::empty(), at(10));
        }
        looks.saw(person(u32::MAX), [Class::Headers].into_iter(), at(10));
        assert_eq!(looks.len(), MAX_PEOPLE);
        looks.saw(person(u32::MAX), [Class::GroupsExtra].into_iter(), at(10));
        assert_eq!(looked(&[&looks], &[], at(0)).critical, 1);
    }
}
