//! The fields of a head together: how many there may be and how large, and where they say that the body ends. What counts is
//! the head as HTTP/1.1 would have it, so that both protocols have the same limits.

use http::HeaderValue;
use http::header;
use http::request::Parts;
use memchr::memchr_iter;

use crate::proxy::canonical::BadRequest;
use crate::proxy::settings::Limits;

/// All `Cookie` fields together, in bytes.
const MAX_COOKIE_BYTES: usize = 16 * 1024;

/// Pairs in all `Cookie` fields together.
const MAX_COOKIE_PAIRS: usize = 100;

/// Looks at the names of all fields and at those that say where the body ends (RFC 9112 §6); says whether there is one.
pub(super) fn fields(parts: &Parts, h2: bool, limits: &Limits) -> Result<bool, BadRequest> {
    let headers = &parts.headers;
    if limits.head_fields <= headers.len() && limits.head_fields < counted(parts, h2) {
        return Err(BadRequest::TooManyFields);
    }
    // In HTTP/1.1 whoever parses has counted.
    if h2 && limits.head_bytes < written(parts) {
        return Err(BadRequest::HeadTooLong);
    }
    let (mut encodings, mut lengths, mut cookies) = (Said::Never, Said::Never, Cookies::default());
    for (name, value) in headers {
        match *name {
            header::TRANSFER_ENCODING => encodings = encodings.and(value),
            header::CONTENT_LENGTH => lengths = lengths.and(value),
            header::COOKIE => cookies.see(value),
            _ if is_framing_in_disguise(name.as_str()) => return Err(BadRequest::Framing),
            _ => {}
        }
    }
    let chunked = match encodings {
        Said::Never => false,
        Said::Once(only) if !h2 && only.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        Said::Once(_) | Said::Often => return Err(BadRequest::Framing),
    };
    let length = match lengths {
        Said::Never => false,
        Said::Once(only)
            if !chunked && !only.is_empty() && only.as_bytes().iter().all(u8::is_ascii_digit) =>
        {
            only.as_bytes().iter().any(|digit| *digit != b'0')
        }
        Said::Once(_) | Said::Often => return Err(BadRequest::Framing),
    };
    if cookies.too_many {
        return Err(BadRequest::TooManyCookies);
    }
    Ok(chunked || length)
}

/// How many fields a head has, or would have in HTTP/1.1: one for the host, and one for all crumbs of cookies (RFC 9113 §8.2.3).
fn counted(parts: &Parts, h2: bool) -> usize {
    let headers = &parts.headers;
    if !h2 {
        return headers.len();
    }
    let crumbs = headers.get_all(header::COOKIE).iter().count();
    headers.len() - crumbs.saturating_sub(1) + usize::from(host(parts).is_some())
}

/// The host of a head of HTTP/2 that has no field for it.
fn host(parts: &Parts) -> Option<&str> {
    let authority = parts.uri.authority()?.as_str();
    (!parts.headers.contains_key(header::HOST)).then_some(authority)
}

/// How many bytes a head of HTTP/2 would have in HTTP/1.1.
fn written(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |it| it.as_str().len());
    let line = parts.method.as_str().len() + target + "  HTTP/1.1\r\n\r\n".len();
    let host = host(parts).map_or(0, |host| "host: \r\n".len() + host.len());
    let (mut fields, mut cookies) = (0, 0);
    for (name, value) in &parts.headers {
        fields += value.len();
        if name == header::COOKIE {
            // The first one has a name and the end of a line, each other a separator.
            cookies += 1;
            fields += if cookies == 1 {
                "cookie: \r\n".len()
            } else {
                "; ".len()
            };
        } else {
            fields += name.as_str().len() + ": \r\n".len();
        }
    }
    line + host + fields
}

/// What RFC 9113 §6.5.2 may count for a head that is within the limits: 32 bytes for each field and crumb, where HTTP/1.1 has
/// two or four.
pub(crate) const fn largest_list(limits: &Limits) -> usize {
    // With the four fields that stand for the request line, and their names.
    let fields = limits.head_fields + MAX_COOKIE_PAIRS + 8;
    limits.head_bytes + fields * 40
}

/// The values of a field that may be said once.
#[derive(Clone, Copy)]
enum Said<'a> {
    Never,
    Once(&'a HeaderValue),
    Often,
}

impl<'a> Said<'a> {
    const fn and(self, value: &'a HeaderValue) -> Self {
        match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Often => Self::Often,
        }
    }
}

/// The `Cookie` fields of a request together.
#[derive(Default)]
struct Cookies {
    bytes: usize,
    pairs: usize,
    too_many: bool,
}

impl Cookies {
    fn see(&mut self, cookie: &HeaderValue) {
        // Crumbs count as the one field that they are put together to.
        let joined = if self.pairs == 0 { 0 } else { "; ".len() };
        self.bytes = self.bytes.saturating_add(cookie.len() + joined);
        if self.bytes <= MAX_COOKIE_BYTES {
            let separators = memchr_iter(b';', cookie.as_bytes()).count();
            self.pairs = self.pairs.saturating_add(separators + 1);
        }
        self.too_many |= MAX_COOKIE_BYTES < self.bytes || MAX_COOKIE_PAIRS < self.pairs;
    }
}

/// Whether a name is read as `transfer-encoding` or `content-length` by programs that fold names (RFC 3875 §4.1.18), and
/// is spelt otherwise. Folding: lower case, each run of non-alphanumerics one `-`, outer `-` cut.
fn is_framing_in_disguise(name: &str) -> bool {
    // Both begin and end with letters that are rare in one name, so most names end here.
    let inner = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let candidate = match (inner.as_bytes().first(), inner.as_bytes().last()) {
        (Some(b't'), Some(b'g')) => "transfer-encoding",
        (Some(b'c'), Some(b'h')) => "content-length",
        _ => return false,
    };
    if name == candidate {
        return false;
    }
    let mut words = inner
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let mut expected = candidate.split('-');
    expected.all(|word| words.next() == Some(word)) && words.next().is_none()
}
