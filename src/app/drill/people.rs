//! Exercises that people of a cohort meet: an outage, a slow provider, a way back.

use std::sync::Arc;
use std::time::Duration;

use crate::app::drill::Found;
use crate::app::drill::told::outage;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::config::settings::Settings;
use crate::control::Upset;
use crate::identity::ProviderId;
use crate::rollout::Arm;
use crate::rollout::CohortId;
use crate::rollout::Course;
use crate::rollout::Drill;
use crate::rollout::Exercise;

/// A share of other people who meet an outage meanwhile, above which it was no exercise.
const MOST_OTHERS: f64 = 0.01;

/// Something is wrong with a provider for a cohort.
pub(super) async fn met(
    (process, reloader, settings): (&Arc<Process>, &Arc<Reloader>, &Settings),
    (exercise, course): (Exercise, &Course),
    provider: &ProviderId,
    (cohort, span): (CohortId, Duration),
) -> Found {
    let drill = exercise.drill;
    let upset = match drill {
        Drill::Slow => Upset::Slow(Duration::from_millis(exercise.size.unwrap_or_default())),
        Drill::Rollback => Upset::Back,
        Drill::ModernOutage
        | Drill::LegacyOutage
        | Drill::RateLimited
        | Drill::IntrospectionGarbage
        | Drill::KeysGone
        | Drill::JwksRotation
        | Drill::BadTokenFormat
        | Drill::ClockSkew
        | Drill::CredentialLeak
        | Drill::ProviderLoad => Upset::Away(outage(drill)),
    };
    let now = process.clock.now();
    let own = (provider.clone(), upset);
    let Some(own) = process.away.begin(own, cohort, (now, now + span)) else {
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
    let (met, (logins, elsewhere)) = (own.met(), own.logins());
    let all = (after.0 - before.0).max(0.0);
    let without = (after.1 - before.1).max(0.0);
    let mut seen = Vec::new();
    let others = match upset {
        Upset::Back => {
            seen.push(format!(
                "{elsewhere} sign-ins of the cohort began at {}",
                course.from
            ));
            return if 0 < elsewhere { Ok(seen) } else { Err(seen) };
        }
        Upset::Slow(by) => {
            seen.push(format!(
                "{} requests and sign-ins of the cohort waited {} ms longer",
                met + logins,
                by.as_millis()
            ));
            without
        }
        Upset::Away(outage) => {
            seen.push(format!(
                "{met} requests of the cohort met the outage ({})",
                outage.as_str()
            ));
            if 0 < logins {
                seen.push(format!(
                    "{logins} sign-ins met it, {elsewhere} of them began at the other provider"
                ));
            }
            (without - (met + logins) as f64).max(0.0)
        }
    };
    seen.push(format!(
        "{others} of {all} attempts at {provider} had no answer besides"
    ));
    let stayed =
        falls_back(settings, course, (provider, upset), span) && 0 < logins && elsewhere == 0;
    if stayed {
        seen.push(String::from(
            "no sign-in began elsewhere, as `fallback` would have it",
        ));
    }
    if met + logins == 0 || stayed || MOST_OTHERS * all.max(1.0) < others {
        return Err(seen);
    }
    Ok(seen)
}

/// Whether a sign-in would begin elsewhere before such an outage is over.
fn falls_back(
    settings: &Settings,
    course: &Course,
    (provider, upset): (&ProviderId, Upset),
    span: Duration,
) -> bool {
    let Upset::Away(outage) = upset else {
        return false;
    };
    settings.fallbacks.iter().any(|fallback| {
        let from = match fallback.from {
            Arm::From => &course.from,
            Arm::To => &course.to,
        };
        from == provider
            && course.apps.contains(&fallback.app)
            && fallback.when.contains(&outage)
            // Somebody must have had the time to come.
            && 2 * fallback.provider_down_for < span
    })
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
