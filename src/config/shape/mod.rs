//! The shape of a configuration: which keys there are and what kind of value each takes.
//!
//! Every part is read on its own, so one broken value does not hide the next. A value that is read keeps its place.

mod collection;
mod declare;

pub(crate) use collection::List;
pub(crate) use collection::Named;
pub(crate) use declare::exactly_one;
pub(crate) use declare::key;
pub(crate) use declare::mappings;
pub(crate) use declare::object;
pub(crate) use declare::property;
pub(crate) use declare::word;
pub(crate) use declare::words;
pub(crate) use declare::words_schema;

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;

use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::problem::Report;
use crate::config::tree::Content;
use crate::config::tree::Key;
use crate::config::tree::Mark;
use crate::config::tree::Node;
use crate::config::tree::Scalar;

/// Something that a node can be read as.
pub(crate) trait Shape: JsonSchema + Sized {
    /// Reads the node; `None` after at least one problem has been reported.
    fn read(node: &Node, report: &mut Report) -> Option<Self>;
}

/// Something that knows where it stands.
pub(crate) trait Placed {
    /// Where it stands.
    fn mark(&self) -> Mark;
}

impl<T> Placed for At<T> {
    fn mark(&self) -> Mark {
        self.mark
    }
}

/// A key of a mapping.
#[derive(Debug)]
pub(crate) enum Field<T> {
    /// It is not there.
    Absent,
    /// It is there and could not be read; that has been reported.
    Broken,
    /// It is there.
    Given(T),
}

impl<T> Field<T> {
    /// The value, if it is there and could be read.
    pub(crate) const fn get(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }

    /// Whether the key is not there at all.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value of a key that must be there.
    pub(crate) fn required(&self, parent: Mark, key: &str, report: &mut Report) -> Option<&T> {
        if self.is_absent() {
            report.error(parent, format!("`{key}` is missing"));
        }
        self.get()
    }
}

impl<T: Placed> Field<T> {
    /// Where the value stands, if it is there and could be read.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.get().map(Placed::mark)
    }
}

impl<T: Clone> Field<At<T>> {
    /// The value, or a default where there is none.
    pub(crate) fn or(&self, default: T) -> T {
        self.get().map_or(default, |at| at.value.clone())
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) mark: Mark,
}

/// The entries of a mapping with known keys.
pub(crate) struct Entries<'a>(&'a [(Key, Node)]);

impl<'a> Entries<'a> {
    /// Checks the keys of a mapping: none twice, none unknown, none that this build does not have.
    pub(crate) fn of(
        node: &'a Node,
        report: &mut Report,
        known: &[&str],
        later: &[&str],
    ) -> Option<Self> {
        let entries = mapping(node, report)?;
        for (key, value) in entries {
            let name = &*key.text;
            if known.contains(&name) {
                continue;
            }
            blot_all(value, report);
            if later.contains(&name) {
                report
                    .error(key.mark, format!("`{name}` is not in this build"))
                    .value(name)
                    .hint("remove it: a setting without effect would promise what does not happen");
                continue;
            }
            if key.plain && is_trap(name) {
                continue;
            }
            let hint = did_you_mean(name, known.iter().copied()).map_or_else(
                || format!("the keys here are {}", one_of(known.iter().copied())),
                |close| format!("did you mean `{close}`?"),
            );
            report
                .error(key.mark, format!("unknown key `{name}`"))
                .value(name)
                .hint(hint);
        }
        Some(Self(entries))
    }

