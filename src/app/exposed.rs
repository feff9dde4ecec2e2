//! Whom a switch back would hurt now: asked of the store, and told to whatever drives rollouts.

use std::time::Duration;

use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Asked;
use crate::identity::ProviderId;
use crate::revocation::Barred;
use crate::rollout::Plan;

/// How long what was read of whoever is barred is good for what is counted all the time: all that is revoked is read for it.
const BARRED_FOR: Duration = Duration::from_mins(5);

/// Whom providers bar, as it was read.
#[derive(Default)]
pub(super) struct Seen {
    until: Option<UnixTime>,
    barred: Vec<Barred>,
}

/// Counts, and says what was found where a stage asks for it.
///
/// # Errors
///
/// When the store gives no answer: then it is not known.
pub(super) async fn look(
    process: &Process,
    settings: &Settings,
    seen: &mut Seen,
    now: UnixTime,
) -> Result<(), String> {
    let known = look_at_all(process, settings, seen, now).await;
    for plan in &settings.rollouts {
        let exposed = process.exposure.of(&plan.id).filter(|_| known.is_ok());
        let people = exposed.map(|exposed| exposed.locked_out);
        process.conductor.exposed(&plan.id, people);
    }
    known
}

async fn look_at_all(
    process: &Process,
    settings: &Settings,
    seen: &mut Seen,
    now: UnixTime,
) -> Result<(), String> {
    // Where nobody is asked, nobody is barred.
    if settings.denials.is_none() || settings.rollouts.is_empty() {
        *seen = Seen::default();
    } else if seen.until.is_none_or(|until| until <= now) {
        let denials = process.revocations.denials().await;
        let denials = denials.map_err(|error| error.to_string())?;
        seen.barred = denials.into_iter().filter_map(|one| one.barred).collect();
        seen.until = Some(now + BARRED_FOR);
    }
    let barred = &seen.barred;
    let asked = settings.rollouts.iter().map(|plan| {
        let theirs = barred.iter().filter(|one| one.provider == plan.from);
        Asked {
            plan,
            barred: theirs.filter_map(|one| one.person.clone()).collect(),
            above: above(settings, &plan.from),
            demanded: is_demanded(settings, plan),
        }
    });
    let asked: Vec<_> = asked.collect();
    process.exposure.look(&asked, now).await
}

/// The classes of assurance that a provider yields.
fn classes<'a>(
    settings: &'a Settings,
    provider: &'a ProviderId,
) -> impl Iterator<Item = &'a str> + 'a {
    let mut all = settings.providers.iter();
    let says = all.find(|one| one.id == *provider);
    says.into_iter().flat_map(|one| {
        let mapped = one.assurance.map.iter().map(|(_, class)| class);
        one.assurance
            .fixed
            .iter()
            .chain(mapped)
            .map(|class| &**class)
    })
}

/// The classes that stand above whatever a provider yields. One that says nothing of it is taken for the weakest.
fn above(settings: &Settings, provider: &ProviderId) -> Vec<Box<str>> {
    let order = &settings.assurance;
    let places = classes(settings, provider)
        .filter_map(|class| order.iter().position(|known| **known == *class));
    let best = places.max().unwrap_or(0);
    order.iter().skip(best + 1).cloned().collect()
}

/// Whether some route of its applications takes nobody of the old provider, by what it asks of their sign-in.
fn is_demanded(settings: &Settings, plan: &Plan) -> bool {
    let apps = settings.apps.iter().filter(|app| plan.covers(&app.id));
    let mut asked = apps
        .flat_map(|app| &app.routes)
        .map(|route| &route.require.acr)
        .filter(|enough| !enough.is_empty());
    asked.any(|enough| {
        let mut theirs = classes(settings, &plan.from);
        !theirs.any(|class| enough.iter().any(|one| **one == *class))
    })
}
