//! An authorization server that is asked what its opaque tokens are worth (RFC 7662).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;

use crate::clock::UnixTime;
use crate::identity::ClaimMap;
use crate::identity::ClaimPath;
use crate::identity::Credential;
use crate::identity::Grounds;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::TokenId;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Deps;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::client::Answer;
use crate::providers::client::Call;
use crate::providers::client::Client;
use crate::providers::client::Endpoint;
use crate::providers::flight::Flights;
use crate::providers::health::Watch;
use crate::providers::oauth::ClientAuthenticator;
use crate::providers::oauth::Form;
use crate::providers::oauth::revoked;
use crate::providers::settings;
use crate::providers::settings::Settings;
use crate::providers::stale::Stale;
use crate::providers::vouch::Voucher;
use crate::telemetry::metrics::Operation;

/// The longest token that is sent on, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The longest `jti`, in bytes: it is remembered. As of a signed token.
const MAX_JTI: usize = 256;

/// Tolerated clock difference.
const LEEWAY: Duration = Duration::from_secs(30);

/// The latest moment a claim may name, in seconds: the greatest integer every JSON reader takes for the same number.
const MAX_SECONDS: u64 = (1 << 53) - 1;

/// A provider whose tokens only it can read.
#[derive(Debug)]
pub(super) struct IntrospectionProvider {
    id: ProviderId,
    owns: Owns,
    epoch: Epoch,
    asker: Arc<Asker>,
    flights: Flights,
    stale: Option<Stale>,
    /// Where a token is given back.
    revoke: Option<Endpoint>,
    _watch: Watch,
}

/// Asks, and reads answers.
#[derive(Debug)]
struct Asker {
    settings: settings::Introspection,
    /// Where the subject stands, if the operator maps it; else it is `sub`.
    subject: Option<ClaimPath>,
    endpoint: Endpoint,
    authenticator: ClientAuthenticator,
    http: Arc<Client>,
    voucher: Voucher,
    deps: Deps,
}

impl IntrospectionProvider {
    /// A provider for one introspection endpoint; nothing is asked yet.
    pub(super) fn new(
        settings: &Settings,
        introspection: &settings::Introspection,
        (endpoint, revoke): (Endpoint, Option<Endpoint>),
        authenticator: ClientAuthenticator,
        http: Arc<Client>,
        deps: &Deps,
    ) -> Self {
        let subject = settings
            .claims
            .iter()
            .find(|(name, _)| &**name == "subject");
        let asker = Arc::new(Asker {
            subject: subject.map(|(_, path)| path.clone()),
            settings: introspection.clone(),
            endpoint,
            authenticator,
            http: Arc::clone(&http),
            voucher: Voucher::new(settings, &introspection.issuer),
            deps: deps.clone(),
        });
        let asking = Arc::clone(&asker);
        // A token that nobody has: the answer is no, and it comes from a server that is well.
        let question = move || {
            let token = asking.deps.entropy.token();
            asking.question(Operation::Health, &token, asking.deps.clock.now())
        };
        Self {
            id: settings.id.clone(),
            owns: settings.owns.clone(),
            epoch: Epoch::default(),
            _watch: Watch::start(http, &deps.background, question),
            asker,
            flights: Flights::new(),
            stale: Stale::new(introspection.stale, &settings.id, &deps.metrics),
            revoke,
        }
    }
}

#[async_trait]
impl Provider for IntrospectionProvider {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let Credential::Opaque(token) = credential else {
            return Err(Refusal::Unsupported.into());
        };
        let token = token.expose();
        // What no server can have issued (RFC 6749 appendix A.12) is not worth a question.
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_empty() || MAX_TOKEN < token.len() || !printable {
            return Err(Refusal::BadCredentials.into());
        }
        let question = self.stale.as_ref().map(|stale| (stale, stale.asks()));
        let answer = self
            .flights
            .judge(token, now, self.asker.ask(token, now))
            .await;
        match question {
            Some((stale, question)) => stale.settle(question, ("", token), answer, now),
            None => answer,
        }
    }

    fn abilities(&self) -> &[Ability] {
        match self.revoke {
            Some(_) => &[Ability::Introspect, Ability::Revoke],
            None => &[Ability::Introspect],
        }
    }

    async fn end(&self, credential: &Credential) -> Result<(), ProviderError> {
        let Credential::Opaque(token) = credential else {
            return Err(Refusal::Unsupported.into());
        };
        if let Some(stale) = &self.stale {
            stale.end("", token.expose());
        }
        let endpoint = self.revoke.as_ref().ok_or(Refusal::Unsupported)?;
        let call = self.asker.form(
            (Operation::Revoke, endpoint),
            token.expose(),
            self.asker.deps.clock.now(),
        )?;
        self.asker
            .http
            .call(&call.repeatable(), |answer| revoked(&answer))
            .await
    }

    fn health(&self) -> Health {
        let down_since = self.asker.http.down_since();
        Health {
            usable: down_since.is_none(),
            down_since,
            problem: down_since.map(|_| "the introspection endpoint does not answer".to_owned()),
        }
    }
}

