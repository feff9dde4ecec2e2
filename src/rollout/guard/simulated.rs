//! What the guards promise, by simulation with the real arithmetic: false alarms, and how many people it takes to see harm.
//!
//! 200 logins a minute, 1 % of them bad at the old provider, 24 hours, one look a minute, three guards, five randomised
//! steps and no repetition: the evidence trips at `ln(15 / 0.05)` = 5.70.

use super::*;
use crate::clock::UnixTime;
use crate::rollout::Arm;

pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `n` happen, each with chance `p`.
    pub(super) fn binomial(&mut self, n: u32, p: f64) -> u32 {
        if p <= 0.0 {
            return 0;
        }
        if 0.3 < p {
            return (0..n).filter(|_| self.unit() < p).count() as u32;
        }
        let (mut place, mut hits) = (0.0, 0);
        loop {
            place += (self.unit().max(1e-300).ln() / (1.0 - p).ln()).floor() + 1.0;
            if f64::from(n) < place {
                return hits;
            }
            hits += 1;
        }
    }
}

#[derive(Clone, Copy)]
struct Case {
    share: f64,
    modern: f64,
    runs: u32,
    /// The window after which somebody who never came back counts, in minutes.
    delay: usize,
}

/// Over the runs that tripped: their share of all, and the means of people at `to`, bad ones, and minutes.
#[derive(Debug)]
struct Found {
    power: f64,
    units: f64,
    bad: f64,
    minutes: f64,
}

/// The same stream of people goes through [`Tally`], as it does in a running proxy.
fn simulate(case: Case, mut dice: Dice) -> Found {
    let mut rails = Guardrails {
        alpha_budget: 0.05 / 15.0,
        breaker: None,
        split: None,
        ..Guardrails::default()
    };
    rails.guards.truncate(1);
    rails.after_rollback.max_auto = 0;
    // The yardstick looks at the evidence and five bad people alone.
    rails.guards[0].min_effect = -1.0;
    let mut found = Found {
        power: 0.0,
        units: 0.0,
        bad: 0.0,
        minutes: 0.0,
    };
    for _ in 0..case.runs {
        let mut tally = Tally::new(&rails, UnixTime::default());
        let mut person = 0;
        let mut begun = 0;
        let mut waiting = std::collections::VecDeque::new();
        for minute in 1..=1_440_u64 {
            let modern = dice.binomial(200, case.share);
            let legacy = 200 - modern;
            let bad = (
                dice.binomial(modern, case.modern),
                dice.binomial(legacy, 0.01),
            );
            begun += modern;
            let now = UnixTime::from_secs(60 * minute);
            let mut tell = |unit, arm, observed| {
                let outcome = Outcome {
                    unit,
                    device: None,
                    arm,
                    observed,
                    placed: Some(arm),
                    at: now,
                };
                tally.add(&rails, true, &outcome);
            };
            let mut lost = (Vec::new(), Vec::new());
            for (arm, all, bad, lost) in [
                (Arm::To, modern, bad.0, &mut lost.0),
                (Arm::From, legacy, bad.1, &mut lost.1),
            ] {
                for n in 0..all {
                    person += 1;
                    tell(person, arm, Observed::Begun);
                    if n < bad {
                        lost.push(person);
                    } else {
                        tell(person, arm, Observed::LoggedIn { took: None });
                    }
                }
            }
            waiting.push_back(lost);
            if case.delay < waiting.len() {
                let (modern, legacy) = waiting.pop_front().unwrap();
                for person in modern {
                    tell(person, Arm::To, Observed::Abandoned);
                }
                for person in legacy {
                    tell(person, Arm::From, Observed::Abandoned);
                }
            }
            tally.close(&rails, case.share, now);
            let reading = tally.read(&rails, 1, true, now);
            if reading.guards[0].verdict == Verdict::Tripped {
                found.power += 1.0;
                found.units += f64::from(begun);
                found.bad += reading.guards[0].bad.to as f64;
                found.minutes += minute as f64;
                break;
            }
        }
    }
    let tripped = found.power.max(1.0);
    Found {
        power: found.power / f64::from(case.runs),
        units: found.units / tripped,
        bad: found.bad / tripped,
        minutes: found.minutes / tripped,
    }
}

/// One row of a table: what it took on average until harm was seen, over the runs in which it was.
struct Row {
    share: f64,
    /// The bad rate at the new provider.
    modern: f64,
    /// In how many of the runs it was seen within 24 hours.
    power: f64,
    units: f64,
    bad: f64,
    minutes: f64,
}

