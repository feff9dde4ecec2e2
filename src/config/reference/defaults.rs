//! Holds the defaults of the page to the code: a key that is left out means what the same key means with its default.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;

use crate::config;
use crate::config::reference::Section;
use crate::config::reference::Walk;
use crate::config::reference::kind;
use crate::config::reference::sentences;
use crate::config::schema;
use crate::config::tests::files;
use crate::config::tests::source;

/// Keys whose default says what happens, but cannot be written down there: why.
const CANNOT_BE_WRITTEN: &[(&str, &str)] = &[
    ("AccessLog.to", "the one key there is"),
    ("Change.recall", "needs a change with its keys"),
];

/// A default that is one value: a single code span. Others (`as in X`, `not at all`) are words.
fn value(default: &str) -> Option<Value> {
    let inner = default.strip_prefix('`')?.strip_suffix('`')?;
    if inner.contains('`') {
        return None;
    }
    Some(match inner {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        // A template such as `{canonical}` is a text.
        _ if inner.starts_with('[') || inner.starts_with("{ ") => {
            serde_saphyr::from_str(inner).ok()?
        }
        _ => match inner.parse::<u64>() {
            Ok(number) => Value::from(number),
            Err(_) => match inner.parse::<f64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(inner),
            },
        },
    })
}

/// Where in a file a mapping stands, or may be put, for a place such as `providers.NAME.oidc` or `stages[].accept`.
fn at(file: &Value, place: &str) -> Vec<String> {
    let mut found = vec![(String::new(), Some(file))];
    for step in place.split('.').filter(|step| !step.is_empty()) {
        let name = step.trim_end_matches("[]");
        let lists = step.matches("[]").count();
        let mut next = Vec::new();
        for (pointer, value) in found {
            if name == "NAME" {
                let members = value.and_then(Value::as_object).into_iter().flatten();
                next.extend(members.map(|(key, value)| (format!("{pointer}/{key}"), Some(value))));
            } else {
                // One that is not there may be put there, but not into something that is no mapping.
                let value = match value {
                    None => Some(None),
                    Some(Value::Object(members)) => Some(members.get(name)),
                    Some(_) => None,
                };
                next.extend(value.map(|value| (format!("{pointer}/{name}"), value)));
            }
        }
        for _ in 0..lists {
            next = next
                .into_iter()
                .flat_map(|(pointer, value)| {
                    let items = value.and_then(Value::as_array).into_iter().flatten();
                    let items = items.enumerate();
                    items
                        .map(|(index, item)| (format!("{pointer}/{index}"), Some(item)))
                        .collect::<Vec<_>>()
                })
                .collect();
        }
        found = next;
    }
    found.into_iter().map(|(pointer, _)| pointer).collect()
}

/// A file with the keys at a pointer; `None` where something else stands on the way.
fn put(file: &Value, pointer: &str, keys: &[(&str, Option<&Value>)]) -> Option<Value> {
    let mut file = file.clone();
    let mut here = &mut file;
    for step in pointer.split('/').skip(1) {
        here = match here {
            Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?)?,
            Value::Object(members) => members
                .entry(step)
                .or_insert_with(|| Value::Object(Map::new())),
            _ => return None,
        };
    }
    let members = here.as_object_mut()?;
    for (key, value) in keys {
        match value {
            Some(value) => members.insert((*key).to_owned(), (*value).clone()),
            None => members.remove(*key),
        };
    }
    Some(file)
}

/// What a file means, in words; `None` when it is refused.
fn meaning(path: &Path, file: &Value) -> Option<String> {
    let source = source(&path.display().to_string(), &file.to_string());
    let compiled = config::load(&source).ok()?;
    let mut settings = compiled.draft.settings().clone();
    for text in [
        &mut settings.text,
        &mut settings.revision,
        &mut settings.sha256,
    ] {
        *text = "".into();
    }
    // State stands in a directory that has a name of its own; mappings are told in any order.
    let text = format!("{settings:?}").replace("./authferry-state", "authferry-state");
    let text = text.replace("authferry-state", "state_dir");
    let words = text.split([',', '{', '}', '(', ')', '[', ']']);
    let mut words: Vec<&str> = words.map(str::trim).collect();
    words.sort_unstable();
    Some(words.join("\n"))
}

fn examples() -> Vec<(PathBuf, Value)> {
    let directories = ["tests/configs/ok", "config"].into_iter().flat_map(files);
    directories
        .map(|(name, text)| (name.into(), serde_saphyr::from_str(&text).unwrap()))
        .collect()
}

/// The sections of the page.
fn sections(schema: &Value) -> Vec<Section> {
    let mut walk = Walk {
        definitions: schema["$defs"].as_object().unwrap(),
        sections: Vec::new(),
        within: Vec::new(),
    };
    walk.properties(schema, "");
    walk.sections
}

/// A default that has the name of a provider in it.
fn of(pointer: &str, value: &Value) -> Value {
    match (value.as_str(), pointer.split('/').nth(2)) {
        (Some(text), Some(name)) => Value::from(text.replace("NAME", name)),
        _ => value.clone(),
    }
}