impl Asker {
    async fn ask(&self, token: &str, now: UnixTime) -> Result<Authenticated, ProviderError> {
        let call = self.question(Operation::Introspect, token, now)?;
        self.http
            .call(&call, |answer| self.read(&answer, token, now))
            .await
    }

    /// RFC 7662 §2.1. Asking twice does no harm.
    fn question(
        &self,
        operation: Operation,
        token: &str,
        now: UnixTime,
    ) -> Result<Call, ProviderError> {
        Ok(self
            .form((operation, &self.endpoint), token, now)?
            .repeatable())
    }

    /// What is asked about a token, or of it.
    fn form(
        &self,
        (operation, endpoint): (Operation, &Endpoint),
        token: &str,
        now: UnixTime,
    ) -> Result<Call, ProviderError> {
        let form = Form::default()
            .with("token", token)
            .with("token_type_hint", "access_token");
        // The issuer may be a name of ours; then the endpoint names the server.
        let issuer = self.settings.issuer.as_str();
        let audience = if Endpoint::parse(issuer).is_ok() {
            issuer
        } else {
            &self.settings.url
        };
        let entropy = &*self.deps.entropy;
        self.authenticator
            .post(operation, endpoint, form, audience, now, entropy)
    }

    /// RFC 7662 §2.2. Only a JSON `true` or `false` is a judgement; everything else is none.
    fn read(
        &self,
        answer: &Answer,
        token: &str,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
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
        let claims = ClaimMap::new(members);
        self.check(&claims, now)?;
        let expires = moment(&claims, "exp")?.unwrap_or(UnixTime::NEVER);
        let subject = self.subject(&claims)?;
        let kept = expires.min(now + self.settings.cache);
        let by_ours = |issued| self.http.ahead().at_the_earliest(issued, LEEWAY, now);
        let grounds = Grounds {
            began: moment(&claims, "iat").ok().flatten().map(by_ours),
            token: Some(token_id(token, &claims)),
            sid: claims.text("sid").map(Box::from),
            kid: None,
            signer: None,
        };
        let vouched = self.voucher.vouch(&subject, &claims, kept)?;
        let vouched = vouched.with_leeway(LEEWAY).of_credential_until(expires);
        Ok(vouched.on(grounds))
    }

    /// What an active token must be besides.
    fn check(&self, claims: &ClaimMap, now: UnixTime) -> Result<(), ProviderError> {
        if moment(claims, "exp")?.is_some_and(|exp| exp + LEEWAY <= now)
            || moment(claims, "nbf")?.is_some_and(|nbf| now + LEEWAY < nbf)
        {
            return Err(Refusal::Expired.into());
        }
        match claims.member("iss") {
            None | Some(Value::Null) => {}
            Some(Value::String(iss)) if iss == self.settings.issuer.as_str() => {}
            Some(Value::String(_)) => return Err(Refusal::WrongIssuer.into()),
            Some(_) => return Err(Outage::Malformed.into()),
        }
        let meant = claims.list("aud").or(Err(Outage::Malformed))?;
        let ours = &self.settings.audiences;
        if !ours.is_empty()
            && !meant
                .iter()
                .any(|aud| ours.iter().any(|own| **own == **aud))
        {
            return Err(Refusal::WrongAudience.into());
        }
        // By another name a revocation would not find it.
        let named = claims.text("jti");
        if !is_access_token(claims) || named.is_some_and(|jti| MAX_JTI < jti.len()) {
            return Err(Refusal::BadCredentials.into());
        }
        Ok(())
    }

    /// A token of a client that acts for nobody names no subject; such a token admits nobody.
    fn subject(&self, claims: &ClaimMap) -> Result<String, ProviderError> {
        let subject = match &self.subject {
            Some(path) => path.find(claims),
            None => claims.member("sub").cloned(),
        };
        match subject {
            Some(Value::String(text)) => Ok(text),
            // Old systems number their people; a whole number is as good a name as a text.
            Some(Value::Number(number)) if number.is_u64() => Ok(number.to_string()),
            None | Some(Value::Null) => Err(Refusal::Unsupported.into()),
            Some(_) => Err(Outage::Malformed.into()),
        }
    }
}

