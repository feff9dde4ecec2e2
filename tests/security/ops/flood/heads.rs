//! The limits of a head, and of requests at once on a connection, in both protocols.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::send;
use crate::run::Course;
use crate::run::Record;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::Outcome;
use crate::wire::Wire;
use crate::wire::h1;
use crate::wire::h1::Wish;
use crate::wire::h2;

/// The head of a request with a token in HTTP/2.
pub(super) fn of(method: &str, path: &str, token: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bearer = format!("Bearer {token}");
    let fields = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "app.test"),
        (":path", path),
        ("authorization", bearer.as_str()),
    ];
    fields.map(field).to_vec()
}

fn field((name, value): (&str, &str)) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

/// Heads that are far too big, in both protocols.
pub(super) async fn big_heads(runner: &Runner, wire: &Wire, token: &str, course: &mut Course) {
    let fields =
        |count: usize| -> String { (0..count).map(|n| format!("X-F{n}: 1\r\n")).collect() };
    let start = format!("Host: app.test\r\nAuthorization: Bearer {token}\r\n");
    for (label, head) in [
        (
            "101 fields",
            format!("GET /app HTTP/1.1\r\n{start}{}\r\n", fields(99)),
        ),
        (
            "a field of 64 KiB",
            format!(
                "GET /app HTTP/1.1\r\n{start}X-Big: {}\r\n\r\n",
                "b".repeat(64 << 10)
            ),
        ),
        (
            "a target of 64 KiB",
            format!("GET /app?{} HTTP/1.1\r\n{start}\r\n", "q".repeat(64 << 10)),
        ),
    ] {
        send(runner, wire, label, head.as_bytes(), course).await;
    }
    let mut many = of("GET", "/app", token);
    many.extend((0..300).map(|n| field((&format!("x-f{n}"), "1"))));
    let mut big = of("GET", "/app", token);
    big.push(field(("x-big", &"b".repeat(40 << 10))));
    let long = of("GET", &format!("/app?{}", "q".repeat(32 << 10)), token);
    for (label, headers) in [
        ("h2 300 fields", many),
        ("h2 a field of 40 KiB", big),
        ("h2 a path of 32 KiB", long),
    ] {
        let before = runner.world.upstream.count();
        let mut outcome = h2::send(wire, &headers, None).await;
        sleep(Duration::from_millis(20)).await;
        // A reset is a refusal, too; it has no status.
        if outcome.answers.is_empty() && (outcome.reset || outcome.closed) {
            outcome = Outcome {
                answers: vec![crate::wire::Answer {
                    status: 431,
                    ..Default::default()
                }],
                ..outcome
            };
        }
        let upstream = runner.world.upstream.since(before);
        course.records.push(Record {
            label: label.to_owned(),
            outcome,
            upstream,
            ..Record::default()
        });
    }
}

