//! YAML in, settings out. The only module that knows the file.
//!
//! [`load`] is pure given its [`Source`]: it reads no file and no environment of its own, and a bad file changes nothing.

mod about;
mod compile;
mod keys;
mod names;
mod problem;
#[cfg(any(test, fuzzing))]
pub(crate) mod promises;
mod raw;
mod scalar;
mod schema;
pub(crate) mod settings;
mod shape;
mod source;
mod strict;
mod tree;

pub(crate) use compile::Outline;
pub(crate) use compile::StageOutline;
pub(crate) use keys::Draft;
pub(crate) use problem::Problems;
pub(crate) use problem::Severity;
pub(crate) use schema::schema;
pub(crate) use source::CONFIG_VARIABLE;
pub(crate) use source::Environment;
pub(crate) use source::LOG_VARIABLE;
pub(crate) use source::Source;
pub(crate) use source::System;
pub(crate) use source::WithoutVariables;
pub(crate) use strict::RULES;
pub(crate) use strict::Waiver;

use std::path::PathBuf;

use crate::config::problem::Report;
use crate::config::raw::RawConfig;
use crate::config::shape::Shape as _;
use crate::config::tree::Content;

/// A configuration that nothing refuses.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// The settings, once their keys are there: see [`Draft::ensure`].
    pub(crate) draft: Draft,
    /// What somebody should look at.
    pub(crate) warnings: Problems,
    /// The files that the configuration names, sorted: a change of one is a change of the configuration.
    pub(crate) files: Vec<PathBuf>,
    /// Its rollouts, rule by rule.
    pub(crate) outlines: Vec<Outline>,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// Everything that is wrong with it, warnings included.
pub(crate) fn load(source: &Source) -> Result<Compiled, Problems> {
    let mut report = Report::default();
    let root = match tree::parse(&source.text) {
        Ok(root) => root,
        Err(error) => {
            report
                .error(error.mark, format!("this is not YAML: {}", error.message))
                .hint("look at the indentation, quotes and brackets of this line and of the one before; what follows its key is not shown, it may be a secret");
            report.blot_rest_of_line(&source.text, error.mark);
            return Err(report.finish(&source.path, &source.text, |_| None, |_| None));
        }
    };
    let finish = |report: Report| {
        let scalar = |id| root.scalar_at(id).map(str::to_owned);
        let mut problems = report.finish(&source.path, &source.text, |id| root.path_to(id), scalar);
        about::hint(&mut problems);
        problems
    };
    if matches!(root.content, Content::Null) {
        report
            .error(root.mark, "the file is empty")
            .hint("`config/minimal.yaml` is a beginning");
        return Err(finish(report));
    }
    let Some(raw) = RawConfig::read(&root, &mut report) else {
        return Err(finish(report));
    };
    let outcome = compile::compile(&raw, source, report);
    let problems = finish(outcome.report);
    match outcome.draft {
        Some(draft) if !problems.refuse() => Ok(Compiled {
            draft,
            warnings: problems,
            files: outcome.files,
            outlines: outcome.outlines,
        }),
        _ => Err(problems),
    }
}

/// Judges a configuration that nothing refuses by the rules of the strict check; its warnings stay.
///
/// Lines are not quoted: what may be shown of them is not known any more.
pub(crate) fn strict(source: &Source, compiled: &Compiled) -> Problems {
    let mut problems = compiled.warnings.clone();
    let Ok(root) = tree::parse(&source.text) else {
        return problems;
    };
    let mut report = Report::default();
    let draft = &compiled.draft;
    strict::judge(&root, (draft.settings(), draft.session_keys()), &mut report);
    let found = report.finish(&source.path, "", |id| root.path_to(id), |_| None);
    problems.list.extend(found.list);
    problems
        .list
        .sort_by_key(|problem| (problem.line, problem.column));
    problems
}

#[cfg(test)]
mod fixed;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
