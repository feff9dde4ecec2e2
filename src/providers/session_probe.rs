//! An old SSO or application that judges its own session cookie: it is asked over HTTP, with that cookie alone.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Ability;
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
#[cfg(feature = "ldap")]
use crate::providers::ldap::LdapProvider;
use crate::providers::settings::LogoutMethod;
use crate::providers::settings::ProbeAnswer;
use crate::providers::settings::SessionProbe;
use crate::providers::settings::Settings;
use crate::providers::stale::Stale;
use crate::providers::vouch::Voucher;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Operation;

/// A provider that is asked what one of its cookies is worth.
#[derive(Debug)]
pub(super) struct SessionProbeProvider {
    settings: Settings,
    probe: SessionProbe,
    endpoint: Endpoint,
    /// Where a session ends.
    logout: Option<Endpoint>,
    client: Arc<Client>,
    /// Who judges passwords, where they come with a request: the same people in a directory.
    #[cfg(feature = "ldap")]
    passwords: Option<LdapProvider>,
    epoch: Epoch,
    voucher: Voucher,
    stale: Option<Stale>,
}

impl SessionProbeProvider {
    /// A provider for one old system; nothing is asked yet.
    pub(super) fn new(
        settings: Settings,
        probe: SessionProbe,
        endpoint: Endpoint,
        logout: Option<Endpoint>,
        client: Arc<Client>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            stale: Stale::new(probe.stale, &settings.id, metrics),
            voucher: Voucher::new(&settings, &probe.issuer),
            epoch: Epoch::default(),
            settings,
            probe,
            endpoint,
            logout,
            client,
            #[cfg(feature = "ldap")]
            passwords: None,
        }
    }

    /// With a judge of passwords.
    #[cfg(feature = "ldap")]
    pub(super) fn with_passwords(mut self, passwords: Option<LdapProvider>) -> Self {
        self.passwords = passwords;
        self
    }

    fn read(&self, answer: &Answer, now: UnixTime) -> Result<Authenticated, ProviderError> {
        let claims = said(&self.probe.answer, answer)?;
        let subject = self
            .settings
            .claims
            .iter()
            .find(|(name, _)| &**name == "subject");
        let subject = match subject {
            Some((_, path)) => path.find(&claims),
            None => claims.member("sub").cloned(),
        };
        // Old systems number their people; a whole number is as good a name as a string.
        let subject = match subject {
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) if number.is_u64() => number.to_string(),
            Some(_) | None => return Err(Outage::Malformed.into()),
        };
        // As of a token (RFC 7662 §2.2): systems that know when a session ends may say so.
        let ends = match self.probe.answer {
            ProbeAnswer::Json => claims.member("exp").and_then(Value::as_u64),
            ProbeAnswer::Headers => None,
        };
        let ends = ends.map_or(UnixTime::NEVER, UnixTime::from_secs);
        if ends <= now {
            return Err(Refusal::Expired.into());
        }
        let kept = ends.min(now + self.probe.cache);
        let proof = self.voucher.vouch(&subject, &claims, kept)?;
        Ok(proof.of_credential_until(ends))
    }
}

/// 200 names the person; 401, 403 and a redirect to a sign-in page say no; nothing else is a judgement.
fn said(kind: &ProbeAnswer, answer: &Answer) -> Result<ClaimMap, ProviderError> {
    if answer.status.is_redirection() || answer.status == StatusCode::UNAUTHORIZED {
        return Err(Refusal::Inactive.into());
    }
    if answer.status == StatusCode::FORBIDDEN {
        return Err(Refusal::Disabled.into());
    }
    if answer.status != StatusCode::OK {
        return Err(Outage::Malformed.into());
    }
    Ok(match kind {
        ProbeAnswer::Json => match serde_json::from_slice(&answer.body) {
            Ok(Value::Object(members)) => ClaimMap::new(members),
            // A page where an object is due: some systems show their sign-in form with 200.
            Ok(_) | Err(_) => return Err(Outage::Malformed.into()),
        },
        ProbeAnswer::Headers => headers(answer)?,
    })
}

/// Who is named was named with 200, and who is refused was refused. See `crate::promises`.
#[cfg(any(test, fuzzing))]
pub(in crate::providers) fn promise(answer: &Answer) {
    for kind in [ProbeAnswer::Json, ProbeAnswer::Headers] {
        match said(&kind, answer) {
            Ok(_) => assert_eq!(answer.status, StatusCode::OK),
            Err(ProviderError::Rejected(_)) => {
                let code = answer.status.as_u16();
                assert!(matches!(code, 300..=399 | 401 | 403), "{code}");
            }
            Err(ProviderError::Unavailable { .. }) => {}
        }
    }
}

/// Response headers as claims. A header that comes twice could mean two people.
fn headers(answer: &Answer) -> Result<ClaimMap, Outage> {
    let mut members = Map::new();
    for (name, value) in &answer.headers {
        let value = value.to_str().or(Err(Outage::Malformed))?;
        if members
            .insert(name.as_str().to_owned(), Value::from(value))
            .is_some()
            && name != header::SET_COOKIE
        {
            return Err(Outage::Malformed);
        }
    }
    Ok(ClaimMap::new(members))
}

/// The cookie as the browser sent it.
fn pair(credential: &Credential) -> Result<HeaderValue, Refusal> {
    let Credential::Session { cookie, value } = credential else {
        return Err(Refusal::Unsupported);
    };
    let pair = format!("{cookie}={}", value.expose());
    let mut pair = HeaderValue::try_from(pair).or(Err(Refusal::BadCredentials))?;
    pair.set_sensitive(true);
    Ok(pair)
}

