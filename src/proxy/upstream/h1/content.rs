//! The content of an HTTP/1.1 answer, out of its framing (RFC 9112 §6 and §7.1).

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use httparse::EMPTY_HEADER;
use httparse::Status;

use crate::proxy::upstream::answer::AnswerFault;

/// The line with the size of a chunk, extensions included.
const MAX_SIZE_LINE: usize = 4 * 1024;

/// The trailers of an answer, and how many there may be.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;

/// Where the content stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Decoder(State);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Nothing more belongs to the answer.
    Ended,
    /// So many bytes are due.
    Length(u64),
    /// All that comes until the connection ends.
    UntilClose,
    /// The size of the next chunk is due.
    Size,
    /// So many bytes of this chunk are due.
    Chunk(u64),
    /// The line end after a chunk is due.
    ChunkEnd,
    /// The trailers are due, or the empty line that says there are none.
    Trailers,
}

/// What was taken out of the buffer.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The answer is over, without more.
    End,
    /// More bytes are needed.
    More,
}

impl Decoder {
    pub(super) const fn ended() -> Self {
        Self(State::Ended)
    }

    pub(super) const fn length(length: u64) -> Self {
        match length {
            0 => Self(State::Ended),
            length => Self(State::Length(length)),
        }
    }

    pub(super) const fn chunked() -> Self {
        Self(State::Size)
    }

    pub(super) const fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Whether all of the content has come.
    pub(crate) const fn is_ended(&self) -> bool {
        matches!(self.0, State::Ended)
    }

    /// Whether the content ends with its connection.
    pub(super) const fn ends_with_connection(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }

    /// The bytes that are still due, where that is known.
    pub(crate) const fn left(&self) -> Option<u64> {
        match self.0 {
            State::Ended => Some(0),
            State::Length(left) => Some(left),
            State::UntilClose
            | State::Size
            | State::Chunk(_)
            | State::ChunkEnd
            | State::Trailers => None,
        }
    }

    /// The connection has ended: whether that is where the content ends.
    pub(super) const fn end_with_connection(&mut self) -> bool {
        let whole = matches!(self.0, State::UntilClose | State::Ended);
        if whole {
            self.0 = State::Ended;
        }
        whole
    }

    /// Takes what has come out of `buffer`.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Piece, AnswerFault> {
        loop {
            match self.0 {
                State::Ended => return Ok(Piece::End),
                _ if buffer.is_empty() => return Ok(Piece::More),
                State::UntilClose => return Ok(Piece::Data(buffer.split().freeze())),
                State::Length(due) => {
                    let (data, left) = take(buffer, due);
                    *self = Self::length(left);
                    return Ok(Piece::Data(data));
                }
                State::Chunk(due) => {
                    let (data, left) = take(buffer, due);
                    self.0 = match left {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    };
                    return Ok(Piece::Data(data));
                }
                State::Size => match size_line(buffer)? {
                    None => return Ok(Piece::More),
                    Some(0) => self.0 = State::Trailers,
                    Some(size) => self.0 = State::Chunk(size),
                },
                State::ChunkEnd => {
                    if !b"\r\n".starts_with(buffer.get(..2).unwrap_or(buffer)) {
                        return Err(AnswerFault::Malformed);
                    }
                    if buffer.len() < 2 {
                        return Ok(Piece::More);
                    }
                    drop(buffer.split_to(2));
                    self.0 = State::Size;
                }
                State::Trailers => {
                    let Some(fields) = trailers(buffer)? else {
                        return Ok(Piece::More);
                    };
                    self.0 = State::Ended;
                    return Ok(if fields.is_empty() {
                        Piece::End
                    } else {
                        Piece::Trailers(fields)
                    });
                }
            }
        }
    }
}

/// What of `due` bytes has come, and how many are still due.
fn take(buffer: &mut BytesMut, due: u64) -> (Bytes, u64) {
    let here = usize::try_from(due).map_or(buffer.len(), |due| due.min(buffer.len()));
    let data = buffer.split_to(here).freeze();
    (data, due - here as u64)
}

/// Takes the line that says how large the next chunk is. Extensions mean nothing to us (RFC 9112 §7.1.1).
fn size_line(buffer: &mut BytesMut) -> Result<Option<u64>, AnswerFault> {
    let seen = buffer.get(..MAX_SIZE_LINE).unwrap_or(buffer);
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < MAX_SIZE_LINE {
            Ok(None)
        } else {
            Err(AnswerFault::Malformed)
        };
    };
    let line = buffer.split_to(end + 1);
    let size = line.strip_suffix(b"\r\n").and_then(size);
    size.map(Some).ok_or(AnswerFault::Malformed)
}

