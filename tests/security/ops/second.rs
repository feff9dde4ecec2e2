//! A second opinion, whatever it is: nobody notices, nothing that was presented leaves, and what differs is told.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;

use super::counted;
use super::metrics;
use crate::expect::SLOW;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::h1;
use crate::world::idp::Fault;
use crate::world::target::Kind;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Watched,
}

/// How the other side behaves, what becomes of the look, and which difference is told. That it panics cannot be brought about
/// from outside: `a_second_opinion_that_panics_is_nobodys_trouble` in src/shadow/work/tests.rs stands for that.
const MANNERS: &[(&str, &str, Option<&str>)] = &[
    ("agrees", "ignored", None),
    ("denies", "different", Some("accept_reject")),
    ("renames", "different", Some("subject_mismatch")),
    ("forgets", "different", Some("no_link")),
    ("babbles", "unavailable", None),
    ("errs", "unavailable", None),
    ("sleeps", "unavailable", None),
];
/// Whom the other side takes somebody for.
const ANOTHER: &str = "mallory-the-other";
/// Pairs of requests with and without a second opinion.
const PAIRS: usize = 100;
/// Requests while nobody answers there.
const MANY: usize = 300;
/// What a second opinion may add to an answer.
const ADDED: Duration = Duration::from_millis(1);
/// Connections that stay open, and every token that was presented.
struct Asker {
    app: h1::Line,
    alone: h1::Line,
    sent: Vec<String>,
}

/// Series of everything that became of an offer.
const COMPARED: &str = "authferry_shadow_comparisons_total{app=\"app\"";
const SKIPPED: &str = "authferry_shadow_skipped_total{app=\"app\"";

pub(super) async fn perform(op: Op, runner: &mut Runner, course: &mut Course) -> Result<(), Stop> {
    let Op::Watched = op;
    if runner.kind == Kind::Naive {
        return Err(Stop::Skip(
            "the naive proxy has no second opinion".to_owned(),
        ));
    }
    let old = runner.world.old.clone();
    old.listen();
    let line = || -> Result<_, Stop> { Ok(h1::Line::new(runner.world.public(runner.target()?))) };
    let mut asker = Asker {
        app: line()?,
        alone: line()?,
        sent: Vec::new(),
    };
    // The run has begun with a good token, about which the other side was asked.
    until(runner, "the first look", |text| {
        1.0 <= counted(text, COMPARED)
    })
    .await?;
    let before = metrics(runner).await?;
    let before = counted(&before, COMPARED) + counted(&before, SKIPPED);
    let mut heads: Vec<(String, String)> = Vec::new();
    for (manner, result, class) in MANNERS {
        match *manner {
            "agrees" => old.person("sub-agrees", user("u-agrees", "sub-agrees", true)),
            "denies" => old.person("sub-denies", user("u-denies", "sub-denies", false)),
            "renames" => old.person("sub-renames", user(ANOTHER, "sub-renames", true)),
            "babbles" => old.fail("users", Fault::Html),
            "errs" => old.fail("users", Fault::Status(500)),
            "sleeps" => old.fail("users", Fault::Silence),
            _ => {}
        }
        let series = format!("{COMPARED},oracle=\"directory\",result=\"{result}\"}}");
        let told = class.map(|class| {
            format!("authferry_shadow_divergences_total{{app=\"app\",class=\"{class}\"")
        });
        let now = metrics(runner).await?;
        let (seen, differs) = (
            counted(&now, &series),
            told.as_deref().map_or(0.0, |told| counted(&now, told)),
        );
        let (status, head, _) = ask(runner, "app.test", manner, &mut asker).await?;
        if status != 200 {
            course
                .findings
                .push(format!("the other side {manner}: answered {status}"));
        }
        heads.push(((*manner).to_owned(), head));
        let what = format!("the other side {manner}: no look became `{result}` {class:?}");
        until(runner, &what, |text| {
            let told = told
                .as_deref()
                .is_none_or(|told| differs < counted(text, told));
            seen < counted(text, &series) && told
        })
        .await?;
    }
    if let Some((_, first)) = heads.first().cloned() {
        for (manner, head) in &heads {
            if *head != first {
                course.findings.push(format!(
                    "the other side {manner}, and the upstream got\n{head}instead of\n{first}"
                ));
            }
        }
    }
    latency(runner, &mut asker, course).await?;
    bounded(runner, before, &mut asker, course).await?;
    outbound(runner, &asker.sent, course)
}

/// A user of the other side's directory.
fn user(uid: &str, key: &str, enabled: bool) -> Value {
    json!({ "id": format!("id-of-{key}"), "username": key, "enabled": enabled, "attributes": { "employee": [key], "uid": [uid] } })
}

async fn until(runner: &Runner, what: &str, done: impl Fn(&str) -> bool) -> Result<(), Stop> {
    let start = Instant::now();
    loop {
        let text = metrics(runner).await?;
        if done(&text) {
            return Ok(());
        }
        if Duration::from_secs(8) < start.elapsed() {
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("authferry_shadow"))
                .collect();
            return Err(Stop::Fail(format!("{what}: {lines:?}")));
        }
        sleep(Duration::from_millis(30)).await;
    }
}

