//! Lists and mappings with names of the operator: none empty, each name once.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::config::problem::Report;
use crate::config::shape::At;
use crate::config::shape::Placed;
use crate::config::shape::Shape;
use crate::config::shape::blot_all;
use crate::config::shape::mapping;
use crate::config::tree::Content;
use crate::config::tree::Mark;
use crate::config::tree::Node;

/// A list with at least one item.
#[derive(Debug)]
pub(crate) struct List<T> {
    /// The items that could be read.
    pub(crate) items: Vec<T>,
    /// Where the list stands.
    pub(crate) mark: Mark,
}

/// A mapping from names that the operator chooses, in the order of the file; at least one.
#[derive(Debug)]
pub(crate) struct Named<T> {
    /// Each name once, with what could be read of it.
    pub(crate) entries: Vec<(At<String>, Option<T>)>,
    /// Where the mapping stands.
    pub(crate) mark: Mark,
}

impl<T> Placed for List<T> {
    fn mark(&self) -> Mark {
        self.mark
    }
}

impl<T> Placed for Named<T> {
    fn mark(&self) -> Mark {
        self.mark
    }
}

impl<T> Named<T> {
    /// The entries that could be read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (&At<String>, &T)> {
        self.entries
            .iter()
            .filter_map(|(name, entry)| entry.as_ref().map(|entry| (name, entry)))
    }

    /// Every name, whether its entry could be read or not.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.value.as_str())
    }
}

impl<T: Shape> Shape for List<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let items = match &node.content {
            Content::List(items) => items,
            Content::Scalar(_) | Content::Null | Content::Map(_) => {
                blot_all(node, report);
                report
                    .error(
                        node.mark,
                        format!("{} stands here, where a list is expected", node.describe()),
                    )
                    .hint("write `[item]`, or one `- item` per line");
                return None;
            }
        };
        if items.is_empty() {
            report
                .error(node.mark, "an empty list")
                .hint("leave the key out, or name at least one item");
            return None;
        }
        let read: Vec<T> = items
            .iter()
            .filter_map(|item| T::read(item, report))
            .collect();
        (!read.is_empty()).then_some(Self {
            items: read,
            mark: node.mark,
        })
    }
}

impl<T: Shape> Shape for Named<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let raw = mapping(node, report)?;
        if raw.is_empty() {
            report
                .error(node.mark, "an empty mapping")
                .hint("leave the key out, or name at least one entry");
            return None;
        }
        let mut entries: Vec<(At<String>, Option<T>)> = Vec::with_capacity(raw.len());
        let mut seen = std::collections::HashSet::new();
        for (key, value) in raw {
            // A duplicate has been reported; reading it would report its content twice.
            if seen.insert(&*key.text) {
                let name = At {
                    value: key.text.to_string(),
                    mark: key.mark,
                };
                entries.push((name, T::read(value, report)));
            }
        }
        Some(Self {
            entries,
            mark: node.mark,
        })
    }
}

impl<T: Shape> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("list of {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<T>() })
    }
}

impl<T: Shape> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("mapping of {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "minProperties": 1,
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}
