//! A store that instances share: Redis 6.2 or Valkey.
//!
//! Rows carry their own expiry, judged by the caller's clock as in every store. Tables that are read by prefix have an index
//! beside them; the tables in [`NOT_SCANNED`], which are large, have none. Whoever can read the server learns nothing that
//! opens a session; whoever can write it is kept out by the seals of the rows, not by this module.

mod link;
mod listed;
mod listen;
mod script;
#[cfg(feature = "real-servers")]
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::store::By;
use crate::store::Each;
use crate::store::Expect;
use crate::store::Key;
use crate::store::NewRow;
use crate::store::PLACE;
use crate::store::Row;
use crate::store::Sight;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;
use crate::store::redis::link::Link;
use crate::store::redis::listed::live;
use crate::store::redis::listen::Listener;
use crate::store::redis::script::NOTED;
use crate::store::redis::script::Scripts;
use crate::store::settings::RedisSettings;
use crate::store::watch::Changes;
use crate::store::watch::pack;
use crate::telemetry::Metrics;

/// Tables that nobody reads by prefix: they have no index.
const NOT_SCANNED: [&str; 3] = ["session", "pin", "journey"];
/// Redis removes a row this much after its expiry: its clock need not be ours.
const GRACE: Duration = Duration::from_mins(10);
/// And what is noted of its entries a week later, so that a sweep that comes late removes those, too.
const NOTED_GRACE: Duration = Duration::from_hours(7 * 24);
/// Rows read or removed at once.
const BATCH: usize = 256;
/// Rows read at once by their entries: they may be large, and all of it is asked for within the time of one call.
const FOUND: usize = 32;
/// `expiry version`, before the content.
const HEAD: usize = 16;

/// Rows in Redis.
pub(crate) struct RedisStore {
    link: Arc<Link>,
    scripts: Scripts,
    changes: Arc<Changes>,
    hears: Arc<AtomicBool>,
    entropy: Arc<dyn Entropy>,
    prefix: String,
    channel: String,
}

impl RedisStore {
    /// Connects in the background: a server that is away does not stop a start. Must be called on the background runtime.
    ///
    /// # Errors
    ///
    /// When the settings cannot be used, such as a CA certificate that is none.
    pub(crate) fn start(
        settings: &RedisSettings,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let link = Link::start(settings, metrics)
            .map_err(|error| StoreError::Unavailable(error.category().to_owned()))?;
        let changes = Arc::new(Changes::new());
        let hears = Arc::new(AtomicBool::new(false));
        let prefix = settings.prefix.clone();
        let channel = format!("{prefix}~changes");
        let mut own = [0; 16];
        entropy.fill(&mut own);
        let listener = Listener {
            link: Arc::downgrade(&link),
            changes: Arc::downgrade(&changes),
            hears: Arc::clone(&hears),
            channel: channel.clone(),
            beat: format!("{prefix}~beat:{}", URL_SAFE_NO_PAD.encode(own)),
        };
        tokio::spawn(listener.run());
        Ok(Self {
            link,
            scripts: Scripts::new(),
            changes,
            hears,
            entropy,
            prefix,
            channel,
        })
    }

