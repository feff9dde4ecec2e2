//! Steps that concern the store in a file: a disk that fills up, and an end in the middle of a write.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use tokio::time::sleep;

use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::vars::sign_in;
use crate::wire::h1;
use crate::world::browser::Browser;
use crate::world::browser::SESSION;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Small,
    Fill,
    Free,
    UntilFull,
    Crashes,
}

/// A small disk; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk(TempDir);

impl Disk {
    fn mount(mib: u64) -> Result<Self, Stop> {
        let directory = tempfile::tempdir().map_err(|e| Stop::Fail(e.to_string()))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(directory.path())
            .status();
        match mounted {
            Ok(status) if status.success() => Ok(Self(directory)),
            _ => Err(Stop::Skip(
                "a small disk can only be mounted by root".to_owned(),
            )),
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the program may still have its files open.
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        drop(unmounted);
    }
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    match op {
        Op::Small => {
            let disk = Disk::mount(number(arguments[0]))?;
            let mut plan = runner.target()?.plan.clone();
            plan.state = disk.0.path().join("state").display().to_string();
            runner.ensure(plan).await?;
            course.disk = Some(disk);
        }
        Op::Fill => {
            let disk = course.disk.as_ref();
            let disk = disk.ok_or_else(|| Stop::Skip("there is no small disk".to_owned()))?;
            // Until nothing more goes in.
            let full = std::fs::File::create(disk.filler()).and_then(|mut file| {
                let mut zeros = std::io::repeat(0);
                std::io::copy(&mut zeros, &mut file)
            });
            if full.is_ok() {
                return Err(Stop::Fail("the disk has no end".to_owned()));
            }
        }
        Op::Free => {
            if let Some(disk) = &course.disk {
                std::fs::remove_file(disk.filler()).map_err(|e| Stop::Fail(e.to_string()))?;
            }
        }
        Op::UntilFull => until_full(runner, number(arguments[0]), course).await?,
        Op::Crashes => crashes(runner, number(arguments[0]), course).await?,
    }
    Ok(())
}

/// A login; the status of its end, and its session.
async fn login(runner: &Runner, user: &str) -> Result<(u16, Option<String>), Stop> {
    let wire = runner.world.public(runner.target()?);
    let mut browser = Browser::default();
    let flow = browser.begin(&wire, "/app").await.map_err(Stop::Fail)?;
    let done = browser.finish(&runner.world, &wire, &flow, user).await;
    let done = done.map_err(Stop::Fail)?;
    Ok((done.status, browser.cookies.get(SESSION).cloned()))
}

/// What a session is answered.
async fn status(runner: &Runner, session: &str) -> Result<u16, Stop> {
    let wire = runner.world.public(runner.target()?);
    let request =
        format!("GET /app HTTP/1.1\r\nHost: app.test\r\nCookie: {SESSION}={session}\r\n\r\n");
    let outcome = h1::send(&wire, request.as_bytes(), h1::Wish::default()).await;
    Ok(outcome.answers.first().map_or(0, |answer| answer.status))
}

/// People sign in until somebody cannot: with 503, and without a session. Whoever is in stays in.
async fn until_full(runner: &mut Runner, most: u64, course: &mut Course) -> Result<(), Stop> {
    let first = sign_in(runner, "alice").await;
    let mut inside: Vec<String> = first.into_iter().collect();
    for n in 0..most {
        match login(runner, &format!("user{n}")).await? {
            (302 | 303, Some(session)) => inside.push(session),
            (503, None) => {
                for session in inside.iter().rev().take(5) {
                    let status = status(runner, session).await?;
                    if status != 200 {
                        let what = format!("a session on a full disk: {status}");
                        course.findings.push(what);
                    }
                }
                return Ok(());
            }
            (status, session) => {
                let what = format!(
                    "a login on a full disk: {status}, with a session: {}",
                    session.is_some()
                );
                course.findings.push(what);
                return Ok(());
            }
        }
    }
    let what = format!("{most} people could sign in on a full disk");
    course.findings.push(what);
    Ok(())
}

/// For some seconds: people sign in, one is revoked, and the process is killed in the middle of it. What it has
/// acknowledged is so when it starts again.
async fn crashes(runner: &mut Runner, seconds: u64, course: &mut Course) -> Result<(), Stop> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut cycles, mut inside, mut out) = (0, Vec::new(), Vec::<String>::new());
    while Instant::now() < end {
        let life = Duration::from_millis(40 + 37 * (cycles % 10));
        let write = async {
            for n in 0.. {
                let Ok((302 | 303, Some(session))) =
                    login(runner, &format!("user{cycles}-{n}")).await
                else {
                    return;
                };
                if n % 3 != 2 {
                    inside.push(session);
                    continue;
                }
                // Whether it is over is not known where the answer does not come.
                let origin = "Origin: https://app.test\r\n";
                let mut browser = Browser::default();
                browser.cookies.insert(SESSION.to_owned(), session.clone());
                let Ok(target) = runner.target() else { return };
                let wire = runner.world.public(target);
                let done = browser
                    .send(&wire, "POST", "/.authferry/logout", origin, "")
                    .await;
                if done.is_ok_and(|done| done.status < 400) {
                    out.push(session);
                }
            }
        };
        tokio::select! {
            () = write => {}
            () = sleep(life) => {}
        }
        let target = runner.target.take();
        let target = target.ok_or_else(|| Stop::Fail("no proxy runs".to_owned()))?;
        runner.target = Some(target.again(&runner.world).map_err(Stop::Fail)?);
        cycles += 1;
        // The newest are those that a crash could lose.
        for session in inside.iter().rev().take(12) {
            let status = status(runner, session).await?;
            if status != 200 {
                let what = format!("after {cycles} crashes a session is answered {status}");
                course.findings.push(what);
                return Ok(());
            }
        }
        for session in out.iter().rev().take(6) {
            let status = status(runner, session).await?;
            if status == 200 {
                let what = format!("after {cycles} crashes a session is back");
                course.findings.push(what);
                return Ok(());
            }
        }
    }
    if inside.len() < 3 || cycles < 2 {
        let what = format!(
            "{cycles} crashes and {} sessions show nothing",
            inside.len()
        );
        course.findings.push(what);
    }
    Ok(())
}
