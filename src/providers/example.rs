//! A kind of provider from beginning to end, for CONTRIBUTING.md: a badge office that is asked over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::json;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Issuer;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::contract::Case;
use crate::providers::contract::Double;
use crate::providers::contract::misbehave;
use crate::providers::fake::Fake;
use crate::providers::fake::Reply;
use crate::providers::fixture::NOW;
use crate::providers::fixture::asker;
use crate::providers::settings::Settings;
use crate::providers::vouch::Voucher;
use crate::secret::Secret;
use crate::telemetry::metrics::Operation;

/// What it has: its settings, what its verdicts rest on, who is asked and how, and what claims mean.
#[derive(Debug)]
struct BadgeOffice {
    settings: Settings,
    epoch: Epoch,
    endpoint: Endpoint,
    http: Client,
    voucher: Voucher,
}

impl BadgeOffice {
    /// Only 200 vouches, only a clear no refuses, and everything else is no judgement: never a default.
    fn read(&self, answer: &Answer, now: UnixTime) -> Result<Authenticated, ProviderError> {
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Refusal::BadCredentials.into()),
            StatusCode::GONE => return Err(Refusal::Revoked.into()),
            _ => return Err(Outage::Malformed.into()),
        }
        let claims = serde_json::from_slice(&answer.body).map(ClaimMap::new);
        let claims = claims.or(Err(Outage::Malformed))?;
        let until = claims.member("until").and_then(|until| until.as_u64());
        let until = UnixTime::from_secs(until.ok_or(Outage::Malformed)?);
        if until <= now {
            return Err(Refusal::Expired.into());
        }
        // The voucher maps claims to attributes and makes the proof: the same way for every kind.
        let name = claims.text("sub").ok_or(Outage::Malformed)?;
        Ok(self.voucher.vouch(name, &claims, until)?)
    }
}

#[async_trait]
impl Provider for BadgeOffice {
    fn id(&self) -> &ProviderId {
        &self.settings.id
    }

    fn owns(&self) -> &Owns {
        &self.settings.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        shown: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let Credential::Opaque(badge) = shown else {
            return Err(Refusal::Unsupported.into());
        };
        let badge = HeaderValue::try_from(badge.expose()).or(Err(Refusal::BadCredentials))?;
        let call = Call::get(Operation::Probe, &self.endpoint).header(AUTHORIZATION, badge);
        // Timeouts, retries, the breaker and the metrics are the client's.
        self.http
            .call(&call, |answer| self.read(&answer, now))
            .await
    }

    fn health(&self) -> Health {
        Health::of_calls(self.http.down_since())
    }
}

/// The other side for `contract.rs`, and how each case of the contract comes about there.
pub(super) struct Office {
    fake: Fake,
    provider: Arc<dyn Provider>,
}

#[async_trait]
impl Double for Office {
    // It knows badges and no accounts, and is its own clock.
    const IMPOSSIBLE: &'static [Case] = Case::ACCOUNTS_AND_CLOCKS;
    async fn start() -> Self {
        let fake = Fake::start().await;
        let (settings, http) = asker("badges");
        let provider = Arc::new(BadgeOffice {
            epoch: Epoch::default(),
            endpoint: Endpoint::parse(&fake.url("/badge")).unwrap(),
            http,
            voucher: Voucher::new(&settings, &Issuer::new("urn:badges")),
            settings,
        });
        Self { fake, provider }
    }

    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    async fn arrange(&mut self, case: Case) -> Option<Credential> {
        let reply = match case {
            Case::Unknown => Reply::text(404, ""),
            Case::Revoked => Reply::text(410, ""),
            Case::Expired => Reply::json(&json!({ "sub": "7", "until": NOW.as_secs() })),
            impossible if Self::IMPOSSIBLE.contains(&impossible) => return None,
            _ => Reply::json(&json!({ "sub": "7", "until": NOW.as_secs() + 60 })),
        };
        self.fake.always("/badge", reply);
        misbehave(&mut self.fake, "/badge", case).await;
        let badge = Secret::new("badge-7".to_owned());
        if case == Case::Foreign {
            return Some(Credential::ApiKey(badge));
        }
        Some(Credential::Opaque(badge))
    }
}
