//! The canonical spelling of a path: one spelling per resource, and a refusal for every spelling that two programs could
//! read as two resources.

use std::borrow::Cow;

/// Why a path has no canonical spelling.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PathFault {
    /// `.` or `..` as a segment, however encoded, with or without `;parameters`.
    #[error("dot segment")]
    DotSegment,
    /// `\` or `%5C`.
    #[error("backslash")]
    Backslash,
    /// `%2F`, where no route takes it.
    #[error("encoded slash")]
    EncodedSlash,
    /// NUL or another control character, plain or encoded.
    #[error("control character")]
    Control,
    /// A `%` without two hexadecimal digits.
    #[error("broken percent-encoding")]
    Escape,
    /// The decoded path is not UTF-8 (overlong forms and surrogates included).
    #[error("not UTF-8")]
    NotUtf8,
    /// A segment that is empty but for `;parameters`: programs that drop the parameters merge it away.
    #[error("empty segment with parameters")]
    EmptySegment,
    /// It does not begin with `/`.
    #[error("no leading slash")]
    Relative,
}

/// What the scan of a path found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Scan {
    /// The path is canonical as it stands.
    pub(crate) canonical: bool,
    /// It contains `;`.
    pub(crate) parameters: bool,
}

/// Unreserved, sub-delimiters without `;`, `:` and `@` (RFC 3986 §3.3): stand for themselves anywhere.
const PLAIN: u8 = 0;
/// `/`, `.` and `;`: matter at the start of a segment.
const SLASH: u8 = 1;
const DOT: u8 = 2;
const SEMICOLON: u8 = 3;
/// Anything else: `%`, what must be encoded, what is refused.
const OTHER: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(
            clippy::indexing_slicing,
            reason = "a constant: the compiler would refuse to build it"
        )]
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        {
            classes[byte] = match byte as u8 {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => PLAIN,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':'
                | b'@' => PLAIN,
                b'/' => SLASH,
                b'.' => DOT,
                b';' => SEMICOLON,
                _ => OTHER,
            };
        }
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(OTHER)
}

/// Looks at every byte once. Nothing is allocated.
pub(crate) fn scan(path: &[u8]) -> Scan {
    let mut parameters = false;
    let mut previous = OTHER;
    for &byte in path {
        let class = class(byte);
        if class != PLAIN {
            if class == OTHER || previous == SLASH {
                // `//`, `/.` and `/;` deserve a closer look, like everything that is not a plain character.
                return Scan {
                    canonical: false,
                    parameters: false,
                };
            }
            parameters |= class == SEMICOLON;
        }
        previous = class;
    }
    Scan {
        canonical: path.first() == Some(&b'/'),
        parameters,
    }
}

/// What becomes of `%2F`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EncodedSlash {
    /// The path is refused.
    Refused,
    /// It stays as it is, an octet of a segment. What lies between two of them is looked at like a segment all the same:
    /// a program that decodes it must not find a dot segment.
    Opaque,
}

/// A canonical spelling, and what programs could see in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Spelt {
    /// The path.
    pub(crate) path: Vec<u8>,
    /// Whether programs could see `;parameters` in it.
    pub(crate) parameters: bool,
    /// Whether it contains `%2F`.
    pub(crate) slashes: bool,
}

/// The canonical spelling: `//` merged, unreserved octets decoded, hexadecimal digits upper case, everything that may not
/// stand for itself encoded (RFC 3986 §6.2.2). Nothing is ever decoded twice.
///
/// # Errors
///
/// See [`PathFault`].
pub(crate) fn spell(path: &[u8], slashes: EncodedSlash) -> Result<Spelt, PathFault> {
    if path.first() != Some(&b'/') {
        return Err(PathFault::Relative);
    }
    let mut spelt = Spelling {
        out: Vec::with_capacity(path.len().saturating_add(16)),
        decoded: Vec::with_capacity(path.len()),
        segment: 0,
        parameters: false,
        slashes: false,
    };
    let mut rest = path.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'/' => spelt.slash()?,
            b'%' => {
                let high = rest
                    .next()
                    .copied()
                    .and_then(hex)
                    .ok_or(PathFault::Escape)?;
                let low = rest
                    .next()
                    .copied()
                    .and_then(hex)
                    .ok_or(PathFault::Escape)?;
                match (high << 4 | low, slashes) {
                    (b'/', EncodedSlash::Refused) => return Err(PathFault::EncodedSlash),
                    (b'/', EncodedSlash::Opaque) => spelt.encoded_slash()?,
                    (octet, EncodedSlash::Refused | EncodedSlash::Opaque) => {
                        spelt.escaped(octet)?
                    }
                }
            }
            b'\\' => return Err(PathFault::Backslash),
            0..=0x20 | 0x7F => return Err(PathFault::Control),
            _ if class(byte) == OTHER => spelt.encode(byte),
            _ => spelt.plain(byte),
        }
    }
    spelt.end_segment()?;
    if std::str::from_utf8(&spelt.decoded).is_err() {
        return Err(PathFault::NotUtf8);
    }
    Ok(Spelt {
        path: spelt.out,
        parameters: spelt.parameters,
        slashes: spelt.slashes,
    })
}

