//! Live providers from settings: what did not change is kept, what cannot be reached starts degraded.

mod accounts;
#[cfg(feature = "ldap")]
mod bound;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::identity::Issuer;
use crate::providers::Epoch;
use crate::providers::Provider;
use crate::providers::Providers;
use crate::providers::api_key::ApiKeyProvider;
use crate::providers::basic::BasicProvider;
use crate::providers::bearer::SignedTokens;
use crate::providers::client::Ahead;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::client::InvalidEndpoint;
use crate::providers::client::Trust;
use crate::providers::client::TrustError;
use crate::providers::client_cert::ClientCertProvider;
use crate::providers::health::Watch;
use crate::providers::introspection::IntrospectionProvider;
use crate::providers::jwt::JwtProvider;
use crate::providers::keys;
use crate::providers::keys::Keys;
use crate::providers::keys::Remote;
use crate::providers::keys::Source;
use crate::providers::oauth::ClientAuthenticator;
use crate::providers::oauth::Discovery;
use crate::providers::oauth::Introspector;
use crate::providers::oauth::OidcLogin;
use crate::providers::oidc::OidcProvider;
use crate::providers::oidc::oidc_abilities;
use crate::providers::session_probe::SessionProbeProvider;
use crate::providers::settings;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::providers::watched::Watched;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Operation;

/// What providers need of the rest of the program.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    /// What time it is.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where jitter and identifiers come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Where what happens is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// The runtime of everything that is not a request: multi-threaded.
    pub(crate) background: Handle,
    /// Where copies of key sets are kept for the next start.
    pub(crate) state_dir: PathBuf,
}

/// Why providers cannot be built: their settings are wrong, and each line says whose and what. One that cannot be reached
/// is no problem here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct BuildProblems(pub(crate) Vec<String>);

/// Builds the providers of a configuration. Those of `before` whose settings did not change are used again, with their
/// connections, keys and breakers; the background work of the others ends with the last one who holds them. Must not be
/// called on a thread that may not block: files are read.
///
/// # Errors
///
/// Every problem of every provider, without any secret.
pub(crate) fn build(
    all: &[Settings],
    before: Option<&Providers>,
    deps: &Deps,
) -> Result<Providers, BuildProblems> {
    let trust = Trust::of_system();
    let mut built = Vec::with_capacity(all.len());
    let mut problems = Vec::new();
    for settings in all {
        let fingerprint = settings.fingerprint();
        let provider = match before.and_then(|before| before.built_from(fingerprint)) {
            Some(provider) => Ok(Arc::clone(provider)),
            None => one(settings, &trust, deps),
        };
        match provider {
            Ok(provider) => built.push((fingerprint, provider)),
            Err(Problem(cause)) => problems.push(format!("providers.{}: {cause}", settings.id)),
        }
    }
    if problems.is_empty() {
        Ok(Providers::of(built))
    } else {
        Err(BuildProblems(problems))
    }
}

/// What is wrong with one provider.
struct Problem(String);

impl From<TrustError> for Problem {
    fn from(cause: TrustError) -> Self {
        Self(cause.to_string())
    }
}

impl From<String> for Problem {
    fn from(cause: String) -> Self {
        Self(cause)
    }
}

fn address(key: &str, text: &str) -> Result<Endpoint, Problem> {
    Endpoint::parse(text).map_err(|cause| unusable(key, cause))
}

fn unusable(key: &str, cause: InvalidEndpoint) -> Problem {
    Problem(format!("{key}: {cause}"))
}