/// Each limit of a head, just below and just above, in both protocols: what one takes the other takes.
pub(super) async fn borders(runner: &Runner, wire: &Wire, token: &str, course: &mut Course) {
    let own = |name: &str, value: String| (name.to_owned(), value);
    let pairs = |count: usize, size: usize| {
        let value = "c".repeat(size);
        let pairs: Vec<String> = (0..count).map(|n| format!("n{n:03}={value}")).collect();
        pairs.join("; ")
    };
    let many = |count: usize| (0..count).map(|n| own(&format!("x-f{n}"), "1".to_owned()));
    let target = |length: usize| format!("/app?{}", "q".repeat(length));
    let plain = || "/app".to_owned();
    // What 32 KiB leave beside the request line, the host and the credential, in either protocol; what a field of five letters
    // needs beside its value.
    let around = "GET /app HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer \r\n\r\n";
    let (room, beside) = (32_768 - around.len() - token.len(), "x-f10: \r\n".len());
    type Head = (String, Vec<(String, String)>);
    let limits: Vec<(&str, Head, Head)> = vec![
        (
            "fields",
            // With the host and the credential: 100 and 101.
            (plain(), many(98).collect()),
            (plain(), many(99).collect()),
        ),
        (
            "the target",
            (target(8_192 - 5), Vec::new()),
            (target(8_193 - 5), Vec::new()),
        ),
        (
            "a field",
            (plain(), vec![own("x-big", "b".repeat(room - beside))]),
            (plain(), vec![own("x-big", "b".repeat(room - beside + 1))]),
        ),
        (
            "all fields",
            (
                plain(),
                (10..40)
                    .map(|n| own(&format!("x-f{n}"), "b".repeat(room / 30 - beside)))
                    .collect(),
            ),
            (
                plain(),
                (10..40)
                    .map(|n| own(&format!("x-f{n}"), "b".repeat(room / 30 - beside + 1)))
                    .collect(),
            ),
        ),
        (
            "bytes of cookies",
            (plain(), vec![own("cookie", pairs(4, 3_900))]),
            (plain(), vec![own("cookie", pairs(4, 4_200))]),
        ),
        (
            "bytes of cookies in several fields",
            (plain(), vec![own("cookie", pairs(2, 3_900)); 2]),
            (plain(), vec![own("cookie", pairs(2, 4_200)); 2]),
        ),
        (
            "pairs of cookies",
            (plain(), vec![own("cookie", pairs(100, 1))]),
            (plain(), vec![own("cookie", pairs(101, 1))]),
        ),
    ];
    for (what, below, above) in limits {
        for (side, (path, fields), good) in [("below", below, true), ("above", above, false)] {
            let lines: String = fields
                .iter()
                .map(|(n, v)| format!("{n}: {v}\r\n"))
                .collect();
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\n{lines}\r\n"
            );
            let mut frames = of("GET", &path, token);
            frames.extend(fields.iter().map(|(n, v)| field((n, v))));
            let before = runner.world.upstream.count();
            let first = h1::send(wire, head.as_bytes(), Wish::default()).await;
            sleep(Duration::from_millis(10)).await;
            let between = runner.world.upstream.count();
            let second = h2::send(wire, &frames, None).await;
            sleep(Duration::from_millis(10)).await;
            let after = runner.world.upstream.count();
            for (protocol, outcome, hits) in [
                ("HTTP/1.1", first, between - before),
                ("HTTP/2", second, after - between),
            ] {
                let status = outcome.answers.first().map(|answer| answer.status);
                let holds = match status {
                    Some(200) => good && hits == 1,
                    Some(400..500) => !good && hits == 0,
                    // A reset is a refusal, too.
                    None => !good && hits == 0 && (outcome.reset || outcome.closed),
                    Some(_) => false,
                };
                if !holds {
                    course.findings.push(format!(
                        "{what}, {side} the limit, in {protocol}: {status:?}, {hits} at the upstream"
                    ));
                }
            }
        }
    }
}

/// A hundred requests at once on one connection are taken, and another one is not.
pub(super) async fn streams(
    runner: &Runner,
    wire: &Wire,
    token: &str,
    course: &mut Course,
) -> Result<(), Stop> {
    let head = of("GET", "/app", token);
    let upstream = &runner.world.upstream;
    upstream.behave(crate::world::upstream::Manner::Silence);
    let before = upstream.count();
    let mut stream = wire.connect(b"h2").await.map_err(Stop::Fail)?;
    let heads = (0..101).map(|n| h2::head(2 * n + 1, &head));
    let bytes = [h2::hello(), heads.collect::<Vec<_>>().concat()].concat();
    let failed = |e: std::io::Error| Stop::Fail(format!("101 streams: {e}"));
    stream.write_all(&bytes).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut refused = Vec::new();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end && (refused.is_empty() || upstream.count() < before + 100) {
        let patience = Duration::from_millis(100);
        if let Ok(Some(id)) = timeout(patience, h2::next_reset(&mut *stream)).await {
            refused.push(id);
        }
    }
    let taken = upstream.count() - before;
    if taken != 100 || refused != [201] {
        course.findings.push(format!(
            "of 101 streams at once {taken} came to the upstream, and {refused:?} were reset"
        ));
    }
    Ok(())
}
