//! What the page tells: one function for each section.

use std::fmt;

use serde_json::Value;

use crate::admin::console::course;
use crate::admin::console::html::Share;
use crate::admin::console::html::Span;
use crate::admin::console::html::Text;
use crate::admin::console::page::View;
use crate::admin::rollouts::RolloutView;
use crate::telemetry::metrics::Attempts;
use crate::telemetry::metrics::Journeys;

/// The longest text of a cell, in characters.
const MAX_CELL: usize = 300;

/// The sides of a rollout, in the words of the metrics.
const ARMS: [&str; 2] = ["legacy", "modern"];

/// One fact of a list; `state` is a class of the style.
pub(super) fn fact(f: &mut fmt::Formatter<'_>, name: &str, state: &str, told: &str) -> fmt::Result {
    write!(
        f,
        "<div><dt>{name}</dt><dd class=\"{state}\">{}</dd></div>",
        Text(told)
    )
}

/// How the instance stands.
pub(super) fn standing(view: &View, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (configuration, ready) = (&view.configuration, &view.readiness);
    f.write_str("<section aria-labelledby=\"now\"><h2 id=\"now\">Now</h2><dl class=\"facts\">")?;
    let away = ready.providers.iter().filter(|one| !one.usable).count();
    let (state, told) = match (ready.started, ready.draining, away) {
        (false, _, _) => ("warn", "starting".to_owned()),
        (true, true, _) => ("warn", "draining".to_owned()),
        (true, false, 0) => ("good", "ready".to_owned()),
        (true, false, away) => (
            "bad",
            format!("{away} of {} providers away", ready.providers.len()),
        ),
    };
    fact(f, "Instance", state, &told)?;
    let moved = |position: &str| if position == "off" { "good" } else { "bad" };
    fact(
        f,
        "Kill switch",
        moved(&view.kill.global),
        &view.kill.global,
    )?;
    for (rollout, position) in &view.kill.rollouts {
        let name = format!("Kill switch, {}", Text(rollout));
        fact(f, &name, moved(position), position)?;
    }
    let (state, told) = if configuration.last_reload_successful {
        ("good", "runs as it is on disk")
    } else {
        ("bad", "the file was refused; the one before runs")
    };
    fact(f, "Configuration", state, told)?;
    fact(f, "Revision", "", &configuration.revision)?;
    let ledger = &view.ledger;
    let (state, told) = match (ledger.intact, ledger.owed) {
        (true, 0) => ("good", format!("{} records, verified at start", ledger.seq)),
        (true, owed) => ("bad", format!("{owed} records could not be written")),
        (false, _) => ("bad", "does not verify".to_owned()),
    };
    fact(f, "Ledger", state, &told)?;
    if let Some(answers) = ready.store {
        let (state, told) = if answers {
            ("good", "answers")
        } else {
            ("bad", "away")
        };
        fact(f, "Store", state, told)?;
    }
    f.write_str("</dl>")?;
    for problem in &configuration.problems {
        write!(f, "<p class=\"say\">{}</p>", Text(&cut(problem)))?;
    }
    f.write_str("</section>")
}

/// One rollout: where it stands, how logins go on either side, what its applications see.
pub(super) fn rollout(view: &View, of: &RolloutView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let id = Text(&of.id);
    write!(
        f,
        "<section aria-label=\"Rollout {id}\"><h2>{id}: {} → {}</h2><dl class=\"facts\">",
        Text(&of.from),
        Text(&of.to)
    )?;
    fact(f, "Stage", "", &of.stage)?;
    fact(f, "Mode", "", &of.mode)?;
    let set = of
        .percent
        .map_or_else(|| "–".to_owned(), |percent| format!("{percent} %"));
    fact(f, "Share set for the new provider", "", &set)?;
    fact(f, "Applications", "", &of.apps.join(", "))?;
    if of.kill != "off" {
        fact(f, "Kill switch", "bad", &of.kill)?;
    }
    f.write_str("</dl>")?;
    if let Some(percent) = of.percent {
        let width = percent.clamp(0.0, 100.0);
        write!(
            f,
            "<svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{width} percent are set for the new provider\">\
             <rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"new\" width=\"{width}\" height=\"6\"/></svg>"
        )?;
    }
    course::course(of, f)?;
    logins(view, of, f)?;
    for app in &of.apps {
        attempts(view, app, f)?;
    }
    f.write_str("</section>")
}

fn logins(view: &View, of: &RolloutView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let key = |arm: &str| (of.id.clone(), arm.to_owned());
    let assigned = |arm: &str| {
        view.figures
            .assigned
            .get(&key(arm))
            .copied()
            .unwrap_or_default()
    };
    let all: f64 = ARMS.into_iter().map(assigned).sum();
    head(
        f,
        "Logins by side",
        &[
            "Side",
            "Assigned",
            "Share",
            "Begun",
            "Came back",
            "Failed",
            "Success",
        ],
    )?;
    for (arm, provider) in ARMS.into_iter().zip([&of.from, &of.to]) {
        let journeys = view.figures.journeys.get(&key(arm));
        let Journeys {
            started,
            succeeded,
            failed,
        } = journeys.copied().unwrap_or_default();
        write!(
            f,
            "<tr><th scope=\"row\">{} ({arm})</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{started}</td>\
             <td class=\"n\">{succeeded}</td><td class=\"n\">{failed}</td><td class=\"n\">{}</td></tr>",
            Text(provider),
            assigned(arm),
            Share(assigned(arm), all),
            Share(succeeded, succeeded + failed)
        )?;
    }
    f.write_str("</tbody></table></div>")
}

