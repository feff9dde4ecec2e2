//! One JSON object on one line, written straight into a buffer.
//!
//! Whatever a client can choose is escaped: a line never contains a line break, a control character or a character that
//! reorders text on a terminal.

use std::cell::OnceCell;
use std::time::Duration;

use crate::clock::UnixTime;

/// The longest text value, in bytes; what is longer is cut.
pub(super) const MAX_VALUE_BYTES: usize = 2_048;

/// The name of a field with its punctuation, put together by the compiler: a line has some twenty of them.
macro_rules! field {
    ($name:literal) => {
        $crate::telemetry::line::Field(concat!(",\"", $name, "\":"))
    };
}
pub(super) use field;

/// See `field!`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(pub(super) &'static str);

/// A line under construction. [`Line::end`] closes it; a line that is dropped earlier leaves the buffer as it was.
#[derive(Debug)]
pub(super) struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    ended: bool,
}

impl<'a> Line<'a> {
    /// Begins a line with its time and the name of the event, a constant.
    pub(super) fn begin(
        buffer: &'a mut Vec<u8>,
        stamp: &mut Stamp,
        now: UnixTime,
        event: &'static str,
    ) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(br#"{"ts":""#);
        buffer.extend_from_slice(stamp.text(now));
        buffer.extend_from_slice(br#"","event":""#);
        buffer.extend_from_slice(event.as_bytes());
        buffer.push(b'"');
        Self {
            buffer,
            start,
            ended: false,
        }
    }

    /// A text value.
    pub(super) fn text(&mut self, name: Field, value: &str) -> &mut Self {
        self.name(name);
        self.buffer.push(b'"');
        escape(self.buffer, cut(value));
        self.buffer.push(b'"');
        self
    }

    /// A text value, if there is one.
    pub(super) fn maybe(&mut self, name: Field, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// Digits that we made ourselves, which need no escaping.
    pub(super) fn digits(&mut self, name: Field, digits: &str) -> &mut Self {
        debug_assert!(
            digits
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b':')
        );
        self.name(name);
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(digits.as_bytes());
        self.buffer.push(b'"');
        self
    }

    /// A word of ours, which needs no escaping.
    pub(super) fn word(&mut self, name: Field, word: &'static str) -> &mut Self {
        self.name(name);
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(word.as_bytes());
        self.buffer.push(b'"');
        self
    }

    /// Bytes as hex digits.
    pub(super) fn hex(&mut self, name: Field, bytes: &[u8; 16]) -> &mut Self {
        self.name(name);
        let mut text = [0; 32];
        put_hex(&mut text, bytes);
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(&text);
        self.buffer.push(b'"');
        self
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: Field, value: u64) -> &mut Self {
        self.name(name);
        decimal(self.buffer, value);
        self
    }

    /// A duration in milliseconds, with three decimals.
    pub(super) fn millis(&mut self, name: Field, value: Duration) -> &mut Self {
        self.name(name);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        decimal(self.buffer, micros / 1_000);
        let rest = micros % 1_000;
        let digit = |part: u64| b'0' + part as u8;
        let decimals = [
            b'.',
            digit(rest / 100),
            digit(rest / 10 % 10),
            digit(rest % 10),
        ];
        self.buffer.extend_from_slice(&decimals);
        self
    }

    /// Fields that are always the same: written once, and kept for the next line.
    pub(super) fn keep(&mut self, kept: &OnceCell<Box<[u8]>>, write: impl FnOnce(&mut Self)) {
        if let Some(bytes) = kept.get() {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        let start = self.buffer.len();
        write(self);
        let written = self.buffer.get(start..).unwrap_or_default();
        kept.get_or_init(|| written.into());
    }

    /// Ends the line.
    pub(super) fn end(mut self) {
        self.buffer.extend_from_slice(b"}\n");
        self.ended = true;
    }

    fn name(&mut self, Field(name): Field) {
        self.buffer.extend_from_slice(name.as_bytes());
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.buffer.truncate(self.start);
        }
    }
}

/// At most [`MAX_VALUE_BYTES`], cut between characters.
fn cut(value: &str) -> &str {
    if value.len() <= MAX_VALUE_BYTES {
        return value;
    }
    let mut end = MAX_VALUE_BYTES;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default()
}

/// RFC 8259 §7, and besides: DEL, C1 controls, line and paragraph separators, and what changes the direction of text.
fn escape(buffer: &mut Vec<u8>, value: &str) {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\';
    // Without an early end the compiler looks at many bytes at once.
    if value
        .as_bytes()
        .iter()
        .fold(true, |all, byte| all & plain(byte))
    {
        buffer.extend_from_slice(value.as_bytes());
        return;
    }
    for character in value.chars() {
        match character {
            '"' | '\\' => buffer.extend_from_slice(&[b'\\', character as u8]),
            ' '..='~' => buffer.push(character as u8),
            _ if is_unprintable(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    buffer.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        buffer.push(hex_digit((*unit >> shift) as u8 & 15));
                    }
                }
            }
            _ => buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether a character could break a line, move a terminal's cursor, or reorder the text around it.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

const fn hex_digit(nibble: u8) -> u8 {
    // Without a branch, so that many digits are written at once.
    let letter = (9 < nibble) as u8;
    (nibble & 15) + b'0' + letter * (b'a' - b'9' - 1)
}

/// Writes bytes as two lower-case hex digits each; what does not fit is left out.
pub(crate) fn put_hex(text: &mut [u8], bytes: &[u8]) {
    let (pairs, _) = text.as_chunks_mut::<2>();
    for ([high, low], byte) in pairs.iter_mut().zip(bytes) {
        *high = hex_digit(byte >> 4);
        *low = hex_digit(byte & 15);
    }
}

fn decimal(buffer: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        start -= 1;
        if value == 0 {
            break;
        }
    }
    buffer.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// The text of a moment (RFC 3339, UTC, milliseconds), kept for the next line of the same second.
#[derive(Debug)]
pub(super) struct Stamp {
    second: u64,
    text: [u8; 24],
}

impl Default for Stamp {
    fn default() -> Self {
        Self {
            second: 0,
            text: *b"1970-01-01T00:00:00.000Z",
        }
    }
}

impl Stamp {
    fn text(&mut self, now: UnixTime) -> &[u8; 24] {
        // The last moment of the year 9999: later ones do not fit.
        let millis = now.as_millis().min(253_402_300_799_999);
        let (second, millis) = (millis / 1_000, millis % 1_000);
        if second != self.second {
            self.second = second;
            let (year, month, day) = civil(second / 86_400);
            let clock = second % 86_400;
            for (at, width, value) in [
                (0, 4, year),
                (5, 2, month),
                (8, 2, day),
                (11, 2, clock / 3_600),
                (14, 2, clock / 60 % 60),
                (17, 2, clock % 60),
            ] {
                self.put(at, width, value);
            }
        }
        self.put(20, 3, millis);
        &self.text
    }

    fn put(&mut self, at: usize, width: usize, mut value: u64) {
        for place in self.text.iter_mut().skip(at).take(width).rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. Years are counted from March,
/// so that a leap day is the last of its year.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn written(value: &str) -> String {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, &mut Stamp::default(), UnixTime::NEVER, "test");
        line.text(field!("v"), value);
        line.end();
        String::from_utf8(buffer).unwrap()
    }

    proptest! {
        /// Whatever a client sends, a line is one line, printable, and says what was sent.
        #[test]
        fn any_text_stays_on_its_line_and_can_be_read_back(value in any::<String>()) {
            let line = written(&value);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert!(!line.trim_end().chars().any(is_unprintable), "{:?}", line);
            let parsed: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(parsed["v"].as_str(), Some(cut(&value)));
        }

        #[test]
        fn any_number_is_written_in_decimal(value in any::<u64>()) {
            let mut buffer = Vec::new();
            decimal(&mut buffer, value);
            prop_assert_eq!(String::from_utf8(buffer).unwrap(), value.to_string());
        }

        #[test]
        fn any_moment_is_written_as_the_calendar_says(millis in 0..253_402_300_799_999_u64) {
            let mut stamp = Stamp::default();
            let text = stamp.text(UnixTime::from_millis(millis));
            let expected = jiff::Timestamp::from_millisecond(millis as i64).unwrap();
            prop_assert_eq!(
                std::str::from_utf8(text).unwrap(),
                format!("{expected:.3}")
            );
        }
    }

    #[test]
    fn the_stamp_changes_within_a_second() {
        let mut stamp = Stamp::default();
        stamp.text(UnixTime::from_millis(1_763_813_280_123));
        let text = stamp.text(UnixTime::from_millis(1_763_813_280_456));
        assert_eq!(text, b"2025-11-22T12:08:00.456Z");
    }

    #[test]
    fn a_direction_override_is_escaped() {
        assert!(written("/a\u{202e}b\u{7f}\u{85}").contains(r"/a\u202eb\u007f\u0085"));
    }

    #[test]
    fn a_line_that_is_not_ended_leaves_no_trace() {
        let mut buffer = b"before\n".to_vec();
        let mut line = Line::begin(&mut buffer, &mut Stamp::default(), UnixTime::NEVER, "test");
        line.text(field!("v"), "half");
        drop(line);
        assert_eq!(buffer, b"before\n");
    }

    #[test]
    fn numbers_and_durations_are_json() {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, &mut Stamp::default(), UnixTime::NEVER, "test");
        line.number(field!("n"), 0)
            .millis(field!("d"), Duration::from_micros(1_234_005))
            .hex(
                field!("x"),
                &[0, 255, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            )
            .maybe(field!("none"), None);
        line.end();
        assert_eq!(
            String::from_utf8(buffer).unwrap(),
            "{\"ts\":\"9999-12-31T23:59:59.999Z\",\"event\":\"test\",\
             \"n\":0,\"d\":1234.005,\"x\":\"00ff1000000000000000000000000001\"}\n"
        );
    }
}
