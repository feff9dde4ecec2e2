//! Reports: what has happened and how it stands, as tables that people and programs read.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::admin::question::ExplainRequest;

/// Which report, and of what.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportRequest {
    /// Which.
    pub(crate) kind: ReportKind,
    /// One rollout; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollout: Option<String>,
    /// One application; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<String>,
    /// How far back it looks, in seconds; as far as anything is known without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since_seconds: Option<u64>,
    /// Pseudonyms whose people are named, of those whom this instance has let in within `retention.facts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reveal: Vec<String>,
    /// Why they are named; recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// The inventory, for `who`: each as for `explain`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) people: Vec<ExplainRequest>,
}

impl ReportRequest {
    /// About everything.
    pub(crate) const fn about(kind: ReportKind) -> Self {
        Self {
            kind,
            rollout: None,
            app: None,
            since_seconds: None,
            reveal: Vec::new(),
            reason: String::new(),
            people: Vec::new(),
        }
    }
}

/// A question that a report answers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReportKind {
    /// Who is where: people by state, by cohort and application
    Who,
    /// Who and what still presents credentials of the provider that people leave
    LegacyUsage,
    /// In what second opinions differ
    Divergences,
    /// What applications answer themselves: by path, credential and client; forgotten public paths are named
    Surface,
    /// Which groups of a provider have no role
    Groups,
    /// What keeps each rollout from its next step
    Readiness,
    /// What a switch back would do to people now
    Rollback,
    /// Configurations, decisions and the kill switch, with the guards' numbers
    Timeline,
}

/// A report.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ReportView {
    /// Which.
    pub(crate) kind: ReportKind,
    /// When it was made.
    pub(crate) at: String,
    /// The configuration that ran then.
    pub(crate) revision: String,
    /// What it tells.
    pub(crate) tables: Vec<ReportTable>,
    /// What it does not know, in sentences.
    pub(crate) notes: Vec<String>,
}

/// One table of a report.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ReportTable {
    /// What it is about.
    pub(crate) title: String,
    /// The names of its columns.
    pub(crate) columns: Vec<String>,
    /// Its rows: texts, numbers, or nothing.
    pub(crate) rows: Vec<Vec<Value>>,
}

impl ReportTable {
    /// A table without rows.
    pub(crate) fn new<const N: usize>(title: impl Into<String>, columns: [&str; N]) -> Self {
        Self {
            title: title.into(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// One row more.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Value; N]) {
        self.rows.push(cells.into());
    }
}
