//! An issuer of tokens for tests: its keys, its documents, and settings that fit it.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::clock::UnixTime;
use crate::identity::ClaimPath;
use crate::identity::Credential;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::Deps;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::build;
use crate::providers::client::Client;
use crate::providers::client::Trust;
use crate::providers::fake::Fake;
use crate::providers::fake::Reply;
use crate::providers::settings;
use crate::providers::settings::KindSettings;
use crate::providers::settings::Settings;
use crate::secret::Secret;
use crate::token::Algorithm;
use crate::token::SigningKey;
use crate::token::public_jwks;

/// The moment at which tests happen.
pub(super) const NOW: UnixTime = UnixTime::from_secs(1_000_000);

pub(super) const METADATA: &str = "/.well-known/openid-configuration";
pub(super) const KEYS: &str = "/keys";
pub(super) const TOKEN: &str = "/token";
pub(super) const INTROSPECT: &str = "/introspect";

/// An issuer with one key.
pub(super) struct Idp {
    pub(super) fake: Fake,
    pub(super) key: SigningKey,
}

impl Idp {
    /// An issuer that shows its metadata and its key.
    pub(super) async fn start() -> Self {
        let (fake, key) = (Fake::start().await, SigningKey::generate().unwrap());
        let idp = Self { fake, key };
        idp.fake.always(METADATA, Reply::json(&idp.metadata()));
        idp.show_keys(&[&idp.key]);
        idp
    }

    pub(super) fn issuer(&self) -> String {
        self.fake.url("")
    }

    pub(super) fn metadata(&self) -> Value {
        json!({
            "issuer": self.issuer(),
            "authorization_endpoint": self.fake.url("/authorize?tenant=x"),
            "token_endpoint": self.fake.url(TOKEN),
            "jwks_uri": self.fake.url(KEYS),
            "end_session_endpoint": self.fake.url("/logout"),
            "authorization_response_iss_parameter_supported": true,
        })
    }

    pub(super) fn show_keys(&self, keys: &[&SigningKey]) {
        self.fake.always(KEYS, Reply::json(&public_jwks(keys)));
    }

    /// A good access token, changed by `change`.
    pub(super) fn access_token(&self, key: &SigningKey, change: &Value) -> Credential {
        let claims = json!({
            "iss": self.issuer(), "sub": "f81d", "aud": "crm", "iat": NOW.as_secs(), "exp": NOW.as_secs() + 300,
            "client_id": "spa", "scope": "read write", "mail": "alice@corp.example", "acr": "1",
        });
        Credential::Bearer(Secret::new(sign(key, "at+jwt", &claims, change)))
    }

    /// A good ID token, changed by `change`.
    pub(super) fn id_token(&self, change: &Value) -> String {
        let claims = json!({
            "iss": self.issuer(), "sub": "f81d", "aud": "authferry", "iat": NOW.as_secs(), "exp": NOW.as_secs() + 300,
            "nonce": "the nonce", "mail": "alice@corp.example", "sid": "s-1",
        });
        sign(&self.key, "JWT", &claims, change)
    }

    /// Settings of an OpenID provider at which we are registered.
    pub(super) fn oidc(&self) -> Settings {
        let oidc = settings::Oidc {
            issuer: Issuer::new(&self.issuer()),
            verify: verify(),
            keys: settings::Keys::Discovered,
            client: Some(oauth_client()),
            redirect_path: "/.authferry/cb/modern".to_owned(),
            scopes: vec!["openid".into(), "profile".into()],
            require_iss: false,
            directory: None,
            provisioning: None,
            par: settings::Par::Required,
            introspect: None,
            refreshes: true,
            rotates: false,
            revokes: true,
            back_channel: None,
        };
        let issuers = vec![Issuer::new(&self.issuer())];
        settings(
            "modern",
            Owns {
                issuers,
                ..Owns::default()
            },
            KindSettings::Oidc(Box::new(oidc)),
        )
    }

    /// Settings of a plain issuer.
    pub(super) fn jwt(&self, keys: settings::Keys) -> Settings {
        let jwt = settings::Jwt {
            issuer: Issuer::new(&self.issuer()),
            verify: verify(),
            keys,
        };
        let issuers = vec![Issuer::new(&self.issuer())];
        settings(
            "modern",
            Owns {
                issuers,
                ..Owns::default()
            },
            KindSettings::Jwt(jwt),
        )
    }

