//! HTTP/1.1, as raw bytes.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::timeout;

use super::Answer;
use super::Outcome;
use super::Stream;
use super::Wire;

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// The most that is read from one connection.
const MOST: usize = 8 * 1024 * 1024;

/// What the sender wants to know beside the answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// Whether the other side closes: waits for it.
    pub(crate) closed: bool,
    /// How long the first answer may take, if not the usual time.
    pub(crate) patience: Option<Duration>,
}

/// Sends `bytes` on a fresh connection and reads what comes until it is quiet.
pub(crate) async fn send(wire: &Wire, bytes: &[u8], wish: Wish) -> Outcome {
    let mut stream = match timeout(PATIENCE, wire.connect(b"http/1.1")).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return failed(why),
        Err(_) => return failed("no connection in time".to_owned()),
    };
    let start = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let mut outcome = Outcome::default();
    let quiet = quiet(bytes);
    // Reads while it writes: a server may answer and close before it has read everything.
    let write = async {
        let sent = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        if timeout(PATIENCE, sent).await.is_err() {
            return;
        }
        std::future::pending::<()>().await;
    };
    let head_only = bytes.starts_with(b"HEAD ");
    let read = async {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let parsed = parse(&outcome.raw, head_only, outcome.closed);
            let whole = parsed.complete && !parsed.answers.is_empty();
            (outcome.answers, outcome.interim) = (parsed.answers, parsed.interim);
            if outcome.closed || MOST < outcome.raw.len() {
                return;
            }
            let wait = match (whole, wish.closed) {
                (true, true) => Duration::from_secs(3),
                (true, false) => quiet,
                (false, _) => wish
                    .patience
                    .unwrap_or(PATIENCE)
                    .saturating_sub(start.elapsed()),
            };
            match timeout(wait, reader.read(&mut chunk)).await {
                Ok(Ok(0) | Err(_)) => outcome.closed = true,
                Ok(Ok(n)) => {
                    outcome.first.get_or_insert_with(|| start.elapsed());
                    outcome
                        .raw
                        .extend_from_slice(chunk.get(..n).unwrap_or_default());
                }
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
    outcome
}

/// A connection that stays open for one request after another.
pub(crate) struct Line {
    wire: Wire,
    open: Option<Box<dyn Stream>>,
}

impl Line {
    /// Opened when it is first used, and again when the other side has closed it.
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, open: None }
    }

    /// One request and its first answer.
    pub(crate) async fn ask(&mut self, bytes: &[u8]) -> Outcome {
        let asked = async {
            // An idle connection may be closed while the request is on its way: once more on a new one.
            for _ in 0..2 {
                let mut stream = match self.open.take() {
                    Some(stream) => stream,
                    None => self.wire.connect(b"http/1.1").await?,
                };
                let start = Instant::now();
                if stream.write_all(bytes).await.is_err() {
                    continue;
                }
                let mut outcome = Outcome::default();
                let mut chunk = [0; 16 * 1024];
                loop {
                    let parsed = parse(&outcome.raw, false, outcome.closed);
                    (outcome.answers, outcome.interim) = (parsed.answers, parsed.interim);
                    if parsed.complete && !outcome.answers.is_empty() {
                        if !outcome.closed {
                            self.open = Some(stream);
                        }
                        return Ok(outcome);
                    }
                    match stream.read(&mut chunk).await {
                        Ok(n @ 1..) => {
                            outcome.first.get_or_insert_with(|| start.elapsed());
                            outcome.raw.extend_from_slice(&chunk[..n]);
                        }
                        Ok(0) | Err(_) if outcome.raw.is_empty() => break,
                        Ok(0) | Err(_) => outcome.closed = true,
                    }
                }
            }
            Err("closed without an answer".to_owned())
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(why)) => failed(why),
            Err(_) => failed("no answer in time".to_owned()),
        }
    }
}

fn failed(why: String) -> Outcome {
    Outcome {
        failed: Some(why),
        ..Outcome::default()
    }
}

/// How long silence after an answer means that no other follows. Bytes behind the first head may be a second request.
fn quiet(bytes: &[u8]) -> Duration {
    let end = find(bytes, b"\r\n\r\n").map(|at| at + 4);
    if end == Some(bytes.len()) {
        Duration::from_millis(25)
    } else {
        Duration::from_millis(250)
    }
}

struct Parsed {
    answers: Vec<Answer>,
    interim: Vec<u16>,
    /// Nothing is begun and not ended.
    complete: bool,
}

fn parse(raw: &[u8], head_only: bool, closed: bool) -> Parsed {
    let mut parsed = Parsed {
        answers: Vec::new(),
        interim: Vec::new(),
        complete: true,
    };
    let mut rest = raw;
    while !rest.is_empty() {
        let Some((mut answer, after)) = head(rest) else {
            parsed.complete = false;
            break;
        };
        if (100..200).contains(&answer.status) && answer.status != 101 {
            parsed.interim.push(answer.status);
            rest = after;
            continue;
        }
        let (body, after, ended) = body(&answer, after, head_only, closed);
        answer.body = body;
        let tunnel = answer.status == 101;
        parsed.answers.push(answer);
        parsed.complete = ended;
        rest = after;
        if !ended || tunnel {
            break;
        }
    }
    parsed
}

fn head(raw: &[u8]) -> Option<(Answer, &[u8])> {
    let end = find(raw, b"\r\n\r\n")?;
    let text: String = raw.get(..end)?.iter().map(|b| char::from(*b)).collect();
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    Some((answer, raw.get(end + 4..)?))
}

fn body<'a>(
    answer: &Answer,
    raw: &'a [u8],
    head_only: bool,
    closed: bool,
) -> (Vec<u8>, &'a [u8], bool) {
    if head_only || matches!(answer.status, 101 | 204 | 304) {
        return (Vec::new(), raw, true);
    }
    if answer.header("transfer-encoding").is_some() {
        return chunked(raw);
    }
    match answer.header("content-length").and_then(|v| v.parse().ok()) {
        Some(length) if length <= raw.len() => {
            let (body, rest) = raw.split_at(length);
            (body.to_vec(), rest, true)
        }
        Some(_) => (raw.to_vec(), &[], false),
        None => (raw.to_vec(), &[], closed),
    }
}

fn chunked(raw: &[u8]) -> (Vec<u8>, &[u8], bool) {
    let mut body = Vec::new();
    let mut rest = raw;
    loop {
        let Some(line) = find(rest, b"\r\n") else {
            return (body, &[], false);
        };
        let (size, after) = rest.split_at(line);
        let size = String::from_utf8_lossy(size);
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return (body, &[], false);
        };
        let after = after.get(2..).unwrap_or_default();
        if size == 0 {
            // Trailers end with an empty line.
            let end = if after.starts_with(b"\r\n") {
                Some(0)
            } else {
                find(after, b"\r\n\r\n").map(|at| at + 2)
            };
            return match end {
                Some(end) => (body, after.get(end + 2..).unwrap_or_default(), true),
                None => (body, &[], false),
            };
        }
        let (Some(chunk), Some(next)) = (after.get(..size), after.get(size + 2..)) else {
            return (body, &[], false);
        };
        body.extend_from_slice(chunk);
        rest = next;
    }
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
