//! The one thread that writes the file: what has gathered goes into one durable transaction.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use redb::ReadableTable as _;
use redb::WriteTransaction;
use tokio::sync::oneshot;
use tracing::error;
use tracing::info;

use crate::clock::UnixTime;
use crate::store::Entry;
use crate::store::Expect;
use crate::store::StoreError;
use crate::store::embedded::File;
use crate::store::embedded::NewPlain;
use crate::store::embedded::away;
use crate::store::embedded::layout::META;
use crate::store::embedded::read::Read;
use crate::store::embedded::tables::Swept;
use crate::store::embedded::tables::Tables;

/// Changes in one transaction: 256.
const BATCH: usize = 256;
/// While four or more write at once, more are waited for, so long: 1 ms. A transaction costs as much as many rows.
const GATHER: Duration = Duration::from_millis(1);
/// How often a file that failed is opened again: each second.
const AGAIN: Duration = Duration::from_secs(1);

/// One change, and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// What to change.
pub(super) enum Change {
    Write {
        table: &'static str,
        key: Box<[u8]>,
        value: Box<[u8]>,
        entries: Box<[Entry]>,
        expires: UnixTime,
        condition: Option<(Expect, UnixTime)>,
    },
    /// Two rows, or neither where one is there.
    Both {
        rows: [NewPlain; 2],
        expires: UnixTime,
        now: UnixTime,
    },
    Delete {
        table: &'static str,
        key: Box<[u8]>,
    },
    Lease {
        name: Box<[u8]>,
        holder: Box<[u8]>,
        expires: UnixTime,
        now: UnixTime,
    },
    Release {
        name: Box<[u8]>,
        holder: Box<[u8]>,
    },
    Sweep {
        now: UnixTime,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The row is as it was asked for.
    Written,
    /// The row was not as expected; nothing was written.
    Unexpected,
    /// The row would be one too many; nothing was written.
    Full,
    /// So many rows were removed, and whether there are more to look at.
    Swept { rows: usize, more: bool },
}

/// Writes until nobody can ask any more.
pub(super) fn run(file: &File, jobs: &Receiver<Job>) {
    let (mut before, mut swept) = (0, Swept::default());
    loop {
        let first = match jobs.recv_timeout(AGAIN) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                heal(file);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut batch = vec![first];
        // Asleep, so that nobody who writes has to wake this thread.
        if 4 <= before {
            thread::sleep(GATHER);
        }
        while batch.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        before = batch.len();
        heal(file);
        match write(file, &batch, &mut swept) {
            Ok(outcomes) => {
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    tell(file, &job.change, outcome);
                    let outcome = match outcome {
                        Outcome::Full => {
                            Err(StoreError::Full(format!("it holds {} rows", file.max_rows)))
                        }
                        outcome @ (Outcome::Written
                        | Outcome::Unexpected
                        | Outcome::Swept { .. }) => Ok(outcome),
                    };
                    // Whoever asked may have gone.
                    drop(job.answer.send(outcome));
                }
            }
            Err(why) => {
                // What it passed may still be there.
                swept = Swept::default();
                error!(
                    error = why,
                    "The store could not write; its file is opened again."
                );
                let database = &file.database;
                *database.write().unwrap_or_else(PoisonError::into_inner) = None;
                for job in batch {
                    drop(job.answer.send(Err(away(&why))));
                }
                heal(file);
            }
        }
    }
}

/// Tells the watchers what is on the disk now.
fn tell(file: &File, change: &Change, outcome: Outcome) {
    match (change, outcome) {
        (Change::Write { table, key, .. } | Change::Delete { table, key }, Outcome::Written) => {
            file.changes.changed(table, key)
        }
        (Change::Both { rows, .. }, Outcome::Written) => {
            for (table, key, _) in rows {
                file.changes.changed(table, key);
            }
        }
        (
            Change::Write { .. }
            | Change::Both { .. }
            | Change::Delete { .. }
            | Change::Lease { .. }
            | Change::Release { .. }
            | Change::Sweep { .. },
            Outcome::Written | Outcome::Unexpected | Outcome::Full | Outcome::Swept { .. },
        ) => {}
    }
}

/// Opens a file that failed again: a full disk may have been emptied.
fn heal(file: &File) {
    let closed = {
        let database = file.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_none()
    };
    if !closed {
        return;
    }
    match (file.source.open)() {
        Ok(database) => {
            let slot = &file.database;
            *slot.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
            // What was answered as lost may have come to the disk: whoever watches reads again.
            file.changes.missed();
            info!("The store's file is open again.");
        }
        Err(error) => error!(error = %error, "The store's file cannot be opened again yet."),
    }
}

/// All of it or nothing; on the disk when this returns.
fn write(file: &File, batch: &[Job], swept: &mut Swept) -> Result<Vec<Outcome>, String> {
    let database = file.database.read().unwrap_or_else(PoisonError::into_inner);
    let opened = database.as_ref().ok_or("the file is closed")?;
    let transaction = opened.database.begin_write();
    let transaction = transaction.map_err(|error| error.to_string())?;
    let outcomes = apply(&transaction, batch, (file.max_rows, swept));
    let outcomes = outcomes.map_err(|error| error.to_string())?;
    transaction.commit().map_err(|error| error.to_string())?;
    // Before anybody is told: whoever wrote finds what they wrote.
    let read = Read::now(&opened.database).map_err(|error| error.to_string())?;
    opened.read.store(Arc::new(read));
    Ok(outcomes)
}

fn apply(
    transaction: &WriteTransaction,
    batch: &[Job],
    (max_rows, swept): (u64, &mut Swept),
) -> Result<Vec<Outcome>, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let version = meta.get("version")?.map_or(0, |version| version.value());
    let mut tables = Tables::open(transaction, version, max_rows, swept)?;
    let outcomes = batch
        .iter()
        .map(|job| tables.change(&job.change))
        .collect::<Result<_, _>>()?;
    meta.insert("version", tables.version)?;
    Ok(outcomes)
}
