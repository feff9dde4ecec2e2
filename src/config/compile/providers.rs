//! `providers`: each kind with its settings, and who owns which credential.

use std::time::Duration;

use crate::config::compile::bounds;
use crate::config::compile::claims;
use crate::config::compile::claims::LISTED;
use crate::config::compile::claims::OPENID;
use crate::config::compile::claims::Words;
use crate::config::compile::context::Context;
use crate::config::compile::kinds;
use crate::config::compile::oracles;
use crate::config::compile::unheard;
use crate::config::raw::RawAssurance;
use crate::config::raw::RawAuthoritative;
use crate::config::raw::RawBreaker;
use crate::config::raw::RawClientLimits;
use crate::config::raw::RawConfig;
use crate::config::raw::RawFile;
use crate::config::raw::RawProvider;
use crate::config::scalar::Whole;
use crate::config::shape::At;
use crate::config::shape::Field;
use crate::config::shape::Named;
use crate::config::tree::Mark;
use crate::identity::ClaimPath;
use crate::identity::ProviderId;
use crate::providers::Owns;
use crate::providers::SELF;
use crate::providers::settings::Assurance;
use crate::providers::settings::Client;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OAuthClient;
use crate::providers::settings::Settings;

/// A provider, as far as it could be read.
#[derive(Debug)]
pub(super) struct Provider {
    /// Its name, with its place.
    pub(super) name: At<String>,
    /// What it says about people.
    pub(super) words: Words,
    /// Whether a browser can sign in there; `None` when it is not known.
    pub(super) login: Option<bool>,
    /// Whether it judges passwords that are presented to us.
    pub(super) passwords: bool,
    /// Its settings, if all of it could be read.
    pub(super) settings: Option<Settings>,
}

/// The kinds have these keys in common.
pub(super) struct Common<'a> {
    /// `claims`.
    pub(super) claims: &'a Field<Named<At<String>>>,
    /// `authoritative`.
    pub(super) authoritative: &'a Field<RawAuthoritative>,
    /// `assurance`.
    pub(super) assurance: &'a Field<RawAssurance>,
    /// `limits`.
    pub(super) limits: &'a Field<RawClientLimits>,
    /// `breaker`.
    pub(super) breaker: &'a Field<RawBreaker>,
    /// `ca`.
    pub(super) ca: &'a Field<RawFile>,
    /// The mapping that holds where `claims` says nothing.
    pub(super) defaults: &'a [(&'static str, &'static str)],
}

/// What a kind compiles to.
pub(super) struct Kind {
    /// What it owns.
    pub(super) owns: Owns,
    /// Where each owned thing stands.
    pub(super) mark: Mark,
    /// Its own settings.
    pub(super) settings: KindSettings,
    /// The time for one call, where the kind says it itself.
    pub(super) timeout: Option<Duration>,
}

/// All providers.
pub(super) fn compile(context: &mut Context<'_>, raw: &RawConfig) -> Vec<Provider> {
    let mark = raw.mark;
    let Some(named) = raw
        .providers
        .required(mark, "providers", &mut context.report)
    else {
        return Vec::new();
    };
    let asked = oracles::asked(raw);
    let mut providers = Vec::new();
    let mut owned = Vec::new();
    for (name, raw) in &named.entries {
        context.name("a provider", name);
        if name.value == SELF {
            context
                .report
                .error(name.mark, "`self` is the provider of our own tokens")
                .value(SELF);
        }
        let (mut provider, owns) = match raw {
            Some(raw) => provider(context, name, raw),
            None => (unreadable(name), None),
        };
        // Whoever gives a second opinion is asked, and never presented with anything.
        if asked.contains(&name.value) {
            if let Some(settings) = &mut provider.settings {
                settings.owns = Owns::default();
            }
            providers.push(provider);
            continue;
        }
        owned.extend(owns.map(|(owns, mark)| (name.value.clone(), owns, mark)));
        providers.push(provider);
    }
    overlaps(context, &owned);
    providers
}

fn unreadable(name: &At<String>) -> Provider {
    Provider {
        name: name.clone(),
        words: Words {
            provider: ProviderId::new(&name.value),
            claims: Vec::new(),
            authoritative: Vec::new(),
            email_domains: Vec::new(),
            partial: true,
        },
        login: None,
        passwords: false,
        settings: None,
    }
}

fn provider(
    context: &mut Context<'_>,
    name: &At<String>,
    raw: &RawProvider,
) -> (Provider, Option<(Owns, Mark)>) {
    let Some((common, login, passwords)) = shared_keys(raw) else {
        return (unreadable(name), None);
    };
    let mapping = claims::claims(context, common.claims, common.defaults);
    let (authoritative, email_domains) =
        claims::authoritative(context, common.authoritative, &mapping);
    let assurance = claims::assurance(context, common.assurance);
    let mut client = bounds::client(context, &common);
    unheard::of_provider(context, raw);
    let kind = kinds::compile(context, &name.value, raw, &mapping);
    let id = ProviderId::new(&name.value);
    let words = Words {
        provider: id.clone(),
        claims: mapping.clone(),
        authoritative,
        email_domains: email_domains.clone(),
        partial: common.claims.get().is_none() && !common.claims.is_absent(),
    };
    let owns = kind.as_ref().map(|kind| (kind.owns.clone(), kind.mark));
    let settings = kind.map(|kind| {
        client.timeout = kind.timeout.unwrap_or(client.timeout);
        let registration = kind.settings.registration();
        client.certificate = registration.and_then(OAuthClient::certificate).cloned();
        settings(id, kind, mapping, email_domains, assurance, client)
    });
    let provider = Provider {
        name: name.clone(),
        words,
        login: Some(login),
        passwords,
        settings,
    };
    (provider, owns)
}

