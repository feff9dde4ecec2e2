//! From settings to a live snapshot. What did not change is taken over; what cannot be reached starts degraded.

use std::sync::Arc;

use crate::app::minted;
use crate::app::old_systems::fields;
use crate::app::old_systems::forms;
use crate::app::old_systems::others;
use crate::app::old_systems::single;
use crate::app::process::Process;
use crate::app::registered::registered;
use crate::app::second::Reading;
use crate::auth::AppExchanges;
use crate::auth::AppPolicy;
use crate::auth::Clients;
use crate::auth::Deps;
use crate::auth::Gate;
use crate::auth::Joiner;
use crate::auth::LoginSettings;
use crate::auth::Logins;
use crate::auth::Look;
use crate::auth::PolicyParts;
use crate::auth::Possession;
use crate::auth::Reports;
use crate::config::settings::Settings;
use crate::exchange;
use crate::exchange::Exchanges;
use crate::issuer;
use crate::issuer::Issuer;
use crate::providers;
use crate::providers::Providers;
use crate::proxy::AppEntry;
use crate::proxy::CookieNames;
use crate::proxy::HeadPolicy;
use crate::proxy::Protected;
use crate::proxy::Router;
use crate::proxy::Snapshot;
use crate::proxy::Steering;
use crate::proxy::Target;
use crate::proxy::country::Countries;
use crate::proxy::settings::App;
use crate::proxy::settings::Route;
use crate::proxy::settings::Upstream;
use crate::rollout::AppId;
use crate::telemetry::metrics::Names;

/// What the next build takes over, where it did not change.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// Providers, with their connections, keys and breakers.
    pub(super) providers: Arc<Providers>,
    /// Exchanges, with what they keep.
    exchanges: Arc<Exchanges>,
}

