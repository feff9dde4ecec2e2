//! `authferry report`: evidence, as a table, Markdown, CSV or JSON.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use http::Method;
use serde_json::Value;

use crate::admin::ReportKind;
use crate::admin::ReportRequest;
use crate::admin::ReportTable;
use crate::admin::ReportView;
use crate::app::list;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;

/// Asks a running instance for a report. People stand in it as pseudonyms.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Which report
    kind: ReportKind,
    #[command(flatten)]
    socket: Socket,
    /// One rollout; all without it
    #[arg(long, value_name = "ID")]
    rollout: Option<String>,
    /// One application; all without it
    #[arg(long)]
    app: Option<String>,
    /// How far back, such as `7d`, `24h` or `30m`; as far as anything is known without it
    #[arg(long, value_name = "SPAN", value_parser = span)]
    since: Option<u64>,
    /// For `who`: everybody there is, as for `authferry plan`
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// A pseudonym whose person is named, if this instance has let them in within `retention.facts`, 24 hours unless it is set. May come several times
    #[arg(long, value_name = "PERSON", requires = "reason")]
    reveal: Vec<String>,
    /// Why people are named; recorded
    #[arg(long, requires = "reveal")]
    reason: Option<String>,
    /// How it looks
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people at a terminal
    Table,
    /// Markdown
    Md,
    /// Comma-separated values (RFC 4180), one table after the other
    Csv,
    /// For programs
    Json,
}

/// `7d`, `24h`, `30m` or `10s`, in seconds.
fn span(text: &str) -> Result<u64, String> {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let found = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, seconds) = found.ok_or("a number and `d`, `h`, `m` or `s`")?;
    let number = number
        .parse::<u64>()
        .map_err(|error| format!("{number}: {error}"))?;
    Ok(number.saturating_mul(*seconds))
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = match answer(&args).await {
        Ok(view) => write(&view, args.format, out).map_err(Into::into),
        Err(error) => Err(error),
    };
    finish(done, out)
}

async fn answer(args: &Args) -> Result<ReportView, CommandError> {
    let said = |what: String| CommandError::Refused(Value::String(what));
    let people = match &args.inventory {
        Some(file) => list::read(file).map_err(said)?,
        None => Vec::new(),
    };
    let request = ReportRequest {
        kind: args.kind,
        rollout: args.rollout.clone(),
        app: args.app.clone(),
        since_seconds: args.since,
        reveal: args.reveal.clone(),
        reason: args.reason.clone().unwrap_or_default(),
        people,
    };
    let body = serde_json::to_value(&request)?;
    let answer = ask(&args.socket, Method::POST, "/admin/v1/report", Some(&body)).await?;
    Ok(serde_json::from_value(answer)?)
}

fn write(view: &ReportView, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Json => {
            let value = serde_json::to_value(view).map_err(io::Error::other)?;
            return writeln!(out, "{value:#}");
        }
        Format::Csv => return csv(view, out),
        Format::Table | Format::Md => {}
    }
    let name = view.kind.to_possible_value();
    let name = name.map_or_else(String::new, |name| name.get_name().to_owned());
    let heading = format!("{name}, {}, configuration {}", view.at, view.revision);
    match format {
        Format::Md => writeln!(out, "# {}", printable(&heading))?,
        Format::Table | Format::Csv | Format::Json => writeln!(out, "{}", printable(&heading))?,
    }
    for table in &view.tables {
        match format {
            Format::Md => markdown(table, out)?,
            Format::Table | Format::Csv | Format::Json => aligned(table, out)?,
        }
    }
    if !view.notes.is_empty() {
        writeln!(out)?;
    }
    for note in &view.notes {
        match format {
            Format::Md => writeln!(out, "- {}", markdown_text(note))?,
            Format::Table | Format::Csv | Format::Json => {
                writeln!(out, "note: {}", printable(note))?;
            }
        }
    }
    Ok(())
}

/// A cell in words: nothing is a dash.
fn words(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => cell.to_string(),
    }
}

