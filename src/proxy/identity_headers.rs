//! Who somebody is, as header fields: the only writer of identity headers.
//!
//! Rendered once per verified credential and kept with the verdict. A value that cannot be represented is a denial: a
//! header is never skipped, cut or written in part.

use http::HeaderName;
use http::HeaderValue;

use crate::auth::Admitted;
use crate::identity::HeaderScope;
use crate::identity::Refusal;
use crate::identity::RenderError;
use crate::identity::Scope;
use crate::proxy::settings::HeaderRule;

/// Rendered identity headers of one person for one application, in order. Cloning copies references.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct IdentityHeaders {
    fields: Vec<(HeaderName, HeaderValue)>,
    bytes: usize,
}

/// Why somebody who is known is not let through: 403.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HeaderDenial {
    /// The rule for this header cannot be followed.
    #[error("header {header}: {reason}")]
    NotRepresentable {
        /// The header.
        header: HeaderName,
        /// Why. Says nothing about the value.
        reason: RenderError,
    },
    /// All headers together exceed the budget. Nothing is cut: a cut list may lose the group that denies.
    #[error("identity_header_too_large")]
    TooLarge,
}

impl HeaderDenial {
    /// Why, beside the name of the header.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::TooLarge => self.to_string(),
            Self::NotRepresentable { reason, .. } => reason.to_string(),
        }
    }

    /// The word for the decision log and the metrics.
    pub(crate) const fn refusal(&self) -> Refusal {
        match self {
            Self::TooLarge
            | Self::NotRepresentable {
                reason: RenderError::TooLong,
                ..
            } => Refusal::IdentityHeaderTooLarge,
            Self::NotRepresentable { .. } => Refusal::Policy,
        }
    }
}

impl IdentityHeaders {
    /// No identity: for requests that nobody was admitted for.
    pub(crate) const fn none() -> Self {
        Self {
            fields: Vec::new(),
            bytes: 0,
        }
    }

    /// Follows the rules of an application over what is known about somebody who was admitted; `mark` is what a fallback calls
    /// the session. `budget` bounds names and
    /// values together, in bytes.
    ///
    /// # Errors
    ///
    /// See [`HeaderDenial`].
    pub(crate) fn render(
        rules: &[HeaderRule],
        admitted: &Admitted,
        mark: Option<&str>,
        budget: usize,
    ) -> Result<Self, HeaderDenial> {
        let scope = HeaderScope {
            identity: admitted.identity(),
            canonical: Some(admitted.canonical()),
            link: admitted.accounts(),
            mark,
        };
        Self::follow(rules, &scope, budget)
    }

