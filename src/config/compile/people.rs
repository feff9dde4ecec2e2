//! `identity` and `cohorts`: who is one person, and who is in which group.

use std::collections::HashSet;

use crate::config::compile::address::host;
use crate::config::compile::address::networks;
use crate::config::compile::address::path_pattern;
use crate::config::compile::address::trusted;
use crate::config::compile::claims::Words;
use crate::config::compile::context::Context;
use crate::config::compile::headers;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::texts;
use crate::config::names::did_you_mean;
use crate::config::names::one_of;
use crate::config::raw::RawCohort;
use crate::config::raw::RawConfig;
use crate::config::shape::At;
use crate::config::shape::List;
use crate::identity::ClaimPath;
use crate::rollout::Cohort;
use crate::rollout::CohortId;
use crate::rollout::Cohorts;

/// `cohorts`.
pub(super) fn cohorts(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
) -> Cohorts {
    let mut cohorts = Cohorts::new();
    let Some(named) = raw.cohorts.get() else {
        return cohorts;
    };
    let joined = !raw.identity.is_absent();
    for (name, raw) in &named.entries {
        context.name("a cohort", name);
        let compiled = raw
            .as_ref()
            .and_then(|raw| Matcher { providers, joined }.compile(context, raw));
        if let Some(cohort) = compiled {
            cohorts.insert(CohortId::new(&name.value), cohort);
        }
    }
    cohorts
}

/// `drills.test_accounts`.
pub(super) fn test_accounts(
    context: &mut Context<'_>,
    raw: &RawConfig,
    cohorts: &Cohorts,
) -> Option<CohortId> {
    let raw = raw.drills.get()?;
    let at = raw
        .test_accounts
        .required(raw.mark, "test_accounts", &mut context.report)?;
    if !context.knows_cohort(at) {
        return None;
    }
    let id = CohortId::new(&at.value);
    // One that could not be read is reported already.
    if !cohorts.get(&id).is_none_or(says_who) {
        context
            .report
            .error(
                at.mark,
                format!("`{}` does not say who its people are", at.value),
            )
            .value(&at.value)
            .hint("`subjects`, `group`, `claim`, `email_domain` or `client_id`: anybody may come to an application or a path");
    }
    Some(id)
}

/// Whether nobody belongs to it but whom it says something of.
fn says_who(cohort: &Cohort) -> bool {
    match cohort {
        Cohort::Subjects(_)
        | Cohort::EmailDomain { .. }
        | Cohort::Group { .. }
        | Cohort::Claim { .. }
        | Cohort::ClientId(_) => true,
        Cohort::Cidr(_)
        | Cohort::Host(_)
        | Cohort::Path(_)
        | Cohort::Method(_)
        | Cohort::App(_)
        | Cohort::Header { .. }
        | Cohort::SignedCookie(_)
        | Cohort::LoginHint(_)
        | Cohort::Not(_) => false,
        Cohort::All(parts) => parts.iter().any(says_who),
        Cohort::Any(parts) => parts.iter().all(says_who),
    }
}

/// Warns of cohorts that nothing names: a rule that is missing, or was meant to be gone.
pub(super) fn unused(context: &mut Context<'_>, raw: &RawConfig) {
    // Whatever names them may be what could not be read.
    if context.report.refuses() {
        return;
    }
    for (name, _) in raw.cohorts.get().map_or(&[][..], |named| &named.entries) {
        if context.used_cohorts.contains(&name.value) {
            continue;
        }
        context
            .report
            .warning(
                name.mark,
                format!("nothing uses the cohort `{}`", name.value),
            )
            .value(&name.value)
            .hint("name it in a rule of `assign` or in `accept`, or leave it out");
    }
}

/// What we set ourselves is called after our session, so that it reaches no application and nobody else sets it.
pub(super) fn signed_cookies(context: &mut Context<'_>, session: &str) {
    let own = format!("{session}_");
    for at in std::mem::take(&mut context.signed_cookies) {
        let rest = at.value.strip_prefix(&own).unwrap_or_default();
        if rest.is_empty() || rest == "dev" || rest.starts_with("flow_") {
            context
                .report
                .error(at.mark, format!("`{}` is no name for this", at.value))
                .value(&at.value)
                .hint(format!(
                    "it begins with the name of our session cookie: `{own}optin`"
                ));
        }
    }
}

struct Matcher<'a> {
    providers: &'a [Provider],
    joined: bool,
}

