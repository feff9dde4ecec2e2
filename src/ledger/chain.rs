//! The chain: `hash = SHA-256("authferry/decision/v1\n" ‖ prev ‖ "\n" ‖ canonical JSON without hash)`.
//!
//! A line is exactly the canonical JSON of its record: members sorted, no white space. Whatever is spelled otherwise was not
//! written here.

use std::fmt;
use std::io;
use std::io::BufRead;
use std::io::Read as _;

use aws_lc_rs::digest;
use serde_json::Map;
use serde_json::Value;

/// The longest record, in bytes.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// The end of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// How many records there are.
    pub(crate) seq: u64,
    /// The hash of the last one; zeros before the first.
    pub(crate) hash: String,
}

impl Head {
    /// Of a chain without records.
    pub(crate) fn genesis() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(64),
        }
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    /// It is no JSON object with `seq`, `prev` and `hash`.
    NotARecord,
    /// Another record stands in its place: one before it was dropped, or they were reordered.
    OutOfPlace {
        /// The number that stands there.
        found: u64,
    },
    /// It does not name the record before it.
    OtherPredecessor,
    /// Its hash does not fit its content: it was edited.
    Edited,
    /// It is spelled otherwise than records are written.
    Spelling,
    /// A head that was kept elsewhere is not in the chain.
    NotAnchored,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => f.write_str("it is no record"),
            Self::OutOfPlace { found } => write!(
                f,
                "record {found} stands in its place: dropped or reordered"
            ),
            Self::OtherPredecessor => f.write_str("it does not follow the record before it"),
            Self::Edited => f.write_str("its hash does not fit its content: edited"),
            Self::Spelling => f.write_str("it is not spelled as records are written: edited"),
            Self::NotAnchored => f.write_str("the head that was kept elsewhere is not its hash"),
        }
    }
}

/// A head that was kept elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    /// The number of its record.
    pub(crate) seq: u64,
    /// The first digits of its hash; at least 16.
    pub(crate) hash: String,
}

/// What a look at a whole chain found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Verified {
    /// The last record that is good.
    pub(crate) head: Head,
    /// The first record that is not.
    pub(crate) broken: Option<(u64, Flaw)>,
    /// Bytes of a last line without its end: cut short, and its change never took effect.
    pub(crate) torn: usize,
    /// Whether nothing but the line break is missing there: the record counts.
    pub(crate) unended: bool,
    /// Bytes of all whole lines.
    pub(crate) whole: u64,
}

/// Chains a record: the line, and the new head.
pub(super) fn seal(head: &Head, mut fields: Map<String, Value>) -> (String, Head) {
    let seq = head.seq + 1;
    fields.insert("seq".into(), seq.into());
    fields.insert("prev".into(), head.hash.as_str().into());
    let hash = hash(&head.hash, &fields);
    fields.insert("hash".into(), hash.as_str().into());
    (canonical(&Value::Object(fields)), Head { seq, hash })
}

/// Whether a line is the record after `head`; the new head.
pub(super) fn check(line: &str, head: &Head) -> Result<Head, Flaw> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(line) else {
        return Err(Flaw::NotARecord);
    };
    if canonical(&Value::Object(fields.clone())) != line {
        return Err(Flaw::Spelling);
    }
    let Some(Value::String(claimed)) = fields.remove("hash") else {
        return Err(Flaw::NotARecord);
    };
    let (Some(seq), Some(prev)) = (
        fields.get("seq").and_then(Value::as_u64),
        fields.get("prev").and_then(Value::as_str),
    ) else {
        return Err(Flaw::NotARecord);
    };
    let hash = hash(prev, &fields);
    if hash != claimed {
        return Err(Flaw::Edited);
    }
    if seq != head.seq + 1 {
        return Err(Flaw::OutOfPlace { found: seq });
    }
    if prev != head.hash {
        return Err(Flaw::OtherPredecessor);
    }
    Ok(Head { seq, hash })
}

/// Looks at a whole chain, record by record.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn verify(mut lines: impl BufRead, anchor: Option<&Anchor>) -> io::Result<Verified> {
    let mut found = Verified {
        head: Head::genesis(),
        broken: None,
        torn: 0,
        unended: false,
        whole: 0,
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        let read = lines.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        let checked = std::str::from_utf8(&line)
            .map_err(|_not_text| Flaw::NotARecord)
            .and_then(|text| check(text, &found.head));
        match checked {
            // The line break alone is missing: the record is there.
            Ok(head) => {
                found.head = head;
                if whole {
                    found.whole += read as u64;
                } else {
                    found.torn = read;
                    found.unended = true;
                }
            }
            Err(_) if !whole && read < MAX_LINE_BYTES => found.torn = read,
            Err(flaw) => {
                found.broken = Some((found.head.seq + 1, flaw));
                return Ok(found);
            }
        }
        if let Some(anchor) = anchor.filter(|anchor| anchor.seq == found.head.seq)
            && !found.head.hash.starts_with(&anchor.hash)
        {
            found.broken = Some((anchor.seq, Flaw::NotAnchored));
            return Ok(found);
        }
    }
    if let Some(anchor) = anchor.filter(|anchor| found.head.seq < anchor.seq) {
        found.broken = Some((anchor.seq, Flaw::NotAnchored));
    }
    Ok(found)
}

