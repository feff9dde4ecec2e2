//! Whether what comes out of an exchange may be handed on: it is about the same person, and is not revoked itself.

use std::sync::Arc;

use tracing::error;
use tracing::warn;

use crate::auth::canonical::NotJoined;
use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::exchanged::Holder;
use crate::exchange::Exchange;
use crate::exchange::Outcome;
use crate::exchange::Subject;
use crate::exchange::Token;
use crate::identity::Outage;
use crate::identity::Refusal;
use crate::providers::ProviderError;
use crate::revocation::Marks;
use crate::revocation::Standing;
use crate::secret::Secret;

/// A result, and by what it can be revoked beside what it was made of; `None`: nobody here can read it.
type Fit = (Token, Option<Standing>);

impl Gate {
    /// What comes out for `subject`, who is given what of before counts no more.
    pub(super) async fn fit(
        &self,
        asked: &Asked<'_>,
        exchange: &Arc<Exchange>,
        holder: &Holder<'_>,
        subject: impl Fn(Option<&Secret<String>>) -> Subject + Sync,
    ) -> (Outcome, Result<Fit, AuthError>) {
        let first = exchange.token_for(subject(holder.over), asked.now).await;
        let (mut outcome, mut answer) = self.compared(asked, exchange, holder, first).await;
        let is_over = |answer: &Result<Fit, AuthError>| {
            let standing = answer.as_ref().ok().and_then(|(_, own)| own.as_ref());
            standing.is_some_and(|standing| !standing.holds(asked.now))
        };
        if is_over(&answer)
            && let Ok((token, _)) = &answer
            // Clients of ours have limits of their own.
            && (holder.narrowed || token.again <= asked.now)
        {
            // The next one may be signed by another key, or have another name.
            let next = subject(Some(&token.token));
            let next = exchange.token_for(next, asked.now).await;
            (outcome, answer) = self.compared(asked, exchange, holder, next).await;
        }
        let early = |answer: &Result<Fit, AuthError>| {
            let standing = answer.as_ref().ok().and_then(|(_, own)| own.as_ref());
            standing.is_some_and(|standing| standing.is_early(asked.now))
        };
        if is_over(&answer) && early(&answer) {
            // Everything of that provider was revoked a moment ago, such as by a rollback: the next one is good.
            answer = Err(holder.error(&Outage::Malformed.into(), exchange.yields()));
        } else if is_over(&answer) {
            warn!(
                exchange = exchange.name(),
                "A result of an exchange is revoked itself, or its key, its provider or our registration there is; it is not used."
            );
            answer = Err(AuthError::Forbidden {
                refusal: Refusal::ExchangeRefused,
                provider: holder.identity.provider.clone(),
                class: holder.class,
            });
        }
        (outcome, answer)
    }

    /// A token that we can read must be about the person who was admitted: no exchange makes one person another.
    async fn compared(
        &self,
        asked: &Asked<'_>,
        exchange: &Exchange,
        holder: &Holder<'_>,
        (outcome, answer): (Outcome, Result<Token, ProviderError>),
    ) -> (Outcome, Result<Fit, AuthError>) {
        let token = match answer {
            Ok(token) => token,
            Err(error) => return (outcome, Err(holder.error(&error, exchange.yields()))),
        };
        let Some(about) = &token.about else {
            return (outcome, Ok((token, None)));
        };
        let conflict = |refusal| AuthError::Forbidden {
            refusal,
            provider: holder.identity.provider.clone(),
            class: holder.class,
        };
        let joined = self.deps.joiner.join(about.identity(), asked.now).await;
        let answer = match joined {
            Ok(canonical) if canonical == *holder.canonical => {
                let marks = Marks::of(about.identity(), &canonical, about.grounds());
                let own = Standing::new(self.deps.revocations.index(), marks);
                Ok((token, Some(own)))
            }
            Ok(_other) => {
                error!(
                    exchange = exchange.name(),
                    "An exchanged token is about somebody else than the credential; refused."
                );
                Err(conflict(Refusal::LinkConflict))
            }
            Err(NotJoined::Refused(refusal)) => Err(conflict(refusal)),
            Err(NotJoined::Contested) => Err(conflict(Refusal::LinkConflict)),
            Err(NotJoined::Store(error)) => Err(AuthError::store(&error, holder.class)),
        };
        (outcome, answer)
    }
}
