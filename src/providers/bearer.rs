//! Signed tokens of one issuer: judged here without asking anybody, as long as the key is known.

use std::sync::Arc;

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Grounds;
use crate::identity::Issuer;
use crate::identity::KeyPrint;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::providers::client::Ahead;
use crate::providers::forged::Forged;
use crate::providers::keys::Keys;
use crate::providers::settings;
use crate::providers::vouch::Voucher;
use crate::token::Audience;
use crate::token::KeySet;
use crate::token::Kind;
use crate::token::LogoutToken;
use crate::token::Marker;
use crate::token::Policy;
use crate::token::TokenError;
use crate::token::Unverified;
use crate::token::Verified;
use crate::token::peek;
use crate::token::verify;
use crate::token::verify_logout;

/// What a signed token of one issuer must be, the keys that can show it, and what its claims mean.
#[derive(Debug)]
pub(super) struct SignedTokens {
    policy: Policy,
    claims: Vec<Marker>,
    keys: Keys,
    forged: Forged,
    voucher: Voucher,
    ahead: Arc<Ahead>,
}

/// One of the judgements of `token`.
type Judge<T> = fn(Unverified<'_>, &KeySet, &Policy, UnixTime) -> Result<T, TokenError>;

impl SignedTokens {
    pub(super) fn new(
        issuer: &Issuer,
        verify: &settings::Verify,
        keys: Keys,
        (voucher, ahead): (Voucher, Arc<Ahead>),
    ) -> Self {
        let kind = if verify.any_typ {
            Kind::Plain
        } else {
            Kind::Access {
                markers: verify.markers.clone(),
            }
        };
        let policy = Policy {
            issuer: issuer.clone(),
            algorithms: verify.algorithms.clone(),
            audience: Audience(verify.audiences.clone()),
            kind,
            leeway: verify.leeway,
            max_life: verify.max_life,
        };
        Self {
            policy,
            claims: verify.claims.clone(),
            keys,
            forged: Forged::new(),
            voucher,
            ahead,
        }
    }

    /// Who issues the tokens.
    pub(super) const fn issuer(&self) -> &Issuer {
        &self.policy.issuer
    }

    /// Whether the present keys of `issuer` have refused the signature of this token before.
    pub(super) fn has_refused(&self, issuer: &str, token: &str, now: UnixTime) -> bool {
        let keys = || self.keys.current(now);
        issuer == self.policy.issuer.as_str()
            && keys().is_some_and(|keys| self.forged.knows(token, &keys))
    }

    /// Judges a presented token that is read already, if its key is known.
    pub(super) fn judge_read(
        &self,
        token: Unverified<'_>,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        if token.issuer() != self.policy.issuer.as_str() {
            return Some(Err(Refusal::WrongIssuer.into()));
        }
        let (text, policy) = (token.text(), &self.policy);
        let verified = self.with_current_keys(verify, text, || Ok(token), policy, now)?;
        Some(verified.and_then(|verified| self.vouch_while_believed(&verified, now)))
    }

    /// Judges a presented token, if that needs no fetch of keys.
    pub(super) fn judge_locally(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Option<Result<Authenticated, ProviderError>> {
        let verified = match bearer(credential) {
            Ok(token) => self.verify_locally(token, &self.policy, now)?,
            Err(refusal) => Err(refusal.into()),
        };
        Some(verified.and_then(|verified| self.vouch_while_believed(&verified, now)))
    }

    /// See [`crate::providers::Provider::has_key`].
    pub(super) fn has_key(
        &self,
        key: &KeyPrint,
        now: UnixTime,
    ) -> Option<Result<UnixTime, ProviderError>> {
        self.keys.has(key, &self.policy.algorithms, now)
    }

    /// See [`crate::providers::Provider::look_for_key`].
    pub(super) async fn look_for_key(
        &self,
        key: &KeyPrint,
        now: UnixTime,
    ) -> Result<UnixTime, ProviderError> {
        let taken = &self.policy.algorithms;
        self.keys.look_for(key, taken, now).await
    }

    /// Has keys fetched that may be new, if that is due.
    pub(super) fn look_for_keys(&self) {
        self.keys.look();
    }

    /// Judges a presented token, and fetches keys for it where that may help.
    pub(super) async fn judge(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let verified = self.verify(bearer(credential)?, &self.policy, now).await?;
        self.vouch_while_believed(&verified, now)
    }

    /// Judges a token that was issued to us for `audiences`: everything but for whom it is must be as of a presented one.
    pub(super) async fn judge_issued(
        &self,
        token: &str,
        audiences: &[Box<str>],
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let policy = Policy {
            audience: Audience(audiences.to_vec()),
            ..self.policy.clone()
        };
        let verified = self.verify(token, &policy, now).await?;
        self.vouch(&verified, now)
    }

    /// Judges an ID token of a login; answers the claims too.
    pub(super) async fn judge_id_token(
        &self,
        token: &str,
        nonce: &str,
        client_id: &str,
        now: UnixTime,
    ) -> Result<(Authenticated, Verified), ProviderError> {
        let kind = Kind::Id {
            nonce: nonce.into(),
            client_id: client_id.into(),
        };
        let policy = Policy {
            kind,
            ..self.policy.clone()
        };
        let verified = self.verify(token, &policy, now).await?;
        Ok((self.vouch(&verified, now)?, verified))
    }

    /// Judges the ID token of a refresh: as one of a login, which it is not bound to (OpenID Connect Core 1.0 §12.2).
    pub(super) async fn judge_renewed_id_token(
        &self,
        token: &str,
        client_id: &str,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let kind = Kind::RenewedId {
            client_id: client_id.into(),
        };
        let policy = Policy {
            kind,
            ..self.policy.clone()
        };
        let verified = self.verify(token, &policy, now).await?;
        self.vouch(&verified, now)
    }

    /// Whether there are keys to judge by.
    pub(super) fn usable(&self, now: UnixTime) -> bool {
        self.keys.usable(now)
    }

    /// As [`Keys::file_is_good`].
    pub(super) fn file_is_good(&self) -> Option<bool> {
        self.keys.file_is_good()
    }

    /// What is wrong with the keys, in words for `/-/ready`.
    pub(super) fn problem(&self, now: UnixTime) -> Option<String> {
        self.keys.problem(now)
    }

    /// Judges a logout token, which is meant for the client that people sign in with.
    pub(super) async fn judge_logout_token(
        &self,
        token: &str,
        client_id: &str,
        now: UnixTime,
    ) -> Result<LogoutToken, ProviderError> {
        let policy = Policy {
            kind: Kind::Logout,
            audience: Audience(vec![client_id.into()]),
            ..self.policy.clone()
        };
        self.verify_by(verify_logout, token, &policy, now).await
    }

    /// The same by the keys at hand; `None`: they cannot say.
    pub(super) fn judge_logout_token_at_hand(
        &self,
        token: &str,
        client_id: &str,
        now: UnixTime,
    ) -> Option<Result<LogoutToken, ProviderError>> {
        let policy = Policy {
            kind: Kind::Logout,
            audience: Audience(vec![client_id.into()]),
            ..self.policy.clone()
        };
        self.with_current_keys(verify_logout, token, || self.read(token), &policy, now)
    }

    async fn verify(
        &self,
        token: &str,
        policy: &Policy,
        now: UnixTime,
    ) -> Result<Verified, ProviderError> {
        self.verify_by(verify, token, policy, now).await
    }

    async fn verify_by<T>(
        &self,
        judge: Judge<T>,
        token: &str,
        policy: &Policy,
        now: UnixTime,
    ) -> Result<T, ProviderError> {
        if let Some(verdict) = self.locally(judge, token, policy, now) {
            return verdict;
        }
        let otherwise = self.keys.fetch().await;
        self.with_current_keys(judge, token, || self.read(token), policy, now)
            .unwrap_or(Err(otherwise))
    }

    fn verify_locally(
        &self,
        token: &str,
        policy: &Policy,
        now: UnixTime,
    ) -> Option<Result<Verified, ProviderError>> {
        self.locally(verify, token, policy, now)
    }

    /// The verdict, unless a fetch of keys might change it.
    fn locally<T>(
        &self,
        judge: Judge<T>,
        token: &str,
        policy: &Policy,
        now: UnixTime,
    ) -> Option<Result<T, ProviderError>> {
        // Read anew for a second look, which is rare: a copy of the claims for every token costs more.
        let look = || self.with_current_keys(judge, token, || self.read(token), policy, now);
        if let Some(verdict) = look() {
            return Some(verdict);
        }
        let otherwise = self.keys.settled()?;
        // A fetch may have ended between the first look at the keys and the question whether one is due.
        Some(look().unwrap_or(Err(otherwise)))
    }

    /// Reads a token, and makes sure that it is ours to judge.
    fn read<'t>(&self, token: &'t str) -> Result<Unverified<'t>, Refusal> {
        let token = peek(token)?;
        if token.issuer() != self.policy.issuer.as_str() {
            return Err(Refusal::WrongIssuer);
        }
        Ok(token)
    }

    /// `None`: the keys we have cannot say.
    fn with_current_keys<'t, T>(
        &self,
        judge: Judge<T>,
        text: &str,
        read: impl FnOnce() -> Result<Unverified<'t>, Refusal>,
        policy: &Policy,
        now: UnixTime,
    ) -> Option<Result<T, ProviderError>> {
        let keys = self.keys.current(now);
        if keys
            .as_ref()
            .is_some_and(|keys| self.forged.knows(text, keys))
        {
            return Some(Err(Refusal::BadSignature.into()));
        }
        let token = match read() {
            Ok(token) => token,
            Err(refusal) => return Some(Err(refusal.into())),
        };
        // An algorithm that the configuration does not name is refused whatever the keys; no fetch for it.
        if !policy.algorithms.contains(&token.algorithm()) {
            return Some(Err(Refusal::BadSignature.into()));
        }
        let keys = keys?;
        match judge(token, &keys, policy, now) {
            Ok(verified) => Some(Ok(verified)),
            Err(TokenError::Refused(refusal)) => {
                if refusal == Refusal::BadSignature {
                    self.forged.remember(text, &keys);
                }
                Some(Err(refusal.into()))
            }
            Err(TokenError::UnknownKey) => None,
        }
    }

    /// A verdict that is kept counts no longer than the keys that it rests on.
    fn vouch_while_believed(
        &self,
        verified: &Verified,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let proof = self.vouch(verified, now)?;
        let until = proof.expires().min(self.keys.believed_until());
        Ok(proof.kept_until(until))
    }

    fn vouch(&self, verified: &Verified, now: UnixTime) -> Result<Authenticated, ProviderError> {
        let subject = verified.subject().ok_or(Refusal::BadCredentials)?;
        let says = |own: &Marker| verified.claims().text(&own.claim) == Some(&*own.equals);
        if !self.claims.iter().all(says) {
            return Err(Refusal::WrongIssuer.into());
        }
        let vouched = self
            .voucher
            .vouch(subject.as_str(), verified.claims(), verified.expires());
        Ok(vouched?
            .with_leeway(self.policy.leeway)
            .on(self.dated(verified.grounds().clone(), now)))
    }

    /// As old as the token may be by our clock: whoever was revoked is not out of reach because their provider's is ahead.
    fn dated(&self, mut grounds: Grounds, now: UnixTime) -> Grounds {
        let by_ours = |issued| self.ahead.at_the_earliest(issued, self.policy.leeway, now);
        grounds.began = grounds.began.map(by_ours);
        grounds
    }
}

