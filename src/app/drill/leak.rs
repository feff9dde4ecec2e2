//! An exercise for the day on which somebody's credentials leak: whatever a test account holds is revoked, and how long that takes
//! is measured.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::ExplainRequest;
use crate::admin::RevokeRequest;
use crate::admin::Target;
use crate::app::drill::Found;
use crate::app::drill::Ready;
use crate::app::drill::told;
use crate::app::process::Process;
use crate::app::revoke;
use crate::app::stated;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;

/// Later than that is too late.
const TOO_LATE: Duration = Duration::from_secs(30);
/// How often it is looked whether sessions still count.
const LOOK: Duration = Duration::from_millis(50);

/// Revokes everything of somebody.
pub(super) async fn leaks(
    process: &Process,
    settings: &Settings,
    subject: &str,
    ready: &Ready,
) -> Found {
    let target = || Target::Subject {
        subject: subject.to_owned(),
    };
    may_be_touched(process, settings, subject, ready)?;
    let list = &process.revocations;
    let running = async || match list.affected(&target()).await {
        Ok(affected) => Ok(affected.sessions.len()),
        Err(error) => Err(vec![error.to_string()]),
    };
    let before = running().await?;
    if before == 0 {
        let why = "nobody is signed in as that: sign in with the test account first";
        return Err(vec![why.to_owned()]);
    }
    let wanted = RevokeRequest {
        target: target(),
        reason: format!("exercise: {}", ready.reason),
        plan: false,
        confirm: None,
        keep_seconds: None,
    };
    let began = Instant::now();
    let revoked = revoke::revoke(list, settings, wanted, &ready.actor).await;
    if let Err(why) = revoked {
        return Err(vec![format!("it was not revoked: {why}")]);
    }
    let written = began.elapsed();
    let mut left = running().await?;
    while 0 < left && began.elapsed() < TOO_LATE {
        tokio::time::sleep(LOOK).await;
        left = running().await?;
    }
    let took = began.elapsed();
    let seen = vec![
        format!("{before} sessions counted before, {left} after it"),
        format!(
            "written after {} ms, and nothing counted here after {} ms",
            written.as_millis(),
            took.as_millis()
        ),
        String::from(
            "counted by what each use is held to at this instance; other instances and providers were not looked at",
        ),
    ];
    if left == 0 && took < TOO_LATE {
        Ok(seen)
    } else {
        Err(seen)
    }
}

/// Whoever is no test account keeps what they have, whatever was typed.
fn may_be_touched(
    process: &Process,
    settings: &Settings,
    subject: &str,
    ready: &Ready,
) -> Result<(), Vec<String>> {
    let no = |why: String| vec![why];
    let name = CanonicalSubject::named(subject).map_err(|error| no(error.to_string()))?;
    // As they were spoken of when they came last; a cohort of subjects needs no more than the name.
    let (seen, _) = process.seen.all(process.clock.now());
    let seen = seen.into_iter().find(|one| one.canonical == name);
    let seen = seen.and_then(|one| one.uses.last().map(|used| Arc::clone(&used.by)));
    let identity = match seen {
        Some(identity) => identity,
        None => {
            let question = ExplainRequest {
                subject: Some(subject.to_owned()),
                ..ExplainRequest::default()
            };
            let said = stated::stated(settings, &question, ready.provider.clone());
            said.map_err(no)?.identity
        }
    };
    let mut apps = ready.course.apps.iter();
    let is = apps.any(|app| told::is_tester(settings, app, (&name, &identity)));
    if is {
        return Ok(());
    }
    let why = "that is no test account (`drills.test_accounts`): nothing was revoked";
    Err(no(why.to_owned()))
}
