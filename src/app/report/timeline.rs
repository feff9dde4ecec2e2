//! `timeline`: configurations, decisions, the kill switch, in the order in which they happened.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::process::Process;
use crate::app::report::moment;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::ledger;

/// So many records are told at most.
const MAX_RECORDS: usize = 20_000;

/// What stands in a column of its own, or tells nobody anything.
const APART: [&str; 11] = [
    "ts", "seq", "kind", "actor", "prev", "hash", "node", "rollout", "from", "to", "why",
];

/// The records of the ledger, with the numbers behind them.
pub(super) async fn timeline(
    process: &Arc<Process>,
    settings: &Settings,
    wanted: &ReportRequest,
    now: UnixTime,
    view: &mut ReportView,
) -> Result<(), String> {
    let span = wanted.since_seconds.map(Duration::from_secs);
    let from = span.map_or_else(String::new, |span| moment(now - span));
    let file = process.ledger.file().clone();
    let read = tokio::task::spawn_blocking(move || ledger::since(&file, &from, MAX_RECORDS));
    let read = read.await.map_err(|error| error.to_string())?;
    let (records, more) = read.map_err(|error| format!("the ledger: {error}"))?;
    let mut table = ReportTable::new(
        "Timeline",
        [
            "time", "record", "kind", "rollout", "from", "to", "why", "by", "and",
        ],
    );
    // What is of no rollout is of all applications.
    let app = wanted.app.as_deref();
    let covers = |id: &str| {
        let plan = settings.rollouts.iter().find(|plan| plan.id.as_str() == id);
        let apps = plan.map_or(&[][..], |plan| &plan.apps);
        app.is_none_or(|app| apps.iter().any(|own| own.as_str() == app))
    };
    let about = |record: &&Value| {
        let rollout = record.get("rollout").and_then(Value::as_str);
        let asked = wanted.rollout.as_deref();
        rollout.is_none_or(|id| asked.is_none_or(|asked| asked == id) && covers(id))
    };
    for record in records.iter().filter(about) {
        let member = |name: &str| record.get(name).cloned().unwrap_or_default();
        let rest = record.as_object().into_iter().flatten();
        let rest = rest.filter(|(name, _)| !APART.contains(&name.as_str()));
        let rest: Vec<String> = rest.map(|(name, value)| told(name, value)).collect();
        table.row([
            member("ts"),
            member("seq"),
            member("kind"),
            member("rollout"),
            member("from"),
            member("to"),
            member("why"),
            member("actor"),
            rest.join(" ").into(),
        ]);
    }
    view.tables.push(table);
    if more {
        let note = format!("only the last {MAX_RECORDS} records are told");
        view.notes.push(note);
    }
    let (_, intact) = process.ledger.head();
    if !intact {
        let note = "the ledger did not verify when it was opened: `authferry log verify`";
        view.notes.push(note.to_owned());
    }
    Ok(())
}

fn told(name: &str, value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    format!("{name}={}", text.unwrap_or_else(|| value.to_string()))
}
