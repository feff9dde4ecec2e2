//! Raw → settings: pure, and every problem of the file in one run.
//!
//! Nothing here asks the network, the clock or the file system except through the [`Source`] it is given. What could
//! not be read is left out and has been reported; later checks stay silent about it.

mod address;
mod apps;
mod asked;
mod assurance;
mod audit;
mod bounds;
mod canonical;
mod carry_over;
mod claims;
mod client;
mod clients;
mod context;
mod counsel;
mod courses;
mod critical;
mod denials;
mod directory;
mod exchange;
mod fallback;
mod guardrails;
mod headers;
mod instead;
mod issuer;
mod kinds;
mod limits;
mod link_claims;
mod links;
mod lint;
mod listeners;
mod membership;
mod minted;
mod oidc_directory;
mod oracles;
mod outline;
mod pages;
mod passwords;
mod people;
mod pinned;
mod possession;
mod probe;
mod providers;
mod questions;
mod ramp;
mod requirements;
mod retention;
mod roles;
mod rollouts;
mod routes;
mod secrets;
mod server;
mod shadow;
mod stages;
mod store;
mod telemetry;
mod tokens;
mod unheard;
mod upgrades;
mod upstream;
mod waivers;

pub(crate) use outline::Outline;
pub(crate) use outline::StageOutline;

use std::collections::HashMap;
use std::path::PathBuf;

use aws_lc_rs::digest;

use crate::config::compile::context::Context;
use crate::config::compile::providers::Provider;
use crate::config::keys::Draft;
use crate::config::problem::Report;
use crate::config::raw::RawConfig;
use crate::config::settings::Settings;
use crate::config::source::Source;
use crate::providers::settings::KindSettings;
use crate::proxy::canonical::EncodedSlash;
use crate::proxy::settings::App;
use crate::rollout::AppId;
use crate::rollout::BucketKey;
use crate::rollout::Course;
use crate::secret::Secret;

/// What compiling leaves behind.
pub(super) struct Outcome {
    /// What was found wrong.
    pub(super) report: Report,
    /// The settings, where nothing refuses the file.
    pub(super) draft: Option<Draft>,
    /// The files that the configuration names.
    pub(super) files: Vec<PathBuf>,
    /// Its rollouts, rule by rule.
    pub(super) outlines: Vec<Outline>,
}

/// Compiles `raw`, whose shape has been reported into `report` already.
pub(super) fn compile(raw: &RawConfig, source: &Source, report: Report) -> Outcome {
    let mut context = Context::new(raw, source, report);
    let draft = settings(&mut context, raw);
    people::unused(&mut context, raw);
    roles::misspelt_scopes(&mut context);
    let Context {
        report,
        mut files,
        outlines,
        ..
    } = context;
    files.sort();
    files.dedup();
    Outcome {
        draft: if report.refuses() { None } else { Some(draft) },
        report,
        files,
        outlines,
    }
}

fn settings(context: &mut Context<'_>, raw: &RawConfig) -> Draft {
    version(context, raw);
    context.assurance = assurance::order(context, raw);
    let mut providers = providers::compile(context, raw);
    let roles = roles::compile(context, raw, &mut providers);
    let canonical = canonical::canonical(context, raw, &providers);
    let cohorts = people::cohorts(context, raw, &providers);
    let membership = membership::membership(context, raw);
    let rails = guardrails::compile(context, raw);
    let mut courses = rollouts::compile(context, raw, &providers, &cohorts, &rails);
    passwords::compile(
        context,
        raw,
        (&mut providers, &mut courses),
        canonical.as_ref(),
    );
    let denials = denials::compile(context, raw, (&providers, &courses), canonical.is_some());
    let prometheus = counsel::asked(context, raw);
    let hooks = counsel::hooks(context, raw);
    requirements::exposures(context, raw, canonical.is_some());
    let rollouts = courses.iter().map(Course::at_first).collect::<Vec<_>>();
    let exchanges = exchange::compile(context, raw, &providers);
    let shared = apps::Shared {
        providers: &providers,
        speakers: &membership.speakers,
        exchanges: &exchanges,
        joined: canonical.is_some(),
    };
    let mut apps = apps::compile(context, raw, &shared);
    instead::stages(context, raw, &rollouts, &apps, &exchanges);
    let shadow = shadow::compile(context, raw, &providers, &membership);
    critical::watch(&mut courses, &shadow);
    let mut fallbacks = fallback::compile(context, raw, &providers, &membership);
    for fallback in &mut fallbacks {
        fallback.not_paths.extend(floors(&apps, &fallback.app));
    }
    let around = issuer::Around {
        apps: &apps,
        exchanges: &exchanges,
        speakers: &membership.speakers,
    };
    let mut issuer = issuer::compile(context, raw, &around);
    minted::compile(
        context,
        raw,
        (&mut apps, issuer.as_mut()),
        (&exchanges, &providers),
    );
    let state_dir = server::state_dir(context, raw);
    let mut server = listeners::server(context, raw, has_logins(raw), has_passwords(raw));
    let mut routes = apps.iter().flat_map(|app| &app.routes);
    if routes.any(|route| route.encoded_slash == EncodedSlash::Opaque) {
        server.limits.encoded_slash = EncodedSlash::Opaque;
    }
    let sessions = server::sessions(context, raw, &server);
    let pages = pages::compile(context, raw);
    questions::unasked(context, raw, &cohorts);
    let silent = carry_over::silent(context, raw, &providers, &courses);
    let wrap = carry_over::wrap(context, raw, &providers, &courses);
    let session_exchanges =
        carry_over::exchange(context, raw, &courses, &exchanges, canonical.is_some());
    callbacks(context, &providers);
    session_cookie(context, &providers, &sessions.cookie);
    people::signed_cookies(context, &sessions.cookie);
    let admin = server::admin(context, raw, &state_dir, &server);
    let kill_switch = server::kill_switch(context, raw, &state_dir);
    let telemetry = telemetry::telemetry(context, raw);
    let (change, audit) = audit::compile(context, raw, &state_dir);
    let retention = retention::compile(context, raw, &courses);
    let test_accounts = people::test_accounts(context, raw, &cohorts);
    let possession = possession::compile(context, raw);
    let keys = secrets::compile(context, raw);
    store::shared_keys(context, raw, &sessions.store);
    let sha256 = hex(digest::digest(&digest::SHA256, context.source.text.as_bytes()).as_ref());
    let settings = Settings {
        revision: sha256.chars().take(12).collect::<String>().into(),
        sha256: sha256.into(),
        text: context.source.text.as_str().into(),
        state_dir,
        server,
        admin,
        telemetry,
        providers: providers
            .iter_mut()
            .filter_map(|provider| provider.settings.take())
            .collect(),
        canonical,
        denials,
        roles,
        possession,
        sessions,
        silent,
        wrap,
        session_exchanges,
        retention,
        test_accounts,
        pages,
        prometheus,
        hooks,
        assurance: context.assurance.clone(),
        cohorts,
        apps,
        exchanges,
        issuer,
        signing: exchange::ring(context, raw),
        rollouts,
        courses,
        fallbacks,
        shadow,
        single: membership.single,
        waivers: waivers::compile(context, raw),
        bucket_key: BucketKey::new(Secret::new(Vec::new())),
        kill_switch,
        change,
        audit,
    };
    Draft::new(settings, keys)
}

