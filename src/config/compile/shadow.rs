//! `shadow`: from the file to who is asked for a second opinion.

use std::time::Duration;

use crate::config::compile::context::Context;
use crate::config::compile::membership::Membership;
use crate::config::compile::providers::Provider;
use crate::config::compile::providers::whole;
use crate::config::compile::tokens::span;
use crate::config::compile::tokens::texts;
use crate::config::problem::did_you_mean;
use crate::config::raw::ModeWord;
use crate::config::raw::OracleCredential;
use crate::config::raw::OracleWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawOracle;
use crate::config::raw::RawShadow;
use crate::config::raw::RawShadowIgnore;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::providers::settings::KindSettings;
use crate::rollout::AppId;
use crate::rollout::Percent;
use crate::shadow::Class;
use crate::shadow::settings::Breaker;
use crate::shadow::settings::Ignore;
use crate::shadow::settings::Settings;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// The providers that are asked for a second opinion.
pub(super) fn asked(raw: &RawConfig) -> Vec<String> {
    let named = raw.shadow.get().into_iter();
    let oracles = named
        .flat_map(|named| named.readable())
        .filter_map(|(_, raw)| raw.oracles.get())
        .flat_map(|list| &list.items);
    oracles
        .filter_map(|oracle| oracle.provider.get())
        .map(|at| at.value.clone())
        .collect()
}

/// The blocks, by application.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    providers: &[Provider],
    membership: &Membership,
) -> Vec<Settings> {
    let mut blocks = Vec::new();
    let named = raw.shadow.get().into_iter();
    for (name, raw) in named.flat_map(|named| named.readable()) {
        if !context.knows_app(name) {
            continue;
        }
        if !membership.pairs.contains_key(&name.value) {
            context
                .report
                .error(
                    name.mark,
                    format!(
                        "no rollout moves `{}`: there is nothing to compare",
                        name.value
                    ),
                )
                .value(&name.value);
        }
        blocks.push(block(context, name, raw, providers, membership));
    }
    missing(context, raw, &blocks);
    blocks
}

fn block(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawShadow,
    providers: &[Provider],
    membership: &Membership,
) -> Settings {
    let mut settings = Settings {
        app: AppId::new(&name.value),
        sample: raw.sample_percent.or(Percent::ALL),
        per_subject: raw.per_subject.or(Span(Duration::from_hours(6))).0,
        rps: 20,
        inflight: 16,
        timeout: 2 * SECOND,
        breaker: Breaker {
            failures: 20,
            open_for: 60 * SECOND,
        },
        dual_verify: Vec::new(),
        upstream_status: false,
        ignore: Vec::new(),
    };
    span(
        context,
        &raw.per_subject,
        SECOND,
        30 * DAY,
        "from `1s` to `30d`",
    );
    if let Some(raw) = raw.budget.get() {
        span(
            context,
            &raw.timeout,
            SECOND / 100,
            30 * SECOND,
            "from `10ms` to `30s`",
        );
        settings.timeout = raw.timeout.or(Span(settings.timeout)).0;
        settings.rps = whole(context, &raw.rps, (1, 10_000), 20);
        settings.inflight = whole(context, &raw.inflight, (1, 1_000), 16);
    }
    if let Some(raw) = raw.breaker.get() {
        span(context, &raw.open_for, SECOND, DAY, "from `1s` to `1d`");
        settings.breaker.open_for = raw.open_for.or(Span(settings.breaker.open_for)).0;
        settings.breaker.failures = whole(context, &raw.failures, (1, 10_000), 20);
    }
    let oracles = raw
        .oracles
        .required(raw.mark, "oracles", &mut context.report);
    for raw in oracles.map_or(&[][..], |list| &list.items) {
        oracle(context, raw, providers, membership, &mut settings);
    }
    for raw in raw.ignore.get().map_or(&[][..], |list| &list.items) {
        settings.ignore.extend(ignored(context, raw));
    }
    settings
}

