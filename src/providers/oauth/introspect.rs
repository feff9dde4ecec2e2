//! Whether an access token of an OpenID provider still counts there (RFC 7662), once signature and claims have been judged.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Deps;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Client;
use crate::providers::flight::Flights;
use crate::providers::oauth::client_auth::ClientAuthenticator;
use crate::providers::oauth::discovery::Discovery;
use crate::providers::oauth::form::Form;
use crate::providers::settings::Introspect;
use crate::providers::stale::Stale;
use crate::telemetry::metrics::Operation;

/// Asks an OpenID provider about its own access tokens.
#[derive(Debug)]
pub(in crate::providers) struct Introspector {
    settings: Introspect,
    client: ClientAuthenticator,
    discovery: Arc<Discovery>,
    http: Arc<Client>,
    deps: Deps,
    flights: Flights,
    stale: Option<Stale>,
}

impl Introspector {
    /// Nothing is asked yet.
    pub(in crate::providers) fn new(
        provider: &ProviderId,
        settings: Introspect,
        client: ClientAuthenticator,
        discovery: &Arc<Discovery>,
        http: &Arc<Client>,
        deps: &Deps,
    ) -> Self {
        Self {
            stale: Stale::new(settings.stale, provider, &deps.metrics),
            settings,
            client,
            discovery: Arc::clone(discovery),
            http: Arc::clone(http),
            deps: deps.clone(),
            flights: Flights::new(),
        }
    }

    /// The proof of a token whose signature is good, if the provider says that it counts.
    ///
    /// # Errors
    ///
    /// What the provider says of it, or an outage.
    pub(in crate::providers) async fn confirm(
        &self,
        token: &str,
        proof: Authenticated,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let question = self.stale.as_ref().map(|stale| (stale, stale.asks()));
        let asking = self.ask(token, proof, now);
        let answer = self.flights.judge(token, now, asking).await;
        match question {
            Some((stale, question)) => stale.settle(question, ("", token), answer, now),
            None => answer,
        }
    }

    async fn ask(
        &self,
        token: &str,
        proof: Authenticated,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let endpoint = metadata.introspection_endpoint.as_ref();
        let endpoint = endpoint.ok_or(Outage::Malformed)?;
        let form = Form::default()
            .with("token", token)
            .with("token_type_hint", "access_token");
        let issuer = proof.identity().key.issuer.as_str();
        let entropy = &*self.deps.entropy;
        let call = self
            .client
            .post(Operation::Introspect, endpoint, form, issuer, now, entropy)?;
        self.http
            .call(&call.repeatable(), |answer| read(&answer, proof.identity()))
            .await?;
        let kept = proof.expires().min(now + self.settings.cache);
        Ok(proof.kept_until(kept))
    }
}

