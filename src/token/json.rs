//! JSON as a stranger may send it: read once, within bounds, and no member twice.
//!
//! `serde_json` keeps the last of two equal members where other parsers keep the first: whoever judges one and reads the
//! other can be fooled (RFC 8725 §2.4). Names are compared after unescaping, at every depth.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::Deserialize;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimMap;
use crate::identity::claim_name;

/// How deep objects and arrays may lie in each other: the outermost is 1.
const MAX_DEPTH: usize = 16;

/// As many claims as most tokens have, or more.
const USUAL_CLAIMS: usize = 20;

/// How many members may still be read; shared by all documents that belong together.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Budget {
    /// Allows `members` members in all.
    pub(super) const fn new(members: usize) -> Self {
        Self(Cell::new(members))
    }

    /// Counts one member.
    pub(super) fn spend<E: Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0
            .set(left.ok_or_else(|| E::custom("too many members"))?);
        Ok(())
    }
}

/// Reads one object and nothing after it.
pub(super) fn object(
    json: &[u8],
    budget: &Budget,
) -> Result<Map<String, Value>, serde_json::Error> {
    match read(json, Bounded::new(budget))? {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Error::custom("not an object"))
        }
    }
}

/// Reads one object of claims and nothing after it.
pub(super) fn claims(json: &[u8], budget: &Budget) -> Result<ClaimMap, serde_json::Error> {
    read(json, Claims(Bounded::new(budget)))
}

/// Reads one document in the way of `seed` and nothing after it.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(
    json: &'de [u8],
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    // Looked at once as a whole: string by string it takes longer than reading them.
    let text = std::str::from_utf8(json).map_err(Error::custom)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads any value within the bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl<'b> Bounded<'b> {
    /// For a whole document.
    pub(super) const fn new(budget: &'b Budget) -> Self {
        Self { budget, depth: 0 }
    }

    /// For what lies in an object or array.
    pub(super) fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if MAX_DEPTH < depth {
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            inner.budget.spend()?;
            if all.insert(name, members.next_value_seed(inner)?).is_some() {
                return Err(Error::custom("a member occurs twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

/// Reads an object whose members are claims.
struct Claims<'b>(Bounded<'b>);

impl<'de> DeserializeSeed<'de> for Claims<'_> {
    type Value = ClaimMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ClaimMap, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Claims<'_> {
    type Value = ClaimMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<ClaimMap, A::Error> {
        let inner = self.0.inner()?;
        let mut all = Vec::with_capacity(USUAL_CLAIMS);
        while let Some(Text(name)) = members.next_key()? {
            inner.budget.spend()?;
            all.push((claim_name(&name), members.next_value_seed(inner)?));
        }
        ClaimMap::distinct(all).ok_or_else(|| Error::custom("a member occurs twice"))
    }
}

/// A string, borrowed where it is written without escapes.
#[derive(Debug)]
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both readers of objects, which must agree.
    fn accepts(json: &str) -> bool {
        let object = object(json.as_bytes(), &Budget::new(1_000));
        let claims = claims(json.as_bytes(), &Budget::new(1_000));
        assert_eq!(object.is_ok(), claims.is_ok(), "{json}");
        if let (Ok(object), Ok(claims)) = (&object, claims) {
            assert_eq!(ClaimMap::new(object.clone()), claims, "{json}");
        }
        object.is_ok()
    }

    #[test]
    fn refuses_a_member_that_occurs_twice_at_any_depth() {
        assert!(accepts(r#"{"a":{"b":1},"b":[{"a":1},{"a":2}]}"#));
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[0,{"y":{"a":1,"b":0,"a":2}}]}"#,
        ] {
            assert!(!accepts(twice), "{twice}");
        }
    }

    #[test]
    fn counts_depth_and_members() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(accepts(&nested(16)));
        assert!(!accepts(&nested(17)));
        let lists = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(accepts(&lists(15)));
        assert!(!accepts(&lists(16)));

        let wide = |members: usize| {
            let members: Vec<_> = (0..members).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(accepts(&wide(1_000)));
        assert!(!accepts(&wide(1_001)));
        let budget = Budget::new(3);
        assert!(object(b"{\"a\":0,\"b\":0}", &budget).is_ok());
        assert!(object(b"{\"a\":0,\"b\":0}", &budget).is_err());
    }

    #[test]
    fn refuses_what_is_no_object_or_goes_on() {
        for json in [
            "",
            "1",
            "[]",
            "null",
            "\"{}\"",
            "{}{}",
            "{} x",
            "{\"a\":1e999}",
            "{\"a\":NaN}",
            "{\"a\":\"\\ud800\"}",
            "\u{feff}{}",
            "{a:1}",
            "{\"a\":1,}",
        ] {
            assert!(!accepts(json), "{json}");
        }
        for damaged in [&b"{\"a\":\"\xff\"}"[..], b"{\"\xff\":1}", b"{}\xff"] {
            assert!(object(damaged, &Budget::new(9)).is_err());
            assert!(claims(damaged, &Budget::new(9)).is_err());
        }
        assert!(accepts(" { } \n"));
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let json = br#"{"a":[null,true,-1,18446744073709551615,0.5,"\u00e9\u0000"],"b":{}}"#;
        assert_eq!(
            Value::Object(object(json, &Budget::new(9)).unwrap()),
            serde_json::from_slice::<Value>(json).unwrap()
        );
    }
}
