//! HTTP/2, frame by frame: what a polite client library would refuse to send is sent.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use tokio::time::timeout;

use super::Answer;
use super::Outcome;
use super::Stream;
use super::Wire;
use super::hpack;

const PATIENCE: Duration = Duration::from_secs(8);
/// The connection preface (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// One frame (RFC 9113 §4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut all = vec![length[1], length[2], length[3], kind, flags];
    all.extend_from_slice(&stream.to_be_bytes());
    all.extend_from_slice(payload);
    all
}

/// The first bytes of a client: its preface and settings that forbid a compression table and pushes.
pub(crate) fn hello() -> Vec<u8> {
    let mut settings = Vec::new();
    for (name, value) in [(1_u16, 0_u32), (2, 0), (4, 1 << 20)] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    [PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()
}

/// A request on stream 1, in as many frames as its fields need.
pub(crate) fn request(headers: &[(Vec<u8>, Vec<u8>)], body: Option<&[u8]>) -> Vec<u8> {
    let block = hpack::encode(headers);
    let end = if body.is_none() { END_STREAM } else { 0 };
    let mut chunks = block.chunks(16_000).peekable();
    let mut all = Vec::new();
    let mut kind = HEADERS;
    if chunks.peek().is_none() {
        all.extend(frame(HEADERS, end | END_HEADERS, 1, &[]));
    }
    while let Some(chunk) = chunks.next() {
        let last = if chunks.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        let flags = if kind == HEADERS { end | last } else { last };
        all.extend(frame(kind, flags, 1, chunk));
        kind = CONTINUATION;
    }
    if let Some(body) = body {
        all.extend(frame(DATA, END_STREAM, 1, body));
    }
    all
}

/// The head of a request that is whole with it, on any stream.
pub(crate) fn head(stream: u32, headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let block = hpack::encode(headers);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

/// The stream of the next frame, if that resets one; anything else is passed over, and answered where it must be.
pub(crate) async fn next_reset(stream: &mut dyn Stream) -> Option<u32> {
    let (kind, flags, id, _) = next(stream).await?;
    if kind == SETTINGS && flags & ACK == 0 {
        drop(stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await);
    }
    (kind == RST_STREAM).then_some(id)
}

/// Sends one request on a fresh connection and reads its answer, or its end.
pub(crate) async fn send(
    wire: &Wire,
    headers: &[(Vec<u8>, Vec<u8>)],
    body: Option<&[u8]>,
) -> Outcome {
    let mut outcome = Outcome::default();
    match timeout(PATIENCE, wire.connect(b"h2")).await {
        Ok(Ok(mut stream)) => {
            let start = Instant::now();
            let bytes = [hello(), request(headers, body)].concat();
            let exchange = exchange(&mut *stream, &bytes, start, &mut outcome);
            if timeout(PATIENCE, exchange).await.is_err() && outcome.answers.is_empty() {
                outcome.failed = Some("no answer in time".to_owned());
            }
        }
        Ok(Err(why)) => outcome.failed = Some(why),
        Err(_) => outcome.failed = Some("no connection in time".to_owned()),
    }
    outcome
}

async fn exchange(stream: &mut dyn Stream, bytes: &[u8], start: Instant, outcome: &mut Outcome) {
    if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
        outcome.closed = true;
    }
    let mut block = Vec::new();
    let mut answer: Option<Answer> = None;
    loop {
        let Some((kind, flags, id, payload)) = next(stream).await else {
            outcome.closed = true;
            break;
        };
        outcome.raw.extend_from_slice(&[kind, flags]);
        let ends = flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS) && id == 1;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                drop(stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await)
            }
            PING if flags & ACK == 0 => {
                drop(stream.write_all(&frame(PING, ACK, 0, &payload)).await)
            }
            HEADERS | CONTINUATION if id == 1 => {
                block.extend(fields(kind, flags, payload));
                if flags & END_HEADERS != 0 {
                    outcome.first.get_or_insert_with(|| start.elapsed());
                    let headers = hpack::decode(&block).unwrap_or_default();
                    block.clear();
                    let status = headers.iter().find(|(name, _)| name == ":status");
                    let status = status.and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
                    if (100..200).contains(&status) {
                        outcome.interim.push(status);
                    } else if answer.is_none() {
                        answer = Some(Answer {
                            status,
                            headers,
                            body: Vec::new(),
                        });
                    }
                }
            }
            DATA if id == 1 => {
                let grown = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
                if let Some(answer) = &mut answer {
                    answer.body.extend(payload);
                }
                if grown != [0; 4] {
                    drop(stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &grown)).await);
                    drop(stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &grown)).await);
                }
            }
            RST_STREAM if id == 1 => {
                // No error after a whole answer: the server wants no more of the body (RFC 9113 §8.1).
                outcome.reset = answer.is_none() || payload != [0; 4];
                break;
            }
            GOAWAY => {
                outcome.reset = payload.get(4..8) != Some(&[0; 4]);
                break;
            }
            _ => {}
        }
        if ends && answer.is_some() && flags & END_HEADERS != 0 || ends && kind == DATA {
            break;
        }
    }
    outcome.answers.extend(answer);
}

/// The part of a HEADERS or CONTINUATION frame that holds fields.
fn fields(kind: u8, flags: u8, mut payload: Vec<u8>) -> Vec<u8> {
    if kind == HEADERS && flags & PADDED != 0 && !payload.is_empty() {
        let padding = usize::from(payload.remove(0));
        payload.truncate(payload.len().saturating_sub(padding));
    }
    if kind == HEADERS && flags & PRIORITY != 0 {
        payload.drain(..5.min(payload.len()));
    }
    payload
}

async fn next(stream: &mut dyn Stream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, s1, s2, s3, s4] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let id = u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, id, payload))
}