/// By its own name where the server tells it, else by what it is.
fn token_id(token: &str, claims: &ClaimMap) -> TokenId {
    match claims.text("jti") {
        Some(jti) if !jti.is_empty() => TokenId::Named(jti.into()),
        Some(_) | None => {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
            TokenId::Digest(hash)
        }
    }
}

/// Servers introspect refresh tokens and ID tokens too, and call them active. Where an answer says which kind it is, it
/// must be the right one.
fn is_access_token(claims: &ClaimMap) -> bool {
    let says = |name: &str, good: &[&str]| match claims.text(name) {
        None => true,
        Some(said) => good.iter().any(|word| said.eq_ignore_ascii_case(word)),
    };
    // One that says to be bound, and not to what, would be anybody's (RFC 9449 §6.2).
    let kind = claims.text("token_type").unwrap_or_default();
    let bound = claims.member("cnf").and_then(|cnf| cnf.get("jkt"));
    if kind.eq_ignore_ascii_case("dpop") && bound.is_none() {
        return false;
    }
    says("token_type", &["bearer", "access_token", "dpop"])
        && says("token_use", &["access", "access_token"])
        && !["refresh", "offline", "id"].iter().any(|kind| {
            claims
                .text("typ")
                .is_some_and(|typ| typ.eq_ignore_ascii_case(kind))
        })
}

