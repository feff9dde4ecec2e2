//! When everybody is looked at in both directories: by one instance, as often as the configuration says, and not while
//! somebody holds the kill switch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;

use crate::app::list;
use crate::app::process::Process;
use crate::app::reload::Reloader;
use crate::app::second::Reading;
use crate::app::stated;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::rollout::AppId;
use crate::rollout::KillPosition;
use crate::rollout::Mode;
use crate::shadow::Class;
use crate::shadow::Listed;
use crate::shadow::Progress;
use crate::shadow::Swept;
use crate::shadow::settings;
use crate::store::Key;

/// How often it is asked whether one is due.
const LOOK: Duration = Duration::from_secs(30);
/// How long an instance is trusted to be at it; it says so several times in that time.
const LEASE: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(15);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);
/// One that did not come to its end is tried again so much later.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// From here on, for as long as the process lives.
pub(super) fn start(process: &Arc<Process>, reloader: &Arc<Reloader>) {
    let (process, reloader) = (Arc::clone(process), Arc::clone(reloader));
    let holder = process.entropy.token();
    process.background.clone().spawn(async move {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = HashMap::new();
        let mut said = HashMap::new();
        loop {
            tick.tick().await;
            let running = reloader.settings();
            for block in &running.shadow {
                for (class, hours) in soon_over(block, process.clock.now(), &mut said) {
                    let (app, class) = (block.app.as_str(), class.as_str());
                    warn!(
                        app,
                        class, hours, "Differences that are ignored will count again soon."
                    );
                }
                let progress = under_way.entry(block.app.clone()).or_default();
                one(&process, &reloader, (&running, block), (&holder, progress)).await;
            }
        }
    });
}

/// Whether people of the application are compared now.
fn is_time(process: &Process, settings: &Settings, block: &settings::Settings) -> bool {
    let mut plans = settings.rollouts.iter();
    let Some(plan) = plans.find(|plan| plan.covers(&block.app)) else {
        return false;
    };
    let looks = match plan.stage.mode {
        Mode::Shadow | Mode::Canary | Mode::ModernPrimary => true,
        Mode::LegacyOnly | Mode::ModernOnly => false,
    };
    let looks = looks && plan.stage.shadow.covers(&block.app);
    looks && process.kill.current().position(&plan.id) == KillPosition::Off
}

/// A sweep that may have been called off.
#[derive(Default)]
struct UnderWay {
    /// What it is about.
    about: String,
    progress: Progress,
}

/// The people of an inventory, if the sweep has one, as the side that decides would describe them.
async fn listed(
    settings: &Arc<Settings>,
    block: &settings::Settings,
) -> Result<Option<Listed>, String> {
    let sweep = block.sweep.as_ref();
    let Some((of, (file, by))) = sweep.and_then(|own| Some((&own.of, own.inventory.as_ref()?)))
    else {
        return Ok(None);
    };
    let (settings, of) = (Arc::clone(settings), of.clone());
    let (file, by) = (file.clone(), by.clone());
    let read = move || {
        let mut listed = Listed::new();
        for mut said in list::read(&file)? {
            let enabled = match said.claims.remove("enabled") {
                None => true,
                Some(Value::Bool(enabled)) => enabled,
                Some(word) => match word.as_str() {
                    Some("true" | "1" | "yes") => true,
                    Some("false" | "0" | "no") => false,
                    Some(_) | None => {
                        return Err(format!("`enabled` is neither true nor false: {word}"));
                    }
                },
            };
            let stated = stated::stated(&settings, &said, of.clone())?;
            let key = match &*by {
                "subject" => said.subject.clone(),
                by => stated.identity.attributes.text(by).map(str::to_owned),
            };
            // Who has no key cannot be looked up.
            if let Some(key) = key {
                listed.insert(key.into(), (stated.identity, enabled));
            }
        }
        Ok(Some(listed))
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| error.to_string())?
}

/// What will not be ignored any more, and in how many hours: told once a day, in its last week.
fn soon_over(
    block: &settings::Settings,
    now: UnixTime,
    said: &mut HashMap<(AppId, Class, UnixTime), UnixTime>,
) -> Vec<(Class, u64)> {
    said.retain(|_, at| now.since(*at) < DAY);
    let mut tell = Vec::new();
    for rule in &block.ignore {
        let about = (block.app.clone(), rule.class, rule.until);
        let soon = now < rule.until && rule.until.since(now) < WEEK;
        if soon && !said.contains_key(&about) {
            tell.push((rule.class, rule.until.since(now).as_secs() / 3_600));
            said.insert(about, now);
        }
    }
    tell
}

