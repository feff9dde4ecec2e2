//! What a number of people can prove: an upper bound of the bad rate that stays valid however often it is looked at.

use crate::rollout::guard::tally::PerArm;

/// The mixing distribution: Beta(0.5, 50) expects bad rates about one percent.
const PRIOR: PerArm<f64> = PerArm {
    to: 0.5,
    from: 50.0,
};
const ALPHA: f64 = 0.05;

/// So many people at the new provider show such a bad rate at the latest, where 1 % are bad at the old one: by simulation of
/// the guards as shipped, whatever share of people is there (`simulated` holds it).
const SHOWN: [(u64, f64); 5] = [
    (6_600, 0.02),
    (1_500, 0.03),
    (450, 0.05),
    (70, 0.20),
    (50, 0.60),
];

/// The smallest bad rate that so many people at the new provider show, where 1 % are bad at the old one; `None`: none.
pub fn shown_by(people: u64) -> Option<f64> {
    let mut enough = SHOWN.iter().filter(|(units, _)| *units <= people);
    enough.next().map(|(_, rate)| *rate)
}

/// The highest bad rate that `bad` of `people` leave possible, at 95 % (Robbins' beta-binomial mixture); 1 without people.
pub fn bad_rate_upper_bound(people: u64, bad: u64) -> f64 {
    if people == 0 {
        return 1.0;
    }
    let (bad, good) = (bad.min(people) as f64, people.saturating_sub(bad) as f64);
    let mixture = ln_beta(PRIOR.to + bad, PRIOR.from + good) - ln_beta(PRIOR.to, PRIOR.from);
    let against = |rate: f64| {
        let unlikely = if bad > 0.0 { bad * rate.ln() } else { 0.0 };
        mixture - unlikely - good * (1.0 - rate).ln()
    };
    let (mut possible, mut excluded) = ((bad / people as f64).max(1e-12), 1.0 - 1e-12);
    for _ in 0..100 {
        let middle = f64::midpoint(possible, excluded);
        if (1.0 / ALPHA).ln() <= against(middle) {
            excluded = middle;
        } else {
            possible = middle;
        }
    }
    excluded
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Stirling's series, after the argument was raised above 10 by the recurrence; good to 1e-12.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series =
        (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_people_show_less() {
        let of = |people| shown_by(people).map(|rate| (100.0 * rate).round() as u32);
        assert_eq!((of(49), of(50), of(92)), (None, Some(60), Some(20)));
        assert_eq!(
            (of(460), of(1_500), of(10_000)),
            (Some(5), Some(3), Some(2))
        );
    }

    #[test]
    fn the_gamma_function_is_the_factorial() {
        for (x, factorial) in [
            (1.0, 1.0_f64),
            (2.0, 1.0),
            (6.0, 120.0),
            (11.0, 3_628_800.0),
        ] {
            assert!((ln_gamma(x) - factorial.ln()).abs() < 1e-11, "{x}");
        }
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-11);
    }

    /// What the documentation promises that so many people can prove, in percent.
    #[test]
    fn so_many_people_prove_so_much() {
        for (people, none, one) in [
            (30, 10.2, 20.7),
            (100, 3.5, 6.3),
            (300, 1.3, 2.2),
            (1_000, 0.45, 0.72),
            (3_000, 0.17, 0.26),
            (10_000, 0.056, 0.085),
        ] {
            let near = |bad, expected: f64| {
                let bound = 100.0 * bad_rate_upper_bound(people, bad);
                assert!(
                    (bound / expected - 1.0).abs() < 0.03,
                    "{people}/{bad}: {bound}"
                );
            };
            near(0, none);
            near(1, one);
        }
        assert!((bad_rate_upper_bound(0, 0) - 1.0).abs() < f64::EPSILON);
        assert!(0.99 < bad_rate_upper_bound(10, 10));
    }
}
