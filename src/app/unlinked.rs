//! Whether people have an account at the other provider, of those who were let in here lately: noted for all instances.

use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::rollout::Plan;
use crate::store::StoreError;

/// Looks whether those who came have one, and notes it.
///
/// # Errors
///
/// When the store gives no answer.
pub(super) async fn look(
    process: &Process,
    settings: &Settings,
    (plan, seen, more): (&Plan, &[Somebody], bool),
    now: UnixTime,
) -> Result<(), StoreError> {
    let partners = &process.partners;
    for one in seen.iter().filter(|one| plan.covers(&one.app)) {
        let person = process.pseudonyms.of(&one.canonical);
        let linked = has_partner(process, settings, plan, one, now).await?;
        let pair = (&one.app, &plan.from, &plan.to);
        partners.note(pair, person, (one.at, linked), now);
    }
    // Whoever was not remembered may have none.
    for app in plan.apps.iter().filter(|_| more) {
        partners.lost((app, &plan.from, &plan.to), now);
    }
    Ok(())
}

/// Whether an account of somebody is known at both providers.
async fn has_partner(
    process: &Process,
    settings: &Settings,
    plan: &Plan,
    one: &Somebody,
    now: UnixTime,
) -> Result<bool, StoreError> {
    for provider in [&plan.from, &plan.to] {
        let files = settings.canonical.iter().flat_map(|own| &own.files);
        let mut files = files.filter(|file| file.lists(provider, &one.canonical));
        if files.next().is_some() {
            continue;
        }
        let row = process.links.account_row(&one.canonical, provider);
        if !process.links.has_account(&row, now).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
