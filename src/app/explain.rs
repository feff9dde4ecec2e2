//! What would happen to a person at an application. Only about a pasted credential its owner is asked; nobody else ever is.

mod assigned;
mod told;

use std::sync::Arc;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::header::AUTHORIZATION;
use serde_json::Value;

use crate::admin::ExplainRequest;
use crate::admin::Explanation;
use crate::app::explain::assigned::assigned;
use crate::app::process::Process;
use crate::app::stated;
use crate::app::stated::Stated;
use crate::auth;
use crate::auth::AuthError;
use crate::config::settings::Settings;
use crate::identity::ClaimMap;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::proxy::Snapshot;
use crate::proxy::canonical::canonical_path;
use crate::proxy::route::RouteOf;
use crate::proxy::route::route_of;
use crate::proxy::settings::App;
use crate::rollout::Facts;
use crate::rollout::Hearsay;
use crate::rollout::Person;
use crate::rollout::Plan;

/// Answers the question with the code that answers requests.
///
/// # Errors
///
/// When the question names what does not exist.
pub(super) async fn explain(
    process: &Process,
    (settings, snapshot): (&Settings, &Snapshot),
    question: &ExplainRequest,
) -> Result<Explanation, String> {
    let app = settings
        .apps
        .iter()
        .find(|app| app.id.as_str() == question.app);
    let app = app.ok_or_else(|| format!("there is no application `{}`", question.app))?;
    let plan = settings.rollouts.iter().find(|plan| plan.covers(&app.id));
    let mut answer = Explanation {
        revision: settings.revision.to_string(),
        ..Explanation::default()
    };
    let stated = match &question.token {
        Some(token) => match judged(process, snapshot, app, token.expose()).await? {
            Ok((identity, class)) => {
                let owner = &identity.provider;
                answer.judged = Some(format!("{} of {owner}: good", class.as_str()));
                stated::about(settings, identity)?
            }
            Err(error) => {
                answer.judged = Some(refused(&error));
                return Ok(answer);
            }
        },
        None => stated::stated(settings, question, voucher(settings, question, app, plan)?)?,
    };
    let Stated {
        identity,
        name,
        notes,
    } = stated;
    answer.subject = name.as_str().to_owned();
    answer.steps = notes;
    let barred = process.revocations.barred_by(&identity, &name).await;
    let barred = barred.map_err(|error| error.to_string())?;
    answer.steps.extend(barred.iter().map(|by| {
        format!(
            "denied: {by} has barred an account of theirs, so nothing of theirs is let in (403)"
        )
    }));
    let host = app.hosts.first().map_or("", |host| host);
    let method = match &question.method {
        Some(name) => Method::from_bytes(name.as_bytes())
            .map_err(|error| format!("method `{name}`: {error}"))?,
        None => Method::GET,
    };
    let path = question.path.as_deref().unwrap_or("/");
    let path = canonical_path(path).map_err(|fault| format!("path `{path}`: {fault}"))?;
    let pin = match plan {
        Some(plan) => process.pins.of(&plan.id, &name, process.clock.now()).await,
        None => Ok(None),
    };
    let named = settings.linked_in_headers();
    let accounts = process
        .links
        .accounts_of(&named, &identity, &name, process.clock.now());
    let accounts = accounts.await.map_err(|error| error.to_string())?;
    let facts = |identity| Facts {
        app: &app.id,
        host,
        path: &path,
        method: method.as_str(),
        client_ip: question.address,
        peer: None,
        fields: None,
        device: None,
        hearsay: Hearsay::default(),
        person: Some(Person {
            canonical: &name,
            identity,
        }),
    };
    // Nobody has said what groups they are in: that is not to be in none.
    let unknown = question.token.is_none() && identity.attributes.member("groups").is_none();
    let unread = with_groups(&identity, false.into());
    let (known, groupless) = if unknown {
        (facts(&unread), Some(facts(&identity)))
    } else {
        (facts(&identity), None)
    };
    answer.route = Some(route(app, &path, &method));
    let links = accounts.as_deref();
    let instead = exchange(settings, app, &path, &method);
    answer.headers = told::headers(settings, app, (&identity, &name, links), unknown);
    if let Some(instead) = instead {
        answer
            .steps
            .push(told::by_exchange(instead, &identity.provider));
        answer
            .headers
            .extend(told::exchanged(instead, &identity.provider));
    }
    match plan {
        Some(plan) => assigned(
            process,
            settings,
            (plan, &pin),
            (&known, groupless.as_ref()),
            &mut answer,
        ),
        None => {
            answer.provider = identity.provider.to_string();
            answer.kill = process.kill.current().global.as_str().to_owned();
            answer
                .steps
                .push("no rollout moves this application".to_owned());
        }
    }
    Ok(answer)
}

