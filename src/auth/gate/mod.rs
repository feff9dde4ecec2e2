//! The gate: a presented credential becomes an admitted identity, or an error. Nothing else does.

mod addressed;
mod admitted;
mod asked;
mod client;
mod confirm;
mod counted;
mod credential;
mod elsewhere;
mod enough;
mod exchanged;
mod fit;
mod issued;
mod judged;
mod made_of;
pub(super) mod moved;
mod noted;
mod own;
mod owner;
mod passwords;
mod renewal;
mod sides;
mod signed;
pub(super) mod stands;
mod wrapped;

pub(crate) use admitted::Admitted;
pub(crate) use admitted::Over;
pub(crate) use admitted::Reach;
pub(crate) use exchanged::UpstreamToken;
pub(crate) use issued::Asker;
pub(crate) use issued::ForClient;
pub(crate) use issued::Own;
pub(crate) use passwords::Stays;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::auth::at_once::AtOnce;
use crate::auth::canonical::Joiner;
use crate::auth::clients::Clients;
use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::admitted::until;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::asked::Instead;
use crate::auth::gate::exchanged::Holder;
use crate::auth::gate::signed::Signed;
use crate::auth::gate::stands::marks_of;
use crate::auth::gate::stands::still_stands;
use crate::auth::gate::wrapped::Its;
use crate::auth::limits::Limits;
use crate::auth::policy::AppPolicy;
use crate::auth::possession::Channel;
use crate::auth::possession::Possession;
use crate::auth::report::Reports;
use crate::auth::settings::RoleMap;
use crate::auth::taken::FallbacksTaken;
use crate::auth::unmatched::Unmatched;
use crate::clock::UnixTime;
use crate::control::Journeys;
use crate::control::Seen;
use crate::entropy::Entropy;
use crate::exchange::Registrations;
use crate::identity::CredentialClass;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::links::Homes;
use crate::providers::Providers;
use crate::revocation::Notices;
use crate::revocation::Revocations;
use crate::rollout::AppId;
use crate::rollout::BucketKey;
use crate::rollout::Cohorts;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::rollout::Observed;
use crate::session::Pins;
use crate::session::SessionId;
use crate::session::Sessions;
use crate::shadow::Desk;

/// What the gate and the login work with, in one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Deps {
    /// All providers.
    pub(crate) providers: Arc<Providers>,
    /// All cohorts.
    pub(crate) cohorts: Arc<Cohorts>,
    /// The key of the bucket hash.
    pub(crate) bucket_key: BucketKey,
    /// Who is one person across providers.
    pub(crate) joiner: Joiner,
    /// Our sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// Who has been on the new side.
    pub(crate) pins: Arc<Pins>,
    /// Whose password is judged there; the same value in every snapshot.
    pub(crate) homes: Arc<Homes>,
    /// Forms of old applications that are on their way; the same value in every snapshot.
    pub(crate) forms: Arc<AtOnce>,
    /// What is over before its time.
    pub(crate) revocations: Arc<Revocations>,
    /// Where calls to providers run.
    pub(crate) background: Handle,
    /// Where unpredictable bytes come from.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Fallbacks taken within the last hour; the same value in every snapshot.
    pub(crate) taken: Arc<FallbacksTaken>,
    /// Who is on the way to a sign-in, and how it ended.
    pub(crate) journeys: Arc<Journeys>,
    /// Who was let in lately; the same value in every snapshot.
    pub(crate) seen: Arc<Seen>,
    /// Exercises; the same value in every snapshot.
    pub(crate) drills: Arc<crate::control::Drills>,
    /// Where accepted credentials are looked at a second time.
    pub(crate) shadow: Desk,
    /// What providers are still to be told; the same value in every snapshot.
    pub(crate) notices: Arc<Notices>,
    /// Whether the position `legacy` of the switch ends what the new provider has vouched for.
    pub(crate) revokes: bool,
    /// Where decisions are told.
    pub(crate) reports: Reports,
    /// Whether a client of our token endpoint may ask about tokens.
    pub(crate) introspects: bool,
    /// Our registrations that exchange, where clients get what they are given.
    pub(crate) ours: Registrations,
    /// The clients of our token endpoint, as providers call them.
    pub(crate) clients: Clients,
    /// Who judges proofs of possession.
    pub(crate) possession: Arc<Possession>,
    /// Who has come how often; the same value in every snapshot.
    pub(crate) limits: Arc<Limits>,
    /// What the groups of a provider mean.
    pub(crate) roles: Arc<HashMap<ProviderId, RoleMap>>,
    /// Which of them mean nothing; the same value in every snapshot.
    pub(crate) unmatched: Arc<Unmatched>,
}

/// Admits, or does not. One per snapshot.
#[derive(Debug)]
pub(crate) struct Gate {
    deps: Deps,
}

impl Gate {
    /// A gate for one snapshot.
    pub(crate) const fn new(deps: Deps) -> Self {
        Self { deps }
    }

    /// Who judges proofs of possession.
    pub(crate) fn possession(&self) -> &Possession {
        &self.deps.possession
    }

    /// Why somebody is not let in whose token is bound to nothing, where it must be.
    pub(crate) fn unbound(&self, admitted: &Admitted, app: &AppId) -> AuthError {
        self.deps.possession.unbound(admitted, app)
    }

    /// Whether a request may use an admission that an earlier one with the same credential got: the proof of possession is
    /// never kept.
    ///
    /// # Errors
    ///
    /// As [`Possession::check`].
    pub(crate) async fn proven(
        &self,
        admitted: &Admitted,
        presented: &Presented<'_>,
        way: (&Facts<'_>, &Channel<'_>),
        now: UnixTime,
    ) -> Result<(), AuthError> {
        let bound = admitted.confirmation();
        self.deps
            .possession
            .check(presented, bound, way, admitted.identity(), now)
            .await
    }

