//! One side's identity turned into the token that an upstream expects: RFC 8693 at a provider, an assertion (RFC 7523) that
//! a provider takes, or a token that we mint.
//!
//! It must only be given somebody whom the gate has vouched for. It must never hand on more than was presented: no wider
//! scope, no longer life, no other person, no lost delegation; and never the presented token itself.

mod basis;
mod build;
mod disk;
mod kept;
mod keys;
mod mint;
#[cfg(feature = "pkcs11")]
mod module;
mod ours;
mod ring;
mod scopes;
pub(crate) mod settings;
mod shelf;
mod subject;
mod succession;
mod there;
mod together;
mod way;
mod withdraw;

pub(crate) use build::Deps;
pub(crate) use build::Exchanges;
pub(crate) use kept::Outcome;
pub(crate) use keys::RingError;
pub(crate) use keys::Witness;
pub(crate) use ours::Noted;
pub(crate) use ours::Registrations;
pub(crate) use ring::KeyRing;
pub(crate) use ring::RingKeyView;
pub(crate) use shelf::Opened;
pub(crate) use shelf::Seal;
pub(crate) use subject::AskedBy;
pub(crate) use subject::Renewal;
pub(crate) use subject::Subject;
pub(crate) use succession::succession;
pub(crate) use way::Grant;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::HeaderName;
use http::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

use crate::clock::UnixTime;
use crate::exchange::basis::Basis;
use crate::exchange::kept::Asking;
use crate::exchange::kept::Bounds;
use crate::exchange::kept::Kept;
use crate::exchange::kept::Key;
pub(crate) use crate::exchange::settings::Binding;
use crate::exchange::settings::ScopeRules;
use crate::exchange::way::Way;
use crate::identity::CanonicalSubject;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::Outage;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Authenticated;
use crate::providers::Epoch;
use crate::providers::ProviderError;
use crate::secret::Secret;

/// How soon the target is asked again where what it gave in place of a revoked result is revoked, too: whoever is in a loop puts
/// no questions to it.
const AGAIN: Duration = Duration::from_secs(1);

/// One way to turn a credential into a token, in one snapshot.
pub(crate) struct Exchange {
    name: Box<str>,
    yields: Option<ProviderId>,
    /// Whether a provider here takes results: an upstream may bring one back.
    comes_back: bool,
    own_pass: bool,
    binding: Binding,
    longer_life: Duration,
    header: HeaderName,
    scheme: Box<str>,
    scopes: ScopeRules,
    way: Way,
    /// Whose tokens are results of exchanges already.
    ours: Registrations,
    /// What results of the target rest on.
    target: Option<Epoch>,
    kept: Kept,
    /// What they were made by.
    basis: Basis,
    /// Whoever sees a digest of a credential learns nothing.
    key: hmac::Key,
    deps: Deps,
}

/// What the upstream gets instead.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The value of the header.
    pub(crate) value: HeaderValue,
    /// The token itself.
    pub(crate) token: Secret<String>,
    /// Whether we minted it.
    pub(crate) minted: bool,
    /// The key of ours that signed it, or the assertion that it was had for.
    pub(crate) key: Option<Box<str>>,
    /// When it ends by itself, which may be a little later than what it was made from; [`UnixTime::NEVER`]: nobody says.
    pub(crate) own_end: UnixTime,
    /// What it may do.
    pub(crate) scopes: Arc<[Box<str>]>,
    /// When it ends.
    pub(crate) ends: UnixTime,
    /// From when on a fresh one is fetched ahead of the end.
    pub(crate) renew: UnixTime,
    /// From when on another one may be asked for, should it be revoked: at once, unless it was had in place of such a one.
    pub(crate) again: UnixTime,
    /// Whom it is about and by what it can be revoked, where we can read it. The gate compares.
    pub(crate) about: Option<Arc<Authenticated>>,
    /// What it is bound to, where it says so.
    pub(crate) bound: Option<Confirmation>,
}

impl Exchange {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The provider whose tokens come out, or are stood in for.
    pub(crate) const fn yields(&self) -> Option<&ProviderId> {
        self.yields.as_ref()
    }

    /// Whether somebody may bring a result back here.
    pub(crate) const fn comes_back(&self) -> bool {
        self.comes_back
    }

    /// Whether a token of `provider` passes as it was presented.
    pub(crate) fn passes(&self, provider: &ProviderId) -> bool {
        self.own_pass && self.yields.as_ref() == Some(provider)
    }

    /// What becomes of a binding.
    pub(crate) const fn binding(&self) -> Binding {
        self.binding
    }

    /// How much longer than the presented token a result may live by itself. A result of an exchange gives nothing that outlives
    /// it: one after another would live for ever.
    pub(crate) fn longer_life(&self, presented: &Identity, made: bool) -> Duration {
        if made || self.ours.asked_for(presented) {
            Duration::ZERO
        } else {
            self.longer_life
        }
    }

    /// What results say that they are of, where we mint them.
    pub(crate) fn mints_as(&self) -> Option<&str> {
        self.way.mints_as()
    }

