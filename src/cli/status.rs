//! `authferry ctl status`: what runs, once, or again and again.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::admin;
use crate::admin::RolloutView;
use crate::cli::ctl::CommandError;
use crate::cli::ctl::Socket;
use crate::cli::ctl::ask;
use crate::cli::ctl::printable;
use crate::cli::ctl::write_kill;
use crate::cli::rollouts;

/// Shows it; again after so many seconds, if it is watched.
pub(super) async fn show(
    socket: &Socket,
    seconds: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    match seconds {
        None => status(socket, out).await,
        Some(seconds) => watch(socket, Duration::from_secs(seconds), out).await,
    }
}

/// The state again and again. On a terminal each look takes the place of the one before; an instance that is away is no end.
async fn watch(socket: &Socket, every: Duration, out: &mut dyn Write) -> Result<(), CommandError> {
    let clear = if io::stdout().is_terminal() {
        "\x1b[H\x1b[2J"
    } else {
        "\n"
    };
    loop {
        // What is written at once does not flicker.
        let mut seen = Vec::new();
        match status(socket, &mut seen).await {
            Ok(()) => {}
            Err(CommandError::Client(away)) => {
                writeln!(seen, "away           {}", printable(&away.to_string()))?;
            }
            Err(other) => return Err(other),
        }
        write!(out, "{clear}")?;
        out.write_all(&seen)?;
        out.flush()?;
        tokio::time::sleep(every).await;
    }
}

async fn status(socket: &Socket, out: &mut dyn Write) -> Result<(), CommandError> {
    let config = ask(socket, Method::GET, "/-/config", None).await?;
    let text = |name: &str| printable(config.get(name).and_then(Value::as_str).unwrap_or("?"));
    writeln!(
        out,
        "configuration  {} ({})",
        text("revision"),
        text("sha256")
    )?;
    if config.get("last_reload_successful") == Some(&Value::Bool(false)) {
        writeln!(out, "               the file on disk is refused:")?;
        let problems = config.get("problems").and_then(Value::as_array);
        for problem in problems.into_iter().flatten().filter_map(Value::as_str) {
            writeln!(out, "               {}", printable(problem))?;
        }
    }
    // What is not ready answers 503, and says why.
    let (_, ready) = admin::ask(&socket.path(), Method::GET, "/-/ready", None).await?;
    let word = ready.get("status").and_then(Value::as_str).unwrap_or("?");
    writeln!(out, "state          {}", printable(word))?;
    let degraded = ready.get("degraded").and_then(Value::as_array);
    for provider in degraded.into_iter().flatten() {
        let text =
            |name: &str| printable(provider.get(name).and_then(Value::as_str).unwrap_or("?"));
        writeln!(
            out,
            "               provider {} cannot judge: {}",
            text("id"),
            text("reason")
        )?;
    }
    let kill = ask(socket, Method::GET, "/admin/v1/kill", None).await?;
    write_kill(&serde_json::from_value(kill)?, out)?;
    let rollouts = ask(socket, Method::GET, "/admin/v1/rollouts", None).await?;
    for rollout in serde_json::from_value::<Vec<RolloutView>>(rollouts)? {
        rollouts::write(&rollout, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::fake::FakeAdmin;
    use crate::admin::fake::FakeBackend;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        socket: Socket,
    }

    /// A screen that is closed after some looks.
    struct Screen {
        seen: Vec<u8>,
        looks: u32,
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.seen.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            let left = self.looks.checked_sub(1);
            self.looks = left.ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(())
        }
    }

    async fn watched(socket: &str) -> String {
        let socket = Line::parse_from(["status", "--socket", socket]).socket;
        let mut screen = Screen {
            seen: Vec::new(),
            looks: 2,
        };
        let ended = watch(&socket, Duration::ZERO, &mut screen).await;
        assert!(matches!(ended, Err(CommandError::Output(_))), "{ended:?}");
        String::from_utf8(screen.seen).unwrap()
    }

    /// It is seen to go away, and that is no end.
    #[tokio::test]
    async fn an_instance_is_watched_until_somebody_has_seen_enough() {
        let admin = FakeAdmin::start(FakeBackend::default()).await;
        let socket = admin.socket();
        let text = watched(socket.to_str().unwrap()).await;
        assert_eq!(text.matches("configuration  abc").count(), 3, "{text}");
        let text = watched("/nonexistent/admin.sock").await;
        assert_eq!(text.matches("away           ").count(), 3, "{text}");
    }
}