fn one(settings: &Settings, trust: &Trust, deps: &Deps) -> Result<Arc<dyn Provider>, Problem> {
    let http = || {
        let (id, bounds) = (settings.id.clone(), settings.client.clone());
        Client::new(id, bounds, trust, deps).map(Arc::new)
    };
    match &settings.kind {
        KindSettings::Oidc(oidc) => {
            // The directory has connections of its own.
            let aside = match &oidc.directory {
                Some(directory) => {
                    let (id, mut bounds) = (settings.id.clone(), settings.client.clone());
                    if let settings::OidcDirectory::Scim(scim) = directory {
                        bounds.timeout = scim.timeout.unwrap_or(bounds.timeout);
                    }
                    Some(Client::new(id, bounds, trust, deps)?.aside())
                }
                None => None,
            };
            oidc_provider(settings, oidc, (http()?, aside.map(Arc::new)), deps)
        }
        KindSettings::Jwt(jwt) => jwt_provider(settings, jwt, &http, deps),
        KindSettings::Introspection(introspection) => {
            let endpoint = address("url", &introspection.url)?;
            let revoke = introspection.revoke.as_ref();
            let revoke = revoke.map(|url| address("revoke.url", url));
            let authenticator = ClientAuthenticator::new(&introspection.client, &deps.metrics)?;
            let http = http()?;
            Ok(Arc::new(IntrospectionProvider::new(
                settings,
                introspection,
                (endpoint, revoke.transpose()?),
                authenticator,
                http,
                deps,
            )))
        }
        KindSettings::SessionProbe(probe) => {
            let endpoint = address("url", &probe.url)?;
            let logout = probe.logout.as_ref();
            let logout = logout.map(|logout| address("revoke.url", &logout.url));
            #[cfg(feature = "ldap")]
            let bind = bound::of(settings, probe, trust, deps)?;
            let (settings, probe) = (settings.clone(), probe.clone());
            let provider = SessionProbeProvider::new(
                settings,
                probe,
                endpoint,
                logout.transpose()?,
                http()?,
                &deps.metrics,
            );
            #[cfg(feature = "ldap")]
            let provider = provider.with_passwords(bind);
            Ok(Arc::new(provider))
        }
        #[cfg(feature = "ldap")]
        KindSettings::Ldap(ldap) => Ok(Arc::new(bound::directory(settings, ldap, trust, deps)?)),
        KindSettings::Basic(basic) => {
            let (settings, basic) = (settings.clone(), basic.clone());
            Ok(Arc::new(BasicProvider::new(
                settings,
                basic,
                &deps.background,
            )))
        }
        KindSettings::ApiKey(api_key) => Ok(Arc::new(ApiKeyProvider::new(
            settings.clone(),
            api_key,
            &deps.background,
        ))),
        KindSettings::ClientCert(client_cert) => Ok(Arc::new(ClientCertProvider::new(
            settings.clone(),
            client_cert,
            &deps.background,
        ))),
    }
}

