//! `authferry forget`: erases what a running instance keeps of a person.

use std::io::Write;
use std::process::ExitCode;

use http::Method;

use crate::admin::ForgetAnswer;
use crate::admin::ForgetRequest;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;

/// Erase what is kept of a person: sessions, links, where they were. Counts without names stay; so does the sealed record that
/// and why it was done, until it expires.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The canonical subject, as `explain` shows it
    #[arg(long)]
    subject: String,
    /// Why; recorded
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = forget(&args, out).await;
    finish(done, out)
}

async fn forget(args: &Args, out: &mut dyn Write) -> Result<(), CommandError> {
    let wanted = serde_json::to_value(ForgetRequest {
        subject: args.subject.clone(),
        reason: args.reason.clone(),
    })?;
    let path = "/admin/v1/forget";
    let answer = ask(&args.socket, Method::POST, path, Some(&wanted)).await?;
    let gone: ForgetAnswer = serde_json::from_value(answer)?;
    writeln!(
        out,
        "forgotten: {} sessions, {} linked accounts, {} pins",
        gone.sessions, gone.accounts, gone.pins
    )?;
    if 0 < gone.unread {
        writeln!(
            out,
            "  and {} sessions that could not be read: another version wrote them, or their key is gone",
            gone.unread
        )?;
    }
    if gone.at_least {
        writeln!(out, "there may be more: ask again")?;
    }
    Ok(())
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
    async fn what_was_kept_is_counted_and_a_reason_is_needed() {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let socket = admin.socket();
        let said = async |reason: &str| {
            let line = ["forget", "--subject", "hr:1", "--reason", reason];
            let line = line
                .into_iter()
                .chain(["--socket", socket.to_str().unwrap()]);
            let mut out = Vec::new();
            let code = run(Cli::parse_from(line).args, &mut out).await;
            (code, String::from_utf8(out).unwrap())
        };
        let (code, text) = said("asked to").await;
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(text, "forgotten: 2 sessions, 1 linked accounts, 0 pins\n");
        let (code, text) = said("").await;
        assert_ne!(code, ExitCode::SUCCESS);
        assert!(text.contains("a reason is needed"), "{text}");
    }
}
