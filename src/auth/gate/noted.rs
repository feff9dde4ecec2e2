//! What an upstream gets in place of a credential is noted with all that ends that: it comes back here as a credential of its own, or
//! somebody asks about it who may.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;

use crate::auth::gate::Gate;
use crate::auth::gate::exchanged::Holder;
use crate::clock::UnixTime;
use crate::exchange::Exchange;
use crate::exchange::Noted;
use crate::exchange::Token;
use crate::identity::ProviderId;
use crate::revocation::HandOut;
use crate::revocation::Revocations;
use crate::revocation::Standing;
use crate::telemetry::metrics::Metrics;

/// For so long what says no end of its own is noted, where what it was made of ends before.
const UNSAID: Duration = Duration::from_secs(86_400);

/// What a result is made of.
struct Parent {
    revocations: Arc<Revocations>,
    metrics: Arc<Metrics>,
    exchange: Box<str>,
    standing: Standing,
    owner: ProviderId,
    session: Option<[u8; 32]>,
}

#[async_trait]
impl Noted for Parent {
    async fn made(&self, token: &Token, now: UnixTime) {
        let own = Some(token.own_end).filter(|own| *own != UnixTime::NEVER);
        let made = HandOut {
            token: token.token.expose(),
            client: None,
            minted: token.minted,
            key: token.key.as_deref().filter(|_| token.minted),
            parent: &self.standing,
            owner: &self.owner,
            origin: None,
            ends: own.unwrap_or(now + UNSAID).max(token.ends),
        };
        let noted = self
            .revocations
            .notes_made(made, self.session.as_ref(), now);
        if let Err(error) = noted.await {
            // The upstream has waited for it as long as for a write, and gets what lives as long as it says itself.
            warn!(%error, exchange = &*self.exchange, "What an upstream gets could not be noted; it may outlive what it was made of.");
            self.metrics.exchange_unnoted(&self.exchange);
        }
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parent")
    }
}

impl Gate {
    /// Who notes what is made for an upstream; what a client gets is noted as its own.
    pub(super) fn noted(&self, exchange: &Exchange, holder: &Holder<'_>) -> Option<Arc<dyn Noted>> {
        let asked_about = self.deps.introspects && exchange.mints_as().is_some();
        if holder.narrowed || !(exchange.comes_back() || asked_about) {
            return None;
        }
        Some(Arc::new(Parent {
            revocations: Arc::clone(&self.deps.revocations),
            metrics: Arc::clone(&self.deps.reports.metrics),
            exchange: exchange.name().into(),
            standing: holder.standing.clone(),
            owner: holder.identity.provider.clone(),
            session: holder.session,
        }))
    }
}
