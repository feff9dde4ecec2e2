//! `authferry drill`: exercises at a running instance, recorded, and asked for by a stage.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use crate::admin::DrillRequest;
use crate::admin::DrillView;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;

/// Where an instance is asked.
const PATH: &str = "/admin/v1/drills";
/// How often it is asked whether it is over.
const LOOK: Duration = Duration::from_millis(500);

/// An exercise.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: Socket,
    /// `modern-outage`, `legacy-outage`: the provider counts as away for a cohort. `jwks-rotation`, `bad-token-format`: what the
    /// new provider must refuse is shown to it
    name: String,
    /// Of which rollout; without it, of the only one
    #[arg(long)]
    rollout: Option<String>,
    /// For whom; needed for an outage
    #[arg(long)]
    cohort: Option<String>,
    /// For how long, such as `5m`; needed for an outage, at most an hour
    #[arg(long, value_name = "SPAN", value_parser = span)]
    r#for: Option<u64>,
    /// Why; recorded
    #[arg(long)]
    reason: String,
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
    let wanted = DrillRequest {
        name: args.name,
        rollout: args.rollout,
        cohort: args.cohort,
        seconds: args.r#for,
        reason: args.reason,
    };
    let body = serde_json::to_value(wanted)?;
    let answer = ask(&args.socket, Method::POST, PATH, Some(&body)).await?;
    let mut view: DrillView = serde_json::from_value(answer)?;
    let number = view.number;
    writeln!(
        out,
        "{} of {}: running",
        printable(&view.name),
        printable(&view.rollout)
    )?;
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
    for seen in &view.seen {
        writeln!(out, "  {}", printable(seen))?;
    }
    writeln!(out, "{}", printable(&view.state))?;
    Ok(view.state == "passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit() {
        assert_eq!(
            (span("90s"), span("5m"), span("1h")),
            (Ok(90), Ok(300), Ok(3_600))
        );
        for bad in ["", "5", "m", "-1s", "1d", "5µ"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
