//! Providers, policies and people of which a test changes the one thing it is about.

mod accounts;

pub(super) use accounts::FakeAccounts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use tokio::runtime::Handle;

use crate::auth::canonical::Joiner;
use crate::auth::gate::Deps;
use crate::auth::policy::AppExchanges;
use crate::auth::policy::AppPolicy;
use crate::auth::policy::PolicyParts;
use crate::auth::possession::Channel;
use crate::auth::possession::Possession;
use crate::auth::replays::Replays;
use crate::auth::report::Reports;
use crate::auth::settings::Possession as PossessionSettings;
use crate::auth::settings::RoleMap;
use crate::auth::taken::FallbacksTaken;
use crate::clock::ManualClock;
use crate::clock::UnixTime;
use crate::control::Journeys;
use crate::entropy::SystemEntropy;
use crate::exchange::Registrations;
use crate::identity::ClaimMap;
use crate::identity::Credential;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::KeyPrint;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::identity::Thumbprint;
use crate::links::Homes;
use crate::links::Links;
use crate::providers::Authenticated;
use crate::providers::Directory;
use crate::providers::Epoch;
use crate::providers::Health;
use crate::providers::Known;
use crate::providers::LoggedIn;
use crate::providers::Login;
use crate::providers::LoginAnswer;
use crate::providers::LoginStart;
use crate::providers::Owns;
use crate::providers::Passwords;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::Providers;
use crate::providers::Provisioning;
use crate::providers::Refreshed;
use crate::providers::Shut;
use crate::revocation::Notices;
use crate::revocation::Revocations;
use crate::rollout::AppId;
use crate::rollout::AssignRule;
use crate::rollout::BeforeKnown;
use crate::rollout::BucketKey;
use crate::rollout::Bucketing;
use crate::rollout::Cohorts;
use crate::rollout::Facts;
use crate::rollout::Fallback;
use crate::rollout::Hearsay;
use crate::rollout::Mode;
use crate::rollout::OnDecrease;
use crate::rollout::OtherArm;
use crate::rollout::PinnedAtFrom;
use crate::rollout::Plan;
use crate::rollout::RolloutId;
use crate::rollout::Stage;
use crate::rollout::UnitKind;
use crate::secret::Secret;
use crate::session::Pins;
use crate::session::Sessions;
use crate::session::settings::Settings;
use crate::session::settings::StoreKind;
use crate::shadow::Desk;
use crate::store::MemoryStore;
use crate::store::Store;
use crate::telemetry::DecisionLog;
use crate::telemetry::Metrics;
use crate::telemetry::Pseudonyms;
use crate::telemetry::metrics::MAX_SERIES_PER_FAMILY;

pub(super) const COOKIE: &str = "__Host-authferry";

pub(super) fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(1_000_000 + seconds)
}

type Verdict = dyn Fn(&str) -> Result<Authenticated, ProviderError> + Send + Sync;

/// A provider that says what the test tells it to.
pub(super) struct FakeProvider {
    id: ProviderId,
    pub(super) owns: Owns,
    epoch: Epoch,
    pub(super) local: bool,
    pub(super) verdict: Mutex<Arc<Verdict>>,
    pub(super) asked: AtomicUsize,
    /// The issuer and the token whose signature it has refused.
    pub(super) refused: Mutex<Option<(String, String)>>,
    /// What it says of a key that has signed something.
    pub(super) keys: Mutex<Result<UnixTime, ProviderError>>,
    pub(super) health: Mutex<Health>,
    pub(super) login: Option<FakeLogin>,
    /// Where people come with their passwords.
    pub(super) accounts: Option<FakeAccounts>,
    /// Whether small and capital letters of a name are the same.
    pub(super) folds: bool,
    pub(super) directory: Option<FakeDirectory>,
    /// The sessions of its own that it was told to end.
    pub(super) ended: Mutex<Vec<String>>,
}

