//! The head of an HTTP/1.1 answer: read, and how its content is framed (RFC 9112 §6.3).

use std::mem::MaybeUninit;

use bytes::Buf as _;
use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use httparse::Header;
use httparse::ParserConfig;
use httparse::Status;

use crate::proxy::upstream::answer::AnswerFault;
use crate::proxy::upstream::h1::content::Decoder;

/// Fields of an answer; more is 502.
pub(super) const MAX_FIELDS: usize = 100;

/// An answer's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// How its content ends.
    pub(super) framing: Decoder,
    /// Whether another request may follow on this connection.
    pub(super) persists: bool,
}

/// Where a field stands in the buffer.
#[derive(Clone, Copy, Default)]
struct Span {
    name: (u32, u32),
    value: (u32, u32),
}

impl Span {
    fn of(field: &Header<'_>, start: usize) -> Self {
        let place = |at: *const u8, length: usize| {
            let from = at as usize - start;
            // A head is far smaller than 4 GiB.
            (from as u32, (from + length) as u32)
        };
        Self {
            name: place(field.name.as_ptr(), field.name.len()),
            value: place(field.value.as_ptr(), field.value.len()),
        }
    }
}

fn part(head: &Bytes, (from, to): (u32, u32)) -> &[u8] {
    head.get(from as usize..to as usize).unwrap_or_default()
}

/// Whether a head may have ended, of which `looked` bytes had not: one that drips in is not parsed again with every drop.
pub(super) fn may_end(buffer: &[u8], looked: usize) -> bool {
    let new = buffer.get(looked.saturating_sub(2)..).unwrap_or_default();
    match looked {
        // What is no head is seen at once.
        0 => !buffer.is_empty(),
        _ => {
            new.windows(2).any(|two| two == b"\n\n")
                || new.windows(3).any(|three| three == b"\n\r\n")
        }
    }
}

/// Takes one head out of `buffer`; `None` while it has not ended. `bodiless`: the request was a HEAD.
pub(super) fn parse(buffer: &mut BytesMut, bodiless: bool) -> Result<Option<Head>, AnswerFault> {
    let mut spans = [Span::default(); MAX_FIELDS];
    let (length, status, minor, count) = {
        let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut []);
        let read = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut answer, buffer, &mut fields)
            .or(Err(AnswerFault::Malformed))?;
        let Status::Complete(length) = read else {
            return Ok(None);
        };
        let start = buffer.as_ptr() as usize;
        for (span, field) in spans.iter_mut().zip(answer.headers.iter()) {
            *span = Span::of(field, start);
        }
        let code = answer.code.ok_or(AnswerFault::Malformed)?;
        let status = StatusCode::from_u16(code).or(Err(AnswerFault::Malformed))?;
        (length, status, answer.version, answer.headers.len())
    };
    // A copy: values live on in the tables of HTTP/2 clients, and each would keep all that was read with it.
    let head = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
    buffer.advance(length);
    let mut headers = HeaderMap::with_capacity(count + 4);
    let mut seen = Framed::default();
    for span in spans.iter().take(count) {
        let name =
            HeaderName::from_bytes(part(&head, span.name)).or(Err(AnswerFault::Malformed))?;
        let value = value(&head, part(&head, span.value))?;
        seen.note(&name, &value);
        headers.append(name, value);
    }
    let modern = minor == Some(1);
    Ok(Some(Head {
        framing: seen.framing(status, modern, bodiless)?,
        persists: modern && !seen.closes,
        status,
        headers,
    }))
}

/// Shares the bytes of the head.
fn value(head: &Bytes, part: &[u8]) -> Result<HeaderValue, AnswerFault> {
    HeaderValue::from_maybe_shared(head.slice_ref(part)).or(Err(AnswerFault::Malformed))
}

/// What the fields say about the end of the content.
#[derive(Default)]
struct Framed {
    length: Option<HeaderValue>,
    coding: Option<HeaderValue>,
    twice: bool,
    closes: bool,
}

