//! The evidence that the new provider is worse than allowed: a one-sided mixture e-process on the ratio of bad people.
//!
//! Under every true ratio up to the tolerated one each factor has an expectation of at most one, so by Ville's inequality
//! the chance of *ever* reaching `1/α` is at most `α`, whatever the number of looks; the share of traffic may change at any
//! time, because each interval uses its own.

use serde::Deserialize;
use serde::Serialize;

use crate::rollout::guard::tally::PerArm;

/// Alternatives: ratios from 1.2 to 200 times the tolerated one, evenly spaced on a logarithmic scale.
const ALTERNATIVES: u8 = 32;
const NEAREST: f64 = 1.2;
const FARTHEST: f64 = 200.0;

/// What has been seen of one guard in one step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Evidence {
    tolerated: f64,
    /// The logarithm of each alternative's likelihood ratio.
    logs: Vec<f64>,
}

impl Evidence {
    /// Nothing seen yet, against the tolerated ratio `bad rate at to / bad rate at from`.
    pub(super) fn new(tolerated: f64) -> Self {
        Self {
            tolerated,
            logs: vec![0.0; usize::from(ALTERNATIVES)],
        }
    }

    /// Takes in one interval: how many people were at risk in it, and how many of them turned out bad.
    pub(super) fn add(&mut self, at_risk: PerArm<f64>, bad: PerArm<f64>) {
        let (modern, legacy) = (at_risk.to, at_risk.from);
        if modern <= 0.0 || legacy <= 0.0 || (bad.to <= 0.0 && bad.from <= 0.0) {
            // With one arm alone nothing can be compared, and without anybody bad every factor is one.
            return;
        }
        let chance = |ratio: f64| modern * ratio / (modern * ratio + legacy);
        let tolerated = chance(self.tolerated);
        for (log, ratio) in self.logs.iter_mut().zip(alternatives(self.tolerated)) {
            let assumed = chance(ratio);
            *log += bad.to * (assumed / tolerated).ln()
                + bad.from * ((1.0 - assumed) / (1.0 - tolerated)).ln();
        }
    }

    /// The logarithm of the mixture.
    pub(super) fn ln_e(&self) -> f64 {
        ln_mean_exp(&self.logs)
    }
}

fn alternatives(tolerated: f64) -> impl Iterator<Item = f64> {
    (0..ALTERNATIVES).map(move |n| {
        let place = f64::from(n) / f64::from(ALTERNATIVES - 1);
        tolerated * NEAREST * (FARTHEST / NEAREST).powf(place)
    })
}

/// `ln(mean(exp(x)))`, without overflow.
pub(super) fn ln_mean_exp(logs: &[f64]) -> f64 {
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - highest).exp()).sum();
    highest + (sum / logs.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(to: f64, from: f64) -> PerArm<f64> {
        PerArm { to, from }
    }

    #[test]
    fn nothing_seen_is_no_evidence() {
        let mut evidence = Evidence::new(1.25);
        assert!(evidence.ln_e().abs() < 1e-12);
        evidence.add(arm(10.0, 0.0), arm(10.0, 0.0));
        evidence.add(arm(10.0, 10.0), arm(0.0, 0.0));
        assert!(evidence.ln_e().abs() < 1e-12);
    }

    #[test]
    fn bad_people_at_the_new_provider_are_evidence_and_at_the_old_one_against() {
        let mut evidence = Evidence::new(1.25);
        evidence.add(arm(10.0, 190.0), arm(6.0, 2.0));
        assert!(5.7 < evidence.ln_e(), "{}", evidence.ln_e());
        let mut evidence = Evidence::new(1.25);
        evidence.add(arm(10.0, 190.0), arm(0.0, 20.0));
        assert!(evidence.ln_e() < 0.0, "{}", evidence.ln_e());
    }

    /// In expectation no factor grows at the tolerated ratio: this is what makes looking again and again harmless.
    #[test]
    fn the_expected_factor_is_one_at_the_tolerated_ratio() {
        let (modern, legacy) = (7.0, 93.0);
        let chance = modern * 1.25 / (modern * 1.25 + legacy);
        let factor = |to: f64| {
            let mut evidence = Evidence::new(1.25);
            evidence.add(arm(modern, legacy), arm(to, 1.0 - to));
            evidence.ln_e().exp()
        };
        let expected = chance * factor(1.0) + (1.0 - chance) * factor(0.0);
        assert!((expected - 1.0).abs() < 1e-9, "{expected}");
    }
}
