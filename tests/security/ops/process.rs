//! Steps that concern the process: its configuration, its certificate, its start and its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::counted;
use super::metrics;
use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::Stream;
use crate::wire::Wire;
use crate::wire::h1;
use crate::world::Target;
use crate::world::Upstream;
use crate::world::pki::Flaw;
use crate::world::target::ADMIN_TOKEN;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Again,
    Fresh,
    Refused,
    ReloadRefused,
    Reload,
    Replaced,
    Revoke,
    Term,
    Reloads,
    Flip,
    Certificate,
    Descriptors,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    match op {
        Op::Again => {
            let target = runner
                .target
                .take()
                .ok_or_else(|| Stop::Fail("no proxy runs".to_owned()))?;
            runner.target = Some(target.again(&runner.world).map_err(Stop::Fail)?);
        }
        Op::Fresh => {
            let plan = runner.target()?.plan.clone();
            runner.target = None;
            runner.ensure(plan).await?;
        }
        Op::Refused => refused(runner, arguments, course).await?,
        Op::ReloadRefused => {
            let yaml = edited(runner, arguments)?;
            if reload(runner, &yaml).await? < 400 {
                course.findings.push(format!(
                    "the reload was taken: {} became {}",
                    arguments[0], arguments[1]
                ));
            }
        }
        Op::Reload | Op::Replaced => {
            let yaml = if op == Op::Replaced {
                replaced(&runner.target()?.yaml())
            } else {
                edited(runner, arguments)?
            };
            let status = reload(runner, &yaml).await?;
            if status != 200 {
                let log = runner.target()?.log_since(course.log);
                let end: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(Stop::Fail(format!(
                    "the reload was answered with {status}: {end:?}"
                )));
            }
        }
        Op::Revoke => {
            let named = course.vars.fill(runner, arguments[0]).await?;
            revoke(runner, &named).await?;
        }
        Op::Term => term(runner, number(arguments[0]), course).await?,
        Op::Reloads => reloads(runner, number(arguments[0]), course).await?,
        Op::Flip => flip(runner, number(arguments[0]), course).await?,
        Op::Certificate => certificate(runner, arguments[0], course).await?,
        Op::Descriptors => {
            descriptors(runner, number(arguments[0]), number(arguments[1]), course).await?
        }
    }
    Ok(())
}

/// The configuration with another text in it.
fn edited(runner: &Runner, arguments: &[&str]) -> Result<String, Stop> {
    let yaml = runner.target()?.yaml();
    let directory = runner.target()?.directory().display().to_string();
    let pki = runner.world.pki.directory().display().to_string();
    let upstream = format!("http://{}", runner.world.upstream.address);
    let of = |text: &str| {
        text.replace("@DIR@", &directory)
            .replace("@PKI@", &pki)
            .replace("@UPSTREAM@", &upstream)
    };
    let (from, to) = (of(arguments[0]), of(arguments[1]));
    if !yaml.contains(&from) {
        return Err(Stop::Skip(format!("the configuration has no `{from}`")));
    }
    Ok(yaml.replace(&from, &to))
}

/// The configuration with another provider in the place of the new one: what began at that one has nobody to end it.
fn replaced(yaml: &str) -> String {
    let mut yaml = yaml.to_owned();
    for (from, to) in [
        ("\n  new:\n", "\n  newer:\n"),
        ("to: new }", "to: newer }"),
        ("  to: new\n", "  to: newer\n"),
        ("provider: new,", "provider: newer,"),
    ] {
        yaml = yaml.replace(from, to);
    }
    yaml
}

/// Replaces the file and asks for a reload; the status of the answer.
pub(super) async fn reload(runner: &Runner, yaml: &str) -> Result<u16, Stop> {
    let target = runner.target()?;
    target.edit(yaml).map_err(Stop::Fail)?;
    let wire = Wire {
        to: target.admin,
        tls: None,
    };
    let request = format!(
        "POST /-/reload HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: 0\r\n\r\n",
        target.admin
    );
    let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
    let status = outcome.answers.first().map(|answer| answer.status);
    status.ok_or_else(|| Stop::Fail("no answer to the reload".to_owned()))
}

/// Has the operator revoke something.
pub(super) async fn revoke(runner: &Runner, target: &str) -> Result<(), Stop> {
    let named = target
        .replace("@NEW@", &runner.world.new.issuer())
        .replace("@OLD@", &runner.world.old.issuer());
    let body = format!("{{\"target\":{named},\"reason\":\"a case\"}}");
    let to = runner.target()?.admin;
    let request = format!(
        "POST /admin/v1/revocations HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let outcome = h1::send(
        &Wire { to, tls: None },
        request.as_bytes(),
        h1::Wish::default(),
    )
    .await;
    match outcome.answers.first().map(|answer| answer.status) {
        Some(200) => Ok(()),
        status => Err(Stop::Fail(format!(
            "the revocation was answered with {status:?}"
        ))),
    }
}

async fn refused(runner: &mut Runner, arguments: &[&str], course: &mut Course) -> Result<(), Stop> {
    let yaml = edited(runner, arguments)?;
    let plan = runner.target()?.plan.clone();
    let kind = runner.target()?.kind();
    let directory = tempfile::tempdir().map_err(|e| Stop::Fail(e.to_string()))?;
    let start = Instant::now();
    let started = Target::start_with(kind, &plan, &runner.world, directory, &yaml);
    let took = start.elapsed();
    match started {
        Ok(_) => course.findings.push(format!(
            "it started although {} became {}",
            arguments[0], arguments[1]
        )),
        Err(log) if !log.contains(arguments[2]) => {
            course
                .findings
                .push(format!("the message does not name {}: {log}", arguments[2]));
        }
        Err(log) if !log.contains(".yaml:") => course
            .findings
            .push(format!("the message names no line: {log}")),
        Err(_) => {
            let millis = took.as_millis();
            course.measured.push(format!("refused after {millis} ms"));
            if Duration::from_secs(2) < took {
                course
                    .findings
                    .push(format!("the refusal took {millis} ms"));
            }
        }
    }
    Ok(())
}

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