fn oracle(
    context: &mut Context<'_>,
    raw: &RawOracle,
    providers: &[Provider],
    membership: &Membership,
    settings: &mut Settings,
) {
    let method = raw.method.required(raw.mark, "method", &mut context.report);
    let credential = raw.credential.or(OracleCredential::Any);
    match method.map(|at| at.value) {
        None => {}
        Some(OracleWord::UpstreamStatus) => {
            if let Some(at) = raw.provider.get() {
                context
                    .report
                    .error(at.mark, "the application answers here, and no provider");
            }
            if let (Some(at), OracleCredential::Basic | OracleCredential::ClientCert) =
                (raw.credential.get(), credential)
            {
                context
                    .report
                    .error(at.mark, "an application answers whatever was presented")
                    .hint("`credential: any`, or leave it out");
            }
            settings.upstream_status = true;
        }
        Some(OracleWord::DualVerify) => {
            let class = match credential {
                OracleCredential::Basic => CredentialClass::Basic,
                OracleCredential::ClientCert => CredentialClass::ClientCert,
                OracleCredential::Any => {
                    context
                        .report
                        .error(raw.mark, "`dual_verify` needs to know about what: `credential` is missing")
                        .hint("`basic` or `client_cert`: nothing else means anything to two providers");
                    return;
                }
            };
            let provider = raw
                .provider
                .required(raw.mark, "provider", &mut context.report);
            let Some(at) = provider.filter(|at| context.knows_provider(at)) else {
                return;
            };
            let at = &At {
                value: at.value.clone(),
                mark: at.mark,
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
            if membership
                .speakers
                .values()
                .flatten()
                .any(|own| *own == at.value)
            {
                context
                    .report
                    .error(
                        at.mark,
                        format!("`{}` judges people of an application: a second opinion could bring trouble to them", at.value),
                    )
                    .value(&at.value)
                    .hint("describe the same server once more, as a provider that no application has");
            }
            if settings
                .dual_verify
                .iter()
                .any(|(known, _)| *known == class)
            {
                context
                    .report
                    .error(raw.mark, "two oracles for one kind of credential");
            }
            settings
                .dual_verify
                .push((class, ProviderId::new(&at.value)));
        }
    }
}

/// Whether a provider of this name takes such credentials. One that could not be read has been reported.
fn judges(providers: &[Provider], name: &str, class: CredentialClass) -> bool {
    let found = providers
        .iter()
        .find(|provider| provider.name.value == name);
    let Some(settings) = found.and_then(|provider| provider.settings.as_ref()) else {
        return true;
    };
    match &settings.kind {
        KindSettings::Basic(_) => class == CredentialClass::Basic,
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(_) => class == CredentialClass::Basic,
        KindSettings::ClientCert(_) => class == CredentialClass::ClientCert,
        KindSettings::Oidc(_)
        | KindSettings::Jwt(_)
        | KindSettings::Introspection(_)
        | KindSettings::SessionProbe(_)
        | KindSettings::ApiKey(_) => false,
    }
}

fn ignored(context: &mut Context<'_>, raw: &RawShadowIgnore) -> Option<Ignore> {
    let until = raw.until.required(raw.mark, "until", &mut context.report);
    let until = until.map(|at| at.value.0);
    let at = raw.class.required(raw.mark, "class", &mut context.report)?;
    let found = Class::ALL
        .into_iter()
        .find(|class| class.as_str() == at.value);
    if found.is_none() {
        let words = Class::ALL.map(Class::as_str);
        let hint = did_you_mean(&at.value, words.iter().copied());
        context
            .report
            .error(
                at.mark,
                format!("`{}` is no class of differences", at.value),
            )
            .value(&at.value)
            .hint(hint.map_or_else(
                || words.join(", "),
                |close| format!("did you mean `{close}`?"),
            ));
    }
    Some(Ignore {
        class: found?,
        values: texts(raw.values.get()),
        until: until?,
    })
}

/// A stage that only compares needs something to compare with.
fn missing(context: &mut Context<'_>, raw: &RawConfig, blocks: &[Settings]) {
    let rollouts = raw.rollouts.get().into_iter();
    for (_, rollout) in rollouts.flat_map(|named| named.readable()) {
        let stages = rollout.stages.get().map_or(&[][..], |list| &list.items);
        let apps = rollout.apps.get().map_or(&[][..], |list| &list.items);
        let compares = |app: &At<String>| {
            let mut own = blocks
                .iter()
                .filter(|block| block.app.as_str() == app.value);
            own.any(|block| !block.dual_verify.is_empty())
        };
        let gates = stages
            .iter()
            .filter_map(|stage| stage.promote.get()?.require.get());
        for gate in gates {
            let nobody = gate
                .compared_subjects
                .get()
                .is_none_or(|people| people.value.0 == 0);
            // Differences are remembered by the process alone: after a restart none were found, by nobody who was looked at.
            if let Some(at) = gate.critical.get().filter(|_| nobody) {
                context
                    .report
                    .error(at.mark, "`critical` without `compared_subjects` is met when nobody was looked at")
                    .hint("say how many people must have been looked at twice, such as `compared_subjects: 200`");
            }
            let asked = gate.compared_subjects.get().or(gate.critical.get());
            if let Some(at) = asked.filter(|_| !apps.iter().any(compares)) {
                context
                    .report
                    .error(at.mark, "nobody is looked at twice: no application of the rollout has an oracle `dual_verify`")
                    .hint("`shadow: { APP: { oracles: [{ method: dual_verify, … }] } }`");
            }
        }
        let mut modes = stages.iter().filter_map(|stage| stage.mode.get());
        let Some(at) = modes.find(|at| at.value == ModeWord::Shadow) else {
            continue;
        };
        for app in apps {
            if !blocks.iter().any(|block| block.app.as_str() == app.value) {
                context
                    .report
                    .error(
                        at.mark,
                        format!("`{}` has nobody who gives a second opinion", app.value),
                    )
                    .hint(format!(
                        "`shadow: {{ {}: {{ oracles: […] }} }}`, or `mode: legacy-only`",
                        app.value
                    ));
            }
        }
    }
}
