//! An OpenID provider: its access tokens as bearer credentials, and browser logins.

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::KeyPrint;
use crate::identity::ProviderId;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Deps;
use crate::providers::Directory;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Login;
use crate::providers::Owns;
use crate::providers::Passwords;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Provisioning;
use crate::providers::bearer::SignedTokens;
use crate::providers::bearer::bearer;
use crate::providers::client::Client;
use crate::providers::health::Watch;
use crate::providers::oauth::ClientAuthenticator;
use crate::providers::oauth::Discovery;
use crate::providers::oauth::Introspector;
use crate::providers::oauth::OidcLogin;
use crate::providers::oauth::TokenClient;
use crate::providers::settings;
use crate::providers::settings::Assurance;
use crate::providers::settings::OAuthClient;
use crate::token::Unverified;

/// An OpenID provider.
#[derive(Debug)]
pub(super) struct OidcProvider {
    /// Its name.
    pub(super) id: ProviderId,
    /// Which credentials are its own.
    pub(super) owns: Owns,
    /// What its verdicts rest on.
    pub(super) epoch: Epoch,
    /// What its classes of assurance are called.
    pub(super) assurance: Assurance,
    /// How its tokens are judged.
    pub(super) tokens: Arc<SignedTokens>,
    /// Where its endpoints are.
    pub(super) discovery: Arc<Discovery>,
    /// Browser login, where we are registered there.
    pub(super) login: Option<OidcLogin>,
    /// The same over the connections of its directory, where passwords come to it: for second opinions.
    pub(super) second: Option<OidcLogin>,
    /// Who asks it about access tokens, where they are asked about.
    pub(super) introspector: Option<Introspector>,
    /// What it can do beside judging.
    pub(super) abilities: Vec<Ability>,
    /// Whether tokens are given back there.
    pub(super) revokes: bool,
    /// Its directory, where we may look into it.
    pub(super) directory: Option<Arc<dyn Directory>>,
    /// How people come to it from elsewhere, where they do.
    pub(super) provisioning: Option<Arc<dyn Provisioning>>,
    /// Our registration there.
    pub(super) client: Option<OAuthClient>,
    /// What token clients need.
    pub(super) deps: Deps,
    /// How it is asked.
    pub(super) http: Arc<Client>,
    /// Looks after it while the breaker is open.
    pub(super) _watch: Watch,
    /// For the age of its keys.
    pub(super) clock: Arc<dyn Clock>,
}

impl OidcProvider {
    /// What the keys alone say. Where the provider is asked as well, a good signature is not yet a judgement.
    fn unless_asked(
        &self,
        judged: Option<Result<Authenticated, ProviderError>>,
    ) -> Option<Result<Authenticated, ProviderError>> {
        match (&self.introspector, judged) {
            (Some(_), Some(Ok(_))) => None,
            (Some(_) | None, judged) => judged,
        }
    }
}

#[async_trait]
impl Provider for OidcProvider {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn has_refused(&self, issuer: &str, token: &str, now: UnixTime) -> bool {
        self.tokens.has_refused(issuer, token, now)
    }

    fn judge_read(
        &self,
        token: Unverified<'_>,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        self.unless_asked(self.tokens.judge_read(token, now))
    }

    fn judge_locally(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        self.unless_asked(self.tokens.judge_locally(credential, now))
    }

    fn look_for_keys(&self) {
        self.tokens.look_for_keys();
    }

    fn has_key(&self, key: &KeyPrint, now: UnixTime) -> Option<Result<UnixTime, ProviderError>> {
        self.tokens.has_key(key, now)
    }

    async fn look_for_key(&self, key: &KeyPrint, now: UnixTime) -> Result<UnixTime, ProviderError> {
        self.tokens.look_for_key(key, now).await
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let proof = self.tokens.judge(credential, now).await?;
        match &self.introspector {
            Some(introspector) => introspector.confirm(bearer(credential)?, proof, now).await,
            None => Ok(proof),
        }
    }

    fn login(&self) -> Option<&dyn Login> {
        self.login.as_ref().map(|login| login as &dyn Login)
    }

