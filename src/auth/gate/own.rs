//! A token that we have minted for a client, presented as a credential: good by our own keys, and worth what the credential is
//! worth now that it was made of, as the row of what was handed out has it. Without that row it is nobody's.

use std::sync::Arc;

use crate::auth::error::AuthError;
use crate::auth::extract::Owned;
use crate::auth::extract::Presented;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::credential::Judged;
use crate::auth::gate::signed::Signed;
use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Refusal;
use crate::identity::TokenId;
use crate::providers::Epoch;
use crate::revocation::Found;
use crate::revocation::Handed;
use crate::revocation::Marks;
use crate::revocation::Origin;

/// What a token of ours was made of.
pub(super) struct Made {
    handed: Handed,
    /// The class of that.
    class: CredentialClass,
    /// What ends the token itself: our keys,
    rests_on: Epoch,
    /// the keys that have signed what it was made of,
    signed: Signed,
    /// and its own name.
    named: Option<(Box<str>, TokenId)>,
}

impl Made {
    /// What was presented first: what it may do here is asked of that.
    pub(super) const fn class(&self) -> CredentialClass {
        self.class
    }

    /// What the verdict about the token rests on.
    pub(super) const fn rests_on(&self) -> &Epoch {
        &self.rests_on
    }

    /// The keys that have signed what it was made of.
    pub(super) const fn signed(&self) -> &Signed {
        &self.signed
    }

    /// What ends it, with what ends the account that it stands for.
    pub(super) fn and_its_own(&self, marks: Marks) -> Marks {
        let marks = marks.and_handed(&self.handed);
        match &self.named {
            Some((issuer, token)) => marks.and_token(issuer, token),
            None => marks,
        }
    }
}

impl Admitted {
    /// Of whom the token was made that was issued for a client.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.token.as_ref()?.origin.as_ref()
    }
}

impl Gate {
    /// A token of ours: whoever vouched for what it was made of decides whether it counts, and for whom.
    pub(super) async fn by_own(
        &self,
        asked: &Asked<'_>,
        presented: &Presented<'_>,
        owned: Owned<'_>,
    ) -> Result<Admitted, AuthError> {
        let class = presented.class();
        let (own, id) = (owned.owner, owned.owner.id());
        let refused = |refusal| AuthError::refused(refusal, id, class);
        let credential = presented
            .credential()
            .ok_or_else(|| refused(Refusal::BadCredentials))?;
        // Before the judgement: what is voided while it is made is void.
        let epoch = own.epoch().current();
        let token = self.judged(asked, owned, &credential, class).await?;
        if token.is_over(asked.now) {
            return Err(refused(Refusal::Expired));
        }
        let handed = self.handed(&credential, class, asked.now).await?;
        let is_there = |handed: &Handed| {
            let mut clients = handed.clients.iter();
            clients.any(|client| asked.policy.knows_client(client))
        };
        let handed = handed.filter(is_there);
        let handed = handed.ok_or_else(|| refused(Refusal::Revoked))?;
        let origin = handed.origin.as_deref().cloned();
        let origin = origin.ok_or_else(|| refused(Refusal::Revoked))?;
        let provider = &origin.identity().provider;
        let owner = asked
            .policy
            .judge(provider, &self.deps.providers)
            .ok_or_else(|| AuthError::refused(Refusal::NotAccepted, provider, class))?;
        self.may_be_judged(asked, provider, origin.class())?;
        let signed = self.still_signed(&handed, class, asked.now).await?;
        let proof = token.stands_for(origin.identity());
        let proof = proof.ok_or_else(|| refused(Refusal::Policy))?;
        let issuer = token.identity().key.issuer.as_str();
        let named = token.grounds().token.clone();
        let made = Made {
            class: origin.class(),
            rests_on: own.epoch().clone(),
            signed,
            named: named.map(|token| (issuer.into(), token)),
            handed,
        };
        let judged = Judged {
            owner,
            credential: &credential,
            epoch,
            proof: &proof,
            took: None,
            made: Some(&made),
        };
        let canonical = self.whose(asked, presented, &judged).await?;
        // The account is somebody else's meanwhile: the token was not made for them.
        if !made.handed.is_about(&canonical) {
            return Err(refused(Refusal::Revoked));
        }
        self.weighed(asked, presented, &judged, (canonical, None))
            .await
    }

