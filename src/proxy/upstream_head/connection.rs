//! What `Connection` names (RFC 9110 §7.6.1).

use http::HeaderMap;
use http::HeaderName;
use http::header;

/// The fields that belong to one connection only, because `Connection` says so. In all lines, in any case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nominated<'a>(Vec<&'a [u8]>);

/// More names than any program sends: the request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany;

/// Names in all `Connection` fields together, beside the usual words.
const MAX: usize = 32;

impl<'a> Nominated<'a> {
    /// Reads all `Connection` fields. Allocates only when one names something unusual.
    ///
    /// # Errors
    ///
    /// When more than 32 fields are named.
    pub(crate) fn read(headers: &'a HeaderMap) -> Result<Self, TooMany> {
        let mut names = Vec::new();
        for value in headers.get_all(header::CONNECTION) {
            for token in value.as_bytes().split(|byte| *byte == b',') {
                let token = token.trim_ascii();
                if token.is_empty() || USUAL.iter().any(|usual| token.eq_ignore_ascii_case(usual)) {
                    continue;
                }
                if names.len() == MAX {
                    return Err(TooMany);
                }
                names.push(token);
            }
        }
        Ok(Self(names))
    }

    /// Whether `name` was named.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.0
            .iter()
            .any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }

    /// Whether nothing unusual was named.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Words that are no field names, or name fields which are dropped anyway.
const USUAL: [&[u8]; 7] = [
    b"keep-alive",
    b"close",
    b"upgrade",
    b"te",
    b"http2-settings",
    b"transfer-encoding",
    b"proxy-connection",
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CONNECTION, HeaderValue::from_static(line));
        }
        headers
    }

    #[test]
    fn all_lines_count_in_any_case_and_with_odd_white_space() {
        let headers = headers(&["keep-alive", "close, x-AUTH-groups , ,\tx-custom"]);
        let nominated = Nominated::read(&headers).unwrap();
        assert!(nominated.contains(&HeaderName::from_static("x-auth-groups")));
        assert!(nominated.contains(&HeaderName::from_static("x-custom")));
        assert!(!nominated.contains(&header::ACCEPT));
    }

    #[test]
    fn the_usual_words_cost_nothing() {
        let headers = headers(&["Keep-Alive", "Upgrade, HTTP2-Settings"]);
        assert!(Nominated::read(&headers).unwrap().is_empty());
    }

    #[test]
    fn a_flood_of_names_is_refused() {
        let line: &'static str = "a,".repeat(33).leak();
        assert_eq!(Nominated::read(&headers(&[line])).unwrap_err(), TooMany);
    }
}