/// The paths of an application that ask for assurance: what the other side vouches for is no substitute.
fn floors<'a>(apps: &'a [App], id: &'a AppId) -> impl Iterator<Item = Box<str>> + 'a {
    let routes = apps
        .iter()
        .filter(move |app| app.id == *id)
        .flat_map(|app| &app.routes);
    let floors = routes.filter(|route| !route.require.acr.is_empty());
    floors.map(|route| route.path.clone())
}

fn version(context: &mut Context<'_>, raw: &RawConfig) {
    let version = raw
        .version
        .required(raw.mark, "version", &mut context.report);
    if let Some(at) = version
        && at.value.0 != 1
    {
        context
            .report
            .error(
                at.mark,
                format!("version {} of the format is not known", at.value.0),
            )
            .value(at.value.0)
            .hint("this build reads `version: 1`");
    }
}

/// Whether any provider has browser logins that end in a session of ours.
fn has_logins(raw: &RawConfig) -> bool {
    let providers = raw
        .providers
        .get()
        .into_iter()
        .flat_map(|named| named.readable());
    providers
        .filter_map(|(_, provider)| provider.oidc.get())
        .any(|oidc| !oidc.client.is_absent())
}

/// Whether some provider judges passwords that come with every request.
fn has_passwords(raw: &RawConfig) -> bool {
    let providers = raw
        .providers
        .get()
        .into_iter()
        .flat_map(|named| named.readable());
    providers.map(|(_, provider)| provider).any(|provider| {
        let probe = provider.session_probe.get();
        let probed = probe.is_some_and(|probe| !probe.authenticate.is_absent());
        !provider.ldap.is_absent() || !provider.basic.is_absent() || probed
    })
}

/// Every provider has its own callback (RFC 9700 §4.4: mix-up).
fn callbacks(context: &mut Context<'_>, providers: &[Provider]) {
    let mut taken: HashMap<String, String> = HashMap::new();
    for provider in providers {
        let Some(KindSettings::Oidc(oidc)) =
            provider.settings.as_ref().map(|settings| &settings.kind)
        else {
            continue;
        };
        if oidc.client.is_none() {
            continue;
        }
        if let Some(other) = taken.insert(oidc.redirect_path.clone(), provider.name.value.clone()) {
            context
                .report
                .error(provider.name.mark, format!("`{}` and `{other}` have the same callback `{}`", provider.name.value, oidc.redirect_path))
                .value(&oidc.redirect_path)
                .hint("each provider answers at its own `redirect_path`, so that none can pass for another");
        }
    }
}

/// Our cookie is nobody else's.
fn session_cookie(context: &mut Context<'_>, providers: &[Provider], cookie: &str) {
    for settings in providers
        .iter()
        .filter_map(|provider| provider.settings.as_ref())
    {
        if settings.owns.cookies.iter().any(|own| &**own == cookie) {
            let mark = providers
                .iter()
                .find(|p| p.words.provider == settings.id)
                .map(|p| p.name.mark);
            context
                .report
                .error(
                    mark.unwrap_or_default(),
                    format!(
                        "the cookie `{cookie}` is our own session: provider `{}` cannot own it",
                        settings.id
                    ),
                )
                .hint("set another `sessions.cookie.name`");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