fn oidc_provider(
    settings: &Settings,
    oidc: &settings::Oidc,
    (http, aside): (Arc<Client>, Option<Arc<Client>>),
    deps: &Deps,
) -> Result<Arc<dyn Provider>, Problem> {
    let (id, issuer) = (&settings.id, &oidc.issuer);
    // Read before anything is started.
    let authenticator = oidc
        .client
        .as_ref()
        .map(|client| ClientAuthenticator::new(client, &deps.metrics))
        .transpose()?;
    let url = match &oidc.keys {
        settings::Keys::Url(url) => Some(address("keys", url)?),
        settings::Keys::Discovered | settings::Keys::File(_) | settings::Keys::Inline(_) => None,
    };
    let discovery = Discovery::start(id, issuer, Arc::clone(&http), deps)
        .map_err(|cause| unusable("issuer", cause))?;
    let discovery = Arc::new(discovery);
    let epoch = Epoch::default();
    let remote = |source| {
        let (http, epoch) = (Arc::clone(&http), epoch.clone());
        Keys::Remote(Remote::start(
            id,
            issuer,
            &oidc.verify,
            source,
            http,
            epoch,
            deps,
        ))
    };
    let keys = match (&oidc.keys, url) {
        (settings::Keys::File(path), _) => file_keys(path, &epoch, deps),
        (settings::Keys::Inline(keys), _) => Keys::Inline(keys.clone()),
        (settings::Keys::Url(_), Some(url)) => remote(Source::Url(url)),
        (settings::Keys::Discovered | settings::Keys::Url(_), _) => {
            remote(Source::Discovered(discovery.watch()))
        }
    };
    let voucher = Voucher::new(settings, issuer);
    let voucher = (voucher, Arc::clone(http.ahead()));
    let tokens = Arc::new(SignedTokens::new(issuer, &oidc.verify, keys, voucher));
    let login = |client, http: &Arc<Client>| OidcLogin {
        client,
        redirect_path: oidc.redirect_path.clone(),
        scope: oidc.scopes.join(" "),
        require_iss: oidc.require_iss,
        par: oidc.par,
        refreshes: oidc.refreshes,
        rotates: oidc.rotates,
        revokes: oidc.revokes,
        back_channel: oidc.back_channel.clone(),
        discovery: Arc::clone(&discovery),
        tokens: Arc::clone(&tokens),
        http: Arc::clone(http),
        deps: deps.clone(),
    };
    let second = match (&oidc.client, &oidc.provisioning, &aside) {
        (Some(client), Some(_), Some(aside)) => {
            let client = ClientAuthenticator::new(client, &deps.metrics)?;
            Some(login(client, aside))
        }
        (Some(_) | None, Some(_) | None, Some(_) | None) => None,
    };
    let login = authenticator.map(|client| login(client, &http));
    let (directory, provisioning) = match aside {
        Some(aside) => {
            let shared = (&discovery, &tokens, &aside);
            accounts::of(settings, oidc, shared, deps)?
        }
        None => (None, None),
    };
    let introspector = if let (Some(wanted), Some(client)) = (oidc.introspect, &oidc.client) {
        let client = ClientAuthenticator::new(client, &deps.metrics)?;
        let asker = Introspector::new(id, wanted, client, &discovery, &http, deps);
        Some(asker)
    } else {
        None
    };
    let question = discovery.address().clone();
    let watch = Watch::start(Arc::clone(&http), &deps.background, move || {
        Ok(Call::get(Operation::Health, &question))
    });
    Ok(Arc::new(OidcProvider {
        assurance: settings.assurance.clone(),
        id: id.clone(),
        owns: settings.owns.clone(),
        epoch,
        tokens,
        discovery,
        abilities: oidc_abilities(oidc),
        login,
        second,
        introspector,
        revokes: oidc.revokes,
        directory,
        provisioning,
        client: oidc.client.clone(),
        deps: deps.clone(),
        http,
        _watch: watch,
        clock: Arc::clone(&deps.clock),
    }))
}

fn jwt_provider(
    settings: &Settings,
    jwt: &settings::Jwt,
    http: &dyn Fn() -> Result<Arc<Client>, TrustError>,
    deps: &Deps,
) -> Result<Arc<dyn Provider>, Problem> {
    let (id, issuer): (_, &Issuer) = (&settings.id, &jwt.issuer);
    let epoch = Epoch::default();
    let mut asked = None;
    let keys = match &jwt.keys {
        settings::Keys::Inline(keys) => Keys::Inline(keys.clone()),
        settings::Keys::File(path) => file_keys(path, &epoch, deps),
        settings::Keys::Url(url) => {
            let source = Source::Url(address("keys", url)?);
            let http = http()?;
            asked = Some(Arc::clone(&http));
            let epoch = epoch.clone();
            Keys::Remote(Remote::start(
                id,
                issuer,
                &jwt.verify,
                source,
                http,
                epoch,
                deps,
            ))
        }
        settings::Keys::Discovered => {
            let cause = "keys: only `oidc` providers have metadata to find them in";
            return Err(Problem(cause.to_owned()));
        }
    };
    let voucher = Voucher::new(settings, issuer);
    let ahead = match &asked {
        Some(http) => Arc::clone(http.ahead()),
        // Nobody is asked: nothing is heard of its clock.
        None => Arc::new(Ahead::of(id, deps)),
    };
    Ok(Arc::new(JwtProvider {
        id: id.clone(),
        owns: settings.owns.clone(),
        epoch,
        tokens: SignedTokens::new(issuer, &jwt.verify, keys, (voucher, ahead)),
        http: asked,
        clock: Arc::clone(&deps.clock),
    }))
}

