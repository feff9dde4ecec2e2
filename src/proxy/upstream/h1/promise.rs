//! What holds for answers of applications, whatever they are. See `crate::promises`.

use bytes::BytesMut;
use http::HeaderMap;
use http::StatusCode;
use http::header;

use crate::proxy::upstream::answer::AnswerFault;
use crate::proxy::upstream::h1::content::Piece;
use crate::proxy::upstream::h1::head;
use crate::proxy::upstream::h1::head::Head;

/// What was read of an answer.
#[derive(Debug, Eq, PartialEq)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    persists: bool,
    data: Vec<u8>,
    trailers: HeaderMap,
    ended: bool,
    /// What came behind it.
    rest: Vec<u8>,
}

/// Reads an answer as a connection does; `None`: its head has not ended.
fn read(
    parts: &mut dyn Iterator<Item = &[u8]>,
    bodiless: bool,
) -> Result<Option<Seen>, AnswerFault> {
    let (mut buffer, mut looked) = (BytesMut::new(), 0);
    let Head {
        status,
        headers,
        framing: mut decoder,
        persists,
    } = loop {
        if head::may_end(&buffer, looked)
            && let Some(head) = head::parse(&mut buffer, bodiless)?
        {
            break head;
        }
        looked = buffer.len();
        match parts.next() {
            Some(part) => buffer.extend_from_slice(part),
            None => return Ok(None),
        }
    };
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    loop {
        match decoder.decode(&mut buffer)? {
            Piece::Data(piece) => data.extend_from_slice(&piece),
            Piece::Trailers(fields) => trailers = fields,
            Piece::End => break,
            Piece::More => match parts.next() {
                Some(part) => buffer.extend_from_slice(part),
                None => break,
            },
        }
    }
    for part in parts {
        buffer.extend_from_slice(part);
    }
    Ok(Some(Seen {
        status,
        headers,
        persists,
        data,
        trailers,
        ended: decoder.is_ended(),
        rest: buffer.to_vec(),
    }))
}

/// An answer is the same in whatever pieces it comes, has one end, and takes nothing of what comes behind it. The first byte
/// says how the rest is cut, and whether a HEAD was asked.
pub(crate) fn answer(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (bodiless, cut) = (cut & 1 == 1, usize::from(cut >> 1).max(1));
    let whole = read(&mut std::iter::once(bytes), bodiless);
    let pieces = read(&mut bytes.chunks(cut), bodiless);
    match (&whole, &pieces) {
        // A head that drips in is judged when it ends.
        (Err(_), Ok(None)) => {}
        (Err(fault), pieces) => assert_eq!(pieces.as_ref().err(), Some(fault)),
        (whole, pieces) => assert_eq!(whole, pieces),
    }
    let Ok(Some(seen)) = whole else { return };
    assert!(seen.headers.len() <= head::MAX_FIELDS);
    let length = seen.headers.get(header::CONTENT_LENGTH);
    assert!(length.is_none() || !seen.headers.contains_key(header::TRANSFER_ENCODING));
    let due = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if let Some(due) = due
        && !seen.data.is_empty()
    {
        assert!(seen.data.len() as u64 <= due);
        assert_eq!(seen.ended, seen.data.len() as u64 == due);
    }
    if bodiless {
        assert!(seen.ended && seen.data.is_empty() && seen.trailers.is_empty());
    }
    if seen.ended {
        // What comes behind is another answer's.
        let more = [bytes, b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        let again = read(&mut std::iter::once(more.as_slice()), bodiless);
        let rest = [seen.rest.as_slice(), b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        assert_eq!(again, Ok(Some(Seen { rest, ..seen })));
    }
}
