//! What an upstream gets in place of the credential that was presented.

use std::sync::Arc;

use http::HeaderName;
use http::HeaderValue;

use crate::auth::error::AuthError;
use crate::auth::extract::Presented;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::report::About;
use crate::auth::report::beginning;
use crate::clock::UnixTime;
use crate::exchange::AskedBy;
use crate::exchange::Binding;
use crate::exchange::Exchange;
use crate::exchange::Outcome;
use crate::exchange::Subject;
use crate::exchange::Token;
use crate::identity::CanonicalSubject;
use crate::identity::Confirmation;
use crate::identity::Credential;
use crate::identity::CredentialClass;
use crate::identity::Identity;
use crate::identity::ProviderId;
use crate::identity::Refusal;
use crate::providers::Epoch;
use crate::providers::ProviderError;
use crate::revocation::Origin;
use crate::revocation::Standing;
use crate::secret::Secret;
use crate::telemetry::ExchangeEvent;
use crate::telemetry::ExchangeOutcome;

/// What the upstream gets, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamToken {
    header: HeaderName,
    value: HeaderValue,
    /// When it ends.
    pub(super) ends: UnixTime,
    /// The whole of it, where a client gets it and not an upstream,
    pub(super) whole: Option<Token>,
    /// and of whom it was made.
    pub(super) origin: Option<Origin>,
    kept_until: UnixTime,
    rests_on: Option<(Epoch, u64)>,
    /// By what it can be revoked itself.
    standing: Option<Standing>,
}

impl UpstreamToken {
    /// A client's own token, as it is.
    pub(super) fn passed(token: Token) -> Self {
        Self {
            header: http::header::AUTHORIZATION,
            value: token.value.clone(),
            ends: token.ends,
            whole: Some(token),
            origin: None,
            kept_until: UnixTime::NEVER,
            rests_on: None,
            standing: None,
        }
    }

    /// The same, made of somebody's credential.
    pub(super) fn of(self, origin: Origin) -> Self {
        Self {
            origin: Some(origin),
            ..self
        }
    }

    /// The header.
    pub(crate) const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Its value.
    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Until when it may be kept: then a fresh one may be there.
    pub(crate) const fn kept_until(&self) -> UnixTime {
        self.kept_until
    }

    /// Whether it may still be sent.
    pub(super) fn still_good(&self, now: UnixTime) -> bool {
        now < self.ends
            && self
                .rests_on
                .as_ref()
                .is_none_or(|(epoch, seen)| epoch.current() == *seen)
            && self
                .standing
                .as_ref()
                .is_none_or(|standing| standing.holds(now))
    }
}

/// Somebody who was admitted, as far as an exchange must know.
pub(super) struct Holder<'a> {
    pub(super) identity: &'a Arc<Identity>,
    pub(super) canonical: &'a CanonicalSubject,
    pub(super) class: CredentialClass,
    pub(super) credential: Option<&'a Credential>,
    /// Whether the credential is worth nothing without a proof of its key, which no upstream gets.
    pub(super) bound: Option<Confirmation>,
    pub(super) ends: UnixTime,
    /// When the token ends by itself; `None`: it is none, or the end of what comes out is looked at elsewhere.
    pub(super) outlived: Option<UnixTime>,
    /// When what was presented ends by itself, whatever the rules say; a remembered yes, when that does.
    pub(super) lasts: UnixTime,
    pub(super) epoch: u64,
    /// The client of our token endpoint that asked.
    pub(super) asked_by: Option<&'a Arc<AskedBy>>,
    /// Whether a client asked for a token with these scopes.
    pub(super) narrowed: bool,
    /// What it had before in answer to the same, and counts no more.
    pub(super) over: Option<&'a Secret<String>>,
    /// By what it can be revoked.
    pub(super) standing: &'a Standing,
    /// The row of the session that was presented, where it is one of ours.
    pub(super) session: Option<[u8; 32]>,
}

impl Holder<'_> {
    /// The token that was presented, as it is.
    pub(super) fn passed(&self) -> Option<UpstreamToken> {
        let token = self.token()?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
        value.set_sensitive(true);
        Some(UpstreamToken::passed(Token {
            value,
            token: token.clone(),
            minted: false,
            key: None,
            own_end: self.lasts,
            scopes: self.identity.scopes.iter().cloned().collect(),
            ends: self.ends,
            renew: UnixTime::NEVER,
            again: UnixTime::NEVER,
            about: None,
            bound: None,
        }))
    }

    /// The token that was presented, where it is one.
    pub(super) fn token(&self) -> Option<&Secret<String>> {
        match self.credential? {
            Credential::Bearer(token) | Credential::Opaque(token) => Some(token),
            Credential::Session { .. }
            | Credential::Basic { .. }
            | Credential::ApiKey(_)
            | Credential::ClientCert(_) => None,
        }
    }

    pub(super) fn error(&self, error: &ProviderError, target: Option<&ProviderId>) -> AuthError {
        let owner = &self.identity.provider;
        match error {
            ProviderError::Rejected(refusal @ Refusal::Expired) => {
                AuthError::refused(*refusal, owner, self.class)
            }
            // The credential is good; its holder may not have what this application needs.
            ProviderError::Rejected(refusal) => AuthError::Forbidden {
                refusal: *refusal,
                provider: owner.clone(),
                class: self.class,
            },
            ProviderError::Unavailable { .. } => {
                AuthError::judged(error, target.unwrap_or(owner), self.class)
            }
        }
    }
}

