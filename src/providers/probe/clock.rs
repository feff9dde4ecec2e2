//! Whether a provider's clock is near enough to ours.

use std::time::Duration;

use http::HeaderMap;

use crate::clock::UnixTime;
use crate::providers::client::Offset;
use crate::providers::probe::Check;
use crate::providers::probe::Finding;
use crate::token;

/// What an answer says about the clock behind it.
pub(super) struct Reading(Option<Offset>);

impl Reading {
    /// An answer's `Date`, between the moments at which the question left and the answer came.
    pub(super) fn new(asked: UnixTime, came: UnixTime, headers: &HeaderMap) -> Self {
        Self(Offset::read(asked, came, headers))
    }

    /// The `iat` of a token that was made between these moments (RFC 7519 §4.1.6). Nobody believes the token.
    pub(super) fn of_token(asked: UnixTime, came: UnixTime, token: &str) -> Self {
        let issued = token::peek(token)
            .ok()
            .and_then(|read| read.claimed_begin());
        Self(issued.map(|at| Offset::between(asked, came, UnixTime::from_secs(at))))
    }

    /// Whether nothing is known of it.
    pub(super) const fn is_unknown(&self) -> bool {
        self.0.is_none()
    }

    /// Whether tokens that are judged with `leeway` are judged as their issuer means them.
    pub(super) fn judge(&self, leeway: Duration) -> Finding {
        let (by, word) = match self.0 {
            None => {
                let words = "its answers have no date, and it gives us no token of our own";
                return Finding::unknown(Check::Clock, words);
            }
            Some(Offset::None) => {
                return Finding::of(Check::Clock, Ok::<_, &str>("its clock and ours agree"));
            }
            Some(Offset::Ahead(by)) => (by, "ahead"),
            Some(Offset::Behind(by)) => (by, "behind"),
        };
        let words = format!(
            "its clock is {} s {word}; the leeway is {} s",
            by.as_secs(),
            leeway.as_secs()
        );
        let result = if by <= leeway { Ok(words) } else { Err(words) };
        Finding::of(Check::Clock, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::probe::Outcome;
    use http::header::DATE;

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