    /// The entries of a mapping that has names of the operator beside known keys.
    pub(crate) fn open(node: &'a Node, report: &mut Report) -> Option<Self> {
        mapping(node, report).map(Self)
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries that the operator named, each name once.
    pub(crate) fn others<T: Shape>(
        &self,
        known: &[&str],
        report: &mut Report,
    ) -> Vec<(At<String>, Option<T>)> {
        let mut others: Vec<(At<String>, Option<T>)> = Vec::new();
        for (key, node) in self.0 {
            let named = |(name, _): &(At<String>, Option<T>)| name.value == *key.text;
            // One that stands there twice has been reported.
            if !known.contains(&&*key.text) && !others.iter().any(named) {
                let name = At {
                    value: key.text.to_string(),
                    mark: key.mark,
                };
                others.push((name, T::read(node, report)));
            }
        }
        others
    }

    /// Reads one key.
    pub(crate) fn field<T: Shape>(&self, name: &str, report: &mut Report) -> Field<T> {
        match self.0.iter().find(|(key, _)| &*key.text == name) {
            None => Field::Absent,
            Some((_, node)) => T::read(node, report).map_or(Field::Broken, Field::Given),
        }
    }
}

/// The entries of a mapping, duplicate keys and the traps of YAML 1.1 reported.
pub(in crate::config::shape) fn mapping<'a>(
    node: &'a Node,
    report: &mut Report,
) -> Option<&'a [(Key, Node)]> {
    let entries = match &node.content {
        Content::Map(entries) => entries,
        Content::Null => {
            report
                .error(
                    node.mark,
                    "nothing stands here, where a mapping is expected",
                )
                .hint("leave the key out, or write `key: value` lines below it");
            return None;
        }
        Content::Scalar(_) | Content::List(_) => {
            blot_all(node, report);
            report
                .error(
                    node.mark,
                    format!(
                        "{} stands here, where a mapping is expected",
                        node.describe()
                    ),
                )
                .hint("write `key: value` lines below the key, or `{ key: value }`");
            return None;
        }
    };
    let mut seen = std::collections::HashMap::new();
    for (key, value) in entries {
        if let Some(first) = seen.get(&*key.text) {
            blot_all(value, report);
            report
                .error(key.mark, format!("`{}` stands here twice", key.text))
                .value(&key.text)
                .hint(format!("the first one is on line {first}"));
        } else {
            seen.insert(&*key.text, key.mark.line);
        }
        if key.plain && is_trap(&key.text) {
            trap(key.mark, &key.text, report);
        } else if &*key.text == "<<" {
            report
                .error(key.mark, "merge keys are not supported")
                .hint("write the keys out; a whole value may still be an alias");
        }
    }
    Some(entries)
}

/// Blots out every scalar below a node: nobody knows what stands there.
pub(crate) fn blot_all(node: &Node, report: &mut Report) {
    match &node.content {
        Content::Null => {}
        Content::Scalar(_) => report.blot(node.mark),
        Content::List(items) => items.iter().for_each(|item| blot_all(item, report)),
        Content::Map(entries) => entries
            .iter()
            .for_each(|(_, value)| blot_all(value, report)),
    }
}

/// Words that YAML 1.1 reads as booleans and YAML 1.2 as text.
fn is_trap(text: &str) -> bool {
    ["yes", "no", "on", "off"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

fn trap(mark: Mark, text: &str, report: &mut Report) {
    report
        .error(
            mark,
            format!("`{text}` is a boolean to some YAML readers and a text to others"),
        )
        .value(text)
        .hint("write `true` or `false`; if the text is meant, put it in quotes");
}

/// A scalar, with empty values and the traps of YAML 1.1 reported. `expected` is what should stand there.
pub(crate) fn scalar<'a>(
    node: &'a Node,
    expected: &str,
    report: &mut Report,
) -> Option<&'a Scalar> {
    match &node.content {
        Content::Scalar(scalar) if scalar.plain && is_trap(&scalar.text) => {
            trap(node.mark, &scalar.text, report);
            None
        }
        Content::Scalar(scalar) if scalar.text.trim().is_empty() => {
            report.error(
                node.mark,
                format!("an empty text, where {expected} is expected"),
            );
            None
        }
        Content::Scalar(scalar) => Some(scalar),
        Content::Null => {
            report
                .error(
                    node.mark,
                    format!("nothing stands here, where {expected} is expected"),
                )
                .hint("leave the key out if the default is meant");
            None
        }
        Content::List(_) | Content::Map(_) => {
            blot_all(node, report);
            report.error(
                node.mark,
                format!(
                    "{} stands here, where {expected} is expected",
                    node.describe()
                ),
            );
            None
        }
    }
}

impl<T: Shape> Shape for At<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        T::read(node, report).map(|value| Self {
            value,
            mark: node.mark,
        })
    }
}

impl<T: Shape> Shape for Box<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        T::read(node, report).map(Self::new)
    }
}

macro_rules! transparent {
    ($($wrapper:ident),*) => {$(
        impl<T: Shape> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                generator.subschema_for::<T>()
            }
        }
    )*};
}

transparent!(At, Field);
