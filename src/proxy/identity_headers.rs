//! The only writer of identity headers.

use http::HeaderName;
use http::HeaderValue;

use crate::identity::RenderError;
use crate::identity::Scope;
use crate::proxy::settings::HeaderRule;

/// The identity headers of one request: rendered from an admitted identity, or none at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdentityHeaders(Vec<(HeaderName, HeaderValue)>);

/// Why the headers cannot be written. The request is denied: a header is never skipped or cut.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// One value cannot be rendered.
    #[error("{name}: {cause}")]
    Render {
        /// The header.
        name: HeaderName,
        /// Why not.
        cause: RenderError,
    },
    /// All together are longer than the limit.
    #[error("the identity headers have {bytes} bytes")]
    TooLong {
        /// How long they are.
        bytes: usize,
    },
}

impl IdentityHeaders {
    /// Renders the rules of an application, within `budget` bytes of names and values.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`].
    pub(crate) fn render(rules: &[HeaderRule], scope: &dyn Scope, budget: usize) -> Result<Self, HeaderError> {
        let mut all = Vec::with_capacity(rules.len() + 1);
        let mut bytes = 0_usize;
        for rule in rules {
            let error = |cause| HeaderError::Render { name: rule.name.clone(), cause };
            let Some(value) = rule.template.render(scope).map_err(error)? else {
                continue;
            };
            bytes = bytes.saturating_add(rule.name.as_str().len()).saturating_add(value.len());
            if budget < bytes {
                return Err(HeaderError::TooLong { bytes });
            }
            let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value));
            all.push((rule.name.clone(), value.map_err(|_| error(RenderError::ControlCharacter))?));
        }
        Ok(Self(all))
    }

    /// Adds the signed assertion.
    pub(crate) fn with_assertion(mut self, name: HeaderName, token: HeaderValue) -> Self {
        self.0.push((name, token));
        self
    }

    /// Name and value, in the order of the rules.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
