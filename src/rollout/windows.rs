//! When a rollout may go forward by itself: days of the week, hours, and days on which it may not.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::civil::Time;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::clock::UnixTime;

/// Hours on days of the week, in one time zone.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The first and the last day of the week, both within.
    pub days: (Weekday, Weekday),
    /// From and, exclusively, to.
    pub hours: (Time, Time),
    /// Where the clock hangs.
    pub zone: TimeZone,
    /// Days on which nothing goes forward.
    pub deny: Vec<Date>,
}

impl Windows {
    /// Whether it is open.
    pub fn is_open(&self, now: UnixTime) -> bool {
        let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let Ok(at) = Timestamp::from_millisecond(millis) else {
            return false;
        };
        let local = self.zone.to_datetime(at);
        let (first, last) = self.days;
        let since = |day: Weekday| first.until(day);
        let (from, to) = self.hours;
        since(local.weekday()) <= since(last)
            && from <= local.time()
            && local.time() < to
            && !self.deny.contains(&local.date())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixTime {
        let at: Timestamp = text.parse().unwrap();
        UnixTime::from_millis(u64::try_from(at.as_millisecond()).unwrap())
    }

    #[test]
    fn it_is_open_within_its_hours_on_its_days() {
        let windows = Windows {
            days: (Weekday::Monday, Weekday::Thursday),
            hours: (Time::constant(7, 0, 0, 0), Time::constant(15, 0, 0, 0)),
            zone: TimeZone::fixed(jiff::tz::offset(2)),
            deny: vec![Date::constant(2026, 3, 31)],
        };
        for (moment, open) in [
            ("2026-03-02T04:59:59Z", false),
            ("2026-03-02T05:00:00Z", true),
            ("2026-03-05T12:59:59Z", true),
            ("2026-03-05T13:00:00Z", false),
            ("2026-03-06T10:00:00Z", false),
            ("2026-03-08T10:00:00Z", false),
            ("2026-03-31T10:00:00Z", false),
            ("2026-04-01T10:00:00Z", true),
        ] {
            assert_eq!(windows.is_open(at(moment)), open, "{moment}");
        }
    }

    #[test]
    fn a_week_may_end_before_it_begins() {
        let windows = Windows {
            days: (Weekday::Saturday, Weekday::Monday),
            hours: (Time::constant(0, 0, 0, 0), Time::constant(12, 0, 0, 0)),
            zone: TimeZone::UTC,
            deny: Vec::new(),
        };
        assert!(windows.is_open(at("2026-03-07T00:00:00Z")));
        assert!(windows.is_open(at("2026-03-09T11:00:00Z")));
        assert!(!windows.is_open(at("2026-03-10T11:00:00Z")));
    }
}
