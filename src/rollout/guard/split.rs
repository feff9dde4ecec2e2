//! Whether people arrive in the configured split: a two-sided Bernoulli mixture, valid at every look.
//!
//! A split that is off means that somebody is not counted: cookies are lost, or people give up before they are seen. No
//! comparison of the arms is worth anything then.

use serde::Deserialize;
use serde::Serialize;

use crate::rollout::guard::evidence::ln_mean_exp;
use crate::rollout::guard::tally::PerArm;

/// Odds that are assumed in place of the configured ones, as factors; each is tried in both directions.
const FACTORS: [f64; 10] = [1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.5, 5.0, 8.0];

/// What has been seen of the split in one step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct SplitEvidence {
    logs: Vec<f64>,
    /// People whose arm the percent chose.
    pub(super) seen: PerArm<u64>,
}

impl SplitEvidence {
    pub(super) fn new() -> Self {
        Self {
            logs: vec![0.0; 2 * FACTORS.len()],
            seen: PerArm::default(),
        }
    }

    /// Takes in people who arrived while `share` of the buckets belonged to `to`.
    pub(super) fn add(&mut self, arrived: PerArm<u64>, share: f64) {
        self.seen.to += arrived.to;
        self.seen.from += arrived.from;
        if share <= 0.0 || 1.0 <= share {
            // Nobody was given a choice.
            return;
        }
        let (to, from) = (arrived.to as f64, arrived.from as f64);
        let odds = FACTORS.iter().flat_map(|factor| [*factor, 1.0 / factor]);
        for (log, factor) in self.logs.iter_mut().zip(odds) {
            let assumed = share * factor / (1.0 - share + share * factor);
            *log += to * (assumed / share).ln() + from * ((1.0 - assumed) / (1.0 - share)).ln();
        }
    }

    pub(super) fn ln_e(&self) -> f64 {
        ln_mean_exp(&self.logs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ln_e(to: u64, from: u64, share: f64) -> f64 {
        let mut split = SplitEvidence::new();
        split.add(PerArm { to, from }, share);
        split.ln_e()
    }

    /// α = 0.0001 trips at 9.21.
    #[test]
    fn a_lost_tenth_is_seen_and_chance_is_not() {
        assert!(ln_e(500, 9_500, 0.05) < 0.0);
        assert!(ln_e(530, 9_470, 0.05) < 2.0);
        assert!(9.21 < ln_e(350, 9_650, 0.05));
        assert!(9.21 < ln_e(700, 9_300, 0.05));
        assert!(9.21 < ln_e(0, 300, 0.05));
        assert!(ln_e(100, 0, 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_expected_factor_is_one_at_the_configured_split() {
        for share in [0.0001, 0.05, 0.5, 0.98] {
            let expected =
                share * ln_e(1, 0, share).exp() + (1.0 - share) * ln_e(0, 1, share).exp();
            assert!((expected - 1.0).abs() < 1e-9, "{share}: {expected}");
        }
    }
}
