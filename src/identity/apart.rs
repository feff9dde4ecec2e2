//! Texts that are taken apart again by whoever reads them: no value may read as two.

use crate::identity::render::RenderError;
use crate::identity::render::Scope;
use crate::identity::template::Segment;
use crate::identity::template::Template;

impl Template {
    /// The value as a text that falls apart into exactly these values again, from whichever end it is read: no value has a
    /// character of those that stand beside them.
    ///
    /// # Errors
    ///
    /// As [`Template::render`]; [`RenderError::SeparatorInValue`].
    pub fn render_apart(&self, scope: &dyn Scope) -> Result<Option<String>, RenderError> {
        self.text(scope, &self.separators())
    }

    /// What tells values apart, where they are read back: what is neither a letter nor a digit and stands beside a value; where only
    /// letters and digits do, what else stands between two of them.
    fn separators(&self) -> Vec<u8> {
        let tells = |byte: &u8| !byte.is_ascii_alphanumeric();
        let last = self.segments.len().saturating_sub(1);
        let mut all = Vec::new();
        for (place, segment) in self.segments.iter().enumerate() {
            let Segment::Literal(text) = segment else {
                continue;
            };
            let (after, before) = (0 < place, place < last);
            let before_it = all.len();
            if after {
                all.extend(text.bytes().take_while(tells));
            }
            if before {
                all.extend(text.bytes().rev().take_while(tells));
            }
            if after && before && all.len() == before_it {
                all.extend(text.bytes().filter(tells));
            }
        }
        all
    }

    /// What tells values apart and stands in many of them: whoever has it in theirs is refused.
    pub fn clashes(&self) -> Option<char> {
        let apart = self.separators();
        let found = apart.into_iter().find(|byte| b"-.@".contains(byte));
        found.map(char::from)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_a_value_stands_in_none() {
        for (template, apart, clashes) in [
            ("v-1:{subject}:{expires}", "::", None),
            ("{subject}, {expires}", ", ", None),
            ("{subject};x-y={expires}", ";=", None),
            ("id={subject}&until={expires}-v1.2", "=&=-", Some('-')),
            // Nothing stands beside them: all that is between them counts.
            ("{subject}x-y{expires}", "-", Some('-')),
            ("{email}.{expires}", ".", Some('.')),
            ("{subject}@{expires}", "@", Some('@')),
        ] {
            let read = Template::parse(template).unwrap();
            let mut found = read.separators();
            let mut wanted = apart.as_bytes().to_vec();
            found.sort_unstable();
            found.dedup();
            wanted.sort_unstable();
            wanted.dedup();
            assert_eq!(found, wanted, "{template}");
            assert_eq!(read.clashes(), clashes, "{template}");
            assert!(read.is_apart(), "{template}");
        }
    }
}
