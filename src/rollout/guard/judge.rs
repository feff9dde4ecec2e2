//! What the counts of a step say: one reading a guard, and whether it trips.

use serde::Serialize;

use crate::clock::UnixTime;
use crate::rollout::guard::bound::bad_rate_upper_bound;
use crate::rollout::guard::breaker;
use crate::rollout::guard::breaker::Burning;
use crate::rollout::guard::limit::LimitReading;
use crate::rollout::guard::settings::Guard;
use crate::rollout::guard::settings::Guardrails;
use crate::rollout::guard::settings::NoData;
use crate::rollout::guard::settings::OnTrip;
use crate::rollout::guard::tally::PerArm;
use crate::rollout::guard::tally::Tally;

/// What a guard says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is proved against the new provider.
    Ok,
    /// Nobody was seen on one of the sides: nothing can be compared.
    NoData,
    /// It is worse than allowed.
    Tripped,
}

impl Verdict {
    /// The word in records and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoData => "no_data",
            Self::Tripped => "tripped",
        }
    }
}

/// One guard, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardReading {
    /// Its name.
    pub id: Box<str>,
    /// People in this step.
    pub units: PerArm<u64>,
    /// Bad ones.
    pub bad: PerArm<u64>,
    /// Bad rate at `to` by that at `from`; `None` without anybody bad at `from`.
    pub ratio: Option<f64>,
    /// Bad rate at `to` less that at `from`.
    pub effect: f64,
    /// The logarithm of the evidence.
    pub log_e: f64,
    /// Where it trips.
    pub trip_at: f64,
    /// What it says.
    pub verdict: Verdict,
    /// What follows.
    pub on_trip: OnTrip,
    /// What follows where there is no data.
    pub no_data: NoData,
}

/// The split, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitReading {
    /// People whose side the percent chose.
    pub seen: PerArm<u64>,
    /// The logarithm of the evidence.
    pub log_e: f64,
    /// Where it trips.
    pub trip_at: f64,
    /// What it says.
    pub verdict: Verdict,
    /// What follows.
    pub on_trip: OnTrip,
}

/// Everything, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// When it was read.
    pub at: UnixTime,
    /// Since when it is counted; `None`: nobody has looked yet.
    pub since: Option<UnixTime>,
    /// The comparisons.
    pub guards: Vec<GuardReading>,
    /// What may not be more than so much.
    pub limits: Vec<LimitReading>,
    /// The split, if it is checked.
    pub split: Option<SplitReading>,
    /// What the breaker looks at.
    pub burning: Burning,
    /// What follows, if it burns.
    pub breaker: Option<OnTrip>,
}

impl Findings {
    /// Nothing was seen: no guard watches, or nobody has looked yet.
    pub const fn none(at: UnixTime) -> Self {
        Self {
            at,
            since: None,
            guards: Vec::new(),
            limits: Vec::new(),
            split: None,
            burning: Burning {
                people: 0,
                bad: 0,
                ordinary: 0.0,
                none_came_back: false,
            },
            breaker: None,
        }
    }

    /// The guards that have tripped, and what follows each; the breaker and the split go by their names.
    pub fn tripped(&self) -> Vec<(Box<str>, OnTrip)> {
        let guards = self.guards.iter();
        let guards = guards.filter(|guard| guard.verdict == Verdict::Tripped);
        let split = self.split.iter();
        let split = split.filter(|split| split.verdict == Verdict::Tripped);
        let limits = self.limits.iter();
        let limits = limits.filter(|limit| limit.verdict == Verdict::Tripped);
        guards
            .map(|guard| (guard.id.clone(), guard.on_trip))
            .chain(limits.map(|limit| (limit.id.clone(), limit.on_trip)))
            .chain(self.breaker.map(|on_trip| ("breaker".into(), on_trip)))
            .chain(split.map(|split| ("split".into(), split.on_trip)))
            .collect()
    }

    /// So many people at `to` has every guard judged without which the step is not left; where there is none of these, any.
    pub fn people_at_to(&self) -> u64 {
        let waited_for = self.guards.iter().filter(|g| g.no_data != NoData::Proceed);
        let least = waited_for.map(|guard| guard.units.to).min();
        let most = self.guards.iter().map(|guard| guard.units.to).max();
        least.or(most).unwrap_or(0)
    }

    /// The guards that have seen nobody at one of the sides, and matter.
    pub fn without_data(&self) -> impl Iterator<Item = &GuardReading> {
        let guards = self.guards.iter();
        guards.filter(|g| g.verdict == Verdict::NoData && g.no_data != NoData::Proceed)
    }