/// Decisions about one application, by provider; nothing where nobody came yet.
fn attempts(view: &View, app: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ours = view
        .figures
        .attempts
        .iter()
        .filter(|((of, _), _)| of == app);
    let rows: Vec<_> = ours
        .map(|((_, provider), counted)| (provider, *counted))
        .collect();
    if rows.is_empty() {
        return write!(
            f,
            "<p class=\"soft\">Nobody has come to {} yet.</p>",
            Text(app)
        );
    }
    let successes: f64 = rows.iter().map(|(_, counted)| counted.success).sum();
    let caption = format!("Decisions for {}", Text(app));
    head(
        f,
        &caption,
        &[
            "Provider",
            "Let in",
            "Share",
            "Refused",
            "No answer",
            "Success",
        ],
    )?;
    for (provider, counted) in rows {
        let Attempts {
            success,
            rejected,
            unavailable,
        } = counted;
        write!(
            f,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{success}</td><td class=\"n\">{}</td><td class=\"n\">{rejected}</td>\
             <td class=\"n\">{unavailable}</td><td class=\"n\">{}</td></tr>",
            Text(provider),
            Share(success, successes),
            Share(success, success + rejected + unavailable)
        )?;
    }
    f.write_str("</tbody></table></div>")?;
    match view.figures.old_credentials.get(app) {
        Some(requests) => write!(
            f,
            "<p class=\"soft\">{requests} requests still brought a credential of the old provider.</p>"
        ),
        None => Ok(()),
    }
}

/// Applications that take part in no rollout.
pub(super) fn apart(view: &View, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let apps = view
        .configuration
        .settings
        .get("apps")
        .and_then(Value::as_array);
    let names = apps
        .into_iter()
        .flatten()
        .filter_map(|app| app.get("id")?.as_str());
    let moves = |name: &str| {
        view.rollouts
            .iter()
            .any(|r| r.apps.iter().any(|app| app == name))
    };
    let mut apart = names.filter(|name| !moves(name)).peekable();
    if apart.peek().is_none() {
        return Ok(());
    }
    f.write_str(
        "<section aria-labelledby=\"apart\"><h2 id=\"apart\">Applications without a rollout</h2>",
    )?;
    for app in apart {
        attempts(view, app, f)?;
    }
    f.write_str("</section>")
}

/// Whether each provider can judge.
pub(super) fn providers(view: &View, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("<section aria-labelledby=\"providers\"><h2 id=\"providers\">Providers</h2>")?;
    head(
        f,
        "Whether each can judge what it owns",
        &["Provider", "State", "Breaker", "Keys fetched"],
    )?;
    for provider in &view.readiness.providers {
        let (class, state) = match &provider.reason {
            Some(reason) => ("bad", reason.as_str()),
            None if provider.usable => ("good", "can judge"),
            None => ("bad", "away"),
        };
        let breaker = match view.figures.circuits.get(&provider.id) {
            Some(2.0..) => "open",
            Some(1.0..) => "half open",
            Some(_) => "closed",
            None => "–",
        };
        let age = view.figures.key_ages.get(&provider.id);
        let age = age.map_or_else(|| "–".to_owned(), |age| format!("{} ago", Span(*age)));
        write!(
            f,
            "<tr><th scope=\"row\">{}</th><td class=\"{class}\">{}</td><td>{breaker}</td><td>{age}</td></tr>",
            Text(&provider.id),
            Text(state)
        )?;
    }
    f.write_str("</tbody></table></div></section>")
}

/// The last records of the ledger, newest first.
pub(super) fn records(view: &View, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("<section aria-labelledby=\"ledger\"><h2 id=\"ledger\">Ledger</h2>")?;
    head(
        f,
        "The last records, newest first",
        &["When", "Number", "Kind", "Who", "What"],
    )?;
    for record in view.records.iter().rev() {
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or("–");
        let number = record.get("seq").and_then(Value::as_u64).unwrap_or(0);
        write!(
            f,
            "<tr><td>{}</td><td class=\"n\">{number}</td><td>{}</td><td>{}</td><td class=\"what\">{}</td></tr>",
            Text(text("ts")),
            Text(text("kind")),
            Text(&cut(text("actor"))),
            Text(&cut(&rest(record)))
        )?;
    }
    f.write_str("</tbody></table></div></section>")
}

/// What a record says beside when, who and its place in the chain; numbers of guards last, because what is too long is cut.
fn rest(record: &Value) -> String {
    let told = ["ts", "seq", "kind", "actor", "prev", "hash", "node"];
    let members = record.as_object().into_iter().flatten();
    let said = members.filter(|(name, _)| !told.contains(&name.as_str()));
    let mut said: Vec<(&String, &Value)> = said.collect();
    said.sort_by_key(|(_, value)| value.is_object() || value.is_array());
    let said = said.into_iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} {text}"),
        None => format!("{name} {value}"),
    });
    said.collect::<Vec<_>>().join("; ")
}

/// The head of a table that scrolls by itself on a narrow screen. Columns after the first are numbers unless they are words.
pub(super) fn head(f: &mut fmt::Formatter<'_>, caption: &str, columns: &[&str]) -> fmt::Result {
    const NUMBERS: [&str; 13] = [
        "Assigned",
        "Share",
        "Begun",
        "Came back",
        "Failed",
        "Success",
        "Let in",
        "Refused",
        "No answer",
        "Number",
        "Value",
        "People, new and old",
        "Bad, new and old",
    ];
    write!(
        f,
        "<div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
    )?;
    for column in columns {
        let class = if NUMBERS.contains(column) {
            " class=\"n\""
        } else {
            ""
        };
        write!(f, "<th scope=\"col\"{class}>{column}</th>")?;
    }
    f.write_str("</tr></thead><tbody>")
}

fn cut(text: &str) -> String {
    let mut kept: String = text.chars().take(MAX_CELL).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}
