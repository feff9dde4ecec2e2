//! The last lines about requests that ended in an answer of ours: what the reference on a page leads to.
//!
//! Each writer keeps its own few, so that no two workers wait for each other; whoever asks looks through all of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::clock::UnixTime;
use crate::telemetry::line::Line;
use crate::telemetry::line::Stamp;

/// Lines kept of each writer: 4 096; the oldest goes first.
const KEPT: usize = 4_096;

/// The lines of all writers.
#[derive(Clone, Debug)]
pub(super) struct Recent(Arc<[Mutex<Ring>]>);

/// The place of one writer.
#[derive(Clone, Debug)]
pub(super) struct Place {
    recent: Recent,
    index: usize,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<Kept>,
    stamp: Stamp,
}

struct Kept {
    request_id: Box<str>,
    line: Box<[u8]>,
}

impl Recent {
    pub(super) fn new(writers: usize) -> Self {
        Self((0..writers).map(|_| Mutex::default()).collect())
    }

    /// The place of one writer; numbers beyond the last share the last.
    pub(super) fn place(&self, index: usize) -> Place {
        Place {
            index: index.min(self.0.len().saturating_sub(1)),
            recent: self.clone(),
        }
    }

    /// What is known of a request, oldest first.
    pub(super) fn about(&self, request_id: &str) -> Vec<String> {
        let mut found = Vec::new();
        for ring in &*self.0 {
            let ring = lock(ring);
            let lines = ring.lines.iter();
            let lines = lines.filter(|kept| *kept.request_id == *request_id);
            found.extend(lines.map(|kept| String::from_utf8_lossy(&kept.line).into_owned()));
        }
        // Each begins with its time.
        found.sort();
        found
    }
}

impl Place {
    /// Keeps one line. `compose` gets it begun and ends it; `then` gets it whole.
    pub(super) fn keep(
        &self,
        (request_id, now, event): (&str, UnixTime, &'static str),
        compose: impl FnOnce(Line<'_>),
        then: impl FnOnce(&[u8]),
    ) {
        let Some(ring) = self.recent.0.get(self.index) else {
            return;
        };
        let mut guard = lock(ring);
        let Ring { lines, stamp } = &mut *guard;
        let mut bytes = Vec::with_capacity(512);
        compose(Line::begin(&mut bytes, stamp, now, event));
        then(&bytes);
        if KEPT <= lines.len() {
            lines.pop_front();
        }
        lines.push_back(Kept {
            request_id: request_id.into(),
            line: bytes.trim_ascii_end().into(),
        });
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} lines)", self.lines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::line::field;

    #[test]
    fn a_reference_is_found_with_whoever_wrote_it_and_the_oldest_goes_first() {
        let recent = Recent::new(2);
        let say = |index: usize, id: &str, second: u64, word: &str| {
            let at = UnixTime::from_secs(second);
            let compose = |mut out: Line<'_>| {
                out.text(field!("path"), word);
                out.end();
            };
            let whole = |line: &[u8]| assert!(line.ends_with(b"}\n"));
            let place = recent.place(index);
            place.keep((id, at, "access"), compose, whole);
        };
        say(0, "aa", 2, "second");
        say(7, "aa", 1, "first");
        say(1, "bb", 1, "other");
        let found = recent.about("aa");
        assert_eq!(found.len(), 2);
        assert!(
            found[0].contains("first") && found[1].ends_with("\"path\":\"second\"}"),
            "{found:?}"
        );
        for _ in 0..KEPT {
            say(0, "cc", 3, "flood");
        }
        assert_eq!(
            recent.about("aa").len(),
            1,
            "the other writer keeps its own"
        );
        assert_eq!(recent.about("cc").len(), KEPT);
    }
}
