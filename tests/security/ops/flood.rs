//! Steps that send too much, too slowly, or too old.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

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

async fn big_heads(runner: &Runner, wire: &Wire, token: &str, course: &mut Course) {
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
    let field = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
    let base = |path: String| {
        vec![
            field(":method", "GET".to_owned()),
            field(":scheme", "https".to_owned()),
            field(":authority", "app.test".to_owned()),
            field(":path", path),
            field("authorization", format!("Bearer {token}")),
        ]
    };
    let mut many = base("/app".to_owned());
    many.extend((0..300).map(|n| field(&format!("x-f{n}"), "1".to_owned())));
    let mut big = base("/app".to_owned());
    big.push(field("x-big", "b".repeat(40 << 10)));
    let long = base(format!("/app?{}", "q".repeat(32 << 10)));
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
async fn borders(runner: &Runner, wire: &Wire, token: &str, course: &mut Course) {
    let own = |name: &str, value: String| (name.to_owned(), value);
    let pairs = |count: usize, size: usize| {
        let value = "c".repeat(size);
        let pairs: Vec<String> = (0..count).map(|n| format!("n{n:03}={value}")).collect();
        pairs.join("; ")
    };
    let many = |count: usize| (0..count).map(|n| own(&format!("x-f{n}"), "1".to_owned()));
    let target = |length: usize| format!("/app?{}", "q".repeat(length));
    let plain = || "/app".to_owned();
    type Head = (String, Vec<(String, String)>);
    let limits: Vec<(&str, Head, Head)> = vec![
        (
            "fields",
            // With `Host`, which is none in HTTP/2, and the credential: 100 and 99, 102 and 101.
            (plain(), many(98).collect()),
            (plain(), many(100).collect()),
        ),
        (
            "the target",
            (target(8_192 - 5), Vec::new()),
            (target(8_193 - 5), Vec::new()),
        ),
        (
            "a field",
            // Everything around it is the credential and less than 400 bytes.
            (
                plain(),
                vec![own("x-big", "b".repeat(32_368 - token.len()))],
            ),
            (plain(), vec![own("x-big", "b".repeat(32_768))]),
        ),
        (
            "all fields",
            (
                plain(),
                (0..30)
                    .map(|n| own(&format!("x-f{n}"), "b".repeat(950)))
                    .collect(),
            ),
            (
                plain(),
                (0..30)
                    .map(|n| own(&format!("x-f{n}"), "b".repeat(1_150)))
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
            let bytes =
                |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
            let bearer = format!("Bearer {token}");
            let mut frames: Vec<_> = [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "app.test"),
                (":path", path.as_str()),
                ("authorization", bearer.as_str()),
            ]
            .into_iter()
            .map(bytes)
            .collect();
            frames.extend(fields.iter().map(|(n, v)| bytes((n, v))));
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
async fn streams(
    runner: &Runner,
    wire: &Wire,
    token: &str,
    course: &mut Course,
) -> Result<(), Stop> {
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let head = [
        field(":method", "GET"),
        field(":scheme", "https"),
        field(":authority", "app.test"),
        field(":path", "/app"),
        field("authorization", &format!("Bearer {token}")),
    ];
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

/// Frames that carry nothing, until the other side has had enough.
async fn empty_data(
    runner: &Runner,
    wire: &Wire,
    token: &str,
    course: &mut Course,
) -> Result<(), Stop> {
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let head = [
        field(":method", "POST"),
        field(":scheme", "https"),
        field(":authority", "app.test"),
        field(":path", "/app"),
        field("authorization", &format!("Bearer {token}")),
    ];
    runner
        .world
        .upstream
        .behave(crate::world::upstream::Manner::Silence);
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
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
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
        let ended = tokio::select! {
            () = read => true,
            ended = write => ended,
        };
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

/// Greetings of the past: none may be answered with a ServerHello.
async fn old_tls(wire: &Wire, course: &mut Course) {
    let suites: [(&str, u16, &[u16]); 6] = [
        ("SSLv3", 0x0300, &[0x002f, 0x0035]),
        ("TLS 1.0", 0x0301, &[0x002f, 0xc013]),
        ("TLS 1.1", 0x0302, &[0x002f, 0xc013]),
        ("RC4", 0x0303, &[0x0005, 0xc011]),
        ("3DES", 0x0303, &[0x000a, 0xc012]),
        ("export", 0x0303, &[0x0003, 0x0008]),
    ];
    for (name, version, suites) in suites {
        let mut hello = version.to_be_bytes().to_vec();
        hello.extend([7; 32]);
        hello.push(0);
        hello.extend(((suites.len() * 2) as u16).to_be_bytes());
        hello.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
        hello.extend([1, 0]);
        // server_name app.test, supported_groups, signature_algorithms
        let mut extensions = vec![0, 0, 0, 13, 0, 11, 0, 0, 8];
        extensions.extend(b"app.test");
        extensions.extend([0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 6, 0, 4, 4, 3, 4, 1]);
        if version != 0x0300 {
            hello.extend((extensions.len() as u16).to_be_bytes());
            hello.extend(extensions);
        }
        let mut message = vec![1, 0];
        message.extend((hello.len() as u16).to_be_bytes());
        message.extend(hello);
        let mut record = vec![22, 3, u8::from(version != 0x0300)];
        record.extend((message.len() as u16).to_be_bytes());
        record.extend(message);
        let plain = Wire {
            to: wire.to,
            tls: None,
        };
        let Ok(mut stream) = plain.connect(b"").await else {
            continue;
        };
        let mut first = [0; 1];
        drop(stream.write_all(&record).await);
        match timeout(Duration::from_secs(3), stream.read(&mut first)).await {
            Ok(Ok(1)) if first == [22] => course
                .findings
                .push(format!("{name} was answered with a handshake")),
            Err(_) => course
                .findings
                .push(format!("{name} was not answered at all")),
            Ok(_) => {}
        }
    }
}