/// A list of accounts, by subject, and whether they may be used; `None`: it does not answer.
#[derive(Debug, Default)]
pub(super) struct FakeDirectory(pub(super) Mutex<Option<Vec<(&'static str, bool)>>>);

/// A login whose code is the name of the person.
pub(super) struct FakeLogin {
    pub(super) redirect_path: String,
    pub(super) client_id: String,
    provider: ProviderId,
    pub(super) down: Mutex<Option<Outage>>,
    /// Whoever is to begin waits until so many are.
    pub(super) together: Mutex<Option<Arc<tokio::sync::Barrier>>>,
    pub(super) redeemed: AtomicUsize,
    /// What comes of revocations, the last first; then all are good.
    pub(super) revocations: Mutex<Vec<Result<(), ProviderError>>>,
    /// How long its sessions last, as it says.
    pub(super) session_lasts: Mutex<Option<Duration>>,
    /// The tokens that were to be revoked.
    pub(super) revoked: Mutex<Vec<String>>,
    #[expect(clippy::type_complexity, reason = "said once")]
    verdict: Arc<dyn Fn(&str) -> Result<Authenticated, ProviderError> + Send + Sync>,
}

/// What is known of a person at a provider.
pub(super) fn identity(provider: &str, subject: &str) -> Identity {
    let mut attributes = ClaimMap::default();
    attributes.insert("subject", subject.into());
    Identity {
        provider: ProviderId::new(provider),
        key: SubjectKey {
            issuer: Issuer::new(&format!("https://{provider}.idp.test")),
            subject: Subject::try_from(subject).unwrap(),
        },
        attributes: Arc::new(attributes),
        client_id: None,
        acr: None,
        scopes: Box::default(),
        delegation: crate::identity::Delegation::default(),
    }
}

fn vouch(provider: &str, subject: &str) -> Result<Authenticated, ProviderError> {
    match subject {
        "bad" => Err(Refusal::BadCredentials.into()),
        "disabled" => Err(Refusal::Disabled.into()),
        "down" => Err(Outage::Timeout.into()),
        subject => {
            let mut identity = identity(provider, subject);
            // Somebody who has just signed in, but for one whose browser was left open.
            let ago = match subject {
                "left" => 3_600,
                "just" => 30,
                _ => 0,
            };
            let mut attributes = (*identity.attributes).clone();
            attributes.insert("auth_time", (at(0).as_secs() - ago).into());
            // And for one who chooses another password after that.
            if subject == "resets" {
                let later = at(3 * 24 * 3_600).as_secs();
                attributes.insert("password_changed", later.into());
            }
            identity.attributes = Arc::new(attributes);
            Ok(Authenticated::for_test(identity, at(300)))
        }
    }
}

impl FakeProvider {
    /// `old`: the cookie `OLDSID`, Basic, opaque tokens, API keys.
    pub(super) fn old() -> Self {
        Self {
            owns: Owns {
                cookies: vec!["OLDSID".into(), "OLDSID2".into()],
                opaque: Some(Vec::new()),
                basic: true,
                api_key_header: Some(HeaderName::from_static("x-api-key")),
                ..Owns::default()
            },
            ..Self::named("old")
        }
    }

    /// `new`: signed tokens of `https://new.idp.test`, and a login.
    pub(super) fn new() -> Self {
        Self {
            owns: Owns {
                issuers: vec![Issuer::new("https://new.idp.test")],
                ..Owns::default()
            },
            local: true,
            ..Self::named("new").with_login()
        }
    }

    pub(super) fn named(id: &'static str) -> Self {
        Self {
            id: ProviderId::new(id),
            owns: Owns::default(),
            epoch: Epoch::default(),
            local: false,
            verdict: Mutex::new(Arc::new(move |subject| vouch(id, subject))),
            asked: AtomicUsize::new(0),
            refused: Mutex::default(),
            keys: Mutex::new(Ok(UnixTime::NEVER)),
            health: Mutex::new(Health {
                usable: true,
                down_since: None,
                problem: None,
            }),
            login: None,
            accounts: None,
            folds: false,
            directory: None,
            ended: Mutex::default(),
        }
    }

    pub(super) fn with_login(mut self) -> Self {
        let id = self.id.clone();
        self.login = Some(FakeLogin {
            redirect_path: format!("/.authferry/cb/{id}"),
            client_id: format!("client-at-{id}"),
            provider: id.clone(),
            down: Mutex::new(None),
            together: Mutex::default(),
            redeemed: AtomicUsize::new(0),
            revocations: Mutex::default(),
            session_lasts: Mutex::default(),
            revoked: Mutex::default(),
            verdict: Arc::new(move |subject| vouch(id.as_str(), subject)),
        });
        self
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn say(&self, credential: &Credential) -> Result<Authenticated, ProviderError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let subject = match credential {
            Credential::Session { value, .. } => value.expose().clone(),
            Credential::Opaque(value) | Credential::ApiKey(value) => value.expose().clone(),
            Credential::Bearer(token) => {
                let claims = token.expose().split('.').nth(1).unwrap();
                let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
                let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
                claims["sub"].as_str().unwrap().to_owned()
            }
            Credential::Basic { password, .. } if password.expose() == "wrong" => {
                return Err(Refusal::BadCredentials.into());
            }
            Credential::Basic { username, .. } => username.to_string(),
            Credential::ClientCert(_) => unreachable!("not presented in tests"),
        };
        let verdict = Arc::clone(&self.verdict.lock().unwrap());
        verdict(&subject)
    }
}

impl std::fmt::Debug for FakeProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeProvider({})", self.id)
    }
}

