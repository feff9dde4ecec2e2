//! Whether requests should be sent here, for load balancers and operators.

use http::StatusCode;
use serde::Serialize;

use crate::admin::respond;
use crate::admin::respond::Answer;
use crate::admin::routes::Context;

#[derive(Debug, Serialize)]
struct ReadyView {
    /// `ready`, `degraded`, `starting`, `draining`, `unavailable`.
    status: &'static str,
    /// Providers that cannot judge now, or judge by what their file said before, with the reason.
    degraded: Vec<crate::admin::backend::ProviderView>,
    /// Whether the store answers, if one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<bool>,
}

/// 200 while requests should come here: started, not draining, and at least one provider can judge (or none is
/// configured). A provider that is away makes us degraded, not unready: everybody else's requests still work here, and
/// the other instances see the same provider. A shared store that is away may be reached by another instance.
pub(super) fn ready(context: &Context) -> Answer {
    let readiness = context.backend.readiness();
    let providers = readiness.providers;
    let store = readiness.store;
    let away = !providers.is_empty() && providers.iter().all(|provider| !provider.usable);
    let degraded: Vec<_> = providers
        .into_iter()
        .filter(|provider| !provider.usable || provider.reason.is_some())
        .collect();
    let status = if !readiness.started {
        "starting"
    } else if readiness.draining {
        "draining"
    } else if away || store == Some(false) {
        "unavailable"
    } else if !degraded.is_empty() {
        "degraded"
    } else {
        "ready"
    };
    let code = match status {
        "ready" | "degraded" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let view = ReadyView {
        status,
        degraded,
        store,
    };
    respond::json(code, &view)
}
