//! Steps that concern the upstream.

use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::latin1;
use crate::tokens::unique;
use crate::wire::h1;
use crate::wire::h1::Wish;
use crate::world::upstream::Manner;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Status,
    Exactly,
    Silent,
    HalfBody,
    Calm,
    Endless,
    IdleRace,
    Stream,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let upstream = &runner.world.upstream;
    match op {
        Op::Status => upstream.behave(Manner::Status(arguments[0].parse().unwrap_or(500))),
        Op::Exactly => upstream.behave(Manner::Bytes(unescaped(arguments[0]))),
        Op::Silent => upstream.behave(Manner::Silence),
        Op::HalfBody => upstream.behave(Manner::HalfBody),
        Op::Calm => upstream.behave(Manner::Echo),
        Op::Endless => {
            // Many at once: the network must not be what limits it.
            let again = unescaped(arguments[1]);
            let again = again.repeat((16 * 1024_usize).div_ceil(again.len().max(1)));
            upstream.behave(Manner::Endless(unescaped(arguments[0]), again));
        }
        Op::IdleRace => {
            idle_race(runner, number(arguments[0]), number(arguments[1]), course).await?
        }
        Op::Stream => stream(runner, number(arguments[0]), number(arguments[1]), course).await?,
    }
    Ok(())
}

/// `\r` and `\n` in words, and a letter that is repeated: `${rep:X,N}`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut text = text.replace("\\r", "\r").replace("\\n", "\n");
    while let Some((before, rest)) = text.split_once("${rep:") {
        let Some((inside, after)) = rest.split_once('}') else {
            break;
        };
        let (what, times) = inside.rsplit_once(',').unwrap_or((inside, "1"));
        text = format!("{before}{}{after}", what.repeat(times.parse().unwrap_or(1)));
    }
    latin1(&text)
}

/// GET is retried where nothing came back; POST is never sent twice.
async fn idle_race(
    runner: &mut Runner,
    idle: u64,
    seconds: u64,
    course: &mut Course,
) -> Result<(), Stop> {
    runner
        .world
        .upstream
        .behave(Manner::ShortIdle(Duration::from_millis(idle)));
    let wire = runner.world.public(runner.target()?);
    let auth = course.vars.value(runner, "ALICE").await?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let before = runner.world.upstream.count();
    let (mut sent, mut lost, mut failed_posts, mut posts) = (0, 0, 0, 0);
    while Instant::now() < end {
        let random = unique();
        let is_post = random[0].is_multiple_of(3);
        let request = if is_post {
            posts += 1;
            format!(
                "POST /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {auth}\r\nContent-Length: 1\r\n\r\nx"
            )
        } else {
            format!("GET /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {auth}\r\n\r\n")
        };
        let outcome = h1::send(&wire, request.as_bytes(), Wish::default()).await;
        let status = outcome.answers.first().map_or(0, |answer| answer.status);
        sent += 1;
        match (is_post, status) {
            (_, 200) => {}
            (false, _) => lost += 1,
            (true, _) => failed_posts += 1,
        }
        // Around the time at which the upstream closes.
        sleep(Duration::from_millis(
            idle.saturating_sub(20) + u64::from(random[1] % 40),
        ))
        .await;
    }
    let seen = runner.world.upstream.since(before);
    let arrived = seen
        .iter()
        .filter(|one| one.line().starts_with("POST"))
        .count();
    course.measured.push(format!(
        "{sent} requests, {lost} GET lost; of {posts} POST {failed_posts} lost and {arrived} at the upstream"
    ));
    if 0 < lost {
        course
            .findings
            .push(format!("{lost} of {sent} GET requests failed"));
    }
    if posts < arrived {
        course.findings.push(format!(
            "{posts} POST requests became {arrived} at the upstream"
        ));
    }
    if 1 < failed_posts {
        course
            .findings
            .push(format!("{failed_posts} of {posts} POST requests failed"));
    }
    Ok(())
}

/// Bodies in both directions, several at once: nothing of them is kept.
async fn stream(
    runner: &mut Runner,
    mib: u64,
    at_once: u64,
    course: &mut Course,
) -> Result<(), Stop> {
    let wire = runner.world.public(runner.target()?);
    let auth = course.vars.value(runner, "ALICE").await?;
    let bytes = usize::try_from(mib).unwrap_or(1) << 20;
    let before = runner.target()?.rss().unwrap_or(0);
    let watch = |runner: &Runner, course: &mut Course| {
        let now = runner
            .target()
            .ok()
            .and_then(crate::world::Target::rss)
            .unwrap_or(0);
        course.memory = (before, course.memory.1.max(now));
    };
    let head = format!(
        "POST /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {auth}\r\nContent-Length: {bytes}\r\n\r\n"
    );
    let mut upload = head.into_bytes();
    upload.resize(upload.len() + bytes, b'u');
    let patient = Wish {
        closed: false,
        patience: Some(Duration::from_secs(15)),
    };
    let sends = (0..at_once).map(|_| h1::send(&wire, &upload, patient));
    let mut all = std::pin::pin!(futures_util::future::join_all(sends));
    loop {
        tokio::select! {
            done = &mut all => {
                let good = done.iter().filter(|o| o.answers.first().is_some_and(|a| a.status == 200)).count();
                if (good as u64) < at_once {
                    course.findings.push(format!("{good} of {at_once} uploads were answered with 200"));
                }
                break;
            }
            () = sleep(Duration::from_millis(50)) => watch(runner, course),
        }
    }
    let mut body = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
    body.resize(body.len() + bytes, b'd');
    runner.world.upstream.behave(Manner::Bytes(body));
    let get =
        format!("GET /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {auth}\r\n\r\n");
    let reads = (0..at_once).map(|_| download(&wire, get.as_bytes()));
    let mut all = std::pin::pin!(futures_util::future::join_all(reads));
    loop {
        tokio::select! {
            done = &mut all => {
                if done.iter().any(|read| *read < bytes) {
                    course.findings.push(format!("downloads of {bytes} bytes ended at {done:?}"));
                }
                break;
            }
            () = sleep(Duration::from_millis(50)) => watch(runner, course),
        }
    }
    Ok(())
}

/// How many bytes come, read with pauses.
async fn download(wire: &crate::wire::Wire, request: &[u8]) -> usize {
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    let Ok(mut stream) = wire.connect(b"http/1.1").await else {
        return 0;
    };
    if stream.write_all(request).await.is_err() {
        return 0;
    }
    let (mut chunk, mut all) = (vec![0; 256 * 1024], 0);
    loop {
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut chunk)).await;
        match read {
            Ok(Ok(n @ 1..)) => all += n,
            Ok(Ok(0) | Err(_)) | Err(_) => return all,
        }
        if all % (4 << 20) < 64 * 1024 {
            sleep(Duration::from_millis(20)).await;
        }
    }
}
