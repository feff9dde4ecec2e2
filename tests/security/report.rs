//! What a run says: a line a case, totals, JSON.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::case::Case;
use crate::run::Verdict;

/// How many of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// They hold.
    pub(crate) passed: usize,
    /// They do not.
    pub(crate) failed: usize,
    /// Nobody can say.
    pub(crate) skipped: usize,
}

/// All verdicts of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    all: Count,
    groups: BTreeMap<String, Count>,
    severities: BTreeMap<String, Count>,
    cases: Vec<Value>,
}

impl Count {
    fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Fail(_) => self.failed += 1,
            Verdict::Skip(_) => self.skipped += 1,
        }
    }

    fn json(self) -> Value {
        json!({ "passed": self.passed, "failed": self.failed, "skipped": self.skipped })
    }
}

impl Report {
    /// Adds a verdict and says its line.
    pub(crate) fn add(
        &mut self,
        case: &Case,
        verdict: &Verdict,
        measured: &[String],
        millis: u128,
    ) -> String {
        self.all.add(verdict);
        self.groups
            .entry(case.group.clone())
            .or_default()
            .add(verdict);
        self.severities
            .entry(case.severity.clone())
            .or_default()
            .add(verdict);
        let (word, reasons) = match verdict {
            Verdict::Pass => ("PASS", Vec::new()),
            Verdict::Fail(why) => ("FAIL", why.clone()),
            Verdict::Skip(why) => ("SKIP", vec![why.clone()]),
        };
        // What was measured says what a pass is worth.
        let said = if reasons.is_empty() {
            measured
        } else {
            &reasons
        };
        let reason = said.join("; ").replace(['\r', '\n'], " ");
        self.cases.push(json!({ "id": case.id, "group": case.group, "severity": case.severity, "title": case.title,
            "verdict": word.to_lowercase(), "reasons": reasons, "measured": measured, "ms": millis as u64 }));
        let dash = if reason.is_empty() { "" } else { " - " };
        format!("{word} {} {}{dash}{reason}", case.id, case.title)
    }

    /// Totals, and the closing line alone on the last.
    pub(crate) fn totals(&self) -> String {
        let mut text = String::from("\n");
        for (title, counts) in [("group", &self.groups), ("severity", &self.severities)] {
            text.push_str(&format!("{title:<12} passed failed skipped\n"));
            for (name, count) in counts {
                let Count {
                    passed,
                    failed,
                    skipped,
                } = count;
                text.push_str(&format!(
                    "{name:<12} {passed:>6} {failed:>6} {skipped:>7}\n"
                ));
            }
            text.push('\n');
        }
        let Count {
            passed,
            failed,
            skipped,
        } = self.all;
        text.push_str(&format!(
            "{passed} passed, {failed} failed, {skipped} skipped"
        ));
        text
    }

    /// Whether nothing failed and something passed.
    pub(crate) const fn is_good(&self) -> bool {
        self.all.failed == 0 && 0 < self.all.passed
    }

    /// The same for programs.
    pub(crate) fn json(&self, file: &str, target: &str) -> Value {
        let counts = |map: &BTreeMap<String, Count>| -> Value {
            map.iter()
                .map(|(name, count)| (name.clone(), count.json()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        json!({ "file": file, "target": target, "total": self.all.json(), "groups": counts(&self.groups),
            "severities": counts(&self.severities), "cases": self.cases })
    }
}