impl Matcher<'_> {
    fn compile(&self, context: &mut Context<'_>, raw: &RawCohort) -> Option<Cohort> {
        let set = |list: &List<At<String>>| -> HashSet<Box<str>> {
            texts(Some(list)).into_iter().collect()
        };
        if let Some(list) = raw.subjects.get() {
            self.warn_unjoined(context, list.mark);
            return Some(Cohort::Subjects(set(list)));
        }
        if let Some(at) = raw.subjects_file.get() {
            self.warn_unjoined(context, at.mark);
            return subjects(context, at).map(Cohort::Subjects);
        }
        if let Some(list) = raw.email_domain.get() {
            let domains = list
                .items
                .iter()
                .filter_map(|at| host(context, at, false))
                .collect();
            let authoritative = self.providers.iter().flat_map(|provider| {
                let words = &provider.words;
                words
                    .email_domains
                    .iter()
                    .map(|domain| (words.provider.clone(), domain.clone()))
            });
            return Some(Cohort::EmailDomain {
                domains,
                authoritative: authoritative.collect(),
            });
        }
        if let Some(group) = raw.group.get() {
            let provider = group
                .provider
                .required(group.mark, "provider", &mut context.report);
            let any_of = group
                .any_of
                .required(group.mark, "any_of", &mut context.report);
            let words = self.words(context, provider?)?;
            self.maps(context, provider?, words, "groups");
            return Some(Cohort::Group {
                provider: words.provider.clone(),
                any_of: set(any_of?),
            });
        }
        if let Some(claim) = raw.claim.get() {
            let provider = claim
                .provider
                .required(claim.mark, "provider", &mut context.report);
            let name = claim.name.required(claim.mark, "name", &mut context.report);
            let equals = claim
                .equals
                .required(claim.mark, "equals", &mut context.report);
            let words = self.words(context, provider?)?;
            let name = name?;
            self.maps(
                context,
                name,
                words,
                name.value.split(['.', '[']).next().unwrap_or_default(),
            );
            let path = match ClaimPath::parse(&name.value) {
                Ok(path) => path,
                Err(invalid) => {
                    context
                        .report
                        .error(name.mark, invalid.to_string())
                        .value(&name.value);
                    return None;
                }
            };
            return Some(Cohort::Claim {
                provider: words.provider.clone(),
                name: path,
                equals: equals?.value.as_str().into(),
            });
        }
        if let Some(list) = raw.client_id.get() {
            return Some(Cohort::ClientId(set(list)));
        }
        self.compile_request(context, raw)
    }

    /// Matchers over the request, and combinations.
    fn compile_request(&self, context: &mut Context<'_>, raw: &RawCohort) -> Option<Cohort> {
        if let Some(list) = raw.cidr.get() {
            return Some(Cohort::Cidr(networks(list)));
        }
        if let Some(list) = raw.host.get() {
            return Some(Cohort::Host(
                list.items
                    .iter()
                    .filter_map(|at| host(context, at, true))
                    .collect(),
            ));
        }
        if let Some(list) = raw.path.get() {
            return Some(Cohort::Path(
                list.items
                    .iter()
                    .filter_map(|at| path_pattern(context, at))
                    .collect(),
            ));
        }
        if let Some(list) = raw.method.get() {
            let methods = list
                .items
                .iter()
                .filter_map(|at| super::routes::method(context, at));
            return Some(Cohort::Method(
                methods.map(|method| method.as_str().into()).collect(),
            ));
        }
        if let Some(list) = raw.app.get() {
            let known = list.items.iter().filter(|at| context.knows_app(at));
            return Some(Cohort::App(
                known.map(|at| at.value.as_str().into()).collect(),
            ));
        }
        if let Some(header) = raw.header.get() {
            let name = header
                .name
                .required(header.mark, "name", &mut context.report);
            let equals = header
                .equals
                .required(header.mark, "equals", &mut context.report);
            header
                .trusted_from
                .required(header.mark, "trusted_from", &mut context.report);
            let trusted_from = trusted(context, &header.trusted_from, "`trusted_from`");
            return Some(Cohort::Header {
                name: headers::compared(context, name?)?.as_str().into(),
                equals: equals?.value.as_str().into(),
                trusted_from,
            });
        }
        if let Some(at) = raw.signed_cookie.get() {
            let good = headers::cookie_name(context, at);
            context.signed_cookies.push(at.clone());
            return good.then(|| Cohort::SignedCookie(at.value.as_str().into()));
        }
        if let Some(list) = raw.login_hint.get() {
            let names = list.items.iter().filter_map(|at| hint(context, at));
            return Some(Cohort::LoginHint(names.collect()));
        }
        let mut parts = |list: &List<RawCohort>| -> Vec<Cohort> {
            list.items
                .iter()
                .filter_map(|part| self.compile(context, part))
                .collect()
        };
        if let Some(list) = raw.all.get() {
            return Some(Cohort::All(parts(list)));
        }
        if let Some(list) = raw.any.get() {
            return Some(Cohort::Any(parts(list)));
        }
        let part = raw.not.get()?;
        self.compile(context, part).map(Box::new).map(Cohort::Not)
    }

    fn warn_unjoined(&self, context: &mut Context<'_>, mark: crate::config::tree::Mark) {
        if !self.joined {
            context
                .report
                .warning(mark, "without `identity.canonical` nobody has such a name")
                .hint("a person is then written `LENGTH:ISSUER:SUBJECT`, where LENGTH counts the issuer's bytes");
        }
    }

    fn words(&self, context: &mut Context<'_>, name: &At<String>) -> Option<&Words> {
        context.knows_provider(name);
        let provider = self.providers.iter().find(|p| p.name.value == name.value);
        provider.map(|provider| &provider.words)
    }

    fn maps(&self, context: &mut Context<'_>, at: &At<String>, words: &Words, attribute: &str) {
        if words.partial || words.source(attribute).is_some() {
            return;
        }
        let names = words.claims.iter().map(|(name, _)| &**name);
        let hint = did_you_mean(attribute, names.clone()).map_or_else(
            || {
                format!(
                    "it maps {}; add `{attribute}` to its `claims`",
                    one_of(names)
                )
            },
            |close| format!("did you mean `{close}`?"),
        );
        context
            .report
            .error(
                at.mark,
                format!(
                    "provider `{}` maps no `{attribute}`: this never matches",
                    words.provider
                ),
            )
            .value(&at.value)
            .hint(hint);
    }
}

