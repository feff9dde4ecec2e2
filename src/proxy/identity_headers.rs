//! Who somebody is, as header fields: the only writer of identity headers.
//!
//! Rendered once per verified credential and kept with the verdict. A value that cannot be represented is a denial: a
//! header is never skipped, cut or written in part.

use http::HeaderName;
use http::HeaderValue;

use crate::identity::RenderError;
use crate::identity::Scope;
use crate::proxy::settings::HeaderRule;

/// Rendered identity headers of one person for one application, in order. Cloning copies references.
#[derive(Clone, Debug, Default)]
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

impl IdentityHeaders {
    /// No identity: for requests that nobody was admitted for.
    pub(crate) const fn none() -> Self {
        Self {
            fields: Vec::new(),
            bytes: 0,
        }
    }

    /// Follows the rules of an application over what is known about a person. `budget` bounds names and values together,
    /// in bytes.
    ///
    /// # Errors
    ///
    /// See [`HeaderDenial`].
    pub(crate) fn render(rules: &[HeaderRule], scope: &dyn Scope, budget: usize) -> Result<Self, HeaderDenial> {
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
            if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
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

    /// Adds the signed assertion, already minted.
    ///
    /// # Errors
    ///
    /// When it does not fit into the budget.
    pub(crate) fn with_assertion(mut self, header: HeaderName, token: HeaderValue, budget: usize) -> Result<Self, HeaderDenial> {
        self.push(header, token, budget)?;
        Ok(self)
    }

    fn push(&mut self, name: HeaderName, mut value: HeaderValue, budget: usize) -> Result<(), HeaderDenial> {
        self.bytes = self.bytes.saturating_add(name.as_str().len()).saturating_add(value.len());
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
