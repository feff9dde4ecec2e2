//! Lines of `NAME:SECRET[:group,group]`: the shape of password and key files.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

use crate::identity::Subject;

/// One line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    /// The hash, never the secret.
    pub(super) hash: Box<str>,
    /// Groups, in the order of the file.
    pub(super) groups: Vec<Box<str>>,
}

/// Reads a file; empty lines and lines that begin with `#` are skipped. `check` says what is wrong with a hash.
///
/// # Errors
///
/// The first line that is wrong, by number; the line itself is not repeated, because it may hold a secret.
pub(super) fn parse(
    text: &str,
    check: fn(&str) -> Result<(), &'static str>,
) -> Result<HashMap<Box<str>, Entry>, String> {
    let mut all = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("line {}: {what}", index + 1);
        let (name, rest) = line
            .split_once(':')
            .ok_or_else(|| wrong("there is no `:` after the name"))?;
        Subject::try_from(name).map_err(|e| wrong(&e.to_string()))?;
        let (hash, groups) = split_groups(rest);
        check(hash).map_err(wrong)?;
        let groups = groups
            .split(',')
            .map(str::trim)
            .filter(|g| !g.is_empty())
            .map(Box::from)
            .collect();
        match all.entry(Box::from(name)) {
            Place::Occupied(_) => return Err(wrong("the name stands in the file already")),
            Place::Vacant(place) => place.insert(Entry {
                hash: hash.into(),
                groups,
            }),
        };
    }
    Ok(all)
}

/// `sha256:HEX` has a colon of its own; the hashes of the password schemes have none.
fn split_groups(rest: &str) -> (&str, &str) {
    let from = rest.strip_prefix("sha256:").map_or(0, |_| "sha256:".len());
    match rest.get(from..).and_then(|tail| tail.find(':')) {
        Some(at) => (
            rest.get(..from + at).unwrap_or(rest),
            rest.get(from + at + 1..).unwrap_or(""),
        ),
        None => (rest, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_any(text: &str) -> Result<HashMap<Box<str>, Entry>, String> {
        parse(text, |hash| {
            if hash.is_empty() {
                Err("there is no hash")
            } else {
                Ok(())
            }
        })
    }

    #[test]
    fn groups_are_optional_and_a_key_hash_keeps_its_colon() {
        let all = parse_any("# people\nalice:$2b$x:it, hr\n\nbob:$2b$y\njob:sha256:00ff:batch\n")
            .unwrap();
        assert_eq!(all["alice"].groups, [Box::from("it"), Box::from("hr")]);
        assert!(all["bob"].groups.is_empty());
        assert_eq!(&*all["job"].hash, "sha256:00ff");
        assert_eq!(all["job"].groups, [Box::from("batch")]);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_not_repeated() {
        for (text, expected) in [
            ("alice", "line 1: there is no `:` after the name"),
            ("a:x\n:x", "line 2: the subject is empty"),
            ("a:x\na:y", "line 2: the name stands in the file already"),
            ("a:", "line 1: there is no hash"),
        ] {
            assert_eq!(parse_any(text).unwrap_err(), expected);
        }
    }
}
