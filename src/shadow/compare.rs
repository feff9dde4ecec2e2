//! Two opinions about one person, compared field by field. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::identity::CanonicalSubject;
use crate::shadow::kind::Class;

/// Who somebody is, by one side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    /// This person.
    Person(CanonicalSubject),
    /// Nobody whom another provider knows.
    Nobody,
    /// What it says could be read as another person.
    Conflict,
}

/// What one side makes of somebody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Side {
    /// Who it is.
    pub(crate) name: Name,
    /// Groups, or the roles that are made of them.
    pub(crate) groups: BTreeSet<Box<str>>,
    /// Scopes.
    pub(crate) scopes: BTreeSet<Box<str>>,
    /// The headers that the application would get: bytes, nothing, or `None` where they cannot be rendered.
    pub(crate) headers: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// How much was proved, where the side says so.
    pub(crate) assurance: Option<Box<str>>,
    /// How long the credential is good for, where it says so itself.
    pub(crate) lifetime: Option<Duration>,
}

/// One difference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Difference {
    pub(super) class: Class,
    /// Which field.
    pub(super) field: Box<str>,
    /// The values of which only one side speaks, where they may be shown: names of groups and scopes.
    pub(super) values: Vec<Box<str>>,
    /// What either side says, to be hashed.
    pub(super) said: (Vec<u8>, Vec<u8>),
}

/// In what the candidate differs from the control.
pub(super) fn compare(control: &Side, candidate: &Side) -> Vec<Difference> {
    let mut found = Vec::new();
    let named = |class, said: (Vec<u8>, Vec<u8>)| Difference {
        class,
        field: "subject".into(),
        values: Vec::new(),
        said,
    };
    let bytes = |name: &Name| match name {
        Name::Person(name) => name.as_str().as_bytes().to_vec(),
        Name::Nobody | Name::Conflict => Vec::new(),
    };
    let said = (bytes(&control.name), bytes(&candidate.name));
    match (&control.name, &candidate.name) {
        (Name::Person(one), Name::Person(other)) if one == other => {}
        (_, Name::Person(_)) => found.push(named(Class::SubjectMismatch, said)),
        (_, Name::Nobody) => found.push(named(Class::NoLink, said)),
        (_, Name::Conflict) => found.push(named(Class::LinkConflict, said)),
    }
    let sets = [
        (
            "groups",
            Class::GroupsMissing,
            &control.groups,
            &candidate.groups,
        ),
        (
            "groups",
            Class::GroupsExtra,
            &candidate.groups,
            &control.groups,
        ),
        (
            "scopes",
            Class::ScopeMissing,
            &control.scopes,
            &candidate.scopes,
        ),
        (
            "scopes",
            Class::ScopeExtra,
            &candidate.scopes,
            &control.scopes,
        ),
    ];
    for (field, class, here, there) in sets {
        let only: Vec<Box<str>> = here.difference(there).cloned().collect();
        if !only.is_empty() {
            found.push(Difference {
                class,
                field: field.into(),
                values: only,
                said: (joined(here), joined(there)),
            });
        }
    }
    for (name, bytes) in &control.headers {
        let other = candidate.headers.iter().find(|(other, _)| other == name);
        let other = other.and_then(|(_, bytes)| bytes.as_ref());
        if bytes.as_ref() != other {
            found.push(Difference {
                class: Class::Headers,
                field: name.clone(),
                values: Vec::new(),
                said: (
                    bytes.clone().unwrap_or_default(),
                    other.cloned().unwrap_or_default(),
                ),
            });
        }
    }
    found.extend(assurance(control, candidate));
    found.extend(lifetime(control, candidate));
    found
}

/// A side that says nothing is not compared.
fn assurance(control: &Side, candidate: &Side) -> Option<Difference> {
    let (here, there) = (control.assurance.as_ref()?, candidate.assurance.as_ref()?);
    let higher = match (rank(here), rank(there)) {
        _ if here == there => return None,
        (Some(here), Some(there)) => here < there,
        // Nobody can say that it is not lower.
        (None, _) | (_, None) => false,
    };
    let class = if higher {
        Class::AssuranceHigher
    } else {
        Class::AssuranceLower
    };
    Some(Difference {
        class,
        field: "assurance".into(),
        values: vec![there.clone()],
        said: (here.as_bytes().to_vec(), there.as_bytes().to_vec()),
    })
}

