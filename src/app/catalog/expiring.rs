//! What of a configuration ends, and when: certificates, tokens, client secrets, signing keys, what is known of providers.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::admin::ExpiringView;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::exchange::settings::Way;
use crate::exchange::succession;
use crate::providers;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OAuthClient;
use crate::providers::settings::OidcDirectory;
use crate::proxy::settings::Tls;
use crate::session::settings::StoreKind;
use crate::token::peek;

/// A kind of thing that ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A certificate in a file.
    Certificate,
    /// A signed token that the configuration holds as a secret.
    Token,
    /// The secret or key of a registration of ours, or of a client of ours, whose end the configuration says.
    ClientSecret,
    /// A key of ours that signs.
    SigningKey,
    /// The keys of a provider as they were fetched last.
    ProviderKeys,
    /// A certificate of a key of a provider.
    ProviderCertificate,
}

impl Kind {
    /// The label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::ClientSecret => "client_secret",
            Self::SigningKey => "signing_key",
            Self::ProviderKeys => "provider_keys",
            Self::ProviderCertificate => "provider_certificate",
        }
    }

    /// Whether it is renewed without anybody: then only an end that has passed is news.
    pub(crate) const fn renews_itself(self) -> bool {
        match self {
            Self::SigningKey | Self::ProviderKeys => true,
            Self::Certificate | Self::Token | Self::ClientSecret | Self::ProviderCertificate => {
                false
            }
        }
    }
}

/// Something that ends, or of which nobody knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Expiring {
    /// What kind of thing.
    pub(crate) kind: Kind,
    /// Where it is used.
    pub(crate) used: String,
    /// Its file or its name; never itself.
    pub(crate) name: String,
    /// When it ends, or why nobody knows.
    pub(crate) ends: Result<UnixTime, String>,
}

impl From<Expiring> for ExpiringView {
    fn from(one: Expiring) -> Self {
        let (ends, problem) = match one.ends {
            Ok(ends) => (Some(ends.as_secs()), None),
            Err(problem) => (None, Some(problem)),
        };
        Self {
            kind: one.kind.as_str().to_owned(),
            name: one.name,
            used: one.used,
            renews_itself: one.kind.renews_itself(),
            ends,
            problem,
        }
    }
}

/// Everything that ends.
pub(crate) fn all(settings: &Settings, now: UnixTime) -> Vec<Expiring> {
    let mut found = Vec::new();
    for (used, file) in files(settings) {
        for ends in ends(&file) {
            found.push(Expiring {
                kind: Kind::Certificate,
                used: used.clone(),
                name: file.display().to_string(),
                ends,
            });
        }
    }
    for (used, client) in registrations(settings) {
        found.extend(secret(used, client));
    }
    let clients = settings.issuer.iter().flat_map(|issuer| &issuer.clients);
    found.extend(clients.filter_map(|client| {
        Some(Expiring {
            kind: Kind::ClientSecret,
            used: "client of token_endpoint".to_owned(),
            name: client.id.to_string(),
            ends: Ok(client.expires?),
        })
    }));
    for app in &settings.apps {
        for (name, value) in &app.static_headers {
            let used = format!("static header of {}", app.id);
            let text = value.to_str().unwrap_or_default();
            found.extend(token(&used, name.as_str(), text));
        }
    }
    if let Some(admin) = &settings.admin.token {
        found.extend(token("admin", "token", admin.expose()));
    }
    for provider in &settings.providers {
        found.extend(directory_token(provider));
    }
    keys(settings, now, &mut found);
    found
}

/// Keys of ours that sign, by name, with the moment when each gives way.
pub(crate) fn ours(keys: Vec<(String, UnixTime)>) -> impl Iterator<Item = Expiring> {
    keys.into_iter().map(|(name, ends)| Expiring {
        kind: Kind::SigningKey,
        used: "what we sign".to_owned(),
        name,
        ends: Ok(ends),
    })
}

/// Whether keys that sign are in a store which a look at the file does not ask: an instance knows them.
pub(crate) fn are_shared(settings: &Settings) -> bool {
    let (signing, store) = (&settings.signing, &settings.sessions.store);
    signing.files.is_empty() && signing.module.is_none() && matches!(store, StoreKind::Redis(_))
}

