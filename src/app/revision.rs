//! What the ledger says about configurations.

use serde_json::json;
use tracing::error;

use crate::admin::PlanView;
use crate::config::settings::Settings;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::ledger::Ledger;
use crate::ledger::LedgerError;

/// How much of a refusal stands in its record.
const MAX_WHY_CHARS: usize = 2_000;

/// Records a configuration that is about to run; one that runs already is no change.
///
/// # Errors
///
/// When the disk does not take it: then it must not run.
pub(super) fn applied(
    ledger: &Ledger,
    before: &Settings,
    after: &Settings,
    plan: &PlanView,
) -> Result<(), LedgerError> {
    if before.sha256 == after.sha256 {
        return Ok(());
    }
    ledger.keep(&after.sha256, &after.text)?;
    let entry = Entry::new(Kind::ConfigApplied, actor(after))
        .with("config_sha256", &*after.sha256)
        .with("parent_sha256", &*before.sha256)
        .with("revision", &*after.revision)
        .with("via", "file")
        .with(
            "people",
            json!({
                "seen": plan.seen, "forward": plan.forward(), "back": plan.back(), "refused": plan.refused(),
            }),
        )
        .maybe("ticket", after.change.ticket.as_deref())
        .maybe("reason", after.change.reason.as_deref());
    ledger.append(entry).map(|_| ())
}

/// Records that a configuration was refused.
pub(super) fn refused(ledger: &Ledger, running: &Settings, problem: &str) {
    let why: String = problem.chars().take(MAX_WHY_CHARS).collect();
    let entry = Entry::new(Kind::ConfigRefused, "file")
        .with("running_sha256", &*running.sha256)
        .with("why", why);
    ledger.append_or_owe(entry);
}

/// Records the start and the configuration that runs. A full disk does not keep people from signing in.
pub(super) fn started(ledger: &Ledger, settings: &Settings) {
    if let Err(error) = ledger.keep(&settings.sha256, &settings.text) {
        error!(%error, "The configuration could not be kept beside the ledger.");
    }
    let entry = Entry::new(Kind::NodeStart, actor(settings))
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("config_sha256", &*settings.sha256)
        .with("revision", &*settings.revision);
    ledger.append_or_owe(entry);
}

/// Who made a revision, as far as it says.
fn actor(settings: &Settings) -> &str {
    settings.change.actor.as_deref().unwrap_or("file")
}
