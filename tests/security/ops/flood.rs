//! Steps that send too much, too slowly, or too old.

mod greetings;
mod heads;

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::load::good;
use super::load::keeps;
use super::number;
use crate::run::Course;
use crate::run::Record;
use crate::run::Runner;
use crate::run::Stop;
use crate::wire::Outcome;
use crate::wire::Stream;
use crate::wire::Wire;
use crate::wire::h1;
use crate::wire::h1::Wish;
use crate::wire::h2;
use greetings::old_tls;
use heads::big_heads;
use heads::borders;
use heads::streams;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Extensions,
    Trailers,
    BigHeads,
    Borders,
    EmptyData,
    SlowHead,
    HalfPreface,
    Silent,
    SlowBody,
    OldTls,
}

pub(super) async fn perform(
    op: Op,
    runner: &mut Runner,
    arguments: &[&str],
    course: &mut Course,
) -> Result<(), Stop> {
    let wire = runner.world.public(runner.target()?);
    let token = course.vars.value(runner, "ALICE").await?;
    let auth = format!("Host: app.test\r\nAuthorization: Bearer {token}\r\n");
    match op {
        Op::Extensions => {
            let head = format!("POST /app HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n1;");
            let mut bytes = head.into_bytes();
            bytes.resize(bytes.len() + (1 << 20), b'e');
            bytes.extend_from_slice(b"\r\nA\r\n0\r\n\r\n");
            send(runner, &wire, "1 MiB of chunk extensions", &bytes, course).await;
        }
        Op::Trailers => {
            let head = format!(
                "POST /app HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n1\r\nA\r\n0\r\n"
            );
            let many: String = (0..10_000).map(|n| format!("X-T{n}: 1\r\n")).collect();
            let big = format!("X-T: {}\r\n", "t".repeat(1 << 20));
            for (label, trailers) in [("10,000 trailers", many), ("a trailer of 1 MiB", big)] {
                send(
                    runner,
                    &wire,
                    label,
                    format!("{head}{trailers}\r\n").as_bytes(),
                    course,
                )
                .await;
            }
        }
        Op::BigHeads => big_heads(runner, &wire, &token, course).await,
        Op::Borders => {
            borders(runner, &wire, &token, course).await;
            streams(runner, &wire, &token, course).await?;
        }
        Op::EmptyData => empty_data(runner, &wire, &token, course).await?,
        Op::SlowHead => {
            let (count, gap, most) = (
                number(arguments[0]),
                number(arguments[1]),
                number(arguments[2]),
            );
            let head = format!("GET /app HTTP/1.1\r\n{auth}\r\n");
            slow(
                runner,
                &wire,
                &Slow {
                    speaks: b"http/1.1",
                    count,
                    gap,
                    most,
                    first: 1,
                    bytes: head.into_bytes(),
                },
                course,
            )
            .await?;
        }
        Op::HalfPreface | Op::Silent => {
            let (count, most) = (number(arguments[0]), number(arguments[1]));
            let (speaks, bytes): (&[u8], _) = if op == Op::Silent {
                (b"h2", h2::hello())
            } else {
                (b"http/1.1", b"PRI * HT".to_vec())
            };
            let first = bytes.len();
            slow(
                runner,
                &wire,
                &Slow {
                    speaks,
                    count,
                    gap: 3_600,
                    most,
                    first,
                    bytes,
                },
                course,
            )
            .await?;
        }
        Op::SlowBody => {
            let (count, most) = (number(arguments[0]), number(arguments[1]));
            let denied =
                b"POST /admin/x HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\nxxxx"
                    .to_vec();
            let start = Instant::now();
            let outcome = h1::send(
                &wire,
                &denied,
                Wish {
                    closed: true,
                    patience: None,
                },
            )
            .await;
            let status = outcome.answers.first().map(|answer| answer.status);
            if status != Some(401) || !outcome.closed || Duration::from_secs(3) < start.elapsed() {
                course.findings.push(format!(
                    "a denied POST: {status:?}, closed: {}, after {} ms",
                    outcome.closed,
                    start.elapsed().as_millis()
                ));
            }
            let head = format!("POST /app HTTP/1.1\r\n{auth}Content-Length: 1000000\r\n\r\n");
            let first = head.len();
            let bytes = [head.into_bytes(), vec![b'x'; 100]].concat();
            slow(
                runner,
                &wire,
                &Slow {
                    speaks: b"http/1.1",
                    count,
                    gap: 10,
                    most,
                    first,
                    bytes,
                },
                course,
            )
            .await?;
        }
        Op::OldTls => old_tls(&wire, course).await,
    }
    Ok(())
}

