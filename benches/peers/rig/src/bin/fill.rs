//! Fills a store of the proxy before it starts: with sessions that nobody has a cookie of, links and revocations of people who
//! never come.
//!
//! ```text
//! fill STORE.redb sessions|links|revocations COUNT
//! ```
//!
//! The layout is that of `src/store/embedded`, `src/session/rows` and `src/revocation/record`; the proxy refuses another.

use std::error::Error;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use aws_lc_rs::rand;
use redb::Database;
use redb::TableDefinition;

type Place<'a> = (&'a str, &'a [u8]);
type Row<'a> = (u64, u64, &'a [u8]);

const ROWS: TableDefinition<'static, Place<'static>, Row<'static>> = TableDefinition::new("rows");
const EXPIRY: TableDefinition<'static, (u64, &str, &[u8]), ()> = TableDefinition::new("expiry");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// What a session row has, sealed.
const SESSION: usize = 700;

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
        meta.insert("schema", 1)?;
        meta.insert("version", count)?;
        let mut rows = transaction.open_table(ROWS)?;
        let mut expiry = transaction.open_table(EXPIRY)?;
        for version in 1..=count {
            let (table, key, value) = match kind.as_str() {
                "sessions" => {
                    // The layout, the length of the first part, and what looks like two sealed parts.
                    let mut value = vec![2, 0, 0, 1, 0];
                    value.extend_from_slice(&random::<SESSION>()?);
                    ("session", random::<32>()?.to_vec(), value)
                }
                "links" => ("link", random::<32>()?.to_vec(), random::<120>()?.to_vec()),
                "revocations" => {
                    let id = random::<16>()?;
                    let mark = hex(&random::<32>()?);
                    let row = serde_json::json!({
                        "v": 1, "id": hex(&id), "at": now, "not_before": now, "undated": true, "expires": expires,
                        "source": "operator", "lifted": null, "marks": [mark], "sealed": "",
                    });
                    ("revocation", id.to_vec(), serde_json::to_vec(&row)?)
                }
                _ => return Err("neither sessions, links nor revocations".into()),
            };
            rows.insert((table, key.as_slice()), (expires, version, value.as_slice()))?;
            expiry.insert((expires, table, key.as_slice()), ())?;
        }
    }
    transaction.commit()?;
    Ok(())
}