    fn abilities(&self) -> &[Ability] {
        // As long as its metadata are not known, it may have the endpoint: whoever asks is told of an outage then.
        let metadata = self.discovery.current();
        match self.abilities.as_slice() {
            [others @ .., Ability::Revoke]
                if metadata.is_some_and(|known| known.revocation_endpoint.is_none()) =>
            {
                others
            }
            all => all,
        }
    }

    fn directory(&self) -> Option<&dyn Directory> {
        self.directory.as_deref()
    }

    fn provisioning(&self) -> Option<&dyn Provisioning> {
        self.provisioning.as_deref()
    }

    fn passwords(&self) -> Option<&dyn Passwords> {
        // Only where people come with their passwords: nobody else's are sent there.
        self.provisioning.as_ref()?;
        self.login.as_ref().map(|login| login as &dyn Passwords)
    }

    fn password_judge(&self) -> Option<&dyn Passwords> {
        self.login.as_ref().map(|login| login as &dyn Passwords)
    }

    fn second_passwords(&self) -> Option<&dyn Passwords> {
        self.provisioning.as_ref()?;
        self.second.as_ref().map(|login| login as &dyn Passwords)
    }

    fn token_client(
        &self,
        registration: Option<&OAuthClient>,
    ) -> Option<Result<TokenClient, String>> {
        let registration = registration.or(self.client.as_ref());
        let client = match registration {
            Some(registration) => ClientAuthenticator::new(registration, &self.deps.metrics),
            None => Err(format!("provider `{}` has no `client`", self.id)),
        };
        Some(client.map(|client| TokenClient {
            client,
            discovery: Arc::clone(&self.discovery),
            tokens: Arc::clone(&self.tokens),
            http: Arc::clone(&self.http),
            deps: self.deps.clone(),
            revokes: self.revokes,
        }))
    }

    fn acr_values(&self, class: &str) -> Vec<Box<str>> {
        self.assurance.words(class)
    }

    fn health(&self) -> Health {
        let now = self.clock.now();
        let unknown = self.discovery.problem();
        Health {
            usable: unknown.is_none() && self.tokens.usable(now),
            down_since: self.http.down_since(),
            problem: unknown.or_else(|| self.tokens.problem(now)),
        }
    }

    fn file_is_good(&self) -> Option<bool> {
        self.tokens.file_is_good()
    }
}

