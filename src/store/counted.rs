//! A store whose errors are counted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::store::By;
use crate::store::Each;
use crate::store::Expect;
use crate::store::Key;
use crate::store::NewRow;
use crate::store::Row;
use crate::store::Sight;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Watch;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreOperation;

/// Counts the errors of the store within.
pub(crate) struct Counted {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Counted {
    /// Counts into `metrics`.
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    fn count<T>(
        &self,
        operation: StoreOperation,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(error) = &answer {
            self.metrics.store_error(operation, error.reason());
        }
        answer
    }
}

#[async_trait]
impl Store for Counted {
    async fn get(&self, key: Key<'_>, now: UnixTime) -> Result<Option<Row>, StoreError> {
        self.count(StoreOperation::Get, self.store.get(key, now).await)
    }

    async fn write(
        &self,
        row: NewRow<'_>,
        condition: Option<(Expect, UnixTime)>,
    ) -> Result<bool, StoreError> {
        let operation = match condition {
            None => StoreOperation::Put,
            Some(_) => StoreOperation::Swap,
        };
        self.count(operation, self.store.write(row, condition).await)
    }

    async fn put_both(
        &self,
        rows: [(Key<'_>, &[u8]); 2],
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<Option<bool>, StoreError> {
        let answer = self.store.put_both(rows, expires, now).await;
        self.count(StoreOperation::Swap, answer)
    }

    async fn delete(&self, key: Key<'_>) -> Result<(), StoreError> {
        self.count(StoreOperation::Delete, self.store.delete(key).await)
    }

    async fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<(Vec<u8>, Row)>, StoreError> {
        let answer = self.store.scan(table, prefix, limit, now).await;
        self.count(StoreOperation::Scan, answer)
    }

    async fn find(
        &self,
        by: By<'_>,
        limit: usize,
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        let answer = self.store.find(by, limit, now, each).await;
        self.count(StoreOperation::Scan, answer)
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let answer = self.store.lease(name, holder, span, now).await;
        self.count(StoreOperation::Lease, answer)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let answer = self.store.release(name, holder).await;
        self.count(StoreOperation::Lease, answer)
    }

    fn watch(&self, table: &'static str) -> Watch {
        self.store.watch(table)
    }

    fn sight(&self) -> Sight {
        self.store.sight()
    }

    fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.count(StoreOperation::Sweep, self.store.sweep(now).await)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}
