//! Black-box cases against the program: raw bytes in, and what came of them at the client, the upstream, the providers
//! and in the log. `README.md` beside this file says how to run it and what its words mean.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::map_err_ignore,
    clippy::large_futures,
    reason = "a program of tests: it talks to people, and stops where it is wrong itself"
)]

mod case;
mod differ;
mod expect;
mod later;
mod naive;
mod names;
mod ops;
mod report;
mod run;
mod tokens;
mod variants;
mod vars;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use regex::Regex;
use tokio::time::Instant;

use case::File;
use report::Report;
use run::Runner;
use world::World;
use world::target::Kind;

/// Runs a file of security cases against authferry.
#[derive(Debug, Parser)]
struct Arguments {
    /// The case file. Without it, the project's own.
    file: Option<PathBuf>,
    /// What is tested: `authferry`, or `naive`, the negative control, which must fail.
    #[arg(long, default_value = "authferry", value_parser = ["authferry", "naive"])]
    target: String,
    /// Only cases whose id matches this regular expression.
    #[arg(long)]
    only: Option<Regex>,
    /// Writes the verdicts to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Sends variants made from the cases instead of the cases: other spellings, without credentials, in HTTP/2.
    #[arg(long)]
    variants: bool,
    /// Says what was sent and what came for each case that fails.
    #[arg(long)]
    verbose: bool,
}

/// The project's own cases.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/security/cases.yaml");

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, upstream, pki, keys] = &arguments[..]
        && flag == "--be-naive"
    {
        runtime.block_on(naive::run(upstream, pki.as_ref(), keys.as_ref()));
        return ExitCode::SUCCESS;
    }
    let verdict = runtime.block_on(cases(&Arguments::parse()));
    runtime.shutdown_background();
    match verdict {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

async fn cases(arguments: &Arguments) -> Result<bool, String> {
    let own = File::read(OWN.as_ref())?;
    let file = arguments.file.clone().unwrap_or_else(|| OWN.into());
    let mut cases = File::read(&file)?.cases;
    for case in &mut cases {
        case.adopt(&own.cases);
    }
    let kind = if arguments.target == "naive" {
        Kind::Naive
    } else {
        Kind::Authferry
    };
    let mut runner = Runner {
        world: World::start().await,
        kind,
        target: None,
        verbose: arguments.verbose,
        measured: Vec::new(),
    };
    let mut report = Report::default();
    let mut sent = 0;
    for case in &cases {
        if arguments
            .only
            .as_ref()
            .is_some_and(|only| !only.is_match(&case.id))
        {
            continue;
        }
        let start = Instant::now();
        let verdict = if arguments.variants {
            let (verdict, count) = runner.vary(case).await;
            sent += count;
            verdict
        } else {
            runner.perform(case).await
        };
        println!(
            "{}",
            report.add(
                case,
                &verdict,
                &runner.measured,
                start.elapsed().as_millis()
            )
        );
    }
    if arguments.variants {
        println!("\n{sent} variants were sent");
    }
    println!("{}", report.totals());
    if let Some(path) = &arguments.json {
        let mut json = report.json(&file.display().to_string(), &arguments.target);
        if arguments.variants {
            json["sent"] = sent.into();
        }
        std::fs::write(path, format!("{json:#}\n"))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(report.is_good())
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of the proxy is the clock of the machine"
    )]
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
