//! What every kind of provider promises, whatever it is: a refusal is never an outage, and an outage never a refusal.
//!
//! A kind joins by a [`Double`]: a provider whose other side can be told how to behave. With the feature `real-servers` the
//! other side is a real server (`make real`).

#[cfg(feature = "real-servers")]
#[cfg(test)]
mod real;
#[cfg(feature = "real-servers")]
#[cfg(test)]
mod relay;
#[cfg(feature = "real-servers")]
#[cfg(test)]
mod somebody;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Refusal;
use crate::providers::Ability;
use crate::providers::Authenticated;
use crate::providers::Provider;
use crate::providers::ProviderError;
use crate::providers::fake::Fake;
use crate::providers::fake::Reply;
use crate::providers::fixture::NOW;
use crate::secret::Secret;

/// A situation in which a credential is presented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Case {
    /// All is well.
    Good,
    /// The credential was good, and is too old.
    Expired,
    /// It was taken back.
    Revoked,
    /// The account is switched off.
    Disabled,
    /// The owner wants another factor first.
    MfaRequired,
    /// Nobody issued it.
    Unknown,
    /// It names another issuer, or is of another kind.
    Foreign,
    /// The provider has enough of us (429).
    Busy,
    /// Nobody listens.
    Gone,
    /// 5xx.
    Broken,
    /// It takes the question and never answers.
    Silent,
    /// It answers with what is none.
    Garbage,
    /// The two clocks differ by less than the leeway: not yet valid, and still good.
    SmallSkew,
    /// They differ by more.
    LargeSkew,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    Vouched,
    Refused,
    Outage,
}

impl Case {
    const ALL: [Self; 14] = [
        Self::Good,
        Self::Expired,
        Self::Revoked,
        Self::Disabled,
        Self::MfaRequired,
        Self::Unknown,
        Self::Foreign,
        Self::Busy,
        Self::Gone,
        Self::Broken,
        Self::Silent,
        Self::Garbage,
        Self::SmallSkew,
        Self::LargeSkew,
    ];

    /// What cannot happen to a kind that knows credentials and no accounts, and that nobody's clock is compared with.
    pub(super) const ACCOUNTS_AND_CLOCKS: &[Self] = &[
        Self::Disabled,
        Self::MfaRequired,
        Self::SmallSkew,
        Self::LargeSkew,
    ];

    const fn expected(self) -> Expected {
        match self {
            Self::Good | Self::SmallSkew => Expected::Vouched,
            Self::Expired
            | Self::Revoked
            | Self::Disabled
            | Self::MfaRequired
            | Self::Unknown
            | Self::Foreign
            | Self::LargeSkew => Expected::Refused,
            Self::Busy | Self::Gone | Self::Broken | Self::Silent | Self::Garbage => {
                Expected::Outage
            }
        }
    }
}

/// A provider of one kind, and the other side of it.
#[async_trait]
pub(super) trait Double: Sized + Send {
    /// What cannot happen to this kind, in the order of [`Case`]; why not is said beside it. Everything else must be arranged.
    const IMPOSSIBLE: &'static [Case];

    /// A new one, of which nothing is left of earlier cases. Its calls should take at most half a second.
    async fn start() -> Self;

    /// The provider.
    fn provider(&self) -> Arc<dyn Provider>;

    /// The moment at which the credential is judged.
    fn now(&self) -> UnixTime {
        NOW
    }

    /// Has a real server do for somebody what the provider declares: what comes of it, the server says.
    async fn serve(&mut self) {}

    /// What the login of a kind says of what can happen there alone, and to no credential that is presented; `None`: nothing can.
    async fn at_login(&mut self, _case: Case) -> Option<Result<Authenticated, ProviderError>> {
        None
    }

    /// Makes the other side behave, and hands out what a client would present; `None` for what is impossible, and only then.
    async fn arrange(&mut self, case: Case) -> Option<Credential>;
}

