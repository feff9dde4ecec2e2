//! `authferry plan`: whom a configuration would move, before it runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use http::Method;
use serde_json::Value;

use crate::admin::ExplainRequest;
use crate::admin::PlanRequest;
use crate::admin::PlanRow;
use crate::admin::PlanView;
use crate::app::list;
use crate::app::plan;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;
use crate::config::Source;
use crate::config::System;

/// People that go with one question: more are asked about in several.
const AT_ONCE: usize = 2_000;

/// What it exits with when a reload would refuse the file for what it does to people.
const RECALLS: u8 = 4;

/// Says whom a configuration would move, by rule and application: of the people whom a running instance has let in within
/// `retention.facts` (24 hours unless it is set), and of an inventory. Nothing changes. Exit code 4: a reload would refuse it
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The configuration that might run
    file: PathBuf,
    #[command(flatten)]
    socket: Socket,
    /// People beside those who were seen: CSV with a column `subject`, or a JSON object a line, such as
    /// {"subject": "uid:1002", "groups": ["staff"]}; they count as people with a session of the provider they leave
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Suppose a rollout in another step than it is in, such as `crm=ramp/25`: whom a promotion would move
    #[arg(long = "at", value_name = "ROLLOUT=STEP", value_parser = step)]
    steps: Vec<(String, String)>,
    /// Ask no instance: compare with the time before any rollout
    #[arg(long, requires = "inventory")]
    offline: bool,
    /// How the answer looks
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn step(text: &str) -> Result<(String, String), String> {
    let (rollout, step) = text.split_once('=').ok_or("not ROLLOUT=STEP")?;
    Ok((rollout.to_owned(), step.to_owned()))
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = match answer(&args).await {
        Ok(view) => written(&args, &view, out)
            .map(|()| view)
            .map_err(Into::into),
        Err(error) => Err(error),
    };
    match done {
        Ok(view) if view.is_refused() => RECALLS.into(),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => finish(Err(error), out),
    }
}

async fn answer(args: &Args) -> Result<PlanView, CommandError> {
    let said = |what: String| CommandError::Refused(Value::String(what));
    let source = Source::read(&args.file, std::sync::Arc::new(System));
    let source = source.map_err(|error| said(error.to_string()))?;
    let path = fs::canonicalize(&args.file).unwrap_or_else(|_| args.file.clone());
    let people = match &args.inventory {
        Some(file) => list::read(file).map_err(said)?,
        None => Vec::new(),
    };
    let request = |people: &[ExplainRequest], seen| PlanRequest {
        path: path.display().to_string(),
        text: source.text.clone(),
        seen,
        people: people.to_vec(),
        steps: args.steps.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    if args.offline {
        return plan::offline(&request(&people, false)).map_err(said);
    }
    let mut whole = one(&args.socket, &request(&[], true)).await?;
    for some in people.chunks(AT_ONCE) {
        add(&mut whole, one(&args.socket, &request(some, false)).await?);
    }
    Ok(whole)
}

async fn one(socket: &Socket, request: &PlanRequest) -> Result<PlanView, CommandError> {
    let body = serde_json::to_value(request)?;
    let answer = ask(socket, Method::POST, "/admin/v1/plan", Some(&body)).await?;
    Ok(serde_json::from_value(answer)?)
}

/// What a reload refuses is counted of people who were seen alone; who was only listed has no credential to lose.
fn add(whole: &mut PlanView, part: PlanView) {
    whole.listed += part.listed;
    for row in part.rows {
        let same = |known: &&mut PlanRow| known.app == row.app && known.rule == row.rule;
        match whole.rows.iter_mut().find(same) {
            Some(known) => {
                known.forward += row.forward;
                known.back += row.back;
                known.refused += row.refused;
            }
            None => whole.rows.push(row),
        }
    }
    whole
        .rows
        .sort_by(|a, b| (&a.app, &a.rule).cmp(&(&b.app, &b.rule)));
}

fn written(args: &Args, view: &PlanView, out: &mut dyn Write) -> io::Result<()> {
    match args.format {
        Format::Text => write_text(view, out),
        Format::Json => {
            let mut value = serde_json::to_value(view).map_err(io::Error::other)?;
            if let Some(members) = value.as_object_mut() {
                members.insert("refused".into(), view.is_refused().into());
            }
            writeln!(out, "{value:#}")
        }
    }
}

fn write_text(view: &PlanView, out: &mut dyn Write) -> io::Result<()> {
    let against = if view.revision.is_empty() {
        String::from("the time before any rollout")
    } else {
        format!("configuration {}", printable(&view.revision))
    };
    let more = if view.more { " and more" } else { "" };
    writeln!(
        out,
        "against {against}: {}{more} seen within `retention.facts`, {} of the inventory",
        view.seen, view.listed
    )?;
    if view.rows.is_empty() {
        writeln!(out, "nobody moves, nothing is newly refused")?;
    } else {
        let names = ["application", "rule", "forward", "back", "refused"];
        line(out, names.map(str::to_owned))?;
    }
    for row in &view.rows {
        let counts = [row.forward, row.back, row.refused].map(|count| count.to_string());
        let [forward, back, refused] = counts;
        let (app, rule) = (printable(&row.app), printable(&row.rule));
        line(out, [app, rule, forward, back, refused])?;
        if !row.who.is_empty() {
            writeln!(out, "  such as {}", printable(&row.who.join(" ")))?;
        }
    }
    for note in &view.notes {
        writeln!(out, "note: {}", printable(note))?;
    }
    for problem in &view.problems {
        writeln!(out, "a reload would refuse it: {}", printable(problem))?;
    }
    let (recalled, allowed) = (view.recalled, view.allowed);
    if allowed < recalled {
        writeln!(
            out,
            "a reload would refuse it: of those seen {recalled} would go back or be refused, {allowed} may: \
             `change: {{ recall: {recalled} }}` if that is meant"
        )?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, columns: [String; 5]) -> io::Result<()> {
    let [app, rule, forward, back, refused] = columns;
    writeln!(
        out,
        "{app:<20} {rule:<24} {forward:>8} {back:>8} {refused:>8}"
    )
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
        let (socket, file) = (admin.socket(), tempfile::NamedTempFile::new().unwrap());
        fs::write(file.path(), "version: 1\n").unwrap();
        let line = [
            "plan",
            file.path().to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
        ];
        let args = Cli::parse_from(line.iter().chain(words)).args;
        let mut out = Vec::new();
        let code = run(args, &mut out).await;
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_plan_is_told_for_people_and_for_programs() {
        let (code, text) = said(&[]).await;
        assert_eq!(code, ExitCode::from(RECALLS), "{text}");
        assert!(
            text.starts_with(
                "against configuration abc: 5 seen within `retention.facts`, 0 of the inventory\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("such as p:0011223344556677") && text.contains("recall: 1"),
            "{text}"
        );
        let (_, text) = said(&["--format", "json"]).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["refused"], &value["seen"]),
            (&true.into(), &5.into())
        );
    }

    #[tokio::test]
    async fn a_large_inventory_is_asked_about_in_parts_and_added_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let people: String = (0..AT_ONCE + 3).map(|n| format!("uid:{n}\n")).collect();
        fs::write(file.path(), format!("subject\n{people}")).unwrap();
        let inventory = file.path().to_str().unwrap();
        let (_, text) = said(&["--inventory", inventory, "--format", "json"]).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["listed"], AT_ONCE + 3);
        assert_eq!(value["rows"][0]["forward"], AT_ONCE + 3 + 2);
    }
}