    /// Admits the holder of a credential to a route of an application, or says why not.
    ///
    /// # Errors
    ///
    /// See [`AuthError`]: each ends the request.
    pub(crate) async fn admit(
        &self,
        policy: &AppPolicy,
        route: usize,
        presented: &Presented<'_>,
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let asked = Asked::new(policy, Instead::OnRoute(route), way, kill, now);
        self.ask(&asked, presented).await
    }

    /// Whether what an admitted request has opened may stay open: judged as the request would be now.
    ///
    /// # Errors
    ///
    /// See [`AuthError`]. An outage says nothing of the holder.
    pub(crate) async fn admit_again(
        &self,
        policy: &AppPolicy,
        route: usize,
        presented: &Presented<'_>,
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let asked = Asked::new(policy, Instead::StillOnRoute(route), way, kill, now);
        self.ask(&asked, presented).await
    }

    /// Who somebody is who asks for an address of ours, if they are let in; nothing is made of their credential.
    ///
    /// # Errors
    ///
    /// See [`AuthError`].
    pub(crate) async fn who(
        &self,
        policy: &AppPolicy,
        presented: &Presented<'_>,
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let asked = Asked::new(policy, Instead::Nothing, way, kill, now);
        self.ask(&asked, presented).await
    }

    async fn ask(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
    ) -> Result<Admitted, AuthError> {
        match asked.kill {
            KillPosition::Deny => return Err(AuthError::Closed),
            KillPosition::Off
            | KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern => {}
        }
        let admitted = match presented.session() {
            Some(id) => self.by_session(asked, presented, id).await,
            None => self.by_credential(asked, presented).await.map_err(|error| {
                self.deps
                    .possession
                    .in_scheme(error, presented, asked.policy.app())
            }),
        };
        self.with_accounts(admitted?, asked.now).await
    }

