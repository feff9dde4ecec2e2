//! Proof that a request comes from the holder of what its token is bound to: its key (RFC 9449), its certificate (RFC 8705).
//!
//! Asked with every request, also where the token itself was judged by an earlier one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::HeaderValue;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::extract::Proofs;
use crate::auth::extract::Scheme;
use crate::auth::extract::proofs_of;
use crate::auth::gate::Admitted;
use crate::auth::replays::Replays;
use crate::auth::report::Source;
use crate::auth::settings;
use crate::clock::UnixTime;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Mark;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::identity::Thumbprint;
use crate::rollout::AppId;
use crate::rollout::BucketKey;
use crate::rollout::Facts;
use crate::token;
use crate::token::Demand;

/// Tolerated clock difference between a client and us.
const LEEWAY: Duration = Duration::from_secs(10);

/// How the request reached us: what a proof must agree with.
#[derive(Clone, Copy)]
pub(crate) struct Channel<'a> {
    /// Whether the public address is `https`.
    pub(crate) secure: bool,
    /// The canonical authority: host, and port unless it is the scheme's own.
    pub(crate) authority: &'a str,
    /// The certificate that the client proved on this connection.
    pub(crate) certificate: Option<Thumbprint>,
    /// Which request it is, for the logs.
    pub(crate) source: Option<Source<'a>>,
}

/// What is wrong, in the words of a challenge (RFC 9449 §7.1, §9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    /// The token is not good, or not bound, or bound and presented without its scheme.
    Token,
    /// There is no proof, there are several, it does not hold, or it came before.
    Proof,
    /// The proof was not made with a nonce of ours, or with one that is too old.
    Nonce,
}

/// Why a client that asks for a token has not proved to hold a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotProven {
    /// There are several proofs, or it does not hold, or it came before.
    Proof,
    /// It was not made with a nonce of ours.
    Nonce,
    /// Nobody remembers which proofs have come.
    Store,
}

/// Judges proofs of possession. One per snapshot; what it remembers outlives it.
pub(crate) struct Possession {
    settings: settings::Possession,
    algorithms: String,
    nonces: Option<Nonces>,
    replays: Arc<Replays>,
}

impl Possession {
    /// As the configuration says. `key` is the same on every instance, and so are the nonces.
    pub(crate) fn new(
        settings: &settings::Possession,
        key: &BucketKey,
        replays: Arc<Replays>,
    ) -> Self {
        let names: Vec<_> = settings.algorithms.iter().map(|a| a.as_str()).collect();
        Self {
            algorithms: names.join(" "),
            nonces: settings.nonce_life.map(|life| Nonces::new(key, life)),
            settings: settings.clone(),
            replays,
        }
    }

