//! What holds for what browsers send, whatever that is. See `crate::promises`.

use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;

use crate::auth::cookies::Sent;
use crate::auth::cookies::named;
use crate::auth::cookies::pairs;

pub(crate) use crate::auth::login::promises::login_flow;
pub(crate) use crate::auth::login::promises::query;
pub(crate) use crate::auth::login::promises::return_path;

/// A cookie counts when one pair has its name, in whatever field; one field a line.
pub(crate) fn cookies(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    let name = "__Host-authferry";
    let found: Vec<&[u8]> = pairs(&headers)
        .filter(|(other, _)| *other == name.as_bytes())
        .map(|(_, value)| value)
        .collect();
    let sent = named(&headers, name);
    match (sent, &found[..]) {
        (Sent::None, []) | (Sent::Several, [_, _, ..]) => assert_eq!(sent.text(), None),
        (Sent::Once(value), [only]) => {
            assert_eq!(value, *only);
            assert!(
                sent.text()
                    .is_none_or(|text| text.bytes().all(|b| b.is_ascii_graphic()))
            );
        }
        (sent, found) => unreachable!("{sent:?} of {found:?}"),
    }
    for (name, value) in pairs(&headers) {
        assert!(!name.is_empty() && !name.contains(&b';') && !value.contains(&b';'));
        assert!(!name.contains(&b'='));
    }
}