    /// The same, of what a scope says.
    ///
    /// # Errors
    ///
    /// See [`HeaderDenial`].
    pub(crate) fn follow(
        rules: &[HeaderRule],
        scope: &dyn Scope,
        budget: usize,
    ) -> Result<Self, HeaderDenial> {
        let mut headers = Self {
            fields: Vec::with_capacity(rules.len() + 1),
            bytes: 0,
        };
        for rule in rules {
            let denial = |reason| HeaderDenial::NotRepresentable {
                header: rule.name.clone(),
                reason,
            };
            let Some(value) = rule.template.render(scope).map_err(denial)? else {
                continue;
            };
            // Controls are refused; what is not ASCII stands here only where the rule says `utf8`.
            if !value
                .iter()
                .all(|byte| matches!(byte, b' '..=b'~' | 0x80..))
            {
                return Err(denial(RenderError::ControlCharacter));
            }
            if value.first() == Some(&b' ') || value.last() == Some(&b' ') {
                return Err(denial(RenderError::OuterSpace));
            }
            let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) else {
                return Err(denial(RenderError::ControlCharacter));
            };
            headers.push(rule.name.clone(), value, budget)?;
        }
        Ok(headers)
    }

    /// Adds the signed assertion, or the token that the upstream expects, already made.
    ///
    /// # Errors
    ///
    /// When it does not fit into the budget.
    pub(crate) fn with_assertion(
        mut self,
        header: HeaderName,
        token: HeaderValue,
        budget: usize,
    ) -> Result<Self, HeaderDenial> {
        self.push(header, token, budget)?;
        Ok(self)
    }

    fn push(
        &mut self,
        name: HeaderName,
        mut value: HeaderValue,
        budget: usize,
    ) -> Result<(), HeaderDenial> {
        self.bytes = self
            .bytes
            .saturating_add(name.as_str().len())
            .saturating_add(value.len());
        if budget < self.bytes {
            return Err(HeaderDenial::TooLarge);
        }
        // Kept out of HPACK's tables and out of `Debug`.
        value.set_sensitive(true);
        self.fields.push((name, value));
        Ok(())
    }

    /// How many headers there are.
    pub(crate) const fn len(&self) -> usize {
        self.fields.len()
    }

    /// The headers, for the builder of the upstream head and for `explain`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::identity::Template;

    struct Claims(Value);

    impl Scope for Claims {
        fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
            self.0.get(name).map(Cow::Borrowed)
        }
    }

    fn rules(pairs: &[(&'static str, &str)]) -> Vec<HeaderRule> {
        let rule = |(name, template): &(&'static str, &str)| HeaderRule {
            name: HeaderName::from_static(name),
            template: Template::parse(template).unwrap(),
        };
        pairs.iter().map(rule).collect()
    }

    #[test]
    fn headers_come_in_the_order_of_the_rules_and_are_marked_sensitive() {
        let rules = rules(&[("sm_user", "CORP\\{uid}"), ("x-groups", "{groups|join:;}")]);
        let headers = IdentityHeaders::follow(
            &rules,
            &Claims(json!({ "uid": "alice", "groups": ["a", "b"] })),
            1_000,
        )
        .unwrap();
        let written: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
            .collect();
        assert_eq!(written, [("sm_user", "CORP\\alice"), ("x-groups", "a;b")]);
        assert!(headers.iter().all(|(_, value)| value.is_sensitive()));
        assert!(!format!("{headers:?}").contains("alice"));
        assert_eq!(headers.bytes, "sm_userCORP\\alicex-groupsa;b".len());
    }

    #[test]
    fn letters_of_other_alphabets_arrive_as_they_are_where_the_rule_says_so() {
        let written = |template: &str, value: &str| {
            let rules = rules(&[("x-name", template)]);
            let headers = IdentityHeaders::follow(&rules, &Claims(json!({ "name": value })), 100);
            headers.map(|headers| headers.iter().map(|(_, v)| v.as_bytes().to_vec()).collect())
        };
        let one = |bytes: &[u8]| Ok(vec![bytes.to_vec()]);
        assert_eq!(
            written("{name|utf8}", "Zo\u{eb}"),
            one("Zo\u{eb}".as_bytes())
        );
        assert_eq!(written("{name}", "Zo\u{eb}"), one(b"Zo%C3%AB"));
        // U+0085 ends a line for some.
        assert!(written("{name|utf8}", "a\u{85}b").is_err());
        assert!(written("{name|utf8}", "a\u{7f}b").is_err());
    }

    #[test]
    fn what_cannot_be_written_denies_and_names_the_header_only() {
        let rules = rules(&[("x-user", "{uid}")]);
        for value in [
            json!("a\r\nb"),
            json!("a\tb"),
            json!(7),
            json!({ "a": 1 }),
            json!(["a"]),
            Value::Null,
        ] {
            let denied = IdentityHeaders::follow(&rules, &Claims(json!({ "uid": value })), 1_000)
                .unwrap_err();
            assert!(
                matches!(&denied, HeaderDenial::NotRepresentable { header, .. } if header == "x-user"),
                "{denied:?}"
            );
        }
        assert!(IdentityHeaders::follow(&rules, &Claims(json!({})), 1_000).is_err());
    }

    #[test]
    fn nothing_is_cut_to_fit_the_budget() {
        let rules = rules(&[("x-user", "{uid}"), ("x-more", "{more}")]);
        let claims = Claims(json!({ "uid": "alice", "more": "m".repeat(20) }));
        let exact = "x-userx-more".len() + 25;
        assert!(IdentityHeaders::follow(&rules, &claims, exact).is_ok());
        assert_eq!(
            IdentityHeaders::follow(&rules, &claims, exact - 1).unwrap_err(),
            HeaderDenial::TooLarge
        );
        let headers = IdentityHeaders::follow(&rules, &claims, exact).unwrap();
        let token = headers.with_assertion(
            HeaderName::from_static("x-assertion"),
            HeaderValue::from_static("e.y.J"),
            exact,
        );
        let token = token.unwrap_err();
        assert_eq!(token, HeaderDenial::TooLarge);
        assert_eq!(token.refusal().as_str(), "identity_header_too_large");
    }
}
