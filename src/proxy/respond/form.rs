//! In which form a page is written: as the client asks for it.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::header;

use crate::auth::Look;
use crate::proxy::respond::Fault;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Html,
    Json,
    Plain,
}

impl Form {
    /// The first form in `Accept` that we have and that is not weighed down to nothing (RFC 9110 §12.5.1). Browsers put
    /// HTML first; programs that take anything get plain text.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        for range in headers
            .get_all(header::ACCEPT)
            .iter()
            .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        {
            let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let media = parts.next().unwrap_or_default();
            let refused =
                parts.any(|p| matches!(p, b"q=0" | b"q=0." | b"q=0.0" | b"q=0.00" | b"q=0.000"));
            if refused {
                continue;
            }
            if media.eq_ignore_ascii_case(b"text/html")
                || media.eq_ignore_ascii_case(b"application/xhtml+xml")
            {
                return Self::Html;
            }
            let json = media.eq_ignore_ascii_case(b"application/json")
                || media.to_ascii_lowercase().ends_with(b"+json");
            if json {
                return Self::Json;
            }
        }
        Self::Plain
    }

    pub(super) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Plain => "text/plain; charset=utf-8",
        })
    }

    pub(super) fn render(self, fault: &Fault, reference: &str, look: &Look) -> Bytes {
        let (heading, sentence) = fault.words();
        let text = match self {
            Self::Html => look.document(
                heading,
                &format!("<p>{sentence}</p>\n<p>Reference: <code>{reference}</code></p>\n"),
            ),
            Self::Json => [
                "{\"error\":\"",
                fault.as_str(),
                "\",\"message\":\"",
                sentence,
                "\",\"reference\":\"",
                reference,
                "\"}\n",
            ]
            .concat(),
            Self::Plain => [heading, ". ", sentence, "\nReference: ", reference, "\n"].concat(),
        };
        Bytes::from(text)
    }
}
