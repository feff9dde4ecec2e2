//! Many people at once: nobody is ever taken for another.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::number;
use super::process::reload;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::tokens::unique;
use crate::vars::sign_in;
use crate::wire::Wire;
use crate::wire::h1::find;
use crate::wire::h2;
use crate::world::browser::SESSION;
use crate::world::upstream::Manner;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Bleed,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let Op::Bleed = op;
    let (users, seconds, connections) = (
        number(arguments[0]),
        number(arguments[1]),
        number(arguments[2]),
    );
    let mut people: Vec<Person> = (0..users)
        .map(|n| {
            let name = format!("user-{n:04}");
            let token = runner.world.mint.good(
                "new.access",
                &json!({ "sub": name, "preferred_username": name }),
            );
            let credential = ("authorization", format!("Bearer {token}"));
            Person { name, credential }
        })
        .collect();
    // Some come with a session.
    for person in people.iter_mut().step_by(10) {
        let session = sign_in(runner, &person.name).await?;
        person.credential = ("cookie", format!("{SESSION}={session}"));
    }
    let people: Arc<[Person]> = people.into();
    let yaml = runner.target()?.yaml();
    // One answer in twenty is an error, or none.
    runner.world.upstream.behave(Manner::Sometimes(20));
    let end = Instant::now() + Duration::from_secs(seconds);
    let wire = runner.world.public(runner.target()?);
    let clients: Vec<_> = (0..connections)
        .map(|n| {
            let (wire, people) = (wire.clone(), Arc::clone(&people));
            tokio::spawn(async move {
                if n.is_multiple_of(5) {
                    streams(&wire, &people, end).await
                } else {
                    client(&wire, &people, end).await
                }
            })
        })
        .collect();
    // What is loaded meanwhile changes nothing of who somebody is.
    let mut reloads = 0;
    while Instant::now() < end {
        let status = reload(runner, &format!("{yaml}# {reloads}\n")).await?;
        if status != 200 {
            course
                .findings
                .push(format!("a reload was answered with {status}"));
            break;
        }
        reloads += 1;
        sleep(Duration::from_millis(500)).await;
    }
    let (mut answers, mut failed, mut wrong) = (0, 0, Vec::new());
    for client in clients {
        let went = client.await.unwrap_or_default();
        answers += went.answers;
        failed += went.failed;
        wrong.extend(went.wrong);
    }
    if let Some(first) = wrong.first() {
        course.findings.push(format!(
            "{} of {answers} answers were wrong, first: {first}",
            wrong.len()
        ));
    }
    if answers < connections || reloads < 2 || failed == 0 {
        course.findings.push(format!(
            "only {answers} answers, {failed} failures and {reloads} reloads came"
        ));
    }
    // One in twenty is meant to fail.
    if answers < failed * 12 {
        course
            .findings
            .push(format!("{failed} failed beside {answers} good answers"));
    }
    Ok(())
}

/// Somebody, and what they come with.
#[derive(Debug)]
struct Person {
    name: String,
    credential: (&'static str, String),
}

/// How it went for one client.
#[derive(Debug, Default)]
struct Went {
    answers: u64,
    failed: u64,
    wrong: Vec<String>,
}

impl Went {
    /// An answer of the upstream shows the head that it saw.
    fn saw(&mut self, person: &Person, status: u16, text: &str) {
        let text = text.to_lowercase();
        let said: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("x-auth-user:"))
            .map(str::trim)
            .collect();
        if status == 200 && said == [person.name.as_str()] {
            self.answers += 1;
        } else if said.is_empty() && 500 <= status {
            self.failed += 1;
        } else {
            self.wrong
                .push(format!("{} was {said:?}: {status}", person.name));
        }
    }
}

/// Anybody, and a byte of chance.
fn draw(people: &[Person]) -> (&Person, u8) {
    let random = unique();
    let at = usize::from(u16::from_be_bytes([random[0], random[1]])) % people.len().max(1);
    (&people[at], random[2])
}

/// The same in HTTP/2.
async fn streams(wire: &Wire, people: &[Person], end: Instant) -> Went {
    let mut went = Went::default();
    while Instant::now() < end && went.wrong.len() < 5 {
        let (person, _) = draw(people);
        let (name, value) = &person.credential;
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.test"),
            (":path", "/app"),
            (*name, value.as_str()),
        ];
        let fields = fields.map(|(name, value)| (name.into(), value.into()));
        let outcome = h2::send(wire, &fields, None).await;
        if let Some(answer) = outcome.answers.first() {
            let text = String::from_utf8_lossy(&answer.body);
            went.saw(person, answer.status, &text);
        }
    }
    went
}

/// Requests of changing people on one connection after another; sometimes it hangs up in the middle.
async fn client(wire: &Wire, people: &[Person], end: Instant) -> Went {
    let mut went = Went::default();
    while Instant::now() < end && went.wrong.len() < 5 {
        let Ok(mut stream) = wire.connect(b"http/1.1").await else {
            continue;
        };
        for _ in 0..200 {
            let (person, chance) = draw(people);
            let (name, value) = &person.credential;
            let request = format!("GET /app HTTP/1.1\r\nHost: app.test\r\n{name}: {value}\r\n\r\n");
            if stream.write_all(request.as_bytes()).await.is_err() || Instant::now() > end {
                break;
            }
            if chance < 3 {
                break;
            }
            let mut seen = Vec::new();
            let mut chunk = [0; 8192];
            let mut ended = false;
            // A good answer is the head that the upstream saw, which ends with an empty line.
            while !ended && !whole(&seen) {
                match timeout(Duration::from_secs(5), stream.read(&mut chunk)).await {
                    Ok(Ok(n @ 1..)) => seen.extend_from_slice(&chunk[..n]),
                    Ok(Ok(0) | Err(_)) | Err(_) => ended = true,
                }
            }
            let text = String::from_utf8_lossy(&seen);
            let status = text.split(' ').nth(1).and_then(|text| text.parse().ok());
            went.saw(person, status.unwrap_or(599), &text);
            // What an error leaves on the connection is not read here.
            if status != Some(200) {
                break;
            }
        }
    }
    went
}

/// Whether an answer has come: an error when its head has, any other when the head that it shows has.
fn whole(seen: &[u8]) -> bool {
    let Some(at) = find(seen, b"\r\n\r\n") else {
        return false;
    };
    !seen.starts_with(b"HTTP/1.1 200") || find(&seen[at + 4..], b"\r\n\r\n").is_some()
}
