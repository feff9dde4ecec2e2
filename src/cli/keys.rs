//! `authferry keys`: the keys that sign what a running instance mints.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;

use crate::admin::KeyView;
use crate::admin::WithdrawRequest;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;

/// Where an instance tells of its keys.
const PATH: &str = "/admin/v1/keys";

/// Where it takes one out.
const WITHDRAW: &str = "/admin/v1/keys/withdraw";

/// Lists, rotates or withdraws signing keys.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Where the instance listens.
    #[command(flatten)]
    socket: Socket,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show every published key, and which one signs
    List,
    /// Make the next key now: it is published at once and signs after `secrets.signing.announce`
    Rotate,
    /// Take a key out at once, because it has leaked: it leaves every published set, the next one signs, and nothing that it
    /// has signed counts any more where authferry is asked
    Withdraw {
        /// Its `kid`, as `keys list` shows it
        kid: String,
        /// Why; recorded
        #[arg(long)]
        reason: String,
        /// That it is meant: without it nothing is done
        #[arg(long)]
        confirm: bool,
    },
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    finish(done(args, out).await, out)
}

async fn done(args: Args, out: &mut dyn Write) -> Result<(), CommandError> {
    let (method, path, body) = match args.command {
        Command::List => (Method::GET, PATH, None),
        Command::Rotate => (Method::POST, PATH, None),
        Command::Withdraw {
            kid,
            reason,
            confirm,
        } => {
            let wanted = WithdrawRequest {
                kid,
                reason,
                confirm,
            };
            (Method::POST, WITHDRAW, Some(serde_json::to_value(wanted)?))
        }
    };
    let answer = ask(&args.socket, method, path, body.as_ref()).await?;
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
