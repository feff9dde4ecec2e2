//! Exercises: begun, recorded, judged by what was seen, and kept for the stage that asks for them.
//!
//! A token of an exercise is shown to the provider's adapter alone and is good for nothing; an outage is met by one cohort, and
//! ends by itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tracing::info;

use crate::admin::DrillRequest;
use crate::admin::DrillView;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::identity::Credential;
use crate::identity::ProviderId;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::settings::KindSettings;
use crate::rollout::CohortId;
use crate::rollout::Course;
use crate::rollout::Drill;
use crate::rollout::KillPosition;
use crate::secret::Secret;

/// Exercises that are remembered.
const MAX_KEPT: usize = 20;
/// The longest.
const LONGEST: Duration = Duration::from_hours(1);
/// A share of other people who meet an outage meanwhile, above which it was no exercise.
const MOST_OTHERS: f64 = 0.01;

/// The exercises of this instance, the last one last.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<VecDeque<DrillView>>);

impl Board {
    fn all(&self) -> MutexGuard<'_, VecDeque<DrillView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(super) fn shown(&self) -> Vec<DrillView> {
        self.all().iter().cloned().collect()
    }

    fn begin(&self, drill: Drill, rollout: &str) -> DrillView {
        let mut all = self.all();
        let view = DrillView {
            number: all.back().map_or(1, |last| last.number + 1),
            name: drill.as_str().to_owned(),
            rollout: rollout.to_owned(),
            state: String::from("running"),
            seen: Vec::new(),
        };
        if all.len() == MAX_KEPT {
            all.pop_front();
        }
        all.push_back(view.clone());
        view
    }

    fn end(&self, view: DrillView) {
        let mut all = self.all();
        if let Some(own) = all.iter_mut().find(|one| one.number == view.number) {
            *own = view;
        }
    }
}

/// Begins an exercise; how it ends is seen on the board.
///
/// # Errors
///
/// Why not, in words.
pub(super) async fn begin(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    wanted: DrillRequest,
    actor: &str,
) -> Result<DrillView, String> {
    let drill = Drill::named(&wanted.name).ok_or_else(|| {
        let words = Drill::ALL.map(Drill::as_str).join(", ");
        format!("`{}` is no exercise: {words}", wanted.name)
    })?;
    if wanted.reason.trim().is_empty() {
        return Err(String::from("a reason is needed"));
    }
    let settings = reloader.settings();
    let course = course(&settings, wanted.rollout.as_deref())?.clone();
    if process.kill.current().position(&course.id) != KillPosition::Off {
        return Err(String::from("the kill switch is not off"));
    }
    process.conductor.may_drill(&course.id)?;
    let people = people(&settings, drill, &wanted)?;
    let entry = Entry::new(Kind::Drill, actor)
        .with("rollout", course.id.as_str())
        .with("drill", drill.as_str())
        .with("state", "running")
        .with("reason", wanted.reason.trim())
        .maybe("cohort", wanted.cohort.as_deref());
    record(process, entry).await?;
    let view = process.drills.begin(drill, course.id.as_str());
    info!(rollout = %course.id, drill = drill.as_str(), actor, "An exercise begins.");
    let (process, reloader) = (Arc::clone(process), Arc::clone(reloader));
    let (mut running, actor) = (view.clone(), actor.to_owned());
    process.background.clone().spawn(async move {
        let found = match people {
            Some((cohort, span)) => {
                outage(&process, &reloader, (drill, &course), (cohort, span)).await
            }
            None => shown(&settings, &reloader, drill, &course, process.clock.now()).await,
        };
        let (passed, seen) = match found {
            Ok(seen) => (true, seen),
            Err(seen) => (false, seen),
        };
        running.state = String::from(if passed { "passed" } else { "failed" });
        running.seen = seen;
        let entry = Entry::new(Kind::Drill, &actor)
            .with("rollout", course.id.as_str())
            .with("drill", drill.as_str())
            .with("state", running.state.as_str())
            .with("seen", running.seen.join("; "));
        // What is not in the ledger has not passed.
        let kept = match record(&process, entry).await {
            Ok(()) if passed => process.conductor.drilled(&course.id, drill).await,
            Ok(()) => Ok(()),
            Err(why) => Err(why),
        };
        if let Err(why) = kept {
            running.state = String::from("failed");
            running.seen.push(why);
        }
        let (state, rollout) = (running.state.as_str(), running.rollout.as_str());
        info!(
            rollout,
            drill = drill.as_str(),
            state,
            "An exercise is over."
        );
        process.drills.end(running);
    });
    Ok(view)
}