/// Runs every case.
pub(super) async fn provider_contract<D: Double>() {
    let (mut ran, mut skipped) = (Vec::new(), Vec::new());
    for case in Case::ALL {
        let mut double = D::start().await;
        let presented = double.arrange(case).await;
        let provider = double.provider();
        let now = double.now();
        let verdict = match &presented {
            Some(credential) => judge(&*provider, credential, now).await,
            None => match double.at_login(case).await {
                Some(verdict) => verdict,
                None => {
                    skipped.push(case);
                    continue;
                }
            },
        };
        let seen = match &verdict {
            Ok(vouched) => {
                let identity = vouched.identity();
                assert_eq!(&identity.provider, provider.id(), "{case:?}");
                assert!(!vouched.is_over(now), "{case:?}: a proof that is over");
                Expected::Vouched
            }
            Err(ProviderError::Rejected(_)) => Expected::Refused,
            Err(ProviderError::Unavailable { .. }) => Expected::Outage,
        };
        assert_eq!(seen, case.expected(), "{case:?}: {verdict:?}");
        let Some(credential) = presented else {
            ran.push(case);
            continue;
        };
        let at_once = provider.judge_locally(&credential, now);
        if let (Some(Ok(_)), false) = (&at_once, verdict.is_ok()) {
            panic!("{case:?}: judged differently without asking");
        }
        // At the end: a session that can be taken back is gone then.
        if case == Case::Good {
            double.serve().await;
            does_what_it_declares(&*provider, &credential, now).await;
        }
        ran.push(case);
    }
    for needed in [Case::Good, Case::Unknown] {
        assert!(ran.contains(&needed), "{needed:?} can happen to every kind");
    }
    assert_eq!(skipped, D::IMPOSSIBLE, "only what is declared is left out");
    let outages = ran
        .iter()
        .filter(|case| case.expected() == Expected::Outage);
    assert_ne!(outages.count(), 0, "every kind can be away");
}

/// Whoever cannot do a thing says `Unsupported` at once; any other answer means that it was tried.
async fn does_what_it_declares(provider: &dyn Provider, credential: &Credential, now: UnixTime) {
    let tried = |said: Result<(), ProviderError>| said != Err(Refusal::Unsupported.into());
    let token = Secret::new("not-issued-by-anybody".to_owned());
    let (mut refreshes, mut revokes, mut logs_out) = (false, false, false);
    if let Some(login) = provider.login() {
        refreshes = tried(login.refresh(&token, now).await.map(drop));
        revokes = tried(login.revoke(&token, now).await);
        logs_out = tried(login.logout_token(token.expose(), now).await.map(drop))
            || login.logout_url(&token, "https://app.example").is_some();
    }
    if let Credential::Session { .. } | Credential::Opaque(_) = credential
        && tried(provider.end(credential).await)
    {
        revokes = true;
        let after = judge(provider, credential, now).await;
        let over = matches!(after, Err(ProviderError::Rejected(_)));
        assert!(over, "{}: taken back, and good: {after:?}", provider.id());
    }
    // A token that says nothing is judged by asking; and one that says everything, where that is not enough.
    let is_bearer = matches!(credential, Credential::Bearer(_));
    let asks = provider.owns().opaque.is_some()
        || (is_bearer && provider.judge_locally(credential, now).is_none());
    for (ability, does) in [
        (Ability::Login, provider.login().is_some()),
        (Ability::Refresh, refreshes),
        (Ability::Introspect, asks),
        (Ability::Revoke, revokes),
        (Ability::Exchange, provider.token_client(None).is_some()),
        (Ability::Logout, logs_out),
        (Ability::Directory, provider.directory().is_some()),
        (
            Ability::Provision,
            provider.provisioning().is_some() && provider.passwords().is_some(),
        ),
    ] {
        let declared = provider.abilities().contains(&ability);
        assert_eq!(declared, does, "{}: {ability:?}", provider.id());
    }
}

async fn judge(
    provider: &dyn Provider,
    credential: &Credential,
    now: UnixTime,
) -> Result<Authenticated, ProviderError> {
    let judged = async {
        match provider.judge_locally(credential, now) {
            Some(verdict) => verdict,
            None => provider.authenticate(credential, now).await,
        }
    };
    tokio::time::timeout(Duration::from_secs(20), judged)
        .await
        .expect("every call ends")
}

/// How a server that is asked over HTTP behaves in the cases that are alike for all of them.
pub(super) async fn misbehave(fake: &mut Fake, path: &str, case: Case) {
    match case {
        Case::Busy => fake.always(path, Reply::text(429, "").with("retry-after", "1")),
        Case::Broken => fake.always(path, Reply::text(503, "")),
        Case::Silent => fake.always(path, Reply::Hang),
        Case::Garbage => fake.always(path, Reply::text(200, "<html>")),
        Case::Gone => fake.stop().await,
        _ => {}
    }
}

mod doubles {
    use std::io::Write as _;

