//! One generation of the configuration, live. A request sees exactly one.

use std::sync::Arc;

use crate::auth::AppPolicy;
use crate::auth::Gate;
use crate::auth::Logins;
use crate::auth::Look;
use crate::issuer::Issuer;
use crate::proxy::country::Countries;
use crate::proxy::route::Router;
use crate::proxy::settings::App;
use crate::proxy::settings::Server;
use crate::proxy::upstream::Target;
use crate::proxy::upstream_head::HeadPolicy;
use crate::telemetry::metrics::Names;

/// Everything a request needs to know that a reload can change.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts reloads; part of every kept verdict.
    pub(crate) generation: u64,
    /// The revision of the file.
    pub(crate) revision: Box<str>,
    /// Limits and trusted proxies.
    pub(crate) server: Server,
    /// Which address is in which country, where a route asks.
    pub(crate) countries: Option<Arc<Countries>>,
    /// Hosts and paths.
    pub(crate) router: Router,
    /// Applications, in the order the router numbers them.
    pub(crate) apps: Vec<AppEntry>,
    /// Who comes in.
    pub(crate) gate: Gate,
    /// Who gives tokens to clients.
    pub(crate) issuer: Option<Issuer>,
    /// Where the others go.
    pub(crate) logins: Logins,
    /// How our pages look.
    pub(crate) look: Arc<Look>,
    /// The names behind the indices of the metrics.
    pub(crate) names: Arc<Names>,
}

/// One application.
#[derive(Debug)]
pub(crate) struct AppEntry {
    /// What the configuration says.
    pub(crate) settings: App,
    /// Who may vouch for its people.
    pub(crate) policy: AppPolicy,
    /// What of a client's head goes to the application.
    pub(crate) head: HeadPolicy,
    /// Where it lives.
    pub(crate) target: Arc<Target>,
    /// Whether it is counted what it answers itself.
    pub(crate) observed: bool,
    /// Where routes lead that have an upstream of their own.
    pub(crate) routes: Vec<Option<Arc<Target>>>,
}

impl Snapshot {
    /// The token endpoint at the hosts of an application.
    pub(super) fn issuer_at(&self, app: &AppEntry) -> Option<&Issuer> {
        let issuer = self.issuer.as_ref()?;
        issuer.answers_at(&app.settings.id).then_some(issuer)
    }
}

impl AppEntry {
    /// The upstream of a route, or of the application.
    pub(super) fn target_of(&self, route: usize) -> &Arc<Target> {
        self.routes
            .get(route)
            .and_then(Option::as_ref)
            .unwrap_or(&self.target)
    }
}
