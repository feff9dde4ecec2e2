//! What is wrong with a configuration: all of it, each with its place, the way a good compiler says it.
//!
//! A problem never shows a secret: values of secret keys, and whatever stands under a key that nobody knows, are
//! blotted out of the quoted line.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::config::about::told;
use crate::config::tree::Mark;

/// The most problems that are listed; a file with more has one cause.
const MAX_LISTED: usize = 200;
/// The longest value that is quoted, in characters.
pub(super) const MAX_VALUE: usize = 80;
/// How many characters of a line are quoted around the place.
const MAX_LINE: usize = 120;

/// Whether a problem refuses the file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; somebody should look.
    Warning,
}

impl Severity {
    /// The word used in both forms.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    /// Whether it refuses the file.
    pub(crate) severity: Severity,
    /// From 1; 0 where the place is not in the file, as for an environment variable.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
    /// The keys that lead there, such as `apps.crm.hosts[0]`; or the name of an environment variable.
    pub(crate) path: String,
    /// The offending value, unless it may be a secret.
    pub(crate) value: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The rule of the strict check that does not hold.
    pub(crate) rule: Option<&'static str>,
    /// Why that is meant.
    pub(crate) waived: Option<Box<str>>,
    /// The line of the file, secrets blotted out, with the column at which the caret stands.
    quoted: Option<(String, usize)>,
}

/// All that is wrong with one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problems {
    /// The file, as it was named.
    pub(crate) file: String,
    /// Errors and warnings in the order of the file.
    pub(crate) list: Vec<Problem>,
}

impl Problems {
    /// Whether the file is refused.
    pub(crate) fn refuse(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// How many problems have this severity.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|p| p.severity == severity).count()
    }

    /// The machine-readable form: `{file, errors, warnings, problems: [{severity, line, column, path, …}]}`.
    pub(crate) fn json(&self) -> Value {
        let problems = self.list.iter().map(|p| {
            json!({
                "file": self.file, "severity": p.severity.as_str(), "line": p.line, "column": p.column, "path": p.path,
                "value": p.value, "message": p.message, "hint": p.hint, "rule": p.rule, "waived": p.waived,
            })
        });
        json!({
            "file": self.file,
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "problems": problems.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.list.iter().take(MAX_LISTED) {
            let severity = match problem.rule {
                Some(rule) => format!("{}[{rule}]", problem.severity.as_str()),
                None => problem.severity.as_str().to_owned(),
            };
            if problem.line == 0 {
                writeln!(f, "{}: {severity}: {}", self.file, problem.message)?;
            } else {
                let (line, column) = (problem.line, problem.column);
                writeln!(
                    f,
                    "{}:{line}:{column}: {severity}: {}",
                    self.file, problem.message
                )?;
            }
            if !problem.path.is_empty() {
                writeln!(f, "  at {}", problem.path)?;
            }
            if let Some((text, caret)) = &problem.quoted {
                let number = problem.line.to_string();
                writeln!(f, "{number:>5} | {text}")?;
                writeln!(f, "{:>5} | {:caret$}^", "", "")?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "  hint: {hint}")?;
            }
            if let Some(reason) = &problem.waived {
                writeln!(f, "  waived: {reason}")?;
            }
        }
        if MAX_LISTED < self.list.len() {
            writeln!(f, "… and {} more", self.list.len() - MAX_LISTED)?;
        }
        Ok(())
    }
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    found: Vec<(Problem, Mark)>,
    blots: Vec<Range<usize>>,
}

impl Report {
    /// Something that refuses the file.
    pub(crate) fn error(&mut self, mark: Mark, message: impl Into<String>) -> Said<'_> {
        self.say(Severity::Error, mark, message.into())
    }

