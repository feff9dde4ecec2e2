//! Which groups of a provider have no role: names of groups, and nobody's, so that an operator can complete the map.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::clock::UnixTime;
use crate::identity::ProviderId;

/// Groups of one provider that are remembered by name.
const MOST: usize = 256;

/// A longer name is cut: it is looked at by people.
const MAX_BYTES: usize = 256;

/// Groups without a role, of all providers, since the start.
#[derive(Default)]
pub(crate) struct Unmatched(Mutex<HashMap<ProviderId, Groups>>);

#[derive(Default)]
struct Groups {
    known: HashMap<Box<str>, Times>,
    /// How often there was one for which there was no room.
    more: u64,
}

/// How often, and when last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Times {
    /// People who were judged with it, as often as they were.
    pub(crate) count: u64,
    /// When last.
    pub(crate) last: UnixTime,
}

/// What is known of the groups of one provider.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Known {
    /// Whose they are.
    pub(crate) provider: ProviderId,
    /// By name.
    pub(crate) groups: Vec<(Box<str>, Times)>,
    /// How often there was one that is not among them.
    pub(crate) more: u64,
}

impl Unmatched {
    /// Somebody came with these groups, to whom the map gives nothing.
    pub(super) fn saw(&self, provider: &ProviderId, groups: &[&str], now: UnixTime) {
        if groups.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(provider.clone()).or_default();
        for group in groups {
            let end = group.floor_char_boundary(MAX_BYTES);
            let name = group.get(..end).unwrap_or_default();
            if !own.known.contains_key(name) && MOST <= own.known.len() {
                own.more += 1;
                continue;
            }
            let times = own.known.entry(name.into()).or_default();
            times.count += 1;
            times.last = times.last.max(now);
        }
    }

    /// All of them, by provider and name.
    pub(crate) fn all(&self) -> Vec<Known> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known: Vec<Known> = all
            .iter()
            .map(|(provider, own)| {
                let groups = own.known.iter();
                let mut groups: Vec<_> =
                    groups.map(|(name, times)| (name.clone(), *times)).collect();
                groups.sort_by(|one, two| one.0.cmp(&two.0));
                Known {
                    provider: provider.clone(),
                    groups,
                    more: own.more,
                }
            })
            .collect();
        known.sort_by(|one, two| one.provider.cmp(&two.provider));
        known
    }
}

impl fmt::Debug for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unmatched")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(1_000 + seconds)
    }

    #[test]
    fn groups_are_remembered_by_name_and_the_rest_is_counted() {
        let (memory, provider) = (Unmatched::default(), ProviderId::new("new"));
        memory.saw(&provider, &[], at(0));
        assert!(memory.all().is_empty());
        memory.saw(&provider, &["it", "sales"], at(1));
        memory.saw(&provider, &["it"], at(2));
        let times = |count, last| Times { count, last };
        let known = |more| Known {
            provider: provider.clone(),
            groups: vec![
                ("it".into(), times(2, at(2))),
                ("sales".into(), times(1, at(1))),
            ],
            more,
        };
        assert_eq!(memory.all(), [known(0)]);
        for number in 0..2 * MOST {
            memory.saw(&provider, &[&*format!("group-{number}")], at(3));
        }
        let all = memory.all();
        assert_eq!(all[0].groups.len(), MOST);
        assert_eq!(all[0].more, (MOST + 2) as u64);
        // What is known goes on.
        memory.saw(&provider, &["it", &"ü".repeat(MAX_BYTES)], at(4));
        assert!(
            memory.all()[0]
                .groups
                .contains(&("it".into(), times(3, at(4))))
        );
        // A long name is cut where a letter ends.
        let other = ProviderId::new("other");
        memory.saw(&other, &[&*format!("a{}", "ü".repeat(MAX_BYTES))], at(5));
        assert_eq!(memory.all()[1].groups[0].0.len(), MAX_BYTES - 1);
    }
}
