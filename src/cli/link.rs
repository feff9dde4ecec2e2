//! `authferry link`: which links an inventory of accounts would get, before anybody moves; and whose an account is, where that
//! is in doubt.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use clap::ValueEnum;
use http::Method;
use serde_json::Value;
use serde_json::json;

use crate::admin::LinkAnswer;
use crate::admin::LinkRequest;
use crate::app::inventory;
use crate::app::inventory::Preflight;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;
use crate::config;
use crate::config::CONFIG_VARIABLE;
use crate::config::Source;
use crate::config::System;
use crate::config::settings::Settings;
use crate::entropy::SystemEntropy;

/// Conflicts that are written for people: 50; JSON has all.
const SHOWN: usize = 50;

/// Links between the accounts of two providers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say which links an inventory would get, and what would be refused. Asks nobody and changes nothing
    ///
    /// Exit codes: 0 there are no conflicts, 1 there are some, 2 a file cannot be read or is refused.
    Check {
        /// The configuration file
        #[arg(env = CONFIG_VARIABLE)]
        file: PathBuf,
        /// Accounts of both providers: a CSV file with the columns `provider` and `account` (the subject there), and one for
        /// each attribute by our name for it, such as `employee_id`
        #[arg(long, value_name = "FILE")]
        inventory: PathBuf,
        /// How the answer looks
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Decide whose an account is, at a running instance: what was linked or seen before no longer counts. Recorded; sessions and
    /// tokens of the account, and of the one that it takes the place of, are over
    Set {
        /// The canonical subject, as `explain` shows it
        #[arg(long)]
        person: String,
        /// The provider of the account
        #[arg(long)]
        provider: String,
        /// What the provider calls it (`sub`)
        #[arg(long, value_name = "SUB")]
        account: String,
        /// Why; recorded
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        socket: Socket,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs: everything
    Json,
}

impl Args {
    /// Whether a running instance is asked.
    pub(super) const fn needs_an_instance(&self) -> bool {
        matches!(self.command, Command::Set { .. })
    }
}

/// Decides, and says what that changed.
pub(super) async fn set(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = match args.command {
        Command::Check { .. } => Ok(()),
        Command::Set {
            person,
            provider,
            account,
            reason,
            socket,
        } => {
            let wanted = LinkRequest {
                person,
                provider,
                account,
                reason,
            };
            decide(&socket, &wanted, out).await
        }
    };
    finish(done, out)
}

async fn decide(
    socket: &Socket,
    wanted: &LinkRequest,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let body = serde_json::to_value(wanted)?;
    let answer = ask(socket, Method::POST, "/admin/v1/links", Some(&body)).await?;
    let changed: LinkAnswer = serde_json::from_value(answer)?;
    writeln!(
        out,
        "linked: the account at {} is {}",
        printable(&wanted.provider),
        printable(&wanted.person)
    )?;
    if changed.displaced {
        let what = "another account there was theirs until now: it is refused from now on";
        writeln!(out, "{what}")?;
    }
    if changed.taken {
        writeln!(out, "it was another person's until now")?;
    }
    Ok(())
}

/// Checks, and says how it went.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    let Command::Check {
        file,
        inventory: listed,
        format,
    } = &args.command
    else {
        return ExitCode::from(2);
    };
    let opened = || File::open(listed).map_err(|error| error.to_string());
    let found = settings(file).and_then(|settings| {
        let checked = opened().and_then(|file| inventory::check(&settings, BufReader::new(file)));
        checked.map_err(|error| format!("{}: {error}", listed.display()))
    });
    let (code, written) = match found {
        Err(error) => (2, writeln!(out, "error: {}", printable(&error))),
        Ok(found) => {
            let written = match format {
                Format::Table => table(&found, out),
                Format::Json => writeln!(out, "{:#}", program(&found)),
            };
            (u8::from(!found.conflicts.is_empty()), written)
        }
    };
    match written {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(code.max(1)),
    }
}

fn settings(file: &std::path::Path) -> Result<Settings, String> {
    let source = Source::read(file, Arc::new(System)).map_err(|error| error.to_string())?;
    let compiled = config::load(&source).map_err(|problems| problems.to_string())?;
    let settings = compiled.draft.for_a_look(&SystemEntropy);
    settings.map_err(|error| error.to_string())
}

fn table(found: &Preflight, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} people, {} accounts", found.people, found.accounts)?;
    let row = |out: &mut dyn Write, what: &str, count: usize| writeln!(out, "{count:>9}  {what}");
    for (method, count) in &found.linked {
        row(out, &format!("linked by {method}"), *count)?;
    }
    for (provider, count) in &found.without_partner {
        let what = format!("at {} only, without partner", printable(provider));
        row(out, &what, *count)?;
    }
    row(out, "in conflict", found.conflicts.len())?;
    if 0 < found.alike {
        row(out, "like another but for the size of letters", found.alike)?;
    }
    for conflict in found.conflicts.iter().take(SHOWN) {
        let person = match conflict.person.as_str() {
            "" => String::new(),
            person => format!(" would be {}", printable(person)),
        };
        writeln!(
            out,
            "conflict  line {}: {} {}{person}: {}",
            conflict.line,
            printable(&conflict.provider),
            printable(&conflict.account),
            conflict.why
        )?;
    }
    if SHOWN < found.conflicts.len() {
        let more = found.conflicts.len() - SHOWN;
        writeln!(out, "conflict  and {more} more (--format json)")?;
    }
    Ok(())
}

fn program(found: &Preflight) -> Value {
    let conflicts = found.conflicts.iter().map(|conflict| {
        json!({
            "line": conflict.line, "provider": conflict.provider, "account": conflict.account,
            "person": conflict.person, "why": conflict.why,
        })
    });
    json!({
        "people": found.people, "accounts": found.accounts, "linked": found.linked,
        "without_partner": found.without_partner, "alike": found.alike,
        "conflicts": conflicts.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::fake::FakeAdmin;
    use crate::admin::fake::FakeBackend;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[tokio::test]
    async fn a_decision_says_what_it_changed_and_a_reason_is_needed() {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let socket = admin.socket();
        let said = async |reason: &str| {
            let line = [
                "link",
                "set",
                "--person",
                "hr:1",
                "--provider",
                "new",
                "--account",
                "a2",
                "--reason",
                reason,
                "--socket",
            ];
            let line = line.into_iter().chain([socket.to_str().unwrap()]);
            let args = Cli::parse_from(line).args;
            assert!(args.needs_an_instance());
            let mut out = Vec::new();
            let code = set(args, &mut out).await;
            (code, String::from_utf8(out).unwrap())
        };
        let (code, text) = said("HR says so").await;
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(
            text.starts_with("linked: the account at new is hr:1\nanother account there"),
            "{text}"
        );
        let (code, text) = said("").await;
        assert_ne!(code, ExitCode::SUCCESS);
        assert!(text.contains("a reason is needed"), "{text}");
    }
}
