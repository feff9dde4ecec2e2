//! How many people have no account at the other provider, of those who were let in here lately.

use std::collections::HashMap;

use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::control::Somebody;
use crate::rollout::Plan;
use crate::store::StoreError;
use crate::telemetry::Pseudonym;

/// How many have none, and how many were counted.
///
/// # Errors
///
/// When the store gives no answer.
pub(super) async fn count(
    process: &Process,
    settings: &Settings,
    (plan, seen): (&Plan, &[Somebody]),
    now: UnixTime,
) -> Result<(u64, u64), StoreError> {
    let mut people: HashMap<Pseudonym, bool> = HashMap::new();
    for one in seen.iter().filter(|one| plan.covers(&one.app)) {
        let person = process.pseudonyms.of(&one.canonical);
        if people.get(&person) != Some(&true) {
            let linked = has_partner(process, settings, plan, one, now).await?;
            people.insert(person, linked);
        }
    }
    let alone = people.values().filter(|linked| !**linked).count();
    Ok((alone as u64, people.len() as u64))
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