fn aligned(table: &ReportTable, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", printable(&table.title))?;
    if table.rows.is_empty() {
        return writeln!(out, "  none");
    }
    let head: Vec<String> = table.columns.iter().map(|name| printable(name)).collect();
    let rows = table.rows.iter();
    let rows: Vec<Vec<String>> = rows.map(|row| row.iter().map(words).collect()).collect();
    let width = |place: usize| {
        let cells = rows.iter().chain([&head]);
        let cells = cells.filter_map(|row| row.get(place));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in [&head].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "  {}", line.join("  ").trim_end())?;
    }
    Ok(())
}

fn markdown(table: &ReportTable, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n## {}\n", markdown_text(&table.title))?;
    if table.rows.is_empty() {
        return writeln!(out, "none");
    }
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let head = table.columns.iter().map(|name| markdown_text(name));
    writeln!(out, "{}", line(head.collect()))?;
    let rule = table.columns.iter().map(|_| String::from("---"));
    writeln!(out, "{}", line(rule.collect()))?;
    for row in &table.rows {
        let cells = row.iter().map(|cell| markdown_text(&words(cell)));
        writeln!(out, "{}", line(cells.collect()))?;
    }
    Ok(())
}

/// What could be read as markup is said plainly.
fn markdown_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in printable(text).chars() {
        if matches!(
            character,
            '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '#'
        ) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn csv(view: &ReportView, out: &mut dyn Write) -> io::Result<()> {
    for (place, table) in view.tables.iter().enumerate() {
        if 0 < place {
            writeln!(out)?;
        }
        let mut lines = csv::Writer::from_writer(&mut *out);
        lines.write_record(table.columns.iter().map(|name| harmless(name)))?;
        for row in &table.rows {
            let cells = row.iter().map(|cell| match cell {
                Value::Null => String::new(),
                Value::Number(number) => number.to_string(),
                Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                    harmless(&words(cell))
                }
            });
            lines.write_record(cells)?;
        }
        lines.flush()?;
    }
    Ok(())
}

/// A text that no spreadsheet takes for a formula.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::fake::FakeAdmin;
    use crate::admin::fake::FakeBackend;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    async fn said(words: &[&str]) -> (ExitCode, String) {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let socket = admin.socket();
        let line = ["report", "who", "--socket", socket.to_str().unwrap()];
        let args = Cli::parse_from(line.iter().chain(words)).args;
        let mut out = Vec::new();
        let code = run(args, &mut out).await;
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_report_looks_as_it_is_wanted() {
        let (code, text) = said(&[]).await;
        assert_eq!(code, ExitCode::SUCCESS);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "who, 2026-03-05T11:20:31Z, configuration abc",
                "",
                "People | by state",
                "  cohort        people  share",
                "  all, \"in\" it  1200    0.5",
                "  =it|x         3       -",
                "",
                "Nothing",
                "  none",
                "",
                "note: of the last day",
            ]
        );
        let (_, text) = said(&["--format", "md"]).await;
        assert!(text.contains("## People \\| by state\n\n| cohort | people | share |\n| --- | --- | --- |\n| all, \"in\" it | 1200 | 0.5 |\n| =it\\|x | 3 | - |\n"), "{text}");
        let (_, text) = said(&["--format", "csv"]).await;
        assert_eq!(
            text,
            "cohort,people,share\n\"all, \"\"in\"\" it\",1200,0.5\n'=it|x,3,\n\na\n"
        );
        let (_, text) = said(&["--format", "json", "--since", "7d"]).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["kind"], &value["tables"][0]["rows"][0][1]),
            (&"who".into(), &1_200.into())
        );
    }

    #[tokio::test]
    async fn what_does_not_exist_is_said() {
        let (code, text) = said(&["--app", "crn"]).await;
        assert_ne!(code, ExitCode::SUCCESS);
        assert!(text.contains("no such application"), "{text}");
        assert_eq!((span("7d"), span("90m")), (Ok(604_800), Ok(5_400)));
        assert!(span("7").is_err() && span("d").is_err());
    }
}
