//! Cookies on their way to an upstream: ours and those that are credentials stay here.

use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;
use memchr::memchr;

use crate::auth::cookie_pieces;

/// Names of cookies, compared byte for byte as the extraction of credentials does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct CookieNames {
    exact: Vec<Box<[u8]>>,
    prefixes: Vec<Box<[u8]>>,
}

impl CookieNames {
    /// `exact` names, and all names that begin with one of `prefixes`.
    pub(crate) fn new<'a>(
        exact: impl IntoIterator<Item = &'a str>,
        prefixes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let bytes = |text: &str| text.as_bytes().into();
        Self {
            exact: exact.into_iter().map(bytes).collect(),
            prefixes: prefixes.into_iter().map(bytes).collect(),
        }
    }

    /// Whether `name` is one of these.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.exact.iter().any(|exact| **exact == *name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    fn has_pair(&self, pair: &[u8]) -> bool {
        let end = memchr(b'=', pair).unwrap_or(pair.len());
        self.contains(trim(pair.get(..end).unwrap_or_default()))
    }
}

/// The client's cookies without `ours`. All other pairs arrive byte for byte and in order; `None` when none is left.
///
/// HTTP/2 clients may send one field per pair; they are joined with `; ` (RFC 9113 §8.2.3). A single field without one of
/// our names is passed on as it is.
pub(crate) fn without(ours: &[&CookieNames], headers: &HeaderMap) -> Option<HeaderValue> {
    let mut fields = headers.get_all(COOKIE).iter();
    let first = fields.next()?;
    let is_ours = |pair: &[u8]| ours.iter().any(|names| names.has_pair(pair));
    if fields.next().is_none() && !cookie_pieces(first.as_bytes()).any(is_ours) {
        return (!trim(first.as_bytes()).is_empty()).then(|| first.clone());
    }
    let mut kept = Vec::new();
    for field in headers.get_all(COOKIE) {
        for pair in cookie_pieces(field.as_bytes()) {
            let trimmed = trim(pair);
            if trimmed.is_empty() || is_ours(pair) {
                continue;
            }
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(trimmed);
        }
    }
    if kept.is_empty() {
        return None;
    }
    // Made of pieces of valid values, so it is one.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(kept)).ok()
}

/// Cuts SP and HTAB, and nothing else: other white space is part of a name.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours() -> CookieNames {
        CookieNames::new(
            ["__Host-authferry", "sessionid"],
            ["__Host-authferry-flow-"],
        )
    }

    fn rewrite(fields: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        without(&[&ours()], &headers)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    #[test]
    fn our_cookies_stay_and_the_others_pass_in_order() {
        assert_eq!(
            rewrite(&[b"a=b; __Host-authferry=s; c=d"]).unwrap(),
            "a=b; c=d"
        );
        assert_eq!(
            rewrite(&[b"__Host-authferry-flow-x1=s; c=\"d e\""]).unwrap(),
            "c=\"d e\""
        );
        assert_eq!(rewrite(&[b"sessionid=1"]), None);
        assert_eq!(rewrite(&[b"a=1;b=2"]).unwrap(), "a=1;b=2");
    }

    #[test]
    fn odd_cookie_headers_neither_crash_nor_leak() {
        assert_eq!(
            rewrite(&[b";; ; a=b; __Host-authferry=s;=x;c;  ;"]).unwrap(),
            "a=b; =x; c"
        );
        assert_eq!(rewrite(&[b""]), None);
        assert_eq!(rewrite(&[b" \t"]), None);
        assert_eq!(rewrite(&[b"__Host-authferry=s"]), None);
        assert_eq!(
            rewrite(&[b"a=\"x; __Host-authferry=s\"; b=1"]).unwrap(),
            "a=\"x; b=1"
        );
        assert_eq!(rewrite(&[b"__Host-authferry"]), None);
        assert_eq!(rewrite(&[b" __Host-authferry\t = s ; z=1"]).unwrap(), "z=1");
    }

    #[test]
    fn crumbs_of_http2_are_joined() {
        assert_eq!(
            rewrite(&[b"a=1", b"b=2", b"sessionid=9", b"c=3; d=4"]).unwrap(),
            "a=1; b=2; c=3; d=4"
        );
    }

    proptest! {
        /// Whatever surrounds it, the value of our cookie is gone, and what was not ours is there, in order.
        #[test]
        fn our_value_never_passes(
            before in proptest::collection::vec("[a-z]{1,4}=[a-zA-Z0-9\"=,]{0,6}", 0..4),
            after in proptest::collection::vec("[a-z]{1,4}=[a-zA-Z0-9\"=,]{0,6}", 0..4),
            gap in "[ \t;]{0,4}",
            split in any::<bool>(),
        ) {
            let mut pairs = before.clone();
            pairs.push(format!("{gap}__Host-authferry=SECRETSECRET{gap}"));
            pairs.extend(after.iter().cloned());
            let text = pairs.join(";");
            let fields: Vec<&[u8]> = if split { pairs.iter().map(|p| p.as_bytes()).collect() } else { vec![text.as_bytes()] };
            let rest = rewrite(&fields).unwrap_or_default();
            prop_assert!(!rest.contains("SECRET"));
            let expected: Vec<_> = before.iter().chain(&after).cloned().collect();
            prop_assert_eq!(rest, expected.join("; "));
        }

        /// No bytes make it panic.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.append(COOKIE, value);
                without(&[&ours()], &headers);
            }
        }
    }
}
