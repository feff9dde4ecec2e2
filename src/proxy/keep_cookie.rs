//! Our cookie on the answer of an application.
//!
//! A shared cache keeps fields with the answer (RFC 9111 §3.1), and gives everybody the same: a cookie among them would be one
//! person's session for all. So it goes only where no shared cache may keep the answer.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use http::header;

/// Fields by which caches in front are told what browsers are not (RFC 9213 and its kin).
const TARGETED: [HeaderName; 3] = [
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("edge-control"),
];

/// Adds `cookie` to an answer, and says that the answer is for its client alone where nothing is said. An answer that a shared
/// cache may keep goes without: the next one is asked for soon.
pub(super) fn keep_cookie(headers: &mut HeaderMap, status: StatusCode, cookie: HeaderValue) {
    // What is said of a kept answer is added to it (RFC 9111 §3.2).
    if status == StatusCode::NOT_MODIFIED || TARGETED.iter().any(|name| headers.contains_key(name))
    {
        return;
    }
    let mut private = false;
    let mut kept = headers.contains_key(header::EXPIRES);
    for field in headers.get_all(header::CACHE_CONTROL) {
        for directive in field.as_bytes().split(|byte| *byte == b',') {
            let directive = directive.trim_ascii();
            let name = directive.split(|byte| *byte == b'=').next();
            let name = name.unwrap_or_default().trim_ascii();
            let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
            // With a list of fields it speaks of those alone (RFC 9111 §5.2.2.7).
            private |= is(b"no-store") || (is(b"private") && !directive.contains(&b'='));
            kept |= is(b"public") || is(b"s-maxage") || is(b"max-age");
        }
    }
    if !private {
        if kept {
            return;
        }
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    headers.append(header::SET_COOKIE, cookie);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(status: u16, fields: &[(&'static str, &'static str)]) -> (bool, Vec<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).unwrap();
        keep_cookie(&mut headers, status, HeaderValue::from_static("a=b"));
        let said = headers.get_all(header::CACHE_CONTROL).iter();
        let said = said.map(|value| value.to_str().unwrap().to_owned());
        (headers.contains_key(header::SET_COOKIE), said.collect())
    }

    #[test]
    fn a_cookie_goes_only_where_no_shared_cache_may_keep_it() {
        for (status, fields) in [
            (200, vec![("cache-control", "public, max-age=60")]),
            (200, vec![("cache-control", "max-age=60")]),
            (200, vec![("cache-control", "S-MaxAge=60")]),
            (200, vec![("expires", "Thu, 01 Dec 2033 16:00:00 GMT")]),
            (200, vec![("cache-control", "private=\"x\", max-age=1")]),
            (200, vec![("cdn-cache-control", "max-age=60")]),
            (
                200,
                vec![
                    ("cache-control", "private"),
                    ("surrogate-control", "max-age=9"),
                ],
            ),
            (304, vec![("cache-control", "private")]),
        ] {
            assert!(!after(status, &fields).0, "{status} {fields:?}");
        }
        for fields in [
            vec![("cache-control", "no-store")],
            vec![
                ("cache-control", "no-cache"),
                ("cache-control", "Private ,max-age=9"),
            ],
        ] {
            let (set, said) = after(200, &fields);
            assert!(set && said.len() == fields.len(), "{fields:?}");
        }
        for fields in [vec![], vec![("cache-control", "no-cache")]] {
            let (set, said) = after(200, &fields);
            assert!(set && said.contains(&"private".to_owned()), "{fields:?}");
        }
    }
}
