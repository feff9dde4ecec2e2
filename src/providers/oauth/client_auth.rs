//! How we prove to a provider who we are (OpenID Connect Core 1.0 §9).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::entropy::Entropy;
use crate::identity::Outage;
use crate::providers::ProviderError;
use crate::providers::client::Call;
use crate::providers::client::Endpoint;
use crate::providers::oauth::form::Form;
use crate::providers::oauth::form::encoded;
use crate::providers::settings::ClientAuth;
use crate::providers::settings::OAuthClient;
use crate::secret::Secret;
use crate::telemetry::KeyUses;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::KeyUse;
use crate::telemetry::metrics::Operation;
use crate::token::MacKey;
use crate::token::SigningKey;

/// How long an assertion of ours is good.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// Our registration at a provider, ready to be used.
#[derive(Debug)]
pub(in crate::providers) struct ClientAuthenticator {
    id: Box<str>,
    method: Method,
    uses: KeyUses,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each provider")]
enum Method {
    Basic(HeaderValue),
    Post(Secret<String>),
    Key(SigningKey),
    Mac(MacKey),
    /// By the connection (RFC 8705 §2),
    Certificate,
    /// or not at all: the name alone is sent.
    Named,
}

impl ClientAuthenticator {
    /// Reads the secrets of a registration.
    ///
    /// # Errors
    ///
    /// When the private key is not one. The text does not contain it.
    pub(in crate::providers) fn new(
        client: &OAuthClient,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let method = match &client.auth {
            ClientAuth::SecretBasic(secret) => Method::Basic(basic(&client.id, secret)?),
            ClientAuth::SecretPost(secret) => Method::Post(secret.clone()),
            ClientAuth::PrivateKeyJwt(pem) => {
                let key = SigningKey::from_pem(pem.expose().as_bytes());
                Method::Key(key.map_err(|cause| format!("the client's private key: {cause}"))?)
            }
            ClientAuth::SecretJwt(secret) => {
                let bytes = secret.expose().as_bytes().to_vec();
                Method::Mac(MacKey::new(&Secret::new(bytes)))
            }
            ClientAuth::Certificate(_) | ClientAuth::SelfSigned(_) => Method::Certificate,
            ClientAuth::None => Method::Named,
        };
        Ok(Self {
            id: client.id.clone(),
            method,
            uses: KeyUses::counted_by(metrics),
        })
    }

    /// `client_id`.
    pub(in crate::providers) fn id(&self) -> &str {
        &self.id
    }

    /// What a secret is called where its uses are counted: a digest of one that people have chosen would tell it.
    fn name(&self) -> String {
        format!("client:{}", self.id)
    }

    /// Whether [`Self::post`] puts `client_id` into the form.
    pub(in crate::providers) const fn names_itself(&self) -> bool {
        match self.method {
            Method::Basic(_) => false,
            Method::Post(_)
            | Method::Key(_)
            | Method::Mac(_)
            | Method::Certificate
            | Method::Named => true,
        }
    }

    /// The call that sends `form` as us. `audience` names the provider in an assertion: its issuer identifier, so that
    /// another provider cannot use what we sent it (RFC 7523 §3).
    ///
    /// # Errors
    ///
    /// [`Outage::Malformed`] when an assertion cannot be signed.
    pub(in crate::providers) fn post(
        &self,
        operation: Operation,
        to: &Endpoint,
        form: Form,
        audience: &str,
        now: UnixTime,
        entropy: &dyn Entropy,
    ) -> Result<Call, ProviderError> {
        let form = match &self.method {
            Method::Basic(credentials) => {
                self.uses.used(&self.name(), KeyUse::Send, "client_secret");
                let call = Call::post_form(operation, to, form.into_body());
                return Ok(call.header(header::AUTHORIZATION, credentials.clone()));
            }
            Method::Post(secret) => {
                self.uses.used(&self.name(), KeyUse::Send, "client_secret");
                form.with("client_id", &self.id)
                    .with("client_secret", secret.expose())
            }
            Method::Key(_) | Method::Mac(_) => {
                let assertion = self.assertion(audience, now, entropy);
                form.with("client_id", &self.id)
                    .with(
                        "client_assertion_type",
                        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    )
                    .with("client_assertion", &assertion?)
            }
            Method::Certificate => {
                // The connection that shows it may be one that is there already.
                self.uses
                    .used(&self.name(), KeyUse::Sign, "client_certificate");
                form.with("client_id", &self.id)
            }
            Method::Named => form.with("client_id", &self.id),
        };
        Ok(Call::post_form(operation, to, form.into_body()))
    }

