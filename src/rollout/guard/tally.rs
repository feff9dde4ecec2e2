//! What has happened to people in one step: each counts once in a window, and leaves the counts when it was bad.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::guard::breaker::Fared;
use crate::rollout::guard::breaker::Recent;
use crate::rollout::guard::evidence::Evidence;
use crate::rollout::guard::settings::BadOutcome;
use crate::rollout::guard::settings::Guard;
use crate::rollout::guard::settings::Guardrails;
use crate::rollout::guard::split::SplitEvidence;
use crate::rollout::stage::Arm;

/// The most people that a guard keeps apart. When there are more, those who fared well and have not come for two windows are
/// forgotten: whoever of them comes again is somebody new.
const MAX_PEOPLE: usize = 200_000;

/// The most intervals of a window that are kept apart.
const MAX_INTERVALS: usize = 4_096;

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
    /// A login began. Whoever has begun is at risk, whatever comes of it and however long it takes.
    Begun,
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
            Self::Begun
            | Self::LoggedIn { .. }
            | Self::Failed
            | Self::Abandoned
            | Self::Stumbled => true,
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
                Self::Begun
                | Self::LoggedIn { .. }
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
    /// The side that the percent alone chooses, if no rule about them stands above it: the split is checked by it.
    pub placed: Option<Arm>,
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
    /// People at risk in the intervals of the last window, the oldest first.
    at_risk: VecDeque<(UnixTime, PerArm<u32>)>,
    people: HashMap<u64, Seen>,
    /// The window in which people were last forgotten.
    #[serde(default)]
    forgot: u64,
}

/// What was counted of somebody.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Seen {
    /// One more than the number of the last window in which they were at risk.
    at_risk: u64,
    /// Whether they are among the units.
    counted: bool,
    /// Whether they were bad.
    bad: bool,
}

/// One step of one rollout.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tally {
    /// Since when it is counted. One that was kept without it is older than any step.
    #[serde(default)]
    pub(super) since: UnixTime,
    pub(super) counts: Vec<(Box<str>, Count)>,
    pub(super) split: SplitEvidence,
    arrived: PerArm<u64>,
    placed: HashSet<u64>,
    /// How people fared at `from`: what the breaker takes for ordinary.
    #[serde(default)]
    pub(super) fared: Fared,
    #[serde(skip)]
    pub(super) recent: PerArm<Recent>,
    #[serde(skip)]
    burnt: PerArm<HashSet<u64>>,
}

impl Tally {
    /// Nobody seen yet.
    pub fn new(rails: &Guardrails, now: UnixTime) -> Self {
        let count = |guard: &Guard| {
            let count = Count {
                evidence: Evidence::new(guard.max_ratio),
                units: PerArm::default(),
                bad: PerArm::default(),
                at_risk_now: PerArm::default(),
                bad_now: PerArm::default(),
                at_risk: VecDeque::new(),
                people: HashMap::new(),
                forgot: 0,
            };
            (guard.id.clone(), count)
        };
        Self {
            since: now,
            counts: rails.guards.iter().map(count).collect(),
            split: SplitEvidence::new(),
            arrived: PerArm::default(),
            placed: HashSet::new(),
            fared: Fared::default(),
            recent: PerArm::default(),
            burnt: PerArm::default(),
        }
    }

    /// It goes on without what was counted elsewhere until now.
    pub const fn begins_at(&mut self, now: UnixTime) {
        self.since = now;
    }

    /// Whether the tally was made for these guards; one that was not is begun anew.
    pub fn is_of(&self, rails: &Guardrails) -> bool {
        let names = rails.guards.iter().map(|guard| &guard.id);
        self.counts.iter().map(|(id, _)| id).eq(names)
    }

