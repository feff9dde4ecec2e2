//! `shadow.APP.oracles`: who gives a second opinion.

mod presented;

use std::time::Duration;

use crate::config::compile::asked::has_directory;
use crate::config::compile::context::Context;
use crate::config::compile::membership::Membership;
use crate::config::compile::providers::Provider;
use crate::config::compile::tokens::span;
use crate::config::raw::OracleCredential;
use crate::config::raw::OracleWord;
use crate::config::raw::RawConfig;
use crate::config::raw::RawOracle;
use crate::config::scalar::Span;
use crate::config::shape::At;
use crate::config::tree::Mark;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OidcDirectory;
use crate::shadow::settings::Lookup;
use crate::shadow::settings::Settings;
use crate::shadow::settings::Sweep;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_hours(24);

/// The providers that are only asked for a second opinion: no application's people come with their credentials.
pub(super) fn asked(raw: &RawConfig) -> Vec<String> {
    let named = raw.shadow.get().into_iter();
    let oracles = named
        .flat_map(|named| named.readable())
        .filter_map(|(_, raw)| raw.oracles.get())
        .flat_map(|list| &list.items);
    let speaking = speaking(raw);
    let mut asked = Vec::new();
    for oracle in oracles {
        let looks = match oracle.method.get().map(|at| at.value) {
            Some(OracleWord::Directory | OracleWord::Sweep | OracleWord::DualToken) => true,
            Some(OracleWord::DualVerify | OracleWord::Exchange | OracleWord::UpstreamStatus)
            | None => false,
        };
        for at in oracle.provider.get().into_iter().chain(oracle.of.get()) {
            // A provider that signs people in may be looked into besides.
            if !(looks && speaking.contains(&&*at.value)) {
                asked.push(at.value.clone());
            }
        }
    }
    asked
}

/// The providers that rollouts and applications name.
fn speaking(raw: &RawConfig) -> Vec<&str> {
    let short = raw
        .rollout
        .get()
        .map(|rollout| [&rollout.from, &rollout.to]);
    let named = raw.rollouts.get().into_iter();
    let named = named.flat_map(|named| named.readable());
    let pairs = named.map(|(_, rollout)| [&rollout.from, &rollout.to]);
    let apps = raw.apps.get().into_iter();
    let apps = apps.flat_map(|named| named.readable());
    let fields = short.into_iter().chain(pairs).flatten();
    let fields = fields.chain(apps.map(|(_, app)| &app.provider));
    fields
        .filter_map(|field| field.get())
        .map(|at| at.value.as_str())
        .collect()
}

/// One of them.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawOracle,
    (providers, membership): (&[Provider], &Membership),
    settings: &mut Settings,
) {
    let method = raw.method.required(raw.mark, "method", &mut context.report);
    let Some(method) = method.map(|at| at.value) else {
        return;
    };
    unused(context, raw, method);
    match method {
        OracleWord::UpstreamStatus => settings.upstream_status = true,
        OracleWord::DualVerify => {
            presented::dual_verify(context, raw, (providers, membership), settings)
        }
        OracleWord::Exchange => {
            presented::exchange(context, raw, (providers, membership), settings)
        }
        OracleWord::DualToken => {
            presented::dual_token(context, raw, (providers, membership), settings)
        }
        OracleWord::Directory => directory(context, raw, (providers, membership), settings),
        OracleWord::Sweep => sweep(context, raw, (providers, membership), settings),
    }
}

