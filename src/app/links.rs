//! An operator decides whose an account is: recorded first, then it holds at every instance, and what was opened with either
//! account until then is over.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::admin::LinkAnswer;
use crate::admin::LinkRequest;
use crate::admin::RevokeFailure;
use crate::app::process::Process;
use crate::app::stated;
use crate::config::settings::Settings;
use crate::identity::CanonicalSubject;
use crate::identity::ProviderId;
use crate::identity::Subject;
use crate::identity::SubjectKey;
use crate::ledger::Entry;
use crate::ledger::Kind;
use crate::links::Decided;
use crate::revocation::Asked;
use crate::revocation::ListError;
use crate::revocation::Source;
use crate::revocation::Target;

/// By then every instance has been told what was decided, or asks the store each time.
const TOLD: Duration = Duration::from_secs(5);

/// Links. Whatever fails can be asked for again.
pub(super) async fn set(
    process: &Process,
    settings: &Settings,
    wanted: LinkRequest,
    actor: &str,
) -> Result<LinkAnswer, RevokeFailure> {
    let (person, provider, account) = read(settings, &wanted)?;
    let (links, now) = (&process.links, process.clock.now());
    let mut known = false;
    for one in &settings.providers {
        let row = links.account_row(&person, &one.id);
        known |= links
            .has_account(&row, now)
            .await
            .map_err(|error| away(&error))?;
    }
    if !known {
        let what = String::from("nobody of this name has been seen at any provider");
        return Err(RevokeFailure::Request(what));
    }
    let changes = links.would_change(&person, &provider, &account, now).await;
    let changes = changes.map_err(|error| away(&error))?;
    record(
        process,
        (&person, &provider, &account),
        &changes,
        &wanted,
        actor,
    )
    .await?;
    let ends = |account: &SubjectKey| Asked {
        target: Target::Account {
            issuer: account.issuer.as_str().to_owned(),
            subject: account.subject.as_str().to_owned(),
        },
        source: Source::Operator,
        actor: actor.to_owned(),
        reason: wanted.reason.clone(),
        keep: None,
        provider: None,
    };
    let end = async |account: &SubjectKey| {
        let ended = process.revocations.revoke(ends(account)).await;
        ended.map(drop).map_err(|error| match error {
            ListError::Store(error) => away(&error),
            ListError::Target(_) | ListError::Unknown | ListError::Final => {
                RevokeFailure::Request(error.to_string())
            }
        })
    };
    // Where passwords of the two are judged says what was true until now. Before and after, as what follows.
    let forget = async || {
        for whose in changes.taken_from.iter().chain([&person]) {
            let gone = process.homes.forget(whose, now).await;
            gone.map_err(|error| away(&error))?;
        }
        Ok::<(), RevokeFailure>(())
    };
    forget().await?;
    // Before and after: if it breaks off, nothing is open that was opened with an account of which nobody knows any more that
    // it was the person's.
    if let Some(displaced) = &changes.displaced {
        end(displaced).await?;
    }
    let decided = links.decide(&person, &provider, &account, (&changes, now));
    decided.await.map_err(|error| away(&error))?;
    forget().await?;
    end(&account).await?;
    if let Some(displaced) = &changes.displaced {
        end(displaced).await?;
    }
    // Another instance may have answered for one of them before it was told: nothing of it outlasts the news.
    let late = changes.displaced.iter().chain([&account]).map(ends);
    let (late, list) = (late.collect::<Vec<_>>(), Arc::clone(&process.revocations));
    if process.store.is_shared() {
        process.background.spawn(async move {
            tokio::time::sleep(TOLD).await;
            for asked in late {
                if let Err(error) = list.revoke(asked).await {
                    warn!(%error, "What another instance said of an account before it was told may hold for a while.");
                }
            }
        });
    }
    Ok(LinkAnswer {
        displaced: changes.displaced.is_some(),
        taken: changes.taken_from.is_some(),
    })
}

fn read(
    settings: &Settings,
    wanted: &LinkRequest,
) -> Result<(CanonicalSubject, ProviderId, SubjectKey), RevokeFailure> {
    let no = |what: String| Err(RevokeFailure::Request(what));
    if settings.canonical.is_none() {
        return no(String::from(
            "without `identity.canonical` nobody is linked",
        ));
    }
    if wanted.reason.trim().is_empty() {
        return no(String::from("a reason is needed; it is recorded"));
    }
    let person = match CanonicalSubject::named(&wanted.person) {
        Ok(person) => person,
        Err(error) => return no(format!("`person`: {error}")),
    };
    let mut providers = settings.providers.iter();
    let Some(provider) = providers.find(|one| one.id.as_str() == wanted.provider) else {
        return no(format!("there is no provider `{}`", wanted.provider));
    };
    let subject = match Subject::try_from(wanted.account.as_str()) {
        Ok(subject) => subject,
        Err(error) => return no(format!("`account`: {error}")),
    };
    let issuer = stated::issuer(provider).clone();
    Ok((person, provider.id.clone(), SubjectKey { issuer, subject }))
}

/// No record, no change.
async fn record(
    process: &Process,
    (person, provider, account): (&CanonicalSubject, &ProviderId, &SubjectKey),
    changes: &Decided,
    wanted: &LinkRequest,
    actor: &str,
) -> Result<(), RevokeFailure> {
    let hidden = |name: &CanonicalSubject| process.pseudonyms.of(name).to_string();
    let of_account = |key: &SubjectKey| hidden(&CanonicalSubject::unjoined(key));
    let displaced = changes.displaced.as_ref().map(of_account);
    let taken_from = changes.taken_from.as_ref().map(hidden);
    let entry = Entry::new(Kind::LinkConflictResolved, actor)
        .with("subject", hidden(person))
        .with("provider", provider.as_str())
        .with("account", of_account(account))
        .maybe("displaced", displaced.as_deref())
        .maybe("taken_from", taken_from.as_deref())
        .with("reason", wanted.reason.as_str());
    let ledger = Arc::clone(&process.ledger);
    let written = tokio::task::spawn_blocking(move || ledger.append(entry)).await;
    let why = match written {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(RevokeFailure::Store(format!(
        "nothing was linked, because it could not be recorded: {why}"
    )))
}

fn away(error: &crate::store::StoreError) -> RevokeFailure {
    RevokeFailure::Store(error.to_string())
}
