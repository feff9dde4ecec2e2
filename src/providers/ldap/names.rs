//! Values that are names of other entries, read where the mapping asks for a part of them: `memberOf[*].cn`.

use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimPath;

/// Makes lists of objects of the attributes of which the mapping reads a part, each with the parts of its entry's own name
/// (RFC 4514 §2.3): so that one mapping reads a directory and an old system that shows the same as JSON.
pub(super) fn parts(claims: &mut Map<String, Value>, mapping: &[(Box<str>, ClaimPath)]) {
    for (_, path) in mapping {
        let Some((attribute, _)) = path.as_str().split_once("[*].") else {
            continue;
        };
        let Some(value) = claims.get_mut(attribute) else {
            continue;
        };
        let values = match value.take() {
            Value::Array(values) => values,
            one => vec![one],
        };
        let values = values.into_iter().map(|value| match &value {
            Value::String(name) => own_name(name).map_or(value, Value::Object),
            _ => value,
        });
        *value = values.collect();
    }
}

/// The types and values of the first part of a name, by small letters.
fn own_name(name: &str) -> Option<Map<String, Value>> {
    let mut parts = Map::new();
    let mut rest = name;
    loop {
        let (kind, after) = rest.split_once('=')?;
        let (value, end) = value(after)?;
        let kind = kind.trim();
        if kind.is_empty() || value.is_empty() {
            return None;
        }
        parts.insert(kind.to_ascii_lowercase(), value.into());
        match end {
            Some(('+', more)) => rest = more,
            Some(_) | None => return Some(parts),
        }
    }
}

/// A value up to its end, which says whether another part of the same name follows; what was escaped is as it was.
fn value(text: &str) -> Option<(String, Option<(char, &str)>)> {
    // A value in BER is none that can be compared with a word.
    if text.trim_start().starts_with('#') {
        return None;
    }
    let mut bytes = Vec::new();
    let mut all = text.char_indices();
    let mut end = None;
    // Spaces at the end belong to the value only if they were escaped.
    let mut kept = 0;
    while let Some((at, letter)) = all.next() {
        match letter {
            ',' | ';' | '+' => {
                end = Some((letter, text.get(at + 1..)?));
                break;
            }
            '\\' => {
                let (_, first) = all.next()?;
                if first.is_ascii_hexdigit() {
                    let (_, second) = all.next()?;
                    let pair: String = [first, second].iter().collect();
                    bytes.push(u8::from_str_radix(&pair, 16).ok()?);
                } else {
                    bytes.extend(first.encode_utf8(&mut [0; 4]).bytes());
                }
                kept = bytes.len();
            }
            letter => {
                bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
                if letter != ' ' {
                    kept = bytes.len();
                }
            }
        }
    }
    bytes.truncate(kept);
    let value = String::from_utf8(bytes).ok()?;
    Some((value.trim_start_matches(' ').to_owned(), end))
}

/// What was read of a name, written with every byte escaped, is read as the same. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(in crate::providers) fn promise(text: &str) {
    for (kind, value) in own_name(text).into_iter().flatten() {
        let bytes = value.as_str().unwrap_or_default().bytes();
        let escaped: String = bytes.map(|byte| format!("\\{byte:02x}")).collect();
        let again = own_name(&format!("{kind}={escaped}"));
        assert_eq!(again, Some(Map::from_iter([(kind, value)])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn groups_are_read_out_of_the_names_of_their_entries() {
        let mapping = vec![(
            Box::from("groups"),
            ClaimPath::parse("memberOf[*].cn").unwrap(),
        )];
        for (value, expected) in [
            (json!("CN=it,OU=groups,DC=corp"), json!([{ "cn": "it" }])),
            (
                json!([
                    "cn=it,ou=g",
                    "cn=Sales\\, EMEA+ou=x,dc=corp",
                    "cn=Z\\C3\\BCrich"
                ]),
                json!([{ "cn": "it" }, { "cn": "Sales, EMEA", "ou": "x" }, { "cn": "Zürich" }]),
            ),
            // What is no name stays, and has no part.
            (json!(["it", "cn=#04024869"]), json!(["it", "cn=#04024869"])),
        ] {
            let mut claims = Map::from_iter([
                ("memberOf".to_owned(), value),
                ("uid".to_owned(), json!("cn=x")),
            ]);
            parts(&mut claims, &mapping);
            assert_eq!(claims["memberOf"], expected);
            assert_eq!(claims["uid"], "cn=x");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in ".*") {
            let _ = own_name(&text);
        }
    }
}
