//! The tokens that we mint ourselves, where an application takes them as credentials: the provider `self`, whose keys are ours.
//!
//! It vouches for nobody: whose such a token is, the row of what was handed out says, and [`Authenticated::stands_for`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::identity::Delegation;
use crate::identity::Grounds;
use crate::identity::Identity;
use crate::identity::Issuer;
use crate::identity::ProviderId;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::Owns;
use crate::providers::Provider;
use crate::providers::bearer::SignedTokens;
use crate::providers::client::Ahead;
use crate::providers::jwt::JwtProvider;
use crate::providers::keys::Keys;
use crate::providers::settings::Verify;
use crate::providers::vouch::Voucher;
use crate::token::Algorithm;
use crate::token::KeySet;

/// Its name: no provider of the configuration is called so.
pub(crate) const SELF: &str = "self";

/// Instances differ by so much in what time it is.
const LEEWAY: Duration = Duration::from_secs(30);

/// The keys that sign what we mint.
#[async_trait]
pub(crate) trait OwnKeys: fmt::Debug + Send + Sync {
    /// Those whose tokens count now.
    fn current(&self) -> KeySet;

    /// Raised when one of them leaves before its time.
    fn epoch(&self) -> &Epoch;

    /// Looks whether another instance has a new one; `false`: nobody can say.
    async fn look(&self) -> bool;
}

/// What a token of ours must be to be taken by an application.
#[derive(Clone, Debug)]
pub(crate) struct OwnTokens {
    /// `iss`.
    pub(crate) issuer: Box<str>,
    /// Any of these must be in `aud`.
    pub(crate) audiences: Vec<Box<str>>,
    /// The longest life.
    pub(crate) max_life: Duration,
}

impl OwnTokens {
    /// Who judges them.
    pub(crate) fn judge(self, keys: Arc<dyn OwnKeys>, clock: &Arc<dyn Clock>) -> Arc<dyn Provider> {
        let issuer = Issuer::new(&self.issuer);
        let verify = Verify {
            algorithms: vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa],
            audiences: self.audiences,
            markers: Vec::new(),
            claims: Vec::new(),
            any_typ: false,
            leeway: LEEWAY,
            max_life: self.max_life,
            jwks_max_stale: Duration::ZERO,
            jwks_refresh: Duration::ZERO,
        };
        let id = ProviderId::new(SELF);
        let voucher = Voucher::of_nothing(id.clone(), &issuer);
        let epoch = keys.epoch().clone();
        let ahead = Arc::new(Ahead::unknown(clock));
        Arc::new(JwtProvider {
            id,
            owns: Owns {
                issuers: vec![issuer.clone()],
                ..Owns::default()
            },
            epoch,
            tokens: SignedTokens::new(&issuer, &verify, Keys::Own(keys), (voucher, ahead)),
            http: None,
            clock: Arc::clone(clock),
        })
    }
}

impl Authenticated {
    /// That a good token of ours stands for what it was made of: `origin` as its provider vouched for it then. What the token
    /// may do, until when, for whom else and with what key it says itself; how old it is, the row says. `None`: it is no
    /// token of ours.
    pub(crate) fn stands_for(&self, origin: &Identity) -> Option<Self> {
        let token = self.identity();
        if token.provider.as_str() != SELF || origin.provider.as_str() == SELF {
            return None;
        }
        let identity = Identity {
            scopes: token.scopes.clone(),
            delegation: Delegation::further(&token.delegation, &origin.delegation),
            ..origin.clone()
        };
        let grounds = Grounds {
            kid: self.grounds().kid.clone(),
            ..Grounds::default()
        };
        let proof = Self::new(identity, self.expires());
        let proof = proof
            .of_credential_until(self.life_ends())
            .with_leeway(LEEWAY)
            .on(grounds)
            .bound(self.confirmation().copied());
        Some(proof)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::clock::ManualClock;
    use crate::clock::UnixTime;
    use crate::identity::Credential;
    use crate::identity::Outage;
    use crate::identity::Refusal;
    use crate::identity::Subject;
    use crate::identity::SubjectKey;
    use crate::providers::ProviderError;
    use crate::secret::Secret;
    use crate::token::SigningKey;
    use crate::token::public_jwks;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    #[derive(Debug)]
    struct Ours {
        key: SigningKey,
        epoch: Epoch,
        reachable: bool,
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
            self.reachable
        }
    }

