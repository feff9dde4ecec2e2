//! `authferry ctl`: asks a running instance, over its admin socket.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use clap::ValueEnum;
use http::Method;
use http::StatusCode;
use serde_json::Value;

use crate::admin;
use crate::admin::ClientError;
use crate::admin::KillRequest;
use crate::admin::KillView;
use crate::admin::OrderRequest;
use crate::admin::ReloadAnswer;
use crate::admin::RolloutView;
use crate::cli::status;
use crate::telemetry;

/// What `ctl` and `explain` exit with when the instance says no.
const REFUSED: u8 = 1;

/// What they exit with when there is no instance to ask.
const UNREACHABLE: u8 = 3;

/// Asks a running instance.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Where the instance listens.
    #[command(flatten)]
    pub(super) socket: Socket,
    /// What to ask for.
    #[command(subcommand)]
    command: Command,
}

/// The admin socket of an instance.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Socket {
    /// The admin socket of the instance; without it, `admin.sock` in the state directory
    #[arg(long, value_name = "PATH", env = "AUTHFERRY_ADMIN_SOCKET")]
    socket: Option<PathBuf>,
    /// The state directory of the instance, as in its configuration
    #[arg(
        long,
        value_name = "PATH",
        env = "AUTHFERRY_STATE_DIR",
        default_value = "./authferry-state"
    )]
    state_dir: PathBuf,
}