/// The words whose order is known: a number, or those of the OpenID Connect Extended Authentication Profile.
fn rank(word: &str) -> Option<u32> {
    const WORDS: [&str; 4] = ["pwd", "mfa", "phr", "phrh"];
    let place = WORDS.iter().position(|known| *known == word);
    let place = place.and_then(|place| u32::try_from(place).ok());
    place.or_else(|| word.parse().ok())
}

fn lifetime(control: &Side, candidate: &Side) -> Option<Difference> {
    let (here, there) = (control.lifetime?, candidate.lifetime?);
    let near = here / 10;
    (near < here.abs_diff(there)).then(|| Difference {
        class: Class::Lifetime,
        field: "lifetime".into(),
        values: Vec::new(),
        said: (
            here.as_secs().to_be_bytes().to_vec(),
            there.as_secs().to_be_bytes().to_vec(),
        ),
    })
}

fn joined(values: &BTreeSet<Box<str>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, groups: &[&str]) -> Side {
        Side {
            name: Name::Person(CanonicalSubject::named(name).unwrap()),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            scopes: BTreeSet::new(),
            headers: vec![("x-user".into(), Some(name.as_bytes().to_vec()))],
            assurance: None,
            lifetime: None,
        }
    }

    fn classes(control: &Side, candidate: &Side) -> Vec<(Class, String)> {
        let found = compare(control, candidate);
        found
            .into_iter()
            .map(|one| (one.class, format!("{}{:?}", one.field, one.values)))
            .collect()
    }

    #[test]
    fn who_has_proved_less_is_critical_and_so_is_what_nobody_can_order() {
        let of = |here: Option<&str>, there: Option<&str>| {
            let with = |word: Option<&str>| Side {
                assurance: word.map(Into::into),
                ..side("hr:1", &[])
            };
            let found = compare(&with(here), &with(there));
            found.first().map(|one| one.class)
        };
        assert_eq!(of(Some("mfa"), Some("mfa")), None);
        assert_eq!(of(Some("mfa"), None), None, "a directory proves nothing");
        assert_eq!(of(Some("mfa"), Some("pwd")), Some(Class::AssuranceLower));
        assert_eq!(of(Some("pwd"), Some("phr")), Some(Class::AssuranceHigher));
        assert_eq!(of(Some("1"), Some("2")), Some(Class::AssuranceHigher));
        assert_eq!(of(Some("gold"), Some("mfa")), Some(Class::AssuranceLower));
    }

    #[test]
    fn a_lifetime_may_differ_by_a_tenth() {
        let of = |here: u64, there: u64| {
            let with = |secs| Side {
                lifetime: Some(Duration::from_secs(secs)),
                ..side("hr:1", &[])
            };
            compare(&with(here), &with(there)).len()
        };
        assert_eq!((of(100, 110), of(100, 90)), (0, 0));
        assert_eq!((of(100, 111), of(100, 89)), (1, 1));
    }

    #[test]
    fn each_difference_has_its_class() {
        let control = side("hr:1", &["it", "staff"]);
        assert_eq!(classes(&control, &control), []);
        let mut other = side("hr:1", &["staff", "boss"]);
        other.scopes.insert("write".into());
        assert_eq!(
            classes(&control, &other),
            [
                (Class::GroupsMissing, "groups[\"it\"]".into()),
                (Class::GroupsExtra, "groups[\"boss\"]".into()),
                (Class::ScopeExtra, "scopes[\"write\"]".into()),
            ]
        );
        let few = Side {
            scopes: std::iter::once("read".into()).collect(),
            ..control.clone()
        };
        assert_eq!(
            classes(&few, &control),
            [(Class::ScopeMissing, "scopes[\"read\"]".into())]
        );
        let other = side("hr:2", &["it", "staff"]);
        assert_eq!(
            classes(&control, &other),
            [
                (Class::SubjectMismatch, "subject[]".into()),
                (Class::Headers, "x-user[]".into()),
            ]
        );
        for (name, class) in [
            (Name::Nobody, Class::NoLink),
            (Name::Conflict, Class::LinkConflict),
        ] {
            let other = Side {
                name,
                ..control.clone()
            };
            assert_eq!(classes(&control, &other), [(class, "subject[]".into())]);
        }
        // Empty bytes are not the same as none.
        let mut other = control.clone();
        other.headers[0].1 = None;
        assert_eq!(classes(&control, &other)[0].0, Class::Headers);
    }
}