impl Framed {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            header::CONTENT_LENGTH => self.twice |= self.length.replace(value.clone()).is_some(),
            header::TRANSFER_ENCODING => self.twice |= self.coding.replace(value.clone()).is_some(),
            header::CONNECTION => {
                self.closes |= value
                    .as_bytes()
                    .split(|byte| *byte == b',')
                    .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            _ => {}
        }
    }

    fn framing(
        &self,
        status: StatusCode,
        modern: bool,
        bodiless: bool,
    ) -> Result<Decoder, AnswerFault> {
        if self.twice || (self.length.is_some() && self.coding.is_some()) {
            return Err(AnswerFault::Framing);
        }
        let chunked = match &self.coding {
            // In HTTP/1.0 it is faulty (RFC 9112 §6.1).
            Some(coding) if modern && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
            Some(_) => return Err(AnswerFault::Framing),
            None => false,
        };
        let length = self.length.as_ref().map(length).transpose()?;
        let none = bodiless
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(match length {
            _ if none => Decoder::ended(),
            _ if chunked => Decoder::chunked(),
            Some(length) => Decoder::length(length),
            None => Decoder::until_close(),
        })
    }
}

/// Digits, and nothing else.
fn length(value: &HeaderValue) -> Result<u64, AnswerFault> {
    let text = value.to_str().or(Err(AnswerFault::Malformed))?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AnswerFault::Malformed);
    }
    text.parse().or(Err(AnswerFault::Malformed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, AnswerFault> {
        parse(&mut BytesMut::from(text), false)
    }

    #[test]
    fn a_head_is_taken_out_and_the_rest_stays() {
        let mut buffer = BytesMut::from(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nx-a:  two \r\nEmpty:\r\n\r\nok",
        );
        let head = parse(&mut buffer, false).unwrap().unwrap();
        assert_eq!(head.status, 200);
        let values: Vec<_> = head.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "two"]);
        assert_eq!(head.headers["empty"], "");
        assert_eq!(head.framing, Decoder::length(2));
        assert!(head.persists);
        assert_eq!(buffer, "ok");
    }

    #[test]
    fn nothing_is_taken_of_a_head_that_has_not_ended() {
        let whole = b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n";
        for end in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..end]);
            assert!(parse(&mut buffer, false).unwrap().is_none(), "{end}");
            assert_eq!(buffer.len(), end);
        }
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_parsed_at_its_end() {
        for whole in [
            &b"HTTP/1.1 204 No\r\nX: y\r\n\r\n"[..],
            b"HTTP/1.1 204 No\nX: y\n\n",
        ] {
            let mut parsed = Vec::new();
            for end in 1..=whole.len() {
                if may_end(&whole[..end], end - 1) {
                    parsed.push(end);
                }
            }
            assert_eq!(parsed, [1, whole.len()]);
            for first in 1..whole.len() {
                assert!(may_end(whole, first), "{first}");
            }
        }
        assert!(!may_end(b"", 0));
    }

    #[test]
    fn the_end_of_the_content_is_what_the_standard_says() {
        let framing = |text: &str, bodiless| {
            let head = parse(&mut BytesMut::from(text), bodiless).unwrap().unwrap();
            (head.framing, head.persists)
        };
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(framing(chunked, false), (Decoder::chunked(), true));
        assert_eq!(framing(chunked, true), (Decoder::ended(), true));
        let until = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(framing(until, false), (Decoder::until_close(), true));
        let empty = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(framing(empty, false), (Decoder::ended(), true));
        let old = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(framing(old, false), (Decoder::length(3), false));
        let closing = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x, Close\r\n\r\n";
        assert_eq!(framing(closing, false), (Decoder::length(3), false));
    }

    #[test]
    fn two_ways_to_end_are_refused() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(read(&head).unwrap_err(), AnswerFault::Framing, "{fields}");
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(old).unwrap_err(), AnswerFault::Framing);
    }

    #[test]
    fn what_is_not_a_head_is_malformed() {
        let crowded = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "A: b\r\n".repeat(MAX_FIELDS + 1)
        );
        for text in [
            "HTTP/1.1 99999 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            &crowded,
        ] {
            assert_eq!(read(text).unwrap_err(), AnswerFault::Malformed, "{text}");
        }
    }
}
