//! What may not be more than so much: people about whom second opinions differ, and a figure that another system knows.

use std::collections::BTreeMap;

use crate::rollout::guard::judge::Verdict;
use crate::rollout::guard::settings::OnTrip;

/// What second opinions have found since a step began, counted by people.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Looked {
    /// People who were looked at.
    pub people: u64,
    /// Those of them about whom something differs that is more than noise; whoever differed once stays among them.
    pub differ: u64,
    /// People and critical classes: somebody who differs in two of them counts twice.
    pub critical: u64,
    /// People by the class in which they differ.
    pub classes: BTreeMap<Box<str>, u64>,
    /// How often somebody was asked about since, by all instances, …
    pub asked: u64,
    /// … and how often nobody could be: too many waited, or the other side gave no answers.
    pub lost: u64,
}

/// What a limit is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Watched {
    /// People about whom second opinions differ in one of these classes.
    Divergences(Vec<Box<str>>),
    /// What a Prometheus answers to this.
    Query(Box<str>),
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Its name: a label value.
    pub id: Box<str>,
    /// What it is about.
    pub of: Watched,
    /// More than this trips it.
    pub max: f64,
    /// What follows.
    pub on_trip: OnTrip,
}

/// A limit, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitReading {
    /// Its name.
    pub id: Box<str>,
    /// Whether it is about second opinions, and not about a query.
    pub of_opinions: bool,
    /// What there is; `None`: it is not known.
    pub value: Option<f64>,
    /// What may be.
    pub max: f64,
    /// What it says.
    pub verdict: Verdict,
    /// What follows.
    pub on_trip: OnTrip,
}

impl Limit {
    /// Reads it: by what second opinions found, if that is known, and by the last answers to queries.
    pub fn read(&self, looked: Option<&Looked>, answers: &BTreeMap<Box<str>, f64>) -> LimitReading {
        let value = match &self.of {
            Watched::Divergences(classes) => looked.map(|looked| {
                let people = classes.iter().filter_map(|class| looked.classes.get(class));
                people.sum::<u64>() as f64
            }),
            Watched::Query(_) => answers.get(&self.id).copied(),
        };
        LimitReading {
            id: self.id.clone(),
            of_opinions: matches!(self.of, Watched::Divergences(_)),
            value,
            max: self.max,
            verdict: match value {
                None => Verdict::NoData,
                Some(value) if self.max < value => Verdict::Tripped,
                // What is no number is no answer.
                Some(value) if value.is_nan() => Verdict::NoData,
                Some(_) => Verdict::Ok,
            },
            on_trip: self.on_trip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_trips_above_it_and_says_when_it_knows_nothing() {
        let limit = Limit {
            id: "critical".into(),
            of: Watched::Divergences(vec!["groups_extra".into(), "subject_mismatch".into()]),
            max: 1.0,
            on_trip: OnTrip::RollbackRevoke,
        };
        let none = BTreeMap::new();
        let of = |classes: &[(&str, u64)]| Looked {
            classes: classes.iter().map(|(c, n)| ((*c).into(), *n)).collect(),
            ..Looked::default()
        };
        let verdict = |looked: Option<&Looked>| limit.read(looked, &none).verdict;
        assert_eq!(verdict(None), Verdict::NoData);
        let one = of(&[("no_link", 9), ("groups_extra", 1)]);
        assert_eq!(verdict(Some(&one)), Verdict::Ok);
        let two = of(&[("groups_extra", 1), ("subject_mismatch", 1)]);
        assert_eq!(verdict(Some(&two)), Verdict::Tripped);

        let limit = Limit {
            id: "tickets".into(),
            of: Watched::Query("sum(up)".into()),
            max: 15.0,
            on_trip: OnTrip::Hold,
        };
        let verdict = |value| {
            let answers = BTreeMap::from([("tickets".into(), value)]);
            limit.read(Some(&two), &answers).verdict
        };
        assert_eq!(limit.read(Some(&two), &none).verdict, Verdict::NoData);
        assert_eq!(verdict(15.0), Verdict::Ok);
        assert_eq!(verdict(15.5), Verdict::Tripped);
        assert_eq!(verdict(f64::NAN), Verdict::NoData);
    }
}