/// What somebody may call themselves, as it is compared.
fn hint(context: &mut Context<'_>, at: &At<String>) -> Option<Box<str>> {
    let text = at.value.to_lowercase();
    let (star, rest) = match text.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let typed = rest.trim() == rest && !rest.contains('*') && !rest.chars().any(char::is_control);
    if !typed || rest.is_empty() {
        context
            .report
            .error(at.mark, format!("nobody calls themselves `{}`", at.value))
            .value(&at.value)
            .hint("a whole name, or its end after a `*`: `alice`, `*@partner.example`");
        return None;
    }
    if star && !rest.starts_with('@') {
        context
            .report
            .warning(at.mark, format!("`{}` is the end of many names", at.value))
            .value(&at.value)
            .hint("a domain begins with its `@`: `*@partner.example`");
    }
    Some(text.as_str().into())
}

/// A file of canonical names, one a line; empty lines and lines that begin with `#` do not count.
fn subjects(context: &mut Context<'_>, at: &At<std::path::PathBuf>) -> Option<HashSet<Box<str>>> {
    let content = context.content(at, "the file of people")?;
    let Ok(text) = std::str::from_utf8(&content) else {
        context
            .report
            .error(at.mark, "the file of people is not UTF-8");
        return None;
    };
    let people: HashSet<Box<str>> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(Into::into)
        .collect();
    if people.is_empty() {
        context
            .report
            .error(at.mark, "the file of people names nobody");
        return None;
    }
    Some(people)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_accounts_are_people_of_whom_something_is_said() {
        let staff = || Cohort::Subjects(HashSet::from(["uid:ann".into()]));
        let app = || Cohort::App(vec!["crm".into()]);
        let not = || Cohort::Not(Box::new(staff()));
        for cohort in [
            staff(),
            Cohort::All(vec![app(), staff(), not()]),
            Cohort::Any(vec![staff(), staff()]),
        ] {
            assert!(says_who(&cohort), "{cohort:?}");
        }
        for cohort in [
            app(),
            not(),
            Cohort::Path(vec!["/*".into()]),
            Cohort::All(vec![app(), not()]),
            Cohort::All(Vec::new()),
            Cohort::Any(vec![staff(), app()]),
        ] {
            assert!(!says_who(&cohort), "{cohort:?}");
        }
    }
}