impl Socket {
    pub(super) fn path(&self) -> PathBuf {
        let default = || self.state_dir.join("admin.sock");
        self.socket.clone().unwrap_or_else(default)
    }
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Move the kill switch: it holds before this returns, and survives a restart
    Kill {
        /// Where to
        position: Position,
        /// One rollout; all without it
        #[arg(long, value_name = "ID")]
        rollout: Option<String>,
        /// Why; recorded, and needed to loosen the switch
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show what runs: configuration, rollouts, kill switch, providers
    Status {
        /// Show it again and again, every so many seconds, until it is stopped
        #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
        watch: Option<u64>,
    },
    /// Begin a rollout with its first stage
    Start(Order),
    /// Go to the next step, now that everything it needs is there
    Promote(Forward),
    /// Stay in this step until somebody resumes
    Pause(Order),
    /// Go on, after a pause, a hold or a rollback
    Resume(Order),
    /// Go back: new logins as in the step before
    Rollback(Order),
    /// Go to a step, whatever the evidence says
    SetStage {
        /// The step: `STAGE`, or `STAGE/PERCENT`
        step: String,
        /// Which rollout, why, and what is meant.
        #[command(flatten)]
        forward: Forward,
    },
    /// Read the configuration again
    Reload,
}

/// An order to a rollout.
#[derive(clap::Args, Clone, Debug)]
struct Order {
    /// The rollout; without it, the only one
    #[arg(long, value_name = "ID")]
    rollout: Option<String>,
    /// Why; recorded
    #[arg(long)]
    reason: String,
}

/// An order to go on.
#[derive(clap::Args, Clone, Debug)]
struct Forward {
    /// Which rollout, and why.
    #[command(flatten)]
    order: Order,
    /// So many people may start at the old provider again by it, of those let in lately; without it, as many as `audit.max_recall` says. Recorded
    #[arg(long, value_name = "PEOPLE")]
    recall: Option<u64>,
}

/// The positions of the kill switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Position {
    /// No effect
    Off,
    /// Nothing moves
    Freeze,
    /// All new logins and password checks at the old provider
    Legacy,
    /// All at the new provider; credentials of the old one are refused
    Modern,
    /// Everything is answered 503
    Deny,
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = match &args.command {
        Command::Kill {
            position,
            rollout,
            reason,
        } => {
            let word = position.to_possible_value();
            let wanted = KillRequest {
                position: word.map_or_else(String::new, |word| word.get_name().to_owned()),
                rollout: rollout.clone(),
                reason: reason.clone(),
            };
            kill(&args.socket, &wanted, out).await
        }
        Command::Status { watch } => status::show(&args.socket, *watch, out).await,
        Command::Reload => reload(&args.socket, out).await,
        Command::Start(order) => obey(&args.socket, "start", order, out).await,
        Command::Promote(forward) => go_on(&args.socket, "promote", None, forward, out).await,
        Command::Pause(order) => obey(&args.socket, "pause", order, out).await,
        Command::Resume(order) => obey(&args.socket, "resume", order, out).await,
        Command::Rollback(order) => obey(&args.socket, "rollback", order, out).await,
        Command::SetStage { step, forward } => {
            go_on(&args.socket, "set-stage", Some(step), forward, out).await
        }
    };
    finish(done, out)
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// There is nobody to ask.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The instance says no.
    #[error("{}", reason(.0))]
    Refused(Value),
    /// The answer is not what this version expects.
    #[error("the instance speaks another version: {0}")]
    Version(#[from] serde_json::Error),
    /// Nothing can be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// The exit code, and a last line if something went wrong.
pub(super) fn finish(done: Result<(), CommandError>, out: &mut dyn Write) -> ExitCode {
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    // If this cannot be written either, the exit code says it.
    drop(writeln!(out, "error: {}", printable(&error.to_string())));
    match error {
        CommandError::Client(_) => {
            drop(writeln!(
                out,
                "hint: is the instance running, and is this its admin socket (--socket, --state-dir)? The kill file works without it."
            ));
            UNREACHABLE.into()
        }
        CommandError::Refused(_) | CommandError::Version(_) | CommandError::Output(_) => {
            REFUSED.into()
        }
    }
}

/// Asks, and takes everything but success for a refusal.
pub(super) async fn ask(
    socket: &Socket,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, CommandError> {
    let (status, value) = admin::ask(&socket.path(), method, path, body).await?;
    if status.is_success() {
        Ok(value)
    } else {
        Err(CommandError::Refused(value))
    }
}

async fn kill(
    socket: &Socket,
    wanted: &KillRequest,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let body = serde_json::to_value(wanted)?;
    let answer = ask(socket, Method::POST, "/admin/v1/kill", Some(&body)).await?;
    let view: KillView = serde_json::from_value(answer)?;
    write_kill(&view, out)?;
    let own = match &wanted.rollout {
        None => Some(&view.global),
        Some(rollout) => view.rollouts.get(rollout),
    };
    if own.map_or("off", String::as_str) != wanted.position {
        writeln!(
            out,
            "note: the kill file or the environment says something else, and the most restrictive holds"
        )?;
    }
    if view.persisted == Some(false) {
        writeln!(
            out,
            "note: it could not be written down, so a restart would forget it"
        )?;
    }
    Ok(())
}

/// Orders a rollout to do something.
async fn obey(
    socket: &Socket,
    command: &str,
    order: &Order,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let forward = Forward {
        order: order.clone(),
        recall: None,
    };
    go_on(socket, command, None, &forward, out).await
}

/// The same, of an order that may lead forward.
async fn go_on(
    socket: &Socket,
    command: &str,
    stage: Option<&String>,
    forward: &Forward,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let order = &forward.order;
    let rollout = match &order.rollout {
        Some(rollout) => rollout.clone(),
        None => {
            let all = ask(socket, Method::GET, "/admin/v1/rollouts", None).await?;
            match serde_json::from_value::<Vec<RolloutView>>(all)?.as_slice() {
                [one] => one.id.clone(),
                [] => return Err(CommandError::Refused("there is no rollout".into())),
                [..] => {
                    let why = "there are several rollouts: --rollout says which";
                    return Err(CommandError::Refused(why.into()));
                }
            }
        }
    };
    let body = serde_json::to_value(OrderRequest {
        rollout,
        command: command.to_owned(),
        stage: stage.cloned(),
        reason: order.reason.clone(),
        recall: forward.recall,
    })?;
    let answer = ask(socket, Method::POST, "/admin/v1/rollouts", Some(&body)).await?;
    super::rollouts::write(&serde_json::from_value(answer)?, out)?;
    Ok(())
}

async fn reload(socket: &Socket, out: &mut dyn Write) -> Result<(), CommandError> {
    let (status, value) = admin::ask(&socket.path(), Method::POST, "/-/reload", None).await?;
    if !status.is_success() && status != StatusCode::UNPROCESSABLE_ENTITY {
        return Err(CommandError::Refused(value));
    }
    let answer: ReloadAnswer = serde_json::from_value(value)?;
    for problem in &answer.problems {
        writeln!(out, "{}", printable(problem))?;
    }
    for key in &answer.waiting {
        writeln!(
            out,
            "note: {} takes effect at the next start only",
            printable(key)
        )?;
    }
    if status.is_success() {
        writeln!(out, "configuration {} runs", printable(&answer.revision))?;
        Ok(())
    } else {
        let revision = &answer.revision;
        let why = format!("the file is refused; configuration {revision} still runs");
        Err(CommandError::Refused(Value::String(why)))
    }
}

pub(super) fn write_kill(view: &KillView, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "kill switch    {}", printable(&view.global))?;
    for (rollout, position) in &view.rollouts {
        write!(out, "; {}: {}", printable(rollout), printable(position))?;
    }
    writeln!(out)
}

/// What the instance says about a refusal.
fn reason(answer: &Value) -> String {
    let said = answer.get("reason").and_then(Value::as_str);
    said.or_else(|| answer.as_str())
        .map_or_else(|| answer.to_string(), |said| said.trim().to_owned())
}

/// Text for a terminal: whatever could move its cursor, change its colours or reorder it is written as an escape.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if telemetry::is_unprintable(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::fake::FakeAdmin;
    use crate::admin::fake::FakeBackend;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    async fn said(admin: &FakeAdmin, words: &[&str]) -> (ExitCode, String) {
        let socket = admin.socket();
        let socket = socket.to_str().unwrap();
        let begin = ["ctl", "--socket", socket];
        let line = begin.iter().chain(words);
        let mut out = Vec::new();
        let code = run(Cli::parse_from(line).args, &mut out).await;
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn the_kill_switch_moves_from_the_command_line() {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let (code, text) = said(&admin, &["kill", "legacy"]).await;
        assert_eq!(
            (code, text.as_str()),
            (ExitCode::SUCCESS, "kill switch    legacy\n")
        );
        let (code, text) = said(&admin, &["kill", "off"]).await;
        assert_eq!(code, ExitCode::from(REFUSED));
        assert!(text.contains("reason"), "{text}");
        let (code, text) = said(&admin, &["kill", "off", "--reason", "fixed"]).await;
        assert_eq!(code, ExitCode::SUCCESS, "{text}");
        let (_, text) = said(&admin, &["status"]).await;
        assert!(text.contains("kill switch    off"), "{text}");
        assert!(text.contains("configuration  abc"), "{text}");
    }

    #[tokio::test]
    async fn a_refused_reload_fails_and_prints_the_problems() {
        let admin = FakeAdmin::start(FakeBackend {
            problems: vec!["rollout.percent: 150".into()],
            ..FakeBackend::default()
        })
        .await;
        let (code, text) = said(&admin, &["reload"]).await;
        assert_eq!(code, ExitCode::from(REFUSED));
        assert!(text.contains("rollout.percent: 150"), "{text}");
        assert!(text.contains("still runs"), "{text}");
    }

    #[tokio::test]
    async fn without_an_instance_the_hint_names_the_socket() {
        let nowhere = ["ctl", "--state-dir", "/nonexistent", "status"];
        let mut out = Vec::new();
        let code = run(Cli::parse_from(nowhere).args, &mut out).await;
        let text = String::from_utf8(out).unwrap();
        assert_eq!(code, ExitCode::from(UNREACHABLE));
        assert!(text.contains("/nonexistent/admin.sock"), "{text}");
        assert!(text.contains("--socket"), "{text}");
    }

    #[test]
    fn an_answer_cannot_move_the_cursor() {
        assert_eq!(
            printable("a\u{1b}[2J\u{202e}b\r"),
            "a\\u{1b}[2J\\u{202e}b\\r"
        );
        assert_eq!(printable("Zoë"), "Zoë");
    }
}