    use rcgen::BasicConstraints;
    use rcgen::CertificateParams;
    use rcgen::CertificateRevocationListParams;
    use rcgen::CertifiedIssuer;
    use rcgen::ExtendedKeyUsagePurpose;
    use rcgen::IsCa;
    use rcgen::KeyIdMethod;
    use rcgen::KeyPair;
    use rcgen::KeyUsagePurpose;
    use rcgen::RevokedCertParams;
    use rcgen::date_time_ymd;
    use serde_json::Value;
    use serde_json::json;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::identity::Issuer;
    use crate::providers::Deps;
    use crate::providers::LoginAnswer;
    use crate::providers::Owns;
    use crate::providers::example::Office;
    use crate::providers::fixture::INTROSPECT;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::KEYS;
    use crate::providers::fixture::METADATA;
    use crate::providers::fixture::TOKEN;
    use crate::providers::fixture::built;
    use crate::providers::fixture::ready;
    use crate::providers::fixture::settings;
    use crate::providers::settings::ApiKey;
    use crate::providers::settings::Basic;
    use crate::providers::settings::CertificateName;
    use crate::providers::settings::ClientCert;
    use crate::providers::settings::Introspect;
    use crate::providers::settings::Keys;
    use crate::providers::settings::KindSettings;
    use crate::providers::settings::ProbeAnswer;
    use crate::providers::settings::SessionProbe;
    use crate::token::SigningKey;

    /// Signed tokens: outages show where a key is not known and cannot be fetched; or, where the provider is asked about each
    /// token (`ASKED`), where it does not say.
    struct Signed<const OIDC: bool, const ASKED: bool> {
        idp: Idp,
        provider: Arc<dyn Provider>,
    }

    #[async_trait]
    impl<const OIDC: bool, const ASKED: bool> Double for Signed<OIDC, ASKED> {
        // A signed token says nothing about what became of it or its person; and whoever must show another factor has none yet,
        // which is said at the login of a kind that has one.
        const IMPOSSIBLE: &'static [Case] = match (OIDC, ASKED) {
            (true, true) => &[],
            (true, false) => &[Case::Revoked, Case::Disabled],
            (false, _) => &[Case::Revoked, Case::Disabled, Case::MfaRequired],
        };

        async fn start() -> Self {
            let idp = Idp::start().await;
            let mut settings = if OIDC {
                idp.oidc()
            } else {
                idp.jwt(Keys::Url(idp.fake.url(KEYS)))
            };
            if let (KindSettings::Oidc(oidc), true) = (&mut settings.kind, ASKED) {
                let mut metadata = idp.metadata();
                metadata["introspection_endpoint"] = json!(idp.fake.url(INTROSPECT));
                idp.fake.always(METADATA, Reply::json(&metadata));
                let cache = Duration::from_secs(15);
                oidc.introspect = Some(Introspect { cache, stale: None });
            }
            let provider = ready(&settings, &Deps::for_test()).await;
            Self { idp, provider }
        }

        fn provider(&self) -> Arc<dyn Provider> {
            Arc::clone(&self.provider)
        }

        async fn at_login(&mut self, case: Case) -> Option<Result<Authenticated, ProviderError>> {
            let login = self.provider.login()?;
            if case != Case::MfaRequired {
                return None;
            }
            // OpenID Connect Core 1.0 §3.1.2.6, at the token endpoint.
            let error = json!({ "error": "interaction_required" });
            self.idp
                .fake
                .always(TOKEN, Reply::text(400, &error.to_string()));
            let (issuer, verifier) = (self.idp.issuer(), Secret::new("a verifier".to_owned()));
            let answer = LoginAnswer {
                code: "the code",
                iss: Some(&issuer),
                redirect_uri: "https://app.example/.authferry/cb/modern",
                nonce: "the nonce",
                verifier: &verifier,
            };
            let finished = login.finish(answer, NOW).await;
            let refused = finished.as_ref().err();
            assert_eq!(refused, Some(&Refusal::MfaRequired.into()));
            Some(finished.map(|done| done.authenticated))
        }

