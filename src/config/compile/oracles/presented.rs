//! Oracles about what was presented: whether another provider takes it, too, what it would issue for it, and what it says of a token
//! that stands beside.

use std::sync::Arc;

use crate::config::compile::asked::asked_aside;
use crate::config::compile::asked::judges;
use crate::config::compile::context::Context;
use crate::config::compile::membership::Membership;
use crate::config::compile::oracles::class;
use crate::config::compile::oracles::is_judged;
use crate::config::compile::oracles::judges_nobody;
use crate::config::compile::oracles::other;
use crate::config::compile::oracles::other_side;
use crate::config::compile::providers::Provider;
use crate::config::raw::OnlyAfterWord;
use crate::config::raw::OracleCredential;
use crate::config::raw::RawOracle;
use crate::config::shape::At;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::providers::settings::KindSettings;
use crate::shadow::settings::Exchanged;
use crate::shadow::settings::Settings;

/// The provider that is asked about the same credential.
pub(super) fn dual_verify(
    context: &mut Context<'_>,
    raw: &RawOracle,
    (providers, membership): (&[Provider], &Membership),
    settings: &mut Settings,
) {
    let class = match class(raw.credential.or(OracleCredential::Any)) {
        Some(class @ (CredentialClass::Basic | CredentialClass::ClientCert)) => class,
        Some(
            CredentialClass::Session
            | CredentialClass::Bearer
            | CredentialClass::Opaque
            | CredentialClass::ApiKey
            | CredentialClass::Refresh,
        )
        | None => {
            context
                .report
                .error(
                    raw.mark,
                    "`dual_verify` needs to know about what: `credential` is missing",
                )
                .hint("`basic` or `client_cert`: nothing else means anything to two providers");
            return;
        }
    };
    // What was refused is never sent on: the one word there is.
    let OnlyAfterWord::Accept = raw.only_after.or(OnlyAfterWord::Accept);
    let provider = other(raw, membership, settings);
    let Some(at) = provider.as_ref().filter(|at| context.knows_provider(at)) else {
        return;
    };
    if !judges(providers, &at.value, class) {
        context
            .report
            .error(
                at.mark,
                format!("`{}` judges no `{}`", at.value, class.as_str()),
            )
            .value(&at.value);
    }
    if !asked_aside(providers, &at.value) {
        judges_nobody(context, membership, at);
    }
    if is_judged(settings, class) {
        context
            .report
            .error(raw.mark, "two oracles for one kind of credential");
    }
    // What was said of `any` before is about the others.
    settings.directory.retain(|(known, _)| *known != class);
    let provider = ProviderId::new(&at.value);
    settings.dual_verify.push((class, provider));
}

/// The provider that would issue a token for one that was presented.
pub(super) fn exchange(
    context: &mut Context<'_>,
    raw: &RawOracle,
    (providers, membership): (&[Provider], &Membership),
    settings: &mut Settings,
) {
    let class = match class(raw.credential.or(OracleCredential::Any)) {
        Some(class @ (CredentialClass::Bearer | CredentialClass::Opaque)) => class,
        Some(
            CredentialClass::Session
            | CredentialClass::Basic
            | CredentialClass::ApiKey
            | CredentialClass::ClientCert
            | CredentialClass::Refresh,
        )
        | None => {
            context
                .report
                .error(
                    raw.mark,
                    "`exchange` is about tokens: `credential` is missing",
                )
                .hint("`credential: bearer` or `opaque`");
            return;
        }
    };
    if !raw.issues_tokens.or(false) {
        context
            .report
            .error(
                raw.mark,
                "the provider issues a token for each person who is looked at",
            )
            .hint("`issues_tokens: true` says that this is known; they are given back at once");
    }
    let provider = other(raw, membership, settings);
    let Some(at) = provider.as_ref().filter(|at| context.knows_provider(at)) else {
        return;
    };
    judges_nobody(context, membership, at);
    if is_judged(settings, class) {
        context
            .report
            .error(raw.mark, "two oracles for one kind of credential");
    }
    let Some(kind) = kind(providers, at) else {
        return;
    };
    let (audiences, why) = match kind {
        KindSettings::Oidc(oidc) if oidc.client.is_none() => (None, "has no `client`"),
        KindSettings::Oidc(oidc) if !oidc.revokes => (None, "takes no tokens back (`revoke`)"),
        KindSettings::Oidc(oidc) => (Some(oidc.verify.audiences.clone()), ""),
        KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::SessionProbe(_)
        | KindSettings::Basic(_)
        | KindSettings::ApiKey(_)
        | KindSettings::ClientCert(_) => (None, "has no token endpoint"),
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => (None, "has no token endpoint"),
    };
    let Some(audiences) = audiences else {
        context
            .report
            .error(
                at.mark,
                format!("`{}` {why}: nothing is exchanged there", at.value),
            )
            .value(&at.value)
            .hint("an `oidc` provider with a `client` whose tokens can be revoked");
        return;
    };
    // What was said of `any` before is about the others.
    settings.directory.retain(|(known, _)| *known != class);
    let exchanged = Exchanged {
        provider: ProviderId::new(&at.value),
        audiences: Arc::from(audiences),
    };
    settings.exchange.push((class, exchanged));
}

/// The provider that judges a token which a client shows beside its credential.
pub(super) fn dual_token(
    context: &mut Context<'_>,
    raw: &RawOracle,
    (providers, membership): (&[Provider], &Membership),
    settings: &mut Settings,
) {
    let provider = other(raw, membership, settings);
    let Some(at) = provider.as_ref().filter(|at| context.knows_provider(at)) else {
        return;
    };
    other_side(context, membership, settings, at);
    if settings.dual_token.is_some() {
        context.report.error(
            raw.mark,
            "one token stands beside, and one provider judges it",
        );
    }
    match kind(providers, at) {
        // Judged here, by its keys.
        Some(KindSettings::Jwt(_)) | None => {}
        Some(KindSettings::Oidc(oidc)) if oidc.introspect.is_none() => {}
        Some(KindSettings::Oidc(_)) => judges_nobody(context, membership, at),
        Some(
            KindSettings::Introspection(_)
            | KindSettings::SessionProbe(_)
            | KindSettings::Basic(_)
            | KindSettings::ApiKey(_)
            | KindSettings::ClientCert(_),
        ) => not_signed(context, at),
        #[cfg(feature = "ldap")]
        Some(KindSettings::Ldap(_)) => not_signed(context, at),
    }
    settings.dual_token = Some(ProviderId::new(&at.value));
}

fn not_signed(context: &mut Context<'_>, at: &At<String>) {
    context
        .report
        .error(at.mark, format!("`{}` judges no signed tokens", at.value))
        .value(&at.value)
        .hint("an `oidc` or `jwt` provider");
}

/// What kind a provider is. One that could not be read has been reported.
fn kind<'a>(providers: &'a [Provider], at: &At<String>) -> Option<&'a KindSettings> {
    let mut all = providers.iter();
    let found = all.find(|provider| provider.name.value == at.value)?;
    found.settings.as_ref().map(|settings| &settings.kind)
}