struct Spelling {
    /// The canonical spelling so far.
    out: Vec<u8>,
    /// The octets it stands for.
    decoded: Vec<u8>,
    /// Where the present segment begins in `decoded`.
    segment: usize,
    parameters: bool,
    slashes: bool,
}

impl Spelling {
    fn plain(&mut self, byte: u8) {
        self.out.push(byte);
        self.decoded.push(byte);
    }

    fn encode(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        self.out
            .extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        self.decoded.push(byte);
    }

    fn escaped(&mut self, octet: u8) -> Result<(), PathFault> {
        match octet {
            b'\\' => Err(PathFault::Backslash),
            0..=0x1F | 0x7F => Err(PathFault::Control),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                self.plain(octet);
                Ok(())
            }
            _ => {
                self.encode(octet);
                Ok(())
            }
        }
    }

    fn encoded_slash(&mut self) -> Result<(), PathFault> {
        self.end_segment()?;
        self.encode(b'/');
        self.segment = self.decoded.len();
        self.slashes = true;
        Ok(())
    }

    fn slash(&mut self) -> Result<(), PathFault> {
        self.end_segment()?;
        if self.out.last() != Some(&b'/') {
            self.plain(b'/');
        }
        self.segment = self.decoded.len();
        Ok(())
    }

    /// Looks at the segment that has just ended as a program would that drops `;parameters`, decoded or not.
    fn end_segment(&mut self) -> Result<(), PathFault> {
        let segment = self.decoded.get(self.segment..).unwrap_or_default();
        let mut parts = segment.splitn(2, |&byte| byte == b';');
        let name = parts.next().unwrap_or_default();
        let parameters = parts.next().is_some();
        self.parameters |= parameters;
        match name {
            b"." | b".." => Err(PathFault::DotSegment),
            b"" if parameters => Err(PathFault::EmptySegment),
            _ => Ok(()),
        }
    }
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A canonical path as a program sees it that drops `;parameters` from every segment, `%3B` read like `;`.
pub(crate) fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') && !path.contains("%3B") {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for (n, segment) in path.split('/').enumerate() {
        if n != 0 {
            out.push('/');
        }
        let name = segment.split(';').next().unwrap_or_default();
        out.push_str(name.split("%3B").next().unwrap_or_default());
    }
    Cow::Owned(out)
}

