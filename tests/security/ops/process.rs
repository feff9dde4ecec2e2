//! Steps that concern the process: its configuration, its certificate, its start and its end.

mod certificate;
mod under_load;

use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::Wire;
use crate::wire::h1;
use crate::world::Target;
use crate::world::target::ADMIN_TOKEN;
use certificate::certificate;
use under_load::flip;
use under_load::reloads;
use under_load::term;

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
