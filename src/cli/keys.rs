//! `authferry keys`: the keys that sign what a running instance mints.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;

use crate::admin::KeyView;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;

/// Where an instance tells of its keys.
const PATH: &str = "/admin/v1/keys";

/// Lists or rotates signing keys.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Where the instance listens.
    #[command(flatten)]
    socket: Socket,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Show every published key, and which one signs
    List,
    /// Make the next key now: it is published at once and signs after `secrets.signing.announce`
    Rotate,
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let method = match args.command {
        Command::List => Method::GET,
        Command::Rotate => Method::POST,
    };
    finish(show(&args.socket, method, out).await, out)
}

async fn show(socket: &Socket, method: Method, out: &mut dyn Write) -> Result<(), CommandError> {
    let answer = ask(socket, method, PATH, None).await?;
    for key in serde_json::from_value::<Vec<KeyView>>(answer)? {
        let until = key
            .until
            .map_or_else(String::new, |until| format!(", published until {until}"));
        writeln!(
            out,
            "{:<8} {} {} signs from {}{until}",
            printable(&key.state),
            printable(&key.algorithm),
            printable(&key.kid),
            key.from,
        )?;
    }
    Ok(())
}
