//! How far a provider's clock is from ours, by the `Date` of an answer (RFC 9110 §6.6.1).

use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::clock::UnixTime;

/// `Date` has whole seconds, and the answer was under way for a while.
pub(super) const TOLERANCE: Duration = Duration::from_secs(1);

/// How far another clock is from ours, beyond what whole seconds and the way of an answer explain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::providers) enum Offset {
    /// It may show the same time.
    None,
    /// It shows a later time.
    Ahead(Duration),
    /// It shows an earlier time.
    Behind(Duration),
}

impl Offset {
    /// What an answer says that came at `came` to a question that left at `asked`; `None`: it has no date.
    pub(in crate::providers) fn read(
        asked: UnixTime,
        came: UnixTime,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let date = moment(headers.get(DATE)?.to_str().ok()?)?;
        Some(Self::between(asked, came, date))
    }

    /// The same of a moment that the other one has written down, in whole seconds.
    pub(in crate::providers) fn between(asked: UnixTime, came: UnixTime, date: UnixTime) -> Self {
        let ahead = date.since(came);
        let behind = asked.since(date + TOLERANCE);
        if !ahead.is_zero() {
            Self::Ahead(ahead)
        } else if !behind.is_zero() {
            Self::Behind(behind)
        } else {
            Self::None
        }
    }

    /// In seconds; negative where it is behind.
    pub(super) fn seconds(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Ahead(by) => by.as_secs_f64(),
            Self::Behind(by) => -by.as_secs_f64(),
        }
    }
}

fn moment(text: &str) -> Option<UnixTime> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let seconds = PARSER.parse_timestamp(text).ok()?.as_second();
    Some(UnixTime::from_secs(u64::try_from(seconds).ok()?))
}
