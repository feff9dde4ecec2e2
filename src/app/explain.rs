//! What would happen to a person at an application, without asking anybody.

use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::admin::AcceptView;
use crate::admin::ExplainRequest;
use crate::admin::Explanation;
use crate::admin::HeaderView;
use crate::app::process::Process;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::ClaimMap;
use crate::identity::CredentialClass;
use crate::identity::HeaderScope;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::canonical;
use crate::proxy::canonical::canonical_path;
use crate::proxy::route::route_of;
use crate::proxy::settings::App;
use crate::rollout;
use crate::rollout::Acceptance;
use crate::rollout::Facts;
use crate::rollout::Person;
use crate::rollout::Plan;

/// Answers the question with the code that answers requests.
///
/// # Errors
///
/// When the question names what does not exist.
pub(super) fn explain(
    process: &Process,
    settings: &Settings,
    question: &ExplainRequest,
) -> Result<Explanation, String> {
    let app = settings
        .apps
        .iter()
        .find(|app| app.id.as_str() == question.app);
    let app = app.ok_or_else(|| format!("there is no application `{}`", question.app))?;
    let plan = settings.rollouts.iter().find(|plan| plan.covers(&app.id));
    let single = settings
        .single
        .iter()
        .find(|(id, _)| *id == app.id)
        .map(|(_, provider)| provider);
    let vouches = voucher(settings, question, plan, single)?;
    let identity = identity(question, &vouches)?;
    let name = match &settings.canonical {
        Some(c) if question.subject_is_raw() => {
            canonical(&c.template, &c.normalise, &identity).map_err(|error| error.to_string())?
        }
        Some(_) | None => {
            CanonicalSubject::named(&question.subject).map_err(|error| error.to_string())?
        }
    };
    let host = app.hosts.first().map_or("", |host| host);
    let method = match &question.method {
        Some(name) => Method::from_bytes(name.as_bytes())
            .map_err(|error| format!("method `{name}`: {error}"))?,
        None => Method::GET,
    };
    let path = question.path.as_deref().unwrap_or("/");
    let path = canonical_path(path).map_err(|fault| format!("path `{path}`: {fault}"))?;
    let facts = Facts {
        app: &app.id,
        host,
        path: &path,
        method: method.as_str(),
        client_ip: question.address,
        peer: None,
        header_equals: None,
        device: None,
        person: Some(Person {
            canonical: &name,
            identity: &identity,
        }),
    };
    let mut answer = Explanation {
        revision: settings.revision.to_string(),
        ..Explanation::default()
    };
    answer.route = route(app, &path, &method);
    answer.headers = headers(app, &identity, &name);
    match plan {
        Some(plan) => assigned(process, settings, plan, &facts, &mut answer),
        None => {
            answer.provider = vouches.to_string();
            answer.kill = process.kill.current().global.as_str().to_owned();
            answer
                .steps
                .push("no rollout moves this application".to_owned());
        }
    }
    Ok(answer)
}

fn assigned(
    process: &Process,
    settings: &Settings,
    plan: &Plan,
    facts: &Facts<'_>,
    answer: &mut Explanation,
) {
    let (kill, now) = (
        process.kill.current().position(&plan.id),
        process.clock.now(),
    );
    let assignment = rollout::assign(
        plan,
        &settings.cohorts,
        &settings.bucket_key,
        kill,
        None,
        facts,
        now,
    );
    answer.rollout = Some(plan.id.to_string());
    answer.stage = Some(plan.stage.id.to_string());
    answer.mode = Some(plan.stage.mode.as_str().to_owned());
    answer.kill = kill.as_str().to_owned();
    answer.arm = Some(assignment.arm.as_str().to_owned());
    answer.rule = Some(assignment.rule.to_string());
    answer.bucket = assignment.bucket.map(rollout::Bucket::number);
    answer.provider = plan.provider(assignment.arm).to_string();
    answer.steps.push(format!("kill switch: {}", kill.as_str()));
    for (place, rule) in plan.stage.assign.iter().enumerate() {
        let matches = match &rule.cohort {
            None => Some(true),
            Some(id) => settings
                .cohorts
                .get(id)
                .and_then(|cohort| cohort.contains(facts)),
        };
        let whom = rule.cohort.as_ref().map_or("everybody", |id| id.as_str());
        let word = match matches {
            Some(true) => "hit",
            Some(false) => "miss",
            None => "not known",
        };
        answer.steps.push(format!(
            "assign[{place}] {whom} to {}: {word}",
            plan.provider(rule.to)
        ));
    }
    answer.steps.push(format!(
        "arm {} by {}",
        assignment.arm.as_str(),
        assignment.rule
    ));
    for provider in [&plan.from, &plan.to] {
        for class in CredentialClass::ALL {
            let acceptance =
                match rollout::accept(plan, &settings.cohorts, kill, provider, class, facts, now) {
                    Acceptance::Accepted => "accepted",
                    Acceptance::OnlyExcept => "only_except",
                    Acceptance::NotAccepted => "not_accepted",
                    Acceptance::Quarantined => "quarantined",
                };
            answer.accepts.push(AcceptView {
                provider: provider.to_string(),
                credential: class.as_str().to_owned(),
                acceptance: acceptance.to_owned(),
            });
        }
    }
}

fn voucher(
    settings: &Settings,
    question: &ExplainRequest,
    plan: Option<&Plan>,
    single: Option<&ProviderId>,
) -> Result<ProviderId, String> {
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

fn identity(question: &ExplainRequest, provider: &ProviderId) -> Result<Identity, String> {
    let subject =
        Subject::try_from(question.subject.as_str()).map_err(|error| error.to_string())?;
    let mut attributes = ClaimMap::new(question.claims.clone());
    if attributes.member("subject").is_none() {
        // The name of a person is often a prefix and the subject: `uid:1002`.
        let bare = question
            .subject
            .split_once(':')
            .map_or(question.subject.as_str(), |(_, bare)| bare);
        attributes.insert("subject", Value::from(bare));
    }
    if !question.groups.is_empty() {
        attributes.insert("groups", question.groups.clone().into());
    }
    if let Some(email) = &question.email {
        attributes.insert("email", Value::from(email.as_str()));
        attributes.insert("email_verified", Value::from(true));
    }
    Ok(Identity {
        provider: provider.clone(),
        key: SubjectKey {
            issuer: Issuer::new(provider.as_str()),
            subject,
        },
        attributes: Arc::new(attributes),
        client_id: None,
        acr: None,
        scopes: Box::default(),
    })
}

fn route(app: &App, path: &str, method: &Method) -> Option<String> {
    let route = app.routes.get(route_of(app, method, path)?)?;
    Some(format!("{} ({:?})", route.path, route.access).to_ascii_lowercase())
}

fn headers(app: &App, identity: &Identity, name: &CanonicalSubject) -> Vec<HeaderView> {
    let scope = HeaderScope {
        identity,
        canonical: Some(name),
        link: None,
    };
    let one = |rule: &crate::proxy::settings::HeaderRule| {
        let (value, error) = match rule.template.render(&scope) {
            Ok(value) => (
                value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                None,
            ),
            Err(error) => (None, Some(error.to_string())),
        };
        HeaderView {
            name: rule.name.to_string(),
            value,
            error,
        }
    };
    app.identity_headers.iter().map(one).collect()
}
