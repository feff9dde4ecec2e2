//! The token endpoint from settings, in one snapshot.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::auth::Limits;
use crate::auth::Replays;
use crate::auth::Reports;
use crate::entropy::Entropy;
use crate::exchange::Binding;
use crate::exchange::Exchange;
use crate::exchange::Exchanges;
use crate::identity::ProviderId;
use crate::identity::Thumbprint;
use crate::issuer::PATH;
use crate::issuer::habits::Habits;
use crate::issuer::learned::Owner;
use crate::issuer::refresh::Families;
use crate::issuer::refresh::Farewells;
use crate::issuer::settings;
use crate::issuer::settings::Settings;
use crate::providers::Providers;
use crate::providers::TokenClient;
use crate::revocation::Revocations;
use crate::rollout::AppId;
use crate::session::Sessions;
use crate::store::Store;

/// What the endpoint needs of the rest of the program.
#[derive(Clone)]
pub(crate) struct Deps {
    /// Where learned secrets and refresh tokens are.
    pub(crate) store: Arc<dyn Store>,
    /// Which assertions have been used.
    pub(crate) replays: Arc<Replays>,
    /// Who has come how often.
    pub(crate) limits: Arc<Limits>,
    /// What clients do usually; the same value in every snapshot.
    pub(crate) habits: Arc<Habits>,
    /// Who slows down those that guess.
    pub(crate) revocations: Arc<Revocations>,
    /// Whose key ring seals what stands behind refresh tokens.
    pub(crate) sessions: Arc<Sessions>,
    /// Where unpredictable bytes come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Where calls to providers run.
    pub(crate) background: Handle,
    /// Where it is told.
    pub(crate) reports: Reports,
}

/// Our token endpoint.
pub(crate) struct Issuer {
    pub(super) app: AppId,
    pub(super) issuer: Box<str>,
    pub(super) token_endpoint: Box<str>,
    pub(super) audiences: HashMap<Box<str>, Vec<Arc<Exchange>>>,
    pub(super) resources: Resources,
    pub(super) clients: HashMap<Box<str>, Client>,
    /// What we mint tokens as.
    pub(super) mints: Box<[Box<str>]>,
    /// The exchanges whose tokens some application takes as credentials.
    pub(super) presented: Box<[Box<str>]>,
    pub(super) limits: settings::Limits,
    pub(super) families: Arc<Families>,
    pub(super) farewells: Farewells,
    pub(super) deps: Deps,
}

/// What each provider calls an audience.
type Named = Vec<(ProviderId, Box<str>)>;

/// What providers call audiences as resources (RFC 8707).
#[derive(Clone, Debug, Default)]
pub(super) struct Resources(Arc<HashMap<Box<str>, Named>>);

impl Resources {
    fn new(settings: &Settings) -> Self {
        let all = settings.audiences.iter();
        let all = all.map(|own| (own.name.clone(), own.resources.clone()));
        Self(Arc::new(all.collect()))
    }

    /// `None`: the provider has no other word for it.
    pub(super) fn of(&self, audience: &str, provider: &ProviderId) -> Option<Box<str>> {
        let mut known = self.0.get(audience)?.iter();
        let (_, resource) = known.find(|(own, _)| own == provider)?;
        Some(resource.clone())
    }
}

/// A client, ready to be asked about.
pub(super) struct Client {
    pub(super) settings: settings::Client,
    pub(super) at: HashMap<ProviderId, Arc<TokenClient>>,
    pub(super) learns_at: Option<Owner>,
}

impl Client {
    /// The certificate of a connection, where the client is known by it: what it is given may be bound to that (RFC 8705 §3).
    pub(super) fn shown(&self, certificate: Option<Thumbprint>) -> Option<Thumbprint> {
        let own = &self.settings.certificates;
        certificate.filter(|shown| own.contains(shown))
    }
}

impl Issuer {
    /// Whether there is a way to a token for an audience that is bound to a key.
    pub(super) fn binds(&self, audience: &str) -> bool {
        let ways = self.audiences.get(audience).into_iter().flatten();
        let mut ways = ways.map(|way| way.binding());
        ways.any(|binding| binding == Binding::Keep)
    }

    /// Whether every way to a token for an audience leads to one that is bound to a key: whichever side somebody belongs to.
    pub(super) fn always_binds(&self, audience: &str) -> bool {
        let ways = self.audiences.get(audience).into_iter().flatten();
        let mut ways = ways.map(|way| way.binding());
        ways.all(|binding| binding == Binding::Keep)
    }

    /// Whether what comes of these ways may be presented to us as a credential.
    pub(super) fn is_presented(&self, ways: &[Arc<Exchange>]) -> bool {
        let presented = |way: &Arc<Exchange>| self.presented.iter().any(|own| **own == *way.name());
        ways.iter().any(presented)
    }

    /// Builds it; nobody is asked.
    ///
    /// # Errors
    ///
    /// When an exchange does not exist, a provider has no token endpoint, or a key is none.
    pub(crate) fn build(
        settings: &Settings,
        exchanges: &Exchanges,
        providers: &Providers,
        deps: Deps,
    ) -> Result<Self, String> {
        let exchange = |name: &str| {
            let found = exchanges.named(name).map(Arc::clone);
            found.ok_or_else(|| format!("token_endpoint: there is no exchange `{name}`"))
        };
        let audience = |audience: &settings::Audience| {
            let ways = audience.exchanges.iter().map(|name| exchange(name));
            Ok((audience.name.clone(), ways.collect::<Result<_, String>>()?))
        };
        let client = |client: &settings::Client| {
            let at = client.at.iter().map(|(provider, registration)| {
                let known = providers.named(provider);
                let at = known.and_then(|known| known.token_client(Some(registration)));
                let at = at.ok_or_else(|| format!("provider `{provider}` has no token endpoint"));
                let at = at.and_then(|at| at);
                let at =
                    at.map_err(|cause| format!("token_endpoint.clients.{}.at: {cause}", client.id));
                Ok((provider.clone(), Arc::new(at?)))
            });
            let learns_at = client.learn_at.as_ref().and_then(|provider| {
                let own = client.at.iter().find(|(at, _)| at == provider)?;
                Some(Owner {
                    provider: Arc::clone(providers.named(provider)?),
                    id: own.1.id.clone(),
                })
            });
            let ready = Client {
                learns_at,
                at: at.collect::<Result<_, String>>()?,
                settings: client.clone(),
            };
            Ok((client.id.clone(), ready))
        };
        let (families, farewells) = Self::new_families(&deps);
        Ok(Self {
            mints: exchanges.mint_as().map(Box::from).collect(),
            presented: settings.presented.clone().into(),
            limits: settings.limits,
            resources: Resources::new(settings),
            families,
            farewells,
            app: settings.app.clone(),
            issuer: settings.issuer.clone(),
            token_endpoint: format!("{}/token", settings.issuer).into(),
            audiences: settings
                .audiences
                .iter()
                .map(audience)
                .collect::<Result<_, String>>()?,
            clients: settings
                .clients
                .iter()
                .map(client)
                .collect::<Result<_, String>>()?,
            deps,
        })
    }

    /// The issuer identifier that belongs to an origin.
    pub(crate) fn identifier(origin: &str) -> String {
        format!("{origin}{PATH}")
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