    /// Our own session: its proof was given at the login; what is asked now is whether it lives and is honoured here.
    async fn by_session(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        id: SessionId<'_>,
    ) -> Result<Admitted, AuthError> {
        let class = CredentialClass::Session;
        let found = self
            .deps
            .sessions
            .restore(id, asked.now)
            .await
            .map_err(|error| AuthError::store(&error, class))?;
        // A session of another host looks like none.
        let Some(restored) = found.filter(|restored| restored.host() == asked.facts.host) else {
            return Box::pin(self.beside(asked, presented)).await;
        };
        let provider = &restored.identity().provider.clone();
        let owner = asked
            .policy
            .judge(provider, &self.deps.providers)
            .ok_or_else(|| AuthError::refused(Refusal::NotAccepted, provider, class))?;
        let epoch = owner.epoch().current();
        let standing = self.stands(asked, provider, class, marks_of(&restored))?;
        let restored = match restored.stands_for() {
            None => {
                let again = self.once_more(asked, &restored);
                self.confirmed(restored, (owner, again), asked).await?
            }
            Some(_) => {
                let its = self.with_its_cookie(asked, presented, restored, owner);
                match Box::pin(its).await? {
                    Its::Session(restored) => restored,
                    Its::OfAnother => return Box::pin(self.beside(asked, presented)).await,
                }
            }
        };
        let identity = restored.identity();
        let person = restored.canonical();
        let exercised = self.exercised(asked, class, person, identity).await;
        exercised.and_then(|()| self.accepted_of(asked, class, person, identity))?;
        self.saw_session(asked, (person, identity), Observed::SessionHonoured);
        if restored.came_by().is_some() {
            self.has_arrived(asked, presented, &restored);
        }
        let known = self.with_roles(identity, class, asked.now)?;
        let holder = Holder {
            identity: &known,
            canonical: restored.canonical(),
            class,
            credential: None,
            bound: None,
            ends: asked.policy.cut(provider, restored.ends(), asked.now),
            outlived: None,
            lasts: restored.ends(),
            epoch,
            asked_by: None,
            narrowed: false,
            over: None,
            standing: &standing,
            session: Some(*restored.row()),
        };
        let wanted = asked.on_route();
        let token = self.instead(asked, wanted, presented, &holder).await?;
        still_stands(&standing, (provider, class), asked.now)?;
        Ok(Admitted {
            identity: known,
            canonical: restored.canonical().clone(),
            accounts: None,
            class,
            confirmation: None,
            arm: asked.policy.plan().and_then(|plan| plan.arm(provider)),
            rule: Arc::clone(restored.rule()),
            expires: until(
                asked.policy.cut(provider, restored.ends(), asked.now),
                &token,
            ),
            token,
            ends: asked.policy.cut(provider, restored.ends(), asked.now),
            life_ends: asked.policy.cut(provider, restored.ends(), asked.now),
            rests_on: owner.epoch().clone(),
            epoch,
            signed: Signed::default(),
            session: Some(Arc::clone(restored.live())),
            standing,
            kill: asked.kill,
            reach: asked.policy.reach(),
            wrapped: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::extract::extract;

    use crate::auth::fake::FakeProvider;
    use crate::auth::fake::World;
    use crate::auth::fake::at;
    use crate::auth::fake::headers;
    use crate::auth::fake::identity;
    use crate::auth::fake::plan;
    use crate::auth::fake::token;
    use crate::identity::CanonicalSubject;
    use crate::identity::Grounds;
    use crate::identity::Outage;
    use crate::identity::TokenId;
    use crate::providers::Authenticated;
    use crate::providers::Provider;
    use crate::revocation::Asked as RevocationAsked;
    use crate::revocation::Source;
    use crate::revocation::Target;
    use crate::rollout;
    use crate::rollout::AcceptOverride;
    use crate::rollout::Arm;
    use crate::rollout::AssignRule;
    use crate::rollout::BasicPolicy;
    use crate::rollout::Bucket;
    use crate::rollout::BucketKey;
    use crate::rollout::Cohort;
    use crate::rollout::CohortId;
    use crate::rollout::LoginPolicy;
    use crate::rollout::Mode;
    use crate::rollout::OtherArm;
    use crate::rollout::SessionPolicy;
    use crate::rollout::Share;
    use crate::rollout::UnitKind;
    use crate::secret::Secret;
    use crate::session::Backing;
    use crate::session::NewSession;
    use crate::session::Origin;

    const BASIC: (&str, &str) = ("authorization", "Basic YWxpY2U6c2VjcmV0");

    async fn admit(
        world: &World,
        kill: KillPosition,
        fields: &[(&'static str, &str)],
    ) -> Result<Admitted, AuthError> {
        let (policy, headers) = (world.policy(), headers(fields));
        let presented = extract(&headers, None, policy.owners(), &[])?.expect("a credential");
        let gate = Gate::new(world.deps());
        let way = (&world.facts(), &world.channel());
        gate.admit(&policy, 0, &presented, way, kill, at(0)).await
    }

    async fn refused(world: &World, kill: KillPosition, fields: &[(&'static str, &str)]) -> String {
        match admit(world, kill, fields).await.unwrap_err() {
            AuthError::Refused {
                refusal, provider, ..
            } => {
                let provider = provider.map_or_else(|| String::from("-"), |p| p.to_string());
                format!("{refusal} {provider}")
            }
            other @ (AuthError::Unproven { .. }
            | AuthError::InsufficientScope { .. }
            | AuthError::StepUp { .. }
            | AuthError::Forbidden { .. }
            | AuthError::Unavailable { .. }
            | AuthError::Limited { .. }
            | AuthError::Closed) => other.to_string(),
        }
    }

    #[tokio::test]
    async fn a_key_that_nobody_has_published_is_waited_for_only_so_often() {
        let mut own = FakeProvider::new();
        own.local = false;
        let mut world = World::of(FakeProvider::old(), own);
        world.rate_limits.unknown_keys = 2;
        let unknown = || Err(Refusal::BadSignature.into());
        *world.new.verdict.lock().unwrap() = Arc::new(move |_| unknown());
        let field = bearer("alice");
        let fields = [("authorization", &*field)];
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(refused(&world, KillPosition::Off, &fields).await);
        }
        let expected = [
            "bad_signature new",
            "bad_signature new",
            "too often",
            "too often",
        ];
        assert_eq!(seen, expected);
        let asked = world.new.asked.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(asked, 2, "nobody waits for the third");
        // An outage is none of their doing.
        world.rate_limits.unknown_keys = 9;
        *world.new.verdict.lock().unwrap() = Arc::new(|_| Err(Outage::KeysUnavailable.into()));
        for _ in 0..20 {
            let error = admit(&world, KillPosition::Off, &fields).await.unwrap_err();
            assert!(matches!(error, AuthError::Unavailable { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_hint_alone_refuses_nobody_and_what_was_refused_is_judged_by_nobody() {
        let world = World::canary();
        let (policy, value) = (world.policy(), bearer("alice"));
        let headers = headers(&[("authorization", value.as_str())]);
        let token = value.trim_start_matches("Bearer ").to_owned();
        let gate = Gate::new(world.deps());
        let way = (&world.facts(), &world.channel());
        let admit = async |hint: bool, kill| {
            let presented = extract(&headers, None, policy.owners(), &[]);
            let presented = presented.unwrap().expect("a credential").hinted(hint);
            gate.admit(&policy, 0, &presented, way, kill, at(0)).await
        };
        let refusal = |result: Result<Admitted, AuthError>| match result {
            Err(AuthError::Refused {
                refusal, provider, ..
            }) => (refusal, provider.map(|provider| provider.to_string())),
            other => panic!("{other:?}"),
        };
        let (off, new) = (KillPosition::Off, Some(String::from("new")));
        // The place of the hint may be another token's.
        assert!(admit(true, off).await.is_ok());
        for (issuer, refused, admitted) in [
            ("https://new.idp.test", "another token", true),
            ("https://old.idp.test", &*token, true),
            ("https://new.idp.test", &*token, false),
        ] {
            *world.new.refused.lock().unwrap() = Some((issuer.to_owned(), refused.to_owned()));
            let before = world.new.asked();
            let result = admit(true, off).await;
            assert_eq!(result.is_ok(), admitted, "{issuer} {refused}");
            assert_eq!(world.new.asked() != before, admitted, "{issuer} {refused}");
        }
        assert_eq!(
            refusal(admit(true, off).await),
            (Refusal::BadSignature, new.clone())
        );
        // Without the hint it is read and judged as ever.
        assert!(admit(false, off).await.is_ok());
        // What is not accepted at all is not accepted, refused before or not.
        let mut world = World::canary();
        world.plan = Some(plan(Mode::LegacyOnly, Vec::new()));
        *world.new.refused.lock().unwrap() =
            Some(("https://new.idp.test".to_owned(), token.clone()));
        let (policy, gate) = (world.policy(), Gate::new(world.deps()));
        let way = (&world.facts(), &world.channel());
        let presented = extract(&headers, None, policy.owners(), &[]);
        let presented = presented.unwrap().expect("a credential").hinted(true);
        let result = gate.admit(&policy, 0, &presented, way, off, at(0)).await;
        assert_eq!(refusal(result), (Refusal::NotAccepted, new));
    }

    fn bearer(subject: &str) -> String {
        format!("Bearer {}", token("https://new.idp.test", subject))
    }

    fn all_to(arm: Arm) -> AssignRule {
        AssignRule {
            cohort: None,
            share: Share::All,
            to: arm,
            until: None,
        }
    }

    fn old_sessions(sessions: SessionPolicy, except: &[&str]) -> AcceptOverride {
        AcceptOverride {
            provider: ProviderId::new("old"),
            new_logins: LoginPolicy::Refuse,
            except: except.iter().map(|name| CohortId::new(name)).collect(),
            started_logins_grace: Duration::ZERO,
            sessions,
            basic: BasicPolicy::Accept,
            deadline: None,
        }
    }

    #[tokio::test]
    async fn each_class_is_judged_by_its_owner_alone() {
        let world = World::canary();
        let token = bearer("alice");
        for (fields, class, provider) in [
            (
                ("authorization", token.as_str()),
                CredentialClass::Bearer,
                "new",
            ),
            (
                ("authorization", "Bearer alice"),
                CredentialClass::Opaque,
                "old",
            ),
            (BASIC, CredentialClass::Basic, "old"),
            (("x-api-key", "alice"), CredentialClass::ApiKey, "old"),
            (("cookie", "OLDSID=alice"), CredentialClass::Session, "old"),
        ] {
            let (old, new) = (world.old.asked(), world.new.asked());
            let admitted = admit(&world, KillPosition::Off, &[fields]).await.unwrap();
            assert_eq!(
                (admitted.class(), admitted.provider().as_str()),
                (class, provider)
            );
            assert_eq!(admitted.identity().key.subject.as_str(), "alice");
            let arm = if provider == "new" {
                Arm::To
            } else {
                Arm::From
            };
            assert_eq!(admitted.arm(), Some(arm));
            assert_eq!(admitted.expires(), at(300));
            let asked = (world.old.asked() - old, world.new.asked() - new);
            assert_eq!(
                asked,
                if provider == "new" { (0, 1) } else { (1, 0) },
                "{class:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_an_outage_is_503_and_nobody_else_is_asked() {
        let world = World::canary();
        let expect = async |fields, expected: &str| {
            assert_eq!(
                refused(&world, KillPosition::Off, &[fields]).await,
                expected
            );
        };
        let (bad, down) = (bearer("bad"), bearer("down"));
        expect(("authorization", &bad), "bad_credentials new").await;
        expect(("authorization", &down), "unavailable: timeout").await;
        assert_eq!((world.old.asked(), world.new.asked()), (0, 2));
        expect(("cookie", "OLDSID=bad"), "bad_credentials old").await;
        expect(("authorization", "Bearer disabled"), "disabled old").await;
        expect(("cookie", "OLDSID=down"), "unavailable: timeout").await;
        assert_eq!((world.old.asked(), world.new.asked()), (3, 2));
        let evil = format!("Bearer {}", token("https://evil.idp.test", "alice"));
        expect(("authorization", &evil), "wrong_issuer -").await;
        expect(("authorization", "Bearer a.b.c"), "bad_credentials -").await;
        assert_eq!((world.old.asked(), world.new.asked()), (3, 2));
    }

    #[tokio::test]
    async fn a_judgement_that_breaks_off_is_an_outage() {
        let world = World::canary();
        *world.old.verdict.lock().unwrap() = Arc::new(|_| panic!("a bug in a provider"));
        let answer = refused(&world, KillPosition::Off, &[("cookie", "OLDSID=a")]).await;
        assert_eq!(answer, "unavailable: shed");
    }

    #[tokio::test]
    async fn a_proof_of_somebody_elses_account_or_of_the_past_is_refused() {
        let world = World::canary();
        let says = |provider: &'static str, expires| {
            *world.old.verdict.lock().unwrap() = Arc::new(move |subject| {
                Ok(Authenticated::for_test(
                    identity(provider, subject),
                    expires,
                ))
            });
        };
        let cookie = [("cookie", "OLDSID=alice")];
        says("new", at(300));
        assert_eq!(
            refused(&world, KillPosition::Off, &cookie).await,
            "policy old"
        );
        says("old", at(0));
        assert_eq!(
            refused(&world, KillPosition::Off, &cookie).await,
            "expired old"
        );
        says("old", at(1));
        assert!(admit(&world, KillPosition::Off, &cookie).await.is_ok());
    }

    #[tokio::test]
    async fn what_the_stage_does_not_honour_is_not_even_judged() {
        let mut world = World::canary();
        world.plan = Some(plan(Mode::LegacyOnly, Vec::new()));
        let answer = refused(
            &world,
            KillPosition::Off,
            &[("authorization", &bearer("alice"))],
        )
        .await;
        assert_eq!(answer, "not_accepted new");
        world.plan = Some(plan(Mode::ModernOnly, Vec::new()));
        assert_eq!(
            refused(&world, KillPosition::Off, &[BASIC]).await,
            "not_accepted old"
        );
        assert_eq!((world.old.asked(), world.new.asked()), (0, 0));
    }

    #[tokio::test]
    async fn the_kill_switch_stands_above_the_stage() {
        let world = World::canary();
        assert_eq!(
            refused(&world, KillPosition::Modern, &[BASIC]).await,
            "quarantined old"
        );
        assert_eq!(world.old.asked(), 0);
        let answer = admit(&world, KillPosition::Deny, &[BASIC])
            .await
            .unwrap_err();
        assert_eq!(answer, AuthError::Closed);
        let kept = admit(&world, KillPosition::Off, &[BASIC]).await.unwrap();
        assert!(kept.still_good(KillPosition::Off, at(1)));
        assert!(!kept.still_good(KillPosition::Modern, at(1)));
    }

    #[tokio::test]
    async fn who_is_excepted_is_known_after_the_judgement_only() {
        let mut world = World::canary();
        let mut staged = plan(Mode::ModernPrimary, Vec::new());
        staged.stage.accept = vec![old_sessions(SessionPolicy::Refuse, &["glass"])];
        world.plan = Some(staged);
        let glass = identity("old", "alice");
        let glass = CanonicalSubject::unjoined(&glass.key).as_str().into();
        world.cohorts.insert(
            CohortId::new("glass"),
            Cohort::Subjects([glass].into_iter().collect()),
        );
        let admitted = admit(&world, KillPosition::Off, &[("cookie", "OLDSID=alice")])
            .await
            .unwrap();
        assert_eq!(admitted.reach(), Reach::SameCredential);
        let answer = refused(&world, KillPosition::Off, &[("cookie", "OLDSID=bob")]).await;
        assert_eq!(answer, "not_accepted old");
        world.cohorts.insert(
            CohortId::new("glass"),
            Cohort::All(vec![Cohort::Path(vec!["/orders".into()])]),
        );
        let admitted = admit(&world, KillPosition::Off, &[("cookie", "OLDSID=bob")])
            .await
            .unwrap();
        assert_eq!(admitted.reach(), Reach::ThisRequest);
    }

    #[tokio::test]
    async fn a_verdict_ends_with_the_deadline_of_the_stage() {
        let mut world = World::canary();
        let mut staged = plan(Mode::ModernPrimary, Vec::new());
        staged.stage.accept = vec![AcceptOverride {
            deadline: Some(at(100)),
            ..old_sessions(SessionPolicy::UntilExpiry, &[])
        }];
        world.plan = Some(staged);
        let admitted = admit(&world, KillPosition::Off, &[("cookie", "OLDSID=alice")])
            .await
            .unwrap();
        assert_eq!(admitted.expires(), at(100));
    }

    #[tokio::test]
    async fn a_verdict_ends_with_the_rule_by_which_its_credential_counts() {
        let mut world = World::canary();
        let until = |action| {
            let stays = AssignRule {
                until: Some(at(100)),
                ..all_to(Arm::From)
            };
            let mut staged = plan(Mode::Canary, vec![stays, all_to(Arm::To)]);
            staged.stage.other_arm = action;
            Some(staged)
        };
        for action in [OtherArm::Reject, OtherArm::Exchange] {
            world.plan = until(action);
            let admitted = admit(&world, KillPosition::Off, &[BASIC]).await.unwrap();
            assert_eq!(admitted.expires(), at(100), "{action:?}");
            assert!(at(100) < admitted.ends(), "a stream is asked about again");
            let cookie = [("cookie", "OLDSID=alice")];
            let session = admit(&world, KillPosition::Off, &cookie).await.unwrap();
            assert!(at(100) < session.expires(), "a session counts on");
        }
        world.plan = until(OtherArm::Accept);
        let admitted = admit(&world, KillPosition::Off, &[BASIC]).await.unwrap();
        assert!(at(100) < admitted.expires(), "it counts on");
    }

    #[tokio::test]
    async fn a_good_api_credential_of_the_other_arm_follows_the_stage() {
        let mut world = World::canary();
        let staged = |action| {
            let mut staged = plan(Mode::Canary, vec![all_to(Arm::To)]);
            staged.stage.other_arm = action;
            Some(staged)
        };
        world.plan = staged(OtherArm::Accept);
        let admitted = admit(&world, KillPosition::Off, &[BASIC]).await.unwrap();
        assert_eq!(
            (admitted.arm(), admitted.rule()),
            (Some(Arm::From), "percent")
        );
        for action in [OtherArm::Reject, OtherArm::Exchange] {
            world.plan = staged(action);
            assert_eq!(
                refused(&world, KillPosition::Off, &[BASIC]).await,
                "not_accepted old"
            );
            let token = bearer("alice");
            assert!(
                admit(&world, KillPosition::Off, &[("authorization", &token)])
                    .await
                    .is_ok()
            );
            let cookie = [("cookie", "OLDSID=alice")];
            assert!(
                admit(&world, KillPosition::Off, &cookie).await.is_ok(),
                "a session moves by carry-over"
            );
        }
    }

    #[tokio::test]
    async fn a_pinned_person_is_on_the_new_side_for_their_api_credentials_too() {
        let mut world = World::canary();
        let mut staged = plan(Mode::Canary, Vec::new());
        staged.stage.other_arm = OtherArm::Reject;
        world.plan = Some(staged.clone());
        assert!(admit(&world, KillPosition::Off, &[BASIC]).await.is_ok());
        let alice = CanonicalSubject::unjoined(&identity("old", "alice").key);
        world
            .pins()
            .moved(&staged.id, (&alice, &[0; 32]), 3, at(0))
            .await
            .unwrap();
        assert_eq!(
            refused(&world, KillPosition::Off, &[BASIC]).await,
            "not_accepted old"
        );
        staged.epoch = 4;
        world.plan = Some(staged);
        assert!(
            admit(&world, KillPosition::Off, &[BASIC]).await.is_ok(),
            "a rollback voids pins"
        );
    }

    /// Buckets, pins and cohorts speak of the person: a name is the same at both providers, and it is text.
    #[tokio::test]
    async fn a_person_of_two_providers_has_one_name_that_no_header_encoding_touches() {
        let mut world = World::canary();
        world.canonical = Some(crate::links::settings::Canonical::by_claims(
            "hr:{subject}",
            vec![crate::identity::Normalise::Trim],
            &["old", "new"],
        ));
        let bearer = bearer("Zoë");
        // ` Zoë :secret`
        for credential in ["Basic IFpvw6sgOnNlY3JldA==", &bearer] {
            let fields = [("authorization", credential)];
            let admitted = admit(&world, KillPosition::Off, &fields).await.unwrap();
            assert_eq!(admitted.canonical().as_str(), "hr:Zoë");
            let bucket = Bucket::of(
                &BucketKey::new(Secret::new((0..32).collect())),
                "crm-2026-a",
                UnitKind::Subject,
                admitted.canonical().as_str(),
            );
            assert_eq!(bucket.number(), 693_901);
        }
        let mut staged = plan(Mode::ModernPrimary, Vec::new());
        staged.stage.accept = vec![old_sessions(SessionPolicy::Refuse, &["glass"])];
        world.plan = Some(staged);
        let zoe = ["hr:Zoë".into()].into_iter().collect();
        let glass = CohortId::new("glass");
        world.cohorts.insert(glass, Cohort::Subjects(zoe));
        let says = |name: &'static str| {
            *world.old.verdict.lock().unwrap() =
                Arc::new(move |_| Ok(Authenticated::for_test(identity("old", name), at(300))));
        };
        // One account of the old side is one person: it is the account that was seen above.
        says(" Zoë ");
        let zoe = admit(&world, KillPosition::Off, &[("cookie", "OLDSID=1")]).await;
        assert_eq!(zoe.unwrap().canonical().as_str(), "hr:Zoë");
        says("Zoe");
        let other = refused(&world, KillPosition::Off, &[("cookie", "OLDSID=2")]).await;
        assert_eq!(other, "not_accepted old");
    }

    #[tokio::test]
    async fn a_provider_of_another_application_has_no_say() {
        let mut world = World::canary();
        world.plan = None;
        world.single = Some(ProviderId::new("old"));
        let token = bearer("alice");
        let answer = refused(&world, KillPosition::Off, &[("authorization", &token)]).await;
        assert_eq!(answer, "wrong_issuer -");
        assert_eq!(world.new.asked(), 0);
        let admitted = admit(&world, KillPosition::Off, &[BASIC]).await.unwrap();
        assert_eq!((admitted.arm(), admitted.rule()), (None, "single"));
    }

    async fn session(world: &World, provider: &str, host: &str) -> String {
        let proof = Authenticated::for_test(identity(provider, "alice"), at(60));
        let canonical = CanonicalSubject::named("hr:1").unwrap();
        let new = NewSession {
            authenticated: &proof,
            canonical: &canonical,
            app: "crm",
            host,
            backing: Some(Backing {
                rollout: rollout::RolloutId::new("crm-2026"),
                epoch: 3,
                arm: Arm::To,
            }),
            rule: "percent",
            origin: Origin::Login,
            until: UnixTime::NEVER,
            began: UnixTime::NEVER,
            id_token: None,
            sid: None,
            refresh_token: None,
            lasts: None,
            stands_for: None,
            came_by: None,
            left: None,
        };
        let created = world.sessions().create(new, at(0)).await.unwrap();
        format!("__Host-authferry={}", created.cookie.expose())
    }

    #[tokio::test]
    async fn our_session_is_admitted_without_asking_anybody() {
        let world = World::canary();
        let cookie = session(&world, "new", "app.test").await;
        let admitted = admit(&world, KillPosition::Off, &[("cookie", &cookie)])
            .await
            .unwrap();
        assert_eq!(
            (admitted.arm(), admitted.rule()),
            (Some(Arm::To), "percent")
        );
        assert_eq!(admitted.canonical().as_str(), "hr:1");
        assert_eq!((world.old.asked(), world.new.asked()), (0, 0));
        assert!(admitted.still_good(KillPosition::Off, at(1)));
        let id = cookie.strip_prefix("__Host-authferry=").unwrap();
        let id = SessionId::parse(id).unwrap();
        world.sessions().end(id, at(2)).await.unwrap();
        assert!(!admitted.still_good(KillPosition::Off, at(2)));
        let answer = refused(&world, KillPosition::Off, &[("cookie", &cookie)]).await;
        assert_eq!(answer, "inactive -");
    }

    #[tokio::test]
    async fn a_session_of_another_host_looks_like_none() {
        let world = World::canary();
        let cookie = session(&world, "new", "app2.test").await;
        let foreign = refused(&world, KillPosition::Off, &[("cookie", &cookie)]).await;
        let unknown = format!("__Host-authferry={}", "A".repeat(43));
        let unknown = refused(&world, KillPosition::Off, &[("cookie", &unknown)]).await;
        assert_eq!(foreign, unknown);
    }

    #[tokio::test]
    async fn a_session_is_honoured_only_as_long_as_its_side_is() {
        let mut world = World::canary();
        let new = session(&world, "new", "app.test").await;
        let old = session(&world, "old", "app.test").await;
        let answer = refused(&world, KillPosition::Modern, &[("cookie", &old)]).await;
        assert_eq!(answer, "quarantined old");
        assert!(
            admit(&world, KillPosition::Modern, &[("cookie", &new)])
                .await
                .is_ok()
        );
        world.plan = Some(plan(Mode::LegacyOnly, Vec::new()));
        let answer = refused(&world, KillPosition::Off, &[("cookie", &new)]).await;
        assert_eq!(answer, "not_accepted new");
        world.plan = None;
        world.single = Some(ProviderId::new("old"));
        let answer = refused(&world, KillPosition::Off, &[("cookie", &new)]).await;
        assert_eq!(answer, "not_accepted new");
    }

    #[tokio::test]
    async fn a_kept_verdict_dies_with_its_time_and_with_what_it_rests_on() {
        let world = World::canary();
        let token = bearer("alice");
        let kept = admit(&world, KillPosition::Off, &[("authorization", &token)])
            .await
            .unwrap();
        assert!(kept.still_good(KillPosition::Off, at(299)));
        assert!(!kept.still_good(KillPosition::Off, at(300)));
        world.new.epoch().raise();
        assert!(!kept.still_good(KillPosition::Off, at(1)));
    }

    #[tokio::test]
    async fn what_is_voided_while_it_is_judged_is_void() {
        let world = World::canary();
        let epoch = world.old.epoch().clone();
        *world.old.verdict.lock().unwrap() = Arc::new(move |subject| {
            epoch.raise();
            Ok(Authenticated::for_test(identity("old", subject), at(300)))
        });
        let kept = admit(&world, KillPosition::Off, &[BASIC]).await.unwrap();
        assert!(!kept.still_good(KillPosition::Off, at(0)));
    }

    fn jti(jti: &str, began: u64) -> Grounds {
        Grounds {
            began: Some(at(began)),
            token: Some(TokenId::Named(jti.into())),
            ..Grounds::default()
        }
    }

    async fn revoke(world: &World, source: Source, target: Target) {
        let asked = RevocationAsked {
            target,
            source,
            actor: "unix:0".into(),
            reason: "a test".into(),
            keep: None,
            provider: None,
        };
        world.revocations.revoke(asked).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_another_provider_has_barred_is_known_and_forbidden() {
        let world = World::canary();
        let token = bearer("a");
        let fields = [("authorization", &*token)];
        let kept = admit(&world, KillPosition::Off, &fields).await.unwrap();
        let barred = crate::revocation::Barred {
            provider: ProviderId::new("old"),
            account: identity("old", "al").key,
            person: Some(kept.canonical().clone()),
            key: None,
        };
        world.revocations.deny(&barred).await.unwrap();
        assert!(!kept.still_good(KillPosition::Off, at(0)));
        let error = admit(&world, KillPosition::Off, &fields).await.unwrap_err();
        assert!(
            matches!(
                &error,
                AuthError::Forbidden { refusal: Refusal::Disabled, provider, .. } if provider.as_str() == "new"
            ),
            "{error:?}"
        );
        assert!(!error.leads_to_login());
    }

    #[tokio::test]
    async fn a_revoked_token_is_refused_and_a_kept_verdict_about_it_is_void_at_once() {
        let world = World::canary();
        *world.new.verdict.lock().unwrap() = Arc::new(|subject| {
            let proof = Authenticated::for_test(identity("new", subject), at(300));
            Ok(proof.for_test_on(jti(subject, 0)))
        });
        let (a, b) = (bearer("a"), bearer("b"));
        let kept = admit(&world, KillPosition::Off, &[("authorization", &*a)])
            .await
            .unwrap();
        let other = admit(&world, KillPosition::Off, &[("authorization", &*b)])
            .await
            .unwrap();
        let target = Target::Token {
            issuer: "https://new.idp.test".into(),
            jti: "a".into(),
        };
        revoke(&world, Source::Operator, target).await;
        assert!(!kept.still_good(KillPosition::Off, at(1)));
        assert_eq!(kept.over(KillPosition::Off, at(1)), Some(Over::Revoked));
        assert!(other.still_good(KillPosition::Off, at(1)));
        // What has run out, or is judged otherwise under the switch, is a question and no revocation.
        assert_eq!(other.over(KillPosition::Off, at(1)), None);
        for (kill, now) in [(KillPosition::Off, 300), (KillPosition::Freeze, 1)] {
            let ask_again = Some(Over::AskAgain);
            assert_eq!(other.over(kill, at(now)), ask_again, "{kill:?} {now}");
        }
        let refused = refused(&world, KillPosition::Off, &[("authorization", &*a)]).await;
        assert_eq!(refused, "revoked new");
    }

    #[tokio::test]
    async fn one_persons_logout_ends_what_either_provider_vouched_for_before_it() {
        let mut world = World::canary();
        world.canonical = Some(crate::links::settings::Canonical::by_claims(
            "hr:{subject}",
            Vec::new(),
            &["old", "new"],
        ));
        for provider in ["old", "new"] {
            let fake = if provider == "old" {
                &world.old
            } else {
                &world.new
            };
            *fake.verdict.lock().unwrap() = Arc::new(move |subject| {
                let proof = Authenticated::for_test(identity(provider, subject), at(300));
                let began = if subject == "late" { 1 } else { 0 };
                Ok(proof.for_test_on(jti("x", began)))
            });
        }
        let new = bearer("alice");
        let old = [("authorization", "Bearer alice")];
        let kept = admit(&world, KillPosition::Off, &old).await.unwrap();
        let target = Target::Subject {
            subject: "hr:alice".into(),
        };
        revoke(&world, Source::BackChannel, target).await;
        assert!(!kept.still_good(KillPosition::Off, at(0)));
        let there = refused(&world, KillPosition::Off, &old).await;
        let here = refused(&world, KillPosition::Off, &[("authorization", &new)]).await;
        assert_eq!(
            (there.as_str(), here.as_str()),
            ("revoked old", "revoked new")
        );
        let bob = bearer("bob");
        assert!(
            admit(&world, KillPosition::Off, &[("authorization", &bob)])
                .await
                .is_ok()
        );
    }

    /// A session of the new side that was given for one of the old one; the rows of both, and its cookie.
    async fn given(world: &World) -> ([u8; 32], String) {
        let sessions = world.sessions();
        let canonical = CanonicalSubject::named("hr:1").unwrap();
        let new = |authenticated, came_by| NewSession {
            authenticated,
            canonical: &canonical,
            app: "crm",
            host: "app.test",
            backing: None,
            rule: "exchange",
            origin: Origin::Exchange,
            until: UnixTime::NEVER,
            began: UnixTime::NEVER,
            id_token: None,
            sid: Some("S1"),
            refresh_token: None,
            lasts: None,
            stands_for: None,
            came_by,
            left: None,
        };
        let old = Authenticated::for_test(identity("old", "alice"), at(60));
        let old = old.for_test_on(Grounds {
            kid: Some("k-1".into()),
            ..Grounds::default()
        });
        let old = sessions.create(new(&old, None), at(0)).await.unwrap();
        let id = SessionId::parse(old.cookie.expose()).unwrap();
        let before = sessions.restore(id, at(0)).await.unwrap().unwrap();
        let came_by = Some(crate::session::CameBy::new("vouch", &before));
        let proof = Authenticated::for_test(identity("new", "a1"), at(60));
        let moved = sessions.create(new(&proof, came_by), at(0)).await.unwrap();
        let cookie = format!("__Host-authferry={}", moved.cookie.expose());
        (old.row, cookie)
    }

    #[tokio::test]
    async fn what_ends_the_old_session_that_one_was_given_for_ends_it_too() {
        let account = |subject: &str| Target::Account {
            issuer: String::from("https://old.idp.test"),
            subject: subject.to_owned(),
        };
        let sid = |sid: &str| Target::ProviderSession {
            issuer: String::from("https://old.idp.test"),
            sid: sid.to_owned(),
        };
        let provider = |name: &str| Target::Provider {
            provider: name.to_owned(),
        };
        let key = |key: &str| Target::Key {
            provider: String::from("old"),
            key: key.to_owned(),
        };
        for (target, good) in [
            (sid("S2"), true),
            (sid("S1"), false),
            (account("bob"), true),
            (account("alice"), false),
            (provider("third"), true),
            (provider("old"), false),
            (key("k-2"), true),
            (key("k-1"), false),
        ] {
            let world = World::canary();
            let (_, cookie) = given(&world).await;
            let fields = [("cookie", &*cookie)];
            let kept = admit(&world, KillPosition::Off, &fields).await.unwrap();
            let what = format!("{target:?}");
            revoke(&world, Source::Operator, target).await;
            assert_eq!(kept.still_good(KillPosition::Off, at(0)), good, "{what}");
            if !good {
                let refused = refused(&world, KillPosition::Off, &fields).await;
                assert_eq!(refused, "revoked new", "{what}");
            }
        }
        // Of an old side that is closed nobody is left, and who has moved stays.
        let world = World::canary();
        let (follows, cookie) = given(&world).await;
        let kept = admit(&world, KillPosition::Off, &[("cookie", &*cookie)]).await;
        let closes = RevocationAsked {
            target: provider("old"),
            source: Source::Operator,
            actor: "legacy close".into(),
            reason: "closed".into(),
            keep: None,
            provider: None,
        };
        world.revocations.revoke_only(closes).await.unwrap();
        let kept = kept.unwrap();
        assert!(kept.still_good(KillPosition::Off, at(0)));
        // A sign-out with the old cookie, while the answer with the new one is on its way.
        let ended = world.revocations.end_both(&follows, None);
        ended.await.unwrap();
        assert!(!kept.still_good(KillPosition::Off, at(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchanged_session_ends_the_other_once_no_tab_is_on_its_way_with_it() {
        let store = Arc::new(crate::store::FakeStore::default());
        let (old, new) = (FakeProvider::old(), FakeProvider::new());
        let mut world = World::on(Arc::clone(&store) as _, old, new);
        world.plan = Some(plan(Mode::Canary, Vec::new()));
        let away = |away| store.away.store(away, std::sync::atomic::Ordering::SeqCst);
        let (follows, cookie) = given(&world).await;
        let fields = [("cookie", &*cookie)];
        let is_there = async || {
            let known = world.sessions().known(&follows, at(0)).await;
            known.unwrap().is_some()
        };
        admit(&world, KillPosition::Off, &fields).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(is_there().await, "a second tab is answered");
        // When its time has come nobody can say so: the next use says it again.
        away(true);
        tokio::time::sleep(Duration::from_secs(2)).await;
        away(false);
        assert!(is_there().await);
        admit(&world, KillPosition::Off, &fields).await.unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!is_there().await);
        admit(&world, KillPosition::Off, &fields).await.unwrap();
    }

    #[tokio::test]
    async fn before_anything_is_known_of_revocations_nobody_is_let_in_and_nobody_is_thrown_out() {
        let world = World::canary();
        let mut deps = world.deps();
        deps.revocations = Revocations::unknown_for_test(&world.revocations);
        let (policy, headers) = (world.policy(), headers(&[BASIC]));
        let presented = extract(&headers, None, policy.owners(), &[])
            .unwrap()
            .unwrap();
        let facts = world.facts();
        let gate = Gate::new(deps);
        let channel = world.channel();
        let way = (&facts, &channel);
        let admitted = gate.admit(&policy, 0, &presented, way, KillPosition::Off, at(0));
        assert_eq!(
            admitted.await.unwrap_err().to_string(),
            "unavailable: connect"
        );
    }
}
