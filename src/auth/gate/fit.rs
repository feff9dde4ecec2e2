//! Whether what comes out of an exchange may be handed on: it is about the same person, and is not revoked itself.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;
use tracing::info;
use tracing::warn;

use crate::auth::canonical::NotJoined;
use crate::auth::error::AuthError;
use crate::auth::gate::Gate;
use crate::auth::gate::asked::Asked;
use crate::auth::gate::exchanged::Holder;
use crate::clock::UnixTime;
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

/// What a provider gives after so long is younger than what was revoked before: tokens count whole seconds.
const NEXT: Duration = Duration::from_secs(1);

/// Why a result counts no more.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Over {
    /// Everything of its provider was revoked a moment ago, such as by a rollback: the next one is good.
    TooSoon,
    /// It, its key, its provider or our registration there is revoked.
    Revoked,
}

/// Whether a result counts no more, and why; `None`: it does, or is none.
fn over(answer: &Result<Fit, AuthError>, now: UnixTime) -> Option<Over> {
    let (_, standing) = answer.as_ref().ok()?;
    let standing = standing.as_ref().filter(|own| !own.holds(now))?;
    Some(if standing.is_early(now) {
        Over::TooSoon
    } else {
        Over::Revoked
    })
}

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
        if over(&answer, asked.now).is_some()
            && let Ok((token, _)) = &answer
            // Clients of ours have limits of their own.
            && (holder.narrowed || token.again <= asked.now)
        {
            // The next one may be signed by another key, or have another name.
            let next = subject(Some(&token.token));
            let next = exchange.token_for(next, asked.now).await;
            (outcome, answer) = self.compared(asked, exchange, holder, next).await;
        }
        match over(&answer, asked.now) {
            None => {}
            Some(Over::TooSoon) => {
                info!(
                    exchange = exchange.name(),
                    "A result of an exchange is as old as what was revoked a moment ago; the next one is used."
                );
                let why = ProviderError::Unavailable {
                    outage: Outage::TooSoon,
                    retry_after: Some(NEXT),
                };
                answer = Err(holder.error(&why, exchange.yields()));
            }
            Some(Over::Revoked) => {
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
