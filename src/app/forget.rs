//! What is kept of a person is erased: their sessions, their links, where they were. Counts without names stay.

use std::sync::Arc;

use crate::admin::ForgetAnswer;
use crate::admin::ForgetRequest;
use crate::admin::RevokeFailure;
use crate::app::process::Process;
use crate::clock::UnixTime;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::Mark;
use crate::identity::ProviderId;
use crate::links::Move;
use crate::providers::Providers;
use crate::revocation::Asked;
use crate::revocation::ListError;
use crate::revocation::Login;
use crate::revocation::Notice;
use crate::revocation::Source;
use crate::revocation::Spent;
use crate::revocation::Target;
use crate::session::Farewell;
use crate::store::StoreError;

/// Erases. Whatever fails can be asked for again: what is gone by then stays gone.
pub(super) async fn forget(
    process: &Process,
    (settings, providers): (&Settings, &Arc<Providers>),
    wanted: ForgetRequest,
    actor: &str,
) -> Result<ForgetAnswer, RevokeFailure> {
    let target = Target::Subject {
        subject: wanted.subject,
    };
    let person = target.mark().map(|_| target.person());
    let person = person.map_err(RevokeFailure::Request)?;
    let Some(person) = person else {
        return Err(RevokeFailure::Request(String::from("nobody is named")));
    };
    if wanted.reason.trim().is_empty() {
        let what = String::from("a reason is needed; it is recorded");
        return Err(RevokeFailure::Request(what));
    }
    let list = &process.revocations;
    // First of all nothing of it counts any more, here or elsewhere: what is erased one after the other is out at once.
    let asked = Asked {
        target: target.clone(),
        source: Source::Operator,
        actor: actor.to_owned(),
        reason: wanted.reason,
        keep: None,
        provider: None,
    };
    list.forgets(asked).await.map_err(|error| match error {
        ListError::Store(error) => away(&error),
        ListError::Target(_) | ListError::Unknown | ListError::Final => {
            RevokeFailure::Request(error.to_string())
        }
    })?;
    let now = process.clock.now();
    let mut answer = ForgetAnswer::default();
    loop {
        let kept = list.kept_of(&target).await.map_err(|error| away(&error))?;
        let gone = end(process, providers, &kept.sessions, now).await;
        answer.sessions += gone.map_err(|error| away(&error))?;
        answer.at_least = kept.more;
        if !kept.more || kept.sessions.is_empty() {
            break;
        }
    }
    let unread = list.erase_unread(Mark::person(&person)).await;
    answer.unread = unread.map_err(|error| away(&error))?;
    process.seen.forget(&person);
    let erased = erase(process, settings, &person, now).await;
    (answer.accounts, answer.pins) = erased.map_err(|error| away(&error))?;
    Ok(answer)
}

/// Ends sessions and erases how they are found; how many.
async fn end(
    process: &Process,
    providers: &Arc<Providers>,
    sessions: &[Login],
    now: UnixTime,
) -> Result<usize, StoreError> {
    let mut gone = 0;
    for login in sessions {
        let Some(row) = login.row() else {
            continue;
        };
        if let Some(farewell) = process.sessions.end_known(&row, now).await? {
            revoke_at_provider(process, providers, farewell, now);
        }
        process.revocations.erase(login).await?;
        gone += 1;
    }
    Ok(gone)
}

async fn erase(
    process: &Process,
    settings: &Settings,
    person: &CanonicalSubject,
    now: UnixTime,
) -> Result<(usize, usize), StoreError> {
    let names = settings.providers.iter().map(|one| one.id.clone());
    let names: Vec<ProviderId> = names.collect();
    // First of all what is on its way: nothing of it is written after what follows.
    for plan in &settings.rollouts {
        let way = Move {
            from: &plan.from,
            to: &plan.to,
        };
        process.homes.stop(way, person, now).await?;
    }
    process.revocations.forget_tokens(person).await?;
    let accounts = process.links.forget(person, &names, now).await?;
    process.homes.forget(person, now).await?;
    let mut pins = 0;
    for plan in &settings.rollouts {
        pins += usize::from(process.pins.forget(&plan.id, person, now).await?);
    }
    Ok((accounts, pins))
}

/// The provider is told, again where it is away, to end what it issued.
fn revoke_at_provider(
    process: &Process,
    providers: &Arc<Providers>,
    farewell: Farewell,
    now: UnixTime,
) {
    let provider = providers.named(&farewell.provider);
    if let (Some(provider), Some(token)) = (provider, farewell.refresh_token) {
        let notice = Notice::new(
            provider.id(),
            Spent::Token(Arc::clone(provider), token),
            &process.metrics,
            now,
        );
        process.notices.send(notice, &process.background);
    }
}

fn away(error: &StoreError) -> RevokeFailure {
    RevokeFailure::Store(error.to_string())
}
