//! A provider's metadata (OpenID Connect Discovery 1.0 §4), fetched in the background until they are known and then kept.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio::time::timeout;
use tracing::info;
use tracing::warn;

use crate::identity::Issuer;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::providers::Deps;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::client::InvalidEndpoint;
use crate::telemetry::metrics::Operation;

/// How often metadata are fetched again.
const REFRESH: Duration = Duration::from_secs(60 * 60);

/// The wait after the first failed fetch, and the longest one; it doubles.
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// What a provider says about itself, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::providers) struct Metadata {
    /// Where a login begins.
    pub(in crate::providers) authorization_endpoint: Option<Endpoint>,
    /// Where a code is redeemed.
    pub(in crate::providers) token_endpoint: Option<Endpoint>,
    /// Where the keys are.
    pub(in crate::providers) jwks_uri: Option<Endpoint>,
    /// Where a session ends (OpenID Connect RP-Initiated Logout 1.0 §2.1).
    pub(in crate::providers) end_session_endpoint: Option<Endpoint>,
    /// Where a token is revoked (RFC 8414 §2).
    pub(in crate::providers) revocation_endpoint: Option<Endpoint>,
    /// Where a token is asked about (RFC 8414 §2).
    pub(in crate::providers) introspection_endpoint: Option<Endpoint>,
    /// Where a device is told its code (RFC 8628 §4).
    pub(in crate::providers) device_authorization_endpoint: Option<Endpoint>,
    /// Where an authorization request is pushed to (RFC 9126 §5).
    pub(in crate::providers) pushed_authorization_request_endpoint: Option<Endpoint>,
    /// `require_pushed_authorization_requests` (RFC 9126 §5).
    pub(in crate::providers) requires_pushed: bool,
    /// `authorization_response_iss_parameter_supported` (RFC 9207 §3).
    pub(in crate::providers) names_itself: bool,
}

/// What is known so far.
#[derive(Clone, Debug, Default)]
pub(in crate::providers) struct Discovered {
    metadata: Option<Arc<Metadata>>,
    /// Why the last fetch failed.
    failure: Option<ProviderError>,
}

impl Discovered {
    /// Where the keys are, once that is known.
    pub(in crate::providers) fn jwks_uri(&self) -> Option<Endpoint> {
        self.metadata.as_ref()?.jwks_uri.clone()
    }
}

/// Metadata that are kept fresh. The task that does it ends when this is dropped.
#[derive(Debug)]
pub(in crate::providers) struct Discovery {
    known: watch::Receiver<Discovered>,
    patience: Duration,
    address: Endpoint,
    task: AbortHandle,
}

impl Discovery {
    /// Begins to fetch the metadata of `issuer`.
    ///
    /// # Errors
    ///
    /// When the issuer's identifier is no address.
    pub(in crate::providers) fn start(
        provider: &ProviderId,
        issuer: &Issuer,
        client: Arc<Client>,
        deps: &Deps,
    ) -> Result<Self, InvalidEndpoint> {
        let address = address(issuer)?;
        let (sender, known) = watch::channel(Discovered::default());
        let patience = client.timeout();
        let task = Task {
            provider: provider.clone(),
            issuer: issuer.clone(),
            address: address.clone(),
            client,
            known: sender,
        };
        let task = deps.background.spawn(task.run()).abort_handle();
        Ok(Self {
            known,
            patience,
            address,
            task,
        })
    }

    /// The metadata as far as they are known now.
    pub(in crate::providers) fn current(&self) -> Option<Arc<Metadata>> {
        self.known.borrow().metadata.clone()
    }