fn settings(
    id: ProviderId,
    kind: Kind,
    claims: Vec<(Box<str>, ClaimPath)>,
    email_domains: Vec<Box<str>>,
    assurance: Assurance,
    client: Client,
) -> Settings {
    Settings {
        id,
        owns: kind.owns,
        claims,
        email_domains,
        assurance,
        client,
        kind: kind.settings,
    }
}

/// The common keys of whatever kind it is; whether a browser can sign in there; whether it judges passwords.
fn shared_keys(raw: &RawProvider) -> Option<(Common<'_>, bool, bool)> {
    macro_rules! common {
        ($raw:expr, $defaults:expr) => {
            Common {
                claims: &$raw.claims,
                authoritative: &$raw.authoritative,
                assurance: &$raw.assurance,
                limits: &$raw.limits,
                breaker: &$raw.breaker,
                ca: &$raw.ca,
                defaults: $defaults,
            }
        };
    }
    if let Some(raw) = raw.oidc.get() {
        return Some((common!(raw, OPENID), !raw.client.is_absent(), false));
    }
    if let Some(raw) = raw.jwt.get() {
        return Some((common!(raw, OPENID), false, false));
    }
    if let Some(raw) = raw.introspection.get() {
        return Some((common!(raw, OPENID), false, false));
    }
    if let Some(raw) = raw.session_probe.get() {
        let passwords = raw.owns.get().is_some_and(|owns| owns.basic.or(false));
        return Some((common!(raw, OPENID), !raw.login.is_absent(), passwords));
    }
    if let Some(raw) = raw.ldap.get() {
        return Some((common!(raw, claims::DIRECTORY), false, true));
    }
    if let Some(raw) = raw.basic.get() {
        let common = Common {
            claims: &raw.claims,
            authoritative: &raw.authoritative,
            assurance: &raw.assurance,
            limits: &raw.limits,
            breaker: &Field::Absent,
            ca: &Field::Absent,
            defaults: LISTED,
        };
        return Some((common, false, true));
    }
    if let Some(raw) = raw.client_cert.get() {
        let common = Common {
            claims: &raw.claims,
            authoritative: &raw.authoritative,
            assurance: &raw.assurance,
            limits: &Field::Absent,
            breaker: &Field::Absent,
            ca: &Field::Absent,
            defaults: &[("subject", "subject")],
        };
        return Some((common, false, false));
    }
    let raw = raw.api_key.get()?;
    let common = Common {
        claims: &raw.claims,
        authoritative: &raw.authoritative,
        assurance: &raw.assurance,
        limits: &Field::Absent,
        breaker: &Field::Absent,
        ca: &Field::Absent,
        defaults: LISTED,
    };
    Some((common, false, false))
}

/// A percent in thousandths: at most one decimal.
pub(super) fn permille(context: &mut Context<'_>, at: &At<crate::rollout::Percent>) -> Option<u32> {
    let millionths = at.value.millionths();
    if !millionths.is_multiple_of(1_000) {
        context.report.error(at.mark, "more than one decimal");
        return None;
    }
    Some(millionths / 1_000)
}

/// A number within its range, or the default.
pub(super) fn whole<T: TryFrom<u64> + Copy>(
    context: &mut Context<'_>,
    field: &Field<At<Whole>>,
    (least, most): (u64, u64),
    default: T,
) -> T {
    let Some(at) = field.get() else {
        return default;
    };
    context.range(
        at.mark,
        &at.value.0,
        (least, most),
        &format!("from {least} to {most}"),
    );
    T::try_from(at.value.0).unwrap_or(default)
}

/// A credential has one owner: reports whatever two providers claim.
fn overlaps(context: &mut Context<'_>, owned: &[(String, Owns, Mark)]) {
    for (index, (name, owns, mark)) in owned.iter().enumerate() {
        for (other_name, other, _) in owned.iter().take(index) {
            for claim in claimed_twice(owns, other) {
                context
                    .report
                    .error(
                        *mark,
                        format!("`{name}` and `{other_name}` both own {claim}"),
                    )
                    .value(&claim)
                    .hint("a credential is judged by its one owner: there is no `try both`");
            }
        }
    }
}

fn claimed_twice(one: &Owns, other: &Owns) -> Vec<String> {
    let mut twice = Vec::new();
    for issuer in one
        .issuers
        .iter()
        .filter(|issuer| other.issuers.contains(issuer))
    {
        twice.push(format!("tokens of the issuer `{issuer}`"));
    }
    for cookie in one
        .cookies
        .iter()
        .filter(|cookie| other.cookies.contains(cookie))
    {
        twice.push(format!("the cookie `{cookie}`"));
    }
    if one.basic && other.basic {
        twice.push("`Authorization: Basic`".into());
    }
    if one.client_cert && other.client_cert {
        twice.push("certificates of TLS clients".into());
    }
    if let Some(header) = one
        .api_key_header
        .as_ref()
        .filter(|header| other.api_key_header.as_ref() == Some(header))
    {
        twice.push(format!("the header `{header}`"));
    }
    if let (Some(one), Some(other)) = (&one.opaque, &other.opaque) {
        let shared = one.iter().find_map(|prefix| {
            let clash = |theirs: &&str| theirs.starts_with(&**prefix) || prefix.starts_with(theirs);
            let theirs = other.iter().map(|theirs| &**theirs).find(clash);
            theirs.map(|theirs| (prefix, theirs))
        });
        if one.is_empty() || other.is_empty() {
            twice.push("opaque tokens without a prefix".into());
        } else if let Some((prefix, theirs)) = shared {
            twice.push(format!(
                "opaque tokens that begin with `{prefix}` and `{theirs}`"
            ));
        }
    }
    twice
}