    /// The header that carries the result.
    pub(crate) const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Whom results are for.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        self.way.audiences()
    }

    /// By what grant.
    pub(crate) const fn grant(&self) -> Grant {
        self.way.grant()
    }

    /// What results of the target rest on.
    pub(crate) const fn target(&self) -> Option<&Epoch> {
        self.target.as_ref()
    }

    /// A digest of a credential: where it stood, and its bytes.
    pub(crate) fn digest(&self, slot: &str, material: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(slot.len() as u64).to_be_bytes());
        context.update(slot.as_bytes());
        context.update(material);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// A digest of what templates, claims and rules may read of somebody besides who it is and what it may do.
    fn person(&self, subject: &Subject) -> [u8; 32] {
        let identity = &subject.identity;
        let attributes: BTreeMap<&str, &Value> = identity.attributes.iter().collect();
        let bound = subject.confirmation.map(|bound| bound.members());
        let said = (
            attributes,
            &identity.client_id,
            &identity.acr,
            identity.delegation.said(),
            bound,
        );
        match serde_json::to_vec(&said) {
            Ok(said) => self.digest("person", &said),
            Err(_) => {
                // It is like nobody else.
                let mut unlike = [0; 32];
                self.deps.entropy.fill(&mut unlike);
                unlike
            }
        }
    }

    /// The value that carries a token of the right provider as it was presented.
    pub(crate) fn as_presented(
        &self,
        token: &Secret<String>,
    ) -> Result<HeaderValue, ProviderError> {
        self.value(token)
    }

    /// The token for somebody who was vouched for: kept from an earlier request, or asked for now.
    ///
    /// # Errors
    ///
    /// A refusal is final: the target does not know the person, or more would be handed on than was presented. An outage
    /// is answered 503.
    pub(crate) async fn token_for(
        self: &Arc<Self>,
        subject: Subject,
        now: UnixTime,
    ) -> (Outcome, Result<Token, ProviderError>) {
        let key = Key {
            credential: subject.digest,
            class: subject.class,
            subject: subject.identity.key.clone(),
            canonical: subject.canonical.clone(),
            provider: subject.identity.provider.clone(),
            scopes: subject.identity.scopes.clone(),
            person: self.person(&subject),
            asked_by: subject.asked_by.clone(),
            owner_epoch: subject.epoch,
            target_epoch: self.target.as_ref().map_or(0, Epoch::current),
            for_client: subject.narrowed.then_some(subject.ends),
        };
        let exchange = Arc::clone(self);
        let over = subject.over.clone();
        let longer_life = || self.longer_life(&subject.identity, subject.made);
        let bounds = Bounds {
            ends: subject.ends,
            lives_until: subject.outlived.map(|end| end + longer_life()),
        };
        let work = move |asking| async move {
            let now = exchange.deps.clock.now();
            let began = Instant::now();
            let made = exchange.make(&subject, now).await;
            if let (Ok(token), Some(noted)) = (&made, &subject.noted) {
                noted.made(token, now).await;
            }
            // Whoever waits tells it with their request.
            if let (Asking::Ahead, Some(renewal)) = (asking, &subject.renewal) {
                renewal.ended(&made, (began, now));
            }
            made
        };
        self.kept.get(key, over.as_ref(), bounds, now, work).await
    }

    /// What the provider says of somebody whom another one has vouched for: the proof that it knows the account, and how long
    /// its word holds. Never more than that person's own credential gives.
    ///
    /// # Errors
    ///
    /// As [`Self::token_for`]. What cannot be read says nothing about anybody.
    pub(crate) async fn vouched(
        &self,
        (identity, canonical): (Arc<Identity>, CanonicalSubject),
        ends: UnixTime,
        now: UnixTime,
    ) -> Result<(Authenticated, Option<Duration>), ProviderError> {
        let subject = Subject {
            identity,
            canonical,
            class: CredentialClass::Session,
            token: None,
            digest: [0; 32],
            ends,
            epoch: 0,
            confirmation: None,
            outlived: None,
            narrowed: false,
            asked_by: None,
            made: false,
            noted: None,
            renewal: None,
            over: None,
        };
        let scopes = scopes::narrow(&self.scopes, &subject)?;
        let made = self.way.make(&subject, &scopes, &self.deps, now).await?;
        let proof = made.proof.ok_or(Refusal::Unsupported)?;
        Ok((proof, Some(made.ends.since(now))))
    }

    /// Asks, or mints.
    async fn make(&self, subject: &Subject, now: UnixTime) -> Result<Token, ProviderError> {
        let scopes = scopes::narrow(&self.scopes, subject)?;
        let made = self.way.make(subject, &scopes, &self.deps, now).await?;
        if let (Some(end), Some(until)) = (subject.outlived, made.lives_until)
            && end + self.longer_life(&subject.identity, subject.made) < until
        {
            // Whoever is given it could use it after the one that it was made from is over.
            warn!(
                exchange = &*self.name,
                seconds = until.since(end).as_secs(),
                "A provider's token lives longer than the one presented by more than `longer_life`; it is not used. Our \
                 registration there needs tokens with a shorter life."
            );
            return Err(Refusal::ExchangeRefused.into());
        }
        let ends = made.ends.min(subject.ends);
        if ends <= now {
            return Err(Outage::Malformed.into());
        }
        // A fresh one would end with the credential as well.
        let renew = if subject.ends <= made.ends {
            UnixTime::NEVER
        } else {
            now + ends.since(now) * 3 / 4
        };
        Ok(Token {
            value: self.value(&made.token)?,
            own_end: made.lives_until.unwrap_or(UnixTime::NEVER),
            scopes: made.scopes.into(),
            token: made.token,
            minted: self.mints_as().is_some(),
            key: made.key,
            ends,
            renew,
            again: subject.over.as_ref().map_or(now, |_| now + AGAIN),
            about: made.proof.map(Arc::new),
            bound: subject.confirmation,
        })
    }

    fn value(&self, token: &Secret<String>) -> Result<HeaderValue, ProviderError> {
        let text = if self.scheme.is_empty() {
            token.expose().clone()
        } else {
            format!("{} {}", self.scheme, token.expose())
        };
        let mut value = HeaderValue::try_from(text).or(Err(Outage::Malformed))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