impl std::fmt::Debug for FakeLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeLogin({})", self.provider)
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn id(&self) -> &ProviderId {
        &self.id
    }

    fn owns(&self) -> &Owns {
        &self.owns
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn has_refused(&self, issuer: &str, token: &str, _now: UnixTime) -> bool {
        let refused = self.refused.lock().unwrap();
        refused
            .as_ref()
            .is_some_and(|(by, own)| by == issuer && own == token)
    }

    fn has_key(&self, _key: &KeyPrint, _now: UnixTime) -> Option<Result<UnixTime, ProviderError>> {
        self.local.then(|| self.keys.lock().unwrap().clone())
    }

    async fn look_for_key(
        &self,
        _key: &KeyPrint,
        _now: UnixTime,
    ) -> Result<UnixTime, ProviderError> {
        self.keys.lock().unwrap().clone()
    }

    fn judge_locally(
        &self,
        credential: &Credential,
        _now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        self.local.then(|| self.say(credential))
    }

    async fn authenticate(
        &self,
        credential: &Credential,
        _now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        assert!(!self.local, "it had judged already");
        self.say(credential)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.login.as_ref().map(|login| login as &dyn Login)
    }

    fn provisioning(&self) -> Option<&dyn Provisioning> {
        let own = self.accounts.as_ref();
        own.map(|own| own as &dyn Provisioning)
    }

    fn passwords(&self) -> Option<&dyn Passwords> {
        let own = self.accounts.as_ref();
        own.map(|own| own as &dyn Passwords)
    }

    fn person_name(&self, username: &str) -> String {
        if self.folds {
            username.to_lowercase()
        } else {
            username.to_owned()
        }
    }

    fn directory(&self) -> Option<&dyn Directory> {
        self.directory.as_ref().map(|own| own as &dyn Directory)
    }

    fn ends_sessions(&self) -> bool {
        !self.owns.cookies.is_empty()
    }

    async fn end(&self, credential: &Credential) -> Result<(), ProviderError> {
        let Credential::Session { value, .. } = credential else {
            return Err(Refusal::Unsupported.into());
        };
        self.ended.lock().unwrap().push(value.expose().clone());
        Ok(())
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }
}

#[async_trait]
impl Directory for FakeDirectory {
    async fn find(&self, value: &str, _now: UnixTime) -> Result<Known, ProviderError> {
        let people = self.0.lock().unwrap().clone().ok_or(Outage::Connect)?;
        let found = people.into_iter().find(|(subject, _)| *subject == value);
        Ok(
            found.map_or(Known::Nobody, |(subject, enabled)| Known::Person {
                identity: Arc::new(identity("old", subject)),
                enabled,
            }),
        )
    }

    async fn everybody(
        &self,
        _most: usize,
        _now: UnixTime,
    ) -> Result<Vec<Box<str>>, ProviderError> {
        Ok(Vec::new())
    }