    /// Takes in what happened to one person. In a randomised step the arms are compared by people whom the percent placed:
    /// who was chosen by name proves nothing about the others.
    pub fn add(&mut self, rails: &Guardrails, randomised: bool, outcome: &Outcome) {
        self.breaker(outcome);
        let by_name = randomised && outcome.placed.is_none();
        if by_name || matches!(outcome.observed, Observed::Stumbled) {
            return;
        }
        let full = MAX_PEOPLE <= self.placed.len() && !self.placed.contains(&outcome.unit);
        // Who arrives is a matter of logins: a session is one that has arrived.
        if let Some(arm) = outcome.placed
            && outcome.observed.is_of_logins()
            && !matches!(outcome.observed, Observed::Begun)
            && !full
            && self.placed.insert(outcome.unit)
        {
            *self.arrived.of(arm) += 1;
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
                count.add(guard, outcome, window);
            }
        }
    }

    /// Ends the interval: what was counted in it becomes evidence. `share` of the buckets belonged to `to`.
    pub fn close(&mut self, rails: &Guardrails, share: f64, now: UnixTime) {
        for (_, count) in &mut self.counts {
            count.close(rails.window, now);
        }
        if let Some(rule) = &rails.breaker {
            self.recent.to.forget(rule.window, now);
            self.recent.from.forget(rule.window, now);
        }
        self.split.add(self.arrived, share);
        self.arrived = PerArm::default();
    }

    fn breaker(&mut self, outcome: &Outcome) {
        let bad = match outcome.observed {
            Observed::LoggedIn { .. } => false,
            Observed::Failed | Observed::Abandoned | Observed::Stumbled => true,
            Observed::Begun
            | Observed::SessionHonoured
            | Observed::SessionRejected
            | Observed::SessionError => return,
        };
        let who = outcome.device.unwrap_or(outcome.unit);
        // Each side has its own: what happens at `from` neither fills the places of `to` nor makes anybody known there.
        let burnt = self.burnt.of(outcome.arm);
        if MAX_PEOPLE <= burnt.len() || (bad && !burnt.insert(who)) {
            return;
        }
        self.recent.of(outcome.arm).add(outcome.at, bad);
        match outcome.arm {
            Arm::From => self.fared.add(bad),
            Arm::To => {}
        }
    }
}

impl Count {
    fn add(&mut self, guard: &Guard, outcome: &Outcome, window: u64) {
        let bad = guard.bad.iter().any(|bad| outcome.observed.is(*bad));
        self.make_room(window);
        let known = |who: &u64| self.people.get(who).copied();
        let by_device = outcome.device.and_then(|device| known(&device));
        let mut seen = match (known(&outcome.unit), by_device) {
            (None, None) if MAX_PEOPLE <= self.people.len() => return,
            (None, None) => Seen::default(),
            (Some(seen), None) | (None, Some(seen)) => seen,
            (Some(person), Some(device)) => Seen {
                at_risk: person.at_risk.max(device.at_risk),
                counted: person.counted || device.counted,
                bad: person.bad || device.bad,
            },
        };
        if seen.bad {
            // Bad once: neither at risk nor bad any more.
            return;
        }
        let begins = match outcome.observed {
            Observed::Begun => true,
            Observed::SessionHonoured | Observed::SessionRejected | Observed::SessionError => {
                seen.at_risk != window + 1
            }
            Observed::LoggedIn { .. }
            | Observed::Failed
            | Observed::Abandoned
            | Observed::Stumbled => false,
        };
        if begins && seen.at_risk != window + 1 {
            seen.at_risk = window + 1;
            *self.at_risk_now.of(outcome.arm) += 1;
        }
        if !matches!(outcome.observed, Observed::Begun) && !seen.counted {
            seen.counted = true;
            *self.units.of(outcome.arm) += 1;
        }
        if bad {
            seen.bad = true;
            *self.bad_now.of(outcome.arm) += 1;
            *self.bad.of(outcome.arm) += 1;
        }
        self.people.insert(outcome.unit, seen);
        if let Some(device) = outcome.device {
            self.people.insert(device, seen);
        }
    }

    /// Forgets people where there are too many, so that whoever comes late in a long step is seen like the first. Once in a
    /// window, because it walks over all of them.
    fn make_room(&mut self, window: u64) {
        if self.people.len() < MAX_PEOPLE || window <= self.forgot {
            return;
        }
        self.forgot = window;
        // Whoever was bad stays: nobody is bad twice.
        self.people
            .retain(|_, seen| seen.bad || window <= seen.at_risk);
    }

