//! What is said of a key where a problem brings no hint and no value of its own: the sentence of the reference about it,
//! and what stands there.

use std::ops::Range;

use serde_json::Map;
use serde_json::Value;

use crate::config::problem::MAX_VALUE;
use crate::config::problem::Problems;
use crate::config::schema;
use crate::config::tree::Mark;

/// A scalar as a problem may show it: what is blotted out of its line is blotted out here, too.
pub(super) fn told(text: &str, mark: Mark, blots: &[Range<usize>], value: &str) -> String {
    let (start, end) = (mark.start as usize, mark.end as usize);
    let written = text.get(start..end).unwrap_or_default();
    if blots.iter().any(|b| b.start < end && start < b.end) {
        "***".to_owned()
    } else if written.starts_with('*') {
        // An alias: what it stands for may be a secret elsewhere.
        written.to_owned()
    } else {
        value.chars().take(MAX_VALUE).collect()
    }
}

/// Gives every problem a hint.
pub(super) fn hint(problems: &mut Problems) {
    let mut bare = problems
        .list
        .iter_mut()
        .filter(|p| p.hint.is_none())
        .peekable();
    if bare.peek().is_none() {
        return;
    }
    let schema = schema();
    let keys = Keys {
        root: &schema,
        definitions: schema.get("$defs").and_then(Value::as_object),
    };
    for problem in bare {
        let missing = missing(&problem.message);
        let below = missing.map(|key| match problem.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        });
        let said = below.and_then(|path| keys.about(&path));
        let said = said.or_else(|| keys.about(&problem.path));
        problem.hint =
            Some(said.unwrap_or_else(|| "`config/README.md` says what may stand here".to_owned()));
    }
}

/// The key that a message misses.
fn missing(message: &str) -> Option<&str> {
    let (before, _) = message.split_once("` is missing")?;
    before.rsplit('`').next()
}

/// The keys of the file, as the schema tells them.
struct Keys<'a> {
    root: &'a Value,
    definitions: Option<&'a Map<String, Value>>,
}

impl Keys<'_> {
    /// What the reference says of the key that a path leads to; of the one above where there is nothing said of it.
    fn about(&self, path: &str) -> Option<String> {
        let (mut place, mut said) = (self.root, None);
        for part in path.split('.') {
            let (key, items) = part.split_once('[').map_or((part, 0), |(key, rest)| {
                (key, rest.matches('[').count() + 1)
            });
            place = self.resolved(place);
            let known = place.get("properties").and_then(|keys| keys.get(key));
            if let Some(about) = known.and_then(|key| key.get("description")) {
                said = about.as_str().map(|about| format!("`{key}`: {about}"));
            }
            let Some(next) = known.or_else(|| place.get("additionalProperties")) else {
                break;
            };
            place = next;
            for _ in 0..items {
                place = self.resolved(place).get("items").unwrap_or(place);
            }
        }
        said
    }

    /// What a reference refers to.
    fn resolved<'v>(&'v self, schema: &'v Value) -> &'v Value {
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        let found = name.and_then(|name| self.definitions?.get(name));
        found.unwrap_or(schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_its_own_sentence_and_a_missing_one_by_that_of_what_is_missing() {
        let schema = schema();
        let keys = Keys {
            root: &schema,
            definitions: schema["$defs"].as_object(),
        };
        let about = |path: &str| keys.about(path).unwrap_or_default();
        let retries = about("providers.legacy.oidc.limits.retries");
        assert!(retries.starts_with("`retries`: How often"), "{retries}");
        let hosts = about("apps.crm.hosts[0]");
        assert!(hosts.starts_with("`hosts`: "), "{hosts}");
        assert_eq!(keys.about("nobody"), None);
        assert_eq!(missing("in x: `user` is missing: who?"), Some("user"));
        assert_eq!(missing("out of range"), None);
    }
}
