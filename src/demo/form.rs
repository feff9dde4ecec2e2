//! The little HTML and form encoding that the demonstration's servers need.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;

use crate::demo::people::Person;

/// Reads `application/x-www-form-urlencoded`; the last of equal names wins, which is enough for our own forms.
pub(super) fn parse(text: &str) -> HashMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let value = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                bytes.push(value.unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Makes text safe inside HTML text and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// A page in the colour of whoever shows it.
pub(super) fn page(
    status: StatusCode,
    title: &str,
    colour: &str,
    body: &str,
) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f6f6f4;color:#222}}\
         header{{background:{colour};color:#fff;padding:1rem 2rem}}h1{{font-size:1.2rem;margin:0}}main{{padding:1rem 2rem;max-width:46rem}}\
         table{{border-collapse:collapse}}td,th{{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}}code{{background:#eee;padding:0 .3rem}}\
         button{{font:inherit;padding:.3rem .8rem;margin:.15rem;border:1px solid #999;border-radius:.3rem;background:#fff;cursor:pointer}}</style>\
         <header><h1>{title}</h1></header><main>{body}</main></html>"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A sign-in page: one button a person, the request's parameters kept.
pub(super) fn sign_in(query: &HashMap<String, String>, people: &[Person]) -> String {
    let mut html = String::from(
        "<p>Who are you? (A demonstration: nobody asks for a password.)</p><form method=get action=\"/authorize\">",
    );
    let mut names: Vec<_> = query.iter().filter(|(name, _)| *name != "who").collect();
    names.sort();
    for (name, value) in names {
        html.push_str(&format!(
            "<input type=hidden name=\"{}\" value=\"{}\">",
            escape(name),
            escape(value)
        ));
    }
    for person in people {
        html.push_str(&format!(
            "<button name=who value=\"{0}\">{0}</button>",
            person.name
        ));
    }
    html + "</form>"
}

/// 303 to `location`.
pub(super) fn redirect(location: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let text = "a b&c=d/é?%";
        assert_eq!(parse(&format!("x={}", encode(text)))["x"], text);
    }

    #[test]
    fn broken_escapes_do_not_panic() {
        assert_eq!(parse("a=%&b=%4&c=%zz")["c"], "?");
    }
}
