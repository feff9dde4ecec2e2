//! The store of the configuration, opened at start.

use std::sync::Arc;

use crate::app::StartError;
use crate::config::settings::Settings;
use crate::control::Shared;
use crate::entropy::Entropy;
use crate::session::settings::StoreKind;
use crate::store::Counted;
use crate::store::EMBEDDED_ROWS;
use crate::store::EmbeddedStore;
use crate::store::MEMORY_ROWS;
use crate::store::MemoryStore;
use crate::store::RedisStore;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Opens the store of the configuration. One that cannot be reached does not stop a start.
pub(super) fn open(
    settings: &Settings,
    entropy: &Arc<dyn Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Store>, StartError> {
    let store: Arc<dyn Store> = match &settings.sessions.store {
        StoreKind::Memory => Arc::new(MemoryStore::new(MEMORY_ROWS)),
        StoreKind::Embedded => {
            let path = settings.state_dir.join("store.redb");
            let opened = EmbeddedStore::open(&path, EMBEDDED_ROWS);
            Arc::new(
                opened
                    .map_err(|error| StartError::Build(format!("{}: {error}", path.display())))?,
            )
        }
        StoreKind::Redis(redis) => {
            let started = RedisStore::start(redis, Arc::clone(entropy), Arc::clone(metrics));
            Arc::new(
                started.map_err(|error| StartError::Build(format!("sessions.redis: {error}")))?,
            )
        }
    };
    Ok(Arc::new(Counted::new(store, Arc::clone(metrics))))
}

/// Where this instance agrees with others, if there may be others.
pub(super) fn instances(
    store: &Arc<dyn Store>,
    node: &str,
    entropy: &Arc<dyn Entropy>,
) -> Option<Arc<Shared>> {
    let shared = || Arc::new(Shared::new(Arc::clone(store), node, &entropy.token()));
    store.is_shared().then(shared)
}
