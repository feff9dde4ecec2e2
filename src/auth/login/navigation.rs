//! Whether a request is somebody who opens a page: only they are sent to a login.

use http::HeaderMap;
use http::Method;
use http::header::ACCEPT;

/// What a request is after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asks {
    /// A page in the address bar: a redirect is followed.
    Page,
    /// Anything else: an answer is wanted, and a redirect would lose a body or be followed by a script.
    Answer,
}

/// Top-level GET or HEAD navigations (Fetch Metadata §2), or where the browser says nothing about that, a client that wants
/// HTML and is no script.
pub(super) fn asks(method: &Method, headers: &HeaderMap) -> Asks {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Asks::Answer;
    }
    let field = |name| headers.get(name).map(http::HeaderValue::as_bytes);
    let mode = field("sec-fetch-mode");
    let dest = field("sec-fetch-dest");
    let by_metadata = match (mode, dest) {
        (Some(mode), dest) => {
            Some(mode == b"navigate" && dest.is_none_or(|dest| dest == b"document"))
        }
        (None, Some(dest)) => Some(dest == b"document"),
        (None, None) => None,
    };
    let by_accept = || {
        headers
            .get_all(ACCEPT)
            .iter()
            .any(|value| contains(value.as_bytes(), b"text/html"))
    };
    let page = by_metadata.unwrap_or_else(by_accept);
    if page && field("x-requested-with").is_none() {
        Asks::Page
    } else {
        Asks::Answer
    }
}

/// Whether the browser itself says that somebody opens a page in a tab. Nothing less is sent on an errand that nobody asked for.
pub(super) fn is_top_level(headers: &HeaderMap) -> bool {
    let is = |name, value: &[u8]| {
        headers
            .get(name)
            .is_some_and(|field| field.as_bytes() == value)
    };
    is("sec-fetch-mode", b"navigate")
        && is("sec-fetch-dest", b"document")
        && !headers.contains_key("x-requested-with")
}

/// Whether the browser itself says that no page of this origin led here: an address that was typed or kept, or another site.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site.as_bytes() != b"same-origin")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len())
        .any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fake::headers;

    #[test]
    fn only_somebody_who_opens_a_page_is_redirected() {
        let of = |method, fields: &[(&'static str, &str)]| asks(&method, &headers(fields));
        let html = ("accept", "text/html,application/xhtml+xml");
        for fields in [
            [html, ("x", "y")],
            [
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
            [("sec-fetch-mode", "navigate"), html],
        ] {
            assert_eq!(of(Method::GET, &fields), Asks::Page, "{fields:?}");
            assert_eq!(of(Method::HEAD, &fields), Asks::Page, "{fields:?}");
            assert_eq!(of(Method::POST, &fields), Asks::Answer, "{fields:?}");
        }
        for fields in [
            [
                ("accept", "application/json"),
                ("x-requested-with", "XMLHttpRequest"),
            ],
            [html, ("x-requested-with", "XMLHttpRequest")],
            [("sec-fetch-mode", "cors"), html],
            [("sec-fetch-dest", "image"), html],
            [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            [("sec-fetch-mode", "websocket"), html],
            [("accept", "*/*"), ("x", "y")],
        ] {
            assert_eq!(of(Method::GET, &fields), Asks::Answer, "{fields:?}");
        }
        assert_eq!(of(Method::GET, &[]), Asks::Answer);
    }
}