    /// The worst bad rate that is still possible at `to`, over the guards of logins and sessions.
    pub fn bad_rate_upper_bound(&self) -> f64 {
        let bounds = self
            .guards
            .iter()
            .map(|guard| bad_rate_upper_bound(guard.units.to, guard.bad.to));
        bounds.fold(0.0, f64::max)
    }
}

impl Tally {
    /// Reads the counts as they stand. `randomised_steps` of the whole rollout share the budget; a step whose people
    /// were chosen by name is not randomised, and its arms are not compared.
    pub fn read(
        &self,
        rails: &Guardrails,
        randomised_steps: usize,
        randomised: bool,
        now: UnixTime,
    ) -> Findings {
        let trip_at = rails.trip_at(randomised_steps);
        let guards = rails.guards.iter().filter_map(|guard| {
            let (_, count) = self.counts.iter().find(|(id, _)| *id == guard.id)?;
            Some(read_guard(
                guard,
                count.units,
                count.bad,
                count.evidence.ln_e(),
                trip_at,
                randomised,
            ))
        });
        let split = rails.split.as_ref().filter(|_| randomised).map(|rule| {
            let (log_e, trip_at) = (self.split.ln_e(), (1.0 / rule.alpha).ln());
            let seen = self.split.seen;
            SplitReading {
                seen,
                log_e,
                trip_at,
                verdict: match seen.to + seen.from {
                    0 => Verdict::NoData,
                    _ if trip_at <= log_e => Verdict::Tripped,
                    _ => Verdict::Ok,
                },
                on_trip: rule.on_trip,
            }
        });
        let breaker = rails.breaker.as_ref();
        let recent = (&self.recent.to, &self.recent.from);
        let burning = breaker.map(|rule| breaker::look(rule, recent, self.fared, now));
        let burning = burning.unwrap_or_default();
        Findings {
            at: now,
            since: Some(self.since),
            guards: guards.collect(),
            // They are read beside the people of the step.
            limits: Vec::new(),
            split,
            breaker: breaker
                .filter(|rule| breaker::trips(rule, &burning))
                .map(|rule| rule.on_trip),
            burning,
        }
    }
}

fn read_guard(
    guard: &Guard,
    units: PerArm<u64>,
    bad: PerArm<u64>,
    log_e: f64,
    trip_at: f64,
    randomised: bool,
) -> GuardReading {
    let rate = |bad: u64, units: u64| {
        if units == 0 {
            0.0
        } else {
            bad as f64 / units as f64
        }
    };
    let (modern, legacy) = (rate(bad.to, units.to), rate(bad.from, units.from));
    let effect = modern - legacy;
    let proved =
        trip_at <= log_e && u64::from(guard.min_bad_units) <= bad.to && guard.min_effect <= effect;
    GuardReading {
        id: guard.id.clone(),
        units,
        bad,
        ratio: (0.0 < legacy).then(|| modern / legacy),
        effect,
        log_e,
        trip_at,
        verdict: match (units.to, units.from) {
            (0, _) | (_, 0) => Verdict::NoData,
            _ if randomised && proved => Verdict::Tripped,
            _ => Verdict::Ok,
        },
        on_trip: guard.on_trip,
        no_data: guard.no_data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(units: (u64, u64), bad: (u64, u64), log_e: f64, randomised: bool) -> GuardReading {
        let guard = Guardrails::default().guards.swap_remove(0);
        let arm = |(to, from)| PerArm { to, from };
        read_guard(&guard, arm(units), arm(bad), log_e, 5.7, randomised)
    }

    /// A bad afternoon: a redirect address was typed wrong for one route.
    #[test]
    fn a_reading_says_how_much_worse_it_is() {
        let reading = reading((238, 4_520), (13, 43), 6.71, true);
        assert_eq!(reading.verdict, Verdict::Tripped);
        assert!(
            (reading.effect - 0.045).abs() < 0.0005,
            "{}",
            reading.effect
        );
        assert!((reading.ratio.unwrap() - 5.74).abs() < 0.01);
    }

    #[test]
    fn evidence_alone_does_not_trip() {
        assert_eq!(
            reading((10, 900), (4, 9), 9.0, true).verdict,
            Verdict::Ok,
            "four people"
        );
        assert_eq!(
            reading((100_000, 100_000), (1_400, 1_000), 9.0, true).verdict,
            Verdict::Ok,
            "0.4 points"
        );
        assert_eq!(
            reading((238, 4_520), (13, 43), 5.69, true).verdict,
            Verdict::Ok
        );
        assert_eq!(
            reading((238, 4_520), (13, 43), 6.71, false).verdict,
            Verdict::Ok,
            "staff are not customers"
        );
        assert_eq!(
            reading((238, 0), (13, 0), 0.0, true).verdict,
            Verdict::NoData
        );
    }
}
