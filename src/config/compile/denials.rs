//! `identity.denials`: whose word about barred accounts counts at every provider.

use std::time::Duration;

use crate::config::compile::asked::lists_people;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::span;
use crate::config::raw::DenialsWord;
use crate::config::raw::RawConfig;
use crate::config::scalar::Span;
use crate::config::settings::Denials;
use crate::config::tree::Mark;
use crate::identity::ProviderId;
use crate::rollout::Course;
use crate::rollout::Mode;

/// How often providers are asked, where the configuration does not say.
const EVERY: Duration = Duration::from_secs(60);
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(3_600);

pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    (providers, courses): (&[Provider], &[Course]),
    joined: bool,
) -> Option<Denials> {
    let identity = raw.identity.get()?;
    let Some(at) = identity.denials.get() else {
        if let Some(mark) = identity.denials_every.mark() {
            context
                .report
                .error(mark, "nobody is asked whom to deny: `denials` is missing")
                .hint("`denials: union`");
        } else if let Some(mark) = identity.canonical.mark().filter(|_| joined) {
            unheeded(context, mark, providers, courses);
        }
        return None;
    };
    let DenialsWord::Union = at.value;
    span(
        context,
        &identity.denials_every,
        LEAST,
        MOST,
        "from `5s` to `1h`",
    );
    if !joined {
        context
            .report
            .error(
                at.mark,
                "nobody is joined: no account is known to be of somebody who has another one",
            )
            .hint("`identity.canonical` says who is one person");
    }
    let mut asked = Vec::new();
    let mut unread = false;
    for provider in providers {
        let id = &provider.words.provider;
        let takes_part = |course: &Course| course.from == *id || course.to == *id;
        if !courses.iter().any(takes_part) {
            continue;
        }
        match &provider.settings {
            // It has been reported.
            None => unread = true,
            Some(settings) if lists_people(&settings.kind) => asked.push(id.clone()),
            Some(_) => {
                context
                    .report
                    .warning(
                        at.mark,
                        format!("`{id}` is not asked whom it has disabled: it has no `directory` that lists people"),
                    )
                    .hint("whoever is disabled there alone goes on at the other provider");
            }
        }
    }
    if asked.is_empty() && !unread {
        context
            .report
            .error(
                at.mark,
                "no provider that people leave or go to can be asked whom it has disabled",
            )
            .hint("`oidc` and `ldap` providers may have a `directory`, and the `authenticate.ldap_bind` of a `session_probe`");
    }
    Some(Denials {
        every: identity.denials_every.or(Span(EVERY)).0,
        providers: asked,
    })
}

/// Where both sides could be asked and nobody asks, whoever is disabled at one of them goes on at the other: somebody may have
/// wanted that, and is told.
fn unheeded(context: &mut Context<'_>, mark: Mark, providers: &[Provider], courses: &[Course]) {
    let can_be_asked = |id: &ProviderId| {
        let provider = providers.iter().find(|own| own.words.provider == *id);
        let settings = provider.and_then(|provider| provider.settings.as_ref());
        settings.is_some_and(|settings| lists_people(&settings.kind))
    };
    for Course { from, to, legs, .. } in courses {
        let both_run = legs.iter().any(|leg| match leg.stage.mode {
            Mode::Canary | Mode::ModernPrimary => true,
            Mode::LegacyOnly | Mode::Shadow | Mode::ModernOnly => false,
        });
        if both_run && can_be_asked(from) && can_be_asked(to) {
            context
                .report
                .warning(
                    mark,
                    format!("`{from}` and `{to}` can be asked whom they have disabled, and are not: whoever one of them shuts out goes on at the other"),
                )
                .hint("`denials: union` beside it");
        }
    }
}