fn file_keys(path: &std::path::Path, epoch: &Epoch, deps: &Deps) -> Keys {
    let (parse, epoch) = (keys::parse_file, epoch.clone());
    Keys::File(Watched::start(path, parse, epoch, &deps.background))
}

#[cfg(test)]
impl Deps {
    /// A clock that shows second 1 000 000, and a state directory that does not exist.
    pub(super) fn for_test() -> Self {
        Self::at(crate::clock::ManualClock::at(
            crate::clock::UnixTime::from_secs(1_000_000),
        ))
    }

    /// The same with a clock of the test.
    pub(super) fn at(clock: crate::clock::ManualClock) -> Self {
        Self::with(Arc::new(clock))
    }

    /// The same with any clock.
    pub(super) fn with(clock: Arc<dyn Clock>) -> Self {
        Self {
            metrics: Metrics::new(Arc::clone(&clock), 8),
            clock,
            entropy: Arc::new(crate::entropy::SystemEntropy),
            background: Handle::current(),
            state_dir: PathBuf::from("/nonexistent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::KEYS;
    use crate::providers::fixture::until;

    #[tokio::test]
    async fn a_provider_lives_through_a_reload_unless_its_settings_changed() {
        let idp = Idp::start().await;
        let deps = Deps::for_test();
        let (kept, mut changed) = (idp.introspection(), idp.oidc());
        let first = build(&[kept.clone(), changed.clone()], None, &deps).unwrap();
        changed.client.retries += 1;
        let second = build(&[kept.clone(), changed.clone()], Some(&first), &deps).unwrap();
        let same = |id| Arc::ptr_eq(first.named(id).unwrap(), second.named(id).unwrap());
        assert!(same(&kept.id));
        assert!(!same(&changed.id));
        let epochs = [&first, &second].map(|all| all.named(&changed.id).unwrap().epoch().current());
        assert_ne!(
            epochs[0], epochs[1],
            "old verdicts do not fit the new provider"
        );
    }

    #[tokio::test]
    async fn a_dropped_provider_asks_nothing_any_more() {
        let (gone, kept) = (Idp::start().await, Idp::start().await);
        let one = |idp: &Idp| {
            let settings = idp.jwt(settings::Keys::Url(idp.fake.url(KEYS)));
            build(&[settings], None, &Deps::for_test()).unwrap()
        };
        let fetches = |idp: &Idp| idp.fake.seen(KEYS).len();
        let (dropped, live) = (one(&gone), one(&kept));
        for all in [&dropped, &live] {
            until(|| all.iter().all(|provider| provider.health().usable)).await;
        }
        drop(dropped);
        // The one that lives shows when the other would have asked again.
        while fetches(&kept) < 4 {
            crate::providers::fixture::pass(std::time::Duration::from_secs(60)).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(fetches(&gone), 1);
    }

    #[tokio::test]
    async fn every_problem_of_every_provider_is_named() {
        let idp = Idp::start().await;
        let mut old = idp.introspection();
        let KindSettings::Introspection(introspection) = &mut old.kind else {
            panic!("a server that introspects")
        };
        introspection.url = "http://sso.example/introspect".to_owned();
        let mut new = idp.oidc();
        new.client.ca = Some("/nonexistent/ca.pem".into());
        let problems = build(&[old, new], None, &Deps::for_test()).unwrap_err();
        let text = problems.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "providers.legacy: url: it must begin with https:// unless the host is this machine"
        );
        assert!(lines[1].starts_with("providers.modern: /nonexistent/ca.pem: "));
    }
}
