//! `authferry check`: every problem of a configuration file at once.

use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use crate::app::online;
use crate::app::online::Origin;
use crate::app::online::Report;
use crate::cli::outline;
use crate::config;
use crate::config::CONFIG_VARIABLE;
use crate::config::Compiled;
use crate::config::Outline;
use crate::config::Problems;
use crate::config::Severity;
use crate::config::Source;
use crate::config::System;
use crate::entropy::SystemEntropy;
use crate::providers::probe::Finding;
use crate::providers::probe::Outcome;

/// Check a configuration file: every problem at once.
///
/// Exit codes: 0 the file is good (there may be warnings), 1 the file is refused or an online check failed, 2 the file
/// cannot be read.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(env = CONFIG_VARIABLE)]
    file: PathBuf,
    /// How problems are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Refuse what is allowed and not safe, by rules with ids; `waivers` in the file say what is meant, and why.
    #[arg(long, conflicts_with = "online")]
    strict: bool,
    /// Ask every provider as well: metadata, keys, whether it knows us, its clock, and whether a login comes back to each
    /// application. Nothing changes there; where answers have no `Date`, a token of our own says what time it is (RFC 6749 §4.4), and is used for nothing else.
    #[arg(long)]
    online: bool,
    /// How many people take part: each step says what so many of them at the new provider can show.
    #[arg(long, value_name = "N")]
    people: Option<u64>,
    /// Where browsers find an application, if not at `https://HOST` for each of its hosts; may be repeated.
    #[arg(long = "origin", value_name = "APP=ORIGIN", value_parser = origin, requires = "online")]
    origins: Vec<Origin>,
}

impl Args {
    /// Whether providers are asked.
    pub(super) const fn online(&self) -> bool {
        self.online
    }
}

fn origin(text: &str) -> Result<Origin, String> {
    let (app, origin) = text.split_once('=').ok_or("not APP=ORIGIN")?;
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let host = host.ok_or("an origin begins with `https://`")?;
    if host.is_empty() || host.trim_end_matches('/').contains(['/', '?', '#', '@']) {
        return Err(
            "an origin is scheme, host and port, such as `https://crm.corp.example:8443`"
                .to_owned(),
        );
    }
    Ok(Origin {
        app: app.to_owned(),
        origin: origin.to_owned(),
    })
}

/// How problems are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Format {
    /// For people: the line, a caret, a hint.
    Text,
    /// For programs: one JSON object.
    Json,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
}

/// Checks, writes what was found to `out`, and says how it went.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> ExitCode {
    // Nobody reads what cannot be written; the exit code still says how it went.
    let how = (args.format, args.people);
    let (code, written) = check(&args.file, how, args.strict, out);
    finish(code, &written)
}

fn finish(code: u8, written: &io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(code.max(1)),
    }
}

fn check(
    file: &Path,
    (format, people): (Format, Option<u64>),
    strict: bool,
    out: &mut dyn Write,
) -> (u8, io::Result<()>) {
    let source = match Source::read(file, Arc::new(System)) {
        Ok(source) => source,
        Err(error) => return (2, unreadable(file, &error.to_string(), format, out)),
    };
    let (problems, outlines) = match config::load(&source) {
        Ok(compiled) if strict => (config::strict(&source, &compiled), compiled.outlines),
        Ok(compiled) => (compiled.warnings, compiled.outlines),
        Err(problems) => (problems, Vec::new()),
    };
    let code = u8::from(problems.refuse());
    (
        code,
        report(&problems, (&outlines, people), None, format, out),
    )
}

/// A configuration, or its problems. A file that cannot be read is said at once.
fn load(
    file: &Path,
    format: Format,
    out: &mut dyn Write,
) -> Result<Result<Compiled, Problems>, io::Result<()>> {
    match Source::read(file, Arc::new(System)) {
        Ok(source) => Ok(config::load(&source)),
        Err(error) => Err(unreadable(file, &error.to_string(), format, out)),
    }
}