/// RFC 7662 §2.2. Only a JSON `true` or `false` is a judgement, and one of the token that was asked about.
pub(super) fn read(answer: &Answer, identity: &Identity) -> Result<(), ProviderError> {
    if answer.status != StatusCode::OK {
        return Err(Outage::Malformed.into());
    }
    let members: Map<String, Value> =
        serde_json::from_slice(&answer.body).or(Err(Outage::Malformed))?;
    match members.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(Refusal::Inactive.into()),
        _ => return Err(Outage::Malformed.into()),
    }
    let is = |name: &str, own: &str| match members.get(name) {
        None | Some(Value::Null) => true,
        Some(said) => said.as_str() == Some(own),
    };
    let same = is("iss", identity.key.issuer.as_str()) && is("sub", identity.key.subject.as_str());
    if same {
        Ok(())
    } else {
        Err(Outage::Malformed.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::identity::Credential;
    use crate::providers::Ability;
    use crate::providers::Provider;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::INTROSPECT;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::METADATA;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::judge;
    use crate::providers::fixture::ready;
    use crate::providers::settings::KindSettings;
    use crate::token::SigningKey;

    async fn asking(idp: &Idp, stale: Option<Duration>) -> Arc<dyn Provider> {
        let mut metadata = idp.metadata();
        metadata["introspection_endpoint"] = json!(idp.fake.url(INTROSPECT));
        idp.fake.always(METADATA, Reply::json(&metadata));
        let mut settings = idp.oidc();
        settings.client.breaker.min_requests = u32::MAX;
        let KindSettings::Oidc(oidc) = &mut settings.kind else {
            panic!("an OpenID provider")
        };
        let cache = Duration::from_secs(15);
        oidc.introspect = Some(Introspect { cache, stale });
        ready(&settings, &Deps::for_test()).await
    }

    fn says(idp: &Idp, answer: &Value) {
        idp.fake.always(INTROSPECT, Reply::json(answer));
    }

    fn token(idp: &Idp) -> Credential {
        idp.access_token(&idp.key, &json!({ "jti": "t1" }))
    }

    #[tokio::test]
    async fn a_signed_token_counts_for_as_long_as_its_provider_says_so() {
        let idp = Idp::start().await;
        says(
            &idp,
            &json!({ "active": true, "sub": "f81d", "iss": idp.issuer() }),
        );
        let provider = asking(&idp, None).await;
        assert!(provider.abilities().contains(&Ability::Introspect));
        let token = token(&idp);
        assert!(
            provider.judge_locally(&token, NOW).is_none(),
            "the signature alone is not enough"
        );
        let proof = judge(&*provider, &token, NOW).await.unwrap();
        assert_eq!(proof.expires(), NOW + Duration::from_secs(15));
        assert_eq!(proof.life_ends(), NOW + Duration::from_secs(300));
        let sent = idp.fake.seen(INTROSPECT).pop().unwrap();
        assert!(sent.body.starts_with("token="), "{}", sent.body);
        assert!(sent.headers.contains_key("authorization"));

        let soon = NOW + Duration::from_secs(295);
        let proof = judge(&*provider, &token, soon).await.unwrap();
        assert_eq!(proof.expires(), NOW + Duration::from_secs(300));

        says(&idp, &json!({ "active": false }));
        let refused = judge(&*provider, &token, soon).await.unwrap_err();
        assert_eq!(refused, Refusal::Inactive.into());
    }

    #[tokio::test]
    async fn a_token_that_is_bad_by_itself_is_not_asked_about() {
        let idp = Idp::start().await;
        says(&idp, &json!({ "active": true }));
        let provider = asking(&idp, None).await;
        let forged = idp.access_token(&SigningKey::generate().unwrap(), &json!({}));
        let refused = judge(&*provider, &forged, NOW).await.unwrap_err();
        assert_eq!(refused, Refusal::BadSignature.into());
        let good = token(&idp);
        let late = judge(&*provider, &good, NOW + Duration::from_secs(400)).await;
        assert_eq!(late.unwrap_err(), Refusal::Expired.into());
        assert!(idp.fake.seen(INTROSPECT).is_empty());
    }

    #[tokio::test]
    async fn an_answer_about_somebody_else_or_none_is_no_judgement() {
        let idp = Idp::start().await;
        let provider = asking(&idp, Some(Duration::from_secs(60))).await;
        // One token: each has a signature of its own.
        let token = token(&idp);
        says(&idp, &json!({ "active": true }));
        assert!(judge(&*provider, &token, NOW).await.is_ok());
        idp.fake.always(INTROSPECT, Reply::text(503, ""));
        let later = NOW + Duration::from_secs(20);
        assert!(judge(&*provider, &token, later).await.is_ok());
        let too_late = NOW + Duration::from_secs(75);
        let said = judge(&*provider, &token, too_late).await.unwrap_err();
        assert_eq!(said, Outage::Http5xx.into());
        says(&idp, &json!({ "active": true }));
        assert!(judge(&*provider, &token, NOW).await.is_ok());
        for answer in [
            json!({ "active": true, "sub": "another" }),
            json!({ "active": true, "iss": "https://elsewhere" }),
            json!({ "active": "true" }),
            json!({}),
        ] {
            says(&idp, &answer);
            let said = judge(&*provider, &token, NOW).await.unwrap_err();
            assert_eq!(said, Outage::Malformed.into(), "{answer}");
        }
        // What may have been a no in other words ends what was said before.
        idp.fake.always(INTROSPECT, Reply::text(503, ""));
        let said = judge(&*provider, &token, later).await.unwrap_err();
        assert_eq!(said, Outage::Http5xx.into());
    }
}
