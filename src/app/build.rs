//! From settings to a live snapshot. What did not change is taken over; what cannot be reached starts degraded.

use std::collections::HashMap;
use std::sync::Arc;

use crate::app::process::Process;
use crate::auth::AppPolicy;
use crate::auth::Deps;
use crate::auth::Gate;
use crate::auth::Joiner;
use crate::auth::LoginSettings;
use crate::auth::Logins;
use crate::auth::PolicyParts;
use crate::auth::Reports;
use crate::config::settings::Settings;
use crate::identity::ProviderId;
use crate::providers;
use crate::providers::Built;
use crate::providers::Providers;
use crate::providers::settings::KindSettings;
use crate::proxy::AppEntry;
use crate::proxy::Protected;
use crate::proxy::Router;
use crate::proxy::Snapshot;
use crate::proxy::settings::App;
use crate::rollout::AppId;
use crate::telemetry::metrics::Names;

/// Builds a snapshot. Nothing of it waits for a provider.
///
/// # Errors
///
/// What a configuration asks for and cannot be built, such as a certificate authority that cannot be read.
pub(super) fn snapshot(
    process: &Process,
    settings: &Settings,
    before: &Built,
    generation: u64,
) -> Result<(Snapshot, Built), String> {
    let deps = providers::Deps {
        clock: Arc::clone(&process.clock),
        entropy: Arc::clone(&process.entropy),
        metrics: Arc::clone(&process.metrics),
        background: process.background.clone(),
        state_dir: settings.state_dir.clone(),
    };
    let built = providers::build(&settings.providers, &deps, before).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let providers = Arc::new(built.providers());
    let gate = Deps {
        providers: Arc::clone(&providers),
        cohorts: Arc::new(settings.cohorts.clone()),
        bucket_key: settings.bucket_key.clone(),
        joiner: Joiner::new(settings.canonical.clone(), Arc::clone(&process.links)),
        sessions: Arc::clone(&process.sessions),
        entropy: Arc::clone(&process.entropy),
        taken: Arc::clone(&process.taken),
        pins: Arc::clone(&process.pins),
        background: process.background.clone(),
        reports: Reports {
            metrics: Arc::clone(&process.metrics),
            decisions: process.logs.background(),
            pseudonyms: process.pseudonyms.clone(),
            revision: settings.revision.clone(),
        },
    };
    let login = LoginSettings {
        cookie: settings.sessions.cookie.clone(),
        secure: settings.sessions.secure,
        revision: settings.revision.clone(),
    };
    let apps: Vec<AppEntry> = settings.apps.iter().map(|app| entry(settings, &providers, app)).collect();
    let emitted = settings.apps.iter().flat_map(|app| {
        let rules = app.identity_headers.iter().map(|rule| &rule.name);
        let fixed = app.static_headers.iter().map(|(name, _)| name);
        rules.chain(fixed).chain(app.assertion.iter().map(|a| &a.header))
    });
    let snapshot = Snapshot {
        generation,
        revision: settings.revision.clone(),
        server: settings.server.clone(),
        router: Router::new(&settings.apps),
        protected: Protected::new(emitted),
        names: Arc::new(Names {
            apps: settings.apps.iter().map(|app| app.id.clone()).collect(),
            providers: settings.providers.iter().map(|p| p.id.clone()).collect(),
        }),
        session_cookie: settings.sessions.cookie.clone(),
        logins: Logins::new(gate.clone(), &login),
        gate: Gate::new(gate),
        apps,
    };
    Ok((snapshot, built))
}

fn entry(settings: &Settings, providers: &Providers, app: &App) -> AppEntry {
    let plan = settings.rollouts.iter().find(|plan| plan.covers(&app.id)).map(|plan| Arc::new(plan.clone()));
    let policy = AppPolicy::new(PolicyParts {
        app: app.id.clone(),
        plan,
        single: single(settings, &app.id),
        providers,
        cohorts: &settings.cohorts,
        session_cookie: &settings.sessions.cookie,
        fallbacks: settings.fallbacks.iter().filter(|fallback| fallback.app == app.id).cloned().collect(),
        forms: forms(settings),
    });
    let owns = settings.providers.iter().map(|provider| &provider.owns);
    AppEntry {
        credential_cookies: owns.clone().flat_map(|owns| owns.cookies.iter().cloned()).collect(),
        credential_headers: owns.filter_map(|owns| owns.api_key_header.clone()).collect(),
        settings: app.clone(),
        policy,
    }
}

fn single(settings: &Settings, app: &AppId) -> Option<ProviderId> {
    settings.single.iter().find(|(id, _)| id == app).map(|(_, provider)| provider.clone())
}

/// Sign-in forms at the application itself.
fn forms(settings: &Settings) -> HashMap<ProviderId, String> {
    let form = |provider: &providers::settings::Settings| match &provider.kind {
        KindSettings::SessionProbe(probe) => Some((provider.id.clone(), probe.login_path.clone()?)),
        KindSettings::Oidc(_)
        | KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_) => None,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => None,
    };
    settings.providers.iter().filter_map(form).collect()
}