/// A canonical path as a program sees it that decodes `%2F` and merges `//`.
pub(crate) fn with_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split("%2F").flat_map(|part| part.split('/')) {
        if !segment.is_empty() {
            out.push('/');
            out.push_str(segment);
        }
    }
    if out.is_empty() || path.ends_with('/') || path.ends_with("%2F") {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(path: &[u8]) -> Result<String, PathFault> {
        if scan(path).canonical {
            return Ok(String::from_utf8(path.to_vec()).unwrap());
        }
        spell(path, EncodedSlash::Refused).map(|spelt| String::from_utf8(spelt.path).unwrap())
    }

    #[track_caller]
    fn becomes(raw: &[u8], expected: &str) {
        assert_eq!(canonical(raw).as_deref(), Ok(expected));
    }

    #[track_caller]
    fn refused(raw: &[u8], expected: PathFault) {
        assert_eq!(canonical(raw), Err(expected));
    }

    #[test]
    fn what_is_canonical_stays_and_is_not_copied() {
        for path in [
            "/",
            "/app",
            "/a/b.c/d-e_f~g/",
            "/a!$&'()*+,=:@",
            "/app;jsessionid=1.2",
        ] {
            assert!(scan(path.as_bytes()).canonical, "{path}");
            assert_eq!(canonical(path.as_bytes()).as_deref(), Ok(path));
        }
    }

    #[test]
    fn slashes_are_merged() {
        becomes(b"//admin", "/admin");
        becomes(b"/a///b//", "/a/b/");
        becomes(b"//", "/");
    }

    #[test]
    fn spellings_of_one_resource_become_one() {
        becomes(b"/%61dmin", "/admin");
        becomes(b"/%41%2d%2E%5f%7e", "/A-._~");
        becomes(b"/x%2c%2Cy", "/x%2C%2Cy");
        becomes("/café".as_bytes(), "/caf%C3%A9");
        becomes(b"/caf%c3%a9", "/caf%C3%A9");
        becomes(b"/a|b[c]^d", "/a%7Cb%5Bc%5D%5Ed");
        becomes(b"/a%20b", "/a%20b");
        becomes(b"/...", "/...");
        becomes(b"/.well-known/x", "/.well-known/x");
    }

    #[test]
    fn nothing_is_decoded_twice() {
        becomes(b"/public/%252e%252e/admin", "/public/%252e%252e/admin");
        becomes(b"/%2561dmin", "/%2561dmin");
    }

    #[test]
    fn two_readings_are_refused() {
        for raw in [
            &b"/public/../admin"[..],
            b"/public/%2e%2e/admin",
            b"/public/.%2E/admin",
            b"/public//../admin",
            b"/./a",
            b"/a/.",
            b"/a/..",
            b"/public/..;/admin",
            b"/public/..;x=1/admin",
            b"/public/%2e.%3b/admin",
            b"/public/.;/admin",
        ] {
            refused(raw, PathFault::DotSegment);
        }
        refused(b"/public/..%2fadmin", PathFault::EncodedSlash);
        refused(b"/public%2F..%2Fadmin", PathFault::EncodedSlash);
        refused(b"/public\\admin", PathFault::Backslash);
        refused(b"/public/%5cadmin", PathFault::Backslash);
        refused(b"/a%00", PathFault::Control);
        refused(b"/a%0d%0aX: y", PathFault::Control);
        refused(b"/a%7f", PathFault::Control);
        refused(b"/a b", PathFault::Control);
        refused(b"/%c0%ae%c0%ae/admin", PathFault::NotUtf8);
        refused(b"/\xFF", PathFault::NotUtf8);
        refused(b"/%ff", PathFault::NotUtf8);
        refused(b"/%ed%a0%80", PathFault::NotUtf8);
        refused(b"/%", PathFault::Escape);
        refused(b"/%4", PathFault::Escape);
        refused(b"/%zz", PathFault::Escape);
        refused(b"/;/admin", PathFault::EmptySegment);
        refused(b"/%3Bx/admin", PathFault::EmptySegment);
        refused(b"admin", PathFault::Relative);
        refused(b"", PathFault::Relative);
        refused(b"*", PathFault::Relative);
    }

    #[test]
    fn parameters_are_found_in_either_spelling() {
        assert!(scan(b"/a;x/b").parameters);
        let parameters = |path| spell(path, EncodedSlash::Refused).unwrap().parameters;
        assert!(parameters(b"/a%3bx/b"));
        assert!(!parameters(b"/a%20x/b"));
        assert_eq!(without_parameters("/a;x=1/b%3By/c"), "/a/b/c");
        assert!(matches!(without_parameters("/a/b"), Cow::Borrowed("/a/b")));
    }

    #[test]
    fn an_encoded_slash_that_is_taken_hides_no_segment() {
        let opaque = |path: &[u8]| {
            spell(path, EncodedSlash::Opaque).map(|spelt| {
                assert!(spelt.slashes);
                String::from_utf8(spelt.path).unwrap()
            })
        };
        assert_eq!(opaque(b"/a%2fb/%61").as_deref(), Ok("/a%2Fb/a"));
        assert_eq!(opaque(b"/a%2F%2F").as_deref(), Ok("/a%2F%2F"));
        for hidden in [
            &b"/public/..%2fadmin"[..],
            b"/public%2F..%2Fadmin",
            b"/public%2f.",
            b"/public%2f%2e%2e;x/admin",
            b"/public/.%2f",
        ] {
            assert_eq!(opaque(hidden), Err(PathFault::DotSegment));
        }
        assert_eq!(opaque(b"/a%2f;x/b"), Err(PathFault::EmptySegment));
        assert_eq!(opaque(b"/a%2f%5cb"), Err(PathFault::Backslash));
    }

    #[test]
    fn a_program_that_decodes_slashes_sees_them_merged() {
        assert_eq!(with_slashes("/a%2Fb/c"), "/a/b/c");
        assert_eq!(with_slashes("/a/%2F/b%2F"), "/a/b/");
        assert_eq!(with_slashes("/%2F"), "/");
        assert_eq!(with_slashes("/a%252Fb"), "/a%252Fb");
    }

    fn pathish() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"/".to_vec()),
            Just(b".".to_vec()),
            Just(b";".to_vec()),
            Just(b"\\".to_vec()),
            any::<u8>().prop_map(|b| format!("%{b:02x}").into_bytes()),
            any::<u8>().prop_map(|b| format!("%{b:02X}").into_bytes()),
            any::<u8>().prop_map(|b| vec![b]),
            "[a-z0-9é]{1,4}".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| {
            let mut path = b"/".to_vec();
            path.extend(pieces.into_iter().flatten());
            path
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// A canonical spelling is its own canonical spelling, and is seen to be harmless without a second look at it.
        #[test]
        fn spelling_is_idempotent(path in pathish()) {
            if let Ok(once) = canonical(&path) {
                prop_assert_eq!(canonical(once.as_bytes()), Ok(once.clone()));
                let again = spell(once.as_bytes(), EncodedSlash::Refused).unwrap().path;
                prop_assert_eq!(String::from_utf8(again).unwrap(), once);
            }
        }

        /// What is accepted has nothing in it that two programs could read differently.
        #[test]
        fn what_is_accepted_has_one_reading(path in pathish()) {
            if let Ok(spelt) = canonical(&path) {
                prop_assert!(spelt.starts_with('/'));
                prop_assert!(spelt.bytes().all(|b| b.is_ascii_graphic()), "{}", spelt);
                prop_assert!(!spelt.contains("//"));
                prop_assert!(!spelt.contains('\\') && !spelt.contains('#') && !spelt.contains('?'));
                for bad in ["%2F", "%5C", "%00", "%0A", "%0D", "%2E", "%41"] {
                    prop_assert!(!spelt.contains(bad), "{} in {}", bad, spelt);
                }
                let plain = without_parameters(&spelt);
                for reading in [spelt.as_str(), &*plain] {
                    prop_assert!(reading.split('/').all(|s| s != "." && s != ".."));
                }
                prop_assert!(!plain.contains("//"));
            }
        }

        /// Where `%2F` is taken, a program that decodes it finds no dot segment either, with or without parameters.
        #[test]
        fn what_is_taken_with_slashes_hides_nothing(path in pathish()) {
            if let Ok(spelt) = spell(&path, EncodedSlash::Opaque) {
                let again = spell(&spelt.path, EncodedSlash::Opaque);
                prop_assert_eq!(again.as_ref(), Ok(&spelt));
                let spelt = String::from_utf8(spelt.path).unwrap();
                let decoded = with_slashes(&spelt);
                for reading in [decoded.as_str(), &*without_parameters(&decoded)] {
                    prop_assert!(reading.starts_with('/') && !reading.contains("%2F"));
                    prop_assert!(reading.split('/').all(|s| s != "." && s != ".."), "{}", spelt);
                }
            }
        }

        /// The case of hexadecimal digits changes nothing.
        #[test]
        fn hexadecimal_case_does_not_matter(octets in prop::collection::vec(any::<u8>(), 0..12)) {
            let spelt = |upper: bool| {
                let mut path = b"/".to_vec();
                for octet in &octets {
                    path.extend(if upper { format!("%{octet:02X}") } else { format!("%{octet:02x}") }.into_bytes());
                }
                path
            };
            prop_assert_eq!(canonical(&spelt(true)), canonical(&spelt(false)));
        }

        /// Any bytes get an answer.
        #[test]
        fn no_path_panics(path in prop::collection::vec(any::<u8>(), 0..64)) {
            drop(canonical(&path));
        }
    }
}