async fn term(runner: &mut Runner, seconds: u64, course: &mut Course) -> Result<(), Stop> {
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

async fn reloads(runner: &mut Runner, count: u64, course: &mut Course) -> Result<(), Stop> {
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
async fn flip(runner: &mut Runner, seconds: u64, course: &mut Course) -> Result<(), Stop> {
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

async fn certificate(runner: &mut Runner, words: &str, course: &mut Course) -> Result<(), Stop> {
    let pki = &runner.world.pki;
    let directory = runner.target()?.directory().to_path_buf();
    let (certificate, key) = (directory.join("tls.pem"), directory.join("tls.key"));
    let wire = runner.world.public(runner.target()?);
    let before = wire.certificate().await.map_err(Stop::Fail)?;
    // Somebody has a connection already, and keeps it.
    let mut kept = wire.connect(b"http/1.1").await.map_err(Stop::Fail)?;
    let served = async |stream: &mut dyn Stream| -> bool {
        let request = b"GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n";
        let mut answer = [0; 12];
        let asked = stream.write_all(request).await.is_ok() && stream.flush().await.is_ok();
        let answered = timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await;
        // The rest of it is what the upstream says.
        let mut rest = [0; 8_192];
        drop(timeout(Duration::from_millis(200), stream.read(&mut rest)).await);
        asked && matches!(answered, Ok(Ok(_))) && answer == *b"HTTP/1.1 200"
    };
    if !served(&mut *kept).await {
        return Err(Stop::Fail("the first connection is not served".to_owned()));
    }
    let put = |path: &std::path::Path, text: &str| -> Result<(), Stop> {
        let beside = path.with_extension("new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(|e| Stop::Fail(e.to_string()))
    };
    let (new, new_key) = pki.pair(Flaw::None);
    let (other, _) = pki.pair(Flaw::None);
    let (old, old_key) = pki.pair(Flaw::Expired);
    let expected = match words {
        "atomically" => {
            put(&key, &new_key)?;
            put(&certificate, &new)?;
            true
        }
        "in place, the key first" => {
            let write = |path: &std::path::Path, text: &str| {
                std::fs::write(path, text).map_err(|e| Stop::Fail(e.to_string()))
            };
            write(&key, &new_key)?;
            sleep(Duration::from_millis(300)).await;
            write(&certificate, &new)?;
            true
        }
        "with a mismatched pair" => {
            put(&key, &new_key)?;
            put(&certificate, &other)?;
            false
        }
        "with an expired certificate" => {
            put(&key, &old_key)?;
            put(&certificate, &old)?;
            false
        }
        _ => return Err(Stop::Skip(format!("not understood: {words}"))),
    };
    let start = Instant::now();
    let mut changed = false;
    while start.elapsed() < Duration::from_secs(5) && !changed {
        sleep(Duration::from_millis(100)).await;
        changed = match wire.certificate().await {
            Ok(now) => now != before,
            Err(why) => {
                course.findings.push(format!("{words}: {why}"));
                return Ok(());
            }
        };
    }
    if !served(&mut *kept).await {
        course
            .findings
            .push(format!("{words}: a connection that was open is not served"));
    }
    // When it ends is known long before.
    let expiry = "authferry_certificate_expiry_timestamp_seconds{";
    let ends = counted(&metrics(runner).await?, expiry);
    if ends < crate::now() as f64 {
        course
            .findings
            .push(format!("{words}: it is said to end at {ends}"));
    }
    let took = start.elapsed().as_millis();
    course.measured.push(if changed {
        format!("{words}: served after {took} ms")
    } else {
        format!("{words}: not served within {took} ms")
    });
    if changed != expected {
        let how = if changed {
            "another certificate is served"
        } else {
            "the old certificate is still served after 5 s"
        };
        course.findings.push(format!("{words}: {how}"));
    }
    Ok(())
}

async fn descriptors(
    runner: &mut Runner,
    count: u64,
    seconds: u64,
    course: &mut Course,
) -> Result<(), Stop> {
    let address = runner.target()?.public;
    let mut held = Vec::new();
    for _ in 0..count {
        if let Ok(Ok(stream)) = timeout(
            Duration::from_millis(200),
            tokio::net::TcpStream::connect(address),
        )
        .await
        {
            held.push(stream);
        }
    }
    let pid = runner.target()?.pid();
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        fields
            .get(11..13)
            .unwrap_or_default()
            .iter()
            .filter_map(|f| f.parse::<u64>().ok())
            .sum()
    };
    let before = ticks();
    sleep(Duration::from_secs(seconds)).await;
    // A hundred ticks are a second.
    let share = (ticks() - before) / seconds.max(1);
    if 20 < share {
        course.findings.push(format!(
            "{share} % CPU while {} connections are held",
            held.len()
        ));
    }
    drop(held);
    sleep(Duration::from_millis(900)).await;
    let wire = runner.world.public(runner.target()?);
    let outcome = h1::send(
        &wire,
        b"GET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n",
        h1::Wish::default(),
    )
    .await;
    let status = outcome.answers.first().map(|answer| answer.status);
    if status != Some(200) {
        course.findings.push(format!(
            "a second after the release: {status:?} {:?}",
            outcome.failed
        ));
    }
    Ok(())
}