fn course<'a>(settings: &'a Settings, named: Option<&str>) -> Result<&'a Course, String> {
    match (named, settings.courses.as_slice()) {
        (Some(name), all) => all
            .iter()
            .find(|course| course.id.as_str() == name)
            .ok_or_else(|| format!("there is no rollout called `{name}`")),
        (None, [one]) => Ok(one),
        (None, _) => Err(String::from("say which rollout")),
    }
}

/// Who meets it, and for how long.
fn people(
    settings: &Settings,
    drill: Drill,
    wanted: &DrillRequest,
) -> Result<Option<(CohortId, Duration)>, String> {
    match (drill.meets_people(), &wanted.cohort, wanted.seconds) {
        (false, None, None) => Ok(None),
        (false, _, _) => Err(String::from("nobody meets it: no cohort, and no time")),
        (true, Some(cohort), Some(seconds)) => {
            let cohort = CohortId::new(cohort);
            if !settings.cohorts.contains_key(&cohort) {
                return Err(format!("there is no cohort `{}`", cohort.as_str()));
            }
            let span = Duration::from_secs(seconds);
            if span.is_zero() || LONGEST < span {
                return Err(String::from("from one second to one hour"));
            }
            Ok(Some((cohort, span)))
        }
        (true, _, _) => Err(String::from("say for whom and for how long")),
    }
}

type Found = Result<Vec<String>, Vec<String>>;

/// A provider counts as away for a cohort.
async fn outage(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    (drill, course): (Drill, &Course),
    (cohort, span): (CohortId, Duration),
) -> Found {
    let provider = if drill == Drill::LegacyOutage {
        &course.from
    } else {
        &course.to
    };
    let now = process.clock.now();
    let away = process
        .away
        .begin(provider.clone(), cohort, (now, now + span));
    let Some(away) = away else {
        return Err(vec![String::from("another exercise is under way")]);
    };
    // Verdicts that are kept were made before it: they are let go.
    let renewed = renewed(reloader).await;
    let before = attempts(process, provider);
    if renewed.is_ok() {
        tokio::time::sleep(span).await;
    }
    process.away.end();
    renewed.map_err(|why| vec![why])?;
    let after = attempts(process, provider);
    let met = away.met();
    let all = (after.0 - before.0).max(0.0);
    let others = (after.1 - before.1 - met as f64).max(0.0);
    let seen = vec![
        format!("{met} requests of the cohort met the outage"),
        format!("{others} of {all} attempts at {provider} had no answer besides"),
    ];
    if met == 0 || MOST_OTHERS * all.max(1.0) < others {
        return Err(seen);
    }
    Ok(seen)
}

async fn renewed(reloader: &Arc<Reloader>) -> Result<(), String> {
    let reloader = Arc::clone(reloader);
    let renewed = tokio::task::spawn_blocking(move || reloader.replan()).await;
    renewed.map_err(|error| error.to_string())?
}

/// Attempts at a provider until now, and those without an answer.
fn attempts(process: &Process, provider: &ProviderId) -> (f64, f64) {
    let figures = process.metrics.figures();
    let own = figures
        .attempts
        .iter()
        .filter(|((_, of), _)| of == provider.as_str());
    own.fold((0.0, 0.0), |(all, away), (_, one)| {
        let total = one.success + one.rejected + one.unavailable;
        (all + total, away + one.unavailable)
    })
}

