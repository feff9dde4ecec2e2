//! The words of a row, in as few bytes as it takes: no names, numbers as short as they are, identifiers and tokens as the bytes they
//! spell.
//!
//! What is read here was sealed by this program. It is read with care all the same: nothing panics, and what cannot have been
//! written is none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

/// Values within values: 128, as deep as JSON is read.
const DEPTH: usize = 128;

/// Of a text: there is none; it is an identifier of 16 bytes; from here on, its length; from here on, how many parts a token has
/// (no text is that long).
const NONE: u64 = 0;
const UUID: u64 = 1;
const TEXT: u64 = 2;
const TOKEN: u64 = 1 << 28;
/// Shorter ones gain little.
const SHORTEST_TOKEN: usize = 40;
/// A JWT has three parts, or five (RFC 7516 §3.1); what is opaque has one.
const TOKEN_PARTS: usize = 5;

/// Of a value. From [`LONG`] on: a text, a list or an object, and how long it is.
const NULL: u64 = 0;
const FALSE: u64 = 1;
const TRUE: u64 = 2;
const BELOW_ZERO: u64 = 3;
const NUMBER: u64 = 4;
/// A number that is no whole one: eight bytes.
const FLOAT: u64 = 5;
const VALUE_UUID: u64 = 6;
const LONG: u64 = 7;

/// Writes.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// What was written.
    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    /// A byte.
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Bytes, as many as the reader knows.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number: seven bits a byte, the lowest first.
    pub(super) fn number(&mut self, mut number: u64) {
        loop {
            let [low, ..] = (number & 0x7f).to_le_bytes();
            number >>= 7;
            if number == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    /// A text.
    pub(super) fn text(&mut self, text: &str) {
        self.maybe(Some(text));
    }

    /// A text, or none.
    pub(super) fn maybe(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            return self.number(NONE);
        };
        if let Some(uuid) = uuid(text) {
            self.number(UUID);
            self.bytes(&uuid);
        } else if let Some(parts) = token(text) {
            self.number(TOKEN + length(parts.len()));
            for part in parts {
                self.number(length(part.len()));
                self.bytes(&part);
            }
        } else {
            self.number(TEXT + length(text.len()));
            self.bytes(text.as_bytes());
        }
    }

    /// 32 bytes, or none.
    pub(super) fn maybe_digest(&mut self, digest: Option<&[u8; 32]>) {
        self.byte(u8::from(digest.is_some()));
        if let Some(digest) = digest {
            self.bytes(digest);
        }
    }

    /// Names and values.
    pub(super) fn object(&mut self, object: &Map<String, Value>) {
        self.number(length(object.len()));
        for (name, value) in object {
            self.text(name);
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.number(NULL),
            Value::Bool(false) => self.number(FALSE),
            Value::Bool(true) => self.number(TRUE),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => {
                    self.number(NUMBER);
                    self.number(number);
                }
                (None, Some(number)) => {
                    self.number(BELOW_ZERO);
                    self.number(number.unsigned_abs());
                }
                (None, None) => {
                    self.number(FLOAT);
                    let float = number.as_f64().unwrap_or_default();
                    self.bytes(&float.to_bits().to_be_bytes());
                }
            },
            Value::String(text) => match uuid(text) {
                Some(uuid) => {
                    self.number(VALUE_UUID);
                    self.bytes(&uuid);
                }
                None => {
                    self.number(LONG + 3 * length(text.len()));
                    self.bytes(text.as_bytes());
                }
            },
            Value::Array(values) => {
                self.number(LONG + 1 + 3 * length(values.len()));
                for value in values {
                    self.value(value);
                }
            }
            Value::Object(object) => {
                self.number(LONG + 2 + 3 * length(object.len()));
                for (name, value) in object {
                    self.text(name);
                    self.value(value);
                }
            }
        }
    }
}

