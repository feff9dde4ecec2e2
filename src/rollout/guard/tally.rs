//! What has happened to people in one step: each counts once in a window, and leaves the counts when it was bad.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::guard::breaker::Recent;
use crate::rollout::guard::evidence::Evidence;
use crate::rollout::guard::settings::BadOutcome;
use crate::rollout::guard::settings::Guard;
use crate::rollout::guard::settings::Guardrails;
use crate::rollout::guard::split::SplitEvidence;
use crate::rollout::stage::Arm;

/// The most people that a step keeps apart; whoever comes later is not counted.
const MAX_PEOPLE: usize = 200_000;

/// One value for each side.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PerArm<T> {
    /// At the provider people leave.
    #[serde(rename = "legacy")]
    pub from: T,
    /// At the provider people move to.
    #[serde(rename = "modern")]
    pub to: T,
}

impl<T> PerArm<T> {
    /// The value of a side.
    pub const fn of(&mut self, arm: Arm) -> &mut T {
        match arm {
            Arm::From => &mut self.from,
            Arm::To => &mut self.to,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Observed {
    /// A login succeeded; how long the provider took for its part, where that is known.
    LoggedIn {
        /// From the provider's answer to the session.
        took: Option<Duration>,
    },
    /// A login was tried, and did not succeed in time.
    Failed,
    /// A login was begun, and nobody came back.
    Abandoned,
    /// A login was tried and did not succeed; it still may. Only the breaker looks at it.
    Stumbled,
    /// A live session was honoured.
    SessionHonoured,
    /// A live session was refused.
    SessionRejected,
    /// A live session could not be judged.
    SessionError,
}

impl Observed {
    /// Whether it says something about a guard that watches logins (or, with `false`, sessions).
    const fn is_of_logins(self) -> bool {
        match self {
            Self::LoggedIn { .. } | Self::Failed | Self::Abandoned | Self::Stumbled => true,
            Self::SessionHonoured | Self::SessionRejected | Self::SessionError => false,
        }
    }

    fn is(self, bad: BadOutcome) -> bool {
        match (self, bad) {
            (Self::Failed, BadOutcome::Failed)
            | (Self::Abandoned, BadOutcome::Abandoned)
            | (Self::SessionRejected, BadOutcome::Rejected)
            | (Self::SessionError, BadOutcome::Error) => true,
            (Self::LoggedIn { took: Some(took) }, BadOutcome::SlowerThan(limit)) => limit < took,
            (
                Self::LoggedIn { .. }
                | Self::Failed
                | Self::Abandoned
                | Self::Stumbled
                | Self::SessionHonoured
                | Self::SessionRejected
                | Self::SessionError,
                BadOutcome::Failed
                | BadOutcome::Abandoned
                | BadOutcome::SlowerThan(_)
                | BadOutcome::Rejected
                | BadOutcome::Error,
            ) => false,
        }
    }
}

/// What happened to one person.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Outcome {
    /// Who: a keyed hash.
    pub unit: u64,
    /// The browser, where it is known beside the person.
    pub device: Option<u64>,
    /// At which side.
    pub arm: Arm,
    /// What.
    pub observed: Observed,
    /// Whether the percent alone chose the side, and so the split can be checked by it.
    pub by_percent: bool,
    /// When.
    pub at: UnixTime,
}

/// What one guard has counted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Count {
    pub(super) evidence: Evidence,
    /// Different people.
    pub(super) units: PerArm<u64>,
    /// People who were bad.
    pub(super) bad: PerArm<u64>,
    at_risk_now: PerArm<u32>,
    bad_now: PerArm<u32>,
    people: HashMap<u64, Seen>,
}

/// When somebody was counted last: the window and the interval.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Seen(u64, u32, bool);

/// One step of one rollout.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tally {
    pub(super) counts: Vec<(Box<str>, Count)>,
    pub(super) split: SplitEvidence,
    arrived: PerArm<u64>,
    placed: HashSet<u64>,
    interval: u32,
    #[serde(skip)]
    pub(super) recent: Recent,
    #[serde(skip)]
    burnt: HashSet<u64>,
}