/// Without a registration of ours there is nobody to sign in for; an exchange may have one of its own.
pub(super) fn oidc_abilities(oidc: &settings::Oidc) -> Vec<Ability> {
    let known = oidc.client.is_some();
    let all = [
        (known, Ability::Login),
        (known && oidc.refreshes, Ability::Refresh),
        (known && oidc.introspect.is_some(), Ability::Introspect),
        (true, Ability::Exchange),
        (known, Ability::Logout),
        (oidc.directory.is_some(), Ability::Directory),
        (
            known && oidc.directory.is_some() && oidc.provisioning.is_some(),
            Ability::Provision,
        ),
        // Last: it goes where the metadata have no endpoint for it.
        (known && oidc.revokes, Ability::Revoke),
    ];
    let has = all.into_iter().filter(|(has, _)| *has);
    has.map(|(_, ability)| ability).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::identity::Outage;
    use crate::identity::Refusal;
    use crate::providers::Deps;
    use crate::providers::LoggedIn;
    use crate::providers::LoginAnswer;
    use crate::providers::LoginStart;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::METADATA;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::TOKEN;
    use crate::providers::fixture::built;
    use crate::providers::fixture::judge;
    use crate::providers::fixture::pass;
    use crate::providers::fixture::ready;
    use crate::providers::fixture::until;
    use crate::providers::settings::ClientAuth;
    use crate::providers::settings::KindSettings;
    use crate::providers::settings::Settings;
    use crate::secret::Secret;
    use crate::token::SigningKey;

    const CALLBACK: &str = "https://app.example/.authferry/cb/modern";

    /// RFC 7636 appendix B.
    fn verifier() -> Secret<String> {
        Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned())
    }

    async fn finish(
        provider: &Arc<dyn Provider>,
        iss: Option<&str>,
    ) -> Result<LoggedIn, ProviderError> {
        let answer = LoginAnswer {
            code: "the code",
            iss,
            redirect_uri: CALLBACK,
            nonce: "the nonce",
            verifier: &verifier(),
        };
        provider.login().unwrap().finish(answer, NOW).await
    }

    fn tokens(id_token: &str) -> Reply {
        Reply::json(&json!({
            "token_type": "Bearer", "access_token": "a", "refresh_token": "r", "id_token": id_token,
        }))
    }

    fn with(idp: &Idp, change: impl FnOnce(&mut settings::Oidc)) -> Settings {
        let mut settings = idp.oidc();
        let KindSettings::Oidc(oidc) = &mut settings.kind else {
            panic!("an OpenID provider")
        };
        change(oidc);
        settings
    }

    #[tokio::test]
    async fn a_login_begins_with_everything_that_binds_it() {
        let idp = Idp::start().await;
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        let start = LoginStart {
            redirect_uri: CALLBACK,
            state: "st&te",
            nonce: "the nonce",
            verifier: &verifier(),
            step_up: None,
            login_hint: None,
            prompt: crate::providers::Prompt::AsNeeded,
        };
        let login = provider.login().unwrap();
        assert_eq!(login.client_id(), "authferry");
        assert_eq!(login.redirect_path(), "/.authferry/cb/modern");
        let address = login.start(start).await.unwrap();
        let expected = format!(
            "{}&response_type=code&client_id=authferry\
             &redirect_uri=https%3A%2F%2Fapp.example%2F.authferry%2Fcb%2Fmodern&scope=openid%20profile&state=st%26te\
             &nonce=the%20nonce&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
            idp.fake.url("/authorize?tenant=x")
        );
        assert_eq!(address, expected);
        let start = LoginStart {
            redirect_uri: CALLBACK,
            state: "s",
            nonce: "n",
            verifier: &verifier(),
            step_up: None,
            login_hint: Some("a&b@corp.example"),
            prompt: crate::providers::Prompt::AsNeeded,
        };
        let address = login.start(start).await.unwrap();
        assert!(
            address.ends_with("&login_hint=a%26b%40corp.example"),
            "{address}"
        );
    }

    #[tokio::test]
    async fn parameters_of_a_login_are_pushed_where_that_is_required_or_asked_for() {
        use crate::providers::settings::Par;
        for (par, required, pushed) in [
            (Par::Required, true, true),
            (Par::Required, false, false),
            (Par::Offered, false, true),
            (Par::Never, true, false),
        ] {
            let idp = Idp::start().await;
            let mut metadata = idp.metadata();
            metadata["pushed_authorization_request_endpoint"] = json!(idp.fake.url("/par"));
            metadata["require_pushed_authorization_requests"] = json!(required);
            idp.fake.always(METADATA, Reply::json(&metadata));
            let name =
                json!({ "request_uri": "urn:ietf:params:oauth:request_uri:a&b", "expires_in": 60 });
            idp.fake.always("/par", Reply::text(201, &name.to_string()));
            let provider = ready(&with(&idp, |oidc| oidc.par = par), &Deps::for_test()).await;
            let verifier = verifier();
            let begin = || LoginStart {
                redirect_uri: CALLBACK,
                state: "s",
                nonce: "n",
                verifier: &verifier,
                step_up: None,
                login_hint: None,
                prompt: crate::providers::Prompt::AsNeeded,
            };
            let login = provider.login().unwrap();
            let address = login.start(begin()).await.unwrap();
            let seen = idp.fake.seen("/par");
            assert_eq!(seen.len(), usize::from(pushed));
            let Some(sent) = seen.first() else {
                assert!(address.contains("&code_challenge="), "{address}");
                continue;
            };
            let expected = "&client_id=authferry&request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aa%26b";
            assert_eq!(address, idp.fake.url("/authorize?tenant=x") + expected);
            for part in [
                "response_type=code",
                "state=s",
                "nonce=n",
                "code_challenge=",
            ] {
                assert!(sent.body.contains(part), "{part}: {}", sent.body);
            }
            assert_eq!(sent.body.matches("client_id=").count(), 1, "{}", sent.body);
            // What is not taken is no login, and not one with parameters that anybody can read.
            idp.fake
                .always("/par", Reply::text(400, r#"{"error":"invalid_client"}"#));
            let refused = login.start(begin()).await.unwrap_err();
            assert_eq!(refused, Outage::Malformed.into());
        }
    }

    #[tokio::test]
    async fn a_login_ends_with_an_identity() {
        let idp = Idp::start().await;
        idp.fake.always(TOKEN, tokens(&idp.id_token(&json!({}))));
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        let done = finish(&provider, Some(&idp.issuer())).await.unwrap();
        let identity = done.authenticated.identity();
        assert_eq!(identity.key.subject.as_str(), "f81d");
        assert_eq!(
            identity.attributes.text("email"),
            Some("alice@corp.example")
        );
        assert_eq!(done.sid.as_deref(), Some("s-1"));
        assert_eq!(done.refresh_token.unwrap().expose(), "r");
        let sent = idp.fake.seen(TOKEN).pop().unwrap();
        assert_eq!(sent.method, "POST");
        assert_eq!(
            sent.body,
            "grant_type=authorization_code&code=the%20code\
             &redirect_uri=https%3A%2F%2Fapp.example%2F.authferry%2Fcb%2Fmodern\
             &code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
        let credentials = STANDARD.encode("authferry:the%20secret");
        assert_eq!(
            sent.headers["authorization"],
            format!("Basic {credentials}")
        );
        let logout = provider
            .login()
            .unwrap()
            .logout_url(&done.id_token.unwrap(), "https://app.example/");
        let logout = logout.unwrap();
        assert!(logout.starts_with(&idp.fake.url("/logout?id_token_hint=")));
        assert!(logout.ends_with(
            "&client_id=authferry&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2F"
        ));
    }

    #[tokio::test]
    async fn tokens_are_taken_back_where_the_metadata_say_so() {
        let idp = Idp::start().await;
        let revokes = |provider: &dyn Provider| provider.abilities().contains(&Ability::Revoke);
        let without = ready(&idp.oidc(), &Deps::for_test()).await;
        assert!(!revokes(&*without));
        let mut metadata = idp.metadata();
        metadata["revocation_endpoint"] = json!(idp.fake.url("/revoke"));
        idp.fake.always(METADATA, Reply::json(&metadata));
        assert!(revokes(&*ready(&idp.oidc(), &Deps::for_test()).await));
        idp.fake.always(METADATA, Reply::Hang);
        let unknown = built(&idp.oidc(), &Deps::for_test());
        assert!(revokes(&*unknown), "it may");
    }

    #[tokio::test]
    async fn an_id_token_is_kept_where_sessions_end_with_it_alone() {
        let idp = Idp::start().await;
        idp.fake.always(TOKEN, tokens(&idp.id_token(&json!({}))));
        for ends in [true, false] {
            let mut metadata = idp.metadata();
            if !ends {
                metadata["end_session_endpoint"].take();
            }
            idp.fake.always(METADATA, Reply::json(&metadata));
            let provider = ready(&idp.oidc(), &Deps::for_test()).await;
            let done = finish(&provider, Some(&idp.issuer())).await.unwrap();
            assert_eq!(done.id_token.is_some(), ends);
            let used = Secret::new(String::from("r"));
            let login = provider.login().unwrap();
            let refreshed = login.refresh(&used, NOW).await.unwrap();
            assert!(
                refreshed.authenticated.is_some(),
                "it is judged all the same"
            );
            assert_eq!(refreshed.id_token.is_some(), ends);
            let url = login.logout_url(&used, "https://app.example/");
            assert_eq!(url.is_some(), ends);
        }
    }

    #[tokio::test]
    async fn what_is_switched_off_is_not_done() {
        let idp = Idp::start().await;
        let mut metadata = idp.metadata();
        metadata["revocation_endpoint"] = json!(idp.fake.url("/revoke"));
        idp.fake.always(METADATA, Reply::json(&metadata));
        idp.fake.always("/revoke", Reply::text(200, ""));
        idp.fake.always(TOKEN, tokens(&idp.id_token(&json!({}))));
        let token = Secret::new(String::from("r"));
        let on = ready(&idp.oidc(), &Deps::for_test()).await;
        on.login().unwrap().revoke(&token, NOW).await.unwrap();
        assert_eq!(idp.fake.seen("/revoke").len(), 1);
        let off = with(&idp, |oidc| {
            oidc.refreshes = false;
            oidc.revokes = false;
        });
        let off = ready(&off, &Deps::for_test()).await;
        let abilities = off.abilities();
        assert!(!abilities.contains(&Ability::Refresh) && !abilities.contains(&Ability::Revoke));
        let done = finish(&off, Some(&idp.issuer())).await.unwrap();
        assert!(done.refresh_token.is_none(), "nobody would use it");
        let unsupported = ProviderError::from(Refusal::Unsupported);
        let said = off.login().unwrap().revoke(&token, NOW).await;
        assert_eq!(said.unwrap_err(), unsupported);
        let client = off.token_client(None).unwrap().unwrap();
        let said = client.revoke(&token, "refresh_token", NOW).await;
        assert_eq!(said.unwrap_err(), unsupported);
        assert_eq!(idp.fake.seen("/revoke").len(), 1);
    }

    #[tokio::test]
    async fn a_refresh_token_that_must_rotate_is_never_good_twice() {
        let idp = Idp::start().await;
        let strict = ready(&with(&idp, |oidc| oidc.rotates = true), &Deps::for_test()).await;
        let lax = ready(&idp.oidc(), &Deps::for_test()).await;
        let used = Secret::new(String::from("r"));
        let refreshed = async |provider: &Arc<dyn Provider>, answer: Value| {
            idp.fake.next(TOKEN, Reply::json(&answer));
            provider.login().unwrap().refresh(&used, NOW).await
        };
        for (answer, good) in [
            (json!({ "access_token": "a", "refresh_token": "r2" }), true),
            (json!({ "access_token": "a", "refresh_token": "r" }), false),
            (json!({ "access_token": "a" }), false),
        ] {
            let said = refreshed(&strict, answer.clone()).await;
            match said {
                Ok(new) => assert!(good && new.refresh_token.is_some(), "{answer}"),
                Err(error) => {
                    assert!(!good, "{answer}");
                    assert_eq!(error, Refusal::Policy.into());
                }
            }
            assert!(refreshed(&lax, answer).await.is_ok());
        }
    }

    #[tokio::test]
    async fn an_answer_of_another_issuer_redeems_no_code() {
        let idp = Idp::start().await;
        idp.fake.always(TOKEN, tokens(&idp.id_token(&json!({}))));
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        for iss in [Some("https://elsewhere"), Some(""), None] {
            let refused = finish(&provider, iss).await.unwrap_err();
            assert_eq!(refused, Refusal::WrongIssuer.into(), "{iss:?}");
        }
        assert!(idp.fake.seen(TOKEN).is_empty());

        let mut silent = idp.metadata();
        silent["authorization_response_iss_parameter_supported"] = Value::Null;
        idp.fake.always(METADATA, Reply::json(&silent));
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        assert!(finish(&provider, None).await.is_ok(), "it is not announced");
        let other = finish(&provider, Some("https://elsewhere")).await;
        assert_eq!(other.unwrap_err(), Refusal::WrongIssuer.into());
        let strict = with(&idp, |oidc| oidc.require_iss = true);
        let provider = ready(&strict, &Deps::for_test()).await;
        assert_eq!(
            finish(&provider, None).await.unwrap_err(),
            Refusal::WrongIssuer.into()
        );
    }

    #[tokio::test]
    async fn an_id_token_must_be_of_this_login() {
        let idp = Idp::start().await;
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        for (change, refusal) in [
            (json!({ "nonce": "another" }), Refusal::BadCredentials),
            (json!({ "nonce": null }), Refusal::BadCredentials),
            (json!({ "aud": "another" }), Refusal::WrongAudience),
            (json!({ "iss": "https://elsewhere" }), Refusal::WrongIssuer),
            (json!({ "exp": NOW.as_secs() - 31 }), Refusal::Expired),
            (json!({ "sub": null }), Refusal::BadCredentials),
        ] {
            idp.fake.always(TOKEN, tokens(&idp.id_token(&change)));
            let refused = finish(&provider, Some(&idp.issuer())).await.unwrap_err();
            assert_eq!(refused, refusal.into(), "{change}");
        }
    }

    #[tokio::test]
    async fn what_the_token_endpoint_says_is_final_or_an_outage_but_never_both() {
        let idp = Idp::start().await;
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        let error =
            |status, error: &str| Reply::text(status, &json!({ "error": error }).to_string());
        for (reply, expected) in [
            (
                error(400, "invalid_grant"),
                ProviderError::from(Refusal::BadCredentials),
            ),
            (error(403, "access_denied"), Refusal::Policy.into()),
            (
                error(400, "interaction_required"),
                Refusal::MfaRequired.into(),
            ),
            (error(400, "something_new"), Refusal::BadCredentials.into()),
            (error(401, "invalid_client"), Outage::Malformed.into()),
            (
                error(400, "temporarily_unavailable"),
                Outage::Http5xx.into(),
            ),
            (error(500, "invalid_grant"), Outage::Http5xx.into()),
            (Reply::text(429, ""), Outage::RateLimited.into()),
            (Reply::text(400, ""), Outage::Malformed.into()),
            (Reply::text(302, ""), Outage::Malformed.into()),
            (Reply::text(200, "<html>"), Outage::Malformed.into()),
            (
                Reply::json(&json!({ "access_token": "a" })),
                Outage::Malformed.into(),
            ),
            (Reply::Cut, Outage::Connect.into()),
        ] {
            idp.fake.always(TOKEN, reply.clone());
            let asked = idp.fake.seen(TOKEN).len();
            let failed = finish(&provider, Some(&idp.issuer())).await.unwrap_err();
            assert_eq!(failed, expected, "{reply:?}");
            assert_eq!(
                idp.fake.seen(TOKEN).len(),
                asked + 1,
                "a code is redeemed once"
            );
        }
    }

    #[tokio::test]
    async fn every_way_to_prove_who_we_are_reaches_the_provider() {
        let idp = Idp::start().await;
        idp.fake.always(TOKEN, tokens(&idp.id_token(&json!({}))));
        let own = SigningKey::generate().unwrap();
        for (auth, part) in [
            (
                ClientAuth::SecretPost(Secret::new("s&x".to_owned())),
                "&client_id=authferry&client_secret=s%26x",
            ),
            (ClientAuth::None, "&client_id=authferry"),
            (
                ClientAuth::PrivateKeyJwt(Secret::new(own.to_pem())),
                "&client_assertion=",
            ),
        ] {
            let settings = with(&idp, |oidc| oidc.client.as_mut().unwrap().auth = auth);
            let provider = ready(&settings, &Deps::for_test()).await;
            finish(&provider, Some(&idp.issuer())).await.unwrap();
            let sent = idp.fake.seen(TOKEN).pop().unwrap();
            assert!(sent.body.contains(part), "{part}");
            assert!(!sent.headers.contains_key("authorization"));
        }
    }

    #[tokio::test]
    async fn an_access_token_is_judged_with_discovered_keys() {
        let idp = Idp::start().await;
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        let token = idp.access_token(&idp.key, &json!({}));
        assert!(provider.judge_locally(&token, NOW).unwrap().is_ok());
        let id_token = Credential::Bearer(Secret::new(idp.id_token(&json!({ "aud": "crm" }))));
        let refused = judge(&*provider, &id_token, NOW).await.unwrap_err();
        assert_eq!(
            refused,
            Refusal::BadCredentials.into(),
            "an ID token is no access token"
        );
    }

    #[tokio::test]
    async fn metadata_in_the_name_of_another_are_not_used() {
        let idp = Idp::start().await;
        for (name, value) in [
            ("issuer", json!(format!("{}/", idp.issuer()))),
            ("issuer", json!([idp.issuer()])),
            ("issuer", Value::Null),
            ("token_endpoint", json!("http://id.example/token")),
            ("jwks_uri", json!("ftp://id.example/keys")),
            ("authorization_endpoint", json!(7)),
        ] {
            let mut metadata = idp.metadata();
            metadata[name] = value;
            idp.fake.always(METADATA, Reply::json(&metadata));
            let provider = built(&idp.oidc(), &Deps::for_test());
            let start = LoginStart {
                redirect_uri: CALLBACK,
                state: "s",
                nonce: "n",
                verifier: &verifier(),
                step_up: None,
                login_hint: None,
                prompt: crate::providers::Prompt::AsNeeded,
            };
            let failed = provider.login().unwrap().start(start).await.unwrap_err();
            assert_eq!(failed, Outage::Malformed.into(), "{name}");
            assert!(!provider.health().usable);
        }
    }

    #[tokio::test]
    async fn an_issuer_with_a_slash_at_its_end_keeps_it_and_does_not_double_it() {
        let idp = Idp::start().await;
        let mut metadata = idp.metadata();
        let issuer = format!("{}/", idp.issuer());
        metadata["issuer"] = json!(issuer);
        idp.fake.always(METADATA, Reply::json(&metadata));
        let settings = with(&idp, |oidc| {
            oidc.issuer = crate::identity::Issuer::new(&issuer)
        });
        let provider = ready(&settings, &Deps::for_test()).await;
        let token = idp.access_token(&idp.key, &json!({ "iss": issuer }));
        assert!(judge(&*provider, &token, NOW).await.is_ok());
        let without = idp.access_token(&idp.key, &json!({}));
        let refused = judge(&*provider, &without, NOW).await.unwrap_err();
        assert_eq!(refused, Refusal::WrongIssuer.into());
    }

    #[tokio::test]
    async fn a_provider_that_is_away_at_start_heals_by_itself() {
        let idp = Idp::start().await;
        idp.fake.always(METADATA, Reply::text(503, ""));
        let provider = built(&idp.oidc(), &Deps::for_test());
        let failed = finish(&provider, Some(&idp.issuer())).await.unwrap_err();
        assert_eq!(failed, Outage::Http5xx.into());
        idp.fake.always(METADATA, Reply::json(&idp.metadata()));
        pass(Duration::from_secs(2)).await;
        until(|| provider.health().usable).await;
        let token = idp.access_token(&idp.key, &json!({}));
        assert!(provider.judge_locally(&token, NOW).unwrap().is_ok());
    }

    #[tokio::test]
    async fn an_open_breaker_closes_without_a_person_trying() {
        let idp = Idp::start().await;
        let mut settings = idp.oidc();
        settings.client.breaker.min_requests = 3;
        let provider = ready(&settings, &Deps::for_test()).await;
        idp.fake.always(TOKEN, Reply::text(500, ""));
        for _ in 0..10 {
            finish(&provider, Some(&idp.issuer())).await.unwrap_err();
        }
        assert_eq!(provider.health().down_since, Some(NOW));
        pass(Duration::from_secs(16)).await;
        until(|| provider.health().down_since.is_none()).await;
    }

    #[tokio::test]
    async fn an_outage_becomes_known_where_hardly_anybody_signs_in() {
        let mut idp = Idp::start().await;
        let provider = ready(&idp.oidc(), &Deps::for_test()).await;
        idp.fake.stop().await;
        pass(Duration::from_secs(60)).await;
        let verifier = Secret::new("v".repeat(43));
        let start = LoginStart {
            redirect_uri: "https://crm.corp.example/.authferry/cb/modern",
            state: "s",
            nonce: "n",
            verifier: &verifier,
            step_up: None,
            login_hint: None,
            prompt: crate::providers::Prompt::AsNeeded,
        };
        let begun = provider.login().unwrap().start(start).await;
        assert!(begun.is_ok(), "nothing is known yet");
        for _ in 0..300 {
            if provider.health().down_since.is_some() {
                return;
            }
            pass(Duration::from_secs(1)).await;
            // For the connection that is refused, which is no timer.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never becomes known");
    }
}
