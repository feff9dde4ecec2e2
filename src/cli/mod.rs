//! The command line: parsed here, done elsewhere.

mod catalog;
pub(crate) mod check;
pub(crate) mod ctl;
pub(crate) mod explain;
mod keys;
pub(crate) mod log;
mod revoke;
mod run;
pub(crate) mod schema;

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

use crate::config::LOG_VARIABLE;
use crate::telemetry::diagnostics;

/// Moves users and API clients from an old identity provider to a new one.
#[derive(Debug, Parser)]
#[command(name = "authferry", version, about, arg_required_else_help = true)]
struct Cli {
    /// What the diagnostics log on standard error says, such as `info` or `authferry=debug`.
    #[arg(long, env = LOG_VARIABLE, default_value = "info", global = true)]
    log: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    Run(run::Args),
    /// Check a configuration file: every problem at once.
    Check(check::Args),
    /// Print what a configuration means for those who audit it, as Markdown; or what ends soon.
    Catalog(catalog::Args),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::Args),
    /// Try it: two throw-away providers and an old application, on this machine only.
    Demo,
    /// Turn a running proxy: kill switch, reload, status.
    Ctl(ctl::Args),
    /// End sessions and tokens before their time, and take that back.
    Revoke(revoke::Args),
    /// What would happen to somebody at an application, and why.
    Explain(explain::Args),
    /// The keys that sign what a running instance mints.
    Keys(keys::Args),
    /// The ledger: whether it verifies, and what it says.
    Log(log::Args),
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout().lock();
    let code = match cli.command {
        Command::Check(args) if args.online() => with_runtime("error", |runtime| {
            runtime.block_on(check::online(&args, &mut out))
        }),
        Command::Check(args) => check::run(&args, &mut out),
        Command::Log(args) => log::run(&args, &mut out),
        Command::Catalog(args) => catalog::run(&args, &mut out),
        Command::Schema(args) => schema::run(&args, &mut out),
        Command::Run(args) => with_runtime(&cli.log, |runtime| {
            drop(out);
            runtime.block_on(run::run(args))
        }),
        Command::Demo => with_runtime("warn", |runtime| {
            drop(out);
            runtime.block_on(run::demo())
        }),
        Command::Ctl(args) => {
            with_runtime("warn", |runtime| runtime.block_on(ctl::run(args, &mut out)))
        }
        Command::Revoke(args) => with_runtime("warn", |runtime| {
            runtime.block_on(revoke::run(args, &mut out))
        }),
        Command::Explain(args) => with_runtime("warn", |runtime| {
            runtime.block_on(explain::run(args, &mut out))
        }),
        Command::Keys(args) => with_runtime("warn", |runtime| {
            runtime.block_on(keys::run(args, &mut out))
        }),
    };
    // Whoever read our output may be gone, which is no failure of ours.
    drop(io::stdout().flush());
    code
}

/// The runtime of everything that is not a request.
fn with_runtime(log: &str, work: impl FnOnce(&Runtime) -> ExitCode) -> ExitCode {
    let mut err = io::stderr();
    if let Err(error) = diagnostics::start(log) {
        drop(writeln!(err, "authferry: {error}"));
        return ExitCode::from(2);
    }
    // The process default is what LDAP and TLS to providers use; a second call would be a second stack.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        drop(writeln!(
            err,
            "authferry: another crypto provider is installed already"
        ));
        return ExitCode::from(2);
    }
    match Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = work(&runtime);
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            drop(writeln!(err, "authferry: no runtime: {error}"));
            ExitCode::from(1)
        }
    }
}
