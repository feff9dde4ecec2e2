//! Which trace a request belongs to (W3C Trace Context, Level 2), and whether it is followed.

use std::cell::RefCell;

use crate::entropy::Entropy;
use crate::telemetry::line::put_hex;

/// A trace, our span in it, and whether it is sampled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TraceContext {
    trace_id: [u8; 16],
    /// Our own span.
    span_id: [u8; 8],
    /// The caller's span, if the trace began before us.
    parent_id: Option<[u8; 8]>,
    sampled: bool,
}

impl TraceContext {
    /// A part of what is done in our span.
    pub(crate) fn part(&self, entropy: &dyn Entropy) -> Self {
        let mut span_id = [0; 8];
        // W3C §3.2.2.4 forbids an id of zeroes.
        while span_id == [0; 8] {
            entropy.fill(&mut span_id);
        }
        Self {
            span_id,
            parent_id: Some(self.span_id),
            ..*self
        }
    }

    /// The trace.
    pub(crate) const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// Our span.
    pub(crate) const fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The caller's span.
    pub(crate) const fn parent_id(&self) -> Option<[u8; 8]> {
        self.parent_id
    }

    /// Whether spans are exported.
    pub(crate) const fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The header for the upstream, whose parent is our span.
    pub(crate) fn traceparent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let fields: [(usize, &[u8]); 3] = [
            (3, &self.trace_id),
            (36, &self.span_id),
            (53, &[u8::from(self.sampled)]),
        ];
        for (at, bytes) in fields {
            let end = at + 2 * bytes.len();
            put_hex(text.get_mut(at..end).unwrap_or_default(), bytes);
        }
        text
    }
}

/// Begins and continues traces for one worker, from random bytes asked for in batches.
#[derive(Debug)]
pub(crate) struct Tracer<E> {
    entropy: E,
    /// The share of traces that begin here and are followed, in thousandths.
    permille: u32,
    bytes: RefCell<Batch>,
}

#[derive(Debug)]
struct Batch {
    bytes: [u8; 1_024],
    used: usize,
}

impl<E: Entropy> Tracer<E> {
    /// `permille`: how many of a thousand traces that begin here are followed. One for each worker.
    pub(crate) const fn new(entropy: E, permille: u32) -> Self {
        Self {
            entropy,
            permille,
            bytes: RefCell::new(Batch {
                bytes: [0; 1_024],
                used: 1_024,
            }),
        }
    }

    /// Continues the caller's trace, or begins one. A header that is not well formed is as none (W3C §3.2.2.2); the
    /// caller decides whether its own trace is followed.
    pub(crate) fn context(&self, traceparent: Option<&[u8]>) -> TraceContext {
        match traceparent.and_then(parse) {
            Some(caller) => TraceContext {
                trace_id: caller.trace_id,
                span_id: self.random(),
                parent_id: Some(caller.span_id),
                sampled: caller.sampled,
            },
            None => self.begin(),
        }
    }

    fn begin(&self) -> TraceContext {
        let lot = u32::from_be_bytes(self.random::<4>());
        TraceContext {
            trace_id: self.random(),
            span_id: self.random(),
            parent_id: None,
            sampled: lot % 1_000 < self.permille,
        }
    }

    /// Random bytes, not all zero: W3C §3.2.2.3 forbids such an id.
    fn random<const N: usize>(&self) -> [u8; N] {
        let mut batch = self.bytes.borrow_mut();
        loop {
            if let Some(bytes) = batch
                .bytes
                .get(batch.used..)
                .and_then(|rest| rest.first_chunk::<N>())
            {
                let bytes = *bytes;
                batch.used += N;
                if bytes != [0; N] {
                    return bytes;
                }
            } else {
                self.entropy.fill(&mut batch.bytes);
                batch.used = 0;
            }
        }
    }
}