/// Keys that say nothing to a method.
fn unused(context: &mut Context<'_>, raw: &RawOracle, method: OracleWord) {
    let mut wrong = |mark: Option<Mark>, why: &str| {
        if let Some(mark) = mark {
            context.report.error(mark, why);
        }
    };
    let (directory, sweep) = (method == OracleWord::Directory, method == OracleWord::Sweep);
    if !directory && (!sweep || raw.inventory.is_absent()) {
        let why = "`by` is for `directory`, and for a `sweep` by `inventory`";
        wrong(raw.by.mark(), why);
    }
    if method != OracleWord::DualVerify {
        wrong(raw.only_after.mark(), "`only_after` is for `dual_verify`");
    }
    if method != OracleWord::Exchange {
        wrong(
            raw.issues_tokens.mark(),
            "`issues_tokens` is for `exchange`",
        );
    }
    if method == OracleWord::DualToken
        && raw.credential.or(OracleCredential::Any) != OracleCredential::Any
    {
        let why = "what stands beside is a token, whatever was presented";
        wrong(raw.credential.mark(), why);
    }
    if !sweep {
        wrong(raw.inventory.mark(), "`inventory` is for `sweep`");
        wrong(raw.of.mark(), "`of` is for `sweep`");
        wrong(raw.every.mark(), "`every` is for `sweep`");
    }
    let credential = raw.credential.or(OracleCredential::Any);
    let any = credential == OracleCredential::Any;
    let none = credential == OracleCredential::None;
    if none && !sweep {
        wrong(
            raw.credential.mark(),
            "only a sweep is about nothing that was presented",
        );
    }
    if sweep && !any && !none {
        wrong(
            raw.credential.mark(),
            "a sweep is about people, and not about credentials",
        );
    }
    if method == OracleWord::UpstreamStatus {
        wrong(
            raw.provider.mark(),
            "the application answers here, and no provider",
        );
        if !any {
            let why = "an application answers whatever was presented";
            wrong(raw.credential.mark(), why);
        }
    }
}

/// `None`: everything.
fn class(word: OracleCredential) -> Option<CredentialClass> {
    match word {
        OracleCredential::Any | OracleCredential::None => None,
        OracleCredential::Session => Some(CredentialClass::Session),
        OracleCredential::Bearer => Some(CredentialClass::Bearer),
        OracleCredential::Opaque => Some(CredentialClass::Opaque),
        OracleCredential::Basic | OracleCredential::Password => Some(CredentialClass::Basic),
        OracleCredential::ApiKey => Some(CredentialClass::ApiKey),
        OracleCredential::ClientCert => Some(CredentialClass::ClientCert),
    }
}

/// Whether somebody is asked about a credential of this class itself.
fn is_judged(settings: &Settings, class: CredentialClass) -> bool {
    let verified = settings.dual_verify.iter().map(|(known, _)| known);
    let exchanged = settings.exchange.iter().map(|(known, _)| known);
    verified.chain(exchanged).any(|known| *known == class)
}

/// What is asked on the side brings trouble to nobody.
fn judges_nobody(context: &mut Context<'_>, membership: &Membership, at: &At<String>) {
    let mut speakers = membership.speakers.values().flatten();
    if speakers.any(|own| *own == at.value) {
        context
            .report
            .error(
                at.mark,
                format!("`{}` judges people of an application: a second opinion could bring trouble to them", at.value),
            )
            .value(&at.value)
            .hint("describe the same server once more, as a provider that no application has");
    }
}

fn directory(
    context: &mut Context<'_>,
    raw: &RawOracle,
    (providers, membership): (&[Provider], &Membership),
    settings: &mut Settings,
) {
    let provider = other(raw, membership, settings);
    let provider = provider.as_ref();
    let Some(at) = provider.filter(|at| looked_into(context, providers, at)) else {
        return;
    };
    let lookup = Lookup {
        provider: ProviderId::new(&at.value),
        by: raw.by.or("subject".into()).into(),
    };
    // Who decides at first is looked into once the other one decides, about people of that one.
    let back = settings.decides == lookup.provider;
    let classes = match class(raw.credential.or(OracleCredential::Any)) {
        Some(class) => vec![class],
        None => CredentialClass::ALL.to_vec(),
    };
    let one = classes.len() == 1;
    for class in classes {
        let judged = !back && is_judged(settings, class);
        let asked = if back {
            &mut settings.back
        } else {
            &mut settings.directory
        };
        let looked = asked.iter().any(|(known, _)| *known == class);
        if looked || judged && one {
            context
                .report
                .error(raw.mark, "two oracles for one kind of credential");
            return;
        }
        if !judged {
            asked.push((class, lookup.clone()));
        }
    }
}

