//! How far a provider's clock is from ours, by the `Date` of an answer (RFC 9110 §6.6.1).

use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::clock::UnixTime;
use crate::providers::probe::Check;
use crate::providers::probe::Finding;

/// `Date` has whole seconds, and the answer was under way for a while.
const TOLERANCE: Duration = Duration::from_secs(1);

/// An answer's `Date`, between the moments at which the question left and the answer came.
pub(super) struct Reading {
    asked: UnixTime,
    came: UnixTime,
    date: Option<UnixTime>,
}

impl Reading {
    pub(super) fn new(asked: UnixTime, came: UnixTime, headers: &HeaderMap) -> Self {
        Self {
            asked,
            came,
            date: headers
                .get(DATE)
                .and_then(|date| moment(date.to_str().ok()?)),
        }
    }

    /// Whether tokens that are judged with `leeway` are judged as their issuer means them.
    pub(super) fn judge(&self, leeway: Duration) -> Finding {
        let Some(date) = self.date else {
            return Finding::unknown(Check::Clock, "its answers have no date");
        };
        let ahead = date.since(self.came);
        let behind = self.asked.since(date + TOLERANCE);
        let (by, word) = if behind < ahead {
            (ahead, "ahead")
        } else {
            (behind, "behind")
        };
        if by.is_zero() {
            return Finding::of(Check::Clock, Ok::<_, &str>("its clock and ours agree"));
        }
        let words = format!(
            "its clock is {} s {word}; the leeway is {} s",
            by.as_secs(),
            leeway.as_secs()
        );
        let result = if by <= leeway { Ok(words) } else { Err(words) };
        Finding::of(Check::Clock, result)
    }
}

fn moment(text: &str) -> Option<UnixTime> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let seconds = PARSER.parse_timestamp(text).ok()?.as_second();
    Some(UnixTime::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::probe::Outcome;

    fn judged(asked: u64, came: u64, date: Option<&str>) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        let at = UnixTime::from_secs;
        Reading::new(at(asked), at(came), &headers)
            .judge(Duration::from_secs(30))
            .outcome
    }

    #[test]
    fn a_clock_beyond_the_leeway_fails_in_both_directions() {
        // RFC 9110 §5.6.7 calls this moment 784111777.
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let t = 784_111_777;
        for (asked, came) in [(t, t), (t - 9, t + 9), (t + 1, t + 2)] {
            assert!(
                matches!(judged(asked, came, date), Outcome::Good(_)),
                "{asked}"
            );
        }
        assert!(matches!(judged(t - 30, t - 30, date), Outcome::Good(_)));
        let ahead = judged(t - 31, t - 31, date);
        assert_eq!(
            ahead,
            Outcome::Failed("its clock is 31 s ahead; the leeway is 30 s".to_owned())
        );
        let behind = judged(t + 32, t + 32, date);
        assert_eq!(
            behind,
            Outcome::Failed("its clock is 31 s behind; the leeway is 30 s".to_owned())
        );
        for date in [None, Some("yesterday"), Some("")] {
            assert!(
                matches!(judged(t, t, date), Outcome::Unknown(_)),
                "{date:?}"
            );
        }
    }
}