    async fn shut(&self, _most: usize, _now: UnixTime) -> Result<Vec<Shut>, ProviderError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Login for FakeLogin {
    fn redirect_path(&self) -> &str {
        &self.redirect_path
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }

    async fn start(&self, start: LoginStart<'_>) -> Result<String, ProviderError> {
        let together = self.together.lock().unwrap().clone();
        if let Some(together) = together {
            together.wait().await;
        }
        if let Some(outage) = *self.down.lock().unwrap() {
            return Err(outage.into());
        }
        assert_eq!(start.verifier.expose().len(), 43);
        assert_ne!(start.nonce, start.state);
        let more = start.step_up.map_or_else(String::new, |wanted| {
            let age = wanted.max_age.map_or(0, |age| age.as_secs());
            format!("&acr_values={}&max_age={age}", wanted.acr_values.join("+"))
        });
        let more = match start.login_hint {
            Some(hint) => format!("{more}&login_hint={hint}"),
            None => more,
        };
        let more = match start.prompt {
            crate::providers::Prompt::AsNeeded => more,
            crate::providers::Prompt::Never => format!("{more}&prompt=none"),
        };
        Ok(format!(
            "https://{}.idp.test/authorize?redirect_uri={}&state={}&nonce={}&verifier={}{more}",
            self.provider,
            start.redirect_uri,
            start.state,
            start.nonce,
            start.verifier.expose(),
        ))
    }

    fn answers_as(&self, iss: Option<&str>) -> Result<(), Refusal> {
        let own = format!("https://{}.idp.test", self.provider);
        iss.is_none_or(|iss| iss == own)
            .then_some(())
            .ok_or(Refusal::WrongIssuer)
    }

    /// The code is `PERSON,NONCE,VERIFIER`, so that a test sees what the answer is bound to.
    async fn finish(
        &self,
        answer: LoginAnswer<'_>,
        _now: UnixTime,
    ) -> Result<LoggedIn, ProviderError> {
        self.answers_as(answer.iss)?;
        self.redeemed.fetch_add(1, Ordering::SeqCst);
        let parts: Vec<&str> = answer.code.split(',').collect();
        let [person, nonce, verifier] = parts[..] else {
            return Err(Refusal::BadCredentials.into());
        };
        if nonce != answer.nonce || verifier != answer.verifier.expose() {
            return Err(Refusal::BadCredentials.into());
        }
        Ok(LoggedIn {
            authenticated: (self.verdict)(person)?,
            id_token: Some(Secret::new(format!("id-token-of-{person}"))),
            refresh_token: Some(Secret::new(format!("refresh-token-of-{person}"))),
            sid: Some("sid-1".into()),
            lasts: None,
            session_lasts: *self.session_lasts.lock().unwrap(),
        })
    }

    async fn refresh(
        &self,
        _refresh_token: &Secret<String>,
        _now: UnixTime,
    ) -> Result<Refreshed, ProviderError> {
        Err(Outage::Shed.into())
    }

    async fn revoke(
        &self,
        refresh_token: &Secret<String>,
        _now: UnixTime,
    ) -> Result<(), ProviderError> {
        let mut revoked = self.revoked.lock().unwrap();
        revoked.push(refresh_token.expose().clone());
        self.revocations.lock().unwrap().pop().unwrap_or(Ok(()))
    }

    fn logout_url(&self, id_token: &Secret<String>, return_to: &str) -> Option<String> {
        Some(format!(
            "https://{}.idp.test/logout?id_token_hint={}&post_logout_redirect_uri={return_to}",
            self.provider,
            id_token.expose()
        ))
    }
}

/// A whole snapshot: providers `old` and `new`, application `crm`.
pub(super) struct World {
    pub(super) old: Arc<FakeProvider>,
    pub(super) new: Arc<FakeProvider>,
    pub(super) plan: Option<Plan>,
    pub(super) single: Option<ProviderId>,
    pub(super) cohorts: Cohorts,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) forms: HashMap<ProviderId, String>,
    /// The rollouts of the other applications of its old side; `None`: one that does not move.
    pub(super) others: Vec<Option<Arc<Plan>>>,
    pub(super) fields: HashMap<ProviderId, crate::providers::settings::FormFields>,
    pub(super) exchanges: AppExchanges,
    /// Who judges what we have minted.
    pub(super) own: Vec<Arc<dyn Provider>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) canonical: Option<crate::links::settings::Canonical>,
    /// Providers whose accounts headers name.
    pub(super) named: Vec<&'static str>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) journeys: Arc<Journeys>,
    pub(super) app: AppId,
    pub(super) possession: PossessionSettings,
    pub(super) certificate: Option<Thumbprint>,
    pub(super) roles: HashMap<ProviderId, RoleMap>,
    pub(super) silent: Option<crate::auth::settings::Silent>,
    pub(super) wraps: bool,
    /// `kill_switch.modern_sessions: revoke`.
    pub(super) revokes: bool,
    pub(super) look: Arc<crate::auth::Look>,
    pub(super) rate_limits: crate::auth::settings::RateLimits,
    limits: Arc<crate::auth::Limits>,
    taken: Arc<FallbacksTaken>,
    notices: Arc<Notices>,
    pub(super) replays: Arc<Replays>,
    sessions: Arc<Sessions>,
    pub(super) revocations: Arc<Revocations>,
    /// Of what is done behind requests.
    pub(super) clock: Arc<ManualClock>,
}