/// Sign-out pages answer with themselves or lead to a sign-in; 401 and 403 say that there was no session.
fn ended(answer: &Answer) -> Result<(), ProviderError> {
    let status = answer.status;
    let none = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if status.is_success() || status.is_redirection() || none {
        Ok(())
    } else if status.is_client_error() {
        Err(Refusal::Policy.into())
    } else {
        Err(Outage::Malformed.into())
    }
}

#[async_trait]
impl Provider for SessionProbeProvider {
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
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        #[cfg(feature = "ldap")]
        if let (Credential::Basic { .. }, Some(passwords)) = (credential, &self.passwords) {
            return passwords.authenticate(credential, now).await;
        }
        let pair = pair(credential)?;
        let call = Call::get(Operation::Probe, &self.endpoint)
            .header(header::COOKIE, pair)
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .repeatable();
        let question = self.stale.as_ref().map(|stale| (stale, stale.asks()));
        let answer = self
            .client
            .call(&call, |answer| self.read(&answer, now))
            .await;
        match (question, credential) {
            (Some((stale, question)), Credential::Session { cookie, value }) => {
                stale.settle(question, (cookie, value.expose()), answer, now)
            }
            _ => answer,
        }
    }

    #[cfg(feature = "ldap")]
    fn directory(&self) -> Option<&dyn crate::providers::Directory> {
        self.passwords.as_ref()?.directory()
    }

    #[cfg(feature = "ldap")]
    fn person_name(&self, username: &str) -> String {
        match &self.passwords {
            Some(passwords) => passwords.person_name(username),
            None => username.to_owned(),
        }
    }

    fn ends_sessions(&self) -> bool {
        self.logout.is_some()
    }

    async fn end(&self, credential: &Credential) -> Result<(), ProviderError> {
        let logout = self.logout.as_ref().ok_or(Refusal::Unsupported)?;
        if let (Some(stale), Credential::Session { cookie, value }) = (&self.stale, credential) {
            stale.end(cookie, value.expose());
        }
        let call = match self.probe.logout.as_ref().map(|logout| logout.method) {
            Some(LogoutMethod::Get) => Call::get(Operation::Revoke, logout),
            Some(LogoutMethod::Post) | None => {
                Call::post_form(Operation::Revoke, logout, String::new())
            }
        };
        let call = call.header(header::COOKIE, pair(credential)?).repeatable();
        self.client.call(&call, |answer| ended(&answer)).await
    }

    fn abilities(&self) -> &'static [Ability] {
        if self.logout.is_some() {
            &[Ability::Revoke]
        } else {
            &[]
        }
    }

    fn health(&self) -> Health {
        Health::of_calls(self.client.down_since())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::identity::Issuer;
    use crate::providers::Deps;
    use crate::providers::fake::Fake;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::built;
    use crate::providers::fixture::settings;
    use crate::providers::settings::KindSettings;
    use crate::providers::settings::ProbeLogout;
    use crate::secret::Secret;

    fn cookie(value: &str) -> Credential {
        Credential::Session {
            cookie: "SMSESSION".into(),
            value: Secret::new(value.to_owned()),
        }
    }

    fn probing(fake: &Fake, stale: Option<Duration>) -> Arc<dyn Provider> {
        let probe = SessionProbe {
            issuer: Issuer::new("https://old.example"),
            url: fake.url("/whoami"),
            answer: ProbeAnswer::Json,
            cache: Duration::from_secs(30),
            stale,
            login_path: None,
            fields: None,
            logout: Some(ProbeLogout {
                url: fake.url("/logout"),
                method: LogoutMethod::Post,
            }),
            bind: None,
        };
        let owns = Owns {
            cookies: vec!["SMSESSION".into()],
            ..Owns::default()
        };
        let mut settings = settings("legacy", owns, KindSettings::SessionProbe(probe));
        settings.client.breaker.min_requests = u32::MAX;
        built(&settings, &Deps::for_test())
    }

    #[tokio::test]
    async fn a_session_outlives_the_absence_of_its_owner_for_a_while_and_its_end_not_at_all() {
        let fake = Fake::start().await;
        fake.always("/whoami", Reply::json(&json!({ "sub": "1001" })));
        fake.always("/logout", Reply::text(200, ""));
        let provider = probing(&fake, Some(Duration::from_secs(60)));
        for known in ["a", "b"] {
            provider.authenticate(&cookie(known), NOW).await.unwrap();
        }
        fake.always("/whoami", Reply::text(503, ""));
        let later = NOW + Duration::from_secs(89);
        let proof = provider.authenticate(&cookie("a"), later).await.unwrap();
        assert_eq!(proof.identity().key.subject.as_str(), "1001");
        assert_eq!(proof.expires(), NOW + Duration::from_secs(90));
        let away = ProviderError::from(Outage::Http5xx);
        for (value, now) in [("a", NOW + Duration::from_secs(90)), ("c", NOW)] {
            let said = provider.authenticate(&cookie(value), now).await;
            assert_eq!(said.unwrap_err(), away, "{value}");
        }
        assert!(provider.authenticate(&cookie("b"), later).await.is_ok());
        provider.end(&cookie("b")).await.unwrap();
        let said = provider.authenticate(&cookie("b"), later).await;
        assert_eq!(said.unwrap_err(), away, "it was signed out");

        let strict = probing(&fake, None);
        fake.next("/whoami", Reply::json(&json!({ "sub": "1001" })));
        strict.authenticate(&cookie("a"), NOW).await.unwrap();
        let said = strict.authenticate(&cookie("a"), NOW).await;
        assert_eq!(said.unwrap_err(), away, "nothing is kept unless it is said");
    }
}
