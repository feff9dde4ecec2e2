//! Query parameters and forms: each name once, or not at all.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The parameters of a query (`application/x-www-form-urlencoded`), decoded.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// A query that is not one: a name twice (RFC 6749 §3.1), a broken escape, or too many names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BadQuery;

/// More parameters than any answer has.
const MAX_PARAMETERS: usize = 32;

impl Query {
    /// Reads a query without its `?`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, BadQuery> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in text
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if MAX_PARAMETERS <= found.len() || found.iter().any(|(other, _)| *other == name) {
                return Err(BadQuery);
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// The value of a name; an empty value is none.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// The value of a name, empty or not.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Decodes one value (`application/x-www-form-urlencoded`).
pub(crate) fn decode(text: &str) -> Result<String, BadQuery> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let high = digit().ok_or(BadQuery)?;
                let low = digit().ok_or(BadQuery)?;
                u8::try_from(high * 16 + low).or(Err(BadQuery))?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).or(Err(BadQuery))
}

/// Encodes a value for a query: everything but unreserved characters (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                encoded.push(digit.to_ascii_uppercase());
            }
        }
    }
    encoded
}

/// Whether a body is said to be a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    let essence = kind.to_str().ok().and_then(|kind| kind.split(';').next());
    essence.is_some_and(|essence| {
        let form = "application/x-www-form-urlencoded";
        essence.trim_ascii().eq_ignore_ascii_case(form)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_name_has_one_value() {
        let query = Query::parse(Some("code=a%2Bb&state=&x&iss=https%3A%2F%2Fa+b")).unwrap();
        assert_eq!(query.value("code"), Some("a+b"));
        assert_eq!(query.value("state"), None);
        assert_eq!(query.given("state"), Some(""));
        assert_eq!(query.value("iss"), Some("https://a b"));
        assert_eq!(query.value("error"), None);
        for bad in ["a=1&a=2", "a=1&%61=2", "a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(Query::parse(Some(bad)).unwrap_err(), BadQuery, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text in "\\PC{0,40}") {
            let query = format!("x={}", encode(&text));
            prop_assert!(query.is_ascii());
            let read = Query::parse(Some(&query)).unwrap();
            prop_assert_eq!(read.given("x"), Some(text.as_str()));
        }

        #[test]
        fn any_query_can_be_read(text in "[ -~]{0,80}") {
            drop(Query::parse(Some(&text)));
        }
    }
}
