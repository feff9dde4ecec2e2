//! CPU time of single calls: medians of rounds; and what the slowest of a hundred takes.

#![expect(
    clippy::print_stdout,
    reason = "these programs exist to print their tables"
)]

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use tokio::time::Instant;

const ROUNDS: usize = 9;

/// The least CPU time of a round: some kernels count in ticks of 4 ms.
const ROUND_NANOS: u64 = 200_000_000;

/// What stands above the table.
pub(crate) fn heading() {
    println!("{:<40}{:>10}", "case", "µs");
}

/// Prints the median cost of one call. A call that does not do what it should ends the run.
pub(crate) fn report(name: &str, call: impl Fn() -> bool) {
    assert!(call(), "{name} does not do what it should");
    let round = |calls: u32| {
        let begin = cpu_nanos();
        for _ in 0..calls {
            black_box(call());
        }
        cpu_nanos() - begin
    };
    let mut calls = 64;
    while round(calls) < ROUND_NANOS {
        calls *= 2;
    }
    let mut rounds: Vec<u64> = (0..ROUNDS).map(|_| round(calls)).collect();
    rounds.sort_unstable();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let micros = median as f64 / f64::from(calls) / 1_000.0;
    println!("{name:<40}{micros:>10.2}");
}

/// How often a call is made whose slowest are looked at.
const SINGLES: usize = 100_000;

/// Prints the p99 of single calls, by the clock, and ends the run where it is above `most`.
pub(crate) fn tail(name: &str, most: Duration, call: impl Fn() -> bool) {
    assert!(call(), "{name} does not do what it should");
    let mut times: Vec<Duration> = (0..SINGLES)
        .map(|_| {
            let begin = Instant::now();
            black_box(call());
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let slow = times.get(SINGLES / 100 * 99).copied().unwrap_or_default();
    let (micros, bound) = (slow.as_secs_f64() * 1e6, most.as_micros());
    println!("{:<40}{micros:>10.2}", format!("{name}, p99"));
    assert!(
        slow <= most,
        "{name}: {micros:.2} µs, at most {bound} are promised"
    );
}

/// CPU time of this thread (`Documentation/scheduler/sched-stats.rst`, `/proc/<pid>/schedstat`).
fn cpu_nanos() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    first.expect("Linux shows the CPU time of a thread")
}