    /// Compares who was bad in this interval with who was at risk within the window: nobody is bad later than that.
    fn close(&mut self, window: Duration, now: UnixTime) {
        let floats = |counted: PerArm<u32>| PerArm {
            to: f64::from(counted.to),
            from: f64::from(counted.from),
        };
        if self.at_risk_now != PerArm::default() {
            self.at_risk.push_back((now, self.at_risk_now));
            self.at_risk_now = PerArm::default();
        }
        // One interval more than the window: who begins right after a look is abandoned right before another.
        while self
            .at_risk
            .front()
            .is_some_and(|(at, _)| window + window / 8 < now.since(*at))
            || MAX_INTERVALS < self.at_risk.len()
        {
            self.at_risk.pop_front();
        }
        let mut at_risk = PerArm::<f64>::default();
        for (_, counted) in &self.at_risk {
            at_risk.to += f64::from(counted.to);
            at_risk.from += f64::from(counted.from);
        }
        let bad = floats(std::mem::take(&mut self.bad_now));
        // Whoever was bad was at risk, even where the beginning was not seen.
        at_risk.to = at_risk.to.max(bad.to);
        at_risk.from = at_risk.from.max(bad.from);
        self.evidence.add(at_risk, bad);
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
            placed: Some(arm),
            at: UnixTime::from_secs(60 * minute),
        }
    }

    const GOOD: Observed = Observed::LoggedIn { took: None };

    fn add(tally: &mut Tally, unit: u64, arm: Arm, observed: Observed, minute: u64) {
        let rails = Guardrails::default();
        tally.add(&rails, true, &outcome(unit, arm, observed, minute));
    }

    fn close(tally: &mut Tally, minute: u64) {
        let now = UnixTime::from_secs(60 * minute);
        tally.close(&Guardrails::default(), 0.5, now);
    }

    fn login(tally: &Tally) -> (PerArm<u64>, PerArm<u64>, PerArm<u32>) {
        let (_, count) = tally.counts.first().unwrap();
        (count.units, count.bad, count.at_risk_now)
    }

    #[test]
    fn whoever_retries_all_day_is_one_bad_person() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        for minute in 0..1_440 {
            add(&mut tally, 7, Arm::To, Observed::Begun, minute);
            add(&mut tally, 7, Arm::To, Observed::Failed, minute);
        }
        let (units, bad, at_risk) = login(&tally);
        assert_eq!((units.to, bad.to, at_risk.to), (1, 1, 1));
        close(&mut tally, 1_440);
        add(&mut tally, 7, Arm::To, Observed::Begun, 2_000);
        assert_eq!(
            login(&tally).2.to,
            0,
            "the counts of the step are over for them"
        );
    }

    #[test]
    fn a_person_is_at_risk_once_in_a_window() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        for minute in [0, 1, 9, 10, 19, 20] {
            add(&mut tally, 7, Arm::From, Observed::Begun, minute);
            add(&mut tally, 7, Arm::From, GOOD, minute);
        }
        let (units, bad, at_risk) = login(&tally);
        assert_eq!((units.from, bad.from, at_risk.from), (1, 0, 3));
    }

    /// A step of a day at 200 sign-ins a minute has more people than are kept apart: the last are seen like the first.
    #[test]
    fn whoever_comes_after_the_most_that_are_kept_apart_is_counted() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        add(&mut tally, 0, Arm::To, Observed::Begun, 0);
        add(&mut tally, 0, Arm::To, Observed::Failed, 0);
        let rails = Guardrails::default();
        for unit in 1..MAX_PEOPLE as u64 {
            let begun = outcome(unit, Arm::From, Observed::Begun, unit / 1_000);
            tally.add(&rails, true, &begun);
        }
        let late = MAX_PEOPLE as u64 / 1_000 + 1;
        for unit in [u64::MAX, u64::MAX - 1] {
            add(&mut tally, unit, Arm::To, Observed::Begun, late);
            add(&mut tally, unit, Arm::To, Observed::Failed, late);
        }
        // Bad once, however late they come again.
        add(&mut tally, 0, Arm::To, Observed::Begun, late);
        add(&mut tally, 0, Arm::To, Observed::Failed, late);
        let (_, bad, _) = login(&tally);
        assert_eq!(bad.to, 3);
        let (_, count) = tally.counts.first().unwrap();
        assert!(
            count.people.len() < MAX_PEOPLE / 2,
            "{}",
            count.people.len()
        );
    }

    /// People who never come back are bad when their window ends, all at once perhaps: they are compared with those who
    /// began when they did.
    #[test]
    fn people_who_never_come_back_are_compared_with_those_who_began_with_them() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        for n in 0..40 {
            let arm = if u64::is_multiple_of(n, 4) {
                Arm::To
            } else {
                Arm::From
            };
            add(&mut tally, n, arm, Observed::Begun, n / 4);
            if arm == Arm::From {
                add(&mut tally, n, arm, GOOD, n / 4);
            }
            close(&mut tally, n / 4);
        }
        for n in 0..10 {
            add(&mut tally, 4 * n, Arm::To, Observed::Abandoned, 10);
        }
        close(&mut tally, 10);
        let (_, count) = tally.counts.first().unwrap();
        assert!(6.4 < count.evidence.ln_e(), "{}", count.evidence.ln_e());
        assert_eq!((count.units.to, count.bad.to), (10, 10));
    }

    #[test]
    fn sessions_of_people_chosen_by_name_are_not_compared_either_and_nobody_arrives_with_one() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails, UnixTime::default());
        let sessions = [
            Observed::SessionHonoured,
            Observed::SessionRejected,
            Observed::SessionError,
        ];
        for (unit, observed) in (0..).zip(sessions) {
            let staff = Outcome {
                placed: None,
                ..outcome(unit, Arm::To, observed, 0)
            };
            tally.add(&rails, true, &staff);
        }
        assert_eq!(tally.counts[1].1.units.to, 0);
        add(&mut tally, 7, Arm::To, Observed::SessionError, 0);
        assert_eq!(tally.counts[1].1.bad.to, 1);
        close(&mut tally, 1);
        assert_eq!(tally.split.seen, PerArm::default());
    }

    #[test]
    fn people_chosen_by_name_are_not_compared_with_people_chosen_by_chance() {
        let rails = Guardrails::default();
        for (randomised, units) in [(true, 0), (false, 1)] {
            let mut tally = Tally::new(&rails, UnixTime::default());
            let staff = Outcome {
                placed: None,
                ..outcome(7, Arm::To, Observed::Failed, 0)
            };
            tally.add(&rails, randomised, &staff);
            assert_eq!(login(&tally).0.to, units);
            let (_, burning) = tally.recent.to.of(rails.window, UnixTime::from_secs(1));
            assert_eq!(burning, 1, "a fire is a fire");
        }
    }

    #[test]
    fn however_many_fail_at_the_old_side_a_fire_at_the_new_one_is_seen() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        let failed = |arm, unit| outcome(unit, arm, Observed::Failed, 0);
        for unit in 0..=MAX_PEOPLE as u64 {
            tally.breaker(&failed(Arm::From, unit));
        }
        for unit in 0..20 {
            tally.breaker(&failed(Arm::To, unit));
            tally.breaker(&failed(Arm::To, unit));
        }
        let window = Duration::from_secs(60);
        let seen = tally.recent.to.of(window, UnixTime::from_secs(1));
        assert_eq!(seen, (20, 20));
    }

    #[test]
    fn a_browser_that_failed_is_the_person_who_signs_in_with_it_later() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        add(&mut tally, 1, Arm::To, Observed::Failed, 0);
        let known = Outcome {
            device: Some(1),
            ..outcome(99, Arm::To, GOOD, 30)
        };
        tally.add(&Guardrails::default(), true, &known);
        let (units, bad, _) = login(&tally);
        assert_eq!((units.to, bad.to), (1, 1));
    }

    #[test]
    fn sessions_and_logins_are_different_guards() {
        let mut tally = Tally::new(&Guardrails::default(), UnixTime::default());
        add(&mut tally, 1, Arm::To, Observed::SessionError, 0);
        add(&mut tally, 2, Arm::To, Observed::SessionHonoured, 0);
        add(&mut tally, 3, Arm::To, Observed::Abandoned, 0);
        let of = |n: usize| {
            let (_, count) = tally.counts.get(n).unwrap();
            (count.units.to, count.bad.to)
        };
        assert_eq!((of(0), of(1)), ((1, 1), (2, 1)));
    }

    #[test]
    fn slow_logins_are_compared_where_they_are_clocked() {
        let mut rails = Guardrails::default();
        rails.guards[0].bad = vec![BadOutcome::SlowerThan(Duration::from_millis(800))];
        let mut tally = Tally::new(&rails, UnixTime::default());
        for (unit, took) in [(1, Some(801)), (2, Some(800)), (3, None)] {
            let took = took.map(Duration::from_millis);
            tally.add(
                &rails,
                true,
                &outcome(unit, Arm::To, Observed::LoggedIn { took }, 0),
            );
        }
        let (units, bad, _) = login(&tally);
        assert_eq!((units.to, bad.to), (2, 1));
    }

    #[test]
    fn a_tally_survives_being_written() {
        let rails = Guardrails::default();
        let mut tally = Tally::new(&rails, UnixTime::default());
        add(&mut tally, 1, Arm::To, Observed::Failed, 0);
        add(&mut tally, 2, Arm::From, GOOD, 0);
        close(&mut tally, 1);
        let text = serde_json::to_string(&tally).unwrap();
        let mut back: Tally = serde_json::from_str(&text).unwrap();
        assert!(back.is_of(&rails));
        add(&mut back, 1, Arm::To, Observed::Failed, 60);
        assert_eq!(login(&back).1.to, 1, "the bad person is still known");
    }
}