    /// Settings of a server that introspects.
    pub(super) fn introspection(&self) -> Settings {
        let introspection = settings::Introspection {
            url: self.fake.url(INTROSPECT),
            issuer: Issuer::new(&self.issuer()),
            client: oauth_client(),
            audiences: vec!["crm".into()],
            cache: Duration::from_secs(30),
            stale: None,
            revoke: None,
        };
        let opaque = Some(Vec::new());
        settings(
            "legacy",
            Owns {
                opaque,
                ..Owns::default()
            },
            KindSettings::Introspection(introspection),
        )
    }
}

fn sign(key: &SigningKey, typ: &str, claims: &Value, change: &Value) -> String {
    let mut claims: Map<String, Value> = claims.as_object().unwrap().clone();
    for (name, value) in change.as_object().unwrap() {
        claims.insert(name.clone(), value.clone());
    }
    claims.retain(|_, value| !value.is_null());
    key.sign(typ, &claims).unwrap()
}

fn verify() -> settings::Verify {
    settings::Verify {
        algorithms: vec![Algorithm::Es256],
        audiences: vec!["crm".into()],
        markers: Vec::new(),
        any_typ: false,
        leeway: Duration::from_secs(30),
        max_life: Duration::from_secs(24 * 60 * 60),
        claims: Vec::new(),
        jwks_max_stale: Duration::from_secs(24 * 60 * 60),
        jwks_refresh: Duration::from_secs(600),
    }
}

pub(super) fn oauth_client() -> settings::OAuthClient {
    settings::OAuthClient {
        id: "authferry".into(),
        auth: settings::ClientAuth::SecretBasic(Secret::new("the secret".to_owned())),
        expires: None,
    }
}

/// Settings with boring bounds, quick to give up.
pub(super) fn settings(id: &str, owns: Owns, kind: KindSettings) -> Settings {
    let path = |path: &str| ClaimPath::parse(path).unwrap();
    Settings {
        id: ProviderId::new(id),
        owns,
        claims: vec![
            ("subject".into(), path("sub")),
            ("email".into(), path("mail")),
            ("groups".into(), path("groups")),
        ],
        email_domains: vec!["corp.example".into()],
        assurance: settings::Assurance {
            fixed: None,
            claim: Some(path("acr")),
            map: vec![("1".into(), "pwd".into())],
        },
        client: settings::Client {
            timeout: Duration::from_millis(500),
            retries: 0,
            ..settings::Client::for_test()
        },
        kind,
    }
}

/// Settings of a provider that is asked over HTTP, whatever its kind, and the client that asks.
pub(super) fn asker(id: &str) -> (Settings, Client) {
    let kind = KindSettings::ApiKey(settings::ApiKey {
        issuer: Issuer::new("urn:none"),
        file: "/nonexistent".into(),
    });
    let settings = settings(id, Owns::default(), kind);
    let bounds = settings.client.clone();
    let client = Client::new(
        settings.id.clone(),
        bounds,
        &Trust::of_system(),
        &Deps::for_test(),
    );
    (settings, client.unwrap())
}

/// One live provider.
pub(super) fn built(settings: &Settings, deps: &Deps) -> std::sync::Arc<dyn Provider> {
    let all = build(std::slice::from_ref(settings), None, deps).unwrap();
    std::sync::Arc::clone(all.named(&settings.id).unwrap())
}

/// One live provider whose first fetches have succeeded.
pub(super) async fn ready(settings: &Settings, deps: &Deps) -> std::sync::Arc<dyn Provider> {
    let provider = built(settings, deps);
    until(|| provider.health().usable).await;
    provider
}

/// Lets everything else run until `true`.
pub(super) async fn until(mut done: impl FnMut() -> bool) {
    let waited = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited)
        .await
        .expect("it does not happen");
}

/// Lets `span` pass for timers, and for nothing else: the clock stands still again at once for real I/O.
pub(super) async fn pass(span: Duration) {
    tokio::time::pause();
    tokio::time::advance(span).await;
    tokio::time::resume();
}

/// Judges as a worker does: without I/O where that is possible.
pub(super) async fn judge(
    provider: &dyn Provider,
    credential: &Credential,
    now: UnixTime,
) -> Result<Authenticated, ProviderError> {
    match provider.judge_locally(credential, now) {
        Some(verdict) => verdict,
        None => provider.authenticate(credential, now).await,
    }
}
