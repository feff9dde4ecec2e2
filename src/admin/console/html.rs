//! Text that goes into a page: escaped, always.

use std::fmt;

/// Text as it may stand between tags and in quoted attributes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What turns the reading direction would let a name pose as another.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_str("\u{fffd}")?;
                }
                c if c.is_control() => f.write_str(" ")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// A share of a whole in percent; a dash where there is no whole.
pub(super) struct Share(pub(super) f64, pub(super) f64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 <= 0.0 {
            return f.write_str("–");
        }
        write!(f, "{:.1} %", self.0 / self.1 * 100.0)
    }
}

/// A span in the largest unit that says enough.
pub(super) struct Span(pub(super) f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s < 120.0 => write!(f, "{s:.0} s"),
            s if s < 7_200.0 => write!(f, "{:.0} min", s / 60.0),
            s if s < 172_800.0 => write!(f, "{:.0} h", s / 3_600.0),
            s => write!(f, "{:.0} d", s / 86_400.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_a_tag_or_ends_an_attribute() {
        let told = Text("<b a=\"'&\u{202e}\u{7}>").to_string();
        assert_eq!(told, "&lt;b a=&quot;&#39;&amp;\u{fffd} &gt;");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(Share(1.0, 3.0).to_string(), "33.3 %");
        assert_eq!(Share(0.0, 0.0).to_string(), "–");
        for (seconds, told) in [
            (41.0, "41 s"),
            (600.0, "10 min"),
            (9e3, "2 h"),
            (9e5, "10 d"),
        ] {
            assert_eq!(Span(seconds).to_string(), told);
        }
    }
}
