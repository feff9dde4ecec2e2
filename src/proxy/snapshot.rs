//! One generation of the configuration, live. A request sees exactly one.

use std::sync::Arc;

use crate::auth::AppPolicy;
use crate::auth::Gate;
use crate::auth::Logins;
use crate::proxy::protected::Protected;
use crate::proxy::route::Router;
use crate::proxy::settings::App;
use crate::proxy::settings::Server;
use crate::telemetry::metrics::Names;
use crate::token::SigningKey;

/// Everything a request needs to know that a reload can change.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts reloads; part of every kept verdict.
    pub(crate) generation: u64,
    /// The revision of the file.
    pub(crate) revision: Box<str>,
    /// Limits and trusted proxies.
    pub(crate) server: Server,
    /// Hosts and paths.
    pub(crate) router: Router,
    /// Applications, in the order the router numbers them.
    pub(crate) apps: Vec<AppEntry>,
    /// Every header name that no client may send upstream.
    pub(crate) protected: Protected,
    /// Who comes in.
    pub(crate) gate: Gate,
    /// Where the others go.
    pub(crate) logins: Logins,
    /// The names behind the indices of the metrics.
    pub(crate) names: Arc<Names>,
    /// The key of assertions.
    pub(crate) signer: Arc<SigningKey>,
}

/// One application.
#[derive(Debug)]
pub(crate) struct AppEntry {
    /// What the configuration says.
    pub(crate) settings: App,
    /// Who may vouch for its people.
    pub(crate) policy: AppPolicy,
}
