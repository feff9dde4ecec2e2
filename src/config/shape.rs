//! The shape of a configuration: which keys there are and what kind of value each takes.
//!
//! Every part is read on its own, so one broken value does not hide the next. A value that is read keeps its place.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde_json::Value;

use crate::config::problem::Report;
use crate::config::problem::did_you_mean;
use crate::config::problem::one_of;
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

    /// Reads one key.
    pub(crate) fn field<T: Shape>(&self, name: &str, report: &mut Report) -> Field<T> {
        match self.0.iter().find(|(key, _)| &*key.text == name) {
            None => Field::Absent,
            Some((_, node)) => T::read(node, report).map_or(Field::Broken, Field::Given),
        }
    }
}

/// The entries of a mapping, duplicate keys and the traps of YAML 1.1 reported.
fn mapping<'a>(node: &'a Node, report: &mut Report) -> Option<&'a [(Key, Node)]> {
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

/// The schema of one key: what it refers to, and what is said about it.
pub(crate) fn property<T: Shape>(generator: &mut SchemaGenerator, docs: &[&str]) -> Value {
    let mut schema = generator.subschema_for::<T>();
    let text = docs.iter().map(|line| line.trim()).collect::<Vec<_>>();
    schema.insert("description".into(), text.join(" ").into());
    schema.to_value()
}

/// The schema of a mapping with known keys.
pub(crate) fn object(
    docs: &[&str],
    exactly_one: bool,
    properties: impl IntoIterator<Item = (&'static str, Value)>,
) -> Schema {
    let properties: Vec<(&str, Value)> = properties.into_iter().collect();
    let required: Vec<&str> = properties
        .iter()
        .filter(|(_, schema)| {
            let description = schema.get("description").and_then(Value::as_str);
            description.is_some_and(|text| text.contains("Required."))
        })
        .map(|(name, _)| *name)
        .collect();
    let text = docs.iter().map(|line| line.trim()).collect::<Vec<_>>();
    let mut schema = json_schema!({
        "type": "object", "additionalProperties": false, "description": text.join(" "),
    });
    let properties = properties
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if exactly_one {
        schema.insert("minProperties".into(), 1.into());
        schema.insert("maxProperties".into(), 1.into());
    }
    schema
}

/// Declares mappings with known keys. keys after `@later` exist in the design and not in this build. A mapping that is
/// `one of` its keys takes exactly one.
macro_rules! mappings {
    () => {};
    ($(#[doc = $doc:literal])* one of $name:ident { $($body:tt)* } $($rest:tt)*) => {
        $crate::config::shape::mappings!(@item [$($doc),*] true $name { $($body)* });
        $crate::config::shape::mappings!($($rest)*);
    };
    ($(#[doc = $doc:literal])* $name:ident { $($body:tt)* } $($rest:tt)*) => {
        $crate::config::shape::mappings!(@item [$($doc),*] false $name { $($body)* });
        $crate::config::shape::mappings!($($rest)*);
    };
    (@item [$($doc:literal),*] $one:literal $name:ident {
        $($(#[doc = $about:literal])* $key:ident: $type:ty,)*
        $(@later $($later:literal),+;)?
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            /// Where the mapping stands.
            pub(crate) mark: $crate::config::tree::Mark,
            $($(#[doc = $about])* pub(crate) $key: $crate::config::shape::Field<$type>,)*
        }

        impl $crate::config::shape::Shape for $name {
            fn read(
                node: &$crate::config::tree::Node,
                report: &mut $crate::config::problem::Report,
            ) -> Option<Self> {
                let known = [$(stringify!($key)),*];
                let later: &[&str] = &[$($($later),+)?];
                let entries = $crate::config::shape::Entries::of(node, report, &known, later)?;
                let read = Self {
                    mark: node.mark,
                    $($key: entries.field(stringify!($key), report),)*
                };
                if $one {
                    let given = [$((stringify!($key), !read.$key.is_absent())),*];
                    $crate::config::shape::exactly_one(node, &given, report)?;
                }
                Some(read)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).trim_start_matches("Raw").into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let properties = [$((
                    stringify!($key),
                    $crate::config::shape::property::<$type>(generator, &[$($about),*]),
                )),*];
                $crate::config::shape::object(&[$($doc),*], $one, properties)
            }
        }
    };
}

/// Reports a mapping that does not have exactly one of its keys.
pub(crate) fn exactly_one(node: &Node, given: &[(&str, bool)], report: &mut Report) -> Option<()> {
    let names = || one_of(given.iter().map(|(name, _)| *name));
    match given.iter().filter(|(_, given)| *given).count() {
        1 => Some(()),
        0 => {
            let other = matches!(&node.content, Content::Map(entries) if !entries.is_empty());
            // An unknown key has been reported already.
            if !other {
                report.error(node.mark, format!("one of {} is expected", names()));
            }
            None
        }
        _ => {
            report
                .error(node.mark, format!("only one of {} may stand here", names()))
                .hint("a value has one kind");
            None
        }
    }
}

/// Declares closed lists of words. Words after `@later` exist in the design and not in this build.
macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $about:literal])* $word:literal => $variant:ident,)*
        $(@later $($later:literal),+;)?
    })*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum $name {
            $($(#[doc = $about])* $variant,)*
        }

        impl $crate::config::shape::Shape for $name {
            fn read(
                node: &$crate::config::tree::Node,
                report: &mut $crate::config::problem::Report,
            ) -> Option<Self> {
                let known = [$($word),*];
                let later: &[&str] = &[$($($later),+)?];
                let index = $crate::config::shape::word(node, &known, later, report)?;
                [$(Self::$variant),*].get(index).copied()
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),*] })
            }
        }
    )*};
}

/// The index of a word in a closed list.
pub(crate) fn word(
    node: &Node,
    known: &[&str],
    later: &[&str],
    report: &mut Report,
) -> Option<usize> {
    let expected = format!("one of {}", one_of(known.iter().copied()));
    let text = &*scalar(node, &expected, report)?.text;
    if let Some(index) = known.iter().position(|word| *word == text) {
        return Some(index);
    }
    if later.contains(&text) {
        report
            .error(node.mark, format!("`{text}` is not in this build"))
            .value(text)
            .hint(format!("this build has {}", one_of(known.iter().copied())));
        return None;
    }
    let hint = did_you_mean(text, known.iter().copied()).map_or_else(
        || format!("write {}", one_of(known.iter().copied())),
        |close| format!("did you mean `{close}`?"),
    );
    report
        .error(
            node.mark,
            format!("`{text}` is not a word that may stand here"),
        )
        .value(text)
        .hint(hint);
    None
}

pub(crate) use mappings;
pub(crate) use words;