    fn judge(reachable: bool) -> (Arc<Ours>, Arc<dyn Provider>) {
        let keys = Arc::new(Ours {
            key: SigningKey::generate().unwrap(),
            epoch: Epoch::default(),
            reachable,
        });
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let own = OwnTokens {
            issuer: "https://ferry.test".into(),
            audiences: vec!["ours".into()],
            max_life: Duration::from_secs(300),
        };
        let judge = own.judge(Arc::clone(&keys) as Arc<dyn OwnKeys>, &clock);
        (keys, judge)
    }

    fn claims(changed: &Value) -> Map<String, Value> {
        let now = NOW.as_secs();
        let mut claims = json!({
            "iss": "https://ferry.test", "aud": "ours", "sub": "hr:1", "iat": now, "exp": now + 200,
            "jti": "j-1", "scope": "read", "client_id": "shop", "act": { "sub": "shop" },
        });
        for (name, value) in changed.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object().unwrap().clone()
    }

    fn credential(key: &SigningKey, typ: &str, changed: &Value) -> Credential {
        Credential::Bearer(Secret::new(key.sign(typ, &claims(changed)).unwrap()))
    }

    fn alice() -> Identity {
        let may_act = json!({ "act": null, "may_act": { "sub": "shop" } });
        let said = may_act.as_object().unwrap().clone();
        Identity {
            provider: ProviderId::new("old"),
            key: SubjectKey {
                issuer: Issuer::new("https://old.test"),
                subject: Subject::try_from("alice").unwrap(),
            },
            attributes: Arc::default(),
            client_id: Some("mobile".into()),
            acr: Some("mfa".into()),
            scopes: Box::from([Box::from("read"), Box::from("write")]),
            delegation: Delegation::read(&crate::identity::ClaimMap::new(said)),
        }
    }

    #[tokio::test]
    async fn a_token_of_ours_is_judged_as_any_and_stands_for_what_it_was_made_of() {
        let (keys, judge) = judge(true);
        let good = credential(&keys.key, "at+jwt", &json!({}));
        let proof = judge.judge_locally(&good, NOW).unwrap().unwrap();
        let origin = alice();
        let stands = proof.stands_for(&origin).unwrap();
        let identity = stands.identity();
        assert_eq!(
            (&identity.provider, &identity.key),
            (&origin.provider, &origin.key)
        );
        assert_eq!(identity.client_id, origin.client_id);
        assert_eq!(identity.acr, origin.acr);
        // What it may do is its own, and who acts; who else may, is what the first one said.
        assert_eq!(identity.scopes.join(" "), "read");
        let (act, may_act) = identity.delegation.said();
        assert_eq!(act, Some(&json!({ "sub": "shop" })));
        assert_eq!(may_act, Some(&json!({ "sub": "shop" })));
        assert_eq!(stands.expires(), NOW + Duration::from_secs(200));
        assert_eq!(stands.grounds().kid.as_deref(), Some(keys.key.kid()));
        assert_eq!(stands.grounds().began, None);
        // Nobody else's proof becomes anybody's.
        assert!(stands.stands_for(&origin).is_none());
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_token_of_ours_is_what_is_wrong_with_any() {
        let (keys, judge) = judge(true);
        let now = NOW.as_secs();
        for (typ, changed, refusal) in [
            ("at+jwt", json!({ "aud": "else" }), Refusal::WrongAudience),
            ("at+jwt", json!({ "exp": now - 31 }), Refusal::Expired),
            (
                "at+jwt",
                json!({ "exp": now + 301 }),
                Refusal::BadCredentials,
            ),
            (
                "at+jwt",
                json!({ "iss": "https://else" }),
                Refusal::WrongIssuer,
            ),
            ("JWT", json!({}), Refusal::BadCredentials),
        ] {
            let bad = credential(&keys.key, typ, &changed);
            let said = judge.judge_locally(&bad, NOW).unwrap().unwrap_err();
            assert_eq!(said, ProviderError::from(refusal), "{typ} {changed}");
        }
    }

    /// Another instance may sign with a key that this one has not seen yet.
    #[tokio::test]
    async fn a_key_that_is_not_known_here_is_looked_for() {
        for (reachable, expected) in [
            (true, ProviderError::from(Refusal::BadSignature)),
            (false, ProviderError::from(Outage::KeysUnavailable)),
        ] {
            let (_, judge) = judge(reachable);
            let other = SigningKey::generate().unwrap();
            let token = credential(&other, "at+jwt", &json!({}));
            assert!(judge.judge_locally(&token, NOW).is_none());
            let said = judge.authenticate(&token, NOW).await.unwrap_err();
            assert_eq!(said, expected);
        }
    }
}
