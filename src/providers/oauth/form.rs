//! `application/x-www-form-urlencoded`, for bodies and queries.

use std::fmt::Write as _;

/// Names and values, encoded.
///
/// A space becomes `%20`: every decoder of forms takes it, and some decoders of queries and of Basic credentials take
/// nothing else.
#[derive(Clone, Default)]
pub(in crate::providers) struct Form(String);

impl Form {
    /// With one more pair.
    pub(in crate::providers) fn with(mut self, name: &str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        push_encoded(&mut self.0, name);
        self.0.push('=');
        push_encoded(&mut self.0, value);
        self
    }

    /// As a body.
    pub(in crate::providers) fn into_body(self) -> String {
        self.0
    }

    /// As the query of `address`, after one that is there already.
    pub(in crate::providers) fn onto(self, address: &str) -> String {
        let joint = match address.find('?') {
            None => "?",
            Some(at) if at + 1 == address.len() || address.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{address}{joint}{}", self.0)
    }
}

/// One text, encoded.
pub(in crate::providers) fn encoded(text: &str) -> String {
    let mut into = String::new();
    push_encoded(&mut into, text);
    into
}

fn push_encoded(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            write!(into, "%{byte:02X}").expect("a string takes all that is written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_cannot_become_another_pair() {
        let form = Form::default().with("a b", "x&c=d#%\r\n").with("ü", "");
        assert_eq!(form.into_body(), "a%20b=x%26c%3Dd%23%25%0D%0A&%C3%BC=");
    }

    #[test]
    fn a_query_that_is_there_stays() {
        let onto = |address: &str| Form::default().with("a", "b").onto(address);
        assert_eq!(onto("https://x/y"), "https://x/y?a=b");
        assert_eq!(onto("https://x/y?"), "https://x/y?a=b");
        assert_eq!(onto("https://x/y?p=q"), "https://x/y?p=q&a=b");
    }

    proptest! {
        #[test]
        fn any_text_comes_out_as_letters_of_a_query(text in ".*") {
            let body = Form::default().with("n", &text).into_body();
            prop_assert!(body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%=".contains(&b)));
            prop_assert_eq!(body.matches('=').count(), 1);
        }
    }
}