    /// Something that somebody should look at.
    pub(crate) fn warning(&mut self, mark: Mark, message: impl Into<String>) -> Said<'_> {
        self.say(Severity::Warning, mark, message.into())
    }

    /// Blots out the text of a scalar wherever its line is quoted.
    pub(crate) fn blot(&mut self, mark: Mark) {
        if mark.start < mark.end {
            self.blots.push(mark.start as usize..mark.end as usize);
        }
    }

    /// Of a line that is no YAML only the first key is quoted: what follows may be a secret.
    pub(crate) fn blot_rest_of_line(&mut self, text: &str, mark: Mark) {
        self.blots.extend(blots_of_unreadable(text, mark));
    }

    /// Whether any problem refuses the file.
    pub(crate) fn refuses(&self) -> bool {
        self.found
            .iter()
            .any(|(p, _)| p.severity == Severity::Error)
    }

    fn say(&mut self, severity: Severity, mark: Mark, message: String) -> Said<'_> {
        let problem = Problem {
            severity,
            line: mark.line,
            column: mark.column,
            path: String::new(),
            value: None,
            message,
            hint: None,
            rule: None,
            waived: None,
            quoted: None,
        };
        self.found.push((problem, mark));
        Said(self.found.last_mut().map(|(problem, _)| problem))
    }

    /// Puts the problems in the order of the file, with their paths, lines, and the values that stand there: what is blotted
    /// out of a line is blotted out here, too. `scalar` is the text of a node that is one.
    pub(crate) fn finish(
        mut self,
        file: &Path,
        text: &str,
        path_to: impl Fn(u32) -> Option<String>,
        scalar: impl Fn(u32) -> Option<String>,
    ) -> Problems {
        self.found
            .sort_by_key(|(problem, mark)| (problem.line, problem.column, mark.id));
        self.found.dedup_by(|(a, _), (b, _)| a == b);
        let lines = Lines::of(text);
        let list = self.found.iter().map(|(problem, mark)| {
            let mut problem = problem.clone();
            if problem.path.is_empty() {
                problem.path = path_to(mark.id).unwrap_or_default();
            }
            problem.quoted = lines.quote(problem.line, problem.column, &self.blots);
            if problem.value.is_none() {
                problem.value = scalar(mark.id).map(|of| told(text, *mark, &self.blots, &of));
            }
            problem
        });
        Problems {
            file: file.display().to_string(),
            list: list.collect(),
        }
    }
}

/// A problem that was just reported: what else there is to say.
#[derive(Debug)]
pub(crate) struct Said<'a>(Option<&'a mut Problem>);

impl Said<'_> {
    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(problem) = &mut self.0 {
            problem.hint = Some(hint.into());
        }
        self
    }

    /// The offending value. Never call this with a secret.
    pub(crate) fn value(mut self, value: impl fmt::Display) -> Self {
        if let Some(problem) = &mut self.0 {
            let value = value.to_string();
            problem.value = Some(value.chars().take(MAX_VALUE).collect());
        }
        self
    }

    /// The rule of the strict check, and why it is waived, if it is.
    pub(crate) fn rule(mut self, rule: &'static str, waived: Option<Box<str>>) -> Self {
        if let Some(problem) = &mut self.0 {
            problem.rule = Some(rule);
            problem.waived = waived;
        }
        self
    }

    /// A path that is not the node's, such as the name of an environment variable.
    pub(crate) fn path(mut self, path: impl Into<String>) -> Self {
        if let Some(problem) = &mut self.0 {
            problem.path = path.into();
        }
        self
    }
}

/// The lines of a file, by number.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// The line, blotted, and where the caret stands below it.
    fn quote(&self, line: u32, column: u32, blots: &[Range<usize>]) -> Option<(String, usize)> {
        let index = (line as usize).checked_sub(1)?;
        let start = *self.starts.get(index)?;
        let text = self.text.get(start..)?.lines().next()?;
        let column = (column as usize).saturating_sub(1);
        let end = start + text.len();
        let here = |blot: &&Range<usize>| blot.start < end && start < blot.end;
        let blots: Vec<&Range<usize>> = blots.iter().filter(here).collect();
        let (mut quoted, mut caret, mut blotted) = (String::new(), 0, false);
        for (number, (at, char)) in text.char_indices().enumerate() {
            if number == column {
                caret = quoted.chars().count();
            }
            let hidden = blots.iter().any(|blot| blot.contains(&(start + at)));
            if hidden && !blotted {
                quoted.push_str("***");
            } else if !hidden && char.is_control() {
                quoted.push(' ');
            } else if !hidden {
                quoted.push(char);
            }
            blotted = hidden;
        }
        if text.chars().count() <= column {
            caret = quoted.chars().count();
        }
        let skip = caret.saturating_sub(MAX_LINE / 2);
        let window: String = quoted.chars().skip(skip).take(MAX_LINE).collect();
        Some((window.trim_end().to_owned(), caret - skip))
    }
}

