//! `authferry check --online`: does every provider of a configuration know us, and does a login come back?

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::config::settings::Settings;
use crate::entropy::SystemEntropy;
use crate::identity::ProviderId;
use crate::providers;
use crate::providers::probe::Finding;
use crate::providers::probe::Outcome;
use crate::providers::probe::probe;
use crate::proxy::settings::App;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;

/// Providers that are asked at once.
const AT_ONCE: usize = 8;

/// What was found at one provider.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which.
    pub(crate) provider: ProviderId,
    /// What was found, in the order in which it was asked.
    pub(crate) findings: Vec<Finding>,
}

/// Where browsers find an application, if that is not where the configuration lets us think.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The application.
    pub(crate) app: String,
    /// Such as `https://crm.corp.example:8443`.
    pub(crate) origin: String,
}

/// Asks every provider, each once and with what nobody was given: nothing changes there or here.
///
/// # Errors
///
/// When an origin is given for an application that does not exist.
pub(crate) async fn check(settings: &Settings, origins: &[Origin]) -> Result<Vec<Report>, String> {
    let known = |origin: &&Origin| {
        settings
            .apps
            .iter()
            .any(|app| app.id.as_str() == origin.app)
    };
    if let Some(stray) = origins.iter().find(|origin| !known(origin)) {
        return Err(format!("there is no application `{}`", stray.app));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let deps = providers::Deps {
        metrics: Metrics::new(Arc::clone(&clock), MAX_SERIES_PER_FAMILY),
        clock,
        entropy: Arc::new(SystemEntropy),
        background: Handle::current(),
        state_dir: settings.state_dir.clone(),
    };
    let ask = async |provider: &providers::settings::Settings| {
        let origins: Vec<_> = apps_of(settings, &provider.id)
            .flat_map(|app| origins_of(settings, app, origins))
            .collect();
        Report {
            provider: provider.id.clone(),
            findings: probe(provider, &origins, &deps).await,
        }
    };
    Ok(stream::iter(&settings.providers)
        .map(ask)
        .buffered(AT_ONCE)
        .collect()
        .await)
}

/// Whether one provider is there and knows us, as far as it can be known: asked before people are moved to it.
///
/// # Errors
///
/// What is wrong, in words.
pub(crate) async fn ready(settings: &Settings, provider: &ProviderId) -> Result<(), String> {
    let mut one = settings.clone();
    one.providers.retain(|settings| settings.id == *provider);
    let reports = check(&one, &[]).await?;
    let findings = reports.iter().flat_map(|report| &report.findings);
    let wrong: Vec<&str> = findings
        .filter_map(|finding| match &finding.outcome {
            Outcome::Failed(why) => Some(why.as_str()),
            Outcome::Good(_) | Outcome::Unknown(_) => None,
        })
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// The applications whose people may sign in at a provider.
fn apps_of<'a>(settings: &'a Settings, provider: &ProviderId) -> impl Iterator<Item = &'a App> {
    settings.apps.iter().filter(move |app| {
        let moved = settings
            .rollouts
            .iter()
            .any(|plan| plan.covers(&app.id) && plan.arm(provider).is_some());
        moved
            || settings
                .single
                .iter()
                .any(|(id, single)| *id == app.id && single == provider)
    })
}

/// Where browsers find an application: at each of its hosts, by `https` on its usual port, because what stands before us
/// may listen there for us; without TLS (on this machine only) at the port of the first listener. A host that is a pattern
/// names no callback.
fn origins_of(settings: &Settings, app: &App, given: &[Origin]) -> Vec<Box<str>> {
    let given: Vec<Box<str>> = given
        .iter()
        .filter(|origin| origin.app == app.id.as_str())
        .map(|origin| origin.origin.trim_end_matches('/').into())
        .collect();
    if !given.is_empty() {
        return given;
    }
    let port = settings
        .server
        .listeners
        .first()
        .map_or(80, |listener| listener.address.port());
    let hosts = app.hosts.iter().filter(|host| !host.contains('*'));
    hosts
        .map(|host| match (settings.sessions.secure, port) {
            (true, _) => format!("https://{host}").into(),
            (false, 80) => format!("http://{host}").into(),
            (false, port) => format!("http://{host}:{port}").into(),
        })
        .collect()
}