/// At least one digit and at most sixteen; then nothing, blanks, or an extension of visible characters.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (digits, rest) = line.split_at_checked(digits.count())?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let extended = rest.iter().find(|byte| !blank(byte));
    let fits = (1..=16).contains(&digits.len())
        && extended.is_none_or(|first| *first == b';')
        && !rest
            .iter()
            .any(|byte| byte.is_ascii_control() && !blank(byte));
    let digits = std::str::from_utf8(digits).ok()?;
    fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Takes the trailers; none at all is an empty map.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, AnswerFault> {
    let mut fields = [EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let (length, map) = match httparse::parse_headers(buffer, &mut fields) {
        Ok(Status::Complete((length, fields))) if length <= MAX_TRAILERS => {
            let mut map = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes())
                    .or(Err(AnswerFault::Malformed))?;
                let value = HeaderValue::from_bytes(field.value).or(Err(AnswerFault::Malformed))?;
                map.append(name, value);
            }
            (length, map)
        }
        Ok(Status::Partial) if buffer.len() <= MAX_TRAILERS => return Ok(None),
        Ok(_) | Err(_) => return Err(AnswerFault::Malformed),
    };
    drop(buffer.split_to(length));
    Ok(Some(map))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All pieces of `text`, which comes in parts of `part` bytes.
    fn all(
        mut decoder: Decoder,
        text: &[u8],
        part: usize,
    ) -> Result<(Vec<u8>, HeaderMap, Decoder, BytesMut), AnswerFault> {
        let (mut buffer, mut data, mut fields) = (BytesMut::new(), Vec::new(), HeaderMap::new());
        let mut parts = text.chunks(part);
        loop {
            match decoder.decode(&mut buffer)? {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::Trailers(map) => fields = map,
                Piece::End => break,
                Piece::More => match parts.next() {
                    Some(more) => buffer.extend_from_slice(more),
                    None => break,
                },
            }
        }
        for rest in parts {
            buffer.extend_from_slice(rest);
        }
        Ok((data, fields, decoder, buffer))
    }

    #[test]
    fn chunks_come_out_in_whatever_parts_they_come() {
        let text = b"4\r\nhalf\r\nA;x=\"y\"\r\n0123456789\r\n000\r\nX-Sum: 7\r\n\r\nnext";
        for part in 1..=text.len() {
            let (data, fields, decoder, rest) = all(Decoder::chunked(), text, part).unwrap();
            assert_eq!(data, b"half0123456789", "{part}");
            assert_eq!(fields["x-sum"], "7");
            assert!(decoder.is_ended());
            assert_eq!(rest, "next");
        }
    }

    #[test]
    fn a_length_takes_no_byte_more() {
        let (data, _, decoder, rest) = all(Decoder::length(3), b"abcdef", 2).unwrap();
        assert_eq!((data.as_slice(), &rest[..]), (&b"abc"[..], &b"def"[..]));
        assert!(decoder.is_ended());
        let (_, _, mut decoder, _) = all(Decoder::length(3), b"ab", 2).unwrap();
        assert_eq!(decoder.left(), Some(1));
        assert!(!decoder.end_with_connection());
        assert!(Decoder::length(0).is_ended());
    }

    #[test]
    fn what_has_no_length_ends_with_the_connection() {
        let (data, _, mut decoder, _) = all(Decoder::until_close(), b"abc", 2).unwrap();
        assert_eq!(data, b"abc");
        assert!(!decoder.is_ended());
        assert!(decoder.end_with_connection() && decoder.is_ended());
        let mut half = Decoder::chunked();
        assert!(!half.end_with_connection());
    }

    #[test]
    fn broken_chunks_are_malformed() {
        let long = format!("1;{}\r\n", "x".repeat(MAX_SIZE_LINE));
        let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(MAX_TRAILERS));
        let crowded = format!("0\r\n{}\r\n", "X: y\r\n".repeat(MAX_TRAILER_FIELDS + 1));
        for text in [
            "zz\r\n",
            "\r\n",
            "-1\r\n",
            "0x1\r\n",
            "11111111111111111\r\n",
            ";x\r\nab",
            "2 x\r\nab\r\n",
            "2;\rx\r\nab\r\n",
            "2\r\r\nab\r\n",
            "4\nhalf\r\n",
            "2\r\nabc\r\n",
            "2\r\nab\n0\r\n\r\n",
            "2\r\nab0\r\n\r\n",
            "0\r\nbad name: x\r\n\r\n",
            &long,
            &trailers,
            &crowded,
        ] {
            let read = all(Decoder::chunked(), text.as_bytes(), 1024);
            assert_eq!(read.map(|_| ()), Err(AnswerFault::Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_out_again(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            part in 1_usize..50,
            next in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            text.extend_from_slice(&next);
            let (data, fields, decoder, rest) = all(Decoder::chunked(), &text, part).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert!(fields.is_empty() && decoder.is_ended());
            prop_assert_eq!(&rest[..], &next[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..200), part in 1_usize..20) {
            let _whatever = all(Decoder::chunked(), &text, part);
        }
    }
}
