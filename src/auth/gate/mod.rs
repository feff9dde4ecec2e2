//! The gate: a presented credential becomes an admitted identity, or an error. Nothing else does.

mod admitted;

pub(crate) use admitted::Admitted;
pub(crate) use admitted::Reach;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::auth::canonical::Joiner;
use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::policy::AppPolicy;
use crate::auth::watch::Watch;
use crate::clock::UnixTime;
use crate::providers::Providers;
use crate::rollout::BucketKey;
use crate::rollout::Cohorts;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::session::Pins;
use crate::session::Sessions;

/// What the gate and the login work with, in one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    /// All providers.
    pub(crate) providers: Arc<Providers>,
    /// All cohorts.
    pub(crate) cohorts: Arc<Cohorts>,
    /// The key of the bucket hash.
    pub(crate) bucket_key: BucketKey,
    /// Who is one person across providers.
    pub(crate) joiner: Joiner,
    /// Our sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// Who has been on the new side.
    pub(crate) pins: Arc<Pins>,
    /// Where calls to providers run.
    pub(crate) background: Handle,
    /// Who counts and logs.
    pub(crate) watch: Arc<dyn Watch>,
}

/// Admits, or does not. One per snapshot.
#[derive(Debug)]
pub(crate) struct Gate {
    deps: Deps,
}

impl Gate {
    /// A gate for one snapshot.
    pub(crate) const fn new(deps: Deps) -> Self {
        Self { deps }
    }

    /// Admits the holder of a credential to an application, or says why not.
    ///
    /// # Errors
    ///
    /// See [`AuthError`]: each ends the request.
    pub(crate) async fn admit(
        &self,
        policy: &AppPolicy,
        presented: &Presented<'_>,
        facts: &Facts<'_>,
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        todo!()
    }
}
