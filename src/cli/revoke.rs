//! `authferry revoke`: ends sessions and tokens before their time, over the admin socket of a running instance.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;

use crate::admin::LiftAnswer;
use crate::admin::LiftRequest;
use crate::admin::RevocationView;
use crate::admin::RevokeAnswer;
use crate::admin::RevokeRequest;
use crate::admin::Target;
use crate::admin::beside;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::finish;
use crate::cli::ctl::printable;

/// Ends sessions and tokens before their time.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Take a revocation back: what it denied counts again, and what stays gone is listed
    Lift {
        /// Its name, as `revoke` and `revoke list` show it
        id: String,
        /// Why; recorded
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// Show revocations that have not expired, newest first
    List {
        #[command(flatten)]
        socket: Socket,
    },
}

#[derive(clap::Args, Clone, Debug)]
struct What {
    /// One person, whoever vouched: the canonical subject
    #[arg(long, value_name = "SUBJECT", group = "target")]
    subject: Option<String>,
    /// At every provider, application and instance: what --subject means, also where this is left out
    #[arg(long, requires = "subject", conflicts_with_all = ["account", "session", "sid", "client", "key", "token", "provider"])]
    everywhere: bool,
    /// One account, by the `sub` of its --issuer
    #[arg(long, value_name = "SUB", group = "target", requires = "issuer")]
    account: Option<String>,
    /// One session here, by the digest that --plan shows
    #[arg(long, value_name = "DIGEST", group = "target")]
    session: Option<String>,
    /// One session at an --issuer, and all that was issued in it
    #[arg(long, value_name = "SID", group = "target", requires = "issuer")]
    sid: Option<String>,
    /// One client of a --provider
    #[arg(long, value_name = "CLIENT", group = "target", requires = "provider")]
    client: Option<String>,
    /// One signing key (`kid`) of a --provider: nothing that it signed counts again
    #[arg(long, value_name = "KID", group = "target", requires = "provider")]
    key: Option<String>,
    /// One token (`jti`) of an --issuer
    #[arg(long, value_name = "JTI", group = "target", requires = "issuer")]
    token: Option<String>,
    /// A provider; alone: everything that it has vouched for until now
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,
    /// Who issued the name
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// Why; recorded
    #[arg(long, default_value = "")]
    reason: String,
    /// Only count whom it would put out
    #[arg(long)]
    plan: bool,
    /// Up to how many sessions may end; needed for more than ten
    #[arg(long, value_name = "N")]
    confirm: Option<usize>,
    /// Keep it for so many days at the least
    #[arg(long, value_name = "DAYS")]
    days: Option<u64>,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) async fn run(args: Args, out: &mut dyn Write) -> ExitCode {
    let done = match args.command {
        Some(Command::Lift { id, reason, socket }) => lift(&socket, id, reason, out).await,
        Some(Command::List { socket }) => list(&socket, out).await,
        None => revoke(args.what, out).await,
    };
    finish(done, out)
}

impl What {
    fn target(&self) -> Option<Target> {
        let issuer = || self.issuer.clone().unwrap_or_default();
        let provider = || self.provider.clone().unwrap_or_default();
        let by_value =
            |value: &Option<String>, target: &dyn Fn(String) -> Target| value.clone().map(target);
        by_value(&self.subject, &|subject| Target::Subject { subject })
            .or_else(|| {
                by_value(&self.account, &|subject| Target::Account {
                    issuer: issuer(),
                    subject,
                })
            })
            .or_else(|| by_value(&self.session, &|session| Target::Session { session }))
            .or_else(|| {
                by_value(&self.sid, &|sid| Target::ProviderSession {
                    issuer: issuer(),
                    sid,
                })
            })
            .or_else(|| {
                by_value(&self.client, &|client| Target::Client {
                    provider: provider(),
                    client,
                })
            })
            .or_else(|| {
                by_value(&self.key, &|key| Target::Key {
                    provider: provider(),
                    key,
                })
            })
            .or_else(|| {
                by_value(&self.token, &|jti| Target::Token {
                    issuer: issuer(),
                    jti,
                })
            })
            .or_else(|| by_value(&self.provider, &|provider| Target::Provider { provider }))
    }
}

