//! The tables of `config/README.md`, made from the schema, and the test that holds the page to the code.

#![expect(clippy::string_slice, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Map;
use serde_json::Value;

use crate::config::fixed;
use crate::config::schema;

mod defaults;

/// What follows this line of the page is made.
const MARK: &str = "<!-- Made from src/config/raw by `UPDATE_REFERENCE=1 cargo test --lib config::reference`. -->\n";

/// A mapping with known keys, and the places where it stands.
struct Section {
    name: String,
    places: Vec<String>,
}

/// Collects mappings in the order in which a reader of the file meets them.
struct Walk<'a> {
    definitions: &'a Map<String, Value>,
    sections: Vec<Section>,
    /// The mappings that the walk is in.
    within: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, schema: &Value, place: &str) {
        if let Some(name) = reference(schema) {
            let definition = &self.definitions[name];
            if definition["properties"].is_object() {
                self.section(name, definition, place);
            }
            return;
        }
        if let Some(items) = schema.get("items") {
            self.visit(items, &format!("{place}[]"));
        }
        if let Some(named) = schema
            .get("additionalProperties")
            .filter(|named| named.is_object())
        {
            self.visit(named, &format!("{place}.NAME"));
        }
    }

    fn section(&mut self, name: &str, definition: &Value, place: &str) {
        if let Some(known) = self
            .sections
            .iter_mut()
            .find(|section| section.name == name)
        {
            known.places.push(place.to_owned());
        } else {
            self.sections.push(Section {
                name: name.to_owned(),
                places: vec![place.to_owned()],
            });
        }
        // What stands in it stands there, too; one that stands in itself is told once.
        if !self.within.iter().any(|outer| outer == name) {
            self.within.push(name.to_owned());
            self.properties(definition, place);
            self.within.pop();
        }
    }

    fn properties(&mut self, definition: &Value, place: &str) {
        for (key, schema) in definition["properties"].as_object().unwrap() {
            let below = if place.is_empty() {
                key.clone()
            } else {
                format!("{place}.{key}")
            };
            self.visit(schema, &below);
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// A word for the values of a key.
fn kind(schema: &Value, definitions: &Map<String, Value>) -> String {
    if let Some(name) = reference(schema) {
        return if definitions[name]["properties"].is_object() {
            format!("[{name}](#{})", name.to_ascii_lowercase())
        } else {
            name.to_owned()
        };
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        return words.join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list: {}", kind(items, definitions));
    }
    if let Some(named) = schema
        .get("additionalProperties")
        .filter(|named| named.is_object())
    {
        return format!("by name: {}", kind(named, definitions));
    }
    if let Some(either) = schema.get("anyOf").and_then(Value::as_array) {
        let either: Vec<String> = either.iter().map(|one| kind(one, definitions)).collect();
        return either.join(", ");
    }
    match schema["type"].as_str().unwrap() {
        "string" => "text".to_owned(),
        "object" => "`{}`".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        other => panic!("{other} has no word"),
    }
}

/// The sentences of a description: required, default, reloads, and the rest.
fn sentences(description: &str) -> (bool, String, bool, String) {
    let (mut required, mut default, mut reloads, mut meaning) =
        (false, String::new(), true, Vec::new());
    // A sentence ends with a dot before a capital letter or a code span; `1.0` and `a.b` do not.
    let mut rest = description;
    while !rest.is_empty() {
        let end = rest
            .match_indices(". ")
            .find(|(at, _)| rest[at + 2..].starts_with(|c: char| c.is_uppercase() || c == '`'))
            .map_or(rest.len(), |(at, _)| at + 1);
        let (sentence, after) = rest.split_at(end);
        rest = after.trim_start();
        match sentence {
            "Required." => required = true,
            "Not reloaded." => reloads = false,
            _ if sentence.starts_with("Default") => {
                let text = sentence
                    .trim_start_matches("Default")
                    .trim_start_matches(':')
                    .trim();
                default = text.trim_end_matches('.').to_owned();
            }
            _ => meaning.push(sentence),
        }
    }
    (required, default, reloads, meaning.join(" "))
}

fn table(definition: &Value, definitions: &Map<String, Value>) -> String {
    let mut text =
        String::from("| Key | Value | Default | Reloads | Meaning |\n|---|---|---|---|---|\n");
    for (key, schema) in definition["properties"].as_object().unwrap() {
        let (required, default, reloads, meaning) =
            sentences(schema["description"].as_str().unwrap());
        let default = if required {
            "**required**".to_owned()
        } else {
            default
        };
        let reloads = if reloads { "yes" } else { "no" };
        let kind = kind(schema, definitions);
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(
            text,
            "| `{key}` | {} | {} | {reloads} | {} |",
            cell(&kind),
            cell(&default),
            cell(&meaning)
        )
        .unwrap();
    }
    text
}

fn tables() -> String {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    let mut walk = Walk {
        definitions,
        sections: Vec::new(),
        within: Vec::new(),
    };
    walk.properties(&schema, "");
    let mut text = format!("\n## The file\n\n{}", table(&schema, definitions));
    for Section { name, places } in &walk.sections {
        let definition = &definitions[name];
        let places: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
        let one = if definition["maxProperties"] == 1 {
            " Exactly one key."
        } else {
            ""
        };
        write!(
            text,
            "\n### {name}\n\nAt {}. {}{one}\n\n{}",
            places.join(", "),
            definition["description"].as_str().unwrap(),
            table(definition, definitions)
        )
        .unwrap();
    }
    text.push_str(&fixed::table());
    text.push_str(&not_in_this_build());
    text
}

/// The words that are refused by name, from the source: each with what is said of the mapping or the choice it belongs to.
fn not_in_this_build() -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/raw");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .collect();
    files.sort();
    let mut text = String::from(
        "\n## Not in this build\n\n`check` refuses these words by name, so that nothing is promised which does not happen.\n\n\
         | Of | Words |\n|---|---|\n",
    );
    for file in files {
        let source = fs::read_to_string(file).unwrap();
        let mut of = "";
        for line in source.lines() {
            if let Some(said) = line.strip_prefix("    /// ") {
                of = said.split_inclusive(". ").next().unwrap().trim_end();
            }
            if let Some((_, words)) = line.split_once("@later ") {
                let words = words.trim_end_matches(';').replace('"', "`");
                writeln!(text, "| {of} | {words} |").unwrap();
            }
        }
    }
    text
}

#[test]
fn what_is_said_about_a_reload_is_said_in_the_words_that_are_read() {
    let tables = tables();
    for vague in ["Not reloaded,", "Not reloaded;", "not reloaded"] {
        assert!(!tables.contains(vague), "{vague}");
    }
}

#[test]
fn the_page_says_what_the_code_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, made) = page.split_once(MARK).expect("the page has the mark");
    let tables = tables();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, format!("{head}{MARK}{tables}")).unwrap();
        return;
    }
    let difference = made
        .lines()
        .zip(tables.lines())
        .find(|(page, code)| page != code);
    assert!(
        made == tables,
        "run with UPDATE_REFERENCE=1; first difference: {difference:?}"
    );
}

#[test]
fn every_definition_stands_on_the_page_once_and_says_what_it_is() {
    let schema = schema();
    let tables = tables();
    let mut seen = BTreeMap::new();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        if definition["properties"].is_object() {
            assert!(
                definition["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{name}"
            );
            seen.insert(
                name.as_str(),
                tables.matches(&format!("\n### {name}\n")).count(),
            );
        }
    }
    assert!(30 < seen.len());
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
}

#[test]
fn a_description_is_taken_apart_at_its_sentences() {
    let (required, default, reloads, meaning) =
        sentences("The public address. Default `127.0.0.1:8080`. `X` overrides it. Not reloaded.");
    assert_eq!(
        (required, default.as_str(), reloads),
        (false, "`127.0.0.1:8080`", false)
    );
    assert_eq!(meaning, "The public address. `X` overrides it.");
}
