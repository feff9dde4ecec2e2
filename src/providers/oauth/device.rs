//! Device authorization at a provider (RFC 8628): a code that a person types in elsewhere, and the question whether they have.

use std::time::Duration;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Endpoint;
use crate::providers::oauth::form::Form;
use crate::providers::oauth::renewal::error;
use crate::providers::oauth::token_client::Issued;
use crate::providers::oauth::token_client::TokenClient;
use crate::providers::oauth::token_client::read;
use crate::providers::oauth::token_client::with_resource;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// How long a code lives at most, and how often it is asked about at least (RFC 8628 §3.2).
const MAX_LIFE: Duration = Duration::from_secs(3_600);
const INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// The longest code and address that are handed on, in bytes.
const MAX_TEXT: usize = 2_048;

/// What a device is told (RFC 8628 §3.2).
#[derive(Debug)]
pub(crate) struct DeviceStart {
    /// For us: what to ask with.
    pub(crate) device_code: Secret<String>,
    /// For the person: what to type in.
    pub(crate) user_code: String,
    /// And where.
    pub(crate) verification_uri: String,
    /// The same with the code in it.
    pub(crate) complete: Option<String>,
    /// How long it is good.
    pub(crate) life: Duration,
    /// How often it may be asked about.
    pub(crate) interval: Duration,
}

/// What the provider says of a code.
#[derive(Debug)]
pub(crate) enum Polled {
    /// The person has signed in.
    Issued(Box<Issued>),
    /// Not yet.
    Pending,
    /// Not yet, and we ask too often.
    SlowDown,
    /// The person said no.
    Denied,
    /// The code is over, or none.
    Over,
}

impl TokenClient {
    /// Asks for a code.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unsupported`]: the provider has no such thing. [`Refusal::ExchangeRefused`]: not for these scopes.
    pub(crate) async fn start_device(
        &self,
        scopes: &[Box<str>],
        resource: Option<&str>,
        now: UnixTime,
    ) -> Result<DeviceStart, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.device_authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or(Refusal::Unsupported)?;
        let form = if scopes.is_empty() {
            Form::default()
        } else {
            Form::default().with("scope", &scopes.join(" "))
        };
        let form = with_resource(form, resource);
        // RFC 8628 §3.1: named, also where `Authorization` says it.
        let form = if self.client.names_itself() {
            form
        } else {
            form.with("client_id", self.id())
        };
        let call = self.post(Operation::Token, endpoint, form, now)?;
        self.http.call(&call, |answer| started(&answer)).await
    }

    /// Asks whether the person has signed in.
    ///
    /// # Errors
    ///
    /// An outage says nothing of it.
    pub(crate) async fn poll_device(
        &self,
        device_code: &Secret<String>,
        resource: Option<&str>,
        now: UnixTime,
    ) -> Result<Polled, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.token_endpoint.as_ref().ok_or(Outage::Malformed)?;
        let form = Form::default()
            .with("grant_type", "urn:ietf:params:oauth:grant-type:device_code")
            .with("device_code", device_code.expose());
        let form = with_resource(form, resource);
        let call = self.post(Operation::Token, endpoint, form, now)?;
        // Made once: the answer that has the token is given once.
        self.http
            .call(&call, |answer| {
                match said(&answer).as_deref() {
                    Some("authorization_pending") => return Ok(Polled::Pending),
                    Some("slow_down") => return Ok(Polled::SlowDown),
                    Some("access_denied") => return Ok(Polled::Denied),
                    Some("expired_token" | "invalid_grant") => return Ok(Polled::Over),
                    Some(_) | None => {}
                }
                read(&answer, false, now).map(|issued| Polled::Issued(Box::new(issued)))
            })
            .await
    }
}

/// `error` of an answer that is one (RFC 6749 §5.2).
fn said(answer: &Answer) -> Option<String> {
    let refused = answer.status.is_client_error();
    refused.then(|| error(&answer.body)).flatten()
}

pub(super) fn started(answer: &Answer) -> Result<DeviceStart, ProviderError> {
    match said(answer).as_deref() {
        Some("invalid_scope" | "invalid_target" | "access_denied") => {
            return Err(Refusal::ExchangeRefused.into());
        }
        Some("unsupported_grant_type") => return Err(Refusal::Unsupported.into()),
        Some(_) => return Err(Outage::Malformed.into()),
        None => {}
    }
    let document: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    if answer.status != StatusCode::OK {
        return Err(Outage::Malformed.into());
    }
    let text = |name: &str| {
        let text = document.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control))
            .then(|| text.to_owned())
    };
    let seconds = |name: &str| {
        let seconds = document.get(name).and_then(Value::as_u64);
        seconds
            .filter(|seconds| 0 < *seconds)
            .map(Duration::from_secs)
    };
    // A person is sent there: what is no address of the web is none.
    let address = |name: &str| text(name).filter(|uri| Endpoint::parse(uri).is_ok());
    Ok(DeviceStart {
        device_code: Secret::new(text("device_code").ok_or(Outage::Malformed)?),
        user_code: text("user_code").ok_or(Outage::Malformed)?,
        verification_uri: address("verification_uri").ok_or(Outage::Malformed)?,
        complete: address("verification_uri_complete"),
        life: seconds("expires_in")
            .ok_or(Outage::Malformed)?
            .min(MAX_LIFE),
        interval: seconds("interval")
            .unwrap_or(INTERVAL)
            .min(LONGEST_INTERVAL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;
    use serde_json::json;

    fn answer(status: u16, body: &Value) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
        }
    }

    #[test]
    fn a_device_is_told_what_the_provider_says_and_nothing_that_is_no_address() {
        let good = json!({
            "device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": "https://id.example/device", "expires_in": 600,
        });
        let read = started(&answer(200, &good)).unwrap();
        assert_eq!(
            (read.interval, read.life),
            (INTERVAL, Duration::from_secs(600))
        );
        for (name, value) in [
            ("device_code", json!("")),
            ("user_code", json!("a\nb")),
            ("verification_uri", json!("javascript:alert(1)")),
            ("verification_uri", json!("http://id.example/device")),
            ("expires_in", json!(0)),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert_eq!(
                started(&answer(200, &bad)).unwrap_err(),
                Outage::Malformed.into()
            );
        }
        let error = json!({ "error": "invalid_scope" });
        assert_eq!(
            started(&answer(400, &error)).unwrap_err(),
            Refusal::ExchangeRefused.into()
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_read_to_an_end(status in 200_u16..600, body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.into() };
            prop_assert!(started(&answer).is_err());
        }
    }
}