impl Gate {
    /// What the upstream gets from `exchange`. A token of the right provider passes as it was presented.
    pub(super) async fn exchanged(
        &self,
        asked: &Asked<'_>,
        exchange: &Arc<Exchange>,
        presented: &Presented<'_>,
        holder: &Holder<'_>,
    ) -> Result<UpstreamToken, AuthError> {
        let target = exchange.yields();
        let epoch = exchange
            .target()
            .map(|epoch| (epoch.clone(), epoch.current()));
        // A client never gets back what it brought: it asked for another audience.
        if !holder.narrowed
            && let Some(token) = holder.token()
            && exchange.passes(&holder.identity.provider)
        {
            if holder.bound.is_some() {
                let refused = ExchangeOutcome::Refused(Refusal::PopFailed);
                self.tell(asked, exchange, holder, (refused, None));
                return Err(holder.error(&Refusal::PopFailed.into(), target));
            }
            let value = exchange.as_presented(token);
            return Ok(UpstreamToken {
                header: exchange.header().clone(),
                value: value.map_err(|error| holder.error(&error, target))?,
                ends: holder.ends,
                whole: None,
                origin: None,
                kept_until: UnixTime::NEVER,
                rests_on: None,
                standing: None,
            });
        }
        if holder.bound.is_some() {
            match exchange.binding() {
                Binding::Keep => {}
                Binding::Lose => {
                    let (name, app) = (exchange.name(), asked.policy.app());
                    self.deps.reports.metrics.binding_lost(name);
                    let desk = &self.deps.shadow;
                    desk.binding_lost(app, name, holder.canonical, asked.now);
                }
                Binding::Refuse => {
                    let refused = ExchangeOutcome::Refused(Refusal::PopFailed);
                    self.tell(asked, exchange, holder, (refused, None));
                    return Err(holder.error(&Refusal::PopFailed.into(), target));
                }
            }
        }
        let key = presented.key();
        let renewal = self.told_of_renewals(asked, exchange, holder);
        let subject = |over: Option<&Secret<String>>| Subject {
            identity: Arc::clone(holder.identity),
            canonical: holder.canonical.clone(),
            class: holder.class,
            token: holder.token().cloned(),
            digest: exchange.digest(key.slot, key.material),
            ends: holder.ends,
            epoch: holder.epoch,
            outlived: holder.outlived,
            asked_by: holder.asked_by.cloned(),
            narrowed: holder.narrowed,
            made: holder.standing.was_made(),
            noted: self.noted(exchange, holder),
            renewal: Some(Arc::clone(&renewal)),
            over: over.cloned(),
            confirmation: holder.bound.filter(|_| exchange.binding() == Binding::Keep),
        };
        let (outcome, answer) = self.fit(asked, exchange, holder, subject).await;
        let told = match (&answer, outcome) {
            (Ok(_), Outcome::Kept) => ExchangeOutcome::Kept,
            (Ok(_), Outcome::Renewing) => ExchangeOutcome::Renewing,
            (Ok(_), Outcome::Made) => ExchangeOutcome::Issued,
            (Err(AuthError::Unavailable { outage, .. }), _) => {
                ExchangeOutcome::Unavailable(*outage)
            }
            (
                Err(
                    AuthError::Refused { refusal, .. }
                    | AuthError::Unproven { refusal, .. }
                    | AuthError::Forbidden { refusal, .. },
                ),
                _,
            ) => ExchangeOutcome::Refused(*refusal),
            // An exchange asks for neither a scope nor a login, and comes after the judgement.
            (
                Err(
                    AuthError::Closed
                    | AuthError::InsufficientScope { .. }
                    | AuthError::Limited { .. }
                    | AuthError::StepUp { .. },
                ),
                _,
            ) => ExchangeOutcome::Refused(Refusal::ExchangeRefused),
        };
        let token = answer.as_ref().ok().map(|(token, _)| token);
        self.tell(asked, exchange, holder, (told, token));
        let (token, standing) = answer?;
        Ok(UpstreamToken {
            header: exchange.header().clone(),
            kept_until: token.kept_until(asked.now),
            whole: holder.narrowed.then(|| token.clone()),
            origin: None,
            ends: token.ends,
            value: token.value,
            rests_on: epoch,
            standing,
        })
    }

    /// What the upstream gets instead of the credential, where something else is wanted.
    pub(super) async fn instead(
        &self,
        asked: &Asked<'_>,
        wanted: Option<&Arc<Exchange>>,
        presented: &Presented<'_>,
        holder: &Holder<'_>,
    ) -> Result<Option<UpstreamToken>, AuthError> {
        match wanted {
            Some(exchange) => self
                .exchanged(asked, exchange, presented, holder)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    fn tell(
        &self,
        asked: &Asked<'_>,
        exchange: &Exchange,
        holder: &Holder<'_>,
        (outcome, token): (ExchangeOutcome, Option<&Token>),
    ) {
        let reports = &self.deps.reports;
        let grant = exchange.grant().as_str();
        reports.metrics.exchanged(exchange.name(), grant, outcome);
        // What a client asked for is told as its request to the endpoint.
        if holder.narrowed {
            return;
        }
        let about = About {
            app: asked.policy.app(),
            plan: asked.policy.plan(),
            person: Some(holder.canonical),
            now: asked.now,
            source: asked.channel.source,
        };
        let audience = exchange.audiences().join(" ");
        let scope = token.map(|token| token.scopes.join(" "));
        let parent = holder.token().map(|token| beginning(token.expose()));
        let event = ExchangeEvent {
            exchange: exchange.name(),
            grant,
            client: holder.identity.client_id.as_deref(),
            audience: Some(&*audience).filter(|audience| !audience.is_empty()),
            scope: scope.as_deref().filter(|scope| !scope.is_empty()),
            lifetime: token.map(|token| token.ends.since(asked.now).as_secs()),
            parent: parent.as_deref(),
            provider: exchange.yields(),
            key: token.and_then(|token| token.key.as_deref()),
            outcome,
        };
        reports.exchanged(about, event);
    }
}