async fn one(
    process: &Arc<Process>,
    reloader: &Arc<Reloader>,
    (running, block): (&Arc<Settings>, &settings::Settings),
    (holder, under_way): (&str, &mut UnderWay),
) {
    let Some(sweep) = &block.sweep else {
        return;
    };
    let (store, clock, app) = (&process.store, &process.clock, block.app.as_str());
    let done = Key {
        table: "sweep",
        key: app.as_bytes(),
    };
    // Who cannot say that it is due does not begin.
    if !is_time(process, running, block) || !matches!(store.get(done, clock.now()).await, Ok(None))
    {
        return;
    }
    let lease = format!("sweep/{app}");
    let take = || async { store.lease(&lease, holder, LEASE, clock.now()).await };
    if !matches!(take().await, Ok(true)) {
        return;
    }
    let go_on = || {
        let now = reloader.settings();
        now.sha256 == running.sha256 && is_time(process, &now, block)
    };
    let (providers, reader) = (reloader.providers(), Reading::of(running));
    let listed = match listed(running, block).await {
        Ok(listed) => listed,
        Err(why) => {
            warn!(app, why, "The people of a sweep cannot be read.");
            let next = clock.now() + AGAIN.min(sweep.every);
            drop(store.put(done, &[], next).await);
            drop(store.release(&lease, holder).await);
            return;
        }
    };
    // What was called off goes on, if it still is about the same.
    let about = format!("{sweep:?}");
    if under_way.about != about {
        *under_way = UnderWay {
            about,
            progress: Progress::default(),
        };
    }
    let reading = (&reader, listed.as_ref());
    let progress = &mut under_way.progress;
    let sweeping = process
        .shadow
        .sweep(block, &providers, reading, progress, &go_on);
    let mut sweeping = Box::pin(sweeping);
    let mut renew = tokio::time::interval(RENEW);
    let swept = loop {
        tokio::select! {
            swept = &mut sweeping => break swept,
            _ = renew.tick() => if matches!(take().await, Ok(false)) {
                break Swept::CalledOff;
            },
        }
    };
    drop(sweeping);
    if swept != Swept::CalledOff {
        *under_way = UnderWay::default();
    }
    let next = match swept {
        Swept::All { compared, left_out } => {
            info!(
                app,
                compared, left_out, "Both directories were gone through."
            );
            Some(sweep.every)
        }
        Swept::Unavailable => {
            let (of, provider) = (sweep.of.as_str(), sweep.provider.as_str());
            warn!(
                app,
                of,
                provider,
                "A directory does not answer, or lists more people than are gone through: not everybody was looked at."
            );
            Some(AGAIN.min(sweep.every))
        }
        Swept::CalledOff => None,
    };
    if let Some(next) = next
        && let Err(error) = store.put(done, &[], clock.now() + next).await
    {
        warn!(app, %error, "It cannot be kept that both directories were gone through: it is done again.");
    }
    drop(store.release(&lease, holder).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::Source;
    use crate::config::System;

    fn settings(directory: &std::path::Path) -> Settings {
        let path = directory.join("authferry.yaml");
        let text = r#"
version: 1
providers:
  old: { oidc: { issuer: "https://old.corp.example", verify: { audiences: [app] } } }
  new: { oidc: { issuer: "https://new.corp.example", verify: { audiences: [app] } } }
apps: { crm: { hosts: [app.test], upstream: { url: "http://127.0.0.1:9" } } }
rollouts:
  move: { apps: [crm], from: old, to: new, bucketing: { salt: test }, stages: [{ id: look, mode: shadow }] }
shadow:
  crm:
    oracles: [{ method: dual_token }]
    ignore: [{ class: headers, until: "2026-12-31T00:00:00Z" }]
"#;
        std::fs::write(&path, text).unwrap();
        let source = Source::read(&path, Arc::new(System)).unwrap();
        let compiled = config::load(&source).unwrap_or_else(|problems| panic!("{problems}"));
        compiled.draft.ensure().unwrap().0
    }

    #[test]
    fn what_will_count_again_is_told_once_a_day_in_its_last_week() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let block = settings.shadow.first().unwrap();
        let until = block.ignore.first().unwrap().until;
        let mut said = HashMap::new();
        let mut told = |hours: u64| {
            let now = UnixTime::from_secs(until.as_secs() - hours * 3_600);
            soon_over(block, now, &mut said)
        };
        let headers = |hours| vec![(Class::Headers, hours)];
        assert_eq!(told(7 * 24), []);
        assert_eq!(told(167), headers(167));
        assert_eq!(told(166), []);
        assert_eq!(told(144), []);
        assert_eq!(told(143), headers(143));
        assert_eq!(told(1), headers(1));
        assert_eq!(told(0), []);
    }
}