/// Somebody comes with a token that nobody has seen; what the upstream got, without what belongs to one request or one name.
async fn ask(
    runner: &Runner,
    host: &str,
    who: &str,
    asker: &mut Asker,
) -> Result<(u16, String, Duration), Stop> {
    let claims = json!({ "sub": format!("sub-{who}"), "preferred_username": format!("p-{who}"), "uid": format!("u-{who}") });
    let token = runner.world.mint.good("new.access", &claims);
    let request =
        format!("GET /app HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let before = runner.world.upstream.count();
    let line = if host == "app.test" {
        &mut asker.app
    } else {
        &mut asker.alone
    };
    let outcome = line.ask(request.as_bytes()).await;
    let status = outcome.answers.first().map_or(0, |answer| answer.status);
    let seen = runner.world.upstream.since(before);
    let head = seen.first().map(|seen| {
        let own = ["x-request-id", "traceparent", "tracestate"];
        let fields = seen.fields().into_iter();
        let fields = fields.filter(|(name, _)| !own.contains(&&*name.to_lowercase()));
        let lines = fields.map(|(name, value)| format!("{name}: {value}\n"));
        lines
            .collect::<String>()
            .replace(&token, "TOKEN")
            .replace(&format!("-{who}"), "-WHO")
    });
    asker.sent.push(token);
    Ok((
        status,
        head.unwrap_or_default(),
        outcome.first.unwrap_or(Duration::MAX),
    ))
}

/// People who are looked at twice, and people who are not, in turns, while the other side does not answer.
async fn latency(runner: &Runner, asker: &mut Asker, course: &mut Course) -> Result<(), Stop> {
    let (mut twice, mut once) = (Vec::new(), Vec::new());
    // Whoever comes for the first time is written down: that is not what is measured.
    for n in 0..PAIRS {
        for host in ["app.test", "alone.test"] {
            ask(runner, host, &format!("pair-{n}"), asker).await?;
        }
    }
    // Nobody is asked about twice within this time.
    sleep(Duration::from_millis(1_500)).await;
    for n in 0..PAIRS {
        for (host, took) in [("app.test", &mut twice), ("alone.test", &mut once)] {
            let (status, _, time) = ask(runner, host, &format!("pair-{n}"), asker).await?;
            if status != 200 {
                course
                    .findings
                    .push(format!("{host} in turns: answered {status}"));
            }
            took.push(time);
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (twice, once) = (median(&mut twice), median(&mut once));
    if once + ADDED < twice {
        course.findings.push(format!(
            "{SLOW}a second opinion makes answers late: {} µs instead of {}",
            twice.as_micros(),
            once.as_micros()
        ));
    }
    Ok(())
}

/// Many more than the other side may be asked about: they are counted, and do not wait.
async fn bounded(
    runner: &Runner,
    before: f64,
    asker: &mut Asker,
    course: &mut Course,
) -> Result<(), Stop> {
    let memory = runner.target()?.rss().unwrap_or(0);
    for n in 0..MANY {
        let (status, _, _) = ask(runner, "app.test", &format!("many-{n}"), asker).await?;
        if status != 200 {
            course
                .findings
                .push(format!("request {n} of many: answered {status}"));
        }
    }
    let offered = before + (MANNERS.len() + 2 * PAIRS + MANY) as f64;
    let what = format!("not every one of {offered} offers was looked at or counted as left out");
    until(runner, &what, |text| {
        let depth = counted(text, "authferry_shadow_queue_depth");
        let all = counted(text, COMPARED) + counted(text, SKIPPED);
        depth < 1.0 && all == offered
    })
    .await?;
    let text = metrics(runner).await?;
    if counted(&text, &format!("{SKIPPED},reason=\"budget\"")) < 1.0 {
        course
            .findings
            .push("nobody was left out although nobody answers there".to_owned());
    }
    let grown = runner.target()?.rss().unwrap_or(0).saturating_sub(memory) / 1024;
    if 16 < grown {
        course
            .findings
            .push(format!("memory grew by {grown} MiB while nobody answered"));
    }
    Ok(())
}

/// What left, and what is told of it.
fn outbound(runner: &Runner, sent: &[String], course: &mut Course) -> Result<(), Stop> {
    let heard = runner.world.old.heard();
    if heard.iter().filter(|text| text.contains("/users")).count() < MANNERS.len() {
        course
            .findings
            .push("the other side was hardly asked".to_owned());
    }
    for token in sent {
        // Neither as a whole nor in pieces.
        let mut pieces = token.split('.').skip(1);
        let found = pieces.find_map(|piece| heard.iter().find(|text| text.contains(piece)));
        if let Some(text) = found {
            course
                .findings
                .push(format!("a token went to who did not issue it: {text}"));
        }
    }
    let asked = runner.world.old.hits("introspect", course.start).len();
    if 0 < asked {
        course
            .findings
            .push(format!("the other side was asked about {asked} tokens"));
    }
    let log = runner.target()?.log_since(course.log);
    let told = |severity: &str| {
        log.lines()
            .filter(|line| line.contains("Two providers differ about somebody"))
            .any(|line| line.contains(severity) && line.contains("subject"))
    };
    if !told("critical") || !told("warn") {
        course
            .findings
            .push("the log does not tell what differs".to_owned());
    }
    for name in [
        "p-denies",
        "sub-denies",
        "p-renames",
        "sub-renames",
        ANOTHER,
    ] {
        if log.contains(name) {
            course.findings.push(format!("the log names {name}"));
        }
    }
    Ok(())
}
