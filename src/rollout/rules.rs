//! The lines of `assign`, and which of them can concern somebody: found by who it is, so that their number costs little.

use std::cell::RefCell;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::OnceLock;

use crate::identity::ClaimPath;
use crate::identity::ProviderId;
use crate::identity::named;
use crate::rollout::cohort::Cohort;
use crate::rollout::cohorts::Cohorts;
use crate::rollout::cohorts::Edition;
use crate::rollout::facts::Facts;
use crate::rollout::facts::Person;
use crate::rollout::stage::AssignRule;

/// So few are looked at one by one.
const FEW: usize = 16;

/// Lines of `assign`, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    list: Vec<AssignRule>,
    /// Of these lines and one edition of the cohorts: made when it is needed first, gone when a line changes.
    index: OnceLock<Index>,
}

/// The lines that can concern somebody.
pub(super) struct Concerning<'a> {
    rules: &'a Rules,
    places: Places<'a>,
    /// The first line that was left out although nothing can be said about it.
    pub(super) open: Option<usize>,
}

enum Places<'a> {
    All(std::ops::Range<usize>),
    Rest(std::slice::Iter<'a, usize>),
    Some(std::vec::IntoIter<usize>),
}

impl Rules {
    /// The lines that can concern somebody, in their order, with their places: of all others it is known that they do not,
    /// or nothing can be said.
    pub(super) fn concerning<'a>(&'a self, cohorts: &Cohorts, facts: &Facts<'_>) -> Concerning<'a> {
        let all = Concerning {
            rules: self,
            places: Places::All(0..self.list.len()),
            open: None,
        };
        if self.list.len() <= FEW {
            return all;
        }
        let index = self.index.get_or_init(|| Index::new(&self.list, cohorts));
        // Other cohorts than those it was made of, as in a plan that somebody compares with another.
        if !index.edition.is(cohorts.edition()) {
            return all;
        }
        let mut places = Vec::new();
        if let Some(person) = &facts.person {
            index.by_person(person, &mut places);
        }
        Concerning {
            rules: self,
            places: if places.is_empty() {
                Places::Rest(index.rest.iter())
            } else {
                places.extend_from_slice(&index.rest);
                places.sort_unstable();
                places.dedup();
                Places::Some(places.into_iter())
            },
            open: index.open(facts),
        }
    }

    /// Takes all lines away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<'a> Iterator for Concerning<'a> {
    type Item = (usize, &'a AssignRule);

    fn next(&mut self) -> Option<Self::Item> {
        let place = match &mut self.places {
            Places::All(range) => range.next(),
            Places::Rest(rest) => rest.next().copied(),
            Places::Some(some) => some.next(),
        }?;
        Some((place, self.rules.list.get(place)?))
    }
}

impl From<Vec<AssignRule>> for Rules {
    fn from(list: Vec<AssignRule>) -> Self {
        Self {
            list,
            index: OnceLock::new(),
        }
    }
}

impl Deref for Rules {
    type Target = [AssignRule];