impl Tally {
    /// Nobody seen yet.
    pub fn new(rails: &Guardrails) -> Self {
        let count = |guard: &Guard| {
            let count = Count {
                evidence: Evidence::new(guard.max_ratio),
                units: PerArm::default(),
                bad: PerArm::default(),
                at_risk_now: PerArm::default(),
                bad_now: PerArm::default(),
                people: HashMap::new(),
            };
            (guard.id.clone(), count)
        };
        Self {
            counts: rails.guards.iter().map(count).collect(),
            split: SplitEvidence::new(),
            arrived: PerArm::default(),
            placed: HashSet::new(),
            interval: 0,
            recent: Recent::default(),
            burnt: HashSet::new(),
        }
    }

    /// Whether the tally was made for these guards; one that was not is begun anew.
    pub fn is_of(&self, rails: &Guardrails) -> bool {
        let names = rails.guards.iter().map(|guard| &guard.id);
        self.counts.iter().map(|(id, _)| id).eq(names)
    }

    /// Takes in what happened to one person.
    pub fn add(&mut self, rails: &Guardrails, outcome: &Outcome) {
        self.breaker(outcome);
        if matches!(outcome.observed, Observed::Stumbled) {
            return;
        }
        let full = MAX_PEOPLE <= self.placed.len() && !self.placed.contains(&outcome.unit);
        if outcome.by_percent && !full && self.placed.insert(outcome.unit) {
            *self.arrived.of(outcome.arm) += 1;
        }
        let span = u64::try_from(rails.window.as_millis()).unwrap_or(u64::MAX);
        let window = outcome.at.as_millis() / span.max(1);
        for guard in &rails.guards {
            let of_logins = guard.bad.iter().any(|bad| bad.is_of_logins());
            let unclocked = matches!(outcome.observed, Observed::LoggedIn { took: None })
                && guard
                    .bad
                    .iter()
                    .all(|bad| matches!(bad, BadOutcome::SlowerThan(_)));
            if of_logins != outcome.observed.is_of_logins() || unclocked {
                continue;
            }
            let count = self.counts.iter_mut().find(|(id, _)| *id == guard.id);
            if let Some((_, count)) = count {
                count.add(guard, outcome, window, self.interval);
            }
        }
    }

    /// Ends the interval: what was counted in it becomes evidence. `share` of the buckets belonged to `to`.
    pub fn close(&mut self, share: f64) {
        for (_, count) in &mut self.counts {
            let floats = |counted: PerArm<u32>| PerArm {
                to: f64::from(counted.to),
                from: f64::from(counted.from),
            };
            count
                .evidence
                .add(floats(count.at_risk_now), floats(count.bad_now));
            count.at_risk_now = PerArm::default();
            count.bad_now = PerArm::default();
        }
        self.split.add(self.arrived, share);
        self.arrived = PerArm::default();
        self.interval = self.interval.wrapping_add(1);
    }

    fn breaker(&mut self, outcome: &Outcome) {
        let bad = match (outcome.arm, outcome.observed) {
            (Arm::To, Observed::LoggedIn { .. }) => false,
            (Arm::To, Observed::Failed | Observed::Abandoned | Observed::Stumbled) => true,
            (Arm::From, _)
            | (
                Arm::To,
                Observed::SessionHonoured | Observed::SessionRejected | Observed::SessionError,
            ) => return,
        };
        let who = outcome.device.unwrap_or(outcome.unit);
        if MAX_PEOPLE <= self.burnt.len() || (bad && !self.burnt.insert(who)) {
            return;
        }
        self.recent.add(outcome.at, bad);
    }
}

