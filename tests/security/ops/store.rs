//! Steps that concern a store which instances share: a real Redis, the wires to it, and what comes of it where it is away.

use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;

use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::run::latin1;
use crate::vars::sign_in;
use crate::wire::Wire;
use crate::wire::h1;
use crate::world::Plan;
use crate::world::Target;
use crate::world::browser::Browser;
use crate::world::browser::SESSION;
use crate::world::redis::Link;
use crate::world::redis::Redis;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Shared,
    Second,
    At,
    Redis,
    Replica,
    Links,
    AtOnce,
    Ready,
    Until,
    Traffic,
}

/// What nobody was told.
const PASSWORD: &str = "changed-behind-everybodys-back";

/// What a case shares between instances.
#[derive(Debug)]
pub(crate) struct Shared {
    redis: Redis,
    replica: Option<Redis>,
    links: Vec<Link>,
    /// The instance that is not asked now.
    other: Option<Target>,
    /// Which one is asked: the first or the second.
    now: usize,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    match op {
        Op::Shared => {
            let redis = Redis::start().await.map_err(Stop::Fail)?;
            let link = Link::start(redis.port).await;
            let plan = over(&runner.target()?.plan, &link);
            course.shared = Some(Shared {
                redis,
                replica: None,
                links: vec![link],
                other: None,
                now: 0,
            });
            runner.target = None;
            runner.ensure(plan).await?;
            ready(runner.target()?, true, 10, course).await;
        }
        Op::Second => {
            let shared = shared(course)?;
            let link = Link::start(shared.redis.port).await;
            let plan = over(&shared.plan(runner)?, &link);
            shared.links.push(link);
            let first = runner.target.take();
            runner.ensure(plan).await?;
            let second = std::mem::replace(&mut runner.target, first);
            shared.other = second;
            if let Some(other) = &shared.other {
                let findings = readiness(other, true, 10).await;
                course.findings.extend(findings);
            }
        }
        Op::At => {
            let shared = shared(course)?;
            let wanted = usize::from(arguments[0] == "second");
            if shared.now != wanted {
                std::mem::swap(&mut runner.target, &mut shared.other);
                shared.now = wanted;
                // Each has logs of its own.
                course.log = [0, 0];
            }
        }
        Op::Redis => redis(arguments[0], course).await?,
        Op::Replica => replica(arguments[0], course).await?,
        Op::Links => links(arguments, course)?,
        Op::AtOnce => at_once(runner, arguments, course).await?,
        Op::Ready => {
            let within = number(arguments[1]);
            ready(runner.target()?, arguments[0].is_empty(), within, course).await;
        }
        Op::Until => until(runner, arguments, course).await?,
        Op::Traffic => traffic(runner, arguments, course).await?,
    }
    Ok(())
}

fn shared(course: &mut Course) -> Result<&mut Shared, Stop> {
    let none = || Stop::Skip("no store is shared".to_owned());
    course.shared.as_mut().ok_or_else(none)
}

impl Shared {
    /// The instance that is not asked now.
    pub(crate) fn other(&self) -> Option<&Target> {
        self.other.as_ref()
    }

    fn plan(&self, runner: &Runner) -> Result<Plan, Stop> {
        let mut plan = runner.target()?.plan.clone();
        plan.more.truncate(plan.more.len().saturating_sub(2));
        Ok(plan)
    }
}

/// The plan of an instance that keeps its sessions behind this wire. All have the same keys.
fn over(plan: &Plan, link: &Link) -> Plan {
    let mut plan = plan.clone();
    plan.more.push(
        "secrets: { bucket_key: { file: @DIR@/key-1 }, session_keys: [{ file: @DIR@/key-2 }] }"
            .to_owned(),
    );
    plan.more.push(format!(
        "sessions: {{ store: redis, redis: {{ url: \"redis://{}\" }} }}",
        link.address
    ));
    plan
}

async fn ready(target: &Target, good: bool, within: u64, course: &mut Course) {
    let start = Instant::now();
    let findings = readiness(target, good, within).await;
    let (not, took) = (if good { "" } else { "not " }, start.elapsed().as_millis());
    course.measured.push(format!("{not}ready after {took} ms"));
    course.findings.extend(findings);
}

