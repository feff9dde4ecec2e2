//! What applications take of the tokens that we mint for clients: who judges them, and whose they may be.

use std::collections::HashSet;
use std::sync::Arc;

use crate::app::process::Process;
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::exchange::settings::Mint;
use crate::exchange::settings::Way;
use crate::providers::OwnKeys;
use crate::providers::OwnTokens;
use crate::providers::Provider;
use crate::proxy::settings::App;

/// What is the same for all applications of a snapshot.
pub(super) struct Taken {
    keys: Arc<dyn OwnKeys>,
    clock: Arc<dyn Clock>,
    clients: Arc<HashSet<Box<str>>>,
}

impl Taken {
    /// By the keys of the process.
    pub(super) fn of(process: &Process, settings: &Settings) -> Self {
        let clients = settings.issuer.iter().flat_map(|issuer| &issuer.clients);
        Self {
            keys: process.ring.judges(&process.clock),
            clock: Arc::clone(&process.clock),
            clients: Arc::new(clients.map(|client| client.id.clone()).collect()),
        }
    }

    /// The clients of the token endpoint.
    pub(super) fn clients(&self) -> Arc<HashSet<Box<str>>> {
        Arc::clone(&self.clients)
    }

    /// Who judges what an application takes: one for each issuer.
    pub(super) fn at(&self, app: &App, settings: &Settings) -> Vec<Arc<dyn Provider>> {
        let mut all: Vec<OwnTokens> = Vec::new();
        for mint in app
            .minted_tokens
            .iter()
            .filter_map(|name| mint(settings, name))
        {
            match all.iter_mut().find(|own| own.issuer == mint.issuer) {
                Some(own) => {
                    own.audiences.extend(mint.audiences.iter().cloned());
                    own.max_life = own.max_life.max(mint.ttl);
                }
                None => all.push(OwnTokens {
                    issuer: mint.issuer.clone(),
                    audiences: mint.audiences.clone(),
                    max_life: mint.ttl,
                }),
            }
        }
        let judge = |own: OwnTokens| own.judge(Arc::clone(&self.keys), &self.clock);
        all.into_iter().map(judge).collect()
    }
}

fn mint<'a>(settings: &'a Settings, name: &str) -> Option<&'a Mint> {
    let mut all = settings.exchanges.iter();
    match &all.find(|exchange| *exchange.name == *name)?.way {
        Way::Mint(mint) => Some(mint),
        Way::TokenExchange(_) | Way::Assertion(..) => None,
    }
}