impl Count {
    fn add(&mut self, guard: &Guard, outcome: &Outcome, window: u64, interval: u32) {
        let bad = guard.bad.iter().any(|bad| outcome.observed.is(*bad));
        let known = |who: &u64| self.people.get(who).copied();
        let by_device = outcome.device.and_then(|device| known(&device));
        let before = known(&outcome.unit).or(by_device);
        match before {
            // Bad once: neither at risk nor bad any more.
            Some(Seen(_, _, true)) => return,
            Some(Seen(last, _, false)) if last == window && !bad => return,
            Some(_) => {}
            None if MAX_PEOPLE <= self.people.len() => return,
            None => *self.units.of(outcome.arm) += 1,
        }
        let counted_now =
            before.is_some_and(|Seen(last, when, _)| last == window && when == interval);
        if !counted_now {
            *self.at_risk_now.of(outcome.arm) += 1;
        }
        if bad {
            *self.bad_now.of(outcome.arm) += 1;
            *self.bad.of(outcome.arm) += 1;
        }
        let seen = Seen(window, interval, bad);
        self.people.insert(outcome.unit, seen);
        if let Some(device) = outcome.device.filter(|_| self.people.len() < MAX_PEOPLE) {
            self.people.insert(device, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(unit: u64, arm: Arm, observed: Observed, minute: u64) -> Outcome {
        Outcome {
            unit,
            device: None,
            arm,
            observed,
            by_percent: true,
            at: UnixTime::from_secs(60 * minute),
        }
    }

    const GOOD: Observed = Observed::LoggedIn { took: None };

    fn login(tally: &Tally) -> (PerArm<u64>, PerArm<u64>, PerArm<u32>) {
        let (_, count) = tally.counts.first().unwrap();
        (count.units, count.bad, count.at_risk_now)
    }

    #[test]
    fn whoever_retries_all_day_is_one_bad_person() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails);
        for minute in 0..1_440 {
            tally.add(&rails, &outcome(7, Arm::To, Observed::Failed, minute));
        }
        let (units, bad, at_risk) = login(&tally);
        assert_eq!((units.to, bad.to, at_risk.to), (1, 1, 1));
        tally.close(0.05);
        tally.add(&rails, &outcome(7, Arm::To, GOOD, 2_000));
        assert_eq!(
            login(&tally).2.to,
            0,
            "the counts of the step are over for them"
        );
    }

    #[test]
    fn a_person_counts_once_in_a_window() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails);
        for minute in [0, 1, 9, 10, 19, 20] {
            tally.add(&rails, &outcome(7, Arm::From, GOOD, minute));
        }
        let (units, bad, at_risk) = login(&tally);
        assert_eq!((units.from, bad.from, at_risk.from), (1, 0, 3));
    }

    #[test]
    fn a_browser_that_failed_is_the_person_who_signs_in_with_it_later() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails);
        tally.add(&rails, &outcome(1, Arm::To, Observed::Failed, 0));
        let known = Outcome {
            device: Some(1),
            ..outcome(99, Arm::To, GOOD, 30)
        };
        tally.add(&rails, &known);
        let (units, bad, _) = login(&tally);
        assert_eq!((units.to, bad.to), (1, 1));
    }

    #[test]
    fn sessions_and_logins_are_different_guards() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails);
        tally.add(&rails, &outcome(1, Arm::To, Observed::SessionRejected, 0));
        tally.add(&rails, &outcome(2, Arm::To, Observed::SessionHonoured, 0));
        tally.add(&rails, &outcome(3, Arm::To, Observed::Abandoned, 0));
        let of = |n: usize| {
            let (_, count) = tally.counts.get(n).unwrap();
            (count.units.to, count.bad.to)
        };
        assert_eq!((of(0), of(1)), ((1, 1), (2, 1)));
    }

    #[test]
    fn slow_logins_are_compared_where_they_are_clocked() {
        let mut rails = Guardrails::default();
        if let Some(guard) = rails.guards.first_mut() {
            guard.bad = vec![BadOutcome::SlowerThan(Duration::from_millis(800))];
        }
        let mut tally = Tally::new(&rails);
        for (unit, took) in [(1, Some(801)), (2, Some(800)), (3, None)] {
            let took = took.map(Duration::from_millis);
            tally.add(
                &rails,
                &outcome(unit, Arm::To, Observed::LoggedIn { took }, 0),
            );
        }
        let (units, bad, _) = login(&tally);
        assert_eq!((units.to, bad.to), (2, 1));
    }

    #[test]
    fn a_tally_survives_being_written() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails);
        tally.add(&rails, &outcome(1, Arm::To, Observed::Failed, 0));
        tally.add(&rails, &outcome(2, Arm::From, GOOD, 0));
        tally.close(0.5);
        let text = serde_json::to_string(&tally).unwrap();
        let mut back: Tally = serde_json::from_str(&text).unwrap();
        assert!(back.is_of(&rails));
        back.add(&rails, &outcome(1, Arm::To, Observed::Failed, 60));
        assert_eq!(login(&back).1.to, 1, "the bad person is still known");
    }
}
