//! `authferry drill`: exercises at a running instance, recorded, and asked for by a stage.

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use http::Method;
use serde_json::Value;

use crate::admin::DrillAccount;
use crate::admin::DrillRequest;
use crate::admin::DrillView;
use crate::admin::LoadView;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;
use crate::secret::Secret;

/// Where an instance is asked.
const PATH: &str = "/admin/v1/drills";
/// How often it is asked whether it is over.
const LOOK: Duration = Duration::from_millis(500);

/// An exercise.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: Socket,
    /// People of a cohort meet, for a while: `modern-outage`, `legacy-outage`, `slow:2s`, `rate-limited`, `introspection-garbage`,
    /// `keys-gone`, `rollback`. Nobody meets: `jwks-rotation`, `bad-token-format`, `clock-skew:90s`. A test account meets:
    /// `credential-leak`. A provider meets: `provider-load`
    name: String,
    /// Of which rollout; without it, of the only one
    #[arg(long)]
    rollout: Option<String>,
    /// At which of its providers, where there is a choice; without it, at the new one
    #[arg(long)]
    provider: Option<String>,
    /// For whom, where people meet it
    #[arg(long)]
    cohort: Option<String>,
    /// For how long, such as `5m`: where people meet it at most an hour, under load at most ten minutes
    #[arg(long, value_name = "SPAN", value_parser = span)]
    r#for: Option<u64>,
    /// Whose credentials leak: a test account's, who is signed in, such as `hr:99`
    #[arg(long)]
    subject: Option<String>,
    /// For `provider-load`: calls a second, at most 500
    #[arg(long)]
    rps: Option<u32>,
    /// For `provider-load`: how long 99 of 100 calls may take, such as `800ms`. One second without it
    #[arg(long, value_name = "SPAN", value_parser = millis)]
    p99: Option<u64>,
    /// Test accounts: CSV with the columns `username` and `password`, or `token`. Needed by `provider-load` and `clock-skew`
    #[arg(long, value_name = "FILE")]
    accounts: Option<PathBuf>,
    /// How it looks
    #[arg(long, default_value = "table")]
    format: Format,
    /// Why; recorded
    #[arg(long)]
    reason: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people at a terminal
    Table,
    /// For programs
    Json,
}

/// Reads `800ms`, or what [`span`] reads.
fn millis(text: &str) -> Result<u64, String> {
    match text.strip_suffix("ms").map(str::parse) {
        Some(Ok(millis)) => Ok(millis),
        Some(Err(_)) | None => Ok(span(text)?.saturating_mul(1_000)),
    }
}

/// Reads `90s`, `5m`, `1h`.
fn span(text: &str) -> Result<u64, String> {
    let read = |text: &str, of: u64| Some(text.parse::<u64>().ok()?.saturating_mul(of));
    let found = match text.char_indices().next_back() {
        Some((at, 's')) => read(text.get(..at).unwrap_or_default(), 1),
        Some((at, 'm')) => read(text.get(..at).unwrap_or_default(), 60),
        Some((at, 'h')) => read(text.get(..at).unwrap_or_default(), 3_600),
        Some(_) | None => None,
    };
    found.ok_or_else(|| String::from("a number and its unit, such as `5m`"))
}

/// Runs the command; what it has to say goes to `out`. An exercise that failed is a failure.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    match drilled(args, out).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => finish(Err(error), out),
    }
}

async fn drilled(args: Args, out: &mut dyn Write) -> Result<bool, CommandError> {
    let said = |what: String| CommandError::Refused(Value::String(what));
    let table = args.format == Format::Table;
    let wanted = DrillRequest {
        name: args.name,
        rollout: args.rollout,
        cohort: args.cohort,
        provider: args.provider,
        seconds: args.r#for,
        subject: args.subject,
        rps: args.rps,
        p99_millis: args.p99,
        accounts: match &args.accounts {
            Some(file) => accounts(file).map_err(said)?,
            None => Vec::new(),
        },
        reason: args.reason,
    };
    let body = serde_json::to_value(wanted)?;
    let answer = ask(&args.socket, Method::POST, PATH, Some(&body)).await?;
    let mut view: DrillView = serde_json::from_value(answer)?;
    let number = view.number;
    if table {
        let (name, rollout) = (printable(&view.name), printable(&view.rollout));
        writeln!(out, "{name} of {rollout}: running")?;
    }
    while view.state == "running" {
        tokio::time::sleep(LOOK).await;
        let answer = ask(&args.socket, Method::GET, PATH, None).await?;
        let all: Vec<DrillView> = serde_json::from_value(answer)?;
        if let Some(own) = all.into_iter().find(|one| one.number == number) {
            view = own;
        } else {
            writeln!(out, "how it ended is in the ledger")?;
            return Ok(false);
        }
    }
    if !table {
        let value = serde_json::to_value(&view)?;
        writeln!(out, "{value:#}")?;
        return Ok(view.state == "passed");
    }
    if let Some(load) = &view.load {
        figures(load, out)?;
    }
    for seen in &view.seen {
        writeln!(out, "  {}", printable(seen))?;
    }
    writeln!(out, "{}", printable(&view.state))?;
    Ok(view.state == "passed")
}

