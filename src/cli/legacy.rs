//! `authferry legacy`: closes the old side for good, over the admin socket of a running instance.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;

use crate::admin::LegacyRequest;
use crate::admin::LegacyView;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;

/// Where an instance is asked.
const PATH: &str = "/admin/v1/legacy";

/// The end of the old side.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    socket: Socket,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// End what is left of the old side: its sessions here, their tokens there, so many a minute; then nothing of it counts any
    /// more, and there is no way back. Goes on after a restart, and where it was stopped
    Close {
        /// The old provider; without it, the only one that a rollout leaves
        provider: Option<String>,
        /// So many sessions a minute, such as `200/min`
        #[arg(long, value_name = "N/min", value_parser = pace)]
        batch: Option<u32>,
        /// Do not tell the provider, because it is gone already
        #[arg(long)]
        untold: bool,
        /// Only say how many sessions would end
        #[arg(long)]
        plan: bool,
        /// Up to how many sessions may end; needed for more than ten
        #[arg(long, value_name = "N")]
        confirm: Option<usize>,
        /// Why; recorded
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Stop after the session that is under way
    Stop {
        /// The old provider; without it, the only one that a rollout leaves
        provider: Option<String>,
        /// Why; recorded
        #[arg(long)]
        reason: String,
    },
    /// Show how far it has come
    Status,
}

/// Reads `200/min`.
fn pace(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/min").unwrap_or(text);
    let read = number.parse().ok();
    read.ok_or_else(|| String::from("so many a minute, such as `200/min`"))
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let wanted = match args.command {
        Command::Close {
            provider,
            batch,
            untold,
            plan,
            confirm,
            reason,
        } => Some(LegacyRequest {
            command: String::from("close"),
            provider,
            per_minute: batch,
            untold,
            reason,
            plan,
            confirm,
        }),
        Command::Stop { provider, reason } => Some(LegacyRequest {
            command: String::from("stop"),
            provider,
            reason,
            ..LegacyRequest::default()
        }),
        Command::Status => None,
    };
    finish(asked(&args.socket, wanted, out).await, out)
}

async fn asked(
    socket: &Socket,
    wanted: Option<LegacyRequest>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let views: Vec<LegacyView> = match wanted {
        Some(wanted) => {
            let body = serde_json::to_value(wanted)?;
            let answer = ask(socket, Method::POST, PATH, Some(&body)).await?;
            vec![serde_json::from_value(answer)?]
        }
        None => serde_json::from_value(ask(socket, Method::GET, PATH, None).await?)?,
    };
    if views.is_empty() {
        writeln!(out, "no old side is closed, or being closed")?;
    }
    for view in &views {
        show(view, out)?;
    }
    Ok(())
}

fn show(view: &LegacyView, out: &mut dyn Write) -> Result<(), CommandError> {
    let (provider, state) = (printable(&view.provider), printable(&view.state));
    let pace = view.per_minute.max(1);
    let minutes = view.remaining.div_ceil(usize::try_from(pace).unwrap_or(1));
    if view.state == "plan" {
        writeln!(
            out,
            "{provider}: {} sessions would end, {pace} a minute: about {minutes} min; tokens that clients hold are not counted",
            view.remaining
        )?;
        if 0 < view.client_tokens {
            writeln!(
                out,
                "note: {} refresh tokens of clients would count no more; each is revoked at the provider when its client shows it, or ends by itself",
                view.client_tokens
            )?;
        }
        if !view.provider_told {
            writeln!(
                out,
                "note: the provider would not be told: its tokens end by themselves"
            )?;
        }
        writeln!(out, "note: afterwards there is no way back to {provider}")?;
        return Ok(());
    }
    let closed = view
        .closed
        .map_or_else(String::new, |at| format!(" since {at}"));
    writeln!(
        out,
        "{provider}: {state}{closed}; {} sessions ended, {} tokens revoked, {} left to end by themselves",
        view.sessions, view.tokens_revoked, view.tokens_left
    )?;
    if 0 < view.sessions_unread {
        writeln!(
            out,
            "  {} sessions could not be read here (another version wrote them, or their key is gone): those of {provider} count nowhere any more",
            view.sessions_unread
        )?;
    }
    if 0 < view.remaining {
        writeln!(
            out,
            "  {} sessions remain, {pace} a minute: about {minutes} min",
            view.remaining
        )?;
    }
    if let Some(waits) = &view.waits {
        writeln!(out, "  waits: {}", printable(waits))?;
    }
    if !view.durable {
        writeln!(out, "note: the store is in memory, so a restart forgets it")?;
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
    async fn it_says_what_would_end_and_how_far_it_has_come() {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let socket = admin.socket();
        let said = async |words: &[&str]| {
            let own = ["legacy", "--socket", socket.to_str().unwrap()];
            let line = own.into_iter().chain(words.iter().copied());
            let mut out = Vec::new();
            let code = run(Cli::parse_from(line).args, &mut out).await;
            (code, String::from_utf8(out).unwrap())
        };
        let (code, text) = said(&["close", "--batch", "5/min", "--plan"]).await;
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(
            text.starts_with("old: 12 sessions would end, 5 a minute: about 3 min"),
            "{text}"
        );
        assert!(
            text.contains("note: 3 refresh tokens of clients would count no more"),
            "{text}"
        );
        let (code, text) = said(&["close", "--reason", "done"]).await;
        assert_ne!(code, ExitCode::SUCCESS);
        assert!(
            text.contains("12 sessions would end: say `confirm`"),
            "{text}"
        );
        let (code, text) = said(&["close", "--reason", "done", "--confirm", "12"]).await;
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(text.starts_with("old: closing; 0 sessions ended"), "{text}");
        let (_, text) = said(&["status"]).await;
        assert_eq!(
            text,
            "old: closed since 1000; 12 sessions ended, 11 tokens revoked, 1 left to end by themselves\n  \
             2 sessions could not be read here (another version wrote them, or their key is gone): those of old count nowhere any more\n"
        );
    }

    #[test]
    fn a_pace_is_so_many_a_minute() {
        assert_eq!(pace("200/min"), Ok(200));
        assert_eq!(pace("7"), Ok(7));
        for wrong in ["", "/min", "-1/min", "200/s", "fast"] {
            assert!(pace(wrong).is_err(), "{wrong}");
        }
    }
}