/// Builds a snapshot. Nothing of it waits for a provider.
///
/// # Errors
///
/// What a configuration asks for and cannot be built, such as a certificate authority that cannot be read.
pub(super) fn snapshot(
    process: &Process,
    settings: &Settings,
    before: Option<(&Built, &Snapshot)>,
    generation: u64,
) -> Result<(Snapshot, Built), String> {
    let (built, before) = before.unzip();
    let deps = providers::Deps {
        clock: Arc::clone(&process.clock),
        entropy: Arc::clone(&process.entropy),
        metrics: Arc::clone(&process.metrics),
        background: process.background.clone(),
        state_dir: settings.state_dir.clone(),
    };
    let live = built.map(|built| &*built.providers);
    let providers = providers::build(&settings.providers, live, &deps)
        .map_err(|problems| problems.to_string())?;
    let providers = Arc::new(providers);
    let exchanges = Exchanges::build(
        &settings.exchanges,
        &providers,
        built.map(|built| &*built.exchanges),
        &exchange::Deps {
            clock: Arc::clone(&process.clock),
            entropy: Arc::clone(&process.entropy),
            background: process.background.clone(),
            ring: Arc::clone(&process.ring),
        },
    )?;
    let gate = Deps {
        providers: Arc::clone(&providers),
        cohorts: Arc::new(settings.cohorts.clone()),
        bucket_key: settings.bucket_key.clone(),
        joiner: Joiner::new(
            settings.canonical.clone(),
            settings.linked_in_headers(),
            Arc::clone(&process.links),
            Arc::clone(&process.metrics),
        ),
        sessions: Arc::clone(&process.sessions),
        entropy: Arc::clone(&process.entropy),
        taken: Arc::clone(&process.taken),
        notices: Arc::clone(&process.notices),
        pins: Arc::clone(&process.pins),
        homes: Arc::clone(&process.homes),
        forms: Arc::clone(&process.forms),
        revokes: settings.kill_switch.revokes,
        revocations: Arc::clone(&process.revocations),
        roles: Arc::new(settings.roles.clone()),
        unmatched: Arc::clone(&process.unmatched),
        possession: Arc::new(Possession::new(
            &settings.possession,
            &settings.bucket_key,
            Arc::clone(&process.replays),
        )),
        introspects: settings.introspects(),
        ours: exchanges.registrations().clone(),
        clients: Clients::of(registered(settings)),
        limits: Arc::clone(&process.limits),
        journeys: Arc::clone(&process.journeys),
        seen: Arc::clone(&process.seen),
        drills: Arc::clone(&process.away),
        shadow: process.shadow.desk(
            (&settings.shadow, &settings.bucket_key),
            &providers,
            &Reading::of(settings),
        ),
        background: process.background.clone(),
        reports: Reports {
            metrics: Arc::clone(&process.metrics),
            decisions: process.logs.background(),
            pseudonyms: process.pseudonyms.clone(),
            revision: settings.revision.clone(),
            traces: process.traces.clone(),
            entropy: Arc::clone(&process.entropy),
        },
    };
    let issuer = settings
        .issuer
        .as_ref()
        .map(|endpoint| {
            let deps = issuer::Deps {
                store: Arc::clone(&process.store),
                replays: Arc::clone(&process.replays),
                limits: Arc::clone(&process.limits),
                habits: Arc::clone(&process.habits),
                revocations: Arc::clone(&process.revocations),
                sessions: Arc::clone(&process.sessions),
                entropy: Arc::clone(&process.entropy),
                background: process.background.clone(),
                reports: gate.reports.clone(),
            };
            Issuer::build(endpoint, &exchanges, &providers, deps)
        })
        .transpose()?;
    let look = Arc::new(Look::new(&settings.pages));
    let login = LoginSettings {
        cookie: settings.sessions.cookie.clone(),
        secure: settings.sessions.secure,
        same_site: settings.sessions.same_site,
        revision: settings.revision.clone(),
        silent: settings.silent,
        look: Arc::clone(&look),
        kept: settings.retention.logins,
    };
    let emitted = settings.apps.iter().flat_map(|app| {
        let rules = app.identity_headers.iter().map(|rule| &rule.name);
        let fixed = app.static_headers.iter().map(|(name, _)| name);
        rules
            .chain(fixed)
            .chain(app.assertion.iter().map(|a| &a.header))
    });
    let emitted = emitted.chain(settings.exchanges.iter().map(|exchange| &exchange.header));
    let own = minted::Taken::of(process, settings);
    let shared = Shared {
        settings,
        own,
        providers: &providers,
        exchanges: &exchanges,
        protected: Arc::new(Protected::new(emitted)),
        steering: Steering::of(settings.cohorts.values()).map(Arc::new),
        own_cookies: Arc::new(CookieNames::new([], OWN_COOKIES)),
        before: before
            .map(|snapshot| targets(snapshot).cloned().collect())
            .unwrap_or_default(),
    };
    let apps = settings
        .apps
        .iter()
        .map(|app| shared.entry(app))
        .collect::<Result<Vec<_>, _>>()?;
    let countries = match &settings.server.countries {
        Some(path) => Some(Arc::new(Countries::open(path)?)),
        None => None,
    };
    let snapshot = Snapshot {
        generation,
        revision: settings.revision.clone(),
        server: settings.server.clone(),
        countries,
        router: Router::new(&settings.apps),
        names: Arc::new(Names {
            apps: settings.apps.iter().map(|app| app.id.clone()).collect(),
            providers: settings.providers.iter().map(|p| p.id.clone()).collect(),
        }),
        logins: Logins::new(gate.clone(), &login),
        look,
        issuer,
        gate: Gate::new(gate),
        apps,
    };
    let exchanges = Arc::new(exchanges);
    Ok((
        snapshot,
        Built {
            providers,
            exchanges,
        },
    ))
}

/// Our cookies begin like this, on TLS and on plain loopback listeners.
const OWN_COOKIES: [&str; 3] = ["__Host-authferry", "__Secure-authferry", "authferry"];

/// What all applications of a snapshot share.
struct Shared<'a> {
    settings: &'a Settings,
    own: minted::Taken,
    providers: &'a Providers,
    exchanges: &'a Exchanges,
    protected: Arc<Protected>,
    steering: Option<Arc<Steering>>,
    own_cookies: Arc<CookieNames>,
    before: Vec<Arc<Target>>,
}

