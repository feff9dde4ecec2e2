//! Many people at once: nobody is ever taken for another.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::timeout;

use super::number;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;
use crate::tokens::unique;
use crate::wire::Wire;
use crate::wire::h1::find;

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
    let tokens: Vec<(String, String)> = (0..users)
        .map(|n| {
            let name = format!("user-{n:04}");
            let token = runner.world.mint.good(
                "new.access",
                &json!({ "sub": name, "preferred_username": name }),
            );
            (name, token)
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let wire = runner.world.public(runner.target()?);
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(client(wire.clone(), tokens.clone(), end)))
        .collect();
    let (mut answers, mut wrong) = (0, Vec::new());
    for client in clients {
        let (count, strange) = client.await.unwrap_or_default();
        answers += count;
        wrong.extend(strange);
    }
    if let Some(first) = wrong.first() {
        course.findings.push(format!(
            "{} of {answers} answers were wrong, first: {first}",
            wrong.len()
        ));
    }
    if answers < connections {
        course.findings.push(format!("only {answers} answers came"));
    }
    Ok(())
}

/// Requests of changing people on one connection after another; sometimes it hangs up in the middle.
async fn client(wire: Wire, tokens: Vec<(String, String)>, end: Instant) -> (u64, Vec<String>) {
    let (mut answers, mut wrong) = (0, Vec::new());
    while Instant::now() < end && wrong.len() < 5 {
        let Ok(mut stream) = wire.connect(b"http/1.1").await else {
            continue;
        };
        for _ in 0..200 {
            let random = unique();
            let at = usize::from(u16::from_be_bytes([random[0], random[1]])) % tokens.len().max(1);
            let (name, token) = &tokens[at];
            let request = format!(
                "GET /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            if stream.write_all(request.as_bytes()).await.is_err() || Instant::now() > end {
                break;
            }
            if random[2] < 3 {
                break;
            }
            let mut seen = Vec::new();
            let mut chunk = [0; 8192];
            // The upstream answers with the head it saw, which ends with an empty line.
            while find(&seen, b"\r\n\r\n")
                .and_then(|at| find(&seen[at + 4..], b"\r\n\r\n"))
                .is_none()
            {
                match timeout(Duration::from_secs(5), stream.read(&mut chunk)).await {
                    Ok(Ok(n @ 1..)) => seen.extend_from_slice(&chunk[..n]),
                    Ok(Ok(0) | Err(_)) | Err(_) => break,
                }
            }
            let text = String::from_utf8_lossy(&seen).to_lowercase();
            let said: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("x-auth-user:"))
                .map(str::trim)
                .collect();
            if said != [name.as_str()] {
                wrong.push(format!(
                    "{name} was {said:?}: {}",
                    text.lines().next().unwrap_or_default()
                ));
                break;
            }
            answers += 1;
        }
    }
    (answers, wrong)
}
