//! Steps for the harness, by their words.

use crate::case::Case;
use crate::case::Entry;
use crate::run::Course;
use crate::run::Runner;
use crate::run::Stop;

/// Why a step cannot be performed.
pub(crate) fn cannot(entry: &Entry, _case: &Case) -> Option<String> {
    match entry {
        Entry::Op(words) => Some(format!("step not understood: {words}")),
        Entry::H1(_) | Entry::H2(_) | Entry::Repeat(_) => None,
    }
}

/// Whether a step judges what it does by itself.
pub(crate) fn judges(_entry: &Entry) -> bool {
    false
}

/// Whether a case ends the process on purpose.
pub(crate) fn ends_the_process(_case: &Case) -> bool {
    false
}

/// Performs a step.
pub(crate) async fn perform(_runner: &mut Runner, words: &str, _case: &Case, _course: &mut Course) -> Result<(), Stop> {
    Err(Stop::Skip(format!("step not understood: {words}")))
}
