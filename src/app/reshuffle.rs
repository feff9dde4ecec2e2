//! What a changed file must not do to people without being told to, neither in a reload nor at a start: put them into buckets
//! anew, or, in a reload, jump over a stage.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use tracing::warn;

use crate::config::settings::Meant;
use crate::config::settings::Settings;
use crate::rollout::Mode;
use crate::rollout::Plan;
use crate::rollout::UnitKind;
use crate::rollout::unit;

/// Where it stands by what people are in buckets, in the state directory.
const FILE: &str = "buckets.json";
/// What is hashed with the key, to know it again: no person and no browser is called so.
const KEY: &str = "authferry/buckets/v1";

/// By what a rollout puts people into buckets, while it does.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Buckets {
    from: String,
    to: String,
    salt: String,
    unit: String,
    key: String,
}

impl Buckets {
    fn of(settings: &Settings, plan: &Plan) -> Self {
        let known = unit(&settings.bucket_key, &plan.id, UnitKind::Device, KEY);
        Self {
            from: plan.from.as_str().to_owned(),
            to: plan.to.as_str().to_owned(),
            salt: plan.bucketing.salt.to_string(),
            unit: plan.bucketing.unit.as_str().to_owned(),
            key: format!("{known:016x}"),
        }
    }

    /// What is another than it was.
    fn changed(&self, is: &Self) -> Option<&'static str> {
        if (&self.from, &self.to) != (&is.from, &is.to) {
            return None;
        }
        let parts = [
            (&self.salt, &is.salt, "`bucketing.salt`"),
            (&self.unit, &is.unit, "`bucketing.unit`"),
            (&self.key, &is.key, "`secrets.bucket_key`"),
        ];
        let mut parts = parts.into_iter();
        parts.find_map(|(was, is, what)| (was != is).then_some(what))
    }
}

/// Those of the rollouts that are in a canary, by rollout.
fn all(settings: &Settings) -> BTreeMap<String, Buckets> {
    let canaries = settings.rollouts.iter();
    let canaries = canaries.filter(|plan| plan.stage.mode == Mode::Canary);
    let row = |plan: &Plan| (plan.id.as_str().to_owned(), Buckets::of(settings, plan));
    canaries.map(row).collect()
}

/// Whether a start leaves people in the buckets that they were in when this instance ran last.
///
/// # Errors
///
/// What would put them into others, and what to say in the file if that is meant.
pub(super) fn check_start(directory: &Path, settings: &Settings) -> Result<(), String> {
    if settings.change.acknowledged == Some(Meant::Reshuffle) {
        return Ok(());
    }
    let before = read(directory)?;
    for (id, is) in all(settings) {
        if let Some(what) = before.get(&id).and_then(|was| was.changed(&is)) {
            let once = "once at every instance, also where the others run with it already";
            return Err(format!("{} ({once})", anew(&id, what)));
        }
    }
    Ok(())
}

/// Keeps for the next start by what people are in buckets now.
pub(super) fn keep(directory: &Path, settings: &Settings) {
    let now = all(settings);
    if read(directory).is_ok_and(|before| before == now) {
        return;
    }
    if let Err(error) = write(directory, &now) {
        warn!(%error, "It is not kept by what people are in buckets: the next start cannot tell whether that has changed.");
    }
}

fn read(directory: &Path) -> Result<BTreeMap<String, Buckets>, String> {
    let path = directory.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    serde_json::from_slice(&text).map_err(|error| {
        let path = path.display();
        format!("{path} is damaged: {error}; without that file nobody compares by what people were in buckets")
    })
}

/// Written beside and renamed over, so that there is always a whole one.
fn write(directory: &Path, all: &BTreeMap<String, Buckets>) -> io::Result<()> {
    let (path, beside) = (directory.join(FILE), directory.join("buckets.new"));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(all)?)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    File::open(directory)?.sync_all()
}

fn anew(rollout: &str, what: &str) -> String {
    format!(
        "rollout `{rollout}`: {what} changed while people are in a canary, and everybody would be put into buckets anew: \
         put it back, or say `change: {{ acknowledge: reshuffle }}`"
    )
}

/// Whether `after` may follow `before`.
///
/// # Errors
///
/// What it would do, and what to say in the file if that is meant.
pub(super) fn check(before: &Settings, after: &Settings) -> Result<(), String> {
    let meant = after.change.acknowledged;
    for (was, is) in pairs(before, after) {
        let keyed = was.stage.mode == Mode::Canary && is.stage.mode == Mode::Canary;
        if keyed
            && meant != Some(Meant::Reshuffle)
            && let Some(what) = changed(before, after, was, is)
        {
            return Err(anew(is.id.as_str(), what));
        }
        if meant != Some(Meant::Skip)
            && let Some(what) = jumped(was, is)
        {
            return Err(format!(
                "rollout `{}`: from stage `{}` to `{}` jumps over a {what}: go through it, or say \
                 `change: {{ acknowledge: skip }}`",
                is.id, was.stage.id, is.stage.id
            ));
        }
    }
    Ok(())
}

/// The rollouts that are in both, between the same providers.
fn pairs<'a>(
    before: &'a Settings,
    after: &'a Settings,
) -> impl Iterator<Item = (&'a Plan, &'a Plan)> {
    after.rollouts.iter().filter_map(|is| {
        let was = before.rollouts.iter().find(|was| was.id == is.id)?;
        (was.from == is.from && was.to == is.to).then_some((was, is))
    })
}

fn changed(before: &Settings, after: &Settings, was: &Plan, is: &Plan) -> Option<&'static str> {
    if was.bucketing.salt != is.bucketing.salt {
        return Some("`bucketing.salt`");
    }
    if was.bucketing.unit != is.bucketing.unit {
        return Some("`bucketing.unit`");
    }
    let same_key = before
        .bucket_key
        .secret()
        .matches(after.bucket_key.secret().expose());
    (!same_key).then_some("`secrets.bucket_key`")
}

fn jumped(was: &Plan, is: &Plan) -> Option<&'static str> {
    if was.stage.id == is.stage.id {
        return None;
    }
    if was.stage.index + 1 < is.stage.index {
        return Some("stage");
    }
    (place(was.stage.mode) + 1 < place(is.stage.mode)).then_some("mode")
}

/// `shadow` is not counted: nobody moves in it.
const fn place(mode: Mode) -> u8 {
    match mode {
        Mode::LegacyOnly | Mode::Shadow => 0,
        Mode::Canary => 1,
        Mode::ModernPrimary => 2,
        Mode::ModernOnly => 3,
    }
}
