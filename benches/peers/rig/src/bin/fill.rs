//! Fills a store of the proxy before it starts: with sessions that nobody has a cookie of, links and revocations of people who
//! never come.
//!
//! ```text
//! fill STORE.redb sessions|links|revocations COUNT
//! ```
//!
//! The layout is that of `src/store/embedded/layout.rs` and `src/revocation/record.rs`; the proxy refuses another.

use std::error::Error;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use aws_lc_rs::rand;
use redb::Database;
use redb::TableDefinition;

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("row");
const DUE: TableDefinition<'static, &[u8], ()> = TableDefinition::new("due");
const ENTRIES: TableDefinition<'static, &[u8; 24], ()> = TableDefinition::new("entry");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// The bytes that stand for the tables.
const SESSION_TABLE: u8 = 0;
const LINK_TABLE: u8 = 1;
const REVOCATION_TABLE: u8 = 9;

/// Kinds by which a session is found: its person, its account, the session at its issuer.
const FOUND_BY: [u8; 3] = [0, 1, 2];

/// What a session row has, sealed.
const SESSION: usize = 450;

fn random<const N: usize>() -> Result<[u8; N], Box<dyn Error>> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(kind), Some(count)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: fill STORE.redb sessions|links|revocations COUNT".into());
    };
    let count: u64 = count.parse()?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let expires = now + 86_400_000;
    let database = Database::create(file)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("schema", 2)?;
        meta.insert("version", count)?;
        let mut rows = transaction.open_table(ROWS)?;
        let mut due = transaction.open_table(DUE)?;
        let mut entries = transaction.open_table(ENTRIES)?;
        for version in 1..=count {
            let (mut key, content) = match kind.as_str() {
                "sessions" => {
                    // The layout, and what looks sealed.
                    let mut content = vec![3];
                    content.extend_from_slice(&random::<SESSION>()?);
                    (vec![SESSION_TABLE], content)
                }
                "links" => (vec![LINK_TABLE], random::<120>()?.to_vec()),
                "revocations" => (vec![REVOCATION_TABLE], Vec::new()),
                _ => return Err("neither sessions, links nor revocations".into()),
            };
            let mut noted = Vec::new();
            let content = if kind == "revocations" {
                let id = random::<16>()?;
                key.extend_from_slice(&id);
                let mark = hex(&random::<32>()?);
                let row = serde_json::json!({
                    "v": 1, "id": hex(&id), "at": now, "not_before": now, "undated": true, "expires": expires,
                    "source": "operator", "lifted": null, "marks": [mark], "sealed": "",
                });
                serde_json::to_vec(&row)?
            } else {
                let own = random::<32>()?;
                key.extend_from_slice(&own);
                for kind in FOUND_BY.iter().filter(|_| key.first() == Some(&SESSION_TABLE)) {
                    let place = random::<10>()?;
                    noted.push([&[*kind][..], &place].concat());
                    let entry = [&[SESSION_TABLE, *kind][..], &place, &own[..12]].concat();
                    entries.insert(<&[u8; 24]>::try_from(entry.as_slice())?, ())?;
                }
                content
            };
            let mut value = Vec::new();
            value.extend_from_slice(&expires.to_be_bytes()[2..]);
            value.extend_from_slice(&version.to_be_bytes()[2..]);
            value.push(u8::try_from(noted.len())?);
            value.extend_from_slice(&noted.concat());
            value.extend_from_slice(&content);
            rows.insert(key.as_slice(), value.as_slice())?;
            let at = [&u32::try_from(expires / 64_000)?.to_be_bytes()[..], &key].concat();
            due.insert(at.as_slice(), ())?;
        }
    }
    transaction.commit()?;
    Ok(())
}