    /// The same for an operator who asks: whose it is, and nothing else.
    pub(super) async fn ask_own(
        &self,
        presented: &Presented<'_>,
        owned: Owned<'_>,
        now: UnixTime,
    ) -> Result<Arc<Identity>, AuthError> {
        let (class, id) = (presented.class(), owned.owner.id());
        let refused = |refusal| AuthError::refused(refusal, id, class);
        let credential = presented
            .credential()
            .ok_or_else(|| refused(Refusal::BadCredentials))?;
        let token = self.judge(owned, &credential, now).await;
        let token = token.map_err(|error| AuthError::judged(&error, id, class))?;
        if token.is_over(now) {
            return Err(refused(Refusal::Expired));
        }
        let handed = self.handed(&credential, class, now).await?;
        let handed = handed.ok_or_else(|| refused(Refusal::Revoked))?;
        self.still_signed(&handed, class, now).await?;
        let issuer = token.identity().key.issuer.as_str();
        let named = token.grounds().token.clone();
        let names: Vec<_> = named.into_iter().map(|token| (issuer, token)).collect();
        let counts = self.deps.revocations.still_counts(&handed, &names, now);
        let counts = counts.map_err(|error| AuthError::store(&error, class))?;
        if !counts {
            return Err(refused(Refusal::Revoked));
        }
        let origin = handed.origin.ok_or_else(|| refused(Refusal::Revoked))?;
        let proof = token.stands_for(origin.identity());
        let proof = proof.ok_or_else(|| refused(Refusal::Policy))?;
        Ok(Arc::clone(proof.identity()))
    }

