//! Tokens that a client asks for, about somebody whose token it has, or about itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tracing::warn;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Admitted;
use crate::auth::gate::Gate;
use crate::auth::gate::UpstreamToken;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::asked::Instead;
use crate::auth::gate::client::marks_of_client;
use crate::auth::gate::credential::Judged;
use crate::auth::gate::exchanged::Holder;
use crate::auth::policy::AppPolicy;
use crate::auth::possession::Channel;
use crate::clock::UnixTime;
use crate::exchange::AskedBy;
use crate::exchange::Binding;
use crate::exchange::Exchange;
use crate::exchange::Token;
use crate::identity::CanonicalSubject;
use crate::identity::Confirmation;
use crate::identity::CredentialClass;
use crate::identity::Delegation;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::identity::SubjectKey;
use crate::identity::Thumbprint;
use crate::providers::Authenticated;
use crate::providers::TokenClient;
use crate::revocation::Marks;
use crate::rollout;
use crate::rollout::Facts;
use crate::rollout::KillPosition;
use crate::secret::Secret;

/// How much later than asked for a provider's token may end: its clock is not ours.
const LEEWAY: Duration = Duration::from_secs(30);

/// What a client asked for, within what it may have.
#[derive(Clone, Copy)]
pub(crate) struct ForClient<'a> {
    /// Who asks.
    pub(crate) asker: Asker<'a>,
    /// The ways to a token for the audience: one for each provider that people may belong to, or one that mints.
    pub(crate) exchanges: &'a [Arc<Exchange>],
    /// The scopes it asked for; `None`: all that it may have.
    pub(crate) scopes: Option<&'a [Box<str>]>,
    /// The most that it may have.
    pub(crate) most: &'a [Box<str>],
    /// The key that it has proved to hold (RFC 9449 §5).
    pub(crate) proven: Option<Thumbprint>,
    /// The certificate of its connection, where that is one that it is known by (RFC 8705 §3).
    pub(crate) certificate: Option<Thumbprint>,
    /// The longest life.
    pub(crate) max_life: Duration,
    /// Where the token was not presented, but fetched from its provider for this client.
    pub(crate) own: Option<Own>,
    /// Whether the token must name it: as one that it is for, or that it was given to.
    pub(crate) addressed: bool,
    /// What was made for it before of the same, and was given back: it is not given again.
    pub(crate) over: Option<&'a Secret<String>>,
}

/// A client of our token endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// What it is called here.
    pub(crate) id: &'a str,
    /// The issuer identifier that calls it so.
    pub(crate) issuer: &'a str,
    /// Its registrations at providers.
    pub(crate) at: &'a HashMap<ProviderId, Arc<TokenClient>>,
}

/// A token that a provider issued to the client itself, for somebody who once let it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    /// When that was: what was revoked after it counts, however young the token is. `None`: nobody knows.
    pub(crate) began: Option<UnixTime>,
    /// Whether it is for the audience as it is: then it passes, if its provider is the one that its person belongs to.
    pub(crate) is_for: bool,
}

/// A little earlier, so that a client that asks again soon gets the same token: results are kept by their end.
fn rounded(end: UnixTime, life: Duration) -> UnixTime {
    let grain = (life.as_secs() / 8).clamp(1, 60);
    UnixTime::from_secs(end.as_secs() / grain * grain)
}

impl Admitted {
    /// The token that was issued for a client.
    pub(crate) fn issued(&self) -> Option<&Token> {
        self.token.as_ref()?.whole.as_ref()
    }
}

impl Gate {
    /// Judges a token as if it had come with a request to the application, and turns it into one for a client; without
    /// `client` it is only judged.
    ///
    /// # Errors
    ///
    /// As [`Gate::admit`]; [`AuthError::InsufficientScope`] where more was asked for than the token or the client has.
    pub(crate) async fn issue(
        &self,
        policy: &AppPolicy,
        client: Option<&ForClient<'_>>,
        presented: &Presented<'_>,
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let asked = Asked::new(
            policy,
            client.map_or(Instead::Nothing, Instead::ForClient),
            way,
            kill,
            now,
        );
        self.ask(&asked, presented).await
    }

    /// What a provider's verdicts rest on now. Asked before one is made: what is voided meanwhile is void.
    pub(crate) fn rests_on(&self, provider: &ProviderId) -> Option<u64> {
        let owner = self.deps.providers.named(provider)?;
        Some(owner.epoch().current())
    }