/// Keys that sign, and those that providers sign with.
fn keys(settings: &Settings, now: UnixTime, found: &mut Vec<Expiring>) {
    let directory = settings.state_dir.join("keys");
    match succession(&directory, &settings.signing) {
        // Several instances have theirs in the store, which is not asked here: whoever runs tells of them.
        Ok(_) | Err(_) if are_shared(settings) => {}
        Ok(all) => found.extend(ours(all)),
        Err(error) => found.push(Expiring {
            kind: Kind::SigningKey,
            used: "what we sign".to_owned(),
            name: "signing.json".to_owned(),
            ends: Err(error.to_string()),
        }),
    }
    for provider in &settings.providers {
        let used = format!("provider {}", provider.id);
        let of = |kind, name: &str, ends| Expiring {
            kind,
            used: used.clone(),
            name: name.to_owned(),
            ends,
        };
        match providers::copied(provider, &settings.state_dir, now) {
            Ok(None) => {}
            Ok(Some(copied)) => {
                found.push(of(Kind::ProviderKeys, "key set", Ok(copied.until)));
                let all = copied.certificates.iter();
                found.extend(all.map(|(kid, ends)| of(Kind::ProviderCertificate, kid, Ok(*ends))));
            }
            Err(error) => found.push(of(Kind::ProviderKeys, "key set", Err(error.to_string()))),
        }
    }
}

/// Our registrations at providers, with where each is used.
fn registrations(settings: &Settings) -> Vec<(String, &OAuthClient)> {
    let mut all = Vec::new();
    for provider in &settings.providers {
        let used = |what: &str| format!("{what} at provider {}", provider.id);
        match &provider.kind {
            KindSettings::Oidc(oidc) => {
                all.extend(oidc.client.iter().map(|client| (used("client"), client)));
                let directory = oidc.directory.iter().filter_map(|own| match own {
                    OidcDirectory::Keycloak(own) => Some(&own.client),
                    // No registration but a token: see `directory_token`.
                    OidcDirectory::Scim(_) | OidcDirectory::UserInfo(_) => None,
                });
                all.extend(directory.map(|own| (used("directory client"), own)));
            }
            KindSettings::Introspection(own) => all.push((used("client"), &own.client)),
            KindSettings::Jwt(_)
            | KindSettings::SessionProbe(_)
            | KindSettings::Basic(_)
            | KindSettings::ApiKey(_)
            | KindSettings::ClientCert(_) => {}
            #[cfg(feature = "ldap")]
            KindSettings::Ldap(_) => {}
        }
    }
    for exchange in &settings.exchanges {
        let remote = match &exchange.way {
            Way::TokenExchange(remote) | Way::Assertion(remote, _) => remote,
            Way::Mint(_) => continue,
        };
        let own = remote.client.iter();
        all.extend(own.map(|client| (format!("client of exchange {}", exchange.name), client)));
    }
    for client in settings.issuer.iter().flat_map(|issuer| &issuer.clients) {
        for (provider, registration) in &client.at {
            let used = format!("client {} at provider {provider}", client.id);
            all.push((used, registration));
        }
    }
    all
}

/// What a directory is asked with, where that is a token.
fn directory_token(provider: &providers::settings::Settings) -> Option<Expiring> {
    let KindSettings::Oidc(oidc) = &provider.kind else {
        return None;
    };
    let own = match oidc.directory.as_ref()? {
        OidcDirectory::Scim(own) => &own.token,
        OidcDirectory::UserInfo(own) => &own.token,
        OidcDirectory::Keycloak(_) => return None,
    };
    let used = format!("directory of provider {}", provider.id);
    token(&used, "token", own.expose())
}

/// The secret of a registration: when it was said to end, and when it ends if it is a token.
fn secret(used: String, client: &OAuthClient) -> Vec<Expiring> {
    let mut found = Vec::new();
    if let ClientAuth::SecretBasic(secret) | ClientAuth::SecretPost(secret) = &client.auth {
        found.extend(token(&used, &client.id, secret.expose()));
    }
    if let Some(ends) = client.expires {
        found.push(Expiring {
            kind: Kind::ClientSecret,
            used,
            name: client.id.to_string(),
            ends: Ok(ends),
        });
    }
    found
}

