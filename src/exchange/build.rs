//! Exchanges from settings: one set per snapshot. Of the one before, what is kept is taken over where it was made by the very
//! same, so that nothing of an earlier configuration is handed on.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::exchange::Exchange;
use crate::exchange::basis::Basis;
use crate::exchange::kept::Kept;
use crate::exchange::mint::Minter;
use crate::exchange::ours::Registrations;
use crate::exchange::ring::KeyRing;
use crate::exchange::settings;
use crate::exchange::settings::Settings;
use crate::exchange::way::Remote;
use crate::exchange::way::Way;
use crate::providers::Providers;
use crate::token::SigningKey;

/// What exchanges need of the rest of the program.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where identifiers come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Where calls to providers run.
    pub(crate) background: Handle,
    /// The keys that sign.
    pub(crate) ring: Arc<KeyRing>,
}

/// All exchanges of a snapshot, by name.
#[derive(Debug)]
pub(crate) struct Exchanges {
    all: HashMap<Box<str>, Arc<Exchange>>,
    ours: Registrations,
    /// Whoever sees a digest of a credential learns nothing. One for the process, or nothing that is kept would be found again.
    key: hmac::Key,
}

impl Exchanges {
    /// Builds them; nobody is asked. One of `before` that is as it was hands on its results, with the questions under way.
    ///
    /// # Errors
    ///
    /// When a provider has no token endpoint, or a key is none.
    pub(crate) fn build(
        all: &[Settings],
        providers: &Providers,
        before: Option<&Self>,
        deps: &Deps,
    ) -> Result<Self, String> {
        let key = before.map_or_else(|| fresh_key(deps), |before| before.key.clone());
        let ways = all.iter().map(|settings| {
            way(settings, providers).map_err(|cause| format!("exchange.{}: {cause}", settings.name))
        });
        let ways = ways.collect::<Result<Vec<_>, _>>()?;
        let ours = Registrations::of(&ways);
        let one = |(settings, way): (&Settings, Way)| {
            let target = settings.yields.as_ref().and_then(|id| providers.named(id));
            let comes_back = way
                .mints_as()
                .is_none_or(|issuer| is_owned(providers, issuer));
            let basis = Basis::of(settings, providers, comes_back);
            let same = before
                .and_then(|before| before.named(&settings.name))
                .filter(|before| before.basis == basis);
            let exchange = Exchange {
                name: settings.name.clone(),
                yields: settings.yields.clone(),
                comes_back,
                own_pass: settings.own_pass,
                binding: settings.binding,
                longer_life: settings.longer_life,
                header: settings.header.clone(),
                scheme: settings.scheme.clone(),
                scopes: settings.scopes.clone(),
                way,
                ours: ours.clone(),
                target: match &settings.way {
                    settings::Way::Mint(mint) if mint.is_under_the_ring() => {
                        Some(deps.ring.epoch().clone())
                    }
                    settings::Way::Mint(_)
                    | settings::Way::TokenExchange(_)
                    | settings::Way::Assertion(..) => target.map(|target| target.epoch().clone()),
                },
                kept: match same {
                    Some(before) => before.kept.clone(),
                    None => Kept::new(deps.background.clone(), Arc::clone(&deps.clock)),
                },
                basis,
                key: key.clone(),
                deps: deps.clone(),
            };
            (settings.name.clone(), Arc::new(exchange))
        };
        Ok(Self {
            all: all.iter().zip(ways).map(one).collect(),
            ours: ours.clone(),
            key: key.clone(),
        })
    }

    /// Our registrations that results name.
    pub(crate) const fn registrations(&self) -> &Registrations {
        &self.ours
    }

    /// Everything that we mint tokens as.
    pub(crate) fn mint_as(&self) -> impl Iterator<Item = &str> {
        self.all.values().filter_map(|exchange| exchange.mints_as())
    }

    /// By name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Exchange>> {
        self.all.get(name)
    }
}

fn fresh_key(deps: &Deps) -> hmac::Key {
    let mut key = [0; 32];
    deps.entropy.fill(&mut key);
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

/// Whether a provider here takes tokens of an issuer.
fn is_owned(providers: &Providers, issuer: &str) -> bool {
    let mut owned = providers.iter().flat_map(|one| &one.owns().issuers);
    owned.any(|own| own.as_str() == issuer)
}

fn way(settings: &Settings, providers: &Providers) -> Result<Way, String> {
    let remote = |remote: &settings::Remote| {
        let provider = providers
            .named(&remote.provider)
            .ok_or_else(|| format!("there is no provider `{}`", remote.provider))?;
        let client = provider
            .token_client(remote.client.as_ref())
            .ok_or_else(|| format!("provider `{}` has no token endpoint", remote.provider))??;
        Ok::<_, String>(Remote {
            client,
            settings: remote.clone(),
        })
    };
    Ok(match &settings.way {
        settings::Way::TokenExchange(at) => Way::TokenExchange(remote(at)?),
        settings::Way::Assertion(at, assertion) => {
            let key = match &assertion.key {
                Some(pem) => {
                    let key = SigningKey::from_pem(pem.expose().as_bytes());
                    Some(Arc::new(key.map_err(|cause| format!("key: {cause}"))?))
                }
                None => None,
            };
            Way::Assertion(remote(at)?, (**assertion).clone(), key)
        }
        settings::Way::Mint(mint) => {
            Way::Mint(Minter::new((**mint).clone(), settings.scopes.clone())?)
        }
    })
}