async fn send(runner: &Runner, wire: &Wire, label: &str, bytes: &[u8], course: &mut Course) {
    let before = runner.world.upstream.count();
    let outcome = h1::send(
        wire,
        bytes,
        Wish {
            closed: true,
            patience: None,
        },
    )
    .await;
    sleep(Duration::from_millis(20)).await;
    let upstream = runner.world.upstream.since(before);
    course.records.push(Record {
        label: label.to_owned(),
        outcome,
        upstream,
        ..Record::default()
    });
}

/// Frames that carry nothing, until the other side has had enough.
async fn empty_data(
    runner: &Runner,
    wire: &Wire,
    token: &str,
    course: &mut Course,
) -> Result<(), Stop> {
    let head = heads::of("POST", "/app", token);
    let idle = good(runner, Duration::from_secs(3), course).await?;
    for (label, payload) in [
        ("empty DATA frames", &b""[..]),
        ("DATA frames of 1 byte", b"x"),
    ] {
        let mut stream = wire.connect(b"h2").await.map_err(Stop::Fail)?;
        let mut request = h2::request(&head, Some(b""));
        // The head alone, and the stream left open.
        request.truncate(request.len() - 9);
        let begin = [h2::hello(), request].concat();
        let mut outcome = Outcome::default();
        let many = h2::frame(0, 0, 1, payload).repeat(2_000);
        let start = Instant::now();
        outcome.closed = stream.write_all(&begin).await.is_err();
        let flood = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let read = async {
                let mut ignored = [0; 4096];
                while let Ok(1..) = reader.read(&mut ignored).await {}
            };
            let write = async {
                while start.elapsed() < Duration::from_secs(6) {
                    // A window that stays shut is an end, too.
                    if !matches!(
                        timeout(Duration::from_secs(2), writer.write_all(&many)).await,
                        Ok(Ok(()))
                    ) {
                        return true;
                    }
                    tokio::task::yield_now().await;
                }
                false
            };
            tokio::select! {
                () = read => true,
                ended = write => ended,
            }
        });
        // On another connection, meanwhile.
        let busy = good(runner, Duration::from_secs(2), course).await?;
        keeps(idle, busy, label, course);
        let ended = flood.await.unwrap_or(false);
        outcome.closed |= ended;
        let now = runner.target()?.rss().unwrap_or(0);
        course.memory.1 = course.memory.1.max(now);
        if !ended {
            course
                .findings
                .push(format!("{label}: still taken after 6 s"));
        }
    }
    Ok(())
}

/// Connections that take their time.
struct Slow {
    /// The protocol that is agreed on.
    speaks: &'static [u8],
    count: u64,
    /// Seconds between bytes.
    gap: u64,
    /// Seconds after which all must be closed.
    most: u64,
    /// How many bytes come at once at the beginning.
    first: usize,
    bytes: Vec<u8>,
}

async fn slow(runner: &Runner, wire: &Wire, slow: &Slow, course: &mut Course) -> Result<(), Stop> {
    let mut streams: Vec<Box<dyn Stream>> = Vec::new();
    for _ in 0..slow.count {
        streams.push(wire.connect(slow.speaks).await.map_err(Stop::Fail)?);
    }
    let (first, rest) = slow.bytes.split_at(slow.first.min(slow.bytes.len()));
    let (first, rest): (std::sync::Arc<[u8]>, std::sync::Arc<[u8]>) = (first.into(), rest.into());
    let (gap, most) = (
        Duration::from_secs(slow.gap),
        Duration::from_secs(slow.most),
    );
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let (first, rest) = (std::sync::Arc::clone(&first), std::sync::Arc::clone(&rest));
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let read = async {
                    let mut ignored = [0; 4096];
                    while let Ok(1..) = reader.read(&mut ignored).await {}
                };
                let write = async {
                    drop(writer.write_all(&first).await);
                    drop(writer.flush().await);
                    for byte in rest.iter() {
                        sleep(gap).await;
                        if writer.write_all(&[*byte]).await.is_err()
                            || writer.flush().await.is_err()
                        {
                            return;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                let both = async {
                    tokio::select! {
                        () = read => {}
                        () = write => {}
                    }
                };
                timeout(most, both).await.is_ok()
            })
        })
        .collect();
    let mut open = 0;
    for task in tasks {
        if !task.await.unwrap_or(false) {
            open += 1;
        }
    }
    let now = runner.target()?.rss().unwrap_or(0);
    course.memory.1 = course.memory.1.max(now);
    if 0 < open {
        course.findings.push(format!(
            "{open} of {} connections are open after {} s",
            slow.count, slow.most
        ));
    }
    Ok(())
}
