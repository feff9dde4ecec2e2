//! Cases that cannot be held against the program yet, or never, and why.

use crate::case::Case;

/// Words anywhere in a case → what they ask for that the program does not have yet.
const LATER: &[(&str, &str)] = &[("/_gate/userinfo", "the userinfo endpoint")];

/// Why a case is skipped before it begins.
pub(crate) fn reason(case: &Case) -> Option<String> {
    if let Some(why) = &case.unread {
        return Some(format!("not understood: {why}"));
    }
    if let Some(reading) = &case.reading {
        if let Some(why) = &reading.replaced {
            return Some(format!("does not apply: {why}"));
        }
        if let Some(why) = &reading.later {
            return Some(format!("later: {why}"));
        }
        return None;
    }
    let text = format!("{:?}", case.requests);
    let found = LATER.iter().find(|(word, _)| text.contains(word));
    found.map(|(_, what)| format!("later: {what}"))
}
