//! How rows, what they are found by, and when they expire lie in the file: in as few bytes as it takes, because a million people
//! have rows.

use redb::TableDefinition;

use crate::clock::UnixTime;
use crate::store::Entry;
use crate::store::PLACE;

/// Rows by table and key ([`row_key`]): a head ([`Head`]), the content.
pub(super) const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("row");
/// The same rows by expiry ([`due_key`]), so that a sweep reads little more than it removes. Rows that never expire are not in it.
pub(super) const DUE: TableDefinition<'static, &[u8], ()> = TableDefinition::new("due");
/// What rows are found by ([`entry_key`]).
pub(super) const ENTRIES: TableDefinition<'static, &[u8; ENTRY], ()> =
    TableDefinition::new("entry");
/// `schema`, and the last `version` that was given out.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// The layout of all this.
pub(super) const SCHEMA: u64 = 2;

/// Tables with many rows: each is one byte, its place here, so none is ever moved or taken out. Any other has its name in each of
/// its keys.
const TABLES: [&str; 12] = [
    "session",
    "link",
    "link_person",
    "pin",
    "moved",
    "home",
    "refresh_family",
    "wrap",
    "carry",
    "revocation",
    "logout_jti",
    "dpop",
];
/// Before the length of a name, and the name.
const NAMED: u8 = 255;
/// Bytes of the key of a row by which an entry names it.
const OF_ROW: usize = 12;
/// Table, kind, place, row.
pub(super) const ENTRY: usize = 2 + PLACE + OF_ROW;
/// Kind and place, as the head of a row has them.
const NOTED: usize = 1 + PLACE;
/// Expiry, version, and how many entries.
const HEAD: usize = 6 + 6 + 1;
/// Rows are due by units of 64 s: a session in use moves once in a while, not each time.
const UNIT_MILLIS: u64 = 64_000;
/// As an expiry: never.
const NEVER: u64 = (1 << 48) - 1;

/// What the keys of a table begin with.
fn before_keys(table: &str) -> Vec<u8> {
    let known = TABLES.iter().position(|known| *known == table);
    match known.and_then(|place| u8::try_from(place).ok()) {
        Some(place) => vec![place],
        None => {
            let length = u8::try_from(table.len()).unwrap_or(u8::MAX);
            [&[NAMED, length], table.as_bytes()].concat()
        }
    }
}

/// The key of a row.
pub(super) fn row_key(table: &str, key: &[u8]) -> Vec<u8> {
    let mut place = before_keys(table);
    place.extend_from_slice(key);
    place
}

/// The key that a row has in its own table.
pub(super) fn own_key(row: &[u8]) -> &[u8] {
    let own = match row {
        [NAMED, length, ..] => row.get(2 + usize::from(*length)..),
        _ => row.get(1..),
    };
    own.unwrap_or_default()
}

/// When a row is due: a unit of time, the row.
pub(super) fn due_key(expires: UnixTime, row: &[u8]) -> Vec<u8> {
    [&unit(expires).to_be_bytes(), row].concat()
}

/// What is due until then begins with less than this.
pub(super) fn due_until(now: UnixTime) -> [u8; 4] {
    unit(now).saturating_add(1).to_be_bytes()
}

/// Whatever has a key like this expires no earlier than then.
pub(super) fn due_no_earlier(key: &[u8]) -> UnixTime {
    let unit = key
        .first_chunk()
        .map_or(0, |unit| u32::from_be_bytes(*unit));
    UnixTime::from_millis(u64::from(unit) * UNIT_MILLIS)
}

/// The row of something that is due.
pub(super) fn due_row(key: &[u8]) -> &[u8] {
    key.get(4..).unwrap_or_default()
}

/// The unit in which a row is due. It is not before the row's expiry by more than the unit itself is long.
pub(super) fn unit(expires: UnixTime) -> u32 {
    u32::try_from(expires.as_millis() / UNIT_MILLIS).unwrap_or(u32::MAX)
}

/// An entry of a row.
pub(super) fn entry_key(entry: Entry, row: &[u8]) -> [u8; ENTRY] {
    let table = row.first().copied().unwrap_or(NAMED);
    let own = own_key(row).iter().take(OF_ROW);
    let bytes = [table, entry.kind].into_iter().chain(entry.place);
    filled(bytes.chain(own.copied()))
}

/// The first key that an entry of a kind can have whose place begins with `prefix`, and what all of them begin with.
pub(super) fn entries_from(table: &str, kind: u8, prefix: &[u8]) -> ([u8; ENTRY], Vec<u8>) {
    let table = before_keys(table).first().copied().unwrap_or(NAMED);
    let begin = [&[table, kind], prefix].concat();
    (filled(begin.iter().copied()), begin)
}