impl Shared<'_> {
    fn entry(&self, app: &App) -> Result<AppEntry, String> {
        let settings = self.settings;
        let plan = settings
            .rollouts
            .iter()
            .find(|plan| plan.covers(&app.id))
            .map(|plan| Arc::new(plan.clone()));
        let policy = AppPolicy::new(PolicyParts {
            app: app.id.clone(),
            plan,
            single: single(settings, &app.id),
            providers: self.providers,
            cohorts: &settings.cohorts,
            session_cookie: &settings.sessions.cookie,
            fallbacks: settings
                .fallbacks
                .iter()
                .filter(|fallback| fallback.app == app.id)
                .cloned()
                .collect(),
            forms: forms(settings),
            others: others(settings, &app.id),
            fields: fields(settings),
            exchanges: self.exchanges(app)?,
            rate_limits: app.rate_limits,
            wraps: settings.wrap,
            forwards_credentials: app.forward_credentials,
            logout_paths: app.logout_paths.clone(),
            own: self.own.at(app, settings),
            own_clients: self.own.clients(),
        });
        let owns = settings.providers.iter().map(|provider| &provider.owns);
        let cookies = owns
            .clone()
            .flat_map(|owns| owns.cookies.iter().map(|cookie| &**cookie));
        let head = HeadPolicy {
            protected: Arc::clone(&self.protected),
            steering: self.steering.clone(),
            own_cookies: Arc::clone(&self.own_cookies),
            credential_cookies: CookieNames::new(cookies, []),
            credential_headers: owns
                .filter_map(|owns| owns.api_key_header.clone())
                .collect(),
            forward_credentials: app.forward_credentials,
            static_headers: app.static_headers.clone(),
        };
        let of_route = |route: &Route| {
            route
                .upstream
                .as_ref()
                .map(|upstream| self.target(&app.id, upstream))
                .transpose()
        };
        Ok(AppEntry {
            target: self.target(&app.id, &app.upstream)?,
            routes: app.routes.iter().map(of_route).collect::<Result<_, _>>()?,
            observed: self
                .settings
                .shadow
                .iter()
                .any(|block| block.app == app.id && block.upstream_status),
            settings: app.clone(),
            policy,
            head,
        })
    }

    fn exchanges(&self, app: &App) -> Result<AppExchanges, String> {
        let named = |name: &str| {
            let found = self.exchanges.named(name).map(Arc::clone);
            found.ok_or_else(|| format!("apps.{}: there is no exchange `{name}`", app.id))
        };
        let of_route = |route: &Route| route.exchange.as_deref().map(named).transpose();
        Ok(AppExchanges {
            routes: app.routes.iter().map(of_route).collect::<Result<_, _>>()?,
            other_arm: app
                .other_arm_exchanges
                .iter()
                .map(|name| named(name))
                .collect::<Result<_, _>>()?,
            sessions: self.session_exchange(app).map(named).transpose()?,
        })
    }

    /// The name of what takes sessions of an application to the new side.
    fn session_exchange(&self, app: &App) -> Option<&str> {
        let mut plans = self.settings.rollouts.iter();
        let to = &plans.find(|plan| plan.covers(&app.id))?.to;
        let mut all = self.settings.session_exchanges.iter();
        let (_, name) = all.find(|(provider, _)| provider == to)?;
        Some(name)
    }

    /// A target that did not change keeps its connections.
    fn target(&self, app: &AppId, upstream: &Upstream) -> Result<Arc<Target>, String> {
        if let Some(same) = self
            .before
            .iter()
            .find(|target| target.is_current(upstream))
        {
            return Ok(Arc::clone(same));
        }
        Target::new(upstream.clone()).map_err(|error| format!("apps.{app}.upstream: {error}"))
    }
}

/// The targets of a snapshot.
fn targets(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Target>> {
    snapshot
        .apps
        .iter()
        .flat_map(|app| app.routes.iter().flatten().chain([&app.target]))
}
