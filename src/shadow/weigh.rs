//! What one look found: compared, less what is known, counted and kept.

use std::collections::BTreeSet;

use tracing::warn;

use crate::clock::UnixTime;
use crate::rollout::AppId;
use crate::shadow::compare::Difference;
use crate::shadow::compare::Name;
use crate::shadow::compare::Side;
use crate::shadow::compare::compare;
use crate::shadow::kind::Class;
use crate::shadow::settings::Settings;
use crate::shadow::work::ShadowParts;
use crate::telemetry::Pseudonym;
use crate::telemetry::metrics::Compared;
use crate::telemetry::metrics::Oracle;

/// What the other side says.
#[derive(Clone, Debug)]
pub(super) enum Opinion {
    /// It is this person, who may come in.
    Person(Side),
    /// It does not let the person in: why, in one word.
    Refused(&'static str),
    /// It knows nobody by that.
    Nobody,
    /// It knows several people by that.
    Several,
}

/// In what the other side differs about somebody whom the deciding side lets in.
pub(super) fn of_welcome(control: &Side, other: &Opinion) -> Vec<Difference> {
    match other {
        Opinion::Person(candidate) => compare(control, candidate),
        Opinion::Refused(why) => vec![plain(Class::AcceptReject, why)],
        Opinion::Nobody => vec![plain(Class::NoLink, "subject")],
        Opinion::Several => vec![plain(Class::LinkConflict, "subject")],
    }
}

/// In what the side that people have moved to differs from the one that they have left, which is asked now. Classes are those
/// that the other way round would have found: what is `extra` is so at the new side.
pub(super) fn of_moved(control: &Side, before: &Opinion) -> Vec<Difference> {
    match before {
        Opinion::Person(before) => {
            let mut found = compare(before, control);
            // An account that nobody is called by is no other person.
            let class = match before.name {
                Name::Person(_) => None,
                Name::Nobody => Some(Class::NoLink),
                Name::Conflict => Some(Class::LinkConflict),
            };
            for difference in &mut found {
                if let (Class::SubjectMismatch, Some(class)) = (difference.class, class) {
                    difference.class = class;
                }
            }
            found
        }
        Opinion::Refused(why) => vec![plain(Class::RejectAccept, why)],
        Opinion::Nobody => vec![plain(Class::NoLink, "subject")],
        Opinion::Several => vec![plain(Class::LinkConflict, "subject")],
    }
}

/// In what it differs about somebody whom the deciding side does not let in.
pub(super) fn of_barred(control: &Side, other: &Opinion) -> Vec<Difference> {
    match other {
        Opinion::Person(candidate) => {
            let mut found = compare(control, candidate);
            found.retain(|difference| difference.class == Class::SubjectMismatch);
            // Somebody else may well come in.
            if found.is_empty() {
                found.push(plain(Class::RejectAccept, "disabled"));
            }
            found
        }
        Opinion::Refused("disabled") => Vec::new(),
        Opinion::Refused(why) => vec![plain(Class::OtherReason, why)],
        Opinion::Nobody => vec![plain(Class::OtherReason, "nobody")],
        Opinion::Several => vec![plain(Class::LinkConflict, "subject")],
    }
}

fn plain(class: Class, field: &str) -> Difference {
    Difference {
        class,
        field: field.into(),
        values: Vec::new(),
        said: (Vec::new(), field.into()),
    }
}

/// Counts and keeps what was found about somebody.
pub(super) fn record(
    parts: &ShadowParts,
    settings: &Settings,
    (oracle, person): (Oracle, Pseudonym),
    mut differences: Vec<Difference>,
    now: UnixTime,
) {
    let app = &settings.app;
    differences.retain(|difference| is_compared(settings, difference.class));
    let before = differences.len();
    let counted: Vec<Difference> = differences
        .into_iter()
        .filter_map(|difference| unknown(settings, difference, now))
        .collect();
    let result = match (before, counted.len()) {
        (0, _) => Compared::Same,
        (_, 0) => Compared::Ignored,
        _ => Compared::Different,
    };
    let told: Vec<(Class, Box<str>)> = counted
        .iter()
        .map(|difference| (difference.class, difference.field.clone()))
        .collect();
    let new = parts.found.looked_at(app, person, counted, now);
    for ((class, field), new) in told.into_iter().zip(new) {
        let severity = class.severity();
        let words = (class.as_str(), severity);
        parts.metrics.shadow_divergence(app, words, 1);
        if new {
            let (app, class, oracle) = (app.as_str(), class.as_str(), oracle.as_str());
            warn!(app, oracle, class, severity, %field, subject = %person, "Two providers differ about somebody.");
        }
    }
    // Last: what is counted has been kept, and told.
    parts.metrics.shadow_compared(app, oracle, result);
}

fn is_compared(settings: &Settings, class: Class) -> bool {
    let field = class.field();
    field.is_none_or(|field| settings.compare.contains(&field))
}

/// Counts and keeps that somebody's token lost what it was bound to on its way through an exchange: whoever has it may use it.
pub(super) fn binding_lost(
    parts: &ShadowParts,
    (app, settings): (&AppId, Option<&Settings>),
    (exchange, person): (&str, Pseudonym),
    now: UnixTime,
) {
    let mut difference = plain(Class::BindingLost, exchange);
    if let Some(settings) = settings {
        match unknown(settings, difference, now) {
            Some(left) => difference = left,
            None => return,
        }
    }
    let new = parts.found.looked_at(app, person, vec![difference], now);
    let (class, severity) = (Class::BindingLost.as_str(), Class::BindingLost.severity());
    parts.metrics.shadow_divergence(app, (class, severity), 1);
    if new.first().is_some_and(|new| *new) {
        let app = app.as_str();
        warn!(app, class, severity, exchange, subject = %person, "A bound token was exchanged for one that anybody can use.");
    }
}

/// Counts in what the deciding side differs from itself, when it is asked twice about somebody.
pub(super) fn noise(
    parts: &ShadowParts,
    settings: &Settings,
    person: Pseudonym,
    differences: &[Difference],
    now: UnixTime,
) {
    let app = &settings.app;
    let classes = differences.iter().map(|difference| difference.class);
    let classes: BTreeSet<Class> = classes
        .filter(|class| is_compared(settings, *class))
        .collect();
    if classes.is_empty() {
        parts.metrics.shadow_noise(app, "none");
    }
    for class in &classes {
        parts.metrics.shadow_noise(app, class.as_str());
    }
    parts.found.noise(app, person, classes.into_iter(), now);
}

/// What of a difference is not known already.
fn unknown(settings: &Settings, mut difference: Difference, now: UnixTime) -> Option<Difference> {
    let rules = settings
        .ignore
        .iter()
        .filter(|rule| rule.class == difference.class && now < rule.until);
    for rule in rules {
        if rule.values.is_empty() {
            return None;
        }
        let before = difference.values.len();
        difference
            .values
            .retain(|value| !rule.values.contains(value));
        if difference.values.is_empty() && 0 < before {
            return None;
        }
    }
    Some(difference)
}
