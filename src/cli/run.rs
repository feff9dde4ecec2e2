//! `authferry run` and `authferry demo`.

use std::io;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::Options;
use crate::app::Running;
use crate::config::CONFIG_VARIABLE;
use crate::demo;

/// Serve.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, short, env = CONFIG_VARIABLE, default_value = "/etc/authferry/authferry.yaml")]
    config: PathBuf,
}

/// Starts the proxy, says in one line where it listens, and serves until it is told to stop.
pub(super) async fn run(args: Args) -> ExitCode {
    let running = match Running::start(Options::for_config(args.config)).await {
        Ok(running) => running,
        Err(error) => return failed(&error),
    };
    let public = running
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let admin = running
        .admin_address()
        .map_or_else(|| "-".to_owned(), |address| address.to_string());
    // Whoever started us may not read this.
    drop(writeln!(
        io::stdout(),
        "ready public={public} admin={admin}"
    ));
    drop(io::stdout().flush());
    if running.until_stopped().await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Starts the demonstration.
/// The drill exits with 1 when a promise was broken.
pub(super) async fn demo(args: &demo::drill::Args) -> ExitCode {
    if args.drill {
        return match demo::drill::run(args, &mut io::stdout()).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failed(&error),
        };
    }
    match demo::run(&mut io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says why, with every cause.
fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = next.source();
    }
    drop(writeln!(io::stderr(), "authferry: {words}"));
    ExitCode::from(1)
}
