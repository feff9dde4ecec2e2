//! How `raw` declares its keys and words: one declaration gives the type, its reader and its schema.

use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde_json::Value;

use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::problem::Report;
use crate::config::shape::Shape;
use crate::config::shape::scalar;
use crate::config::tree::Content;
use crate::config::tree::Node;

/// A key as the file spells it: `for`, which is a word of the language here, and `mark`, which every mapping has (`mark_`).
pub(crate) const fn key(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        [rest @ .., b'_'] => name.split_at(rest.len()).0,
        _ => name,
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

/// Declares mappings with known keys. Keys after `@later` exist in the design and not in this build. A mapping that is
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

        impl $crate::config::shape::Placed for $name {
            fn mark(&self) -> $crate::config::tree::Mark {
                self.mark
            }
        }

        impl $crate::config::shape::Shape for $name {
            fn read(
                node: &$crate::config::tree::Node,
                report: &mut $crate::config::problem::Report,
            ) -> Option<Self> {
                let known = [$($crate::config::shape::key(stringify!($key))),*];
                let later: &[&str] = &[$($($later),+)?];
                let entries = $crate::config::shape::Entries::of(node, report, &known, later)?;
                let read = Self {
                    mark: node.mark,
                    $($key: entries.field($crate::config::shape::key(stringify!($key)), report),)*
                };
                if $one {
                    let given = [$(($crate::config::shape::key(stringify!($key)), !read.$key.is_absent())),*];
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
                    $crate::config::shape::key(stringify!($key)),
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
                $crate::config::shape::words_schema(&[$($word),*])
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

/// The schema of a word. One that looks like a number, such as a version of TLS, is read without quotes too.
pub(crate) fn words_schema(words: &[&str]) -> Schema {
    let numbers = words
        .iter()
        .filter_map(|word| serde_json::from_str::<Value>(word).ok())
        .filter(Value::is_number);
    let all: Vec<_> = words
        .iter()
        .map(|word| Value::from(*word))
        .chain(numbers)
        .collect();
    schemars::json_schema!({ "enum": all })
}