/// A text that is a signed token, or `Bearer` and one, and says when it ends.
fn token(used: &str, name: &str, text: &str) -> Option<Expiring> {
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let ends = peek(text).ok()?.claimed_end()?;
    Some(Expiring {
        kind: Kind::Token,
        used: used.to_owned(),
        name: name.to_owned(),
        ends: Ok(UnixTime::from_secs(ends)),
    })
}

/// The certificate files, with where each is used.
fn files(settings: &Settings) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    let mut listens = |tls: &Tls, own: String, clients: String| {
        let chains = tls.certificates.iter().map(|(chain, _)| chain.clone());
        all.extend(chains.map(|chain| (own.clone(), chain)));
        let trusted = tls.clients.iter().map(|policy| policy.ca.clone());
        all.extend(trusted.map(|ca| (clients.clone(), ca)));
    };
    for listener in &settings.server.listeners {
        if let Some(tls) = &listener.tls {
            let address = &listener.address;
            listens(
                tls,
                format!("listener {address}"),
                format!("client certificates at {address}"),
            );
        }
    }
    // Not one of the listeners, whose certificates have a metric of their own.
    if let Some(tls) = &settings.admin.tls {
        let clients = "client certificates at the admin interface".to_owned();
        listens(tls, "admin interface".to_owned(), clients);
    }
    for provider in &settings.providers {
        let own = || format!("provider {}", provider.id);
        all.extend(provider.client.ca.iter().map(|ca| (own(), ca.clone())));
        let shown = provider.client.certificate.iter();
        all.extend(shown.map(|(chain, _)| {
            let used = format!("our certificate at provider {}", provider.id);
            (used, chain.clone())
        }));
        if let KindSettings::ClientCert(kind) = &provider.kind {
            all.push((own(), kind.ca.clone()));
        }
    }
    for app in &settings.apps {
        let routes = app
            .routes
            .iter()
            .filter_map(|route| route.upstream.as_ref());
        for upstream in routes.chain([&app.upstream]) {
            let own = || format!("upstream of {}", app.id);
            all.extend(upstream.ca.iter().map(|ca| (own(), ca.clone())));
            let certificate = upstream.client_certificate.iter();
            all.extend(certificate.map(|(chain, _)| (own(), chain.clone())));
        }
    }
    all.dedup();
    all
}

/// When the certificates of a file end.
fn ends(file: &Path) -> Vec<Result<UnixTime, String>> {
    let pem = match fs::read(file) {
        Ok(pem) => pem,
        Err(error) => return vec![Err(error.to_string())],
    };
    let end = |der: CertificateDer<'_>| {
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let seconds = certificate.validity().not_after.timestamp();
        Ok(UnixTime::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    CertificateDer::pem_slice_iter(&pem)
        .map(|der| end(der.map_err(|error| error.to_string())?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::token::SigningKey;

    #[test]
    fn a_certificate_tells_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.pem");
        assert!(ends(&file)[0].is_err());
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        fs::write(&file, format!("{pem}{pem}")).unwrap();
        let expected = Ok(UnixTime::from_secs(1_893_456_000));
        assert_eq!(ends(&file), [expected.clone(), expected]);
    }

    #[test]
    fn a_secret_ends_as_it_says_and_as_the_configuration_says() {
        let claims = serde_json::json!({ "iss": "team", "exp": 1_893_456_000_u64 });
        let key = SigningKey::generate().unwrap();
        let signed = key.sign("JWT", claims.as_object().unwrap()).unwrap();
        let client = |secret: &str, expires| OAuthClient {
            id: "web".into(),
            auth: ClientAuth::SecretPost(Secret::new(secret.to_owned())),
            expires,
        };
        let of = |client: &OAuthClient| -> Vec<(Kind, Result<UnixTime, String>)> {
            let found = secret("client at provider new".to_owned(), client);
            found.into_iter().map(|one| (one.kind, one.ends)).collect()
        };
        let at = UnixTime::from_secs;
        assert_eq!(of(&client("long and random", None)), []);
        assert_eq!(
            of(&client(&signed, Some(at(5)))),
            [
                (Kind::Token, Ok(at(1_893_456_000))),
                (Kind::ClientSecret, Ok(at(5)))
            ]
        );
        let found = token("admin", "token", &format!("Bearer {signed}")).unwrap();
        assert!(!format!("{found:?}").contains(&signed));
    }
}