    /// Turns a token that a provider gave to a client for itself, and that `fetched` says, into one for that client: weighed like
    /// one that was presented, for whichever audience it is. What was revoked or voided since `now`, when it was asked for, counts.
    ///
    /// # Errors
    ///
    /// As [`Gate::issue`].
    pub(crate) async fn issue_own(
        &self,
        policy: &AppPolicy,
        client: &ForClient<'_>,
        (presented, proof, epoch): (&Presented<'_>, &Authenticated, Option<u64>),
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<Admitted, AuthError> {
        let asked = Asked {
            fetched_since: Some(now),
            ..Asked::new(policy, Instead::ForClient(client), way, kill, now)
        };
        let class = presented.class();
        let owned = presented
            .owner()
            .map_err(|refusal| AuthError::unowned(refusal, class))?;
        let owner = owned.owner;
        self.may_be_judged(&asked, owner.id(), class)?;
        let credential = presented
            .credential()
            .ok_or_else(|| AuthError::refused(Refusal::BadCredentials, owner.id(), class))?;
        let void = || AuthError::refused(Refusal::Revoked, owner.id(), class);
        let judged = Judged {
            owner,
            credential: &credential,
            epoch: epoch.ok_or_else(void)?,
            proof,
            took: None,
            made: None,
        };
        let canonical = self.whose(&asked, presented, &judged).await?;
        let weighed = self.weighed(&asked, presented, &judged, (canonical, None));
        let admitted = weighed.await?;
        if owner.epoch().current() == judged.epoch {
            Ok(admitted)
        } else {
            Err(void())
        }
    }

    /// What a token is, and whose, as its owner says; whether it would be taken here is not asked.
    ///
    /// # Errors
    ///
    /// As [`Gate::admit`], when nobody owns it or its owner does not take it.
    pub(crate) async fn known(
        &self,
        presented: &Presented<'_>,
        now: UnixTime,
    ) -> Result<Authenticated, AuthError> {
        let class = presented.class();
        let owned = presented
            .owner()
            .map_err(|refusal| AuthError::unowned(refusal, class))?;
        let owner = owned.owner;
        let credential = presented
            .credential()
            .ok_or_else(|| AuthError::refused(Refusal::BadCredentials, owner.id(), class))?;
        let judged = self.judge(owned, &credential, now).await;
        judged.map_err(|error| AuthError::judged(&error, owner.id(), class))
    }

    /// Who somebody is across providers, for what is told; `None`: nobody can say.
    pub(crate) async fn person(
        &self,
        identity: &Arc<Identity>,
        now: UnixTime,
    ) -> Option<CanonicalSubject> {
        self.deps.joiner.join(identity, now).await.ok()
    }

    /// The provider that a client belongs to now, which is assigned like a person.
    ///
    /// # Errors
    ///
    /// When the kill switch closes everything, the client was revoked by its name here, or, since `now`, by the one that it has
    /// at its provider or with all that comes from there.
    pub(crate) fn side_of_client(
        &self,
        policy: &AppPolicy,
        (account, at): (&SubjectKey, &HashMap<ProviderId, Arc<TokenClient>>),
        way: (&Facts<'_>, &Channel<'_>),
        kill: KillPosition,
        now: UnixTime,
    ) -> Result<ProviderId, AuthError> {
        let asked = Asked::new(policy, Instead::Nothing, way, kill, now);
        match kill {
            KillPosition::Deny => return Err(AuthError::Closed),
            KillPosition::Off
            | KillPosition::Freeze
            | KillPosition::Legacy
            | KillPosition::Modern => {}
        }
        let class = CredentialClass::Bearer;
        let nobody = || AuthError::unowned(Refusal::Unsupported, class);
        let first = policy
            .plan()
            .map(|plan| &plan.from)
            .or(policy.single.as_ref());
        let canonical = CanonicalSubject::unjoined(account);
        let mut identity = Identity {
            provider: first.ok_or_else(nobody)?.clone(),
            key: account.clone(),
            attributes: Arc::default(),
            client_id: Some(account.subject.as_str().into()),
            acr: None,
            scopes: Box::default(),
            delegation: Delegation::default(),
        };
        if let Some(plan) = policy.plan() {
            let assignment = rollout::assign(
                plan,
                &self.deps.cohorts,
                &self.deps.bucket_key,
                kill,
                None,
                &asked.with(&canonical, &identity),
                now,
            );
            identity.provider = plan.provider(assignment.arm).clone();
        }
        let provider = identity.provider.clone();
        let marks = Marks::of_account(&Arc::new(identity), &canonical);
        self.stands(&asked, &provider, class, marks)?;
        let marks = marks_of_client((account, at), &provider, now);
        self.stands(&asked, &provider, class, marks)?;
        Ok(provider)
    }

    /// The token that a client asked for. It can do no more than the one presented, and ends no later.
    pub(super) async fn issued(
        &self,
        asked: &Asked<'_>,
        client: &ForClient<'_>,
        side: Option<&ProviderId>,
        presented: &Presented<'_>,
        holder: &Holder<'_>,
    ) -> Result<UpstreamToken, AuthError> {
        let provider = &holder.identity.provider;
        let class = holder.class;
        let refused = |refusal| AuthError::Forbidden {
            refusal,
            provider: provider.clone(),
            class,
        };
        if client.addressed && !client.asker.is_named_by(holder) {
            return Err(refused(Refusal::WrongAudience));
        }
        let of = |wanted: Option<&ProviderId>| {
            let mut all = client.exchanges.iter();
            all.find(|exchange| exchange.yields() == wanted)
        };
        let has = |all: &[Box<str>], scope: &str| all.iter().any(|one| **one == *scope);
        let may = |scope: &str| has(&holder.identity.scopes, scope) && has(client.most, scope);
        let scopes = match client.scopes {
            Some(wanted) if wanted.iter().all(|scope| may(scope)) => Box::from(wanted),
            Some(_) => {
                return Err(AuthError::InsufficientScope {
                    provider: provider.clone(),
                    class,
                    challenge: HeaderValue::from_static("Bearer error=\"insufficient_scope\""),
                });
            }
            None => {
                let all = holder.identity.scopes.iter();
                all.filter(|scope| may(scope)).cloned().collect()
            }
        };
        let most = asked.now + client.max_life + LEEWAY;
        let passes = client.own.is_some_and(|own| own.is_for)
            && side.is_none_or(|side| side == provider)
            && holder
                .identity
                .scopes
                .iter()
                .all(|scope| has(&scopes, scope));
        // Who proves to hold a key asks for a token that is bound to it, which a provider's is not.
        let is_plain = holder.bound.is_none() && client.proven.is_none();
        let exchange = side.and_then(|side| of(Some(side))).or_else(|| of(None));
        let keeps = exchange.is_some_and(|exchange| exchange.binding() == Binding::Keep);
        // Nor is it bound to the certificate that a client comes with, which it is where we can (RFC 8705 §3).
        let binds = keeps && client.certificate.is_some();
        if passes && holder.lasts <= most && is_plain && !binds {
            return holder
                .passed()
                .ok_or_else(|| refused(Refusal::ExchangeRefused));
        }
        let exchange = exchange.ok_or_else(|| refused(Refusal::ExchangeRefused))?;
        // The result would be worth something without the key.
        let loses = !keeps && !is_plain;
        if loses || (holder.bound.is_some() && client.own.is_some()) {
            return Err(refused(Refusal::PopFailed));
        }
        // A client that proves to hold a key, or comes with its certificate, gets what is bound to it, also for a token that was
        // bound to nothing.
        let own = holder.bound.and_then(|bound| bound.certificate);
        let bound = Confirmation {
            key: client.proven,
            certificate: own.or(client.certificate),
        };
        let says = bound.key.is_some() || bound.certificate.is_some();
        let bound = (keeps && says).then_some(bound);
        // What a client holds for longer was not made from the token that was fetched with it a moment ago.
        let last = match client.own {
            Some(_) => most,
            None => {
                let made = holder.standing.was_made();
                most.min(holder.lasts + exchange.longer_life(holder.identity, made))
            }
        };
        let asked_by = Arc::new(AskedBy {
            id: client.asker.id.into(),
            issuer: client.asker.issuer.into(),
            there: client.asker.at.get(provider).map(|at| at.id().into()),
        });
        let identity = Arc::new(Identity {
            scopes,
            ..Identity::clone(holder.identity)
        });
        let narrowed = Holder {
            identity: &identity,
            ends: holder
                .ends
                .min(rounded(asked.now + client.max_life, client.max_life)),
            outlived: None,
            bound: bound.or(holder.bound),
            asked_by: Some(&asked_by),
            narrowed: true,
            over: client.over,
            ..*holder
        };
        let token = self
            .exchanged(asked, exchange, presented, &narrowed)
            .await?;
        match &token.whole {
            // Where nobody says how long it lives, it may do so for ever: the client would hold it.
            Some(whole) if whole.own_end <= last => Ok(token),
            Some(_) | None => {
                warn!(
                    exchange = exchange.name(),
                    "An exchanged token would live longer than the one presented, or than the client may have, or nobody says how long; it is not issued."
                );
                Err(refused(Refusal::ExchangeRefused))
            }
        }
    }
}