    /// The metadata; waits for the first fetch, should it still be under way.
    ///
    /// # Errors
    ///
    /// Why they are not known.
    pub(in crate::providers) async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        let mut known = self.known.clone();
        let decided = known.wait_for(|d| d.metadata.is_some() || d.failure.is_some());
        let Ok(Ok(decided)) = timeout(self.patience, decided).await else {
            return Err(Outage::Timeout.into());
        };
        match (&decided.metadata, &decided.failure) {
            (Some(metadata), _) => Ok(Arc::clone(metadata)),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Err(Outage::Timeout.into()),
        }
    }

    /// To be told when they change.
    pub(in crate::providers) fn watch(&self) -> watch::Receiver<Discovered> {
        self.known.clone()
    }

    /// Where they are: also a harmless question to learn whether the provider is there.
    pub(in crate::providers) const fn address(&self) -> &Endpoint {
        &self.address
    }

    /// What is wrong, in words for `/-/ready`.
    pub(in crate::providers) fn problem(&self) -> Option<String> {
        let known = self.known.borrow();
        match (&known.metadata, &known.failure) {
            (Some(_), _) => None,
            (None, Some(failure)) => Some(format!("no metadata: {failure}")),
            (None, None) => Some("no metadata yet".to_owned()),
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    provider: ProviderId,
    issuer: Issuer,
    address: Endpoint,
    client: Arc<Client>,
    known: watch::Sender<Discovered>,
}

impl Task {
    async fn run(self) {
        let provider = self.provider.as_str();
        let mut failures = 0;
        loop {
            let call = Call::get(Operation::Discovery, &self.address);
            let read = |answer: Answer| {
                read(&answer, &self.issuer, self.client.shows_certificate()).map_err(|cause| {
                    warn!(provider, cause, "The provider's metadata are not used.");
                    ProviderError::from(Outage::Malformed)
                })
            };
            let wait = match self.client.call(&call, read).await {
                Ok(metadata) => {
                    self.adopt(metadata);
                    failures = 0;
                    // A little earlier, by chance, so that many instances do not ask at once.
                    REFRESH.saturating_sub(self.client.backoff(REFRESH / 10, REFRESH, 0))
                }
                Err(failure) => {
                    if failures == 0 {
                        warn!(provider, reason = %failure, "The provider's metadata could not be fetched.");
                    }
                    self.known
                        .send_modify(|known| known.failure = Some(failure));
                    let wait = self.client.backoff(BACKOFF, MAX_BACKOFF, failures);
                    failures = failures.saturating_add(1);
                    wait
                }
            };
            sleep(wait).await;
        }
    }

    /// Tells the others, if anything is new.
    fn adopt(&self, metadata: Metadata) {
        let new = self.known.send_if_modified(|known| {
            known.failure = None;
            let new = known.metadata.as_deref() != Some(&metadata);
            if new {
                known.metadata = Some(Arc::new(metadata));
            }
            new
        });
        if new {
            info!(
                provider = self.provider.as_str(),
                "The provider's metadata are known."
            );
        }
    }
}

/// OpenID Connect Discovery 1.0 §4: the slash at the end of an issuer goes before the path is added; the comparison
/// keeps it.
pub(in crate::providers) fn address(issuer: &Issuer) -> Result<Endpoint, InvalidEndpoint> {
    let base = issuer.as_str();
    if base.contains('?') {
        return Err(InvalidEndpoint::NotAbsolute);
    }
    let base = base.strip_suffix('/').unwrap_or(base);
    Endpoint::parse(&format!("{base}/.well-known/openid-configuration"))
}

/// The metadata of `issuer`, or why these are not. Where we show a certificate, what is asked as a client is asked at the
/// addresses that want one (`mtls_endpoint_aliases`, RFC 8705 §5).
pub(in crate::providers) fn read(
    answer: &Answer,
    issuer: &Issuer,
    mutual: bool,
) -> Result<Metadata, String> {
    if answer.status != StatusCode::OK {
        return Err(format!("the answer has status {}", answer.status.as_u16()));
    }
    let document: Map<String, Value> = serde_json::from_slice(&answer.body)
        .map_err(|cause| format!("it is no object: {cause}"))?;
    // Byte for byte (§4.3): otherwise one provider could answer in the name of another.
    if document.get("issuer").and_then(Value::as_str) != Some(issuer.as_str()) {
        return Err("`issuer` is not the configured one".to_owned());
    }
    // A provider elsewhere does not send us to services of this machine.
    let here = Endpoint::parse(issuer.as_str()).is_ok_and(|own| own.is_loopback());
    let aliases = document
        .get("mtls_endpoint_aliases")
        .and_then(Value::as_object)
        .filter(|_| mutual);
    let aliased = |name: &str| {
        let as_client = name != "authorization_endpoint" && name != "end_session_endpoint";
        aliases.filter(|_| as_client)?.get(name)
    };
    let endpoint = |name: &str| match aliased(name).or_else(|| document.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let endpoint = Endpoint::parse(text).map_err(|cause| format!("`{name}`: {cause}"))?;
            if endpoint.is_loopback() && !here {
                return Err(format!("`{name}` lies on this machine"));
            }
            Ok(Some(endpoint))
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("`{name}` is no text"))
        }
    };
    Ok(Metadata {
        authorization_endpoint: endpoint("authorization_endpoint")?,
        token_endpoint: endpoint("token_endpoint")?,
        jwks_uri: endpoint("jwks_uri")?,
        end_session_endpoint: endpoint("end_session_endpoint")?,
        revocation_endpoint: endpoint("revocation_endpoint")?,
        introspection_endpoint: endpoint("introspection_endpoint")?,
        device_authorization_endpoint: endpoint("device_authorization_endpoint")?,
        pushed_authorization_request_endpoint: endpoint("pushed_authorization_request_endpoint")?,
        requires_pushed: document.get("require_pushed_authorization_requests")
            == Some(&Value::Bool(true)),
        names_itself: document.get("authorization_response_iss_parameter_supported")
            == Some(&Value::Bool(true)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;
    use serde_json::json;

    fn answer(body: &[u8]) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.to_vec().into(),
        }
    }

    fn metadata(issuer: &str, jwks_uri: &str) -> Result<Metadata, String> {
        let document = json!({ "issuer": issuer, "jwks_uri": jwks_uri });
        read(
            &answer(document.to_string().as_bytes()),
            &Issuer::new(issuer),
            false,
        )
    }

    #[test]
    fn the_path_of_the_metadata_follows_the_issuer() {
        let address = |issuer: &str| address(&Issuer::new(issuer)).map(|a| a.to_string());
        let expected = "https://id.example/realms/new/.well-known/openid-configuration".to_owned();
        assert_eq!(
            address("https://id.example/realms/new").as_ref(),
            Ok(&expected)
        );
        assert_eq!(
            address("https://id.example/realms/new/").as_ref(),
            Ok(&expected)
        );
        for issuer in [
            "https://id.example/?a=b",
            "https://id.example/#a",
            "urn:a",
            "http://id.example",
        ] {
            assert!(address(issuer).is_err(), "{issuer}");
        }
    }

    #[test]
    fn a_provider_elsewhere_does_not_send_us_to_this_machine() {
        assert!(metadata("https://id.example", "https://id.example/keys").is_ok());
        assert!(metadata("https://id.example", "https://keys.example/keys").is_ok());
        for inside in [
            "http://127.0.0.1:9901/metrics",
            "https://localhost/keys",
            "https://[::1]/keys",
        ] {
            assert!(metadata("https://id.example", inside).is_err(), "{inside}");
        }
        assert!(metadata("http://127.0.0.1:8180", "http://127.0.0.1:8180/keys").is_ok());
    }

    #[test]
    fn who_shows_a_certificate_asks_where_one_is_wanted() {
        let issuer = "https://id.example";
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": "https://id.example/authorize",
            "token_endpoint": "https://id.example/token",
            "revocation_endpoint": "https://id.example/revoke",
            "mtls_endpoint_aliases": {
                "token_endpoint": "https://mtls.id.example/token",
                "authorization_endpoint": "https://mtls.id.example/authorize",
            },
        });
        let known = |mutual| {
            let answer = answer(document.to_string().as_bytes());
            let read = read(&answer, &Issuer::new(issuer), mutual).unwrap();
            [
                read.token_endpoint,
                read.revocation_endpoint,
                read.authorization_endpoint,
            ]
            .map(|endpoint| endpoint.unwrap().to_string())
        };
        let [token, revoke, authorize] = known(true);
        assert_eq!(token, "https://mtls.id.example/token");
        assert_eq!(revoke, "https://id.example/revoke");
        assert_eq!(authorize, "https://id.example/authorize");
        assert_eq!(known(false)[0], "https://id.example/token");
    }

    proptest! {
        #[test]
        fn any_answer_is_read_to_an_end(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&answer(&body), &Issuer::new("https://id.example"), true).is_err());
        }

        /// Whatever is taken as an endpoint can be asked without telling everybody.
        #[test]
        fn an_endpoint_is_secure_or_none(uri in "[ -~]{0,40}") {
            if let Ok(read) = metadata("https://id.example", &uri) {
                let endpoint = read.jwks_uri.unwrap();
                prop_assert_eq!(endpoint.uri().scheme_str(), Some("https"));
                prop_assert!(!endpoint.is_loopback());
            }
        }
    }
}