    /// What is known of it, where it was minted for a client; `None`: it is nobody's any more.
    async fn handed(
        &self,
        credential: &Credential,
        class: CredentialClass,
        now: UnixTime,
    ) -> Result<Option<Handed>, AuthError> {
        let Credential::Bearer(token) = credential else {
            return Ok(None);
        };
        let known = &self.deps.revocations;
        let found = known.handed_out_as(token.expose(), now).await;
        let found = found.map_err(|error| AuthError::store(&error, class))?;
        let Found::Handed(handed) = found else {
            return Ok(None);
        };
        let counts = handed.minted && !handed.is_of_nobody() && !handed.is_over();
        Ok(counts.then_some(handed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::auth::extract::extract;
    use crate::auth::fake::FakeProvider;
    use crate::auth::fake::World;
    use crate::auth::fake::at;
    use crate::auth::fake::headers;
    use crate::auth::fake::identity;
    use crate::auth::fake::plan;
    use crate::clock::Clock;
    use crate::clock::ManualClock;
    use crate::identity::CanonicalSubject;
    use crate::identity::Grounds;
    use crate::identity::Issuer;
    use crate::identity::KeyPrint;
    use crate::identity::Outage;
    use crate::identity::ProviderId;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::providers::OwnKeys;
    use crate::providers::OwnTokens;
    use crate::providers::Provider;
    use crate::revocation::HandOut;
    use crate::revocation::Standing;
    use crate::rollout::KillPosition;
    use crate::rollout::Mode;
    use crate::store::FakeStore;
    use crate::store::Store;
    use crate::token::KeySet;
    use crate::token::SigningKey;
    use crate::token::public_jwks;

    #[derive(Debug)]
    struct Ours {
        key: SigningKey,
        epoch: Epoch,
    }

    #[async_trait]
    impl OwnKeys for Ours {
        fn current(&self) -> KeySet {
            let all = public_jwks(&[&self.key]).to_string();
            KeySet::from_remote(all.as_bytes()).unwrap().0
        }

        fn epoch(&self) -> &Epoch {
            &self.epoch
        }

        async fn look(&self) -> bool {
            true
        }
    }

    struct Stage {
        world: World,
        keys: Arc<Ours>,
    }

    /// A token that says `jti`, for five minutes.
    fn minted(keys: &Ours, jti: &str) -> String {
        let claims = json!({
            "iss": "https://ferry.test", "aud": "ours", "sub": "whoever", "jti": jti, "scope": "read",
            "iat": at(0).as_secs(), "exp": at(300).as_secs(), "client_id": "shop",
        });
        keys.key
            .sign("at+jwt", claims.as_object().unwrap())
            .unwrap()
    }

    fn stage_on(store: Arc<dyn Store>) -> Stage {
        let keys = Arc::new(Ours {
            key: SigningKey::generate().unwrap(),
            epoch: Epoch::default(),
        });
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(at(0)));
        let own = OwnTokens {
            issuer: "https://ferry.test".into(),
            audiences: vec!["ours".into()],
            max_life: Duration::from_secs(300),
        };
        let mut world = World::on(store, FakeProvider::old(), FakeProvider::new());
        world.own = vec![own.judge(Arc::clone(&keys) as _, &clock)];
        Stage { world, keys }
    }

    fn stage() -> Stage {
        stage_on(Arc::new(FakeStore::default()))
    }

    /// A client of ours.
    fn client(name: &str) -> SubjectKey {
        SubjectKey {
            issuer: Issuer::new("https://crm.test/.authferry/oauth2"),
            subject: Subject::try_from(name).unwrap(),
        }
    }

    fn somebody(provider: &str, name: &str) -> Arc<Identity> {
        let mut identity = identity(provider, name);
        identity.client_id = Some("mobile".into());
        identity.scopes = Box::from([Box::from("read"), Box::from("write")]);
        Arc::new(identity)
    }

    impl Stage {
        /// Notes that a client got a token which was made of the credential of somebody, who was `person`.
        async fn gives(
            &self,
            (token, to): (&str, &str),
            whose: &Arc<Identity>,
            person: &CanonicalSubject,
        ) -> bool {
            let known = &self.world.revocations;
            let grounds = Grounds {
                began: Some(at(0)),
                signer: Some(KeyPrint::from_bytes([7; 16])),
                ..Grounds::default()
            };
            let parent = Standing::new(known.index(), Marks::of(whose, person, &grounds));
            let origin = Origin::new(whose, CredentialClass::Bearer);
            let made = HandOut {
                token,
                client: Some(&client(to)),
                minted: true,
                key: Some(self.keys.key.kid()),
                parent: &parent,
                owner: &whose.provider,
                origin: Some(&origin),
                ends: at(300),
            };
            known.hands_out(made, at(0)).await.unwrap()
        }

        async fn given(&self, token: &str, to: &str, whose: &Arc<Identity>) -> bool {
            let person = CanonicalSubject::unjoined(&whose.key);
            self.gives((token, to), whose, &person).await
        }

        async fn admit(&self, token: &str) -> Result<Admitted, AuthError> {
            let field = format!("Bearer {token}");
            let (policy, headers) = (self.world.policy(), headers(&[("authorization", &*field)]));
            let presented = extract(&headers, None, policy.owners(), &[])?.unwrap();
            let gate = Gate::new(self.world.deps());
            let way = (&self.world.facts(), &self.world.channel());
            let off = KillPosition::Off;
            gate.admit(&policy, 0, &presented, way, off, at(1)).await
        }

        async fn refused(&self, token: &str) -> String {
            match self.admit(token).await.unwrap_err() {
                AuthError::Refused {
                    refusal, provider, ..
                } => format!("{refusal} {}", provider.unwrap()),
                other @ (AuthError::Unproven { .. }
                | AuthError::InsufficientScope { .. }
                | AuthError::StepUp { .. }
                | AuthError::Forbidden { .. }
                | AuthError::Unavailable { .. }
                | AuthError::Limited { .. }
                | AuthError::Closed) => other.to_string(),
            }
        }
    }

    #[tokio::test]
    async fn it_is_worth_what_the_credential_is_worth_that_it_was_made_of() {
        let stage = stage();
        for (number, provider) in ["old", "new"].into_iter().enumerate() {
            let token = minted(&stage.keys, &format!("j-{number}"));
            let alice = somebody(provider, "alice");
            assert!(stage.given(&token, "shop", &alice).await);
            let admitted = stage.admit(&token).await.unwrap();
            let is = admitted.identity();
            assert_eq!((&is.provider, &is.key), (&alice.provider, &alice.key));
            assert_eq!(is.attributes, alice.attributes);
            assert_eq!(is.client_id, alice.client_id);
            assert_eq!(is.scopes.join(" "), "read");
            assert_eq!(
                *admitted.canonical(),
                CanonicalSubject::unjoined(&alice.key)
            );
            // It ends with our keys, and with what ends the first one.
            assert!(admitted.still_good(KillPosition::Off, at(2)));
            stage.keys.epoch.raise();
            assert!(!admitted.still_good(KillPosition::Off, at(2)));
            // The fakes have judged nothing.
            assert!(admitted.token().is_none());
        }
    }

    #[tokio::test]
    async fn a_side_that_counts_no_more_has_no_tokens_of_ours_either() {
        let mut stage = stage();
        let [old, new] = ["old", "new"].map(|side| minted(&stage.keys, side));
        assert!(stage.given(&old, "shop", &somebody("old", "alice")).await);
        assert!(stage.given(&new, "shop", &somebody("new", "bob")).await);
        assert!(stage.admit(&old).await.is_ok());
        stage.world.plan = Some(plan(Mode::ModernOnly, Vec::new()));
        assert_eq!(stage.refused(&old).await, "not_accepted old");
        assert!(stage.admit(&new).await.is_ok());
        // An application that has another provider takes none of either.
        stage.world.plan = None;
        stage.world.single = Some(ProviderId::new("old"));
        assert!(stage.admit(&old).await.is_ok());
        assert_eq!(stage.refused(&new).await, "not_accepted new");
    }

    #[tokio::test]
    async fn without_its_row_it_is_nobodys() {
        let stage = stage();
        let alice = somebody("old", "alice");
        let unknown = minted(&stage.keys, "j-1");
        assert_eq!(stage.refused(&unknown).await, "revoked self");
        // Of a client that is there no more.
        let gone = minted(&stage.keys, "j-2");
        assert!(stage.given(&gone, "gone", &alice).await);
        assert_eq!(stage.refused(&gone).await, "revoked self");
        let back = minted(&stage.keys, "j-3");
        assert!(stage.given(&back, "shop", &alice).await);
        assert!(stage.admit(&back).await.is_ok());
        let taken = stage.world.revocations.takes_back(&back, at(1));
        taken.await.unwrap();
        assert_eq!(stage.refused(&back).await, "revoked self");
        // Of an account that is somebody else's by now.
        let moved = minted(&stage.keys, "j-4");
        let bob = CanonicalSubject::unjoined(&somebody("old", "bob").key);
        assert!(stage.gives((&moved, "shop"), &alice, &bob).await);
        assert_eq!(stage.refused(&moved).await, "revoked self");
        // Nobody gets a token that somebody else has.
        let two = minted(&stage.keys, "j-5");
        assert!(stage.given(&two, "shop", &alice).await);
        assert!(!stage.given(&two, "shop", &somebody("old", "carol")).await);
        // What another key has signed is none of ours.
        let other = Ours {
            key: SigningKey::generate().unwrap(),
            epoch: Epoch::default(),
        };
        let forged = minted(&other, "j-5");
        assert_eq!(stage.refused(&forged).await, "bad_signature self");
    }

    /// As what it was made of would be: refused where its key is gone, and 503 while nobody can say.
    #[tokio::test]
    async fn it_ends_with_the_key_that_has_signed_what_it_was_made_of() {
        let stage = stage();
        for (number, provider) in ["old", "new"].into_iter().enumerate() {
            let token = minted(&stage.keys, &format!("j-{number}"));
            assert!(
                stage
                    .given(&token, "shop", &somebody(provider, "alice"))
                    .await
            );
            let owner = match provider {
                "old" => &stage.world.old,
                _ => &stage.world.new,
            };
            let says = |said| *owner.keys.lock().unwrap() = said;
            // It is kept for no longer than its keys are believed.
            says(Ok(at(60)));
            let kept = stage.admit(&token).await.unwrap();
            assert!(kept.still_good(KillPosition::Off, at(59)));
            assert!(!kept.still_good(KillPosition::Off, at(60)));
            // A key has left.
            owner.epoch().raise();
            assert!(!kept.still_good(KillPosition::Off, at(2)));
            assert!(stage.admit(&token).await.is_ok(), "another one");
            says(Err(Refusal::BadSignature.into()));
            assert_eq!(stage.refused(&token).await, format!("revoked {provider}"));
            says(Err(Outage::KeysUnavailable.into()));
            let said = stage.admit(&token).await.unwrap_err();
            let is = matches!(
                said,
                AuthError::Unavailable {
                    outage: Outage::KeysUnavailable,
                    ..
                }
            );
            assert!(is, "{said}");
            says(Ok(UnixTime::NEVER));
            assert!(stage.admit(&token).await.is_ok());
        }
    }

    #[tokio::test]
    async fn nobody_is_let_in_while_the_store_does_not_say() {
        let store = Arc::new(FakeStore::default());
        let stage = stage_on(Arc::clone(&store) as _);
        let token = minted(&stage.keys, "j-1");
        assert!(stage.given(&token, "shop", &somebody("old", "alice")).await);
        assert!(stage.admit(&token).await.is_ok());
        store.away.store(true, std::sync::atomic::Ordering::SeqCst);
        let said = stage.admit(&token).await.unwrap_err();
        assert!(matches!(said, AuthError::Unavailable { .. }), "{said}");
    }

    #[tokio::test]
    async fn who_takes_none_of_ours_does_not_look_for_them() {
        let mut stage = stage();
        let token = minted(&stage.keys, "j-1");
        assert!(stage.given(&token, "shop", &somebody("old", "alice")).await);
        stage.world.own.clear();
        let said = stage.admit(&token).await.unwrap_err();
        let is = matches!(
            said,
            AuthError::Refused {
                refusal: Refusal::WrongIssuer,
                ..
            }
        );
        assert!(is, "{said}");
    }
}
