//! What the hot path writes: blocks of counters, one per worker and label set, on cache lines of their own.
//!
//! A block is found once, by its labels, when a worker first needs it; from then on it is a pointer and a small number.
//! A reload asks again and gets the same blocks, so counters survive it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::identity::CredentialClass;
use crate::telemetry::metrics::attempt::Attempt;
use crate::telemetry::metrics::cells::Counter;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::codes::CODE_COUNT;
use crate::telemetry::metrics::labels::Cache;
use crate::telemetry::metrics::labels::Flow;
use crate::telemetry::metrics::labels::Lookup;
use crate::telemetry::metrics::labels::Shed;
use crate::telemetry::metrics::labels::TunnelEnd;
use crate::telemetry::metrics::labels::UpstreamError;
use crate::telemetry::metrics::series::Labels;
use crate::telemetry::metrics::series::OTHER;

/// What a worker counts for one application. The alignment keeps two workers off each other's cache lines, prefetched
/// neighbours included.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct AppShard {
    pub(super) codes: [Counter; CODE_COUNT],
    pub(super) duration: Histogram,
    pub(super) legacy: [Counter; CredentialClass::ALL.len()],
    /// When the last of them came, in seconds since 1970.
    pub(super) legacy_seen: [Gauge; CredentialClass::ALL.len()],
    pub(super) upstream: [Counter; UpstreamError::ALL.len()],
}

impl Default for AppShard {
    fn default() -> Self {
        Self {
            codes: [const { Counter::new() }; CODE_COUNT],
            duration: Histogram::new(),
            legacy: [const { Counter::new() }; CredentialClass::ALL.len()],
            legacy_seen: Default::default(),
            upstream: [const { Counter::new() }; UpstreamError::ALL.len()],
        }
    }
}

/// What a worker counts for one application and one provider, by flow.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct AuthShard {
    pub(super) attempts: [[Counter; Attempt::COUNT]; Flow::ALL.len()],
    pub(super) duration: [Histogram; Flow::ALL.len()],
}

impl Default for AuthShard {
    fn default() -> Self {
        Self {
            attempts: [const { [const { Counter::new() }; Attempt::COUNT] }; Flow::ALL.len()],
            duration: [const { Histogram::new() }; Flow::ALL.len()],
        }
    }
}

/// What a worker counts whatever the application is.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct FixedShard {
    pub(super) caches: [[Counter; Lookup::ALL.len()]; Cache::ALL.len()],
    pub(super) shed: [Counter; Shed::ALL.len()],
    pub(super) tunnels: [Counter; TunnelEnd::ALL.len()],
}

impl Default for FixedShard {
    fn default() -> Self {
        Self {
            caches: [const { [const { Counter::new() }; Lookup::ALL.len()] }; Cache::ALL.len()],
            shed: [const { Counter::new() }; Shed::ALL.len()],
            tunnels: [const { Counter::new() }; TunnelEnd::ALL.len()],
        }
    }
}

/// Who writes to a shard.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Writer {
    /// Everything that is not a worker.
    Background,
    /// A worker, by its number.
    Worker(usize),
}

/// One label set with the shards of its writers.
#[derive(Debug)]
pub(super) struct Block<S> {
    pub(super) labels: Labels,
    shards: BTreeMap<Writer, Arc<S>>,
}

impl<S> Block<S> {
    /// The shards to sum.
    pub(super) fn shards(&self) -> impl Iterator<Item = &S> {
        self.shards.values().map(Arc::as_ref)
    }
}

/// All blocks of one kind, in the order in which they came.
#[derive(Debug)]
pub(super) struct Blocks<S> {
    /// How many label sets there may be; what comes later shares one labelled `other`.
    limit: usize,
    inner: Mutex<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    places: HashMap<Labels, usize>,
    blocks: Vec<Block<S>>,
}

impl<S: Default> Blocks<S> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            inner: Mutex::new(Inner {
                places: HashMap::new(),
                blocks: Vec::new(),
            }),
        }
    }

    /// The shard of `writer` with these labels.
    pub(super) fn shard(&self, mut labels: Labels, writer: Writer) -> Arc<S> {
        let mut inner = self.lock();
        if self.limit <= inner.blocks.len() && !inner.places.contains_key(&labels) {
            labels = labels.iter().map(|_| Box::from(OTHER)).collect();
        }
        let next = inner.blocks.len();
        let place = *inner.places.entry(labels.clone()).or_insert(next);
        if place == next {
            inner.blocks.push(Block {
                labels,
                shards: BTreeMap::new(),
            });
        }
        inner.blocks.get_mut(place).map_or_else(
            || Arc::new(S::default()),
            |block| Arc::clone(block.shards.entry(writer).or_default()),
        )
    }

    /// Calls `visit` with every block and its place.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, &Block<S>)) {
        for (place, block) in self.lock().blocks.iter().enumerate() {
            visit(place, block);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::series::labels;

    #[test]
    fn the_same_labels_and_writer_give_the_same_shard() {
        let blocks = Blocks::<AppShard>::new(10);
        let first = blocks.shard(labels(["crm"]), Writer::Worker(0));
        let again = blocks.shard(labels(["crm"]), Writer::Worker(0));
        let other = blocks.shard(labels(["crm"]), Writer::Worker(1));
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn label_sets_beyond_the_limit_share_one_block() {
        let blocks = Blocks::<AppShard>::new(1);
        blocks.shard(labels(["a"]), Writer::Background);
        let b = blocks.shard(labels(["b"]), Writer::Background);
        let c = blocks.shard(labels(["c"]), Writer::Background);
        assert!(Arc::ptr_eq(&b, &c));
        let mut seen = Vec::new();
        blocks.each(|_, block| seen.push(block.labels[0].to_string()));
        assert_eq!(seen, ["a", OTHER]);
    }
}