/// The same person with other groups: a value that is no list stands for groups that are not known.
fn with_groups(identity: &Identity, groups: Value) -> Identity {
    let mut attributes = ClaimMap::clone(&identity.attributes);
    attributes.insert("groups", groups);
    Identity {
        attributes: Arc::new(attributes),
        ..identity.clone()
    }
}

/// What the owner of a pasted token says about it, at this application. The token goes nowhere else and is not shown.
async fn judged(
    process: &Process,
    snapshot: &Snapshot,
    app: &App,
    token: &str,
) -> Result<Result<(Arc<Identity>, CredentialClass), AuthError>, String> {
    let entry = snapshot
        .apps
        .iter()
        .find(|entry| entry.settings.id == app.id);
    let entry = entry.ok_or("the configuration has just changed: ask again")?;
    let field = HeaderValue::try_from(format!("Bearer {}", token.trim_ascii()));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, field.or(Err("this is not a token"))?);
    let presented = match auth::extract(&headers, None, entry.policy.owners(), &[]) {
        Ok(presented) => presented.ok_or("this is not a token")?,
        Err(error) => return Ok(Err(error)),
    };
    let asked = snapshot.gate.ask_owner(&presented, process.clock.now());
    Ok(asked.await.map(|identity| (identity, presented.class())))
}

/// Why a credential is not good, in words of the log.
fn refused(error: &AuthError) -> String {
    let provider = match error {
        AuthError::Refused { provider, .. }
        | AuthError::Unproven { provider, .. }
        | AuthError::Unavailable { provider, .. } => provider.as_ref(),
        AuthError::Forbidden { provider, .. }
        | AuthError::InsufficientScope { provider, .. }
        | AuthError::Limited { provider, .. }
        | AuthError::StepUp { provider, .. } => Some(provider),
        AuthError::Closed => None,
    };
    match provider {
        Some(provider) => format!("{provider}: {error}"),
        None => format!("{error}; no provider of this application owns it"),
    }
}

/// What the upstream of the route gets in place of a credential.
fn exchange<'a>(
    settings: &'a Settings,
    app: &App,
    path: &str,
    method: &Method,
) -> Option<&'a crate::exchange::settings::Settings> {
    let RouteOf::One(route) = route_of(app, method, path) else {
        return None;
    };
    let name = app.routes.get(route)?.exchange.as_deref()?;
    settings
        .exchanges
        .iter()
        .find(|exchange| *exchange.name == *name)
}

fn voucher(
    settings: &Settings,
    question: &ExplainRequest,
    app: &App,
    plan: Option<&Plan>,
) -> Result<ProviderId, String> {
    let single = settings
        .single
        .iter()
        .find(|(id, _)| *id == app.id)
        .map(|(_, provider)| provider);
    match &question.provider {
        Some(name) => {
            let named = settings
                .providers
                .iter()
                .find(|provider| provider.id.as_str() == name);
            named
                .map(|provider| provider.id.clone())
                .ok_or_else(|| format!("there is no provider `{name}`"))
        }
        None => plan
            .map(|plan| &plan.from)
            .or(single)
            .cloned()
            .ok_or_else(|| "nobody vouches for people there".to_owned()),
    }
}

fn route(app: &App, path: &str, method: &Method) -> String {
    match route_of(app, method, path) {
        RouteOf::One(route) => app.routes.get(route).map_or_else(String::new, |route| {
            format!("{} ({:?})", route.path, route.access).to_ascii_lowercase()
        }),
        RouteOf::None => "none: 403".to_owned(),
        RouteOf::TwoReadings => {
            "two, with its `;parameters` dropped or its `%2F` decoded, or one that takes no `%2F`: 400"
                .to_owned()
        }
    }
}
