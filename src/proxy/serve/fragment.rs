//! Sees fragments in the targets of HTTP/1.1, which the parser cuts off before anybody can refuse them.
//!
//! A target has no fragment (RFC 9112 §3.2), so a `#` is a client that is broken, or one that hopes that two programs read
//! its target differently. What is looked at is the request line at the beginning of what arrives between two requests. A
//! head that arrives together with the one before it (pipelining) is not looked at: its fragment is cut off, so it is
//! neither judged nor forwarded.

use std::sync::Arc;

use crate::proxy::serve::vitals::Vitals;
use crate::proxy::serve::watched::Sees;

/// What ends a request line, as far as it is asked for.
const VERSION: &[u8] = b" HTTP/1.";

/// Sees a stream of HTTP/1.1 requests; a fragment in a target is noted in the vitals.
pub(super) struct Targets {
    vitals: Arc<Vitals>,
    watch: Watch,
}

impl Targets {
    /// Notes it in `vitals`.
    pub(super) const fn new(vitals: Arc<Vitals>) -> Self {
        Self {
            vitals,
            watch: Watch::new(),
        }
    }
}

/// Where the present request line stands.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// How many requests had begun when the line did; `None` before the first.
    line_of: Option<u32>,
    line: Line,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    /// Only the empty lines that may stand before it (RFC 9112 §2.2).
    Blank,
    /// Begun; with a `#` or without.
    Begun { hash: bool },
    /// Over.
    Ended,
}

impl Watch {
    const fn new() -> Self {
        Self {
            line_of: None,
            line: Line::Blank,
        }
    }

    /// Looks at bytes that came while no request was under way, and `begun` had begun before. True when they end a request
    /// line with a `#` in it.
    fn sees(&mut self, begun: u32, bytes: &[u8]) -> bool {
        if self.line_of != Some(begun) {
            self.line_of = Some(begun);
            self.line = Line::Blank;
        }
        let (bytes, hash) = match self.line {
            Line::Ended => return false,
            Line::Blank => {
                let blank = bytes
                    .iter()
                    .take_while(|byte| matches!(byte, b'\r' | b'\n'));
                match bytes.get(blank.count()..) {
                    Some(rest) if !rest.is_empty() => (rest, false),
                    Some(_) | None => return false,
                }
            }
            Line::Begun { hash } => (bytes, hash),
        };
        let (mut found, mut end) = (false, None);
        for (place, byte) in bytes.iter().enumerate() {
            match byte {
                b'#' => found = true,
                b'\n' => {
                    end = Some(place);
                    break;
                }
                _ => {}
            }
        }
        let Some(end) = end else {
            self.line = Line::Begun {
                hash: hash || found,
            };
            return false;
        };
        self.line = Line::Ended;
        (hash || found) && ends_like_a_request_line(bytes.get(..end).unwrap_or_default())
    }
}

/// The rest of a head that began together with the one before it is no request line. Too little to tell counts as one.
fn ends_like_a_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.split_last() {
        Some((_, before)) if VERSION.len() <= before.len() => before.ends_with(VERSION),
        Some(_) | None => true,
    }
}

impl Sees for Targets {
    fn came(&mut self, bytes: &[u8]) {
        if self.vitals.in_flight() == 0 && self.watch.sees(self.vitals.begun(), bytes) {
            self.vitals.note_fragment();
        }
    }
}

/// A fragment that is seen at once is seen in pieces, and none is seen where none is. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let at_once = Watch::new().sees(0, bytes);
    let mut watch = Watch::new();
    let pieces = bytes.chunks(usize::from(*cut).max(1));
    let seen = pieces.filter(|piece| watch.sees(0, piece)).count();
    // A request has one line.
    assert!(seen <= 1);
    assert!(!at_once || seen == 1);
    let blank = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    let rest = bytes.get(blank.count()..).unwrap_or_default();
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    assert!(seen == 0 || line.contains(&b'#'));
    if line.contains(&b'#') && line.len() < rest.len() && ends_like_a_request_line(line) {
        assert!(at_once);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(pieces: &[&[u8]]) -> bool {
        let mut watch = Watch::new();
        pieces.iter().filter(|piece| watch.sees(0, piece)).count() != 0
    }

    #[test]
    fn only_a_hash_in_the_request_line_is_seen() {
        assert!(seen(&[b"GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n"]));
        assert!(seen(&[b"\r\n\nGET /x#y HTTP/1.0\nHost: a\r\n\r\n"]));
        assert!(seen(&[b"GET http://a/#", b" HTTP/1.1", b"\r", b"\n"]));
        assert!(!seen(&[b"GET /x HTTP/1.1\r\nX: #y HTTP/1.1\r\n\r\n"]));
        assert!(!seen(&[b"POST /x HTTP/1.1\r\n\r\n", b"#\n HTTP/1.1\n"]));
    }

    #[test]
    fn the_rest_of_an_earlier_head_is_no_request_line() {
        assert!(!seen(&[b"X-Color-Of-It: #fff\r\nHost: a\r\n\r\n"]));
    }

    #[test]
    fn every_request_has_a_line() {
        let mut watch = Watch::new();
        assert!(!watch.sees(0, b"GET /x HTTP/1.1\r\n\r\n"));
        assert!(watch.sees(1, b"GET /x#y HTTP/1.1\r\n\r\n"));
        assert!(!watch.sees(2, b"GET /x HTTP/1.1\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(target in "/[a-z#]{0,12}", cut in 0_usize..64) {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let (first, second) = head.as_bytes().split_at(cut.min(head.len()));
            prop_assert_eq!(seen(&[first, second]), target.contains('#'));
        }

        #[test]
        fn nothing_panics(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            seen(&pieces);
        }
    }
}
