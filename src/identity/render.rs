//! Identity → header value. Pure: the writer is `proxy::identity_headers`.

use std::borrow::Cow;

use serde_json::Value;

/// Where a template finds its values: attributes, `link.…`, `canonical`, `provider`, `acr`.
pub trait Scope {
    /// The value called `name`; `None` when it is absent.
    fn value(&self, name: &str) -> Option<Cow<'_, Value>>;
}

/// A compiled header template such as `CORP\{subject}` or `{groups|sort|join:,}`.
#[derive(Clone, Debug)]
pub struct Template {}

/// Why a text is not a template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidTemplate {
    /// What is wrong, for the operator.
    pub reason: String,
    /// Where, as a byte offset into the template.
    pub at: usize,
}

/// Why a value cannot be written: the request is denied, the header is never skipped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// A value that the template needs is absent.
    #[error("a required value is missing")]
    Missing,
    /// A number where a text is expected, an object, a list without `join`.
    #[error("a value has a type that the template does not take")]
    WrongType,
    /// CR, LF, NUL, DEL or another control character.
    #[error("a value contains a control character")]
    ControlCharacter,
    /// A list item contains the separator.
    #[error("a list item contains the separator")]
    SeparatorInItem,
    /// White space at an end, which HTTP would cut off: two different names would become one.
    #[error("a value begins or ends with white space")]
    OuterSpace,
    /// Longer than the budget.
    #[error("the value is too long")]
    TooLong,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// Names what is wrong and where.
    pub fn parse(_text: &str) -> Result<Self, InvalidTemplate> {
        todo!()
    }

    /// The names that the template reads, for the configuration's checks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// The value as header bytes; `None` means: leave the header out (`|omit`).
    ///
    /// # Errors
    ///
    /// A value that cannot be represented is an error, never a skipped header.
    pub fn render(&self, _scope: &dyn Scope) -> Result<Option<Vec<u8>>, RenderError> {
        todo!()
    }
}
