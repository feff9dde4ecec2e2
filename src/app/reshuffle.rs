//! What a reload must not do to people without being told to: put them into buckets anew, or jump over a stage.

use crate::config::settings::Meant;
use crate::config::settings::Settings;
use crate::rollout::Mode;
use crate::rollout::Plan;

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
            return Err(format!(
                "rollout `{}`: {what} changed while people are in a canary, and everybody would be put into buckets anew: \
                 put it back, or say `change: {{ acknowledge: reshuffle }}`",
                is.id
            ));
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
