//! Cohorts that ask a provider for what it never says of anybody.

use crate::config::compile::claims::Words;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::shape::At;

/// A cohort by groups, of a provider that is called so.
pub(super) fn groups(
    context: &mut Context<'_>,
    provider: &At<String>,
    (words, all): (&Words, &[Provider]),
) {
    if !words.lacks("groups") {
        return;
    }
    let message = format!(
        "provider `{}` maps no `groups`: this never matches",
        words.provider
    );
    context
        .report
        .error(provider.mark, message)
        .value(&provider.value)
        .hint(mapping(words, "groups", all));
}

/// A cohort by a claim. Nobody is in it through a claim that is never said, which its author may know (it is mapped later);
/// but under `not` everybody would be in it.
pub(super) fn claim(
    context: &mut Context<'_>,
    (at, attribute, negated): (&At<String>, &str, bool),
    (words, all): (&Words, &[Provider]),
) {
    if !words.lacks(attribute) {
        return;
    }
    let whose = format!("provider `{}` maps no `{attribute}`", words.provider);
    let report = &mut context.report;
    let said = if negated {
        let message = format!("{whose}: under `not` this is everybody");
        report.error(at.mark, message)
    } else {
        let message = format!("{whose}: nobody is in the cohort through it");
        report.warning(at.mark, message)
    };
    said.value(&at.value).hint(mapping(words, attribute, all));
}

/// What would map an attribute.
fn mapping(words: &Words, attribute: &str, all: &[Provider]) -> String {
    let names = words.claims.iter().map(|(name, _)| &**name);
    if let Some(close) = did_you_mean(attribute, names.clone()) {
        return format!("did you mean `{close}`?");
    }
    let mapped = one_of(names);
    let mut others = all.iter().map(|provider| &provider.words);
    match others.find(|other| !other.partial && !other.lacks(attribute)) {
        Some(other) => format!(
            "`{}` maps it; `{}` maps {mapped}: add `{attribute}` to its `claims`",
            other.provider, words.provider
        ),
        None => format!("it maps {mapped}; add `{attribute}` to its `claims`"),
    }
}
