//! How a file is opened, and which files are left alone.

use std::cmp::Ordering;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use redb::Builder;
use redb::Database;
use redb::DatabaseError;
use redb::ReadableTable as _;
use redb::StorageBackend;
use redb::backends::FileBackend;
use tracing::debug;

use crate::store::embedded::closing::SPARED;
use crate::store::embedded::closing::TOO_LONG;
use crate::store::embedded::closing::TRIED;
use crate::store::embedded::fresh;
use crate::store::embedded::fresh::GROWTH;
use crate::store::embedded::layout::META;
use crate::store::embedded::layout::SCHEMA;
use crate::store::embedded::read::Read;
use crate::store::embedded::tables::Swept;
use crate::store::embedded::tables::Tables;

/// Pages kept in memory at the most: 32 MiB.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Another process has it.
    #[error("the file is in use by another process")]
    InUse,
    /// Written by an earlier version that lays it out differently; it is left alone.
    #[error(
        "the file has schema {0}, and this version reads schema {SCHEMA} alone: run the version that wrote it, or delete the file. With it go all sessions, revocations (revoke again what has to stay revoked), links, who has moved, and refresh tokens that we issued; see CHANGELOG.md"
    )]
    Earlier(u64),
    /// Written by a later version; it is left alone.
    #[error(
        "the file has schema {0}, and this version reads schema {SCHEMA} at the most: a later version wrote it, run that one"
    )]
    Later(u64),
    /// It cannot be opened, or is no such file.
    #[error("the file cannot be opened: {0}")]
    Broken(String),
}

/// The open file, and the tables as of the last commit.
pub(super) struct Opened {
    pub(super) read: ArcSwap<Read>,
    pub(super) database: Database,
}

impl Opened {
    fn new(database: Database) -> Result<Self, redb::Error> {
        Ok(Self {
            read: ArcSwap::from_pointee(Read::now(&database)?),
            database,
        })
    }
}

/// Where a file comes from.
pub(super) struct Source {
    pub(super) open: Box<dyn Fn() -> Result<Opened, OpenError> + Send + Sync>,
    /// How long it is, in bytes.
    pub(super) length: Box<dyn Fn() -> u64 + Send + Sync>,
    /// One that is no longer than this is not made shorter.
    pub(super) spared: u64,
}

impl Source {
    pub(super) fn at(path: &Path) -> Self {
        let (path, same) = (path.to_owned(), path.to_owned());
        Self {
            open: Box::new(move || open_file(&path)),
            length: Box::new(move || std::fs::metadata(&same).map_or(0, |file| file.len())),
            spared: SPARED,
        }
    }
}

fn open_file(path: &Path) -> Result<Opened, OpenError> {
    let open = || {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true);
        options.truncate(false).mode(0o600).open(path)
    };
    let broken = |error: io::Error| OpenError::Broken(error.to_string());
    let file = open().map_err(broken)?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    if file.metadata().map_err(broken)?.len() == 0
        && let Err(error) = fresh::make(&builder, open, GROWTH)
    {
        // If it cannot be opened either, that is said in a moment.
        debug!(%error, "A new file of the store grows as it likes.");
    }
    let backend = FileBackend::new(file).map_err(|error| OpenError::Broken(error.to_string()))?;
    checked(&mut builder, backend)
}

/// Opens a file, makes the tables of a new one, and leaves one of another schema alone.
pub(super) fn checked(
    builder: &mut Builder,
    backend: impl StorageBackend,
) -> Result<Opened, OpenError> {
    let crashed = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&crashed);
    builder.set_repair_callback(move |_| repaired.store(true, Relaxed));
    let database = builder.create_with_backend(backend);
    let database = database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse,
        other => OpenError::Broken(other.to_string()),
    })?;
    let found = prepare(&database, crashed.load(Relaxed))
        .map_err(|error| OpenError::Broken(error.to_string()))?;
    match found.cmp(&SCHEMA) {
        Ordering::Equal => {
            Opened::new(database).map_err(|error| OpenError::Broken(error.to_string()))
        }
        Ordering::Less => Err(OpenError::Earlier(found)),
        Ordering::Greater => Err(OpenError::Later(found)),
    }
}

/// Makes the tables of a new file; the schema that is found.
fn prepare(database: &Database, crashed: bool) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("schema")?.map(|schema| schema.value());
        match found {
            None => {
                drop(Tables::open(&transaction, 0, 0, &mut Swept::default())?);
                meta.insert("schema", SCHEMA)?;
                SCHEMA
            }
            Some(found) => {
                if found == SCHEMA {
                    let tried = meta.remove(TRIED)?.map(|tried| tried.value());
                    // The last stop did not get to its end with it.
                    if let Some(tried) = tried.filter(|_| crashed) {
                        meta.insert(TOO_LONG, tried)?;
                    }
                }
                found
            }
        }
    };
    if found == SCHEMA {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(found)
}
