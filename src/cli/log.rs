//! `authferry log`: whether the ledger verifies, and what it says.

use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::cli::ctl::printable;
use crate::ledger::Anchor;
use crate::ledger::verify;

/// What `verify` exits with when a record is not what it was.
const BROKEN: u8 = 1;

/// What both exit with when the ledger cannot be read.
const UNREADABLE: u8 = 2;

/// Looks at the ledger. Needs no running instance.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Whether every record is what it was, in its place. Exit code 1: one is not, and is named
    Verify {
        /// Where the ledger is.
        #[command(flatten)]
        place: Place,
        /// A head that was kept elsewhere, as `/admin/v1/log/head` showed it
        #[arg(long, value_name = "SEQ:HASH", value_parser = anchor)]
        anchor: Option<Anchor>,
    },
    /// The records, newest last
    Show {
        /// Where the ledger is.
        #[command(flatten)]
        place: Place,
        /// Only records of this kind, such as `decision`
        #[arg(long)]
        kind: Option<String>,
        /// Only records about this rollout
        #[arg(long)]
        rollout: Option<String>,
        /// Only the last so many
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// As they are, one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Clone, Debug)]
struct Place {
    /// The ledger; without it, `decisions.jsonl` in the state directory
    file: Option<PathBuf>,
    /// The state directory of the instance, as in its configuration
    #[arg(
        long,
        value_name = "PATH",
        env = "AUTHFERRY_STATE_DIR",
        default_value = "./authferry-state"
    )]
    state_dir: PathBuf,
}

impl Place {
    fn path(&self) -> PathBuf {
        let default = || self.state_dir.join("decisions.jsonl");
        self.file.clone().unwrap_or_else(default)
    }
}

fn anchor(text: &str) -> Result<Anchor, String> {
    let (seq, hash) = text.split_once(':').ok_or("not SEQ:HASH")?;
    let seq = seq
        .parse::<u64>()
        .map_err(|error| format!("{seq}: {error}"))?;
    if hash.len() < 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("a hash has at least 16 hexadecimal digits".into());
    }
    Ok(Anchor {
        seq,
        hash: hash.to_ascii_lowercase(),
    })
}

/// Runs the command; what it has to say goes to `out`.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    let (place, done) = match &args.command {
        Command::Verify { place, anchor } => {
            (place, verify_file(&place.path(), anchor.as_ref(), out))
        }
        Command::Show {
            place,
            kind,
            rollout,
            last,
            json,
        } => {
            let wanted = |record: &Value| {
                let is = |name: &str, wanted: &Option<String>| {
                    let found = record.get(name).and_then(Value::as_str);
                    wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
                };
                is("kind", kind) && is("rollout", rollout)
            };
            (place, show(&place.path(), wanted, *last, *json, out))
        }
    };
    done.unwrap_or_else(|error| {
        // If this cannot be written either, the exit code says it.
        drop(writeln!(out, "error: {}: {error}", place.path().display()));
        UNREADABLE.into()
    })
}

fn verify_file(path: &Path, anchor: Option<&Anchor>, out: &mut dyn Write) -> io::Result<ExitCode> {
    let found = verify(BufReader::new(File::open(path)?), anchor)?;
    if let Some((record, flaw)) = &found.broken {
        writeln!(out, "BROKEN at record {record}: {flaw}")?;
        return Ok(BROKEN.into());
    }
    let head = found.head.hash.get(..16).unwrap_or_default();
    writeln!(out, "ok {} records, head {head}", found.head.seq)?;
    if 0 < found.torn {
        writeln!(
            out,
            "note: the last line was cut short ({} bytes): its change never took effect, and the next start mends it",
            found.torn
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(
    path: &Path,
    wanted: impl Fn(&Value) -> bool,
    last: Option<usize>,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<ExitCode> {
    let mut kept = std::collections::VecDeque::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let Ok(record) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if wanted(&record) {
            kept.push_back((line, record));
            if last.is_some_and(|last| last < kept.len()) {
                kept.pop_front();
            }
        }
    }
    for (line, record) in kept {
        if json {
            writeln!(out, "{}", printable(&line))?;
        } else {
            writeln!(out, "{}", printable(&told(&record)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One record in one line: when, number, kind, who, and the rest by name.
fn told(record: &Value) -> String {
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or("-");
    let seq = record.get("seq").and_then(Value::as_u64).unwrap_or(0);
    let mut line = format!(
        "{}  {seq:>5}  {:<14}  {}",
        text("ts"),
        text("kind"),
        text("actor")
    );
    let shown = ["ts", "seq", "kind", "actor", "prev", "hash", "node"];
    let members = record.as_object().into_iter().flatten();
    for (name, value) in members.filter(|(name, _)| !shown.contains(&name.as_str())) {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned);
        line.push_str(&format!("  {name}={value}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    const RECORD: &str = r#"{"actor":"controller","evidence":{"bad":{"legacy":43,"modern":13},"effect":0.045,"log_e":6.71,"ratio":5.7,"trip_at":5.7,"units":{"legacy":4520,"modern":238}},"from":"4-ramp/5","hash":"402e078f9687340670c918afe956c53982692c2b020b9f0365c10296f799000a","kind":"decision","modern_sessions":"keep","node":"edge-1","prev":"3846179fa9c653101ca1269fae69b9eca30c7905d3603aecc89c28b4629f00b9","rollout":"crm-2026","seq":2,"to":"4-ramp/1","ts":"2026-03-05T11:20:31.004Z","why":"guard login"}"#;

    fn said(words: &[&str]) -> (ExitCode, String) {
        let begin = ["log"];
        let args = Cli::parse_from(begin.iter().chain(words)).args;
        let mut out = Vec::new();
        let code = run(&args, &mut out);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_broken_record_is_named_and_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        std::fs::write(&path, format!("{RECORD}\n")).unwrap();
        let (code, text) = said(&["verify", path.to_str().unwrap()]);
        assert_eq!(code, ExitCode::from(BROKEN));
        assert!(text.starts_with("BROKEN at record 1: record 2"), "{text}");
        let (code, text) = said(&["verify", "/nonexistent"]);
        assert_eq!(code, ExitCode::from(UNREADABLE), "{text}");
        assert!(anchor("5:abc").is_err());
    }

    #[test]
    fn records_are_shown_in_a_line_each() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        std::fs::write(&path, format!("{RECORD}\n{RECORD}\n")).unwrap();
        let path = path.to_str().unwrap();
        let (code, text) = said(&["show", path, "--kind", "decision", "--last", "1"]);
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.contains("why=guard login") && text.contains("to=4-ramp/1"),
            "{text}"
        );
        let (_, text) = said(&["show", path, "--kind", "drill"]);
        assert_eq!(text, "");
    }
}
