//! Where a browser goes after a login: a path on the same host, read as a browser would read it.

use std::fmt;

/// The longest return path, in bytes: it travels in a cookie.
pub(super) const MAX_BYTES: usize = 2_048;

/// Everything below this path is ours: returning there would go round in circles.
pub(super) const OURS: &str = "/.authferry";

/// A path, and a query, on the host the login began on. Checked when it is received, and again when it is used.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct ReturnPath(Box<str>);

impl ReturnPath {
    /// The front page.
    pub(super) fn root() -> Self {
        Self("/".into())
    }

    /// Reads a return address; `None`: a browser might leave the host with it, or come back to us.
    ///
    /// Stricter than the URL standard needs: no white space or control character (browsers drop some of them and then
    /// read on), no backslash (browsers take it for a slash), no empty or dot segment in any spelling, no fragment.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if MAX_BYTES < text.len() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        if text.contains(['\\', '#']) {
            return None;
        }
        let path = text.split_once('?').map_or(text, |(path, _)| path);
        let segments = path.strip_prefix('/')?;
        if segments.is_empty() {
            return Some(Self(text.into()));
        }
        let last = segments.split('/').count() - 1;
        let fine = segments
            .split('/')
            .enumerate()
            .all(|(place, segment)| is_plain(segment) && (!segment.is_empty() || place == last));
        let ours = path
            .strip_prefix(OURS)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (fine && !ours).then(|| Self(text.into()))
    }

    /// The path alone.
    pub(super) fn path(&self) -> &str {
        self.0.split_once('?').map_or(&*self.0, |(path, _)| path)
    }

    /// The address, for `Location`.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a segment is neither `.` nor `..` nor hides a separator or control character.
fn is_plain(segment: &str) -> bool {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return false;
        };
        match u8::try_from(high * 16 + low) {
            Ok(b'/' | b'\\' | 0x7f) | Err(_) => return false,
            Ok(byte) if byte < 0x20 => return false,
            Ok(byte) => decoded.push(byte),
        }
    }
    !matches!(decoded.as_slice(), b"." | b"..")
}

impl fmt::Debug for ReturnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[return path]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        ReturnPath::parse(text).is_some_and(|path| path.as_str() == text)
    }

    #[test]
    fn paths_of_the_same_host_are_kept_byte_for_byte() {
        for text in [
            "/",
            "/orders",
            "/orders/",
            "/a/b?x=1&y=//z?",
            "/?q=https://evil.test",
            "/caf%C3%A9",
            "/a%20b",
            "/javascript:alert(1)",
            "/...",
            "/.well-known/x",
            "/.authferryx",
            "/a/.authferry/b",
        ] {
            assert!(accepts(text), "{text}");
        }
    }

    #[test]
    fn what_could_leave_the_host_is_refused() {
        for text in [
            "",
            "orders",
            "//evil.test",
            "///evil.test",
            "////evil.test/%2e%2e",
            "//evil.test/%2f..",
            "https:evil.test",
            "https:/evil.test",
            "https:///evil.test",
            "http:\\\\evil.test",
            "HTTPS://evil.test",
            " https://evil.test",
            "h\tttps://evil.test",
            "https://app.test@evil.test",
            "//app.test@evil.test",
            "https://evil.test\\@app.test",
            "https://evil.test#@app.test",
            "javascript:alert(1)",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "//javascript:alert(1)",
            "/\\evil.test",
            "/./\\evil.test",
            "/../\\evil.test",
            "/.//evil.test",
            "/..//evil.test",
            "/app/..//evil.test",
            "/%2e%2e//evil.test",
            "/%2E/x",
            "/.%2e/x",
            "/a/../b",
            "/a/.",
            "/a//b",
            "/\t/evil.test",
            "/\n/evil.test",
            "/%5Cevil.test",
            "/%2Fevil.test",
            "/%09/evil.test",
            "/a%00b",
            "/%zz",
            "/%4",
            "/a#b",
            "/caf\u{e9}",
            "/.authferry",
            "/.authferry/logout",
            "/.authferry?x",
        ] {
            assert!(!accepts(text), "{text}");
        }
        assert!(!accepts(&format!("/{}", "a".repeat(MAX_BYTES))));
        assert!(!accepts(&format!("/{}//evil.test", "a".repeat(9_000))));
    }

    /// What a browser makes of `text` in `Location` (URL standard §4.4): tabs, line feeds and outer control characters
    /// go, a backslash is a slash, and two slashes begin another host.
    fn leaves_the_host(text: &str) -> bool {
        let outer = |c: char| c <= ' ';
        let text: String = text
            .trim_matches(outer)
            .chars()
            .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
            .map(|c| if c == '\\' { '/' } else { c })
            .collect();
        let scheme = text.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        scheme || text.starts_with("//")
    }

    proptest! {
        #[test]
        fn nothing_that_is_accepted_leaves_the_host(
            text in "[/\\\\ \t\n.:@%a-fhtps2?#5cC\u{e9}]{0,24}",
        ) {
            if accepts(&text) {
                prop_assert!(!leaves_the_host(&text));
                prop_assert!(text.starts_with('/'));
            }
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,60}") {
            let _ = ReturnPath::parse(&text);
        }
    }
}