    /// RFC 7523 §3.
    fn assertion(
        &self,
        audience: &str,
        now: UnixTime,
        entropy: &dyn Entropy,
    ) -> Result<String, ProviderError> {
        let claims = Map::from_iter([
            ("iss".to_owned(), Value::from(&*self.id)),
            ("sub".to_owned(), Value::from(&*self.id)),
            ("aud".to_owned(), Value::from(audience)),
            ("iat".to_owned(), Value::from(now.as_secs())),
            (
                "exp".to_owned(),
                Value::from((now + ASSERTION_LIFE).as_secs()),
            ),
            ("jti".to_owned(), Value::from(entropy.token())),
        ]);
        let signed = match &self.method {
            Method::Key(key) => {
                self.uses.used(key.kid(), KeyUse::Sign, "client_assertion");
                key.sign("JWT", &claims)
            }
            Method::Mac(key) => {
                self.uses
                    .used(&self.name(), KeyUse::Sign, "client_assertion");
                key.sign("JWT", &claims)
            }
            Method::Basic(_) | Method::Post(_) | Method::Certificate | Method::Named => {
                return Err(Outage::Malformed.into());
            }
        };
        signed.or(Err(Outage::Malformed.into()))
    }
}

/// RFC 6749 §2.3.1: both halves are encoded as in a form before they are joined.
fn basic(id: &str, secret: &Secret<String>) -> Result<HeaderValue, String> {
    let pair = Secret::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
    let text = format!("Basic {}", STANDARD.encode(pair.expose()));
    let mut value =
        HeaderValue::try_from(text).or(Err("the client's secret cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::entropy::SystemEntropy;
    use crate::identity::Issuer;
    use crate::token::Algorithm;
    use crate::token::Audience;
    use crate::token::KeySet;
    use crate::token::Kind;
    use crate::token::Policy;
    use crate::token::peek;
    use crate::token::public_jwks;
    use crate::token::verify;

    #[test]
    fn each_use_of_a_secret_is_counted_by_the_name_of_its_registration() {
        let metrics = Metrics::new(Arc::new(SystemClock), 100);
        let secret = || Secret::new("hunter2hunter2hunter2hunter2hunter2".to_owned());
        for (auth, how) in [
            (
                ClientAuth::SecretBasic(secret()),
                "use=\"send\",purpose=\"client_secret\"",
            ),
            (
                ClientAuth::SecretPost(secret()),
                "use=\"send\",purpose=\"client_secret\"",
            ),
            (
                ClientAuth::SecretJwt(secret()),
                "use=\"sign\",purpose=\"client_assertion\"",
            ),
            (
                ClientAuth::SelfSigned(Default::default()),
                "use=\"sign\",purpose=\"client_certificate\"",
            ),
        ] {
            let client = OAuthClient {
                id: "ferry".into(),
                auth,
                expires: None,
            };
            let own = ClientAuthenticator::new(&client, &metrics).unwrap();
            let line = format!("authferry_key_uses_total{{key=\"client:ferry\",{how}}} ");
            let count = || {
                let text = metrics.render().unwrap();
                let found = text
                    .lines()
                    .find_map(|one| one.strip_prefix(&*line)?.parse::<u64>().ok());
                found.unwrap_or_default()
            };
            let before = count();
            own.post(
                Operation::Token,
                &Endpoint::parse("https://id.example/token").unwrap(),
                Form::default(),
                "https://id.example",
                UnixTime::from_secs(1_000_000),
                &SystemEntropy,
            )
            .unwrap();
            assert_eq!(count(), before + 1, "{line}");
            assert!(!metrics.render().unwrap().contains("hunter2"));
        }
    }

    #[test]
    fn basic_credentials_are_encoded_before_they_are_joined() {
        let secret = Secret::new("p:ä +".to_owned());
        let value = basic("a:b", &secret).unwrap();
        let sent = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = STANDARD.decode(sent).unwrap();
        assert_eq!(pair, b"a%3Ab:p%3A%C3%A4%20%2B");
        assert!(value.is_sensitive());
    }

    #[test]
    fn an_assertion_is_for_one_provider_and_a_short_time() {
        let key = SigningKey::generate().unwrap();
        let client = OAuthClient {
            id: "web".into(),
            auth: ClientAuth::PrivateKeyJwt(Secret::new(key.to_pem())),
            expires: None,
        };
        let metrics = Metrics::new(Arc::new(SystemClock), 10);
        let authenticator = ClientAuthenticator::new(&client, &metrics).unwrap();
        let now = UnixTime::from_secs(1_000_000);
        let sign = || {
            authenticator
                .assertion("https://idp", now, &SystemEntropy)
                .unwrap()
        };
        let (first, second) = (sign(), sign());
        let keys = public_jwks(&[&key]).to_string();
        let (keys, _) = KeySet::from_remote(keys.as_bytes()).unwrap();
        let policy = Policy {
            issuer: Issuer::new("web"),
            algorithms: vec![Algorithm::Es256],
            audience: Audience(vec!["https://idp".into()]),
            kind: Kind::Plain,
            leeway: Duration::ZERO,
            max_life: ASSERTION_LIFE,
        };
        let read = |text: &str| verify(peek(text).unwrap(), &keys, &policy, now).unwrap();
        let (first, second) = (read(&first), read(&second));
        let uses = format!(
            "authferry_key_uses_total{{key=\"{}\",use=\"sign\",purpose=\"client_assertion\"}} 2",
            key.kid()
        );
        let told = metrics.render().unwrap();
        assert!(told.contains(&uses), "{told}");
        assert_eq!(first.subject().unwrap().as_str(), "web");
        assert_ne!(first.claims().text("jti"), second.claims().text("jti"));
    }

    #[test]
    fn an_assertion_under_a_secret_is_read_by_who_knows_it() {
        let secret = "0123456789abcdef0123456789abcdef";
        let client = OAuthClient {
            id: "web".into(),
            auth: ClientAuth::SecretJwt(Secret::new(secret.to_owned())),
            expires: None,
        };
        let metrics = Metrics::new(Arc::new(SystemClock), 10);
        let authenticator = ClientAuthenticator::new(&client, &metrics).unwrap();
        let now = UnixTime::from_secs(1_000_000);
        let text = authenticator
            .assertion("https://idp", now, &SystemEntropy)
            .unwrap();
        let keys = KeySet::from_shared_secret(secret.as_bytes(), Algorithm::Hs256).unwrap();
        let policy = Policy {
            issuer: Issuer::new("web"),
            algorithms: vec![Algorithm::Hs256],
            audience: Audience(vec!["https://idp".into()]),
            kind: Kind::Plain,
            leeway: Duration::ZERO,
            max_life: ASSERTION_LIFE,
        };
        let read = verify(peek(&text).unwrap(), &keys, &policy, now).unwrap();
        assert_eq!(read.subject().unwrap().as_str(), "web");
        let late = now + ASSERTION_LIFE;
        assert!(verify(peek(&text).unwrap(), &keys, &policy, late).is_err());
    }

    #[test]
    fn a_key_that_is_none_is_named_without_being_shown() {
        let client = OAuthClient {
            id: "web".into(),
            auth: ClientAuth::PrivateKeyJwt(Secret::new("hunter2".to_owned())),
            expires: None,
        };
        let metrics = Metrics::new(Arc::new(SystemClock), 10);
        let problem = ClientAuthenticator::new(&client, &metrics).unwrap_err();
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}
