//! A file of the layout before: its rows are carried over, all of them or none, when it is opened.

use redb::ReadableTable as _;
use redb::TableDefinition;
use redb::WriteTransaction;
use tracing::info;

use crate::clock::UnixTime;
use crate::store::embedded::layout;
use crate::store::embedded::tables::Tables;

/// The schema that is carried over.
pub(super) const FORMER: u64 = 1;

type Place = (&'static str, &'static [u8]);

const ROWS: TableDefinition<'static, Place, (u64, u64, &[u8])> = TableDefinition::new("rows");
const EXPIRY: TableDefinition<'static, (u64, &str, &[u8]), ()> = TableDefinition::new("expiry");

/// What sessions were found by is found by their entries now.
const GONE: [&str; 4] = ["session-subject", "login", "login_sid", "login_account"];

/// Carries the rows over; the last version that was given out.
pub(super) fn carry_over(transaction: &WriteTransaction, version: u64) -> Result<u64, redb::Error> {
    let mut tables = Tables::open(transaction, version, u64::MAX)?;
    let mut carried = 0_u64;
    {
        let rows = transaction.open_table(ROWS)?;
        for found in rows.iter()? {
            let (place, content) = found?;
            let (table, key) = place.value();
            if GONE.contains(&table) {
                continue;
            }
            let (expires, _, value) = content.value();
            let row = layout::row_key(table, key);
            tables.put(&row, value, &[], UnixTime::from_millis(expires))?;
            carried += 1;
        }
    }
    let version = tables.version;
    drop(tables);
    transaction.delete_table(ROWS)?;
    transaction.delete_table(EXPIRY)?;
    info!(
        rows = carried,
        "The store's file has a new layout; its rows were carried over."
    );
    Ok(version)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use redb::Database;
    use std::path::Path;

    use crate::store::embedded::layout::META;

    type Former<'a> = ((&'a str, &'a [u8]), (u64, u64, &'a [u8]));

    /// Writes a file as the version before did: expiry in milliseconds, version, content.
    pub(in crate::store::embedded) fn write(path: &Path, rows: &[Former<'_>]) {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("schema", FORMER).unwrap();
            meta.insert("version", 6).unwrap();
            let mut table = transaction.open_table(ROWS).unwrap();
            let mut expiry = transaction.open_table(EXPIRY).unwrap();
            for ((name, key), content) in rows {
                table.insert((*name, *key), *content).unwrap();
                expiry.insert((content.0, *name, *key), ()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}
