//! Texts that are taken apart again by whoever reads them: no value may read as two.

use crate::identity::render::RenderError;
use crate::identity::render::Scope;
use crate::identity::template::Segment;
use crate::identity::template::Template;

impl Template {
    /// The value as a text that falls apart into exactly these values again, from whichever end it is read: no value has a
    /// character of those that stand between them.
    ///
    /// # Errors
    ///
    /// As [`Template::render`]; [`RenderError::SeparatorInValue`].
    pub fn render_apart(&self, scope: &dyn Scope) -> Result<Option<String>, RenderError> {
        self.text(scope, &self.separators())
    }

    /// What tells values apart, where they are read back: what is neither a letter nor a digit in the text around them.
    fn separators(&self) -> Vec<u8> {
        let literals = self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(text) => Some(text.bytes()),
            Segment::Field(_) => None,
        });
        literals
            .flatten()
            .filter(|byte| !byte.is_ascii_alphanumeric())
            .collect()
    }

    /// Whether something stands between any two values that can tell them apart.
    pub fn is_apart(&self) -> bool {
        let mut open = false;
        for segment in &self.segments {
            match segment {
                Segment::Field(_) if std::mem::replace(&mut open, true) => return false,
                Segment::Field(_) => {}
                Segment::Literal(text) => {
                    open &= text.bytes().all(|byte| byte.is_ascii_alphanumeric());
                }
            }
        }
        true
    }
}