/// What the file means without a key and with it, where both can be: beside what stands there, or beside one other default.
fn both(
    (path, file): &(PathBuf, Value),
    pointer: &str,
    (key, value): (&str, &Value),
    others: &[(String, Value)],
) -> Option<(String, String)> {
    let others = others.iter().filter(|(other, _)| other != key);
    let others = others.map(|(other, value)| Some((other.as_str(), value)));
    for other in std::iter::once(None).chain(others) {
        let mut keys = vec![(key, None)];
        keys.extend(other.map(|(other, value)| (other, Some(value))));
        let without = put(file, pointer, &keys)?;
        if file.pointer(pointer).is_none() && other.is_none() {
            // An empty mapping is refused, and none at all may mean something else.
            continue;
        }
        keys.push((key, Some(value)));
        let with = put(file, pointer, &keys)?;
        if let (Some(without), Some(with)) = (meaning(path, &without), meaning(path, &with)) {
            return Some((without, with));
        }
        if other.is_none() && file.pointer(pointer).is_some() {
            return None;
        }
    }
    None
}

#[test]
fn a_key_that_is_left_out_means_its_default() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    let files = examples();
    let (mut held, mut wrong, mut never) = (0, Vec::new(), Vec::new());
    for Section { name, places } in &sections(&schema) {
        let properties = definitions[name]["properties"].as_object().unwrap();
        let defaults: Vec<(String, Value)> = properties
            .iter()
            .filter_map(|(key, of)| {
                let (required, default, ..) = sentences(of["description"].as_str().unwrap());
                Some((key.clone(), value(&default).filter(|_| !required)?))
            })
            .collect();
        for (key, value) in &defaults {
            let mut tried = false;
            for place in places {
                let found = files.iter().find_map(|file| {
                    at(&file.1, place).iter().find_map(|pointer| {
                        let both = both(file, pointer, (key, &of(pointer, value)), &defaults)?;
                        Some((pointer.clone(), file.0.display(), both))
                    })
                });
                let Some((pointer, path, (without, with))) = found else {
                    continue;
                };
                tried = true;
                if with != without {
                    let said = difference(&without, &with);
                    wrong.push(format!(
                        "{name}.{key} = {value} at {pointer} of {path}: {said}"
                    ));
                }
            }
            held += usize::from(tried);
            let known = format!("{name}.{key}");
            if !tried && !CANNOT_BE_WRITTEN.iter().any(|(name, _)| *name == known) {
                never.push(known);
            }
        }
    }
    assert!(
        wrong.is_empty() && never.is_empty() && 100 < held,
        "{held} held; wrong:\n{}\nno file under tests/configs/ok has a place for {never:?}",
        wrong.join("\n")
    );
}

fn difference(one: &str, other: &str) -> String {
    let apart = |one: &str, other: &str| {
        let words = one
            .lines()
            .filter(|word| !other.lines().any(|known| known == *word));
        words.take(5).collect::<Vec<_>>().join(",")
    };
    format!("{} is {}", apart(one, other), apart(other, one))
}

/// What is too little, and too much, for a key of this kind.
fn beyond(kind: &str) -> &'static [&'static str] {
    match kind {
        "duration" => &["1ms", "50000d"],
        "size" => &["1B", "4000GiB"],
        "number" => &["0", "18446744073709551615"],
        _ => &[],
    }
}

/// The ranges that `check` names when a key has a value.
fn ranges((path, file): &(PathBuf, Value), pointer: &str, key: &str, value: &Value) -> Vec<String> {
    let Some(file) = put(file, pointer, &[(key, Some(value))]) else {
        return Vec::new();
    };
    let source = source(&path.display().to_string(), &file.to_string());
    let Err(problems) = config::load(&source) else {
        return Vec::new();
    };
    let problems = problems.json();
    let problems = problems["problems"].as_array().unwrap().iter();
    problems
        .filter_map(|problem| problem["message"].as_str()?.strip_prefix("out of range: "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_range_stands_on_the_page() {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    let files = examples();
    let (mut held, mut missing) = (0, BTreeSet::new());
    for Section { name, places } in &sections(&schema) {
        for (key, of) in definitions[name]["properties"].as_object().unwrap() {
            let said = of["description"].as_str().unwrap();
            for wrong in beyond(&kind(of, definitions)) {
                let number = wrong.parse::<u64>();
                let wrong = number.map_or(Value::from(*wrong), Value::from);
                let found = files.iter().find_map(|file| {
                    let pointers = places.iter().flat_map(|place| at(&file.1, place));
                    let mut ranges = pointers.map(|pointer| ranges(file, &pointer, key, &wrong));
                    ranges.find(|ranges| !ranges.is_empty())
                });
                for range in found.into_iter().flatten() {
                    held += 1;
                    let capital = range.replacen("from", "From", 1);
                    let capital = capital.replacen("at most", "At most", 1);
                    if !said.contains(&range) && !said.contains(&capital) {
                        missing.insert(format!("{name}.{key}: {range}"));
                    }
                }
            }
        }
    }
    let list: Vec<_> = missing.iter().map(String::as_str).collect();
    assert!(
        list.is_empty() && 100 < held,
        "{held} held; not on the page:\n{}",
        list.join("\n")
    );
}