/// Reads a `traceparent` header. Higher versions are read as version 00 (W3C §3.2.4).
pub(crate) fn parse(text: &[u8]) -> Option<Caller> {
    let (version, rest) = hex::<1>(text)?;
    let (trace_id, rest) = hex::<16>(rest.strip_prefix(b"-")?)?;
    let (span_id, rest) = hex::<8>(rest.strip_prefix(b"-")?)?;
    let ([flags], rest) = hex::<1>(rest.strip_prefix(b"-")?)?;
    let complete = match version {
        [0xff] => false,
        [0] => rest.is_empty(),
        [_] => rest.is_empty() || rest.starts_with(b"-"),
    };
    (complete && trace_id != [0; 16] && span_id != [0; 8]).then_some(Caller {
        trace_id,
        span_id,
        sampled: flags & 1 == 1,
    })
}

/// What a caller says about its trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Caller {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
}

/// `N` bytes from `2 * N` lower-case hex digits, and what follows.
fn hex<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let (digits, rest) = text.split_at_checked(2 * N)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some((bytes, rest))
}

/// A trace of a caller is one of the standard, and goes on under its name. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(crate) fn promise(bytes: &[u8]) {
    let context = Tracer::new(crate::entropy::SystemEntropy, 0).context(Some(bytes));
    let sent = context.traceparent();
    assert!(parse(&sent).is_some());
    let Some(caller) = parse(bytes) else {
        assert!(context.parent_id().is_none() && !context.is_sampled());
        return;
    };
    assert!(caller.trace_id != [0; 16] && caller.span_id != [0; 8]);
    assert_eq!(sent.get(3..35), bytes.get(3..35));
    assert_eq!(context.parent_id(), Some(caller.span_id));
    assert!(!bytes.starts_with(b"ff"));
    assert!(!bytes.starts_with(b"00") || bytes.len() == sent.len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::SystemEntropy;

    const EXAMPLE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_callers_trace_goes_on_with_a_span_of_ours() {
        let context = Tracer::new(SystemEntropy, 0).context(Some(EXAMPLE));
        assert!(context.is_sampled());
        assert_eq!(context.parent_id().unwrap()[0], 0x00);
        let sent = context.traceparent();
        assert_eq!(sent[..36], EXAMPLE[..36]);
        assert_ne!(sent[36..52], EXAMPLE[36..52]);
        assert_eq!(parse(&sent).unwrap().span_id, context.span_id());
    }

    #[test]
    fn what_is_not_well_formed_begins_a_new_trace() {
        for bad in [
            &b""[..],
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01extra",
            b"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        let later = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra";
        assert_eq!(parse(later), parse(EXAMPLE));
    }

    #[test]
    fn the_share_of_traces_that_begin_here_is_the_configured_one() {
        let none = Tracer::new(SystemEntropy, 0);
        let all = Tracer::new(SystemEntropy, 1_000);
        for _ in 0..1_000 {
            assert!(!none.context(None).is_sampled());
            assert!(all.context(None).is_sampled());
        }
        let tenth = Tracer::new(SystemEntropy, 100);
        let sampled = (0..10_000)
            .filter(|_| tenth.context(None).is_sampled())
            .count();
        // Twelve standard deviations.
        assert!((640..1_360).contains(&sampled), "{sampled}");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed(bytes in any::<Vec<u8>>()) {
            parse(&bytes);
        }

        /// What we send is what we would read.
        #[test]
        fn what_is_sent_is_read_back(
            trace_id in any::<[u8; 16]>(),
            span_id in any::<[u8; 8]>(),
            sampled in any::<bool>(),
        ) {
            prop_assume!(trace_id != [0; 16] && span_id != [0; 8]);
            let context = TraceContext { trace_id, span_id, parent_id: None, sampled };
            prop_assert_eq!(
                parse(&context.traceparent()),
                Some(Caller { trace_id, span_id, sampled })
            );
        }

        /// One wrong character anywhere never yields another trace than the one written.
        #[test]
        fn a_changed_header_is_none_or_says_what_it_spells(at in 0..55_usize, byte in any::<u8>()) {
            let mut text = EXAMPLE.to_vec();
            text[at] = byte;
            if let Some(caller) = parse(&text) {
                let context = TraceContext {
                    trace_id: caller.trace_id,
                    span_id: caller.span_id,
                    parent_id: None,
                    sampled: caller.sampled,
                };
                prop_assert_eq!(&context.traceparent()[3..52], &text[3..52]);
            }
        }
    }
}