fn hash(prev: &str, fields: &Map<String, Value>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"authferry/decision/v1\n");
    context.update(prev.as_bytes());
    context.update(b"\n");
    context.update(canonical_object(fields).as_bytes());
    let bytes = context.finish();
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// RFC 8785 for what records hold: short numbers, ASCII member names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => canonical_object(members),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn canonical_object(members: &Map<String, Value>) -> String {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let members: Vec<_> = sorted
        .into_iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A chain that another implementation wrote and verified.
    const FOREIGN: &str = concat!(
        r#"{"actor":"change-bot@corp.example","config_sha256":"3f7a90c1","diff":["rollouts.crm-2026.stages[4-ramp].ramp[1].percent: 2 -> 5"],"hash":"3846179fa9c653101ca1269fae69b9eca30c7905d3603aecc89c28b4629f00b9","kind":"config_applied","node":"edge-1","parent_sha256":"a91b04de","plan":{"seen_units":9871,"to_legacy":0,"to_modern":311},"prev":"0000000000000000000000000000000000000000000000000000000000000000","revision":42,"seq":1,"ticket":"IAM-1482","ts":"2026-03-02T09:14:07.112Z","via":"file"}"#,
        "\n",
        r#"{"actor":"controller","evidence":{"bad":{"legacy":43,"modern":13},"effect":0.045,"log_e":6.71,"ratio":5.7,"trip_at":5.7,"units":{"legacy":4520,"modern":238}},"from":"4-ramp/5","hash":"402e078f9687340670c918afe956c53982692c2b020b9f0365c10296f799000a","kind":"decision","modern_sessions":"keep","node":"edge-1","prev":"3846179fa9c653101ca1269fae69b9eca30c7905d3603aecc89c28b4629f00b9","rollout":"crm-2026","seq":2,"to":"4-ramp/1","ts":"2026-03-05T11:20:31.004Z","why":"guard login"}"#,
        "\n",
    );

    fn chain(records: u64) -> Vec<String> {
        let mut head = Head::genesis();
        (0..records)
            .map(|n| {
                let Value::Object(fields) =
                    json!({ "kind": "decision", "why": format!("n° {n}\n"), "effect": 0.25 })
                else {
                    panic!("an object")
                };
                let (line, next) = seal(&head, fields);
                head = next;
                line
            })
            .collect()
    }

    fn look(lines: &[String]) -> Verified {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        verify(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn a_foreign_chain_verifies() {
        let found = verify(FOREIGN.as_bytes(), None).unwrap();
        assert_eq!((found.head.seq, found.broken, found.torn), (2, None, 0));
        assert!(found.head.hash.starts_with("402e078f96873406"));
    }

    #[test]
    fn every_edited_character_is_named() {
        for place in 0..FOREIGN.len() {
            let mut bytes = FOREIGN.as_bytes().to_vec();
            bytes[place] ^= 1;
            let found = verify(&*bytes, None).unwrap();
            let first = FOREIGN.find('\n').unwrap();
            let record = if place <= first { 1 } else { 2 };
            // The very last byte is the line break: without it the last line looks cut short, but is not what it was.
            let named = found.broken.as_ref().map(|(record, _)| *record);
            if place + 1 == FOREIGN.len() {
                assert!(named.is_none() && 0 < found.torn);
            } else {
                assert_eq!(named, Some(record), "byte {place}");
            }
        }
    }

    #[test]
    fn dropped_and_reordered_records_are_named() {
        let good = chain(5);
        assert_eq!(look(&good).broken, None);
        let mut dropped = good.clone();
        dropped.remove(2);
        assert_eq!(
            look(&dropped).broken,
            Some((3, Flaw::OutOfPlace { found: 4 }))
        );
        let mut reordered = good.clone();
        reordered.swap(1, 3);
        assert_eq!(
            look(&reordered).broken,
            Some((2, Flaw::OutOfPlace { found: 4 }))
        );
        let twice = [good.clone(), good.clone()].concat();
        assert_eq!(
            look(&twice).broken,
            Some((6, Flaw::OutOfPlace { found: 1 }))
        );
        let grafted = [chain(6).split_at(5).0, chain(6).split_at(5).1].concat();
        assert_eq!(
            look(&grafted).broken,
            None,
            "the same records are the same chain"
        );
    }

    #[test]
    fn a_cut_end_is_seen_by_who_kept_a_head() {
        let good = chain(5);
        let kept = Anchor {
            seq: 5,
            hash: look(&good).head.hash.chars().take(16).collect(),
        };
        let text = |lines: &[String]| lines.join("\n") + "\n";
        let with = |lines: &[String]| verify(text(lines).as_bytes(), Some(&kept)).unwrap().broken;
        assert_eq!(with(&good), None);
        assert_eq!(with(&good[..4]), Some((5, Flaw::NotAnchored)));
    }

    #[test]
    fn a_chain_that_was_cut_anywhere_verifies_up_to_there() {
        let text: String = chain(3).iter().map(|line| format!("{line}\n")).collect();
        for end in 0..text.len() {
            let found = verify(&text.as_bytes()[..end], None).unwrap();
            assert_eq!(found.broken, None, "{end}");
            let whole = text.as_bytes()[..end]
                .iter()
                .filter(|b| **b == b'\n')
                .count() as u64;
            assert!((whole..=whole + 1).contains(&found.head.seq), "{end}");
        }
    }

    #[test]
    fn a_doubled_member_does_not_hide_another() {
        let line = chain(1).remove(0);
        let doubled = line.replacen('{', r#"{"why":"nothing","#, 1);
        assert_eq!(check(&doubled, &Head::genesis()), Err(Flaw::Spelling));
    }
}
