//! `identity.links`, `identity.on_missing` and what else `identity` says: which accounts are one person's, beside what providers say.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::config::compile::context::Context;
use crate::config::compile::hex;
use crate::config::compile::link_claims;
use crate::config::compile::providers::Provider;
use crate::config::raw::OnConflictWord;
use crate::config::raw::OnMissingWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawIdentity;
use crate::config::raw::RawLinkFile;
use crate::config::tree::Mark;
use crate::identity::Normalise;
use crate::identity::ProviderId;
use crate::identity::Template;
use crate::links::ClaimRule;
use crate::links::Columns;
use crate::links::LinkFile;
use crate::links::settings::OnMissing;

/// What `identity` says beside the name of people.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) files: Vec<Arc<LinkFile>>,
    pub(super) claims: Vec<Arc<ClaimRule>>,
    pub(super) prove_both: bool,
    pub(super) on_missing: OnMissing,
}

/// Compiles them. `naming`: how `identity.canonical` names people.
pub(super) fn sources(
    context: &mut Context<'_>,
    raw: &RawConfig,
    identity: &RawIdentity,
    naming: (&Template, &[Normalise]),
    providers: &[Provider],
) -> Sources {
    // The only word: whoever may be somebody else is not let in as anybody.
    match identity.on_conflict.get().map(|word| word.value) {
        Some(OnConflictWord::Deny) | None => {}
    }
    let mut sources = Sources {
        on_missing: identity
            .on_missing
            .get()
            .map_or(OnMissing::default(), |word| match word.value {
                OnMissingWord::Alone => OnMissing::Alone,
                OnMissingWord::From => OnMissing::From,
                OnMissingWord::Deny => OnMissing::Deny,
            }),
        ..Sources::default()
    };
    for link in identity
        .links
        .get()
        .into_iter()
        .flat_map(|list| &list.items)
    {
        if let Some(raw) = link.file.get() {
            let file = file(context, raw, naming, providers).map(Arc::new);
            let of_others = |file: &Arc<LinkFile>| {
                let others = sources.files.iter();
                others.map(|other| file.disagreements(other)).sum::<usize>()
            };
            match file.as_ref().map_or(0, of_others) {
                0 => sources.files.extend(file),
                // Whoever came first would have the name.
                differing => {
                    context.report.error(
                        raw.mark,
                        format!("this list and an earlier one disagree about {differing} accounts"),
                    );
                }
            }
        }
        if let Some(claim) = link.claim.get() {
            let rule = link_claims::rule(context, claim, &left(raw), providers);
            let same = |known: &Arc<ClaimRule>| rule.as_ref().is_some_and(|rule| known.is(rule));
            if sources.claims.iter().any(same) {
                let again = "an earlier source links by the same claims";
                context.report.error(claim.mark, again);
            } else {
                sources.claims.extend(rule.map(Arc::new));
            }
        }
        if let Some(at) = link.prove_both.get().filter(|at| at.value.0) {
            sources.prove_both = true;
            have_logins(context, at.mark, providers);
        }
    }
    sources
}

/// The providers that people leave.
fn left(raw: &RawConfig) -> Vec<&str> {
    let rollouts = raw.rollouts.get().into_iter();
    let rollouts = rollouts.flat_map(|named| named.readable());
    let rollouts = rollouts.map(|(_, rollout)| &rollout.from);
    let short = raw.rollout.get().into_iter().map(|short| &short.from);
    let all = rollouts.chain(short).filter_map(|from| from.get());
    all.map(|at| at.value.as_str()).collect()
}

fn file(
    context: &mut Context<'_>,
    raw: &RawLinkFile,
    (template, normalise): (&Template, &[Normalise]),
    providers: &[Provider],
) -> Option<LinkFile> {
    let report = &mut context.report;
    let path = raw.path.required(raw.mark, "path", report);
    let columns = raw.columns.required(raw.mark, "columns", report);
    let pinned = raw.sha256.required(raw.mark, "sha256", report);
    let (path, columns, pinned) = (path?, columns?, pinned?);
    let mut accounts: Vec<(ProviderId, Box<str>)> = Vec::new();
    for (name, column) in columns.readable() {
        if context.knows_provider(name)
            && let Some(provider) = providers.iter().find(|p| p.name.value == name.value)
        {
            let id = provider.words.provider.clone();
            accounts.push((id, column.value.as_str().into()));
        }
    }
    if accounts.is_empty() {
        context
            .report
            .error(columns.mark, "no column has the accounts of a provider");
        return None;
    }
    let content = context.content(path, "the list of links")?;
    let found = hex(digest::digest(&digest::SHA256, &content).as_ref());
    if !pinned.value.eq_ignore_ascii_case(&found) {
        context
            .report
            .error(
                pinned.mark,
                "this is not the SHA-256 of the list: it has been changed, or it is another one",
            )
            .value(&pinned.value)
            .hint(format!("the file that is there has {found}"));
        return None;
    }
    let columns = Columns {
        accounts: &accounts,
        template,
        normalise,
    };
    match LinkFile::parse(&content, &columns) {
        Ok(file) => Some(file),
        Err(problems) => {
            for problem in problems {
                context
                    .report
                    .error(path.mark, format!("the list of links: {problem}"))
                    .value(path.value.display());
            }
            None
        }
    }
}

/// Both accounts are proved by a login: a provider without one cannot take part.
fn have_logins(context: &mut Context<'_>, mark: Mark, providers: &[Provider]) {
    use crate::providers::settings::KindSettings;
    let kinds = || {
        let settings = providers
            .iter()
            .filter_map(|provider| provider.settings.as_ref());
        settings.map(|settings| &settings.kind)
    };
    let logins = kinds()
        .filter(|kind| matches!(kind, KindSettings::Oidc(oidc) if oidc.client.is_some()))
        .count();
    let form = kinds().any(|kind| matches!(kind, KindSettings::SessionProbe(_)));
    if logins == 1 && form {
        context
            .report
            .warning(
                mark,
                "nobody proves two accounts: a form at the application does not come back to us, so only one provider has a login for that",
            )
            .hint("a login is an `oidc` provider with a `client`; the other sources link people all the same");
    } else if logins < 2 {
        context
            .report
            .error(
                mark,
                "fewer than two providers have a login: nobody can sign in at both",
            )
            .hint("a login is an `oidc` provider with a `client`");
    }
}