        async fn arrange(&mut self, case: Case) -> Option<Credential> {
            let now = NOW.as_secs();
            let known = |change: Value| Some(self.idp.access_token(&self.idp.key, &change));
            if ASKED {
                let active = !matches!(case, Case::Revoked | Case::Disabled);
                let said = json!({ "active": active, "sub": "f81d" });
                self.idp.fake.always(INTROSPECT, Reply::json(&said));
            }
            match case {
                Case::Good => known(json!({})),
                Case::Expired => known(json!({ "iat": now - 600, "exp": now - 300 })),
                Case::SmallSkew => known(json!({ "iat": now + 29, "nbf": now + 29 })),
                Case::LargeSkew => known(json!({ "iat": now + 31, "nbf": now + 31 })),
                Case::Foreign => known(json!({ "iss": "https://elsewhere" })),
                Case::MfaRequired => None,
                Case::Revoked | Case::Disabled => known(json!({})).filter(|_| ASKED),
                Case::Busy | Case::Gone | Case::Broken | Case::Silent | Case::Garbage if ASKED => {
                    let token = known(json!({}));
                    misbehave(&mut self.idp.fake, INTROSPECT, case).await;
                    token
                }
                Case::Unknown
                | Case::Busy
                | Case::Gone
                | Case::Broken
                | Case::Silent
                | Case::Garbage => {
                    let stranger = SigningKey::generate().unwrap();
                    let token = self.idp.access_token(&stranger, &json!({}));
                    misbehave(&mut self.idp.fake, KEYS, case).await;
                    Some(token)
                }
            }
        }
    }

    struct Introspected {
        idp: Idp,
        provider: Arc<dyn Provider>,
    }

    #[async_trait]
    impl Double for Introspected {
        // Whoever must show another factor has no token yet.
        const IMPOSSIBLE: &'static [Case] = &[Case::MfaRequired];

        async fn start() -> Self {
            let idp = Idp::start().await;
            let provider = built(&idp.introspection(), &Deps::for_test());
            Self { idp, provider }
        }

        fn provider(&self) -> Arc<dyn Provider> {
            Arc::clone(&self.provider)
        }

        async fn arrange(&mut self, case: Case) -> Option<Credential> {
            let now = NOW.as_secs();
            let (active, exp, nbf) = match case {
                Case::Revoked | Case::Disabled | Case::Unknown => (false, now + 300, now),
                Case::Expired => (true, now - 300, now - 600),
                Case::SmallSkew => (true, now + 300, now + 29),
                Case::LargeSkew => (true, now + 300, now + 31),
                Case::MfaRequired => return None,
                _ => (true, now + 300, now),
            };
            let answer =
                json!({ "active": active, "sub": "1", "aud": "crm", "exp": exp, "nbf": nbf });
            self.idp.fake.always(INTROSPECT, Reply::json(&answer));
            misbehave(&mut self.idp.fake, INTROSPECT, case).await;
            let token = Secret::new("opaque".to_owned());
            match case {
                Case::Foreign => Some(Credential::Bearer(token)),
                _ => Some(Credential::Opaque(token)),
            }
        }
    }

    struct Probed {
        fake: Fake,
        provider: Arc<dyn Provider>,
    }

    #[async_trait]
    impl Double for Probed {
        // It is its own clock.
        const IMPOSSIBLE: &'static [Case] = &[Case::SmallSkew, Case::LargeSkew];

        async fn start() -> Self {
            let fake = Fake::start().await;
            let probe = SessionProbe {
                #[cfg(feature = "ldap")]
                bind: None,
                issuer: Issuer::new("https://old.example"),
                url: fake.url("/whoami"),
                answer: ProbeAnswer::Json,
                cache: Duration::from_secs(30),
                stale: None,
                login_path: None,
                fields: None,
                logout: None,
            };
            let cookies = vec!["SMSESSION".into()];
            let owns = Owns {
                cookies,
                ..Owns::default()
            };
            let settings = settings("legacy", owns, KindSettings::SessionProbe(probe));
            let provider = built(&settings, &Deps::for_test());
            Self { fake, provider }
        }

        fn provider(&self) -> Arc<dyn Provider> {
            Arc::clone(&self.provider)
        }

        async fn arrange(&mut self, case: Case) -> Option<Credential> {
            let reply = match case {
                Case::Expired | Case::Revoked | Case::Unknown => Reply::text(401, ""),
                Case::Disabled => Reply::text(403, ""),
                Case::MfaRequired => Reply::text(302, "").with("location", "/second-factor"),
                Case::SmallSkew | Case::LargeSkew => return None,
                _ => Reply::json(&json!({ "sub": "1001" })),
            };
            self.fake.always("/whoami", reply);
            misbehave(&mut self.fake, "/whoami", case).await;
            let value = Secret::new("abc".to_owned());
            match case {
                Case::Foreign => Some(Credential::Opaque(value)),
                _ => {
                    let cookie = "SMSESSION".into();
                    Some(Credential::Session { cookie, value })
                }
            }
        }
    }

    /// Lists in files: there is nobody to ask, and an outage is a file that was never readable.
    struct Listed<const KEYS: bool> {
        file: NamedTempFile,
    }

    impl<const KEYS: bool> Listed<KEYS> {
        fn write(&mut self, lines: &str) {
            self.file.as_file().set_len(0).unwrap();
            self.file.write_all(lines.as_bytes()).unwrap();
        }
    }

    #[async_trait]
    impl<const KEYS: bool> Double for Listed<KEYS> {
        // A line has no end, no account and no factor; a file is there or not, and cannot be busy, broken or slow.
        const IMPOSSIBLE: &'static [Case] = &[
            Case::Expired,
            Case::Disabled,
            Case::MfaRequired,
            Case::Busy,
            Case::Broken,
            Case::Silent,
            Case::SmallSkew,
            Case::LargeSkew,
        ];

        async fn start() -> Self {
            let file = NamedTempFile::new().unwrap();
            Self { file }
        }

        fn provider(&self) -> Arc<dyn Provider> {
            let (issuer, file) = (
                Issuer::new("https://old.example"),
                self.file.path().to_owned(),
            );
            let kind = if KEYS {
                KindSettings::ApiKey(ApiKey { issuer, file })
            } else {
                KindSettings::Basic(Basic {
                    issuer,
                    file,
                    realm: "old".into(),
                    cache: Duration::from_secs(30),
                    at_once: None,
                })
            };
            built(
                &settings("legacy", Owns::default(), kind),
                &Deps::for_test(),
            )
        }

        async fn arrange(&mut self, case: Case) -> Option<Credential> {
            let line = if KEYS {
                // SHA-256 of `secret`.
                "alice:sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n"
                    .to_owned()
            } else {
                format!("alice:{}\n", bcrypt::hash("secret", 4).unwrap())
            };
            let secret = |text: &str| Secret::new(text.to_owned());
            let present = |text: &str| {
                if KEYS {
                    Credential::ApiKey(secret(text))
                } else {
                    let username = "alice".into();
                    Credential::Basic {
                        username,
                        password: secret(text),
                    }
                }
            };
            match case {
                Case::Good => self.write(&line),
                Case::Revoked => self.write(""),
                Case::Garbage => self.write("alice\n"),
                Case::Gone => {
                    self.file = {
                        let gone = NamedTempFile::new().unwrap();
                        std::fs::remove_file(gone.path()).unwrap();
                        gone
                    }
                }
                Case::Unknown => {
                    self.write(&line);
                    return Some(present("wrong"));
                }
                Case::Foreign => {
                    self.write(&line);
                    return Some(Credential::Opaque(secret("secret")));
                }
                _ => return None,
            }
            Some(present("secret"))
        }
    }

    /// Certificates: nobody is asked, and an outage is a file of authorities that was never readable.
    struct Certified {
        ours: CertifiedIssuer<'static, KeyPair>,
        file: NamedTempFile,
    }

    impl Certified {
        fn authority() -> CertifiedIssuer<'static, KeyPair> {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        }

        /// The list of what our authority has taken back, as PEM.
        fn revoked(&self, serial: u64) -> String {
            let entry = RevokedCertParams {
                serial_number: serial.into(),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let list = CertificateRevocationListParams {
                this_update: date_time_ymd(2024, 1, 1),
                next_update: date_time_ymd(2090, 1, 1),
                crl_number: 1_u64.into(),
                issuing_distribution_point: None,
                revoked_certs: vec![entry],
                key_identifier_method: KeyIdMethod::Sha256,
            };
            list.signed_by(&self.ours).unwrap().pem().unwrap()
        }

        fn write(&mut self, pem: &str) {
            self.file.as_file().set_len(0).unwrap();
            self.file.write_all(pem.as_bytes()).unwrap();
        }
    }

    #[async_trait]
    impl Double for Certified {
        // It knows no accounts and factors, the file cannot be busy, broken or slow, and the dates of a certificate count
        // to the second: there is no leeway.
        const IMPOSSIBLE: &'static [Case] = &[
            Case::Disabled,
            Case::MfaRequired,
            Case::Busy,
            Case::Broken,
            Case::Silent,
            Case::SmallSkew,
        ];

        async fn start() -> Self {
            let (ours, file) = (Self::authority(), NamedTempFile::new().unwrap());
            Self { ours, file }
        }

        fn provider(&self) -> Arc<dyn Provider> {
            let kind = KindSettings::ClientCert(ClientCert {
                issuer: Issuer::new("urn:machines"),
                ca: self.file.path().to_owned(),
                subject: CertificateName::Dns,
            });
            let owns = Owns {
                client_cert: true,
                ..Owns::default()
            };
            built(&settings("machines", owns, kind), &Deps::for_test())
        }

        fn now(&self) -> UnixTime {
            // In 2027.
            UnixTime::from_secs(1_800_000_000)
        }

        async fn arrange(&mut self, case: Case) -> Option<Credential> {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.serial_number = Some(7_u64.into());
            let mut pem = self.ours.pem();
            match case {
                Case::Expired => params.not_after = date_time_ymd(2020, 1, 1),
                Case::LargeSkew => params.not_before = date_time_ymd(2028, 1, 1),
                Case::Revoked => pem += &self.revoked(7),
                Case::Garbage => pem = "-----BEGIN CERTIFICATE-----\nAAAA".to_owned(),
                Case::Good | Case::Unknown | Case::Foreign | Case::Gone => {}
                _ => return None,
            }
            self.write(&pem);
            if case == Case::Gone {
                std::fs::remove_file(self.file.path()).unwrap();
            }
            if case == Case::Foreign {
                return Some(Credential::Opaque(Secret::new("a.test".to_owned())));
            }
            let (key, theirs) = (KeyPair::generate().unwrap(), Self::authority());
            let by = match case {
                Case::Unknown => &theirs,
                _ => &self.ours,
            };
            let own = params.signed_by(&key, by).unwrap();
            Some(Credential::ClientCert(Arc::from([own.der().to_vec()])))
        }
    }

    /// Where each kind runs through the contract: a new one does not compile before it is named here.
    const fn test_of(kind: &KindSettings) -> Option<fn()> {
        Some(match kind {
            KindSettings::Oidc(_) => openid_providers_keep_refusals_and_outages_apart,
            KindSettings::Jwt(_) => plain_issuers_keep_refusals_and_outages_apart,
            KindSettings::Introspection(_) => introspection_keeps_refusals_and_outages_apart,
            KindSettings::SessionProbe(_) => session_probes_keep_refusals_and_outages_apart,
            KindSettings::Basic(_) => password_files_keep_refusals_and_outages_apart,
            KindSettings::ApiKey(_) => key_files_keep_refusals_and_outages_apart,
            KindSettings::ClientCert(_) => certificates_keep_refusals_and_outages_apart,
            // Against a real directory alone, in `real.rs`.
            #[cfg(feature = "ldap")]
            KindSettings::Ldap(_) => return None,
        })
    }

    #[tokio::test]
    async fn every_kind_has_a_test_of_its_own_here_or_against_a_real_server() {
        let idp = Idp::start().await;
        assert!(test_of(&idp.oidc().kind).is_some());
        let real = include_str!("contract/real.rs");
        assert!(real.contains("provider_contract::<Directory<LDAPS>>()"));
    }

    #[tokio::test]
    async fn certificates_keep_refusals_and_outages_apart() {
        provider_contract::<Certified>().await;
    }

    #[tokio::test]
    async fn plain_issuers_keep_refusals_and_outages_apart() {
        provider_contract::<Signed<false, false>>().await;
    }

    #[tokio::test]
    async fn openid_providers_keep_refusals_and_outages_apart() {
        provider_contract::<Signed<true, false>>().await;
    }

    #[tokio::test]
    async fn openid_providers_that_are_asked_about_tokens_keep_refusals_and_outages_apart() {
        provider_contract::<Signed<true, true>>().await;
    }

    #[tokio::test]
    async fn the_example_keeps_refusals_and_outages_apart_in_150_lines() {
        provider_contract::<Office>().await;
        let text = include_str!("example.rs");
        assert!(text.lines().count() <= 150, "an example is short");
        let walk_through = include_str!("../../CONTRIBUTING.md");
        assert!(walk_through.contains("src/providers/example.rs"));
    }

    #[tokio::test]
    async fn introspection_keeps_refusals_and_outages_apart() {
        provider_contract::<Introspected>().await;
    }

    #[tokio::test]
    async fn session_probes_keep_refusals_and_outages_apart() {
        provider_contract::<Probed>().await;
    }

    #[tokio::test]
    async fn password_files_keep_refusals_and_outages_apart() {
        provider_contract::<Listed<false>>().await;
    }

    #[tokio::test]
    async fn key_files_keep_refusals_and_outages_apart() {
        provider_contract::<Listed<true>>().await;
    }
}