pub(super) fn bearer(credential: &Credential) -> Result<&str, Refusal> {
    match credential {
        Credential::Bearer(token) => Ok(token.expose()),
        Credential::Session { .. }
        | Credential::Opaque(_)
        | Credential::Basic { .. }
        | Credential::ApiKey(_)
        | Credential::ClientCert(_) => Err(Refusal::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::identity::Outage;
    use crate::providers::Deps;
    use crate::providers::Provider;
    use crate::providers::fake::Reply;
    use crate::providers::fixture::Idp;
    use crate::providers::fixture::KEYS;
    use crate::providers::fixture::NOW;
    use crate::providers::fixture::built;
    use crate::providers::fixture::judge;
    use crate::providers::fixture::pass;
    use crate::providers::fixture::ready;
    use crate::providers::fixture::until;
    use crate::providers::settings::Keys as KeySource;
    use crate::providers::settings::KindSettings;
    use crate::providers::settings::Settings;
    use crate::token::SigningKey;
    use serde_json::json;

    fn by_url(idp: &Idp) -> Settings {
        idp.jwt(KeySource::Url(idp.fake.url(KEYS)))
    }

    fn fetches(idp: &Idp) -> usize {
        idp.fake.seen(KEYS).len()
    }

    fn refused(refusal: Refusal) -> ProviderError {
        refusal.into()
    }

    async fn error(provider: &Arc<dyn Provider>, credential: &Credential) -> ProviderError {
        judge(&**provider, credential, NOW).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_token_with_a_known_key_is_judged_without_asking() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let token = idp.access_token(&idp.key, &json!({}));
        let verdict = provider.judge_locally(&token, NOW).unwrap().unwrap();
        let identity = verdict.identity();
        assert_eq!(identity.key.subject.as_str(), "f81d");
        assert_eq!(identity.key.issuer.as_str(), idp.issuer());
        assert_eq!(
            identity.attributes.text("email"),
            Some("alice@corp.example")
        );
        assert_eq!(identity.client_id.as_deref(), Some("spa"));
        assert_eq!(identity.acr.as_deref(), Some("pwd"));
        assert_eq!(&*identity.scopes, ["read", "write"].map(Box::<str>::from));
        assert_eq!(verdict.expires(), NOW + Duration::from_secs(300));
        assert_eq!(fetches(&idp), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_ours_causes_no_fetch() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let stranger = SigningKey::generate().unwrap();
        let foreign = idp.access_token(&stranger, &json!({ "iss": "https://elsewhere" }));
        assert_eq!(
            error(&provider, &foreign).await,
            refused(Refusal::WrongIssuer)
        );
        let garbage = Credential::Bearer(crate::secret::Secret::new("a.b.c".to_owned()));
        assert_eq!(
            error(&provider, &garbage).await,
            refused(Refusal::BadCredentials)
        );
        let opaque = Credential::Opaque(crate::secret::Secret::new("abc".to_owned()));
        assert_eq!(
            error(&provider, &opaque).await,
            refused(Refusal::Unsupported)
        );
        assert_eq!(fetches(&idp), 1);
    }

    #[tokio::test]
    async fn a_token_within_the_leeway_is_not_over_and_nothing_is_kept_because_of_it() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let ended = NOW.as_secs() - 29;
        let token = idp.access_token(&idp.key, &json!({ "iat": ended - 60, "exp": ended }));
        let proof = judge(&*provider, &token, NOW).await.unwrap();
        assert!(!proof.is_over(NOW));
        assert!(proof.is_over(NOW + Duration::from_secs(1)));
        assert!(proof.expires() < NOW);
    }

    #[tokio::test]
    async fn unknown_keys_cause_one_fetch_per_cool_down_however_many_ask() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let stranger = SigningKey::generate().unwrap();
        let token = idp.access_token(&stranger, &json!({}));
        assert!(provider.judge_locally(&token, NOW).is_none());
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (provider, token) = (Arc::clone(&provider), token.clone());
            all.spawn(async move { judge(&*provider, &token, NOW).await.unwrap_err() });
        }
        for error in all.join_all().await {
            assert_eq!(error, refused(Refusal::BadSignature));
        }
        assert_eq!(fetches(&idp), 2);
        let settled = provider
            .judge_locally(&token, NOW)
            .expect("no wait within the cool-down");
        assert_eq!(settled.unwrap_err(), refused(Refusal::BadSignature));
        pass(Duration::from_secs(11)).await;
        assert!(provider.judge_locally(&token, NOW).is_none());
        assert_eq!(
            error(&provider, &token).await,
            refused(Refusal::BadSignature)
        );
        assert_eq!(fetches(&idp), 3);
    }

    #[tokio::test]
    async fn an_unknown_key_after_a_failed_fetch_is_an_outage() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        idp.fake.always(KEYS, Reply::text(503, ""));
        let token = idp.access_token(&SigningKey::generate().unwrap(), &json!({}));
        assert_eq!(
            error(&provider, &token).await,
            Outage::KeysUnavailable.into()
        );
        let settled = provider.judge_locally(&token, NOW).unwrap();
        assert_eq!(settled.unwrap_err(), Outage::KeysUnavailable.into());
        let known = idp.access_token(&idp.key, &json!({}));
        assert!(
            judge(&*provider, &known, NOW).await.is_ok(),
            "the old set stays"
        );
    }

    #[tokio::test]
    async fn a_new_key_is_found_and_one_that_left_voids_what_rested_on_it() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let new = SigningKey::generate().unwrap();
        let (old_token, new_token) = (
            idp.access_token(&idp.key, &json!({})),
            idp.access_token(&new, &json!({})),
        );
        let epoch = provider.epoch().current();

        idp.show_keys(&[&idp.key, &new]);
        assert!(judge(&*provider, &new_token, NOW).await.is_ok());
        assert_eq!(provider.epoch().current(), epoch, "nothing has left");

        idp.show_keys(&[&new]);
        pass(Duration::from_secs(601)).await;
        until(|| fetches(&idp) == 3 && provider.epoch().current() != epoch).await;
        pass(Duration::from_secs(11)).await;
        assert_eq!(
            error(&provider, &old_token).await,
            refused(Refusal::BadSignature)
        );
        assert!(judge(&*provider, &new_token, NOW).await.is_ok());
    }

    /// What was made of a token is asked about by the key that has signed it, and is answered as that token would be.
    #[tokio::test]
    async fn a_key_is_known_for_as_long_as_what_it_signs_is_good() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let token = idp.access_token(&idp.key, &json!({}));
        let proof = provider.judge_locally(&token, NOW).unwrap().unwrap();
        let key = proof.grounds().signer.unwrap();
        let believed = NOW + Duration::from_secs(24 * 3_600) + Duration::from_millis(1);
        assert_eq!(provider.has_key(&key, NOW), Some(Ok(believed)));
        // Away, it is known until nobody believes it any more.
        idp.fake.always(KEYS, Reply::text(503, ""));
        let late = believed + Duration::from_secs(1);
        assert_eq!(provider.has_key(&key, late), None);
        let said = provider.look_for_key(&key, late).await;
        assert_eq!(said, Err(Outage::KeysUnavailable.into()));
        assert_eq!(provider.look_for_key(&key, NOW).await, Ok(believed));
        // It is asked for where it may be new, and is gone where the provider says so.
        let next = SigningKey::generate().unwrap();
        idp.show_keys(&[&next]);
        pass(Duration::from_secs(11)).await;
        let token = idp.access_token(&next, &json!({}));
        let verdict = judge(&*provider, &token, NOW).await.unwrap();
        let other = verdict.grounds().signer.unwrap();
        assert_ne!(other, key);
        let gone = refused(Refusal::BadSignature);
        assert_eq!(provider.has_key(&key, NOW), Some(Err(gone.clone())));
        assert_eq!(provider.look_for_key(&key, NOW).await, Err(gone));
        idp.show_keys(&[&next, &idp.key]);
        pass(Duration::from_secs(11)).await;
        assert_eq!(provider.has_key(&key, NOW), None, "it may be there again");
        assert!(provider.look_for_key(&key, NOW).await.is_ok());
        assert!(matches!(provider.has_key(&other, NOW), Some(Ok(_))));
    }

    #[tokio::test]
    async fn garbage_and_emptiness_never_replace_a_good_set() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let (known, epoch) = (
            idp.access_token(&idp.key, &json!({})),
            provider.epoch().current(),
        );
        let stranger = idp.access_token(&SigningKey::generate().unwrap(), &json!({}));
        for reply in [
            Reply::text(200, "<html>"),
            Reply::json(&json!({ "keys": [] })),
            Reply::json(&json!({ "keys": [{ "kty": "EC" }] })),
            Reply::text(404, ""),
        ] {
            idp.fake.always(KEYS, reply);
            pass(Duration::from_secs(11)).await;
            assert_eq!(
                error(&provider, &stranger).await,
                Outage::KeysUnavailable.into()
            );
            assert!(judge(&*provider, &known, NOW).await.is_ok());
        }
        assert_eq!(provider.epoch().current(), epoch);
    }

    #[tokio::test]
    async fn a_restart_while_the_issuer_is_away_knows_its_keys_until_they_are_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW);
        let deps = Deps {
            state_dir: dir.path().to_owned(),
            ..Deps::at(clock.clone())
        };
        let mut idp = Idp::start().await;
        let settings = by_url(&idp);
        let first = ready(&settings, &deps).await;
        let copy = dir.path().join("jwks").join("modern.json");
        until(|| copy.exists()).await;
        drop(first);
        idp.fake.stop().await;

        let second = built(&settings, &deps);
        let token = idp.access_token(&idp.key, &json!({}));
        assert!(second.judge_locally(&token, NOW).unwrap().is_ok());

        let day = Duration::from_secs(24 * 60 * 60);
        let late = NOW + day + Duration::from_secs(1);
        clock.set(late);
        let young = json!({ "iat": late.as_secs(), "exp": late.as_secs() + 60 });
        let token = idp.access_token(&idp.key, &young);
        let verdict = judge(&*second, &token, late).await;
        assert_eq!(verdict.unwrap_err(), Outage::KeysUnavailable.into());
        assert!(!second.health().usable);
    }

    #[tokio::test]
    async fn a_verdict_is_kept_no_longer_than_its_keys_are_believed() {
        let mut idp = Idp::start().await;
        let mut settings = by_url(&idp);
        let believed = Duration::from_secs(100);
        let KindSettings::Jwt(jwt) = &mut settings.kind else {
            panic!("signed tokens");
        };
        jwt.verify.jwks_max_stale = believed;
        let provider = ready(&settings, &Deps::for_test()).await;
        idp.fake.stop().await;
        let token = idp.access_token(&idp.key, &json!({}));
        let last = NOW + believed;
        let proof = provider.judge_locally(&token, NOW).unwrap().unwrap();
        assert!(last < proof.expires() && proof.expires() < last + Duration::from_secs(1));
        // What the token says of its own end stays.
        assert_eq!(proof.life_ends(), NOW + Duration::from_secs(300));
        let at_last = provider.judge_locally(&token, last).unwrap().unwrap();
        assert!(!at_last.is_over(last));
        let sooner = json!({ "exp": NOW.as_secs() + 60 });
        let token = idp.access_token(&idp.key, &sooner);
        let proof = provider.judge_locally(&token, NOW).unwrap().unwrap();
        assert_eq!(proof.expires(), NOW + Duration::from_secs(60));
    }

    #[tokio::test]
    async fn an_issuer_that_is_away_at_start_is_an_outage_and_heals() {
        let idp = Idp::start().await;
        idp.fake.always(KEYS, Reply::text(503, ""));
        let provider = built(&by_url(&idp), &Deps::for_test());
        let token = idp.access_token(&idp.key, &json!({}));
        assert_eq!(
            error(&provider, &token).await,
            Outage::KeysUnavailable.into()
        );
        assert!(!provider.health().usable);
        idp.show_keys(&[&idp.key]);
        pass(Duration::from_secs(11)).await;
        assert!(judge(&*provider, &token, NOW).await.is_ok());
        assert!(provider.health().usable);
    }

    #[tokio::test]
    async fn a_key_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let idp = Idp::start().await;
        let new = SigningKey::generate().unwrap();
        let write = |key: &SigningKey| {
            std::fs::write(&path, crate::token::public_jwks(&[key]).to_string()).unwrap();
        };
        write(&idp.key);
        let provider = built(&idp.jwt(KeySource::File(path.clone())), &Deps::for_test());
        let (old_token, new_token) = (
            idp.access_token(&idp.key, &json!({})),
            idp.access_token(&new, &json!({})),
        );
        assert!(provider.judge_locally(&old_token, NOW).unwrap().is_ok());
        let settled = provider.judge_locally(&new_token, NOW).unwrap();
        assert_eq!(settled.unwrap_err(), refused(Refusal::BadSignature));
        let epoch = provider.epoch().current();
        write(&new);
        pass(Duration::from_secs(2)).await;
        until(|| provider.epoch().current() != epoch).await;
        assert!(provider.judge_locally(&new_token, NOW).unwrap().is_ok());
        assert!(provider.judge_locally(&old_token, NOW).unwrap().is_err());
    }

    #[tokio::test]
    async fn a_wrong_signature_is_remembered_until_the_keys_are_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let idp = Idp::start().await;
        let right = crate::token::public_jwks(&[&idp.key]);
        let mut wrong = crate::token::public_jwks(&[&SigningKey::generate().unwrap()]);
        wrong["keys"][0]["kid"] = right["keys"][0]["kid"].clone();
        std::fs::write(&path, wrong.to_string()).unwrap();
        let provider = built(&idp.jwt(KeySource::File(path.clone())), &Deps::for_test());
        let token = idp.access_token(&idp.key, &json!({}));
        for _ in 0..2 {
            let verdict = provider.judge_locally(&token, NOW).unwrap();
            assert_eq!(verdict.unwrap_err(), refused(Refusal::BadSignature));
        }
        let Credential::Bearer(text) = &token else {
            panic!("a token")
        };
        let text = text.expose();
        assert!(provider.has_refused(&idp.issuer(), text, NOW));
        assert!(!provider.has_refused("https://elsewhere", text, NOW));
        let epoch = provider.epoch().current();
        std::fs::write(&path, right.to_string()).unwrap();
        pass(Duration::from_secs(2)).await;
        until(|| provider.epoch().current() != epoch).await;
        assert!(!provider.has_refused(&idp.issuer(), text, NOW));
        assert!(provider.judge_locally(&token, NOW).unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_bound_token_without_its_proof_is_refused() {
        let idp = Idp::start().await;
        let provider = ready(&by_url(&idp), &Deps::for_test()).await;
        let token = idp.access_token(&idp.key, &json!({ "cnf": { "jkt": "x" } }));
        assert_eq!(error(&provider, &token).await, refused(Refusal::PopFailed));
        let token = idp.access_token(&idp.key, &json!({ "cnf": { "jkt": "A".repeat(43) } }));
        let proof = judge(&*provider, &token, NOW).await.unwrap();
        assert!(proof.confirmation().unwrap().key.is_some());
        let token = idp.access_token(&idp.key, &json!({}));
        let proof = judge(&*provider, &token, NOW).await.unwrap();
        assert_eq!(proof.confirmation(), None);
    }

    #[tokio::test]
    async fn a_token_of_another_tenant_is_of_another_issuer() {
        let idp = Idp::start().await;
        let mut settings = by_url(&idp);
        if let KindSettings::Jwt(jwt) = &mut settings.kind {
            jwt.verify.claims.push(Marker {
                claim: "tid".into(),
                equals: "t1".into(),
            });
        }
        let provider = ready(&settings, &Deps::for_test()).await;
        let token = |tid: serde_json::Value| idp.access_token(&idp.key, &json!({ "tid": tid }));
        assert!(judge(&*provider, &token(json!("t1")), NOW).await.is_ok());
        for other in [json!("t2"), json!("T1"), json!(["t1"]), json!(null)] {
            let said = error(&provider, &token(other)).await;
            assert_eq!(said, refused(Refusal::WrongIssuer));
        }
        let without = idp.access_token(&idp.key, &json!({}));
        assert_eq!(
            error(&provider, &without).await,
            refused(Refusal::WrongIssuer)
        );
    }

    #[tokio::test]
    async fn groups_that_stand_elsewhere_are_not_no_groups() {
        let idp = Idp::start().await;
        let mut settings = by_url(&idp);
        let token = idp.access_token(&idp.key, &json!({ "_claim_names": { "groups": "src1" } }));
        let provider = ready(&settings, &Deps::for_test()).await;
        assert_eq!(error(&provider, &token).await, refused(Refusal::Policy));
        settings.claims.retain(|(name, _)| &**name != "groups");
        let provider = ready(&settings, &Deps::for_test()).await;
        assert!(judge(&*provider, &token, NOW).await.is_ok());
    }
}