/// Reads what [`Writer`] wrote, in the same order.
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// From the beginning.
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub(super) const fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub(super) const fn rest(&self) -> &'b [u8] {
        self.0
    }

    /// A byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && 1 < bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A text.
    pub(super) fn text(&mut self) -> Option<String> {
        self.maybe()?
    }

    /// A text, or none.
    pub(super) fn maybe(&mut self) -> Option<Option<String>> {
        match self.number()? {
            NONE => Some(None),
            UUID => self.uuid().map(Some),
            token @ TOKEN.. => self.token(token - TOKEN).map(Some),
            length => self.spelled(length - TEXT).map(Some),
        }
    }

    /// 32 bytes, or none.
    pub(super) fn maybe_digest(&mut self) -> Option<Option<[u8; 32]>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.taken().copied().map(Some),
            _ => None,
        }
    }

    /// Names and values.
    pub(super) fn object(&mut self) -> Option<Map<String, Value>> {
        let count = self.number()?;
        self.named(count, DEPTH)
    }

    fn named(&mut self, count: u64, depth: usize) -> Option<Map<String, Value>> {
        let mut object = Map::new();
        for _ in 0..count {
            let name = self.text()?;
            object.insert(name, self.value(depth)?);
        }
        Some(object)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        Some(match self.number()? {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            BELOW_ZERO => Value::from(0_i64.checked_sub_unsigned(self.number()?)?),
            NUMBER => Value::from(self.number()?),
            FLOAT => {
                let float = f64::from_bits(u64::from_be_bytes(*self.taken()?));
                Value::Number(Number::from_f64(float)?)
            }
            VALUE_UUID => Value::String(self.uuid()?),
            long => {
                let (length, kind) = ((long - LONG) / 3, (long - LONG) % 3);
                match kind {
                    0 => Value::String(self.spelled(length)?),
                    1 => (0..length)
                        .map(|_| self.value(depth))
                        .collect::<Option<_>>()
                        .map(Value::Array)?,
                    _ => Value::Object(self.named(length, depth)?),
                }
            }
        })
    }

    fn spelled(&mut self, length: u64) -> Option<String> {
        let (text, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn token(&mut self, parts: u64) -> Option<String> {
        let mut text = String::new();
        for place in 0..parts {
            if place != 0 {
                text.push('.');
            }
            let length = usize::try_from(self.number()?).ok()?;
            let (part, rest) = self.0.split_at_checked(length)?;
            self.0 = rest;
            URL_SAFE_NO_PAD.encode_string(part, &mut text);
        }
        Some(text)
    }

    fn uuid(&mut self) -> Option<String> {
        let bytes: &[u8; 16] = self.taken()?;
        let mut text = String::with_capacity(36);
        for (place, byte) in bytes.iter().enumerate() {
            if [4, 6, 8, 10].contains(&place) {
                text.push('-');
            }
            for half in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(half), 16)?);
            }
        }
        Some(text)
    }

    fn taken<const N: usize>(&mut self) -> Option<&'b [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(taken)
    }
}

/// The bytes of an identifier that is spelled as nearly all are: in small letters, by 8, 4, 4, 4 and 12.
fn uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut half = 0_usize;
    for (place, letter) in text.bytes().enumerate() {
        if [8, 13, 18, 23].contains(&place) {
            if letter != b'-' {
                return None;
            }
            continue;
        }
        let value = match letter {
            b'0'..=b'9' => letter - b'0',
            b'a'..=b'f' => letter - b'a' + 10,
            _ => return None,
        };
        let byte = bytes.get_mut(half / 2)?;
        *byte = (*byte << 4) | value;
        half += 1;
    }
    Some(bytes)
}