fn sweep(
    context: &mut Context<'_>,
    raw: &RawOracle,
    (providers, membership): (&[Provider], &Membership),
    settings: &mut Settings,
) {
    span(context, &raw.every, HOUR, 30 * DAY, "from `1h` to `30d`");
    let provider = other(raw, membership, settings);
    let provider = provider.as_ref();
    let from = membership.pairs.get(settings.app.as_str());
    let of = match (raw.of.get(), from) {
        (Some(at), _) => Some(At {
            value: at.value.clone(),
            mark: at.mark,
        }),
        (None, Some((from, _))) => Some(At {
            value: from.clone(),
            mark: raw.mark,
        }),
        // Reported already: nothing moves the application.
        (None, None) => None,
    };
    // A list says who there is, and what the old side says of them if nobody else does.
    let listed = raw.inventory.get();
    let of = of.filter(|at| match listed {
        Some(_) => context.knows_provider(at),
        None => looked_into(context, providers, at) && lists(context, providers, at),
    });
    let provider = provider.filter(|at| looked_into(context, providers, at));
    let (Some(of), Some(at)) = (of, provider) else {
        return;
    };
    if of.value == at.value {
        let why = format!("`{}` on both sides: nothing could differ", at.value);
        context.report.error(at.mark, why).value(&at.value);
    }
    if settings.sweep.is_some() {
        context
            .report
            .error(raw.mark, "two sweeps of one application");
    }
    other_side(context, membership, settings, at);
    settings.sweep = Some(Sweep {
        of: ProviderId::new(&of.value),
        inventory: listed.map(|at| {
            let file = context.source.resolve(&at.value);
            (file, raw.by.or("subject".into()).into())
        }),
        provider: ProviderId::new(&at.value),
        every: raw.every.or(Span(DAY)).0,
    });
}

/// Whether a directory says who there is.
fn lists(context: &mut Context<'_>, providers: &[Provider], at: &At<String>) -> bool {
    let mut all = providers.iter();
    let found = all.find(|provider| provider.name.value == at.value);
    let kind = found.and_then(|provider| provider.settings.as_ref());
    let only_read = matches!(
        kind.map(|settings| &settings.kind),
        Some(KindSettings::Oidc(oidc)) if matches!(oidc.directory, Some(OidcDirectory::UserInfo(_)))
    );
    if only_read {
        context
            .report
            .error(
                at.mark,
                format!("the directory of `{}` lists nobody", at.value),
            )
            .value(&at.value)
            .hint("`inventory`: a file that lists the people");
    }
    !only_read
}

/// The provider that is asked: the one that is named, or the other side of the rollout.
fn other(raw: &RawOracle, membership: &Membership, settings: &Settings) -> Option<At<String>> {
    let (value, mark) = match raw.provider.get() {
        Some(at) => (at.value.clone(), at.mark),
        None => {
            let (_, to) = membership.pairs.get(settings.app.as_str())?;
            (to.clone(), raw.mark)
        }
    };
    Some(At { value, mark })
}

/// A second opinion of the one who decides is none.
fn other_side(
    context: &mut Context<'_>,
    membership: &Membership,
    settings: &Settings,
    at: &At<String>,
) {
    let pair = membership.pairs.get(settings.app.as_str());
    if pair.is_some_and(|(from, _)| *from == at.value) {
        context
            .report
            .error(
                at.mark,
                format!("`{}` decides already: that is no second opinion", at.value),
            )
            .value(&at.value);
    }
}

/// Whether a provider of this name has a directory. One that could not be read has been reported.
fn looked_into(context: &mut Context<'_>, providers: &[Provider], at: &At<String>) -> bool {
    if !context.knows_provider(at) {
        return false;
    }
    let mut all = providers.iter();
    let found = all.find(|provider| provider.name.value == at.value);
    let Some(settings) = found.and_then(|provider| provider.settings.as_ref()) else {
        return false;
    };
    let has = has_directory(&settings.kind);
    if !has {
        context
            .report
            .error(
                at.mark,
                format!("the people of `{}` cannot be looked up", at.value),
            )
            .value(&at.value)
            .hint("`oidc` and `ldap` providers may have a `directory`, and the `authenticate.ldap_bind` of a `session_probe`");
    }
    has
}