/// Checks the file, and asks its providers if nothing refuses it.
pub(super) async fn online(args: &Args, out: &mut dyn Write) -> ExitCode {
    let compiled = match load(&args.file, args.format, out) {
        Ok(Ok(compiled)) => compiled,
        Ok(Err(problems)) => {
            return finish(1, &report(&problems, (&[], None), None, args.format, out));
        }
        Err(written) => return finish(2, &written),
    };
    let found = match compiled.draft.for_a_look(&SystemEntropy) {
        Ok(settings) => online::check(&settings, &args.origins).await,
        Err(error) => Err(error.to_string()),
    };
    match found {
        Ok(found) => {
            let failed = found
                .iter()
                .flat_map(|report| &report.findings)
                .any(Finding::failed);
            finish(
                u8::from(failed),
                &report(
                    &compiled.warnings,
                    (&compiled.outlines, args.people),
                    Some(&found),
                    args.format,
                    out,
                ),
            )
        }
        Err(error) => finish(2, &unreadable(&args.file, &error, args.format, out)),
    }
}

fn unreadable(file: &Path, error: &str, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => writeln!(out, "error: {error}"),
        Format::Json | Format::Sarif => {
            let file = file.display().to_string();
            let problem = json!({
                "file": file, "severity": "error", "line": 0, "column": 0, "path": "", "value": null, "message": error,
                "hint": null, "rule": null, "waived": null,
            });
            let whole = json!({ "file": file, "errors": 1, "warnings": 0, "problems": [problem] });
            writeln!(out, "{whole:#}")
        }
    }
}

fn report(
    problems: &Problems,
    (outlines, people): (&[Outline], Option<u64>),
    online: Option<&[Report]>,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    if format == Format::Sarif {
        return writeln!(out, "{:#}", sarif(problems));
    }
    if format == Format::Json {
        let mut whole = problems.json();
        if let Some(members) = whole.as_object_mut() {
            members.insert("rollouts".to_owned(), outline::json(outlines, people));
        }
        if let (Some(found), Some(members)) = (online, whole.as_object_mut()) {
            members.insert(
                "online".to_owned(),
                found.iter().flat_map(json_of).collect(),
            );
        }
        return writeln!(out, "{whole:#}");
    }
    write!(out, "{problems}")?;
    let count = |severity, one: &str, many: &str| match problems.count(severity) {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    };
    let errors = count(Severity::Error, "error", "errors");
    let warnings = count(Severity::Warning, "warning", "warnings");
    let verdict = if problems.refuse() { "refused" } else { "ok" };
    writeln!(out, "{verdict}: {}: {errors}, {warnings}", problems.file)?;
    outline::text(outlines, people, out)?;
    for found in online.unwrap_or_default() {
        for finding in &found.findings {
            let check = finding.check.as_str();
            let callback = finding
                .callback
                .as_deref()
                .map(|to| format!(" {to}"))
                .unwrap_or_default();
            let (word, words) = outcome(finding);
            writeln!(
                out,
                "{word:<7} providers.{}: {check}{callback}: {words}",
                found.provider
            )?;
        }
    }
    Ok(())
}

/// SARIF 2.1.0 (OASIS), as code scanning reads it.
fn sarif(problems: &Problems) -> Value {
    let rules = config::RULES
        .iter()
        .map(|rule| json!({ "id": rule.id, "shortDescription": { "text": rule.asks } }));
    let other = json!({ "id": "config", "shortDescription": { "text": "The file is good." } });
    let results = problems.list.iter().map(|problem| {
        let region = json!({ "startLine": problem.line.max(1), "startColumn": problem.column.max(1) });
        let mut result = json!({
            "ruleId": problem.rule.unwrap_or("config"), "level": problem.severity.as_str(),
            "message": { "text": problem.message },
            "locations": [{
                "physicalLocation": { "artifactLocation": { "uri": problems.file }, "region": region },
                "logicalLocations": [{ "fullyQualifiedName": problem.path }],
            }],
        });
        if let (Some(reason), Some(members)) = (&problem.waived, result.as_object_mut()) {
            let suppression = json!([{ "kind": "inSource", "justification": reason }]);
            members.insert("suppressions".to_owned(), suppression);
        }
        result
    });
    let driver = json!({
        "name": "authferry", "version": env!("CARGO_PKG_VERSION"),
        "rules": rules.chain([other]).collect::<Vec<_>>(),
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{ "tool": { "driver": driver }, "results": results.collect::<Vec<_>>() }],
    })
}