async fn revoke(what: What, out: &mut dyn Write) -> Result<(), CommandError> {
    let Some(target) = what.target() else {
        let hint = "say what: --subject, --account, --session, --sid, --client, --key, --token or --provider";
        return Err(CommandError::Refused(hint.into()));
    };
    let wanted = RevokeRequest {
        target,
        reason: what.reason,
        keep_seconds: what.days.map(|days| days.saturating_mul(86_400)),
        plan: what.plan,
        confirm: what.confirm,
    };
    let body = serde_json::to_value(&wanted)?;
    let answer = ask(
        &what.socket,
        Method::POST,
        "/admin/v1/revocations",
        Some(&body),
    )
    .await?;
    let answer: RevokeAnswer = serde_json::from_value(answer)?;
    let at_least = if answer.at_least { "at least " } else { "" };
    let verb = if wanted.plan { "would end" } else { "ended" };
    let plural = if answer.sessions == 1 { "" } else { "s" };
    writeln!(
        out,
        "{at_least}{} running session{plural}{} {verb}; access tokens that clients have from providers by themselves are not counted",
        answer.sessions,
        beside(answer.refresh_tokens, answer.access_tokens)
    )?;
    if 0 < answer.unread {
        let whose = match wanted.target {
            Target::Client { .. } | Target::Provider { .. } | Target::Key { .. } => {
                "whose they are is not known; what was revoked counts for them wherever they can be read"
            }
            Target::Subject { .. }
            | Target::Account { .. }
            | Target::Session { .. }
            | Target::ProviderSession { .. }
            | Target::Token { .. }
            | Target::TokenDigest { .. } => "their providers are not told",
        };
        writeln!(
            out,
            "  beside them {} sessions that cannot be read here (another version wrote them, or their key is gone): {whose}",
            answer.unread
        )?;
    }
    for session in &answer.shown {
        let (digest, provider) = (printable(&session.session), printable(&session.provider));
        writeln!(out, "  {digest}  {provider}  since {}", session.began)?;
    }
    if let Some(revocation) = &answer.revocation {
        writeln!(out, "revocation {} holds", printable(&revocation.id))?;
        if !answer.durable {
            writeln!(out, "note: the store is in memory, so a restart forgets it")?;
        }
    }
    Ok(())
}

async fn lift(
    socket: &Socket,
    id: String,
    reason: String,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let body = serde_json::to_value(LiftRequest { id, reason })?;
    let path = "/admin/v1/revocations/lift";
    let answer = ask(socket, Method::POST, path, Some(&body)).await?;
    let answer: LiftAnswer = serde_json::from_value(answer)?;
    let before = if answer.before { " already" } else { "" };
    writeln!(
        out,
        "revocation {} is{before} lifted",
        printable(&answer.revocation.id)
    )?;
    for gone in &answer.destroyed {
        writeln!(out, "  stays gone: {}", printable(gone))?;
    }
    Ok(())
}

async fn list(socket: &Socket, out: &mut dyn Write) -> Result<(), CommandError> {
    let answer = ask(socket, Method::GET, "/admin/v1/revocations", None).await?;
    let all: Vec<RevocationView> = serde_json::from_value(answer)?;
    for one in &all {
        let lifted = if one.lifted.is_some() { "  lifted" } else { "" };
        let target = one
            .target
            .as_ref()
            .map_or_else(|| Ok(String::from("-")), serde_json::to_string)?;
        writeln!(
            out,
            "{}  {}  until {}  {}  {}  {}{lifted}",
            printable(&one.id),
            printable(&one.source),
            one.expires,
            printable(&target),
            printable(&one.actor),
            printable(&one.reason),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches as _;

    fn target(arguments: &[&str]) -> Option<Target> {
        let command = <Args as clap::Args>::augment_args(clap::Command::new("revoke"));
        let all = ["revoke"].iter().chain(arguments);
        let matches = command.try_get_matches_from(all).ok()?;
        Args::from_arg_matches(&matches).ok()?.what.target()
    }

    #[test]
    fn everywhere_is_said_of_a_person_and_of_nothing_less() {
        let alice = || {
            let subject = String::from("hr:1");
            Some(Target::Subject { subject })
        };
        assert_eq!(target(&["--subject", "hr:1", "--everywhere"]), alice());
        assert_eq!(target(&["--subject", "hr:1"]), alice());
        assert_eq!(target(&["--everywhere"]), None);
        let account = ["--account", "a", "--issuer", "https://i.test"];
        assert!(target(&account).is_some());
        assert_eq!(target(&[&account[..], &["--everywhere"]].concat()), None);
    }
}
