//! `authferry check`: every problem of a configuration file at once.

use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::config;
use crate::config::CONFIG_VARIABLE;
use crate::config::Problems;
use crate::config::Severity;
use crate::config::Source;
use crate::config::System;

/// Check a configuration file: every problem at once.
///
/// Exit codes: 0 the file is good (there may be warnings), 1 the file is refused, 2 the file cannot be read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(env = CONFIG_VARIABLE)]
    file: PathBuf,
    /// How problems are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How problems are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Format {
    /// For people: the line, a caret, a hint.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// Checks, writes what was found to `out`, and says how it went.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    // Nobody reads what cannot be written; the exit code still says how it went.
    let (code, written) = check(&args.file, args.format, out);
    match written {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(code.max(1)),
    }
}

fn check(file: &Path, format: Format, out: &mut dyn Write) -> (u8, io::Result<()>) {
    let source = match Source::read(file, Arc::new(System)) {
        Ok(source) => source,
        Err(error) => return (2, unreadable(file, &error.to_string(), format, out)),
    };
    let (code, problems) = match config::load(&source) {
        Ok(compiled) => (0, compiled.warnings),
        Err(problems) => (1, problems),
    };
    (code, report(&problems, format, out))
}

fn unreadable(file: &Path, error: &str, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => writeln!(out, "error: {error}"),
        Format::Json => {
            let problem = json!({
                "severity": "error", "line": 0, "column": 0, "path": "", "value": null, "message": error, "hint": null,
            });
            let file = file.display().to_string();
            let whole = json!({ "file": file, "errors": 1, "warnings": 0, "problems": [problem] });
            writeln!(out, "{whole:#}")
        }
    }
}

fn report(problems: &Problems, format: Format, out: &mut dyn Write) -> io::Result<()> {
    if format == Format::Json {
        return writeln!(out, "{:#}", problems.json());
    }
    write!(out, "{problems}")?;
    let count = |severity, one: &str, many: &str| match problems.count(severity) {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    };
    let errors = count(Severity::Error, "error", "errors");
    let warnings = count(Severity::Warning, "warning", "warnings");
    let verdict = if problems.refuse() { "refused" } else { "ok" };
    writeln!(out, "{verdict}: {}: {errors}, {warnings}", problems.file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, format: Format) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let (code, written) = check(&file, format, &mut out);
        written.unwrap();
        let text = String::from_utf8(out).unwrap();
        (code, text.replace(&file.display().to_string(), "a.yaml"))
    }

    #[test]
    fn a_good_file_is_ok() {
        let text = include_str!("../../config/minimal.yaml");
        let (code, out) = checked(text, Format::Text);
        assert_eq!(
            (code, out.as_str()),
            (0, "ok: a.yaml: 0 errors, 0 warnings\n")
        );
    }

    #[test]
    fn a_bad_file_shows_line_caret_and_hint() {
        let text = include_str!("../../config/minimal.yaml").replace("percent: 10", "percent: 150");
        let (code, out) = checked(&text, Format::Text);
        assert_eq!(code, 1);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            lines[0],
            "a.yaml:27:18: error: `150` is no percent: not between 0 and 100"
        );
        assert_eq!(lines[1], "  at rollout.assign[1].percent");
        assert_eq!(lines[2], "   27 |     - { percent: 150, to: modern }");
        assert_eq!(lines[2].find("150"), lines[3].find('^'));
        assert!(lines[4].starts_with("  hint: "));
        assert_eq!(lines[5], "refused: a.yaml: 1 error, 0 warnings");
    }

    #[test]
    fn programs_read_the_same_problems() {
        let text = include_str!("../../config/minimal.yaml").replace("percent: 10", "percent: 150");
        let (code, out) = checked(&text, Format::Json);
        let whole: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, 1);
        assert_eq!(whole["errors"], 1);
        let problem = &whole["problems"][0];
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&json!(27), &json!(18))
        );
        assert_eq!(problem["path"], "rollout.assign[1].percent");
        assert_eq!(problem["value"], "150");
    }

    #[test]
    fn a_file_that_is_not_there_is_another_exit_code() {
        for format in [Format::Text, Format::Json] {
            let mut out = Vec::new();
            let (code, written) = check(Path::new("/nonexistent/a.yaml"), format, &mut out);
            written.unwrap();
            assert_eq!(code, 2);
            assert!(
                String::from_utf8(out)
                    .unwrap()
                    .contains("/nonexistent/a.yaml")
            );
        }
    }
}