/// Waits until an instance says that its store is there, or away.
async fn readiness(target: &Target, good: bool, within: u64) -> Option<String> {
    let admin = Wire {
        to: target.admin,
        tls: None,
    };
    let request = format!("GET /-/ready HTTP/1.1\r\nHost: {}\r\n\r\n", admin.to);
    let start = Instant::now();
    loop {
        let outcome = h1::send(&admin, request.as_bytes(), h1::Wish::default()).await;
        let said = outcome.answers.first().map(|answer| {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            (answer.status, text)
        });
        let is = said
            .as_ref()
            .is_some_and(|(status, text)| *status == 200 && text.contains("\"store\":true"));
        if is == good {
            return None;
        }
        if Duration::from_secs(within) < start.elapsed() {
            return Some(format!("readiness after {within} s: {said:?}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn redis(words: &str, course: &mut Course) -> Result<(), Stop> {
    let shared = shared(course)?;
    let redis = &mut shared.redis;
    match words {
        "hangs" => redis.signal("STOP"),
        "goes on" => redis.signal("CONT"),
        "is killed" => redis.kill(),
        "is started again" => redis.again().await.map_err(Stop::Fail)?,
        "is emptied" => drop(redis.ask(&["FLUSHALL"]).await.map_err(Stop::Fail)?),
        "becomes read-only" => {
            let replica = shared.replica.as_ref();
            let port = replica.map(|replica| replica.port);
            let port = port.ok_or_else(|| Stop::Skip("there is no replica".to_owned()))?;
            let replica = shared.replica.as_ref();
            if let Some(replica) = replica {
                let promoted = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
                promoted.map_err(Stop::Fail)?;
            }
            shared.redis.follow(port).await.map_err(Stop::Fail)?;
        }
        "is writable again" => {
            let promoted = redis.ask(&["REPLICAOF", "NO", "ONE"]).await;
            promoted.map_err(Stop::Fail)?;
            if let Some(replica) = &shared.replica {
                let port = shared.redis.port;
                replica.follow(port).await.map_err(Stop::Fail)?;
            }
        }
        "is full" => {
            for words in [
                ["CONFIG", "SET", "maxmemory-policy", "noeviction"],
                ["CONFIG", "SET", "maxmemory", "1"],
            ] {
                redis.ask(&words).await.map_err(Stop::Fail)?;
            }
        }
        // Who is connected has shown its password already: it has to come again.
        "wants a password" => {
            redis
                .ask(&["CONFIG", "SET", "requirepass", PASSWORD])
                .await
                .map_err(Stop::Fail)?;
            let end = ["CLIENT", "KILL", "SKIPME", "yes"];
            redis.ask_as(PASSWORD, &end).await.map_err(Stop::Fail)?;
        }
        "wants no password" => {
            let words = ["CONFIG", "SET", "requirepass", ""];
            redis.ask_as(PASSWORD, &words).await.map_err(Stop::Fail)?;
        }
        "has room again" => {
            let words = ["CONFIG", "SET", "maxmemory", "0"];
            redis.ask(&words).await.map_err(Stop::Fail)?;
        }
        _ => return Err(Stop::Skip(format!("not understood: Redis {words}"))),
    }
    Ok(())
}

async fn replica(words: &str, course: &mut Course) -> Result<(), Stop> {
    let shared = shared(course)?;
    match words {
        "follows Redis" => {
            let replica = Redis::start().await.map_err(Stop::Fail)?;
            let port = shared.redis.port;
            replica.follow(port).await.map_err(Stop::Fail)?;
            shared.replica = Some(replica);
        }
        "hears nothing more" => {
            if let Some(replica) = &shared.replica {
                let alone = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
                alone.map_err(Stop::Fail)?;
            }
        }
        "takes over" => {
            let replica = shared.replica.take();
            let replica = replica.ok_or_else(|| Stop::Skip("there is no replica".to_owned()))?;
            for link in &shared.links {
                link.lead(replica.port);
            }
            // What it replaces ends with it.
            shared.redis = replica;
        }
        _ => return Err(Stop::Skip(format!("not understood: the replica {words}"))),
    }
    Ok(())
}

fn links(arguments: &[&str], course: &mut Course) -> Result<(), Stop> {
    let shared = shared(course)?;
    let which = match arguments[0] {
        "the link of the first instance" => 0..1,
        "the link of the second instance" => 1..2,
        _ => 0..2,
    };
    for link in shared.links.get(which).unwrap_or(&shared.links) {
        link.cut(arguments[1] == "cut");
        let delay = arguments[1].strip_prefix("slow by ");
        let delay = delay.and_then(|text| text.strip_suffix(" ms"));
        link.slow(Duration::from_millis(delay.map_or(0, number)));
    }
    Ok(())
}

/// Two sign in at the same moment, at two instances, and open a page.
async fn at_once(runner: &mut Runner, arguments: &[&str], course: &mut Course) -> Result<(), Stop> {
    let template: serde_json::Value = serde_json::from_str(arguments[2])
        .map_err(|e| Stop::Skip(format!("not understood: {}: {e}", arguments[2])))?;
    let template = template.as_object().cloned().unwrap_or_default();
    runner.world.new.id_token(template);
    let world = &runner.world;
    let other = shared(course)?.other.as_ref();
    let other = other.ok_or_else(|| Stop::Skip("there is one instance".to_owned()))?;
    let sign_in = async |wire: Wire, user: &str| -> Result<(u16, u16), Stop> {
        let mut browser = Browser::default();
        let flow = browser.begin(&wire, "/app").await.map_err(Stop::Fail)?;
        let done = browser.finish(world, &wire, &flow, user).await;
        let done = done.map_err(Stop::Fail)?.status;
        let page = if browser.cookies.contains_key(SESSION) {
            let page = browser.open(&wire, "/app").await;
            page.map_err(Stop::Fail)?.status
        } else {
            0
        };
        Ok((done, page))
    };
    let (first, second) = tokio::join!(
        sign_in(world.public(runner.target()?), arguments[0]),
        sign_in(world.public(other), arguments[1])
    );
    let both = [first?, second?];
    let count = |wanted: &[(u16, u16)]| both.iter().filter(|one| wanted.contains(one)).count();
    let (inside, refused) = (count(&[(302, 200), (303, 200)]), count(&[(403, 0)]));
    let good = if arguments[3] == "both are let in" {
        inside == 2
    } else {
        inside == 1 && refused == 1
    };
    if !good {
        course.findings.push(format!(
            "{} and {} at once: {both:?} (callback, page), not: {}",
            arguments[0], arguments[1], arguments[3]
        ));
    }
    Ok(())
}

/// Sends a request again and again until it is answered as promised.
async fn until(runner: &mut Runner, arguments: &[&str], course: &mut Course) -> Result<(), Stop> {
    let (within, wanted) = (number(arguments[0]), arguments[1].replace(" or ", " "));
    let text = arguments[2].replace("\\r\\n", "\r\n");
    let wire = runner.world.public(runner.target()?);
    let start = Instant::now();
    loop {
        let bytes = latin1(&course.vars.fill(runner, &text).await?);
        let outcome = h1::send(&wire, &bytes, h1::Wish::default()).await;
        let status = outcome.answers.first().map_or(0, |answer| answer.status);
        if wanted.split(' ').any(|one| one == status.to_string()) {
            let took = start.elapsed().as_millis();
            course.measured.push(format!("{status} after {took} ms"));
            return Ok(());
        }
        if Duration::from_secs(within) < start.elapsed() {
            course.findings.push(format!(
                "answered {status} after {within} s, not {wanted}: {}",
                text.lines().next().unwrap_or_default()
            ));
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How one kind of traffic went.
#[derive(Debug, Default)]
struct Went {
    sent: usize,
    odd: Vec<String>,
    times: Vec<Duration>,
}

/// 200 requests a second with sessions and as many with tokens, for some seconds.
async fn traffic(runner: &mut Runner, arguments: &[&str], course: &mut Course) -> Result<(), Stop> {
    let (seconds, promise) = (number(arguments[0]), arguments[1]);
    let session = match course.vars.value(runner, "TRAFFIC").await {
        Ok(session) => session,
        Err(_) => {
            let session = sign_in(runner, "alice").await?;
            course.vars.set("TRAFFIC", session.clone());
            session
        }
    };
    let token = course.vars.value(runner, "ALICE").await?;
    let wire = runner.world.public(runner.target()?);
    let stream = |credential: String| {
        let wire = wire.clone();
        async move {
            let request = format!("GET /app HTTP/1.1\r\nHost: app.test\r\n{credential}\r\n");
            // As the requests of many people: what waits for the store holds nobody else up.
            let lines = (0..8).map(|n| {
                let (wire, request) = (wire.clone(), request.clone());
                tokio::spawn(async move {
                    let mut line = h1::Line::new(wire);
                    let mut went = Went::default();
                    let begin = Instant::now() + Duration::from_millis(5 * n);
                    let mut due = begin;
                    while due < begin + Duration::from_secs(seconds) {
                        tokio::time::sleep_until(due).await;
                        let start = Instant::now();
                        let outcome = line.ask(request.as_bytes()).await;
                        went.sent += 1;
                        went.times.push(start.elapsed());
                        let answer = outcome.answers.first();
                        let status = answer.map_or(0, |answer| answer.status);
                        let waits = answer.is_some_and(|a| a.header("retry-after").is_some());
                        let clears = answer.is_some_and(|a| a.header("set-cookie").is_some());
                        if status != 200 || clears {
                            let mut odd = status.to_string();
                            odd.push_str(if waits { " with Retry-After" } else { "" });
                            odd.push_str(if clears { " with Set-Cookie" } else { "" });
                            went.odd.push(odd);
                        }
                        // 25 a second on each of 8 lines; what is late is not made up for.
                        due = (due + Duration::from_millis(40)).max(Instant::now());
                    }
                    went
                })
            });
            let mut all = Went::default();
            for line in lines.collect::<Vec<_>>() {
                let went = line.await.unwrap_or_default();
                all.sent += went.sent;
                all.odd.extend(went.odd);
                all.times.extend(went.times);
            }
            all.times.sort_unstable();
            all
        }
    };
    let (sessions, tokens) = tokio::join!(
        stream(format!("Cookie: {SESSION}={session}\r\n")),
        stream(format!("Authorization: Bearer {token}\r\n"))
    );
    let p99 = |went: &Went| {
        let at = went.times.len().saturating_sub(1) * 99 / 100;
        went.times.get(at).copied().unwrap_or_default()
    };
    for (kind, went) in [("sessions", &sessions), ("tokens", &tokens)] {
        course.measured.push(format!(
            "{kind}: {} of {} served, p99 {:.1} ms",
            went.sent - went.odd.len(),
            went.sent,
            p99(went).as_secs_f64() * 1_000.0
        ));
    }
    let all = promise.starts_with("all is served");
    // What waits for the store waits up to 250 ms: who needs none does not notice that it is away.
    if all {
        course
            .vars
            .set("TOKENS_P99", p99(&tokens).as_micros().to_string());
    } else if let Ok(before) = course.vars.value(runner, "TOKENS_P99").await {
        let bound = Duration::from_micros(4 * number(&before)).max(Duration::from_millis(50));
        if bound < p99(&tokens) {
            course.findings.push(format!(
                "{}token requests: p99 {} ms, and {before} µs before",
                crate::expect::SLOW,
                p99(&tokens).as_millis()
            ));
        }
    }
    let most = promise.split_once("p99 at most ");
    let most = most.and_then(|(_, text)| text.strip_suffix(" ms"));
    for (kind, went) in [("session", &sessions), ("token", &tokens)] {
        let good = |odd: &&String| !all && kind == "session" && **odd == "503 with Retry-After";
        let bad: Vec<&String> = went.odd.iter().filter(|odd| !good(odd)).collect();
        if let Some(first) = bad.first() {
            course.findings.push(format!(
                "{} of {} {kind} requests were not served, first: {first}",
                bad.len(),
                went.sent
            ));
        }
        if let Some(most) = most
            && Duration::from_millis(number(most)) < p99(went)
        {
            course.findings.push(format!(
                "{}{kind} requests: p99 {} ms, not {most}",
                crate::expect::SLOW,
                p99(went).as_millis()
            ));
        }
    }
    Ok(())
}