/// The bytes of a token that is spelled in base64url (RFC 7515 §2), part by part. Any other spelling of them is a text: what is read
/// is what was written.
fn token(text: &str) -> Option<Vec<Vec<u8>>> {
    if text.len() < SHORTEST_TOKEN {
        return None;
    }
    let mut parts = Vec::new();
    for part in text.split('.') {
        if parts.len() == TOKEN_PARTS {
            return None;
        }
        parts.push(URL_SAFE_NO_PAD.decode(part).ok()?);
    }
    Some(parts)
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.done()
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|named| named.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            number: u64,
            text: String,
            token in "[A-Za-z0-9_-]{0,60}(\\.[A-Za-z0-9_-]{0,60}){0,6}",
            none in proptest::option::of(any::<String>()),
            digest in proptest::option::of(any::<[u8; 32]>()),
            value in values(),
        ) {
            let object: Map<String, Value> = [(text.clone(), value)].into_iter().collect();
            let bytes = written(|to| {
                to.number(number);
                to.text(&text);
                to.text(&token);
                to.maybe(none.as_deref());
                to.maybe_digest(digest.as_ref());
                to.object(&object);
            });
            let mut from = Reader::new(&bytes);
            prop_assert_eq!(from.number(), Some(number));
            prop_assert_eq!(from.text(), Some(text));
            prop_assert_eq!(from.text(), Some(token));
            prop_assert_eq!(from.maybe(), Some(none));
            prop_assert_eq!(from.maybe_digest(), Some(digest));
            prop_assert_eq!(from.object(), Some(object));
            prop_assert!(from.is_done());
        }

        #[test]
        fn any_bytes_can_be_offered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).object();
            let _ = Reader::new(&bytes).text();
            let _ = Reader::new(&bytes).number();
        }
    }

    #[test]
    fn identifiers_are_half_as_long_and_come_back_as_they_were_spelled() {
        let plain = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let others = [
            plain.to_uppercase(),
            plain.replace('-', "_"),
            plain.replace('f', "g"),
            format!("{plain}0"),
        ];
        assert_eq!(written(|to| to.text(plain)).len(), 17);
        for text in std::iter::once(plain.to_owned()).chain(others) {
            let bytes = written(|to| to.text(&text));
            assert_eq!(Reader::new(&bytes).text().unwrap(), text);
        }
    }

    #[test]
    fn tokens_are_three_quarters_as_long_and_come_back_as_they_were_spelled() {
        let part = |byte, length| URL_SAFE_NO_PAD.encode(vec![byte; length]);
        let jwt = format!("{}.{}.{}", part(1, 77), part(2, 600), part(3, 256));
        let encrypted = format!("{}..{jwt}", part(4, 20));
        let others = [
            // Trailing bits that are not zero, a character that is none, padding, too many parts: other texts than the bytes spell.
            format!("{}B", "A".repeat(42)),
            "A".repeat(41),
            format!("{jwt}+"),
            format!("{jwt}="),
            format!("{encrypted}.AAAA"),
        ];
        assert_eq!(
            written(|to| to.text(&jwt)).len(),
            5 + 1 + 77 + 2 + 600 + 2 + 256
        );
        let five = written(|to| to.text(&encrypted));
        assert!(five.len() < encrypted.len() * 4 / 5);
        for text in [&jwt, &encrypted].into_iter().chain(&others) {
            let bytes = written(|to| to.text(text));
            assert_eq!(Reader::new(&bytes).text().unwrap(), *text);
            for length in 0..bytes.len() {
                assert!(Reader::new(&bytes[..length]).text().is_none(), "{length}");
            }
        }
        for text in &others {
            assert!(text.len() < written(|to| to.text(text)).len());
        }
    }

    #[test]
    fn what_is_too_deep_or_cut_off_is_none() {
        let mut deep = json!(1);
        for _ in 0..DEPTH {
            deep = json!([deep]);
        }
        let object: Map<String, Value> = [(String::from("a"), deep)].into_iter().collect();
        let bytes = written(|to| to.object(&object));
        assert!(Reader::new(&bytes).object().is_none());
        let object: Map<String, Value> = [(String::from("a"), json!({"b": ["c", 1.5]}))]
            .into_iter()
            .collect();
        let bytes = written(|to| to.object(&object));
        assert!(Reader::new(&bytes).object().is_some());
        for length in 0..bytes.len() {
            assert!(Reader::new(&bytes[..length]).object().is_none());
        }
        assert!(Reader::new(&[0xff; 10]).number().is_none());
    }
}