/// What to hide in a line of a file that is not YAML: all but a first key that looks like one of ours.
fn blots_of_unreadable(text: &str, mark: Mark) -> Option<Range<usize>> {
    let start: usize = text
        .split_inclusive('\n')
        .take((mark.line as usize).checked_sub(1)?)
        .map(str::len)
        .sum();
    let line = text.get(start..)?.lines().next()?;
    let indent = line.len() - line.trim_start_matches([' ', '-']).len();
    let word = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let item = line.trim_start().starts_with('-');
    let shown = match line.find(':') {
        Some(colon) if !item && line.get(indent..colon).is_some_and(word) => colon + 1,
        Some(_) | None => indent,
    };
    let spaces = line
        .get(shown..)
        .map_or(0, |rest| rest.len() - rest.trim_start().len());
    Some(start + shown + spaces..start + line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Mark {
        Mark {
            line,
            column,
            ..Mark::default()
        }
    }

    #[test]
    fn a_problem_reads_like_a_compiler_error() {
        let mut report = Report::default();
        report
            .error(at(2, 11), "`ten` is not a duration")
            .value("ten")
            .hint("write `10s`");
        let problems = report.finish(
            Path::new("a.yaml"),
            "a:\n  timeout: ten\n",
            |_| Some("a.timeout".into()),
            |_| None,
        );
        assert_eq!(
            problems.to_string(),
            "a.yaml:2:11: error: `ten` is not a duration\n  at a.timeout\n    2 |   timeout: ten\n      |           ^\n  hint: write `10s`\n"
                .replace("          ^", "           ^")
                .replace("            ^", "           ^")
        );
        assert_eq!(problems.json()["problems"][0]["value"], "ten");
        assert!(problems.refuse());
    }

    #[test]
    fn a_blotted_value_is_never_quoted_and_the_caret_still_points() {
        let text = "a: { secret: hunter2, colour: red }\n";
        let mut report = Report::default();
        report.blot(Mark {
            start: 13,
            end: 20,
            ..Mark::default()
        });
        report.error(at(1, 23), "unknown key");
        let shown = report
            .finish(Path::new("a.yaml"), text, |_| None, |_| None)
            .to_string();
        assert!(!shown.contains("hunter2"));
        let caret = shown.lines().nth(2).unwrap().find('^').unwrap();
        assert_eq!(
            shown.lines().nth(1).unwrap().get(caret..caret + 6),
            Some("colour")
        );
    }

    #[test]
    fn of_a_line_that_is_no_yaml_only_the_key_is_quoted() {
        let text = "a: 1\n  secret: hunter2 : x\nMIIEabc\n";
        let blot = blots_of_unreadable(text, at(2, 3)).unwrap();
        assert_eq!(text.get(blot), Some("hunter2 : x"));
        let blot = blots_of_unreadable(text, at(3, 1)).unwrap();
        assert_eq!(text.get(blot), Some("MIIEabc"));
        assert_eq!(blots_of_unreadable(text, at(9, 1)), None);
        let blot = blots_of_unreadable("- Hunter2: ]", at(1, 1)).unwrap();
        assert_eq!(blot, 2..12);
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_and_once() {
        let mut report = Report::default();
        report.warning(at(5, 1), "later");
        report.error(at(1, 1), "first");
        report.error(at(1, 1), "first");
        let problems = report.finish(Path::new("a"), "", |_| None, |_| None);
        let messages: Vec<_> = problems.list.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(messages, ["first", "later"]);
    }
}
