//! The page: its frame, the forms, and the order in which an operator reads.

use std::fmt;

use serde_json::Value;

use crate::admin::backend::ConfigView;
use crate::admin::backend::LogHead;
use crate::admin::backend::Readiness;
use crate::admin::console::PATH;
use crate::admin::console::SCRIPT;
use crate::admin::console::STYLE;
use crate::admin::console::form::MAX_REASON;
use crate::admin::console::form::ORDERS;
use crate::admin::console::html::Text;
use crate::admin::console::opinions;
use crate::admin::console::tables;
use crate::admin::report::ReportView;
use crate::admin::rollouts::RolloutView;
use crate::admin::routes::KillView;
use crate::telemetry::metrics::Figures;

/// Everything that the page tells.
pub(super) struct View {
    /// The running configuration, and what was wrong with the last file.
    pub(super) configuration: ConfigView,
    /// Providers and store.
    pub(super) readiness: Readiness,
    /// The rollouts.
    pub(super) rollouts: Vec<RolloutView>,
    /// The kill switch.
    pub(super) kill: KillView,
    /// The end of the ledger.
    pub(super) ledger: LogHead,
    /// Its last records, newest last.
    pub(super) records: Vec<Value>,
    /// In what second opinions differ.
    pub(super) opinions: Option<ReportView>,
    /// What was counted.
    pub(super) figures: Figures,
    /// What shows that a form was on this page.
    pub(super) proof: String,
    /// Who looks at it.
    pub(super) actor: String,
    /// Why what was asked for was not done.
    pub(super) trouble: Option<String>,
}

/// What each position of the kill switch does.
const POSITIONS: [(&str, &str); 5] = [
    ("off", "the rules of the configuration"),
    ("freeze", "nobody moves any further"),
    ("legacy", "every new login at the old provider"),
    (
        "modern",
        "every new login at the new provider; old credentials refused",
    ),
    ("deny", "nobody gets in (503)"),
];

impl View {
    /// The whole page.
    pub(super) fn render(&self) -> String {
        self.to_string()
    }

    fn kill_form(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<form method=\"post\" action=\"{PATH}\"><input type=\"hidden\" name=\"proof\" value=\"{}\">\
             <input type=\"hidden\" name=\"do\" value=\"kill\"><fieldset><legend>Kill switch</legend>\
             <label>For <select name=\"rollout\"><option value=\"\">every rollout</option>",
            Text(&self.proof)
        )?;
        for rollout in &self.rollouts {
            write!(f, "<option>{}</option>", Text(&rollout.id))?;
        }
        f.write_str("</select></label>")?;
        for (position, effect) in POSITIONS {
            write!(
                f,
                "<label><input type=\"radio\" name=\"position\" value=\"{position}\" required><strong>{position}</strong>: {effect}</label>"
            )?;
        }
        write!(
            f,
            "<label>Reason (recorded) <input type=\"text\" name=\"reason\" required maxlength=\"{MAX_REASON}\" autocomplete=\"off\"></label>\
             <button class=\"bad\">Move the switch</button></fieldset></form>"
        )
    }

    /// For rollouts that a controller drives; the others are changed in the file.
    fn order_form(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driven = self.rollouts.iter().filter(|one| !one.state.is_empty());
        let mut driven = driven.peekable();
        if driven.peek().is_none() {
            return Ok(());
        }
        write!(
            f,
            "<form method=\"post\" action=\"{PATH}\"><input type=\"hidden\" name=\"proof\" value=\"{}\">\
             <fieldset><legend>Rollout</legend><label>Which <select name=\"rollout\">",
            Text(&self.proof)
        )?;
        for rollout in driven {
            write!(f, "<option>{}</option>", Text(&rollout.id))?;
        }
        f.write_str("</select></label>")?;
        for (command, effect) in ORDERS {
            write!(
                f,
                "<label><input type=\"radio\" name=\"do\" value=\"{command}\" required><strong>{command}</strong>: {effect}</label>"
            )?;
        }
        write!(
            f,
            "<label>Reason (recorded) <input type=\"text\" name=\"reason\" required maxlength=\"{MAX_REASON}\" autocomplete=\"off\"></label>\
             <button>Order it</button></fieldset></form>"
        )
    }

    fn reload_form(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<form method=\"post\" action=\"{PATH}\"><input type=\"hidden\" name=\"proof\" value=\"{}\">\
             <fieldset><legend>Configuration</legend><p>The file is watched; this is for who does not want to wait.</p>\
             <button name=\"do\" value=\"reload\">Read the file again</button></fieldset></form>",
            Text(&self.proof)
        )
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>authferry console</title><style>{STYLE}</style></head>\
             <body><a class=\"skip\" href=\"#act\">To what can be done</a><header><h1>authferry</h1>\
             <p class=\"soft\"><span id=\"fresh\" role=\"status\">As of when it was loaded.</span> <a href=\"{PATH}\">Load again</a>. You are {}.</p></header><main>",
            Text(&self.actor)
        )?;
        if let Some(trouble) = &self.trouble {
            write!(
                f,
                "<div class=\"say\" role=\"alert\"><strong>Not done.</strong> {}</div>",
                Text(trouble)
            )?;
        }
        f.write_str(
            "<p class=\"done\" id=\"done\">Done. What holds now stands below.</p><div id=\"live\">",
        )?;
        tables::standing(self, f)?;
        for rollout in &self.rollouts {
            tables::rollout(self, rollout, f)?;
        }
        opinions::opinions(self.opinions.as_ref(), f)?;
        tables::apart(self, f)?;
        tables::providers(self, f)?;
        tables::records(self, f)?;
        f.write_str("</div><section id=\"act\" aria-labelledby=\"act-title\"><h2 id=\"act-title\">What can be done</h2><div class=\"acts\">")?;
        self.order_form(f)?;
        self.kill_form(f)?;
        self.reload_form(f)?;
        write!(
            f,
            "</div></section></main><footer class=\"soft\"><p>authferry {}. Numbers count since this instance was started.</p></footer>\
             <script>{SCRIPT}</script></body></html>",
            env!("CARGO_PKG_VERSION")
        )
    }
}
