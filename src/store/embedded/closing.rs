//! The end of an open file: what is free in it is cut off.
//!
//! redb lets go of what is free at the end of a file alone. What is free elsewhere would stay: a file that was full once is as long
//! for ever.

use std::sync::PoisonError;
use std::time::Duration;

use redb::Database;
use redb::ReadableTable as _;
use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use crate::store::embedded::File;
use crate::store::embedded::layout::META;
use crate::store::embedded::opening::Opened;

/// A file is never too long up to here: 64 MiB.
pub(super) const SPARED: u64 = 64 * 1024 * 1024;
/// A longer file stays as it is, 128 MiB: moving its pages could take longer than a stop waits, and then it was for nothing. A file
/// that this version made is short without it while it grows.
pub(super) const MOST: u64 = 128 * 1024 * 1024;
/// A stop waits for its file for at most 8 s.
pub(super) const CLOSING: Duration = Duration::from_secs(8);
/// Where no more than an eighth of a file is free, it stays as it is: moving pages costs a stop its time.
const SHARE: u64 = 8;
/// In [`META`]: how long the file was when its pages were to be moved. The next start takes that out again.
pub(super) const TRIED: &str = "tried_to_be_shorter";
/// In [`META`]: the same, of a file that was not closed after it. That took longer than a stop waits, and is not tried again while the
/// file is half as long or longer.
pub(super) const TOO_LONG: &str = "took_too_long_to_be_shorter";

/// Closes the file. Pages are moved in transactions of redb, each whole or not at all: what is cut off in the middle is as it
/// was before, and the next start goes through the file as it does after a crash.
pub(super) fn close(file: &File) {
    let taken = {
        let mut slot = file
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        slot.take()
    };
    let Some(Opened { read, mut database }) = taken else {
        return;
    };
    // Pages that somebody reads are not moved.
    drop(read);
    let before = (file.source.length)();
    match is_worth_it(&database, before, file.source.spared) {
        Ok(false) => {}
        Ok(true) => {
            let began = Instant::now();
            match shorter(&mut database, before) {
                Ok(()) => {
                    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    info!(
                        before,
                        after = (file.source.length)(),
                        millis,
                        "The store's file was made shorter."
                    );
                }
                Err(error) => warn!(%error, "The store's file stays as long as it is."),
            }
        }
        Err(error) => warn!(%error, "Whether the store's file could be shorter is not known."),
    }
}

/// Moves what is in the file to its beginning; first the file notes that this is tried. Nothing is written after it: that would
/// lie at the end of the file.
fn shorter(database: &mut Database, before: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(TRIED, before)?;
    transaction.commit()?;
    database.compact()?;
    Ok(())
}

/// Whether a good part of the file is free, and moving the rest has not taken too long before. Goes through all of its pages.
fn is_worth_it(database: &Database, length: u64, spared: u64) -> Result<bool, redb::Error> {
    if length <= spared || MOST < length {
        return Ok(false);
    }
    let transaction = database.begin_write()?;
    let tried = {
        let meta = transaction.open_table(META)?;
        meta.get(TOO_LONG)?.map(|tried| tried.value())
    };
    if tried.is_some_and(|tried| tried / 2 <= length) {
        transaction.abort()?;
        return Ok(false);
    }
    let stats = transaction.stats()?;
    let page = u64::try_from(stats.page_size()).unwrap_or(u64::MAX);
    transaction.abort()?;
    let used = stats.allocated_pages().saturating_mul(page);
    Ok(length / SHARE < length.saturating_sub(used))
}