/// Tokens that must be refused are shown to the adapter of the new provider.
async fn shown(
    settings: &Settings,
    reloader: &Reloader,
    drill: Drill,
    course: &Course,
    now: UnixTime,
) -> Found {
    let id = &course.to;
    let named = settings.providers.iter().find(|one| one.id == *id);
    let verify = named.and_then(|one| match &one.kind {
        KindSettings::Oidc(oidc) => Some((&oidc.issuer, &oidc.verify)),
        KindSettings::Jwt(jwt) => Some((&jwt.issuer, &jwt.verify)),
        KindSettings::Introspection(_)
        | KindSettings::SessionProbe(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => None,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => None,
    });
    let providers = reloader.providers();
    let (Some((issuer, verify)), Some(provider)) = (verify, providers.named(id)) else {
        return Err(vec![format!("`{id}` takes no signed tokens")]);
    };
    if !provider.health().usable {
        return Err(vec![format!("`{id}` is away already")]);
    }
    let audience = verify.audiences.first().map_or("", |audience| &**audience);
    let algorithm = verify
        .algorithms
        .first()
        .map_or("RS256", |alg| alg.as_str());
    let token = |kid: &str| unknown(issuer.as_str(), (audience, algorithm), kid, now);
    let tokens: Vec<String> = if drill == Drill::JwksRotation {
        (0..3)
            .map(|n| token(&format!("authferry-drill-{}-{n}", now.as_millis())))
            .collect()
    } else {
        misshapen(&token("x"))
    };
    let mut seen = Vec::new();
    let mut refused = 0;
    for token in &tokens {
        match judged(provider.as_ref(), token, now).await {
            Err(ProviderError::Rejected(_)) => refused += 1,
            Err(ProviderError::Unavailable { outage, .. }) => {
                seen.push(format!(
                    "one was answered as an outage: {}",
                    outage.as_str()
                ));
            }
            Ok(_) => seen.push(String::from("one was accepted")),
        }
    }
    if !provider.health().usable {
        seen.push(format!("`{id}` counts as away afterwards"));
    }
    let good = seen.is_empty();
    seen.push(format!("{refused} of {} were refused", tokens.len()));
    if good { Ok(seen) } else { Err(seen) }
}

async fn judged(provider: &dyn Provider, token: &str, now: UnixTime) -> Result<(), ProviderError> {
    let credential = Credential::Bearer(Secret::new(token.to_owned()));
    let judged = match provider.judge_locally(&credential, now) {
        Some(judged) => judged,
        None => provider.authenticate(&credential, now).await,
    };
    judged.map(|_| ())
}

/// A token that is right in everything but its key, which nobody has.
fn unknown(issuer: &str, (audience, alg): (&str, &str), kid: &str, now: UnixTime) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (iat, exp) = (now.as_secs(), now.as_secs() + 60);
    let header = part(json!({ "alg": alg, "typ": "at+jwt", "kid": kid }));
    let claims = part(json!({
        "iss": issuer, "aud": audience, "sub": "authferry-drill", "client_id": "authferry-drill",
        "jti": kid, "iat": iat, "nbf": iat, "exp": exp,
    }));
    let length = if alg.ends_with("512") && alg.starts_with("ES") {
        132
    } else {
        64
    };
    let length = if alg.starts_with("RS") || alg.starts_with("PS") {
        256
    } else {
        length
    };
    format!(
        "{header}.{claims}.{}",
        URL_SAFE_NO_PAD.encode(vec![7; length])
    )
}

/// What is no token, or half of one.
fn misshapen(token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims) = match parts.as_slice() {
        [header, claims, ..] => (*header, *claims),
        _ => ("", ""),
    };
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let list = URL_SAFE_NO_PAD.encode("[]");
    vec![
        String::from("x"),
        String::from(".."),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{none}.{claims}."),
        format!("{list}.{claims}.AAAA"),
        format!("{header}.{list}.AAAA"),
        format!("{header}.{claims}.AAAA.BBBB.CCCC"),
        format!("{header}.{claims}.****"),
        "x".repeat(9_000),
    ]
}

async fn record(process: &Process, entry: Entry) -> Result<(), String> {
    let ledger = Arc::clone(&process.ledger);
    let written = tokio::task::spawn_blocking(move || ledger.append(entry)).await;
    let written = written.map_err(|error| error.to_string())?;
    written.map(|_| ()).map_err(|error| error.to_string())
}