    fn deref(&self) -> &[AssignRule] {
        &self.list
    }
}

impl DerefMut for Rules {
    fn deref_mut(&mut self) -> &mut [AssignRule] {
        self.index.take();
        &mut self.list
    }
}

/// Which lines ask for what of a person. It only leaves out: each line that it finds is asked all the same.
#[derive(Clone, Debug)]
struct Index {
    edition: Edition,
    hasher: RandomState,
    /// What lines ask for, hashed, and their places; in order.
    asked: Box<[(u64, usize)]>,
    /// The claims that lines ask for, each once.
    claims: Vec<(ProviderId, ClaimPath)>,
    /// What lines ask of what one provider says.
    said: Vec<Said>,
    /// The first line that asks for a person.
    first: Option<usize>,
    /// The lines that ask for anything else, or end at some time.
    rest: Vec<usize>,
}

/// The first lines that ask for the groups and the claims of one provider.
#[derive(Clone, Debug)]
struct Said {
    provider: ProviderId,
    groups: Option<usize>,
    claims: Option<usize>,
}

/// What a line may ask of a person.
#[derive(Hash)]
enum Trait<'a> {
    Subject(&'a str),
    Client(&'a str),
    Group(&'a ProviderId, &'a str),
    Claim(&'a ProviderId, &'a str, &'a str),
}

impl Index {
    fn new(rules: &[AssignRule], cohorts: &Cohorts) -> Self {
        let mut index = Self {
            edition: cohorts.edition().clone(),
            hasher: RandomState::new(),
            asked: Box::default(),
            claims: Vec::new(),
            said: Vec::new(),
            first: None,
            rest: Vec::new(),
        };
        let mut asked = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let cohort = rule.cohort.as_ref().and_then(|id| cohorts.get(id));
            let mut add = |what: Trait<'_>| asked.push((index.hasher.hash_one(what), place));
            match cohort.filter(|_| rule.until.is_none()) {
                Some(Cohort::Subjects(people)) => {
                    people.iter().for_each(|name| add(Trait::Subject(name)));
                }
                Some(Cohort::ClientId(clients)) => {
                    clients.iter().for_each(|name| add(Trait::Client(name)));
                }
                Some(Cohort::Group { provider, any_of }) => {
                    any_of
                        .iter()
                        .for_each(|name| add(Trait::Group(provider, name)));
                    index.asks(provider, place, |said| &mut said.groups);
                }
                Some(Cohort::Claim {
                    provider,
                    name,
                    equals,
                }) => {
                    add(Trait::Claim(provider, name.as_str(), equals));
                    index.asks(provider, place, |said| &mut said.claims);
                    let claim = (provider.clone(), name.clone());
                    if !index.claims.contains(&claim) {
                        index.claims.push(claim);
                    }
                }
                Some(
                    Cohort::EmailDomain { .. }
                    | Cohort::Cidr(_)
                    | Cohort::Host(_)
                    | Cohort::Path(_)
                    | Cohort::Method(_)
                    | Cohort::App(_)
                    | Cohort::Header { .. }
                    | Cohort::SignedCookie(_)
                    | Cohort::LoginHint(_)
                    | Cohort::All(_)
                    | Cohort::Any(_)
                    | Cohort::Not(_),
                )
                | None => {
                    index.rest.push(place);
                    continue;
                }
            }
            index.first.get_or_insert(place);
        }
        asked.sort_unstable();
        index.asked = asked.into();
        index
    }

    fn asks(
        &mut self,
        provider: &ProviderId,
        place: usize,
        what: impl Fn(&mut Said) -> &mut Option<usize>,
    ) {
        let mut known = self.said.iter_mut();
        if let Some(said) = known.find(|said| said.provider == *provider) {
            what(said).get_or_insert(place);
            return;
        }
        let mut said = Said {
            provider: provider.clone(),
            groups: None,
            claims: None,
        };
        what(&mut said).get_or_insert(place);
        self.said.push(said);
    }

    fn by_person(&self, person: &Person<'_>, places: &mut Vec<usize>) {
        let identity = person.identity;
        let provider = &identity.provider;
        self.add(&Trait::Subject(person.canonical.as_str()), places);
        if let Some(client) = identity.client_id.as_deref() {
            self.add(&Trait::Client(client), places);
        }
        let said = self.said.iter().find(|said| said.provider == *provider);
        if said.is_some_and(|said| said.groups.is_some())
            && let Ok(groups) = identity.attributes.list("groups")
        {
            for group in groups {
                self.add(&Trait::Group(provider, group), places);
            }
        }
        let claims = self.claims.iter().filter(|(by, _)| by == provider);
        for (_, claim) in claims {
            let found = RefCell::new(&mut *places);
            claim.any(&identity.attributes, &|value| {
                if let Some(value) = named(value) {
                    let asked = Trait::Claim(provider, claim.as_str(), &value);
                    self.add(&asked, &mut found.borrow_mut());
                }
                false
            });
        }
    }

    fn add(&self, what: &Trait<'_>, places: &mut Vec<usize>) {
        let hash = self.hasher.hash_one(what);
        let start = self.asked.partition_point(|(asked, _)| *asked < hash);
        let asked = self.asked.iter().skip(start);
        let same = asked.take_while(|(asked, _)| *asked == hash);
        places.extend(same.map(|(_, place)| *place));
    }

    /// The first of the lines that are found here of which nothing can be said.
    fn open(&self, facts: &Facts<'_>) -> Option<usize> {
        let Some(person) = &facts.person else {
            return self.first;
        };
        let identity = person.identity;
        let open = self.said.iter().filter_map(|said| {
            if said.provider != identity.provider {
                return [said.groups, said.claims].into_iter().flatten().min();
            }
            let unread = || identity.attributes.list("groups").is_err();
            said.groups.filter(|_| unread())
        });
        open.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::rollout::cohort::CohortId;
    use crate::rollout::stage::Arm;
    use crate::rollout::stage::Share;
    use crate::rollout::testing::People;
    use crate::rollout::testing::facts;
    use proptest::prelude::*;
    use serde_json::json;

    fn one_of(names: &'static [&'static str]) -> impl Strategy<Value = Box<str>> {
        prop::sample::select(names).prop_map(Box::from)
    }

    fn cohort() -> impl Strategy<Value = Cohort> {
        let provider = || one_of(&["legacy", "modern"]).prop_map(|name| ProviderId::new(&name));
        let some = |names| prop::collection::hash_set(one_of(names), 0..3);
        let path = one_of(&["region", "roles", "nested.level", "roles[*]"]);
        let plain = prop_oneof![
            some(&["hr:1", "hr:2", "hr:3"]).prop_map(Cohort::Subjects),
            some(&["app-1", "app-2"]).prop_map(Cohort::ClientId),
            (provider(), some(&["it", "hr", "7"]))
                .prop_map(|(provider, any_of)| Cohort::Group { provider, any_of }),
            (provider(), path, one_of(&["emea", "a", "b", "3"])).prop_map(
                |(provider, path, equals)| Cohort::Claim {
                    provider,
                    name: ClaimPath::parse(&path).unwrap(),
                    equals,
                }
            ),
            one_of(&["/orders/*", "/"]).prop_map(|path| Cohort::Path(vec![path])),
        ];
        plain.prop_recursive(2, 4, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Cohort::Not(Box::new(part))),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Cohort::All),
                prop::collection::vec(inner, 0..3).prop_map(Cohort::Any),
            ]
        })
    }

    fn rule(place: usize, ends: bool) -> AssignRule {
        AssignRule {
            cohort: Some(CohortId::new(&format!("c{place}"))),
            share: Share::All,
            to: Arm::To,
            until: ends.then_some(UnixTime::from_secs(1)),
        }
    }

    proptest! {
        #[test]
        fn whoever_is_concerned_is_found_and_what_is_open_is_said(
            all in prop::collection::vec((cohort(), any::<bool>()), FEW + 1..60),
            named in one_of(&["hr:1", "hr:2", "hr:9"]),
            provider in one_of(&["legacy", "modern", "other"]),
            client in prop::option::of(one_of(&["app-1", "app-3"])),
            groups in prop::sample::select(vec![json!(null), json!(["it", "x"]), json!("hr"), json!(["it", 7])]),
            roles in prop::sample::select(vec![json!(null), json!(["a", "c"]), json!("b"), json!({"a": 1})]),
            known: bool,
        ) {
            let cohorts: Cohorts = all
                .iter()
                .enumerate()
                .map(|(place, (cohort, _))| (CohortId::new(&format!("c{place}")), cohort.clone()))
                .collect();
            let list = all.iter().enumerate().map(|(place, (_, ends))| rule(place, *ends));
            let mut list: Vec<_> = list.collect();
            // One for everybody, and one whose cohort nobody has defined.
            list.insert(3, AssignRule { cohort: None, ..rule(0, false) });
            list.push(rule(1_000, false));
            let rules = Rules::from(list.clone());
            let attributes = json!({
                "groups": groups, "roles": roles, "region": "emea", "nested": { "level": "3" },
            });
            let mut person = People::of(&provider, &named, attributes);
            person.identity.client_id = client;
            let facts = if known { person.facts() } else { facts() };
            let concerning = rules.concerning(&cohorts, &facts);
            let open = concerning.open;
            let found: Vec<usize> = concerning.map(|(place, _)| place).collect();
            prop_assert!(found.is_sorted() && found.windows(2).all(|pair| pair[0] != pair[1]));
            let said = |rule: &AssignRule| match &rule.cohort {
                None => Some(true),
                Some(id) => cohorts.get(id)?.contains(&facts),
            };
            let left = |(place, _): &(usize, &AssignRule)| !found.contains(place);
            let left: Vec<_> = list.iter().enumerate().filter(left).collect();
            for (place, rule) in &left {
                prop_assert_ne!(said(rule), Some(true), "{} {:?}", place, rule);
            }
            let first = left.iter().find(|(_, rule)| said(rule).is_none());
            prop_assert_eq!(open, first.map(|(place, _)| *place));
        }
    }

    fn many() -> (Rules, Cohorts) {
        let cohorts = (0..1_000).map(|place| {
            let people = std::iter::once(format!("hr:{place}").into()).collect();
            (
                CohortId::new(&format!("c{place}")),
                Cohort::Subjects(people),
            )
        });
        let list: Vec<_> = (0..1_000).map(|place| rule(place, false)).collect();
        (list.into(), cohorts.collect())
    }

    #[test]
    fn of_a_thousand_lines_few_are_looked_at() {
        let (rules, cohorts) = many();
        let person = People::of("legacy", "hr:500", json!({}));
        let found: Vec<_> = rules.concerning(&cohorts, &person.facts()).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 500);
        assert_eq!(rules.concerning(&cohorts, &facts()).count(), 0);
        assert_eq!(rules.concerning(&cohorts, &facts()).open, Some(0));
    }

    #[test]
    fn a_line_that_changes_and_other_cohorts_are_seen() {
        let (mut rules, mut cohorts) = many();
        let person = People::of("legacy", "hr:500", json!({}));
        let places = |rules: &Rules, cohorts: &Cohorts| -> Vec<usize> {
            let found = rules.concerning(cohorts, &person.facts());
            let matching = found.filter(|(_, rule)| {
                let cohort = rule.cohort.as_ref().and_then(|id| cohorts.get(id));
                cohort.is_some_and(|cohort| cohort.contains(&person.facts()) == Some(true))
            });
            matching.map(|(place, _)| place).collect()
        };
        assert_eq!(places(&rules, &cohorts), [500]);
        let before = cohorts.clone();
        cohorts.insert(CohortId::new("c7"), cohorts[&CohortId::new("c500")].clone());
        assert_eq!(places(&rules, &cohorts), [7, 500]);
        assert_eq!(places(&rules, &before), [500]);
        rules[3].cohort = Some(CohortId::new("c500"));
        assert_eq!(places(&rules, &before), [3, 500]);
        assert_eq!(places(&rules.clone(), &before), [3, 500]);
    }
}
