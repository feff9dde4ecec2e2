//! `change` and `audit`: who made a revision, and where decisions are recorded.

use std::path::Path;

use crate::config::compile::context::Context;
use crate::config::raw::Acknowledge;
use crate::config::raw::RawConfig;
use crate::config::scalar::Whole;
use crate::config::settings::Audit;
use crate::config::settings::Change;
use crate::config::settings::Meant;
use crate::config::shape::At;
use crate::config::shape::Field;

/// The longest of these texts, in bytes: they stand in every record.
const MAX_TEXT_BYTES: usize = 512;

/// Who made the revision, and the ledger.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    state_dir: &Path,
) -> (Change, Audit) {
    let change = raw.change.get().map_or_else(Change::default, |raw| Change {
        actor: text(context, &raw.actor),
        ticket: text(context, &raw.ticket),
        reason: text(context, &raw.reason),
        acknowledged: raw.acknowledge.get().map(|at| match at.value {
            Acknowledge::Skip => Meant::Skip,
            Acknowledge::Reshuffle => Meant::Reshuffle,
        }),
        recall: raw.recall.get().map(|at| at.value.0),
    });
    let audit = raw.audit.get();
    if let Some(at) = audit.and_then(|audit| audit.require_change.get())
        && at.value
        && (change.actor.is_none() || change.reason.is_none())
    {
        context
            .report
            .error(
                at.mark,
                "`change.actor` and `change.reason` are missing: who made this revision, and why?",
            )
            .hint("`change: { actor: …, reason: … }`, or `require_change: false`");
    }
    let file = audit.and_then(|audit| audit.file.get());
    let settings = Audit {
        file: file.map_or_else(
            || state_dir.join("decisions.jsonl"),
            |at| context.path(&at.value),
        ),
        mirror: audit.is_some_and(|audit| audit.mirror.get().is_some()),
        max_recall: audit.map_or(0, |audit| audit.max_recall.or(Whole(0)).0),
    };
    (change, settings)
}

fn text(context: &mut Context<'_>, field: &Field<At<String>>) -> Option<Box<str>> {
    let at = field.get()?;
    if MAX_TEXT_BYTES < at.value.len() {
        context
            .report
            .error(at.mark, "longer than 512 bytes: it stands in every record");
        return None;
    }
    Some(at.value.as_str().into())
}
