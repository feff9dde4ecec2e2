//! Steps that send much, and look at what becomes of those who send little.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;

use super::metrics;
use super::number;
use crate::expect::SLOW;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::pattern;
use crate::tokens::base64url;
use crate::tokens::unique;
use crate::wire::Wire;
use crate::wire::h1;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    BadTokens,
    Metrics,
}

/// Good requests a second.
const GOOD: u64 = 100;
/// Connections that bad ones come on.
const LINES: u64 = 4;

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    match op {
        Op::BadTokens => bad_tokens(runner, arguments, course).await,
        Op::Metrics => {
            let (within, wanted) = (number(arguments[0]), pattern(arguments[1]));
            let start = Instant::now();
            while !metrics(runner).await?.lines().any(|l| wanted.is_match(l)) {
                if Duration::from_secs(within) < start.elapsed() {
                    let why = format!("no metric says {wanted} within {within} s");
                    course.findings.push(why);
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
    }
}

/// A flood of tokens that are bad in their last bytes: who has a good one is served as before, and nobody fetches keys for it.
async fn bad_tokens(
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let (seconds, rate) = (number(arguments[0]), number(arguments[1]));
    let bad = course.vars.value(runner, arguments[2]).await?;
    let wire = runner.world.public(runner.target()?);
    let idle = good(runner, Duration::from_secs(3), course).await?;
    let start = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    // Of lower priority: both cores are shared with the program, and what is asked for is what it does.
    let flood = std::thread::spawn(move || flood(&wire, &bad, rate, &theirs));
    let busy = good(runner, Duration::from_secs(seconds), course).await;
    stop.store(true, Ordering::Relaxed);
    let joined = tokio::task::spawn_blocking(move || flood.join()).await;
    let (sent, odd) = joined
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Stop::Fail("the flood ended by itself".to_owned()))?;
    let busy = busy?;
    // Nothing is proved by a flood that was none.
    if sent < seconds * rate / 20 {
        course
            .findings
            .push(format!("{SLOW}only {sent} bad tokens were sent"));
    }
    if let Some(first) = odd.first() {
        course
            .findings
            .push(format!("{} bad tokens: {first}", odd.len()));
    }
    let fetched = runner.world.new.hits("jwks", start).len();
    if 0 < fetched {
        course
            .findings
            .push(format!("keys were fetched {fetched} times"));
    }
    keeps(idle, busy, &format!("{sent} bad tokens"), course);
    Ok(())
}

/// The p99 of good requests beside a flood is at most four times what it is without.
pub(super) fn keeps(idle: Duration, busy: Duration, flood: &str, course: &mut Course) {
    let said = format!(
        "p99 of good requests: {} µs beside {flood}, {} µs without",
        busy.as_micros(),
        idle.as_micros()
    );
    if idle * 4 < busy {
        course.findings.push(format!("{SLOW}{said}"));
    }
    course.measured.push(said);
}

/// The p99 of good requests, each with a token that nobody has seen.
pub(super) async fn good(
    runner: &Runner,
    time: Duration,
    course: &mut Course,
) -> Result<Duration, Stop> {
    let mut line = h1::Line::new(runner.world.public(runner.target()?));
    let end = Instant::now() + time;
    let mut times = Vec::new();
    let mut due = Instant::now();
    while due < end {
        let name = format!("good-{}", base64url(unique()));
        let token = runner.world.mint.good(
            "new.access",
            &json!({ "sub": name, "preferred_username": name }),
        );
        let request =
            format!("GET /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        sleep_until(due).await;
        let start = Instant::now();
        let outcome = line.ask(request.as_bytes()).await;
        times.push(start.elapsed());
        let status = outcome.answers.first().map(|answer| answer.status);
        if status != Some(200) {
            let why = format!("a good request: {status:?} {:?}", outcome.failed);
            course.findings.push(why);
        }
        due = (due + Duration::from_secs(1) / u32::try_from(GOOD).unwrap_or(1)).max(Instant::now());
    }
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * 99 / 100;
    Ok(times.get(at).copied().unwrap_or_default())
}

/// Sends until told otherwise: how many were sent, and what was not answered 401.
fn flood(wire: &Wire, token: &str, rate: u64, stop: &AtomicBool) -> (u64, Vec<String>) {
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(id) = thread.file_name() {
        let words = ["-n", "19", "-p"];
        let nice = std::process::Command::new("renice")
            .args(words)
            .arg(id)
            .stdout(std::process::Stdio::null())
            .status();
        drop(nice);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return (0, vec!["no runtime".to_owned()]);
    };
    let (kept, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    // The same length, and never the same bytes.
    let rest = signature.get(20..).unwrap_or_default();
    let line = || async {
        let mut line = h1::Line::new(wire.clone());
        let (mut sent, mut odd) = (0, Vec::new());
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let first: String = base64url(unique()).chars().take(20).collect();
            let request = format!(
                "GET /api/x HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {kept}.{first}{rest}\r\n\r\n"
            );
            let outcome = line.ask(request.as_bytes()).await;
            sent += 1;
            let status = outcome.answers.first().map(|answer| answer.status);
            if status != Some(401) {
                odd.push(format!("{status:?} {:?}", outcome.failed));
            }
            due += Duration::from_secs(LINES) / u32::try_from(rate.max(1)).unwrap_or(1);
            sleep_until(due).await;
        }
        (sent, odd)
    };
    runtime.block_on(async {
        let lines = (0..LINES).map(|_| line());
        let all = futures_util::future::join_all(lines).await;
        let sent = all.iter().map(|(sent, _)| sent).sum();
        (sent, all.into_iter().flat_map(|(_, odd)| odd).collect())
    })
}
