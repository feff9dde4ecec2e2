//! Signed tokens of one issuer: judged here without asking anybody, as long as the key is known.

use crate::clock::UnixTime;
use crate::identity::Credential;
use crate::identity::Issuer;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::ProviderError;
use crate::providers::keys::Keys;
use crate::providers::settings;
use crate::providers::vouch::Voucher;
use crate::token::Audience;
use crate::token::Kind;
use crate::token::Policy;
use crate::token::TokenError;
use crate::token::Unverified;
use crate::token::Verified;
use crate::token::peek;
use crate::token::verify;

/// What a signed token of one issuer must be, the keys that can show it, and what its claims mean.
#[derive(Debug)]
pub(super) struct SignedTokens {
    policy: Policy,
    keys: Keys,
    voucher: Voucher,
}

impl SignedTokens {
    pub(super) fn new(
        issuer: &Issuer,
        verify: &settings::Verify,
        keys: Keys,
        voucher: Voucher,
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
            keys,
            voucher,
        }
    }

    /// Who issues the tokens.
    pub(super) const fn issuer(&self) -> &Issuer {
        &self.policy.issuer
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
        Some(verified.and_then(|verified| self.vouch(&verified)))
    }

    /// Judges a presented token, and fetches keys for it where that may help.
    pub(super) async fn judge(
        &self,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Authenticated, ProviderError> {
        let verified = self.verify(bearer(credential)?, &self.policy, now).await?;
        self.vouch(&verified)
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
        Ok((self.vouch(&verified)?, verified))
    }

    /// What is wrong with the keys, in words for `/-/ready`.
    pub(super) fn problem(&self, now: UnixTime) -> Option<String> {
        self.keys.problem(now)
    }

    async fn verify(
        &self,
        token: &str,
        policy: &Policy,
        now: UnixTime,
    ) -> Result<Verified, ProviderError> {
        if let Some(verdict) = self.verify_locally(token, policy, now) {
            return verdict;
        }
        let otherwise = self.keys.fetch().await;
        self.with_current_keys(self.read(token)?, policy, now)
            .unwrap_or(Err(otherwise))
    }

    /// The verdict, unless a fetch of keys might change it.
    fn verify_locally(
        &self,
        token: &str,
        policy: &Policy,
        now: UnixTime,
    ) -> Option<Result<Verified, ProviderError>> {
        let token = match self.read(token) {
            Ok(token) => token,
            Err(refusal) => return Some(Err(refusal.into())),
        };
        if let Some(verdict) = self.with_current_keys(token.clone(), policy, now) {
            return Some(verdict);
        }
        let otherwise = self.keys.settled()?;
        // A fetch may have ended between the first look at the keys and the question whether one is due.
        let verdict = self.with_current_keys(token, policy, now);
        Some(verdict.unwrap_or(Err(otherwise)))
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
    fn with_current_keys(
        &self,
        token: Unverified<'_>,
        policy: &Policy,
        now: UnixTime,
    ) -> Option<Result<Verified, ProviderError>> {
        // An algorithm that the configuration does not name is refused whatever the keys; no fetch for it.
        if !policy.algorithms.contains(&token.algorithm()) {
            return Some(Err(Refusal::BadSignature.into()));
        }
        match verify(token, &self.keys.current(now)?, policy, now) {
            Ok(verified) => Some(Ok(verified)),
            Err(TokenError::Refused(refusal)) => Some(Err(refusal.into())),
            Err(TokenError::UnknownKey) => None,
        }
    }

    fn vouch(&self, verified: &Verified) -> Result<Authenticated, ProviderError> {
        let subject = verified.subject().ok_or(Refusal::BadCredentials)?;
        let vouched = self
            .voucher
            .vouch(subject.as_str(), verified.claims(), verified.expires());
        Ok(vouched?)
    }
}

fn bearer(credential: &Credential) -> Result<&str, Refusal> {
    match credential {
        Credential::Bearer(token) => Ok(token.expose()),
        Credential::Session { .. }
        | Credential::Opaque(_)
        | Credential::Basic { .. }
        | Credential::ApiKey(_)
        | Credential::ClientCert(_) => Err(Refusal::Unsupported),
    }
}