/// What a provider did under load, as a table.
fn figures(load: &LoadView, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![
        (String::from("provider"), printable(&load.provider)),
        (
            String::from("answers a second"),
            format!("{:.1} of {}", load.reached_rps, load.asked_rps),
        ),
        (
            String::from("calls"),
            format!("{} of {} in {:.1} s", load.sent, load.due, load.seconds),
        ),
        (String::from("good"), load.good.to_string()),
        (String::from("429"), load.too_many.to_string()),
        (String::from("late"), load.late.to_string()),
    ];
    let others = load.others.iter();
    rows.extend(others.map(|(why, count)| (printable(why), count.to_string())));
    for name in ["p50", "p90", "p95", "p99", "max"] {
        let took = load.millis.get(name);
        rows.push((
            name.to_owned(),
            took.map_or("-".to_owned(), |ms| format!("{ms:.1} ms")),
        ));
    }
    for (name, value) in rows {
        writeln!(out, "  {name:<18}{value}")?;
    }
    Ok(())
}

/// Test accounts of a file.
fn accounts(file: &Path) -> Result<Vec<DrillAccount>, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let text = Secret::new(text);
    let plain = text
        .expose()
        .strip_prefix('\u{feff}')
        .unwrap_or(text.expose());
    let mut reader = csv::ReaderBuilder::new().from_reader(plain.as_bytes());
    // What stands in a line is not repeated: it may be a password.
    let broken = |line: u64| format!("{name}, line {line}: it cannot be read");
    let head = reader.headers().or(Err(broken(1)))?.clone();
    let known = ["username", "password", "token"];
    if let Some(other) = head.iter().find(|column| !known.contains(column)) {
        return Err(format!(
            "{name}, line 1: `{}` is none of {}",
            printable(other),
            known.join(", ")
        ));
    }
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record.or(Err(broken(all.len() as u64 + 2)))?;
        let value = |column: &str| {
            let place = head.iter().position(|own| own == column);
            let value = place.and_then(|place| record.get(place));
            value.unwrap_or_default().to_owned()
        };
        all.push(DrillAccount {
            username: value("username"),
            password: value("password"),
            token: value("token"),
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_what_cannot_be_read_is_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("accounts.csv");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            accounts(&file)
        };
        let all = read("username,password\nann,\"a,b \"\nbob,c\n").unwrap();
        let names: Vec<_> = all.iter().map(|one| one.username.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert_eq!((&*all[0].password, &*all[0].token), ("a,b ", ""));
        assert_eq!(read("token\nabc\n").unwrap()[0].token, "abc");
        let why = read("username,password\nann,hunter2,x\n").unwrap_err();
        assert!(why.ends_with("line 2: it cannot be read"), "{why}");
        assert!(
            read("user,password\n")
                .unwrap_err()
                .contains("`user` is none of")
        );
    }

    #[test]
    fn figures_are_a_table() {
        let load = LoadView {
            provider: "new".into(),
            asked_rps: 50,
            reached_rps: 49.9,
            others: [("rate_limited".to_owned(), 3)].into(),
            millis: [("p99".to_owned(), 12.5)].into(),
            ..LoadView::default()
        };
        let mut out = Vec::new();
        figures(&load, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "answers a second  49.9 of 50",
            "rate_limited      3",
            "p99               12.5 ms",
            "p50               -",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn a_span_has_a_unit() {
        assert_eq!(
            (span("90s"), span("5m"), span("1h")),
            (Ok(90), Ok(300), Ok(3_600))
        );
        assert_eq!((millis("800ms"), millis("2s")), (Ok(800), Ok(2_000)));
        assert!(millis("ms").is_err() && millis("8").is_err());
        for bad in ["", "5", "m", "-1s", "1d", "5µ"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
