//! Steps that something is done in while requests go on: an end, reloads, another configuration.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::reload;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::Wire;
use crate::wire::h1;
use crate::world::Target;
use crate::world::Upstream;

/// Requests that go on until told otherwise; how many were sent, and what failed.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    async fn begin(runner: &Runner, course: &mut Course, clients: usize) -> Result<Self, Stop> {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let token = course.vars.value(runner, "ALICE").await?;
        let request =
            format!("GET /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        let tasks = (0..clients).map(|_| {
            let (stop, sent, request) = (Arc::clone(&stop), Arc::clone(&sent), request.clone());
            let wire = runner.target().map(|target| runner.world.public(target));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                let Ok(wire) = wire else { return failures };
                while !stop.load(Ordering::Relaxed) {
                    let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    match outcome.answers.first().map(|answer| answer.status) {
                        Some(200) => {}
                        other => failures
                            .push(format!("{other:?} {}", outcome.failed.unwrap_or_default())),
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                failures
            })
        });
        let tasks = tasks.collect();
        Ok(Self { stop, sent, tasks })
    }

    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap_or_default());
        }
        (self.sent.load(Ordering::Relaxed), failures)
    }
}

pub(super) async fn term(
    runner: &mut Runner,
    seconds: u64,
    course: &mut Course,
) -> Result<(), Stop> {
    let load = Load::begin(runner, course, 4).await?;
    sleep(Duration::from_millis(800)).await;
    let admin = Wire {
        to: runner.target()?.admin,
        tls: None,
    };
    runner.target()?.signal("TERM");
    sleep(Duration::from_millis(400)).await;
    let request = format!("GET /-/ready HTTP/1.1\r\nHost: {}\r\n\r\n", admin.to);
    let ready = h1::send(&admin, request.as_bytes(), h1::Wish::default()).await;
    let ready = ready.answers.first().map(|answer| answer.status);
    if ready != Some(503) {
        course.findings.push(format!(
            "readiness is {ready:?} while it says goodbye, not 503"
        ));
    }
    // Requests stop coming while the goodbye is still being said.
    sleep(Duration::from_millis(600)).await;
    let (sent, failures) = load.end().await;
    course
        .measured
        .push(format!("{sent} requests, {} failed", failures.len()));
    if let Some(first) = failures.first() {
        course.findings.push(format!(
            "{} of {sent} requests failed, first: {first}",
            failures.len()
        ));
    }
    let target = runner
        .target
        .as_mut()
        .ok_or_else(|| Stop::Fail("no proxy runs".to_owned()))?;
    match target.ends_within(Duration::from_secs(seconds)).await {
        Some(status) if status.success() => {}
        Some(status) => course.findings.push(format!("it ended with {status}")),
        None => course
            .findings
            .push(format!("it still runs after {seconds} s")),
    }
    Ok(())
}

pub(super) async fn reloads(
    runner: &mut Runner,
    count: u64,
    course: &mut Course,
) -> Result<(), Stop> {
    let yaml = runner.target()?.yaml();
    let descriptors = |runner: &Runner| -> usize {
        let pid = runner.target().map_or(0, Target::pid);
        std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
    };
    let load = Load::begin(runner, course, 4).await?;
    // What the first reloads set up is not a leak.
    for n in 0..5 {
        reload(runner, &format!("{yaml}# {n}\n")).await?;
    }
    let before = (descriptors(runner), runner.target()?.rss().unwrap_or(0));
    for n in 5..count {
        let status = reload(runner, &format!("{yaml}# {n}\n")).await?;
        if status != 200 {
            course
                .findings
                .push(format!("reload {n} was answered with {status}"));
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    let (sent, failures) = load.end().await;
    if let Some(first) = failures.first() {
        course.findings.push(format!(
            "{} of {sent} requests failed, first: {first}",
            failures.len()
        ));
    }
    sleep(Duration::from_millis(500)).await;
    let after = (descriptors(runner), runner.target()?.rss().unwrap_or(0));
    if before.0 + 16 < after.0 {
        course
            .findings
            .push(format!("descriptors grew from {} to {}", before.0, after.0));
    }
    if before.1 + before.1 / 4 + 8_192 < after.1 {
        course
            .findings
            .push(format!("memory grew from {} to {} KiB", before.1, after.1));
    }
    Ok(())
}

/// Two configurations: `/x` for admins at one upstream, or for anybody at another.
pub(super) async fn flip(
    runner: &mut Runner,
    seconds: u64,
    course: &mut Course,
) -> Result<(), Stop> {
    let other = Upstream::start().await;
    let a = runner.target()?.yaml();
    let route = "    routes:\n";
    let (one, both) = (
        format!("{route}      - {{ path: /x, require: {{ groups: [admins] }} }}\n"),
        format!(
            "{route}      - {{ path: /x, access: public, upstream: {{ url: \"http://{}\" }} }}\n",
            other.address
        ),
    );
    let (a, b) = (a.replacen(route, &one, 1), a.replacen(route, &both, 1));
    reload(runner, &a).await?;
    let wire = runner.world.public(runner.target()?);
    let stop = Arc::new(AtomicBool::new(false));
    let (first, second) = (runner.world.upstream.clone(), other.clone());
    let before = first.count();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (wire, stop) = (wire.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut strange = Vec::new();
                let request = b"GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n";
                let mut answers = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let outcome = h1::send(&wire, request, h1::Wish::default()).await;
                    answers += 1;
                    match outcome.answers.first().map(|answer| answer.status) {
                        Some(200 | 401 | 302) => {}
                        other => strange.push(format!("{other:?}")),
                    }
                }
                (answers, strange)
            })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut flips = 0;
    while Instant::now() < end {
        reload(runner, if flips % 2 == 0 { &b } else { &a }).await?;
        flips += 1;
        sleep(Duration::from_millis(15)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = 0;
    for client in clients {
        let (answers, strange) = client.await.unwrap_or_default();
        all += answers;
        course.findings.extend(strange.into_iter().take(3));
    }
    // Nobody here is an admin: what the first upstream got was let in by the other configuration.
    let torn = first.since(before).len();
    if 0 < torn {
        course.findings.push(format!(
            "{torn} of {all} requests reached the upstream of admins in {flips} flips"
        ));
    }
    if second.count() == 0 {
        course.findings.push(format!(
            "no request of {all} saw the second configuration in {flips} flips"
        ));
    }
    Ok(())
}
