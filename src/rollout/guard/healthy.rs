//! A healthy rollout of 24 hours through everything that may send it back: both guards, the breaker, the split, and what each of
//! three applications of different size has seen of its first; who finds no room there begins at the old side.

use std::collections::VecDeque;
use std::time::Duration;

use super::simulated::Dice;
use super::simulated::shown;
use super::*;
use crate::clock::UnixTime;
use crate::rollout::Arm;

/// So often is it looked whether anything burns; the arms are compared every 30 s.
const TICK: Duration = Duration::from_secs(5);
const TICKS_OF_A_DAY: u64 = 17_280;
const RETRY: usize = 12;
const WINDOW: usize = 120;
/// All of them in an optimised build: `make guards`. `cargo test` has a share of them.
const RUNS: usize = if cfg!(debug_assertions) { 18 } else { 300 };

#[derive(Clone, Copy, Debug)]
struct Day {
    /// How many start at `to`.
    share: f64,
    /// The bad rate at `from`, and …
    from: f64,
    /// … at `to`.
    to: f64,
    /// Logins a minute.
    logins: u32,
}

/// Which share of all sign-ins is one of each application.
const SIZES: [f64; 3] = [0.7, 0.25, 0.05];

#[derive(Clone, Copy)]
struct Event {
    unit: u64,
    app: usize,
    arm: Arm,
    /// Where the percent has them, which is not where they are if there was no room.
    placed: Arm,
    observed: Observed,
}

/// What becomes of the bound of an application.
fn fares(first: &mut First, rails: &Guardrails, event: &Event, now: UnixTime) {
    match (event.arm, event.observed) {
        (Arm::To, Observed::Begun) => first.sets_out(now + rails.window),
        (Arm::To, Observed::LoggedIn { .. }) => first.comes_back(),
        (Arm::To, Observed::Failed | Observed::Abandoned) => first.is_lost(),
        (
            Arm::To,
            Observed::Stumbled
            | Observed::SessionHonoured
            | Observed::SessionRejected
            | Observed::SessionError,
        )
        | (Arm::From, _) => {}
    }
}

/// What sent it back, and how many people were bad at `to` until then.
#[derive(Debug)]
struct Tripped {
    by: Box<str>,
    on_trip: OnTrip,
    tick: u64,
    people: u64,
}

/// Nobody comes twice. Half of the bad ones give up, half are turned away; half as many again are turned away once and get
/// in with the next try. Whoever is in is seen once more, two of a thousand of them in vain.
fn live(day: Day, ticks: u64, dice: &mut Dice) -> Option<Tripped> {
    let rails = Guardrails::default();
    let mut tally = Tally::new(&rails, UnixTime::default());
    let mut first = [First::default(); SIZES.len()];
    let mut later: VecDeque<Vec<Event>> = (0..=WINDOW).map(|_| Vec::new()).collect();
    let (mut unit, mut people) = (0, 0);
    for tick in 1..=ticks {
        let now = UnixTime::from_secs(1_000_000) + TICK * u32::try_from(tick).unwrap();
        let due = later.pop_front().unwrap_or_default();
        later.push_back(Vec::new());
        let mut now_seen = Vec::new();
        for _ in 0..dice.binomial(day.logins, 5.0 / 60.0) {
            unit += 1;
            let lot = dice.unit();
            let app = usize::from(SIZES[0] <= lot) + usize::from(SIZES[0] + SIZES[1] <= lot);
            let placed = if dice.unit() < day.share {
                Arm::To
            } else {
                Arm::From
            };
            let (arm, rate) = match placed {
                Arm::To if first[app].may_start(rails.first_logins, now) => {
                    people += 1;
                    (Arm::To, day.to)
                }
                Arm::To | Arm::From => (Arm::From, day.from),
            };
            let seen = |observed| Event {
                unit,
                app,
                arm,
                placed,
                observed,
            };
            fares(&mut first[app], &rails, &seen(Observed::Begun), now);
            now_seen.push(seen(Observed::Begun));
            let fate = dice.unit();
            if fate < rate / 2.0 {
                later[WINDOW - 1].push(seen(Observed::Abandoned));
            } else if fate < rate {
                now_seen.push(seen(Observed::Stumbled));
                later[RETRY - 1].push(seen(Observed::Failed));
            } else {
                if fate < rate * 1.5 {
                    now_seen.push(seen(Observed::Stumbled));
                }
                later[2].push(seen(Observed::LoggedIn { took: None }));
                later[3].push(seen(if dice.unit() < 0.002 {
                    Observed::SessionError
                } else {
                    Observed::SessionHonoured
                }));
            }
        }
        if due.is_empty() && now_seen.is_empty() {
            continue;
        }
        for event in due.into_iter().chain(now_seen) {
            let Event {
                unit,
                app,
                arm,
                placed,
                observed,
            } = event;
            if !matches!(observed, Observed::Begun) {
                fares(&mut first[app], &rails, &event, now);
            }
            let of_a_session =
                matches!(observed, Observed::SessionHonoured | Observed::SessionError);
            let outcome = Outcome {
                unit,
                device: None,
                arm,
                observed,
                placed: Some(if of_a_session { arm } else { placed }),
                at: now,
            };
            tally.add(&rails, true, &outcome);
        }
        if first.iter().any(|seen| seen.fires(rails.first_logins)) {
            return Some(Tripped {
                by: "first".into(),
                on_trip: OnTrip::Rollback,
                tick,
                people,
            });
        }
        if tick % 6 == 0 {
            tally.close(&rails, day.share, now);
        }
        let findings = tally.read(&rails, 5, true, now);
        if let Some((by, on_trip)) = findings.tripped().into_iter().next() {
            return Some(Tripped {
                by,
                on_trip,
                tick,
                people,
            });
        }
    }
    None
}

/// Shares, bad rates that are the same at both sides, and loads.
fn days() -> impl Iterator<Item = Day> {
    let shares = [0.01, 0.05, 0.1, 0.25, 0.5, 0.98];
    let rates = [0.01, 0.05, 0.1];
    let loads = [20, 50, 100];
    (0..RUNS).map(move |run| Day {
        share: shares[run % 6],
        from: rates[run / 6 % 3],
        to: rates[run / 6 % 3],
        logins: loads[(run + run / 6) % 3],
    })
}

#[test]
fn a_healthy_day_is_left_alone_three_hundred_times() {
    let mut seed = 88_172_645_463_325_252;
    let mut sent_back = Vec::new();
    for day in days() {
        seed += 1_000_003;
        if let Some(tripped) = live(day, TICKS_OF_A_DAY, &mut Dice(seed)) {
            sent_back.push((day, tripped));
        }
    }
    let what = format!("healthy days of 24 hours, {RUNS}");
    shown(&what, &format!("sent back: {}", sent_back.len()));
    assert!(sent_back.len() <= 1, "{sent_back:?}");
}

/// What is ordinary at `from` must not hide a fire.
#[test]
fn six_in_ten_who_do_not_get_in_are_a_fire_within_a_few_minutes() {
    for (run, from) in [0.01, 0.05, 0.1].into_iter().enumerate() {
        let day = Day {
            share: 0.5,
            from,
            to: 0.6,
            logins: 100,
        };
        let mut dice = Dice(77_172_645_463_325_252 + run as u64);
        let tripped = live(day, 60, &mut dice).unwrap();
        assert_eq!(tripped.on_trip, OnTrip::Rollback);
        assert!(
            tripped.people <= 100 && tripped.tick <= 36 && tripped.by.len() < 8,
            "`breaker` or `login`, within three minutes: {from}: {tripped:?}"
        );
    }
}
