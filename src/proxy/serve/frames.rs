//! Sees heads that never end on HTTP/2.
//!
//! Between a HEADERS frame and the end of its block nothing else may come on a connection (RFC 9113 §4.3), so a head that has begun
//! holds up all streams, and no request is under way that could be timed. What is watched is where frames begin and end: a
//! connection *owes* from the first byte of a frame that is not DATA to its last one, within a field block to the end of the block, and
//! from its preface to its first frame. How long it may, the sweep knows; what DATA frames carry has its pace already.

use std::sync::Arc;

use crate::proxy::serve::vitals::Vitals;
use crate::proxy::serve::watched::Sees;

/// `PRI * HTTP/2.0…` (RFC 9113 §3.4).
const PREFACE: u32 = 24;

/// Length, type, flags, stream.
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Sees a stream of HTTP/2 frames from a client, beginning with the preface; what it owes is noted in the vitals.
pub(super) struct Frames {
    vitals: Arc<Vitals>,
    watch: Watch,
}

impl Frames {
    /// Notes it in `vitals`.
    pub(super) fn new(vitals: Arc<Vitals>) -> Self {
        let watch = Watch::new();
        vitals.owes_head(watch.owes());
        Self { vitals, watch }
    }
}

/// Where in a frame the stream stands.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// Bytes of the present payload (or of the preface) that are still to come.
    left: u32,
    /// The beginning of the present frame's head.
    head: [u8; FRAME_HEAD],
    got: usize,
    /// The payload is DATA.
    data: bool,
    /// A field block has begun and not ended; or no frame has come yet.
    block: bool,
    /// Which of the things that the client began it has to end. Wraps, and is never 0.
    which: u32,
}

impl Watch {
    const fn new() -> Self {
        Self {
            left: PREFACE,
            head: [0; FRAME_HEAD],
            got: 0,
            data: false,
            block: true,
            which: 1,
        }
    }

    /// Looks at what came.
    fn sees(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let here = if self.left == 0 {
                self.sees_head(bytes)
            } else {
                let here = u32::try_from(bytes.len())
                    .unwrap_or(u32::MAX)
                    .min(self.left);
                self.left = self.left.saturating_sub(here);
                here as usize
            };
            bytes = bytes.get(here..).unwrap_or_default();
        }
    }

    /// Takes what belongs to the present frame's head, and says how much that is.
    fn sees_head(&mut self, bytes: &[u8]) -> usize {
        if self.got == 0 && !self.block {
            self.which = self.which.wrapping_add(1).max(1);
        }
        let rest = self.head.get_mut(self.got..).unwrap_or_default();
        let here = rest.len().min(bytes.len());
        for (to, from) in rest.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.got = self.got.saturating_add(here);
        if self.got == FRAME_HEAD {
            self.got = 0;
            let [high, middle, low, kind, flags, ..] = self.head;
            self.left = u32::from_be_bytes([0, high, middle, low]);
            self.data = kind == DATA;
            self.block = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        }
        here
    }

    /// What the client has begun and not ended; 0: nothing.
    const fn owes(&self) -> u32 {
        if self.block || self.got != 0 || (self.left != 0 && !self.data) {
            self.which
        } else {
            0
        }
    }
}

impl Sees for Frames {
    fn came(&mut self, bytes: &[u8]) {
        self.watch.sees(bytes);
        self.vitals.owes_head(self.watch.owes());
    }
}

/// What comes in pieces is seen as what comes at once, and of whole frames nothing is owed. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(super) fn promise(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let mut at_once = Watch::new();
    at_once.sees(bytes);
    let mut watch = Watch::new();
    for piece in bytes.chunks(usize::from(*cut).max(1)) {
        watch.sees(piece);
    }
    assert_eq!(watch.owes(), at_once.owes());
    assert_eq!(watch.left, at_once.left);
    // Whatever came before, the rest of the frame and of its block end what is owed.
    let rest = vec![0; at_once.left as usize];
    at_once.sees(&rest);
    if at_once.got == 0 {
        at_once.sees(&[0, 0, 0, CONTINUATION, END_HEADERS, 0, 0, 0, 1]);
        assert_eq!(at_once.owes(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::serve::sniff;

    /// What is owed after each piece.
    fn owed(pieces: &[&[u8]]) -> Vec<bool> {
        let mut watch = Watch::new();
        pieces
            .iter()
            .map(|piece| {
                watch.sees(piece);
                watch.owes() != 0
            })
            .collect()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![
            0,
            0,
            u8::try_from(payload.len()).unwrap(),
            kind,
            flags,
            0,
            0,
            0,
            1,
        ];
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_preface_alone_owes_a_first_frame() {
        let settings = frame(4, 0, &[]);
        assert_eq!(
            owed(&[&sniff::PREFACE[..9], &sniff::PREFACE[9..], &settings]),
            [true, true, false]
        );
    }

    #[test]
    fn a_head_is_owed_until_its_block_ends() {
        let hello = [&sniff::PREFACE[..], &frame(4, 0, &[])].concat();
        let (begun, more, end) = (
            frame(HEADERS, 1, b"ab"),
            frame(CONTINUATION, 0, b"c"),
            frame(CONTINUATION, END_HEADERS, b""),
        );
        assert_eq!(
            owed(&[&hello, &begun, &more, &end]),
            [false, true, true, false]
        );
        let whole = frame(HEADERS, END_HEADERS, b"abc");
        assert_eq!(
            owed(&[&hello, &whole[..4], &whole[4..10], &whole[10..]]),
            [false, true, true, false]
        );
        // What DATA carries is waited for elsewhere; the rest of any other frame is not.
        let (data, ping) = (frame(DATA, 0, b"abc"), frame(6, 0, &[0; 8]));
        assert_eq!(
            owed(&[&hello, &data[..3], &data[3..10], &data[10..]]),
            [false, true, false, false]
        );
        assert_eq!(
            owed(&[&hello, &ping[..12], &ping[12..]]),
            [false, true, false]
        );
    }

    #[test]
    fn another_head_is_another_one_and_a_long_one_is_not() {
        let mut watch = Watch::new();
        watch.sees(&[&sniff::PREFACE[..], &frame(4, 0, &[])].concat());
        let head = frame(HEADERS, END_HEADERS, b"abc");
        watch.sees(&head[..10]);
        let first = watch.owes();
        watch.sees(&[&head[10..], &head[..10]].concat());
        assert_ne!(watch.owes(), first);
        watch.sees(&[&head[10..], &frame(HEADERS, 0, b"a")[..]].concat());
        let begun = watch.owes();
        for _ in 0..3 {
            watch.sees(&frame(CONTINUATION, 0, b"x"));
            assert_eq!(watch.owes(), begun);
        }
    }
}