    /// Whether the request may use a token that is bound to `confirmation`.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unproven`] and [`AuthError::Refused`], or an outage of the store: without memory nothing is accepted.
    pub(crate) async fn check(
        &self,
        presented: &Presented<'_>,
        confirmation: Option<&Confirmation>,
        (facts, channel): (&Facts<'_>, &Channel<'_>),
        identity: &Identity,
        now: UnixTime,
    ) -> Result<(), AuthError> {
        let provider = &identity.provider;
        let class = presented.class();
        let unproven = |refusal, flaw| AuthError::Unproven {
            refusal,
            provider: Some(provider.clone()),
            class,
            challenge: self.challenge(facts.app, flaw),
        };
        let key = confirmation.and_then(|bound| bound.key);
        let dpop = presented.scheme() == Scheme::Dpop;
        // RFC 9449 §7.1: the scheme is for tokens that are bound, §7.2: and they are for no other.
        if dpop != key.is_some() {
            return Err(unproven(Refusal::PopFailed, Flaw::Token));
        }
        let certificate = confirmation.and_then(|bound| bound.certificate);
        if certificate.is_some() && certificate != channel.certificate {
            return Err(AuthError::refused(Refusal::PopFailed, provider, class));
        }
        let Some(key) = key else {
            return Ok(());
        };
        let (Proofs::One(proof), Some(token)) = (presented.proofs(), presented.token()) else {
            return Err(unproven(Refusal::PopFailed, Flaw::Proof));
        };
        let demand = Demand {
            key,
            token: Some(token),
            method: facts.method,
            secure: channel.secure,
            authority: channel.authority,
            path: facts.path,
            algorithms: &self.settings.algorithms,
            max_age: self.settings.max_age,
            leeway: LEEWAY,
        };
        let proof =
            token::prove(proof, &demand, now).map_err(|refusal| unproven(refusal, Flaw::Proof))?;
        if let Some(nonces) = &self.nonces
            && !nonces.takes(proof.nonce.as_deref(), now)
        {
            return Err(unproven(Refusal::PopFailed, Flaw::Nonce));
        }
        let keep = self.settings.max_age + 2 * LEEWAY;
        let limit = (keep, self.settings.replay_entries);
        let whose = Mark::account(&identity.key);
        let used = (&key, &proof);
        match self.replays.first(whose, used, limit, now).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(unproven(Refusal::Replay, Flaw::Proof)),
            Err(error) => Err(AuthError::store(&error, class)),
        }
    }

    /// The key that a client of ours proves to hold with a request for a token (RFC 9449 §5); `Ok(None)`: it proves none.
    ///
    /// # Errors
    ///
    /// [`NotProven`].
    pub(crate) async fn of_request(
        &self,
        client: &SubjectKey,
        headers: &HeaderMap,
        (facts, channel): (&Facts<'_>, &Channel<'_>),
        now: UnixTime,
    ) -> Result<Option<Thumbprint>, NotProven> {
        let proof = match proofs_of(headers) {
            Proofs::None => return Ok(None),
            Proofs::Unfit => return Err(NotProven::Proof),
            Proofs::One(proof) => proof,
        };
        let key = token::key_of_proof(proof).ok_or(NotProven::Proof)?;
        let demand = Demand {
            key,
            token: None,
            method: facts.method,
            secure: channel.secure,
            authority: channel.authority,
            path: facts.path,
            algorithms: &self.settings.algorithms,
            max_age: self.settings.max_age,
            leeway: LEEWAY,
        };
        let proof = token::prove(proof, &demand, now).or(Err(NotProven::Proof))?;
        if let Some(nonces) = &self.nonces
            && !nonces.takes(proof.nonce.as_deref(), now)
        {
            return Err(NotProven::Nonce);
        }
        let keep = self.settings.max_age + 2 * LEEWAY;
        let limit = (keep, self.settings.replay_entries);
        let whose = Mark::account(client);
        let used = (&key, &proof);
        match self.replays.first(whose, used, limit, now).await {
            Ok(true) => Ok(Some(key)),
            Ok(false) => Err(NotProven::Proof),
            Err(_) => Err(NotProven::Store),
        }
    }

    /// How proofs may be signed.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        let all = self.settings.algorithms.iter();
        all.map(|algorithm| algorithm.as_str()).collect()
    }

    /// The challenge of a 401.
    fn challenge(&self, app: &AppId, flaw: Flaw) -> HeaderValue {
        let error = match flaw {
            Flaw::Token => "invalid_token",
            Flaw::Proof => "invalid_dpop_proof",
            Flaw::Nonce => "use_dpop_nonce",
        };
        let (realm, algs) = (app.as_str(), &self.algorithms);
        let text = format!("DPoP realm=\"{realm}\", error=\"{error}\", algs=\"{algs}\"");
        // Names of applications are letters, digits and a few signs.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("DPoP"))
    }

    /// See [`crate::auth::Gate::unbound`].
    pub(super) fn unbound(&self, admitted: &Admitted, app: &AppId) -> AuthError {
        AuthError::Unproven {
            refusal: Refusal::PopFailed,
            provider: Some(admitted.provider().clone()),
            class: admitted.class(),
            challenge: self.challenge(app, Flaw::Token),
        }
    }

    /// What went wrong with a token, told in the scheme that it came in.
    pub(super) fn in_scheme(
        &self,
        error: AuthError,
        presented: &Presented<'_>,
        app: &AppId,
    ) -> AuthError {
        match error {
            AuthError::Refused {
                refusal,
                provider,
                class: Some(class @ (CredentialClass::Bearer | CredentialClass::Opaque)),
            } if presented.scheme() == Scheme::Dpop => AuthError::Unproven {
                refusal,
                provider,
                class,
                challenge: self.challenge(app, Flaw::Token),
            },
            other @ (AuthError::Refused { .. }
            | AuthError::Unproven { .. }
            | AuthError::InsufficientScope { .. }
            | AuthError::StepUp { .. }
            | AuthError::Forbidden { .. }
            | AuthError::Unavailable { .. }
            | AuthError::Limited { .. }
            | AuthError::Closed) => other,
        }
    }

    /// The nonce for the client's next proofs (RFC 9449 §8.2), where nonces are asked for.
    pub(crate) fn nonce(&self, now: UnixTime) -> Option<HeaderValue> {
        let nonce = self.nonces.as_ref()?.current(now);
        HeaderValue::try_from(nonce).ok()
    }
}

impl fmt::Debug for Possession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Possession")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Nonces that nobody has to remember: the time, under a key. Every instance with this key takes them.
struct Nonces {
    key: hmac::Key,
    /// Half of a nonce's life, in seconds: it is good in its slot and in the next.
    slot: u64,
}

impl Nonces {
    fn new(key: &BucketKey, life: Duration) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key.secret().expose());
        let own = hmac::sign(&root, b"authferry/dpop-nonce/v1");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()),
            slot: (life.as_secs() / 2).max(1),
        }
    }

    fn of(&self, slot: u64) -> String {
        let tag = hmac::sign(&self.key, &slot.to_be_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default())
    }

    fn current(&self, now: UnixTime) -> String {
        self.of(now.as_secs() / self.slot)
    }

    fn takes(&self, said: Option<&str>, now: UnixTime) -> bool {
        let slot = now.as_secs() / self.slot;
        // The next one too: another instance may be ahead of us.
        said.is_some_and(|said| {
            [slot, slot.saturating_sub(1), slot + 1]
                .into_iter()
                .any(|slot| self.of(slot) == said)
        })
    }
}

#[cfg(test)]
mod tests;