/// A `NumericDate` (RFC 7519 §2), rounded down.
fn moment(claims: &ClaimMap, name: &str) -> Result<Option<UnixTime>, Outage> {
    let Some(value) = claims.member(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let whole = value.as_u64().or_else(|| {
        let seconds = value.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked"
        )]
        (0.0..=9_007_199_254_740_991.0)
            .contains(&seconds)
            .then_some(seconds as u64)
    });
    match whole.filter(|seconds| *seconds <= MAX_SECONDS) {
        Some(seconds) => Ok(Some(UnixTime::from_secs(seconds))),
        None => Err(Outage::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::sync::Notify;

    use super::*;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::INTROSPECT;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::built;
    use crate::providers::fixture::until;
    use crate::providers::settings::KindSettings;
    use crate::secret::Secret;

    fn opaque(token: &str) -> Credential {
        Credential::Opaque(Secret::new(token.to_owned()))
    }

    /// A good answer, changed by `change`.
    fn active(idp: &Idp, change: &Value) -> Reply {
        let mut answer = json!({
            "active": true, "sub": "1001", "mail": "alice@corp.example", "aud": ["other", "crm"], "client_id": "batch",
            "scope": "read", "iss": idp.issuer(), "exp": NOW.as_secs() + 300, "token_type": "Bearer",
        });
        for (name, value) in change.as_object().unwrap() {
            answer[name] = value.clone();
        }
        answer
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        Reply::json(&answer)
    }

    async fn ask(
        provider: &Arc<dyn Provider>,
        token: &str,
    ) -> Result<Authenticated, ProviderError> {
        provider.authenticate(&opaque(token), NOW).await
    }

    #[tokio::test]
    async fn an_active_token_is_an_identity_for_a_while() {
        let idp = Idp::start().await;
        idp.fake.always(INTROSPECT, active(&idp, &json!({})));
        let provider = built(&idp.introspection(), &Deps::for_test());
        let verdict = ask(&provider, "a+b&c").await.unwrap();
        let identity = verdict.identity();
        assert_eq!(identity.key.subject.as_str(), "1001");
        assert_eq!(
            identity.attributes.text("email"),
            Some("alice@corp.example")
        );
        assert_eq!(identity.client_id.as_deref(), Some("batch"));
        assert_eq!(verdict.expires(), NOW + Duration::from_secs(30));
        let sent = idp.fake.seen(INTROSPECT).pop().unwrap();
        assert_eq!(sent.body, "token=a%2Bb%26c&token_type_hint=access_token");
        assert!(sent.headers.contains_key("authorization"));

        let soon = json!({ "exp": NOW.as_secs() + 10 });
        idp.fake.always(INTROSPECT, active(&idp, &soon));
        let verdict = ask(&provider, "b").await.unwrap();
        assert_eq!(verdict.expires(), NOW + Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_token_that_is_given_back_is_over_there_and_counts_no_longer_here() {
        let idp = Idp::start().await;
        idp.fake.always(INTROSPECT, active(&idp, &json!({})));
        idp.fake.always("/revoke", Reply::text(200, ""));
        let mut settings = idp.introspection();
        settings.client.breaker.min_requests = u32::MAX;
        let KindSettings::Introspection(introspection) = &mut settings.kind else {
            panic!("introspection")
        };
        introspection.stale = Some(Duration::from_secs(60));
        introspection.revoke = Some(idp.fake.url("/revoke"));
        let provider = built(&settings, &Deps::for_test());
        assert!(provider.abilities().contains(&Ability::Revoke));
        for token in ["a", "b"] {
            ask(&provider, token).await.unwrap();
        }
        idp.fake.always(INTROSPECT, Reply::Cut);
        assert!(ask(&provider, "a").await.is_ok(), "the server is away");
        provider.end(&opaque("a")).await.unwrap();
        let sent = idp.fake.seen("/revoke").pop().unwrap();
        assert_eq!(sent.body, "token=a&token_type_hint=access_token");
        assert!(sent.headers.contains_key("authorization"));
        assert_eq!(
            ask(&provider, "a").await.unwrap_err(),
            Outage::Connect.into()
        );
        assert!(ask(&provider, "b").await.is_ok(), "nobody ended that one");

        let said_no = Reply::json(&json!({ "active": false }));
        idp.fake.next(INTROSPECT, said_no);
        assert_eq!(
            ask(&provider, "b").await.unwrap_err(),
            Refusal::Inactive.into()
        );
        idp.fake.always("/revoke", Reply::text(503, ""));
        let away = provider.end(&opaque("b")).await.unwrap_err();
        assert_eq!(away, Outage::Http5xx.into());
    }

    #[tokio::test]
    async fn every_answer_is_yes_no_or_none() {
        let idp = Idp::start().await;
        let mut settings = idp.introspection();
        settings.client.breaker.min_requests = u32::MAX;
        let provider = built(&settings, &Deps::for_test());
        let (no, none) = (ProviderError::from, ProviderError::from(Outage::Malformed));
        let now = NOW.as_secs();
        let answers = [
            (json!({ "active": false }), no(Refusal::Inactive)),
            (json!({ "active": null }), none.clone()),
            (json!({ "active": "true" }), none.clone()),
            (json!({ "active": 1 }), none.clone()),
            (json!({ "exp": now - 30 }), no(Refusal::Expired)),
            (json!({ "exp": "soon" }), none.clone()),
            (json!({ "exp": -1 }), none.clone()),
            (json!({ "nbf": now + 31 }), no(Refusal::Expired)),
            (
                json!({ "iss": "https://elsewhere" }),
                no(Refusal::WrongIssuer),
            ),
            (json!({ "iss": [idp.issuer()] }), none.clone()),
            (json!({ "aud": "other" }), no(Refusal::WrongAudience)),
            (json!({ "aud": null }), no(Refusal::WrongAudience)),
            (json!({ "aud": { "crm": true } }), none.clone()),
            (json!({ "sub": null }), no(Refusal::Unsupported)),
            (json!({ "sub": ["1001"] }), none.clone()),
            (json!({ "sub": "" }), no(Refusal::BadCredentials)),
            (
                json!({ "token_type": "refresh_token" }),
                no(Refusal::BadCredentials),
            ),
            (
                json!({ "token_use": "refresh_token" }),
                no(Refusal::BadCredentials),
            ),
            (json!({ "typ": "Refresh" }), no(Refusal::BadCredentials)),
            (json!({ "cnf": { "jkt": "x" } }), no(Refusal::PopFailed)),
            (json!({ "token_type": "DPoP" }), no(Refusal::BadCredentials)),
            (
                json!({ "token_type": "DPoP", "cnf": { "x5t#S256": "x" } }),
                no(Refusal::BadCredentials),
            ),
            (
                json!({ "jti": "j".repeat(257) }),
                no(Refusal::BadCredentials),
            ),
        ];
        for (index, (change, expected)) in answers.into_iter().enumerate() {
            idp.fake.always(INTROSPECT, active(&idp, &change));
            let verdict = ask(&provider, &format!("t{index}")).await;
            assert_eq!(verdict.unwrap_err(), expected, "{change}");
        }
        for (index, reply) in [
            Reply::text(200, ""),
            Reply::text(200, "[]"),
            Reply::text(204, ""),
            Reply::text(302, ""),
            Reply::text(401, r#"{"error":"invalid_client"}"#),
            Reply::text(400, r#"{"error":"unsupported_token_type"}"#),
            Reply::text(400, r#"{"active":false}"#),
        ]
        .into_iter()
        .enumerate()
        {
            idp.fake.always(INTROSPECT, reply.clone());
            let verdict = ask(&provider, &format!("u{index}")).await;
            assert_eq!(verdict.unwrap_err(), none, "{reply:?}");
        }
    }

    #[tokio::test]
    async fn the_operator_may_say_where_the_subject_stands() {
        let idp = Idp::start().await;
        let change = json!({ "sub": "other", "username": "alice" });
        idp.fake.always(INTROSPECT, active(&idp, &change));
        let mut settings = idp.introspection();
        let path = ClaimPath::parse("username").unwrap();
        settings.claims = vec![("subject".into(), path)];
        let provider = built(&settings, &Deps::for_test());
        let verdict = ask(&provider, "t").await.unwrap();
        assert_eq!(verdict.identity().key.subject.as_str(), "alice");
        idp.fake
            .always(INTROSPECT, active(&idp, &json!({ "sub": "other" })));
        let refused = ask(&provider, "u").await.unwrap_err();
        assert_eq!(
            refused,
            Refusal::Unsupported.into(),
            "no other claim stands in"
        );
    }

    #[tokio::test]
    async fn many_who_present_one_token_ask_once() {
        let idp = Idp::start().await;
        let go = Arc::new(Notify::new());
        let held = Reply::Held(Arc::clone(&go), Box::new(active(&idp, &json!({}))));
        idp.fake.always(INTROSPECT, held);
        let provider = built(&idp.introspection(), &Deps::for_test());
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let provider = Arc::clone(&provider);
            all.spawn(async move { ask(&provider, "t").await });
        }
        until(|| !idp.fake.seen(INTROSPECT).is_empty()).await;
        go.notify_one();
        assert!(all.join_all().await.iter().all(Result::is_ok));
        assert_eq!(idp.fake.seen(INTROSPECT).len(), 1);
    }

    #[tokio::test]
    async fn the_one_who_asked_may_leave_and_the_others_still_get_an_answer() {
        let idp = Idp::start().await;
        idp.fake.next(INTROSPECT, Reply::Hang);
        idp.fake.always(INTROSPECT, active(&idp, &json!({})));
        let provider = built(&idp.introspection(), &Deps::for_test());
        let start = || {
            let provider = Arc::clone(&provider);
            tokio::spawn(async move { ask(&provider, "t").await })
        };
        let first = start();
        until(|| !idp.fake.seen(INTROSPECT).is_empty()).await;
        let second = start();
        tokio::task::yield_now().await;
        first.abort();
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_no_is_remembered_for_a_moment_and_an_outage_never() {
        let idp = Idp::start().await;
        let provider = built(&idp.introspection(), &Deps::for_test());
        idp.fake
            .always(INTROSPECT, Reply::json(&json!({ "active": false })));
        for _ in 0..3 {
            ask(&provider, "bad").await.unwrap_err();
        }
        assert_eq!(idp.fake.seen(INTROSPECT).len(), 1);
        let later = NOW + Duration::from_secs(5);
        provider
            .authenticate(&opaque("bad"), later)
            .await
            .unwrap_err();
        assert_eq!(idp.fake.seen(INTROSPECT).len(), 2);
        idp.fake.next(INTROSPECT, Reply::text(500, ""));
        idp.fake.always(INTROSPECT, active(&idp, &json!({})));
        assert_eq!(
            ask(&provider, "t").await.unwrap_err(),
            Outage::Http5xx.into()
        );
        assert!(ask(&provider, "t").await.is_ok());
    }

    #[tokio::test]
    async fn what_no_server_can_have_issued_is_not_sent() {
        let idp = Idp::start().await;
        let provider = built(&idp.introspection(), &Deps::for_test());
        for token in ["", "a b", "a\u{0}", "ä", &"x".repeat(MAX_TOKEN + 1)] {
            let refused = ask(&provider, token).await.unwrap_err();
            assert_eq!(refused, Refusal::BadCredentials.into());
        }
        assert!(idp.fake.seen(INTROSPECT).is_empty());
    }

    proptest! {
        /// Whatever stands there, reading it ends, and only a number can be a moment.
        #[test]
        fn a_moment_is_a_number_or_none(text in ".{0,20}", number in any::<f64>()) {
            let claims = |value: Value| ClaimMap::new(Map::from_iter([("exp".to_owned(), value)]));
            prop_assert_eq!(moment(&claims(Value::from(text)), "exp"), Err(Outage::Malformed));
            match moment(&claims(Value::from(number)), "exp") {
                Ok(Some(at)) => prop_assert!(0.0 <= number && at.as_secs() <= MAX_SECONDS),
                Ok(None) => prop_assert!(!number.is_finite()),
                Err(_) => prop_assert!(!(0.0..=9_007_199_254_740_991.0).contains(&number)),
            }
        }
    }
}
