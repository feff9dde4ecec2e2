//! `pinned_stage`: where a rollout stands that the file drives.

use crate::config::compile::context::Context;
use crate::config::compile::lint;
use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::raw::RawRollout;
use crate::config::shape::At;
use crate::rollout::Percent;
use crate::rollout::Share;
use crate::rollout::Stage;

/// The index of the present stage; sets its percent where `pinned_stage` names one.
pub(super) fn present(
    context: &mut Context<'_>,
    staged: &RawRollout,
    all: &mut [lint::Placed],
    complete: bool,
) -> Option<usize> {
    let Some(at) = staged.pinned_stage.get() else {
        if staged.pinned_stage.is_absent() && 1 < all.len() {
            context
                .report
                .error(
                    staged.mark,
                    "`pinned_stage` is missing: with several stages the file says which is present",
                )
                .hint(format!(
                    "one of {}",
                    one_of(all.iter().map(|placed| &*placed.stage.id))
                ));
        }
        return (all.len() == 1).then_some(0);
    };
    let (id, percent) = match at.value.split_once('/') {
        Some((id, percent)) => (id, Some(percent)),
        None => (at.value.as_str(), None),
    };
    let found = all.iter().position(|placed| *placed.stage.id == *id);
    let Some(index) = found else {
        if complete {
            let names = || all.iter().map(|placed| &*placed.stage.id);
            let hint = did_you_mean(id, names()).map_or_else(
                || format!("one of {}", one_of(names())),
                |close| format!("did you mean `{close}`?"),
            );
            context
                .report
                .error(at.mark, format!("no stage is called `{id}`"))
                .value(&at.value)
                .hint(hint);
        }
        return None;
    };
    if let (Some(text), Some(placed)) = (percent, all.get_mut(index)) {
        match Percent::parse(text) {
            Ok(percent) => set_percent(context, at, &mut placed.stage, percent),
            Err(invalid) => {
                context
                    .report
                    .error(at.mark, format!("`{text}` is no percent: {invalid}"))
                    .value(&at.value);
            }
        }
    }
    Some(index)
}

fn set_percent(context: &mut Context<'_>, at: &At<String>, stage: &mut Stage, percent: Percent) {
    let mut shares: Vec<&mut Share> = stage
        .assign
        .iter_mut()
        .map(|rule| &mut rule.share)
        .filter(|share| matches!(share, Share::Percent(_)))
        .collect();
    if let [share] = shares.as_mut_slice() {
        **share = Share::Percent(percent);
        return;
    }
    let found = shares.len();
    context
        .report
        .error(
            at.mark,
            format!(
                "stage `{}` has {found} percent rules, where `/PERCENT` sets the only one",
                stage.id
            ),
        )
        .value(&at.value);
}
