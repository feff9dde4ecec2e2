//! CPU time of single calls: medians of rounds.

#![expect(
    clippy::print_stdout,
    reason = "these programs exist to print their tables"
)]

use std::fs;
use std::hint::black_box;

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

/// CPU time of this thread (`Documentation/scheduler/sched-stats.rst`, `/proc/<pid>/schedstat`).
fn cpu_nanos() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    first.expect("Linux shows the CPU time of a thread")
}