const fn row(share: f64, modern: f64, power: f64, units: f64, bad: f64, minutes: f64) -> Row {
    Row {
        share,
        modern,
        power,
        units,
        bad,
        minutes,
    }
}

/// The yardstick's table.
const TABLE: [Row; 15] = [
    row(0.01, 0.02, 0.28, 1_597.0, 40.0, 795.0),
    row(0.01, 0.03, 1.0, 926.0, 28.0, 462.0),
    row(0.01, 0.05, 1.0, 258.0, 13.0, 128.0),
    row(0.01, 0.20, 1.0, 27.0, 5.0, 13.6),
    row(0.01, 0.60, 1.0, 9.0, 6.0, 4.7),
    row(0.05, 0.02, 1.0, 4_671.0, 94.0, 467.0),
    row(0.05, 0.03, 1.0, 1_035.0, 31.0, 103.3),
    row(0.05, 0.05, 1.0, 281.0, 14.0, 28.1),
    row(0.05, 0.20, 1.0, 33.0, 7.0, 3.4),
    row(0.05, 0.60, 1.0, 13.0, 8.0, 1.3),
    row(0.25, 0.02, 1.0, 6_575.0, 131.0, 132.0),
    row(0.25, 0.03, 1.0, 1_461.0, 44.0, 29.2),
    row(0.25, 0.05, 1.0, 442.0, 22.0, 8.8),
    row(0.25, 0.20, 1.0, 67.0, 13.0, 1.3),
    row(0.25, 0.60, 1.0, 50.0, 30.0, 1.0),
];

/// The yardstick's table again, with a delay: whoever is bad never comes back, and the evidence of a minute is there when the window
/// of ten minutes ends.
const DELAYED: [Row; 15] = [
    row(0.01, 0.02, 0.29, 1_701.0, 42.0, 847.5),
    row(0.01, 0.03, 1.0, 948.0, 28.0, 473.6),
    row(0.01, 0.05, 1.0, 274.0, 13.0, 136.6),
    row(0.01, 0.20, 1.0, 47.0, 5.0, 23.3),
    row(0.01, 0.60, 1.0, 29.0, 6.0, 14.6),
    row(0.05, 0.02, 1.0, 4_739.0, 93.0, 473.9),
    row(0.05, 0.03, 1.0, 1_125.0, 30.0, 112.4),
    row(0.05, 0.05, 1.0, 376.0, 14.0, 37.5),
    row(0.05, 0.20, 1.0, 132.0, 7.0, 13.3),
    row(0.05, 0.60, 1.0, 113.0, 8.0, 11.2),
    row(0.25, 0.02, 1.0, 7_035.0, 130.0, 140.7),
    row(0.25, 0.03, 1.0, 1_938.0, 43.0, 38.8),
    row(0.25, 0.05, 1.0, 936.0, 22.0, 18.7),
    row(0.25, 0.20, 1.0, 565.0, 13.0, 11.3),
    row(0.25, 0.60, 1.0, 550.0, 30.0, 11.0),
];

/// In an optimised build (`make guards`) all of it; otherwise what takes a moment, with fewer runs.
const OPTIMISED: bool = !cfg!(debug_assertions);

/// A line of what was found, for `make guards`, which keeps it with its day.
pub(super) fn shown(what: &str, found: &str) {
    use std::io::Write as _;
    let Some(path) = std::env::var_os("GUARD_ROWS") else {
        return;
    };
    let open = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    // Tests that run at the same time write whole lines.
    let line = format!("{}\n", serde_json::json!([what, found]));
    open.unwrap().write_all(line.as_bytes()).unwrap();
}

fn reproduces(what: &str, table: &[Row], delay: usize) {
    // How far what was found is from the table, in parts of it.
    let mut worst = 0.0_f64;
    let quick = |row: &&Row| row.units / row.share < 10_000.0 && 0.99 < row.power;
    for row in table.iter().filter(|row| OPTIMISED || quick(row)) {
        let case = Case {
            share: row.share,
            modern: row.modern,
            runs: if OPTIMISED { 300 } else { 40 },
            delay,
        };
        let found = simulate(case, Dice(12_345_678_987_654_321));
        let (share, modern) = (row.share, row.modern);
        for (is, should) in [(found.units, row.units), (found.bad, row.bad)] {
            worst = worst.max((is - should).abs() / should);
        }
        assert!(
            (found.power - row.power).abs() <= 0.06,
            "{share} {modern}: {found:?}"
        );
        // Four standard errors of the long rows, in 300 runs and in 40.
        let (part, more) = if OPTIMISED { (0.12, 1.0) } else { (0.3, 2.0) };
        let near = |is: f64, should: f64| (is - should).abs() <= part * should + more;
        assert!(near(found.units, row.units), "{share} {modern}: {found:?}");
        assert!(near(found.bad, row.bad), "{share} {modern}: {found:?}");
        assert!(
            near(found.minutes, row.minutes),
            "{share} {modern}: {found:?}"
        );
    }
    let runs = if OPTIMISED { 300 } else { 40 };
    let found = format!("people, and bad ones, within {:.0} %", 100.0 * worst);
    shown(&format!("{what}, {runs} runs a row"), &found);
}