impl World {
    pub(super) fn of(old: FakeProvider, new: FakeProvider) -> Self {
        Self::on(Arc::new(MemoryStore::default()), old, new)
    }

    pub(super) fn on(store: Arc<dyn Store>, old: FakeProvider, new: FakeProvider) -> Self {
        let clock: Arc<ManualClock> = Arc::new(ManualClock::at(at(0)));
        let metrics = Metrics::new(Arc::clone(&clock) as _, MAX_SERIES_PER_FAMILY);
        let sessions = Sessions::new(
            &session_settings(),
            Arc::clone(&store),
            Arc::new(SystemEntropy),
            &Handle::current(),
        )
        .unwrap();
        Self {
            old: Arc::new(old),
            new: Arc::new(new),
            plan: Some(plan(Mode::Canary, Vec::new())),
            single: None,
            cohorts: Cohorts::default(),
            fallbacks: Vec::new(),
            forms: HashMap::new(),
            fields: HashMap::new(),
            own: Vec::new(),
            others: Vec::new(),
            exchanges: AppExchanges::default(),
            revocations: Revocations::for_test(
                &store,
                &sessions,
                Arc::clone(&clock) as _,
                &metrics,
            ),
            clock,
            possession: PossessionSettings::for_test(),
            certificate: None,
            roles: HashMap::new(),
            silent: None,
            wraps: false,
            revokes: false,
            look: Arc::default(),
            rate_limits: crate::auth::settings::RateLimits::default(),
            limits: Arc::new(crate::auth::Limits::new(
                Arc::clone(&store),
                Arc::clone(&sessions),
            )),
            replays: Arc::new(Replays::new(Arc::clone(&store))),
            sessions,
            store,
            canonical: None,
            named: Vec::new(),
            journeys: Arc::new(Journeys::new(Arc::clone(&metrics))),
            metrics,
            app: AppId::new("crm"),
            taken: Arc::default(),
            notices: Arc::default(),
        }
    }

    pub(super) fn canary() -> Self {
        Self::of(FakeProvider::old(), FakeProvider::new())
    }

    fn providers(&self) -> Arc<Providers> {
        let old: Arc<dyn Provider> = Arc::clone(&self.old) as _;
        let new: Arc<dyn Provider> = Arc::clone(&self.new) as _;
        Arc::new(Providers::new([old, new]))
    }

    pub(super) fn policy(&self) -> AppPolicy {
        AppPolicy::new(PolicyParts {
            app: self.app.clone(),
            plan: self.plan.clone().map(Arc::new),
            single: self.single.clone(),
            providers: &self.providers(),
            cohorts: &self.cohorts,
            session_cookie: COOKIE,
            fallbacks: self.fallbacks.clone(),
            forms: self.forms.clone(),
            others: self.others.clone(),
            fields: self.fields.clone(),
            exchanges: self.exchanges.clone(),
            rate_limits: self.rate_limits,
            wraps: self.wraps,
            forwards_credentials: false,
            logout_paths: vec!["/signout".into()],
            own: self.own.clone(),
            own_clients: Arc::new(std::collections::HashSet::from(["shop".into()])),
        })
    }