fn json_of(report: &Report) -> Vec<Value> {
    let findings = report.findings.iter().map(|finding| {
        let (word, words) = outcome(finding);
        json!({
            "provider": report.provider.as_str(), "check": finding.check.as_str(), "callback": finding.callback,
            "outcome": word, "message": words,
        })
    });
    findings.collect()
}

fn outcome(finding: &Finding) -> (&'static str, &str) {
    match &finding.outcome {
        Outcome::Good(words) => ("ok", words),
        Outcome::Failed(words) => ("failed", words),
        Outcome::Unknown(words) => ("unknown", words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, format: Format) -> (u8, String) {
        sized(text, format, None)
    }

    fn sized(text: &str, format: Format, people: Option<u64>) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let (code, written) = check(&file, (format, people), false, &mut out);
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
            (
                0,
                "ok: a.yaml: 0 errors, 0 warnings\n\
                 rollout default: from legacy to modern\n  \
                 stage canary (canary), the present one\n    \
                 cohort staff to modern: known after the login, holds for the next one\n    \
                 10 % to modern: known before the login\n    \
                 whoever is left to legacy\n"
            )
        );
    }

    /// 10 % of 4 600 people.
    #[test]
    fn each_step_says_what_its_people_can_show() {
        let text = include_str!("../../config/minimal.yaml");
        let (_, out) = sized(text, Format::Text, Some(4_600));
        let line = "    at 10 %: 460 people at modern; the guards see a bad rate of 5 % or more, none bad excludes 0.90 % and more\n";
        assert!(out.ends_with(line), "{out}");
        let (_, out) = sized(text, Format::Text, Some(400));
        assert!(
            out.contains("40 people at modern; the guards see no bad rate at all"),
            "{out}"
        );
        let (_, out) = sized(text, Format::Json, Some(4_600));
        let whole: Value = serde_json::from_str(&out).unwrap();
        let step = &whole["rollouts"][0]["stages"][0]["steps"][0];
        assert_eq!(
            (&step["people"], &step["bad_rate_seen"]),
            (&json!(460), &json!(0.05))
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
    fn programs_learn_the_phase_of_every_rule() {
        let text = include_str!("../../config/minimal.yaml");
        let (code, out) = checked(text, Format::Json);
        let whole: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, 0);
        let stage = &whole["rollouts"][0]["stages"][0];
        assert_eq!(
            (&stage["mode"], &stage["present"]),
            (&json!("canary"), &json!(true))
        );
        let rule = |cohort: Value, percent: Value, phase: &str| json!({ "cohort": cohort, "percent": percent, "ramp": false, "choose": false, "to": "modern", "phase": phase });
        let rules = [
            rule(json!("staff"), Value::Null, "after"),
            rule(Value::Null, json!("10"), "before"),
        ];
        assert_eq!(stage["rules"], json!(rules));
    }

    #[test]
    fn programs_read_the_same_problems() {
        let text = include_str!("../../config/minimal.yaml").replace("percent: 10", "percent: 150");
        let (code, out) = checked(&text, Format::Json);
        let whole: Value = serde_json::from_str(&out).unwrap();
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
            let (code, written) = check(
                Path::new("/nonexistent/a.yaml"),
                (format, None),
                false,
                &mut out,
            );
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