#[test]
fn the_guards_see_harm_as_early_as_the_table_says() {
    reproduces("turned away", &TABLE, 0);
}

/// Somebody who is shown a foreign error page never comes back.
#[test]
fn people_who_never_come_back_are_seen_a_window_later() {
    reproduces("never back", &DELAYED, 10);
}

/// What operators read is what was found.
#[test]
fn both_tables_are_printed_for_operators() {
    let readme = include_str!("../../../deploy/README.md");
    for (table, title) in [
        (&TABLE, "| It fails, or"),
        (&DELAYED, "| They never come back"),
    ] {
        let (_, printed) = readme.split_once(title).unwrap();
        let (printed, _) = printed.split_once("\n\n").unwrap();
        for rate in [0.6, 0.2, 0.05, 0.03, 0.02] {
            let of_rate = table.iter().filter(|row| (row.modern - rate).abs() < 1e-9);
            let cells: Vec<String> = of_rate
                .map(|row| {
                    let seen = format!("{:.0} / {:.0} / {:.0}", row.units, row.bad, row.minutes);
                    if row.power < 0.99 {
                        format!("{seen}, in {:.0} % of runs", 100.0 * row.power)
                    } else {
                        seen
                    }
                })
                .collect();
            let line = format!("| {:.0} % | {} |", 100.0 * rate, cells.join(" | "));
            assert!(printed.contains(&line), "{line}");
        }
    }
}

/// What `check --people` says is nothing better than the table.
#[test]
fn so_many_people_are_enough_at_whatever_share() {
    for row in &TABLE {
        let shown = shown_by(row.units.ceil() as u64 - 1);
        assert!(
            shown.is_none_or(|shown| row.modern <= shown),
            "{}",
            row.units
        );
    }
}

/// Whether the evidence alone accuses a rollout of 24 hours: one look every 30 s, as many people as `logins` a minute. Nobody
/// comes twice, so the counts alone are simulated; `healthy` has everything.
fn accused(share: f64, modern: f64, logins: u32, trip_at: f64, dice: &mut Dice) -> bool {
    let mut evidence = evidence::Evidence::new(1.25);
    let (mut units, mut all_bad) = (PerArm::<f64>::default(), PerArm::<f64>::default());
    for _ in 0..2_880 {
        let to = dice.binomial(logins / 2, share);
        let at_risk = PerArm {
            to: f64::from(to),
            from: f64::from(logins / 2 - to),
        };
        let bad = PerArm {
            to: f64::from(dice.binomial(to, modern)),
            from: f64::from(dice.binomial(logins / 2 - to, 0.01)),
        };
        evidence.add(at_risk, bad);
        units.to += at_risk.to;
        units.from += at_risk.from;
        all_bad.to += bad.to;
        all_bad.from += bad.from;
        let effect = all_bad.to / units.to.max(1.0) - all_bad.from / units.from.max(1.0);
        if trip_at <= evidence.ln_e() && 5.0 <= all_bad.to && 0.005 <= effect {
            return true;
        }
    }
    false
}

/// At the tolerated ratio itself, looked at 2 880 times, a guard that trips at `1/α` trips in a share of at most `α`.
#[test]
fn at_the_boundary_the_budget_holds() {
    let trip_at = (15.0_f64 / 0.05).ln();
    let mut dice = Dice(99_172_645_463_325_252);
    let tripped = (0..300)
        .filter(|_| accused(0.05, 0.0125, 200, trip_at, &mut dice))
        .count();
    // α = 1/300: one of 300 is expected at most; four would be a chance of 2 %.
    shown(
        "at the tolerated ratio, 300 runs",
        &format!("sent back: {tripped}"),
    );
    assert!(tripped <= 3, "{tripped}");
}