    pub(super) fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&self.sessions)
    }

    pub(super) fn pins(&self) -> Pins {
        Pins::new(Arc::clone(&self.store))
    }

    pub(super) fn deps(&self) -> Deps {
        Deps {
            providers: self.providers(),
            cohorts: Arc::new(self.cohorts.clone()),
            bucket_key: BucketKey::new(Secret::new(vec![7; 32])),
            joiner: Joiner::new(
                self.canonical.clone(),
                self.named
                    .iter()
                    .map(|name| ProviderId::new(name))
                    .collect(),
                Arc::new(Links::new(Arc::clone(&self.store))),
                Arc::clone(&self.metrics),
            ),
            sessions: self.sessions(),
            pins: Arc::new(self.pins()),
            homes: Arc::new(Homes::new(Arc::clone(&self.store))),
            forms: Arc::default(),
            revocations: Arc::clone(&self.revocations),
            revokes: self.revokes,
            limits: Arc::clone(&self.limits),
            possession: Arc::new(self.possession()),
            introspects: false,
            ours: Registrations::default(),
            clients: crate::auth::clients::Clients::default(),
            roles: Arc::new(self.roles.clone()),
            unmatched: Arc::default(),
            background: Handle::current(),
            entropy: Arc::new(SystemEntropy),
            taken: Arc::clone(&self.taken),
            journeys: Arc::clone(&self.journeys),
            seen: Arc::default(),
            drills: Arc::default(),
            shadow: Desk::closed(Arc::clone(&self.metrics)),
            notices: Arc::clone(&self.notices),
            reports: Reports {
                metrics: Arc::clone(&self.metrics),
                decisions: DecisionLog::off(),
                pseudonyms: Pseudonyms::new(&Secret::new(vec![1; 32])),
                revision: "0123456789ab".into(),
                traces: None,
                entropy: Arc::new(SystemEntropy),
            },
        }
    }

    pub(super) fn possession(&self) -> Possession {
        Possession::new(
            &self.possession,
            &BucketKey::new(Secret::new(vec![7; 32])),
            Arc::clone(&self.replays),
        )
    }

    pub(super) fn channel(&self) -> Channel<'static> {
        Channel {
            secure: true,
            authority: "app.test",
            certificate: self.certificate,
            source: None,
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            app: &self.app,
            host: "app.test",
            path: "/orders",
            method: "GET",
            client_ip: None,
            peer: None,
            fields: None,
            device: None,
            hearsay: Hearsay::default(),
            person: None,
        }
    }
}

pub(super) fn session_settings() -> Settings {
    Settings {
        cookie: COOKIE.into(),
        secure: true,
        idle: Duration::from_secs(1_800),
        absolute: Duration::from_secs(12 * 3_600),
        keys: vec![Secret::new(vec![9; 32])],
        revalidate: Duration::from_secs(300),
        max_per_subject: 50,
        same_site: crate::session::settings::SameSite::Lax,
        shortest: false,
        store: StoreKind::Memory,
    }
}

/// From `old` to `new`, in epoch 3.
pub(super) fn plan(mode: Mode, assign: Vec<AssignRule>) -> Plan {
    Plan {
        id: RolloutId::new("crm-2026"),
        apps: vec![AppId::new("crm")],
        from: ProviderId::new("old"),
        to: ProviderId::new("new"),
        bucketing: Bucketing {
            salt: "crm-2026-a".into(),
            unit: UnitKind::Subject,
            before_known: BeforeKnown::Device,
            on_decrease: OnDecrease::Hold,
            pinned_at_from: PinnedAtFrom::Redirect,
        },
        stage: Stage {
            id: "one".into(),
            index: 0,
            mode,
            assign: assign.into(),
            accept: Vec::new(),
            other_arm: OtherArm::Accept,
            brownouts: Vec::new(),
            warning: None,
            passwords: crate::rollout::Passwords::AtFrom,
            shadow: crate::rollout::Shadowed::All,
        },
        epoch: 3,
        closed: false,
    }
}

/// A token that claims to be of `issuer`; fake providers do not look at its signature.
pub(super) fn token(issuer: &str, subject: &str) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(serde_json::json!({ "alg": "RS256", "typ": "at+jwt" }));
    let claims = part(serde_json::json!({ "iss": issuer, "sub": subject }));
    format!("{header}.{claims}.c2lnbmF0dXJl")
}

pub(super) fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}
