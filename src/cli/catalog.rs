//! `authferry catalog`: what a configuration means, for those who audit it; and what ends soon.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::admin::ExpiringView;
use crate::app::catalog;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;
use crate::clock::Clock as _;
use crate::clock::SystemClock;
use crate::clock::UnixTime;
use crate::config;
use crate::config::CONFIG_VARIABLE;
use crate::config::Source;
use crate::config::System;
use crate::config::settings::Settings;
use crate::entropy::SystemEntropy;

/// Print what a configuration means as Markdown: providers, grant types, lifetimes, revocation, personal data.
///
/// Exit codes: 0 all is well, 1 the file is refused, or something that nobody renews by itself ends within the span of
/// `--expiring`, 2 the file cannot be read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(env = CONFIG_VARIABLE, required_unless_present = "running")]
    file: Option<PathBuf>,
    /// Ask a running instance instead, about the configuration that it runs with; with `--expiring` also about the signing keys
    /// that instances share.
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    socket: Socket,
    /// List what ends within this span instead, such as `30d`: certificates, tokens, client secrets, signing keys, the keys of
    /// providers as they were fetched last.
    #[arg(long, value_name = "SPAN", value_parser = days)]
    expiring: Option<Duration>,
}

impl Args {
    /// Whether an instance is asked.
    pub(super) const fn running(&self) -> bool {
        self.running
    }
}

/// Prints what a running instance says of its configuration.
pub(super) async fn running(args: Args, out: &mut dyn Write) -> ExitCode {
    let Some(span) = args.expiring else {
        return finish(of_instance(&args.socket, out).await, out);
    };
    let asked = ask(&args.socket, Method::GET, "/admin/v1/expiring", None).await;
    let found = asked.and_then(|answer| Ok(serde_json::from_value(answer)?));
    match found {
        Ok(found) => {
            let (code, written) = expiring(found, span, SystemClock.now(), out);
            finished(code, &written)
        }
        Err(error) => finish(Err(error), out),
    }
}

async fn of_instance(socket: &Socket, out: &mut dyn Write) -> Result<(), CommandError> {
    let answer = ask(socket, Method::GET, "/admin/v1/catalog", None).await?;
    let text: String = serde_json::from_value(answer)?;
    for line in text.lines() {
        writeln!(out, "{}", printable(line))?;
    }
    Ok(())
}

/// `30d` or `12h`.
fn days(text: &str) -> Result<Duration, String> {
    let (number, unit) = text
        .strip_suffix('d')
        .map(|number| (number, 86_400))
        .or_else(|| text.strip_suffix('h').map(|number| (number, 3_600)))
        .ok_or("a span is a number of days or hours, such as `30d`")?;
    let number: u32 = number
        .parse()
        .map_err(|error| format!("`{number}` is no number of days: {error}"))?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

/// Prints to `out`, and says how it went.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    let (code, written) = catalog(args, SystemClock.now(), out);
    finished(code, &written)
}

fn finished(code: u8, written: &io::Result<()>) -> ExitCode {
    ExitCode::from(if written.is_ok() { code } else { code.max(1) })
}

fn catalog(args: &Args, now: UnixTime, out: &mut dyn Write) -> (u8, io::Result<()>) {
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err((code, words)) => return (code, writeln!(out, "{words}")),
    };
    match args.expiring {
        None => (0, out.write_all(catalog::markdown(&settings).as_bytes())),
        Some(span) => {
            let all = catalog::expiring::all(&settings, now);
            let all = all.into_iter().map(ExpiringView::from).collect();
            let (code, written) = expiring(all, span, now, out);
            let told = written.and_then(|()| {
                if !catalog::expiring::are_shared(&settings) {
                    return Ok(());
                }
                let words = "Signing keys that instances share are in their store: `--running --expiring` asks an instance.";
                writeln!(out, "\n{words}")
            });
            (code, told)
        }
    }
}

fn settings(args: &Args) -> Result<Settings, (u8, String)> {
    let file = args.file.clone().unwrap_or_default();
    let source =
        Source::read(&file, Arc::new(System)).map_err(|error| (2, format!("error: {error}")))?;
    let compiled = config::load(&source).map_err(|problems| (1, problems.to_string()))?;
    compiled
        .draft
        .for_a_look(&SystemEntropy)
        .map_err(|error| (2, format!("error: {error}")))
}

/// What ends within `span`, or has ended, the first before the others; and what cannot be read.
fn expiring(
    mut found: Vec<ExpiringView>,
    span: Duration,
    now: UnixTime,
    out: &mut dyn Write,
) -> (u8, io::Result<()>) {
    let ends = |one: &ExpiringView| one.ends.map(UnixTime::from_secs);
    found.retain(|one| ends(one).is_none_or(|ends| ends <= now + span));
    found.sort_by_key(|one| one.ends.unwrap_or_default());
    let mut text = String::from("| What | Name | Used | Ends | Renewed |\n|---|---|---|---|---|\n");
    for one in &found {
        let when = match ends(one) {
            Some(ends) if ends <= now => format!("ended {}", date(ends)),
            Some(ends) => date(ends),
            None => printable(one.problem.as_deref().unwrap_or_default()),
        };
        let renewed = if one.renews_itself {
            "by itself"
        } else {
            "by you"
        };
        text.push_str(&format!(
            "| {} | `{}` | {} | {when} | {renewed} |\n",
            printable(&one.kind.replace('_', " ")),
            printable(&one.name),
            printable(&one.used)
        ));
    }
    let news = |one: &ExpiringView| ends(one).is_none_or(|ends| ends <= now || !one.renews_itself);
    let code = u8::from(found.iter().any(news));
    (code, out.write_all(text.as_bytes()))
}

fn date(moment: UnixTime) -> String {
    let seconds = i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "never".to_owned(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_unit() {
        assert_eq!(days("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(days("12h"), Ok(Duration::from_secs(12 * 3_600)));
        for bad in ["30", "", "d", "-1d", "1.5d", "30 d", "4294967296d"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }
}
