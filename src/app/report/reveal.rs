//! Who hides behind a pseudonym: told with a reason, once it is recorded, and only of people who were let in here lately.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::ledger::Entry;
use crate::ledger::Kind;

/// Pseudonyms of one question.
const MOST: usize = 20;

/// Adds who they are.
///
/// # Errors
///
/// Without a reason, and when it cannot be recorded: then nobody is named.
pub(super) async fn reveal(
    process: &Arc<Process>,
    wanted: &ReportRequest,
    actor: &str,
    now: UnixTime,
    view: &mut ReportView,
) -> Result<(), String> {
    if wanted.reveal.is_empty() {
        return Ok(());
    }
    if MOST < wanted.reveal.len() {
        return Err(format!("at most {MOST} people at once"));
    }
    let reason = wanted.reason.trim();
    if reason.is_empty() {
        return Err(String::from(
            "a reason is needed to name people; it is recorded",
        ));
    }
    let (seen, _) = process.seen.all(now);
    let names: BTreeMap<String, &str> = seen
        .iter()
        .map(|one| {
            let person = process.pseudonyms.of(&one.canonical).to_string();
            (person, one.canonical.as_str())
        })
        .collect();
    let asked: Vec<Value> = wanted
        .reveal
        .iter()
        .map(|p| Value::from(p.as_str()))
        .collect();
    let entry = Entry::new(Kind::Reveal, actor)
        .with("people", asked)
        .with("reason", reason);
    let ledger = Arc::clone(&process.ledger);
    // What is not recorded is not told.
    let written = tokio::task::spawn_blocking(move || ledger.append(entry)).await;
    let written = written.map_err(|error| error.to_string())?;
    written.map_err(|error| error.to_string())?;
    let mut table = ReportTable::new("Revealed", ["person", "who"]);
    for person in &wanted.reveal {
        let who = names.get(person.as_str());
        table.row([person.as_str().into(), who.copied().into()]);
    }
    view.tables.push(table);
    let note = "named are people whom this instance has let in within `retention.facts` (24 hours unless it is set); it is recorded (`reveal`)";
    view.notes.push(note.to_owned());
    Ok(())
}