    fn row(&self, table: &str, key: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), table.as_bytes(), b":", key].concat()
    }

    fn index(&self, table: &str) -> String {
        format!("{}~index:{table}", self.prefix)
    }

    /// The entries of a row.
    fn noted(&self, table: &str, key: &[u8]) -> Vec<u8> {
        let name = format!("{}~noted:{table}:", self.prefix);
        [name.as_bytes(), key].concat()
    }

    /// What the names of the indexes of entries begin with; the kind comes after it.
    fn entries(&self, table: &str) -> String {
        format!("{}~entry:{table}:", self.prefix)
    }

    fn due(&self) -> String {
        format!("{}~due", self.prefix)
    }

    /// A version that no other write has: a counter would begin anew when the server is emptied.
    fn version(&self) -> u64 {
        let mut version = [0; 8];
        self.entropy.fill(&mut version);
        u64::from_be_bytes(version)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
        let row = self.row(key.table, key.key);
        let found = self
            .link
            .call(|mut connection| async move {
                let mut get = redis::cmd("GET");
                get.arg(row);
                get.query_async::<Option<Vec<u8>>>(&mut connection).await
            })
            .await?;
        found.map_or(Ok(None), |found| live(&found, now))
    }

    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError> {
        let (key, expires) = (row.key, row.expires);
        let version = self.version();
        let mut content = Vec::with_capacity(HEAD + row.value.len());
        content.extend_from_slice(&expires.as_millis().to_be_bytes());
        content.extend_from_slice(&version.to_be_bytes());
        content.extend_from_slice(row.value);
        let (mode, now, expected) = match condition {
            None => ("put", 0, 0),
            Some((Expect::Absent, now)) => ("new", now.as_millis(), 0),
            Some((Expect::Version(version), now)) => ("swap", now.as_millis(), version),
        };
        let index = if NOT_SCANNED.contains(&key.table) {
            ""
        } else {
            "index"
        };
        let mut noted = Vec::with_capacity(row.entries.len() * NOTED);
        for entry in row.entries {
            noted.push(entry.kind);
            noted.extend_from_slice(&entry.place);
        }
        let mut ask = self.scripts.write.prepare_invoke();
        ask.key(self.row(key.table, key.key))
            .key(self.index(key.table))
            .key(self.due())
            .key(self.noted(key.table, key.key))
            .arg(mode)
            .arg(now)
            .arg(&expected.to_be_bytes()[..])
            .arg(content)
            .arg(removed(expires, GRACE))
            .arg(index)
            .arg(key.key)
            .arg(expires.as_millis())
            .arg(pack(key.table, key.key))
            .arg(&self.channel)
            .arg(noted)
            .arg(self.entries(key.table))
            .arg(NOTED)
            .arg(removed(expires, NOTED_GRACE));
        self.link
            .call(|mut connection| async move { ask.invoke_async::<bool>(&mut connection).await })
            .await
    }

    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
        let mut ask = self.scripts.delete.prepare_invoke();
        ask.key(self.row(key.table, key.key))
            .key(self.index(key.table))
            .key(self.due())
            .key(self.noted(key.table, key.key))
            .arg(key.key)
            .arg(pack(key.table, key.key))
            .arg(&self.channel)
            .arg(self.entries(key.table))
            .arg(NOTED);
        self.link
            .call(|mut connection| async move { ask.invoke_async::<()>(&mut connection).await })
            .await
    }

    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
        if NOT_SCANNED.contains(&table) {
            return Err(StoreError::Unavailable(format!("{table} has no index")));
        }
        let index = self.index(table);
        let mut found = Vec::new();
        let each: Each<'_> = &mut |key, row| found.push((key.to_vec(), row));
        self.listed((table, &index, 0), prefix, (limit, BATCH), now, each)
            .await?;
        Ok(found)
    }

    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        let index = format!("{}{}", self.entries(by.table), by.kind);
        let bounds = (limit, FOUND);
        self.listed((by.table, &index, PLACE), by.prefix, bounds, now, each)
            .await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        _now: UnixTime,
    ) -> Result<bool, StoreError> {
        let mut ask = self.scripts.lease.prepare_invoke();
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        ask.key(self.row("lease", name.as_bytes()))
            .arg(holder)
            .arg(span.max(1));
        self.link
            .call(|mut connection| async move { ask.invoke_async::<bool>(&mut connection).await })
            .await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let mut ask = self.scripts.release.prepare_invoke();
        ask.key(self.row("lease", name.as_bytes())).arg(holder);
        self.link
            .call(|mut connection| async move { ask.invoke_async::<()>(&mut connection).await })
            .await
    }

    fn watch(&self, table: &'static str) -> Watch {
        self.changes.watch(table)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn sight(&self) -> Sight {
        if self.link.is_away() {
            Sight::Away
        } else if self.hears.load(Ordering::Acquire) {
            Sight::Told
        } else {
            Sight::Deaf
        }
    }

    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        let mut gone = 0;
        loop {
            let mut ask = self.scripts.sweep.prepare_invoke();
            ask.key(self.due())
                .arg(now.as_millis())
                .arg(BATCH)
                .arg(&self.prefix)
                .arg(NOTED);
            let swept =
                self.link
                    .call(|mut connection| async move {
                        ask.invoke_async::<usize>(&mut connection).await
                    })
                    .await?;
            gone += swept;
            if swept < BATCH {
                return Ok(gone);
            }
        }
    }
}

/// When Redis removes something of a row that expires then; empty: never.
fn removed(expires: UnixTime, grace: Duration) -> String {
    // Redis counts in signed milliseconds; what is beyond them stays.
    match i64::try_from((expires + grace).as_millis()) {
        Ok(removed) if expires != UnixTime::NEVER => removed.to_string(),
        Ok(_) | Err(_) => String::new(),
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisStore({})", self.prefix)
    }
}