/// The entry of a key, and what the keys of its rows begin with.
pub(super) fn entry_of(key: &[u8; ENTRY], table: &str) -> (Entry, Vec<u8>) {
    let mut bytes = key.iter().copied().skip(1);
    let kind = bytes.next().unwrap_or_default();
    let place = filled(bytes.by_ref().take(PLACE));
    let of_row: Vec<u8> = bytes.collect();
    (Entry { kind, place }, row_key(table, &of_row))
}

fn filled<const N: usize>(bytes: impl Iterator<Item = u8>) -> [u8; N] {
    let mut all = [0; N];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = from;
    }
    all
}

/// What stands before the content of a row.
pub(super) struct Head<'v> {
    pub(super) expires: UnixTime,
    pub(super) version: u64,
    noted: &'v [u8],
    pub(super) content: &'v [u8],
}

impl<'v> Head<'v> {
    /// `None`: it is no value of this layout.
    pub(super) fn read(value: &'v [u8]) -> Option<Self> {
        let (head, rest) = value.split_first_chunk::<HEAD>()?;
        let [expires @ .., _, _, _, _, _, _, count] = head;
        let [_, _, _, _, _, _, version @ .., _] = head;
        let (noted, content) = rest.split_at_checked(usize::from(*count) * NOTED)?;
        let expires = match number(expires) {
            NEVER => UnixTime::NEVER,
            millis => UnixTime::from_millis(millis),
        };
        Some(Self {
            expires,
            version: number(version),
            noted,
            content,
        })
    }

    /// By what the row is found.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let entry = |noted: &[u8]| {
            let (kind, place) = noted.split_first()?;
            Some(Entry {
                kind: *kind,
                place: filled(place.iter().copied()),
            })
        };
        self.noted.chunks_exact(NOTED).filter_map(entry)
    }
}

/// The value of a row.
pub(super) fn value(expires: UnixTime, version: u64, entries: &[Entry], content: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + entries.len() * NOTED + content.len());
    value.extend(six_bytes(expires.as_millis().min(NEVER)));
    value.extend(six_bytes(version));
    // No row is found by so many.
    let count = u8::try_from(entries.len()).unwrap_or(u8::MAX);
    value.push(count);
    for entry in entries.iter().take(usize::from(count)) {
        value.push(entry.kind);
        value.extend_from_slice(&entry.place);
    }
    value.extend_from_slice(content);
    value
}

fn six_bytes(number: u64) -> impl Iterator<Item = u8> {
    number.to_be_bytes().into_iter().skip(2)
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let entry = |kind| Entry {
            kind,
            place: [kind; PLACE],
        };
        let at = UnixTime::from_millis(1_800_000_000_123);
        let entries = [entry(1), entry(2)];
        let written = value(at, 77, &entries, b"content");
        let head = Head::read(&written).unwrap();
        assert_eq!((head.expires, head.version), (at, 77));
        assert_eq!(head.entries().collect::<Vec<_>>(), entries);
        assert_eq!(head.content, b"content");
        let never = value(UnixTime::NEVER, 1, &[], b"");
        assert_eq!(Head::read(&never).unwrap().expires, UnixTime::NEVER);
        for length in 0..HEAD + 2 * NOTED {
            assert!(Head::read(&written[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn keys_of_tables_do_not_mix_and_name_their_rows() {
        for table in ["session", "dpop", "t", "tt"] {
            let row = row_key(table, b"0123456789abcdef");
            assert_eq!(own_key(&row), b"0123456789abcdef", "{table}");
            let entry = Entry {
                kind: 3,
                place: [9; PLACE],
            };
            let key = entry_key(entry, &row);
            let (first, begin) = entries_from(table, 3, &[9, 9]);
            assert!(first < key && key.starts_with(&begin));
            let (read, rows) = entry_of(&key, table);
            assert_eq!(read, entry);
            assert!(row.starts_with(&rows) && rows.len() + 4 == row.len());
        }
        assert!(!row_key("tt", b"x").starts_with(&row_key("t", b"")));
        let at = UnixTime::from_secs(1_000_000);
        let due = due_key(at, b"row");
        assert_eq!(due_row(&due), b"row");
        assert!(due[..4] < due_until(at)[..]);
        let since = due_no_earlier(&due);
        assert!(since <= at && at.as_millis() < since.as_millis() + UNIT_MILLIS);
    }
}
