//! Cookies: read byte for byte, written with the same attributes every time (RFC 6265 §4.1, §4.2).

use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;
use memchr::memchr;
use memchr::memchr_iter;

use crate::session::settings::SameSite;

/// The name and value pairs of all `Cookie` fields, in order.
///
/// HTTP/2 clients may send one field per pair (RFC 9113 §8.2.3). Only SP and HTAB around a pair are removed: a name that
/// hides behind other white space, another case or an empty name is another name.
pub(super) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|field| pieces(field.as_bytes()))
        .filter_map(|pair| {
            let pair = trim(pair);
            let equals = memchr(b'=', pair)?;
            let (name, value) = pair.split_at_checked(equals)?;
            (!name.is_empty()).then(|| (name, value.get(1..).unwrap_or_default()))
        })
}

/// What stands between the semicolons of a field.
pub(crate) fn pieces(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b';', field)
        .chain([field.len()])
        .map(move |end| {
            let piece = field.get(start..end).unwrap_or_default();
            start = end + 1;
            piece
        })
}

/// What carries one cookie name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent<'a> {
    /// No pair has the name.
    None,
    /// One pair has it.
    Once(&'a [u8]),
    /// Several have it: somebody else may have planted one, so none counts.
    Several,
}

/// The value of the cookie called `name`.
pub(super) fn named<'a>(headers: &'a HeaderMap, name: &str) -> Sent<'a> {
    let mut sent = Sent::None;
    for (found, value) in pairs(headers) {
        if found == name.as_bytes() {
            sent = sent.and(value);
        }
    }
    sent
}

impl<'a> Sent<'a> {
    /// One more pair of the name.
    pub(super) const fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::None => Self::Once(value),
            Self::Once(_) | Self::Several => Self::Several,
        }
    }

    /// The value, if it was sent once and is visible ASCII.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Once(value) => visible(value),
            Self::None | Self::Several => None,
        }
    }
}

/// The bytes as text, if all are visible ASCII.
pub(super) fn visible(bytes: &[u8]) -> Option<&str> {
    // Without an early end the compiler looks at many bytes at once: tokens are long, and nearly all are good.
    bytes
        .iter()
        .fold(true, |visible, byte| visible & byte.is_ascii_graphic())
        .then(|| std::str::from_utf8(bytes).ok())?
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// How long the browser keeps a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keep {
    /// Until it is closed.
    Browser,
    /// This long.
    For(Duration),
    /// It forgets the cookie now.
    Forget,
}

/// A `Set-Cookie` value: `Path=/`, `HttpOnly`, never `Domain`; `Secure` except on plain loopback.
///
/// A cookie is forgotten with the attributes it was set with, or browsers keep the old one.
pub(super) fn set(
    name: &str,
    value: &str,
    keep: Keep,
    (same_site, secure): (SameSite, bool),
) -> Option<HeaderValue> {
    let age = match keep {
        Keep::Browser => String::new(),
        Keep::For(span) => format!("; Max-Age={}", span.as_secs()),
        Keep::Forget => String::from("; Max-Age=0"),
    };
    let secure = if secure { "; Secure" } else { "" };
    let site = same_site.as_str();
    let text = format!("{name}={value}; Path=/{age}; HttpOnly; SameSite={site}{secure}");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    proptest! {
        /// The library finds what a look at each byte does.
        #[test]
        fn pieces_are_what_stands_between_semicolons(field in "[a=; ]{0,80}") {
            let whole = field.as_bytes();
            let split: Vec<_> = whole.split(|byte| *byte == b';').collect();
            prop_assert_eq!(pieces(whole).collect::<Vec<_>>(), split);
        }
    }

    #[test]
    fn a_cookie_is_found_in_any_field_and_place() {
        let headers = headers(&[b"a=1; b=2", b"c=3;d=x=y"]);
        assert_eq!(named(&headers, "a"), Sent::Once(b"1"));
        assert_eq!(named(&headers, "c"), Sent::Once(b"3"));
        assert_eq!(named(&headers, "d"), Sent::Once(b"x=y"));
        assert_eq!(named(&headers, "e"), Sent::None);
    }

    #[test]
    fn two_of_one_name_are_none_wherever_they_stand() {
        assert_eq!(named(&headers(&[b"a=1; a=1"]), "a"), Sent::Several);
        assert_eq!(named(&headers(&[b"a=1", b"a=2"]), "a"), Sent::Several);
    }

    #[test]
    fn a_disguised_name_is_another_name() {
        for field in [
            b"\xE2\x80\x80__Host-authferry=x".as_slice(),
            b" __Host-authferry =x",
            b"__host-authferry=x",
            b"=__Host-authferry=x",
            b"\\___Host-authferry=x",
            b"\xA0__Host-authferry=x",
        ] {
            assert_eq!(named(&headers(&[field]), "__Host-authferry"), Sent::None);
        }
    }

    #[test]
    fn a_cookie_is_set_and_forgotten_with_the_same_attributes() {
        let text = |value| String::from_utf8(HeaderValue::as_bytes(&value).to_vec()).unwrap();
        assert_eq!(
            text(set("__Host-a", "v", Keep::Browser, (SameSite::Lax, true)).unwrap()),
            "__Host-a=v; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            text(set("__Host-a", "", Keep::Forget, (SameSite::Strict, true)).unwrap()),
            "__Host-a=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"
        );
    }

    proptest! {
        /// No bytes make the reader panic, and what it yields is part of what was sent.
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(0x20_u8..=0xff, 0..200)) {
            prop_assume!(!bytes.contains(&0x7f));
            let headers = headers(&[&bytes]);
            for (name, value) in pairs(&headers) {
                prop_assert!(!name.is_empty());
                prop_assert!(!name.contains(&b'=') && !value.contains(&b';'));
            }
        }

        /// A pair among others is found exactly when its name stands alone.
        #[test]
        fn a_planted_twin_is_noticed(before in "[a-z]{0,5}", value in "[a-z0-9]{1,20}", twin in proptest::bool::ANY) {
            let planted = if twin { "; mine=other" } else { "" };
            let field = format!("x{before}=1; mine={value}{planted}");
            let headers = headers(&[field.as_bytes()]);
            let expected = if twin { Sent::Several } else { Sent::Once(value.as_bytes()) };
            prop_assert_eq!(named(&headers, "mine"), expected);
        }
    }
}
