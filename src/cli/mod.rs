//! The command line: parsed here, done elsewhere.

mod catalog;
pub(crate) mod check;
mod clients;
pub(crate) mod ctl;
pub(crate) mod drill;
mod explain;
mod forget;
mod keys;
mod legacy;
mod link;
pub(crate) mod log;
mod outline;
mod plan;
mod reference;
mod report;
mod revoke;
mod rollouts;
mod run;
pub(crate) mod schema;
mod status;

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
    Demo(crate::demo::drill::Args),
    /// Turn a running proxy: kill switch, reload, status.
    Ctl(ctl::Args),
    /// End sessions and tokens before their time, and take that back.
    Revoke(revoke::Args),
    /// Erase what is kept of a person.
    Forget(forget::Args),
    /// What would happen to somebody at an application, and why.
    Explain(explain::Args),
    /// Whom another configuration would move, back or forward, before it runs.
    Plan(plan::Args),
    /// Evidence: who is where, who still uses the old provider, what keeps a rollout, what a switch back would do, what happened.
    Report(report::Args),
    /// The clients of our token endpoint: import, export, rotate.
    Clients(clients::Args),
    /// The keys that sign what a running instance mints.
    Keys(keys::Args),
    /// Links between accounts: what would be made of an inventory, and whose an account is where that is in doubt.
    Link(link::Args),
    /// The end of the old side: its sessions and tokens, and the way back.
    Legacy(legacy::Args),
    /// Exercises: what must be refused, and an outage for a few.
    Drill(drill::Args),
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
        Command::Link(args) if args.needs_an_instance() => with_runtime("warn", |runtime| {
            runtime.block_on(link::set(args, &mut out))
        }),
        Command::Link(args) => link::run(&args, &mut out),
        Command::Clients(args) => clients::run(&args, &mut out),
        Command::Catalog(args) if args.running() => with_runtime("warn", |runtime| {
            runtime.block_on(catalog::running(args, &mut out))
        }),
        Command::Catalog(args) => catalog::run(&args, &mut out),
        Command::Schema(args) => schema::run(&args, &mut out),
        Command::Run(args) => with_runtime(&cli.log, |runtime| {
            drop(out);
            runtime.block_on(run::run(args))
        }),
        Command::Demo(args) => with_runtime("warn", |runtime| {
            drop(out);
            runtime.block_on(run::demo(&args))
        }),
        Command::Ctl(args) => {
            with_runtime("warn", |runtime| runtime.block_on(ctl::run(args, &mut out)))
        }
        Command::Revoke(args) => with_runtime("warn", |runtime| {
            runtime.block_on(revoke::run(args, &mut out))
        }),
        Command::Forget(args) => with_runtime("warn", |runtime| {
            runtime.block_on(forget::run(args, &mut out))
        }),
        Command::Explain(args) => with_runtime("warn", |runtime| {
            runtime.block_on(explain::run(args, &mut out))
        }),
        Command::Plan(args) => with_runtime("warn", |runtime| {
            runtime.block_on(plan::run(args, &mut out))
        }),
        Command::Report(args) => with_runtime("warn", |runtime| {
            runtime.block_on(report::run(args, &mut out))
        }),
        Command::Legacy(args) => with_runtime("warn", |runtime| {
            runtime.block_on(legacy::run(args, &mut out))
        }),
        Command::Drill(args) => with_runtime("warn", |runtime| {
            runtime.block_on(drill::run(args, &mut out))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::error::ErrorKind;

    use super::*;

    /// The words of a line of a shell: quotes are kept together, and a comment is left out.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                '#' if !quoted && word.is_empty() => break,
                ' ' if !quoted => {
                    words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()))
                }
                c => word.push(c),
            }
        }
        words.extend(Some(word).filter(|w| !w.is_empty()));
        words
    }

    /// Commands in a text: lines of its shell blocks, which must be whole, and what stands in code letters, which may name
    /// a command without what it needs.
    fn commands(text: &str) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        for (place, block) in text.split("```").enumerate() {
            if place % 2 == 0 {
                let named = block.split('`').skip(1).step_by(2);
                found.extend(named.map(|line| (line.to_owned(), false)));
            } else if block.starts_with("sh\n") {
                found.extend(block.lines().map(|line| (line.to_owned(), true)));
            }
        }
        found.retain(|(line, _)| line.starts_with("authferry ") && !line.contains('…'));
        found
    }

    #[test]
    fn every_command_that_our_pages_show_is_one() {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut pages: Vec<_> = [
            "README.md",
            "deploy/README.md",
            "config/README.md",
            "SECURITY.md",
        ]
        .map(|page| std::path::Path::new(root).join(page))
        .to_vec();
        let runbooks = fs::read_dir(format!("{root}/deploy/runbooks")).unwrap();
        pages.extend(runbooks.map(|page| page.unwrap().path()));
        let (mut wrong, mut seen) = (Vec::new(), 0);
        for page in pages {
            let text = fs::read_to_string(&page).unwrap();
            for (command, whole) in commands(&text) {
                seen += 1;
                let kind = Cli::try_parse_from(words(&command)).err().map(|e| e.kind());
                let good = match kind {
                    None | Some(ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => true,
                    // A word that stands for a value.
                    Some(ErrorKind::ValueValidation) => command.contains("SEQ:HASH"),
                    Some(
                        ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                    ) => !whole,
                    Some(_) => false,
                };
                if !good {
                    wrong.push(format!("{}: {command}: {kind:?}", page.display()));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        assert!(80 < seen, "{seen} commands");
    }

    #[test]
    fn a_command_that_is_none_is_noticed() {
        let text = "`authferry ctl klil`\n```sh\nauthferry revoke list   # all\nls\n```\n";
        let found = commands(text);
        assert_eq!(found.len(), 2);
        assert!(Cli::try_parse_from(words(&found[0].0)).is_err());
        assert_eq!(words(&found[1].0), ["authferry", "revoke", "list"]);
        assert!(!found[0].1 && found[1].1);
    }
}
